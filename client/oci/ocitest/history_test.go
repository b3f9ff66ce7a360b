package ocitest

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/regctl/regctl/client/oci"
)

func reference(testing.TB) oci.Registry { return NewRegistry() }

func TestHistoryFindsNoDifferenceBetweenEquals(t *testing.T) {
	for seed := range uint64(5) {
		History(t, seed, 500, reference, reference)
	}
}

// TestHistoryTellsHowRegistriesDiffer breaks one method at a time.
func TestHistoryTellsHowRegistriesDiffer(t *testing.T) {
	for name, c := range map[string]struct {
		breakIt func(*Funcs)
		seen    string // The kind of a step that must be in the difference.
	}{
		"DeleteTag does nothing": {func(f *Funcs) {
			f.OnDeleteTag = func(ctx context.Context, repo, tag string, _ oci.Digest) error {
				_, err := f.Registry.Resolve(ctx, repo, tag)
				return err
			}
		}, "delete tag"},
		"DeleteRepo does nothing": {func(f *Funcs) {
			f.OnDeleteRepo = func(context.Context, string) error { return nil }
		}, "delete repo"},
		"NoOverwrite is ignored": {func(f *Funcs) {
			f.OnPutManifest = func(ctx context.Context, repo string, p oci.Put) (oci.Descriptor, error) {
				p.NoOverwrite = false
				return f.Registry.PutManifest(ctx, repo, p)
			}
		}, "put"},
		"blobs of b are seen everywhere": {func(f *Funcs) {
			f.OnStatBlob = func(ctx context.Context, repo string, d oci.Digest) (oci.Descriptor, error) {
				if desc, err := f.Registry.StatBlob(ctx, "b", d); err == nil {
					return desc, nil
				}
				return f.Registry.StatBlob(ctx, repo, d)
			}
		}, "push"},
	} {
		t.Run(name, func(t *testing.T) {
			h := history{t: t, world: newWorld(), want: reference, got: func(testing.TB) oci.Registry {
				f := &Funcs{Registry: NewRegistry()}
				c.breakIt(f)
				return f
			}}
			found := h.search(h.world.randomSteps(1, 500))
			if found == nil {
				t.Fatal("no difference was found")
			}
			if len(found.steps) > 8 {
				t.Errorf("the difference takes %d steps, want few:\n%s", len(found.steps), found)
			}
			if !slices.ContainsFunc(found.steps, func(s step) bool { return s.kind == c.seen }) {
				t.Errorf("%s, but the difference has no such step:\n%s", name, found)
			}
			if found.want == found.got || !strings.Contains(found.String(), "want ") {
				t.Errorf("the difference does not tell:\n%s", found)
			}
		})
	}
}

// TestHistoryReachesEverything makes sure that histories are about more than
// refusals.
func TestHistoryReachesEverything(t *testing.T) {
	w, answers := newWorld(), map[string]map[string]bool{}
	for seed := range uint64(20) {
		p := newPlayer(t, NewRegistry())
		for _, s := range w.randomSteps(seed, 500) {
			first, _, _ := strings.Cut(p.play(s), " ")
			if strings.HasPrefix(first, "ok") {
				first = "ok"
			}
			if answers[s.kind] == nil {
				answers[s.kind] = map[string]bool{}
			}
			answers[s.kind][first] = true
		}
		p.close()
	}
	for kind, want := range map[string]string{
		"push": "ok", "put": "ok MANIFEST_INVALID MANIFEST_BLOB_UNKNOWN TAG_EXISTS DIGEST_INVALID",
		"mount": "ok upload, there", "stat blob": "ok BLOB_UNKNOWN", "blob": "ok BLOB_UNKNOWN",
		"manifest": "ok MANIFEST_UNKNOWN", "resolve": "ok MANIFEST_UNKNOWN",
		"delete tag":      "ok MANIFEST_UNKNOWN TAG_MOVED",
		"delete manifest": "ok MANIFEST_UNKNOWN UNSUPPORTED", "delete blob": "ok BLOB_UNKNOWN UNSUPPORTED",
		"delete repo": "ok", "begin": "ok", "find": "ok BLOB_UPLOAD_UNKNOWN",
		"write": "ok UPLOAD_BUSY RANGE_INVALID BLOB_UPLOAD_UNKNOWN", "commit": "ok UPLOAD_BUSY RANGE_INVALID DIGEST_INVALID",
		"cancel": "ok UPLOAD_BUSY", "repos": "ok", "tags": "ok", "details": "ok", "referrers": "ok",
	} {
		for answer := range strings.FieldsSeq(want) {
			if !answers[kind][answer] {
				t.Errorf("no history has %q answered by %s: %v", kind, answer, answers[kind])
			}
		}
	}
}
