package prune

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/gc"
)

// keepLast lets all go but the highest name.
func keepLast() gc.Policy {
	return gc.Policy{Ranked: true, Keep: 1, By: gc.ByName, Now: time.Now()}
}

// TestTwoRuns wants a journal whole that another run calls finished while its
// own goes on.
func TestTwoRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	j, err := CreateJournal(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Record(Entry{Kind: KindTag, Registry: "r", Repo: repo, Tag: "1"}); err != nil {
		t.Fatal(err)
	}
	if err := Mark(dir, j.ID(), KindEnd, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(true); err != nil {
		t.Fatal(err)
	}
	if s, err := Summarize(dir, j.ID()); err != nil || s.Tags != 1 || !s.Ended {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestListedTwice wants a repository left alone whose list has a tag twice, at
// different places: pages shift while tags move.
func TestListedTwice(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	digests := ocitest.Push(t, reg, ocitest.Content{repo: {
		Manifests: ocitest.Manifests{"a": {}, "b": {Platform: "linux/arm64"}, "c": {Platform: "linux/s390x"}},
		Tags:      ocitest.Tags{"1": "b", "2": "c"},
	}})
	twice := &ocitest.Funcs{Registry: reg}
	twice.OnTagDetails = func(ctx context.Context, repo, after string) iter.Seq2[oci.TagDetail, error] {
		return func(yield func(oci.TagDetail, error) bool) {
			before := oci.TagDetail{Tag: "1", Manifest: oci.Descriptor{Digest: digests["a"], MediaType: oci.MediaTypeManifest}}
			if !yield(before, nil) {
				return
			}
			reg.TagDetails(ctx, repo, after)(yield)
		}
	}
	if p, err := MakePlan(t.Context(), twice, repo, keepLast(), Options{}); !errors.Is(err, oci.TagMoved) {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestAbsentSurvivor wants a repository left alone of which the registry denies
// a manifest that a tag points to, as a proxy does whose server restarts.
func TestAbsentSurvivor(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	digests := ocitest.Push(t, reg, ocitest.Content{repo: {
		Manifests: ocitest.Manifests{"a": {}, "multi": {Manifests: "a"}},
		Tags:      ocitest.Tags{"1": "a", "2": "multi"},
	}})
	away := &ocitest.Funcs{Registry: reg}
	away.OnManifest = func(ctx context.Context, repo, ref string) (oci.Manifest, error) {
		if ref == string(digests["multi"]) {
			return oci.Manifest{}, oci.Errorf(oci.ManifestUnknown, "404 page not found")
		}
		return reg.Manifest(ctx, repo, ref)
	}
	if p, err := MakePlan(t.Context(), away, repo, keepLast(), Options{}); !errors.Is(err, oci.ManifestUnknown) {
		t.Errorf("prune: %+v, %v", p, err)
	}
	if _, needs, err := PlanDigest(t.Context(), away, repo, digests["a"], Options{}); !errors.Is(err, oci.ManifestUnknown) {
		t.Errorf("rm: %v, %v", needs, err)
	}
}

// TestManyWays wants indexes that name each other in 2^40 ways planned at once.
func TestManyWays(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	manifests := ocitest.Manifests{"a0": {}, "b0": {Platform: "linux/arm64"}, "new": {Platform: "linux/s390x"}}
	for n := 1; n <= 40; n++ {
		below := fmt.Sprintf("a%d b%d", n-1, n-1)
		manifests[fmt.Sprintf("a%d", n)] = ocitest.Manifest{Manifests: below}
		manifests[fmt.Sprintf("b%d", n)] = ocitest.Manifest{Manifests: below, Annotations: map[string]string{"b": "b"}}
	}
	digests := ocitest.Push(t, reg, ocitest.Content{repo: {Manifests: manifests, Tags: ocitest.Tags{"1": "a40", "2": "new"}}})
	for _, needed := range [][]oci.Digest{nil, {digests["new"]}, {digests["a0"]}} {
		p := plan(t, reg, keepLast(), Options{Needed: needed})
		if goes := len(p.Goes()) == 1; goes != (len(needed) == 0 || needed[0] != digests["a0"]) {
			t.Errorf("%v: %+v", needed, p.Goes())
		}
	}
}

// TestLostAnswer wants what a delete has done repaired whose answer was lost,
// on a registry that kills manifests.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	for _, lost := range []oci.Code{oci.Unavailable, oci.ManifestUnknown} {
		reg := ocitest.NewRegistry()
		ocitest.Push(t, reg, ocitest.Content{repo: {Manifests: ocitest.Manifests{"a": {}}, Tags: ocitest.Tags{"1": "a", "2": "a"}}})
		w := &world{reg: reg}
		before := w.tags(t)
		p := plan(t, reg, gc.Policy{Ranked: true, By: gc.ByName, Now: time.Now(), Protected: func(t gc.Tagged) string {
			return map[string]string{"2": "2"}[t.Tag]
		}}, Options{})
		_, err := NewRun(ocitest.Faulty(killing(reg), ocitest.Fault{Method: "DeleteTag", Err: lost, Late: true}), RunOptions{}).Execute(t.Context(), p)
		var canary *CanaryError
		if !errors.As(err, &canary) || canary.Err != nil {
			t.Errorf("%v: %v", lost, err)
		}
		if got := w.tags(t); !maps.Equal(got, before) {
			t.Errorf("%v: tags are %v, want %v", lost, got, before)
		}
	}
}

// TestOverwriteLost wants a tag where it was if the push over it or the delete
// of what was pushed went wrong, or left the tag.
func TestOverwriteLost(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"PutManifest", "DeleteManifest", ""} {
		reg := ocitest.NewRegistry()
		ocitest.Push(t, reg, ocitest.Content{repo: {Manifests: ocitest.Manifests{"a": {}}, Tags: ocitest.Tags{"1": "a", "2": "a"}}})
		w := &world{reg: reg}
		before := w.tags(t)
		p, err := PlanUntag(t.Context(), reg, repo, "1")
		if err != nil {
			t.Fatal(err)
		}
		faulty := ocitest.Faulty(digestOnly(reg), ocitest.Fault{Method: method, N: 1, Err: oci.Unavailable, Late: true})
		if method == "" {
			faulty = ocitest.Faulty(keepsTags(reg))
		}
		report, err := NewRun(faulty, RunOptions{OverwriteUntag: true}).Execute(t.Context(), p)
		if err == nil || report.Deleted() > 0 {
			t.Errorf("%s: %+v, %v", method, report, err)
		}
		if got := w.tags(t); !maps.Equal(got, before) {
			t.Errorf("%s: tags are %v, want %v", method, got, before)
		}
	}
}

// keepsTags deletes by digest only, and leaves tags where they were.
func keepsTags(reg oci.Registry) oci.Registry {
	f := &ocitest.Funcs{Registry: digestOnly(reg)}
	f.OnDeleteManifest = func(ctx context.Context, repo string, d oci.Digest) error {
		for tag, err := range reg.TagDetails(ctx, repo, "") {
			if err != nil || tag.Manifest.Digest == d {
				return err
			}
		}
		return reg.DeleteManifest(ctx, repo, d)
	}
	return f
}

// memory is a Cache.
type memory map[oci.Digest][]byte

func (m memory) Get(d oci.Digest) ([]byte, bool) { raw, ok := m[d]; return raw, ok }
func (m memory) Put(d oci.Digest, raw []byte)    { m[d] = raw }

// TestGoneButCached wants a manifest unknown that only the cache still has.
func TestGoneButCached(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	digests := ocitest.Push(t, reg, ocitest.Content{repo: {Manifests: ocitest.Manifests{"a": {}, "b": {Platform: "linux/arm64"}}, Tags: ocitest.Tags{"1": "a", "2": "b"}}})
	cache := memory{}
	if _, _, err := PlanDigest(t.Context(), reg, repo, digests["a"], Options{Cache: cache}); err != nil {
		t.Fatal(err)
	}
	if err := reg.DeleteManifest(t.Context(), repo, digests["a"]); err != nil {
		t.Fatal(err)
	}
	if p, _, err := PlanDigest(t.Context(), reg, repo, digests["a"], Options{Cache: cache}); !errors.Is(err, oci.ManifestUnknown) {
		t.Errorf("%+v, %v", p, err)
	}
}

// TestTagsStay wants the truth told of a registry that deletes digests and
// leaves their tags, and what these lead to kept.
func TestTagsStay(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	digests := ocitest.Push(t, reg, ocitest.Content{repo: {
		Manifests: ocitest.Manifests{"child": {}, "old": {Manifests: "child"}, "new": {Platform: "linux/arm64"}},
		Tags:      ocitest.Tags{"1": "old", "2": "new"},
	}})
	p := plan(t, reg, keepLast(), Options{})
	report, err := NewRun(keepsTags(reg), RunOptions{}).Execute(t.Context(), p)
	if err != nil || report.Deleted() != 0 || len(report.Tags) != 1 || report.Tags[0].Reason != TagStays {
		t.Errorf("%+v, %v", report, err)
	}
	if _, err := reg.Resolve(t.Context(), repo, string(digests["child"])); err != nil {
		t.Error(err)
	}
}

// TestCameLate wants kept what a new tag, an old one that stays or one that was
// to go leads to since deletes began.
func TestCameLate(t *testing.T) {
	t.Parallel()
	for _, tag := range []string{"new", "x", "100"} {
		reg := ocitest.NewRegistry()
		manifests, tags := ocitest.Manifests{"x": {Platform: "linux/arm64"}}, ocitest.Tags{"x": "x"}
		for i := range 200 {
			name := fmt.Sprint(100 + i)
			manifests[name], tags[name] = ocitest.Manifest{Annotations: map[string]string{"n": name}}, name
		}
		digests := ocitest.Push(t, reg, ocitest.Content{repo: {Manifests: manifests, Tags: tags}})
		p := plan(t, reg, keepLast(), Options{})
		last := p.Manifests[len(p.Manifests)-1]
		if last.Digest == digests["100"] {
			last = p.Manifests[len(p.Manifests)-2]
		}
		deletes := 0
		f := &ocitest.Funcs{Registry: reg}
		f.OnDeleteTag = func(ctx context.Context, repo, name string, was oci.Digest) error {
			if deletes++; deletes == 1 && tag != "100" || name == "100" && tag == "100" {
				m, err := reg.Manifest(ctx, repo, string(last.Digest))
				if err == nil {
					_, err = reg.PutManifest(ctx, repo, oci.Put{Raw: m.Raw, Tags: []string{tag}})
				}
				if err != nil {
					return err
				}
			}
			return reg.DeleteTag(ctx, repo, name, was)
		}
		if _, err := NewRun(f, RunOptions{}).Execute(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		if now, err := reg.Resolve(t.Context(), repo, tag); err != nil || now.Digest != last.Digest {
			t.Errorf("%s: %+v, %v", tag, now, err)
		}
	}
}

// TestCutList wants a repository left alone whose list of tags ends too early.
func TestCutList(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	tags := ocitest.Tags{}
	for i := range 101 {
		tags[fmt.Sprint(100+i)] = "a"
	}
	ocitest.Push(t, reg, ocitest.Content{repo: {Manifests: ocitest.Manifests{"a": {}}, Tags: tags}})
	cut := &ocitest.Funcs{Registry: reg}
	cut.OnTagDetails = func(ctx context.Context, repo, after string) iter.Seq2[oci.TagDetail, error] {
		return func(yield func(oci.TagDetail, error) bool) {
			n := 0
			for d, err := range reg.TagDetails(ctx, repo, after) {
				if n++; n > 100 || !yield(d, err) {
					return
				}
			}
		}
	}
	policy := gc.Policy{Ranked: true, Now: time.Now()}
	if p, err := MakePlan(t.Context(), cut, repo, policy, Options{}); !errors.Is(err, oci.PaginationInvalid) {
		t.Errorf("%+v, %v", p, err)
	}
	if err := reg.DeleteTag(t.Context(), repo, "200", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := MakePlan(t.Context(), cut, repo, policy, Options{}); err != nil {
		t.Error(err)
	}
}
