package serve_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve"
	"github.com/regctl/regctl/serve/state"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/store"
)

func journalTime() time.Time { return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) }

func openJournalState(t testing.TB) *state.State {
	t.Helper()
	st, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"), journalTime)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	return st
}

func openJournalStore(t testing.TB) *store.Store {
	t.Helper()
	s, err := store.New(t.Context(), mem.New(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// hooked is a store of which one step can be watched or made to fail.
type hooked struct {
	*store.Store
	fail   string       // The method that fails.
	before func(string) // Called before each deletion.
}

var errInjected = errors.New("injected")

func (h *hooked) step(name string) error {
	if h.before != nil {
		h.before(name)
	}
	if h.fail == name {
		return errInjected
	}
	return nil
}

func (h *hooked) TagAt(ctx context.Context, repo, tag string) (oci.Digest, error) {
	if h.fail == "TagAt" {
		return "", errInjected
	}
	return h.Store.TagAt(ctx, repo, tag)
}

func (h *hooked) TagsOf(ctx context.Context, repo string, d oci.Digest) ([]string, error) {
	if h.fail == "TagsOf" {
		return nil, errInjected
	}
	return h.Store.TagsOf(ctx, repo, d)
}

func (h *hooked) ManifestsOf(ctx context.Context, repo string) ([]oci.Digest, error) {
	if h.fail == "ManifestsOf" {
		return nil, errInjected
	}
	return h.Store.ManifestsOf(ctx, repo)
}

func (h *hooked) DeleteTag(ctx context.Context, repo, tag string, was oci.Digest) error {
	if err := h.step("DeleteTag"); err != nil {
		return err
	}
	return h.Store.DeleteTag(ctx, repo, tag, was)
}

func (h *hooked) DeleteManifest(ctx context.Context, repo string, d oci.Digest) error {
	if err := h.step("DeleteManifest"); err != nil {
		return err
	}
	return h.Store.DeleteManifest(ctx, repo, d)
}

func (h *hooked) DeleteBlob(ctx context.Context, repo string, d oci.Digest) error {
	if err := h.step("DeleteBlob"); err != nil {
		return err
	}
	return h.Store.DeleteBlob(ctx, repo, d)
}

func (h *hooked) DeleteRepo(ctx context.Context, repo string) error {
	if err := h.step("DeleteRepo"); err != nil {
		return err
	}
	return h.Store.DeleteRepo(ctx, repo)
}

// recordsOf writes what is recorded, without the digests of manifests.
func recordsOf(t testing.TB, st *state.State) string {
	t.Helper()
	ds, err := st.List(context.Background(), state.ListOptions{N: 1000, Raw: true})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, d := range ds {
		text := d.Kind
		switch {
		case d.Tag != "":
			text += " " + d.Tag
		case d.Raw != nil && d.Digest.Algorithm().FromBytes(d.Raw) == d.Digest && d.MediaType != "":
			text += " whole"
		}
		all = append(all, text)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func pushJournaled(t testing.TB, reg oci.Registry) map[string]oci.Digest {
	t.Helper()
	return ocitest.Push(t, reg, ocitest.Content{"app": {
		Blobs:     ocitest.Blobs{"l1": "1", "l2": "2", "free": "3"},
		Manifests: ocitest.Manifests{"a": {Layers: "l1"}, "b": {Layers: "l2"}, "multi": {Manifests: "b"}},
		Tags:      ocitest.Tags{"1": "a", "latest": "a", "2": "multi"},
	}})
}

func TestContractWithJournal(t *testing.T) {
	t.Parallel()
	ocitest.Run(t, func(t testing.TB) oci.Registry {
		return serve.WithJournal(openJournalStore(t), openJournalState(t), nil, nil)
	})
}

// deletions are all ways to delete, with what each records.
func deletions(digests map[string]oci.Digest) map[string]struct {
	do   func(context.Context, oci.Registry) error
	want string
} {
	type way = struct {
		do   func(context.Context, oci.Registry) error
		want string
	}
	return map[string]way{
		"DeleteTag": {func(ctx context.Context, r oci.Registry) error { return r.DeleteTag(ctx, "app", "1", "") }, "tag 1"},
		"DeleteTagWas": {func(ctx context.Context, r oci.Registry) error {
			return r.DeleteTag(ctx, "app", "1", digests["a"])
		}, "tag 1"},
		"DeleteManifest": {func(ctx context.Context, r oci.Registry) error {
			return r.DeleteManifest(ctx, "app", digests["a"])
		}, "manifest whole, tag 1, tag latest"},
		"DeleteBlob": {func(ctx context.Context, r oci.Registry) error {
			return r.DeleteBlob(ctx, "app", digests["free"])
		}, "blob"},
		// Blobs: the config that all share, and two layers.
		"DeleteRepo": {func(ctx context.Context, r oci.Registry) error { return r.DeleteRepo(ctx, "app") },
			"blob, blob, blob, manifest whole, manifest whole, manifest whole, repository, tag 1, tag 2, tag latest"},
	}
}

// TestRecordedBefore wants every deletion recorded, by whom, before it is done.
func TestRecordedBefore(t *testing.T) {
	t.Parallel()
	probe := pushJournaled(t, openJournalStore(t))
	for name, way := range deletions(probe) {
		st := openJournalState(t)
		seen := ""
		h := &hooked{Store: openJournalStore(t), before: func(string) { seen = recordsOf(t, st) }}
		reg := serve.WithJournal(h, st, nil, journalTime)
		pushJournaled(t, reg)
		ctx := oci.WithCaller(t.Context(), oci.Caller{Name: "ann", Addr: "::1", Run: "r1"})
		if err := way.do(ctx, reg); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if seen != way.want {
			t.Errorf("%s: before it, %s is recorded; want %s", name, seen, way.want)
		}
		ds, err := st.Deleted(t.Context(), "app", journalTime())
		if err != nil || len(ds) == 0 {
			t.Errorf("%s: %v, %v", name, ds, err)
		}
		for _, d := range ds {
			if d.By != "ann" || d.Addr != "::1" || d.Run != "r1" || !d.At.Equal(journalTime()) {
				t.Errorf("%s: %+v", name, d)
			}
		}
	}
}

// TestNothingWithoutRecord makes each step fail once: what is not recorded is
// not deleted.
func TestNothingWithoutRecord(t *testing.T) {
	t.Parallel()
	probe := pushJournaled(t, openJournalStore(t))
	for name, way := range deletions(probe) {
		for _, fail := range []string{"TagAt", "TagsOf", "ManifestsOf", "Record", "DeleteTag", "DeleteManifest", "DeleteBlob", "DeleteRepo"} {
			st := openJournalState(t)
			h := &hooked{Store: openJournalStore(t), fail: fail}
			pushJournaled(t, h.Store)
			whole := contentOf(t, h.Store)
			if fail == "Record" {
				if err := st.Close(); err != nil {
					t.Fatal(err)
				}
			}
			err := way.do(t.Context(), serve.WithJournal(h, st, nil, journalTime))
			same := contentOf(t, h.Store) == whole
			if fail == "Record" {
				if err == nil || !same || !strings.Contains(oci.AsError(err).Message, "nothing is deleted") {
					t.Errorf("%s without a record: %v, unchanged: %v", name, err, same)
				}
				continue
			}
			if err != nil && !same {
				t.Errorf("%s with %s failing: %v, but it is gone", name, fail, err)
			}
			if err == nil && recordsOf(t, st) != way.want && fail != "TagAt" { // Tags that cannot be read are lost with their repository.
				t.Errorf("%s with %s failing: done, and recorded is %s", name, fail, recordsOf(t, st))
			}
		}
	}
}

// contentOf writes all that is in repository app.
func contentOf(t testing.TB, s *store.Store) string {
	t.Helper()
	var all []string
	for d, err := range s.TagDetails(t.Context(), "app", "") {
		all = append(all, fmt.Sprint(d.Tag, d.Manifest.Digest, err))
	}
	manifests, err := s.ManifestsOf(t.Context(), "app")
	_, free := s.StatBlob(t.Context(), "app", oci.Digest("sha256:4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce")) // Of "3".
	return fmt.Sprint(all, manifests, err, free)
}

// TestRefused wants no record left of what the registry did not delete.
func TestRefused(t *testing.T) {
	t.Parallel()
	st := openJournalState(t)
	reg := serve.WithJournal(openJournalStore(t), st, nil, nil)
	digests := pushJournaled(t, reg)
	none := oci.Digest("sha256:" + strings.Repeat("0", 64))
	for name, c := range map[string]struct {
		err  error
		want oci.Code
	}{
		"child":    {reg.DeleteManifest(t.Context(), "app", digests["b"]), oci.Unsupported},
		"layer":    {reg.DeleteBlob(t.Context(), "app", digests["l1"]), oci.Unsupported},
		"moved":    {reg.DeleteTag(t.Context(), "app", "1", digests["multi"]), oci.TagMoved},
		"tag":      {reg.DeleteTag(t.Context(), "app", "none", ""), oci.ManifestUnknown},
		"manifest": {reg.DeleteManifest(t.Context(), "app", none), oci.ManifestUnknown},
		"blob":     {reg.DeleteBlob(t.Context(), "app", none), oci.BlobUnknown},
		"repo":     {reg.DeleteRepo(t.Context(), "none"), oci.NameUnknown},
		"name":     {reg.DeleteTag(t.Context(), "NONE", "1", ""), oci.NameInvalid},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %s", name, c.err, string(c.want))
		}
	}
	if got := recordsOf(t, st); got != "" {
		t.Errorf("recorded: %s", got)
	}
}

// TestMovedMeanwhile wants a tag that moves between its record and its deletion
// recorded again, with where it points.
func TestMovedMeanwhile(t *testing.T) {
	t.Parallel()
	st := openJournalState(t)
	h := &hooked{Store: openJournalStore(t)}
	digests := pushJournaled(t, h.Store)
	index, err := h.Manifest(t.Context(), "app", "2")
	if err != nil {
		t.Fatal(err)
	}
	moved := false
	h.before = func(string) {
		if !moved {
			moved = true
			ocitest.PushManifest(t, h.Store, "app", string(index.Raw), "1")
		}
	}
	if err := serve.WithJournal(h, st, nil, nil).DeleteTag(t.Context(), "app", "1", ""); err != nil {
		t.Fatal(err)
	}
	ds, err := st.Deleted(t.Context(), "app", time.Time{})
	if err != nil || len(ds) != 1 || ds[0].Digest != digests["multi"] {
		t.Errorf("%+v, %v", ds, err)
	}
}

// TestMountBack wants a repository to get back a blob that it had, from itself;
// no other, and no other repository.
func TestMountBack(t *testing.T) {
	t.Parallel()
	reg := serve.WithJournal(openJournalStore(t), openJournalState(t), nil, nil)
	digests := pushJournaled(t, reg)
	ocitest.PushBlob(t, reg, "other", "theirs")
	theirs := ocitest.Describe("", "theirs").Digest
	if err := reg.DeleteRepo(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		repo, from string
		d          oci.Digest
		want       bool
	}{
		{"app", "app", theirs, false}, {"thief", "thief", digests["l1"], false}, {"thief", "app", digests["l1"], false},
		{"app", "other", digests["l1"], false}, {"app", "app", digests["l1"], true},
	} {
		u, err := reg.MountBlob(t.Context(), c.repo, c.from, c.d)
		if err != nil || (u == nil) != c.want {
			t.Errorf("%+v: mounted %v, %v", c, u == nil, err)
		}
		if u != nil {
			if err := u.Cancel(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestPulled wants a GET counted, by tag or digest, but not a HEAD, and not of
// who only looks; and every page of the details to tell it.
func TestPulled(t *testing.T) {
	t.Parallel()
	st := openJournalState(t)
	reg := serve.WithJournal(openJournalStore(t), st, nil, journalTime)
	digests := pushJournaled(t, reg)
	h := serve.NewHandler(reg, serve.Options{})
	ask := func(method, path, purpose string) string {
		req := httptest.NewRequestWithContext(t.Context(), method, path, nil)
		req.Header.Set("Regctl-Purpose", purpose)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code != http.StatusOK {
			t.Errorf("%s %s: %d", method, path, w.Code)
		}
		return w.Body.String()
	}
	for _, c := range []struct {
		method, ref, purpose string
		want                 int
	}{
		{"HEAD", "1", "", 0}, {"GET", "1", "look", 0}, {"GET", "1", "", 1}, {"GET", "1", "", 1}, {"GET", string(digests["multi"]), "other", 2},
	} {
		ask(c.method, "/v2/app/manifests/"+c.ref, c.purpose)
		last, err := st.LastPulled(t.Context(), "app")
		if err != nil || len(last) != c.want {
			t.Errorf("%+v: %v, %v", c, last, err)
		}
	}
	if got := strings.Count(ask("GET", "/v2/app/_regctl/tags", ""), `"pulled":"2026-11-20T12:00:00Z"`); got != 3 {
		t.Errorf("%d of 3 tags are told to be pulled", got)
	}
	if got := ask("GET", "/v2/app/_regctl/tags?n=1&last=1", ""); !strings.Contains(got, `"tag":"2"`) || strings.Contains(got, `"latest"`) {
		t.Errorf("a page: %s", got)
	}
}

// TestWithoutState wants a registry that remembers nothing left as it is.
func TestWithoutState(t *testing.T) {
	t.Parallel()
	s := openJournalStore(t)
	if reg := serve.WithJournal(s, nil, nil, nil); reg != oci.Registry(s) {
		t.Errorf("got %T", reg)
	}
}
