package prune

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/gc"
)

// TestPeers states how other tools have lost data. Those that are about the
// choice of tags alone are in gc/testdata/keep.
func TestPeers(t *testing.T) {
	t.Parallel()
	byName := gc.Policy{Ranked: true, Keep: 1, By: gc.ByName, Now: time.Now()}
	amd64, arm64 := ocitest.Manifest{Platform: "linux/amd64"}, ocitest.Manifest{Platform: "linux/arm64"}
	for _, c := range []struct {
		name      string
		manifests ocitest.Manifests
		tags      ocitest.Tags
		policy    gc.Policy
		left      string // Tags.
		there     string // Manifests that must be there, and with a ! those that must not.
	}{
		{
			name:      "registry.py, reg, skopeo, regmaid: a tag that stays has the digest of one that goes",
			manifests: ocitest.Manifests{"a": amd64, "b": arm64}, tags: ocitest.Tags{"1": "a", "latest": "a", "2": "b"},
			policy: protecting(byName, "latest"), left: "2 latest", there: "a b",
		}, {
			name:      "registry.py, reg, deckschrubber: of an index its amd64 child is deleted",
			manifests: ocitest.Manifests{"a": amd64, "r": arm64, "list": {Manifests: "a r", MediaType: oci.MediaTypeDockerList}, "new": {Manifests: "a"}},
			tags:      ocitest.Tags{"1": "new", "2": "list"}, policy: byName, left: "2", there: "a r list !new",
		}, {
			name:      "acr purge, delete-package-versions: children of an index that stays have no tag",
			manifests: ocitest.Manifests{"a": amd64, "r": arm64, "list": {Manifests: "a r"}, "old": {Platform: "o/l"}},
			tags:      ocitest.Tags{"1": "a", "2": "old", "3": "list"}, policy: byName, left: "3", there: "a r list !old",
		}, {
			name:      "acr purge: referrers of what stays have no tag, those of what goes stay",
			manifests: ocitest.Manifests{"a": amd64, "b": arm64, "sa": {Subject: "a", ArtifactType: "x/y"}, "sb": {Subject: "b", ArtifactType: "x/y"}, "ssa": {Subject: "sa", ArtifactType: "x/y"}},
			tags:      ocitest.Tags{"1": "a", "2": "b"}, policy: byName, left: "2", there: "b sb !a !sa !ssa",
		}, {
			name:      "actions/delete-package-versions: an index within an index",
			manifests: ocitest.Manifests{"a": amd64, "inner": {Manifests: "a"}, "outer": {Manifests: "inner"}},
			tags:      ocitest.Tags{"1": "a", "2": "inner", "3": "outer"}, policy: byName, left: "3", there: "a inner outer",
		}, {
			name:      "GitLab: many tags of one image use up what is kept",
			manifests: ocitest.Manifests{"a": amd64, "b": arm64, "c": {Platform: "c/c"}},
			tags:      ocitest.Tags{"3": "c", "3.1": "c", "3.1.2": "c", "2": "b", "1": "a"},
			policy:    gc.Policy{Ranked: true, Keep: 2, By: gc.ByName, Now: time.Now()}, left: "2 3 3.1 3.1.2", there: "b c !a",
		}, {
			name:      "cleaners by age: images that are dated 1970",
			manifests: ocitest.Manifests{"a": {Platform: "a/a", Created: "1970-01-01T00:00:00Z"}, "b": {Platform: "b/b", Created: "2001-01-01T00:00:00Z"}},
			tags:      ocitest.Tags{"1": "a", "2": "b"}, policy: gc.Policy{Aged: true, Older: time.Hour, Now: time.Now()}, left: "1 2", there: "a b",
		}, {
			name:      "prune by tag: a signature outlives its image, or goes for being old",
			manifests: ocitest.Manifests{"a": amd64, "b": arm64, "sa": {Subject: "a", ArtifactType: "x/y"}},
			tags:      ocitest.Tags{"1": "b", "2": "a", "signed": "sa"},
			policy:    protecting(byName, "2"), left: "2 signed", there: "a sa !b",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			reg := unpushed(ocitest.NewRegistry())
			digests := ocitest.Push(t, reg, ocitest.Content{repo: {Manifests: c.manifests, Tags: c.tags}})
			execute(t, reg, plan(t, reg, c.policy, Options{}), t.TempDir(), RunOptions{})
			w := &world{reg: reg}
			if got := strings.Join(slices.Sorted(maps.Keys(w.tags(t))), " "); got != c.left {
				t.Errorf("left are %s, want %s", got, c.left)
			}
			for name := range strings.FieldsSeq(c.there) {
				name, gone := strings.CutPrefix(name, "!")
				if _, err := reg.Resolve(t.Context(), repo, string(digests[name])); (err != nil) != gone {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

func protecting(p gc.Policy, tags ...string) gc.Policy {
	p.Protected = func(t gc.Tagged) string {
		if slices.Contains(tags, t.Tag) {
			return t.Tag
		}
		return ""
	}
	return p
}

// unpushed is a registry that tells nothing of pushes.
func unpushed(reg oci.Registry) oci.Registry {
	f := &ocitest.Funcs{Registry: reg}
	f.OnTagDetails = func(ctx context.Context, repo, after string) iter.Seq2[oci.TagDetail, error] {
		return func(yield func(oci.TagDetail, error) bool) {
			for d, err := range reg.TagDetails(ctx, repo, after) {
				d.Pushed = time.Time{}
				if !yield(d, err) {
					return
				}
			}
		}
	}
	return f
}

// TestFailOpen wants a tag that cannot be resolved to freeze its repository:
// registry.py takes it for one that is not there, and deletes its image with
// another tag.
func TestFailOpen(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	ocitest.Push(t, reg, ocitest.Content{repo: {
		Manifests: ocitest.Manifests{"a": {}, "b": {Platform: "linux/arm64"}}, Tags: ocitest.Tags{"1": "a", "2": "b", "keep": "a"},
	}})
	odd := &ocitest.Funcs{Registry: reg}
	for _, fault := range []error{oci.Unavailable, oci.ManifestUnknown, nil} {
		odd.OnTagDetails = func(ctx context.Context, repo, after string) iter.Seq2[oci.TagDetail, error] {
			return func(yield func(oci.TagDetail, error) bool) {
				for d := range reg.TagDetails(ctx, repo, after) {
					if d.Tag == "keep" {
						yield(oci.TagDetail{Tag: "keep"}, fault)
						return
					}
					if !yield(d, nil) {
						return
					}
				}
			}
		}
		p, err := MakePlan(t.Context(), odd, repo, gc.Policy{Ranked: true, Keep: 1, By: gc.ByName, Now: time.Now()}, Options{})
		if err == nil || fault != nil && !errors.Is(err, fault) {
			t.Errorf("%v: %+v, %v", fault, p, err)
		}
	}
}
