package store_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/store"
)

// hooked calls a function once, ahead of the n-th read.
type hooked struct {
	storage.Backend
	reads atomic.Int64
	at    int64
	do    func()
}

func (h *hooked) step() {
	if h.at > 0 && h.reads.Add(1) == h.at {
		h.do()
	}
}

func (h *hooked) Stat(ctx context.Context, key string) (storage.Info, error) {
	h.step()
	return h.Backend.Stat(ctx, key)
}

func (h *hooked) Open(ctx context.Context, key string) (io.ReadSeekCloser, storage.Info, error) {
	h.step()
	return h.Backend.Open(ctx, key)
}

func (h *hooked) List(ctx context.Context, dir string) iter.Seq2[storage.Entry, error] {
	h.step()
	return h.Backend.List(ctx, dir)
}

// collectAll removes what no tag leads to.
func collectAll(ctx context.Context, s *store.Store) error {
	_, err := s.Collect(ctx, gc.Options{Untagged: true, Jobs: 1}, false)
	return err
}

// meanwhile is what others may do during a check.
func meanwhile(at map[string]oci.Digest) map[string]func(ctx context.Context, t testing.TB, s *store.Store) error {
	type act = func(ctx context.Context, t testing.TB, s *store.Store) error
	deleteImages := func(ctx context.Context, _ testing.TB, s *store.Store) error {
		for _, name := range []string{"both", "two"} {
			if err := s.DeleteManifest(ctx, "app", at[name]); err != nil {
				return err
			}
		}
		return s.DeleteBlob(ctx, "app", at["second"])
	}
	return map[string]act{
		"push": func(_ context.Context, t testing.TB, s *store.Store) error {
			ocitest.Push(t, s, ocitest.Content{"app": {
				Blobs:     ocitest.Blobs{"first": "first layer", "new": "a new layer"},
				Manifests: ocitest.Manifests{"fresh": {Layers: "first new"}, "list": {Manifests: "fresh"}},
				Tags:      ocitest.Tags{"new": "list", "v1": "fresh"},
			}})
			return nil
		},
		"push to a new repository": func(_ context.Context, t testing.TB, s *store.Store) error {
			ocitest.Push(t, s, ocitest.Content{"zzz": base["app"], "aaa": base["app"]})
			return nil
		},
		"delete": deleteImages,
		"delete and collect": func(ctx context.Context, t testing.TB, s *store.Store) error {
			if err := deleteImages(ctx, t, s); err != nil {
				return err
			}
			return collectAll(ctx, s)
		},
		"untag, collect, push again": func(ctx context.Context, t testing.TB, s *store.Store) error {
			for _, tag := range []string{"all", "v2"} {
				if err := s.DeleteTag(ctx, "app", tag, ""); err != nil {
					return err
				}
			}
			if err := collectAll(ctx, s); err != nil {
				return err
			}
			ocitest.Push(t, s, base)
			return nil
		},
		"delete a repository": func(ctx context.Context, _ testing.TB, s *store.Store) error {
			if err := s.DeleteRepo(ctx, "app"); err != nil {
				return err
			}
			return collectAll(ctx, s)
		},
		"delete a repository and push it again": func(ctx context.Context, t testing.TB, s *store.Store) error {
			if err := s.DeleteRepo(ctx, "app"); err != nil {
				return err
			}
			ocitest.Push(t, s, base)
			return nil
		},
	}
}

// Whatever others do, at whatever step of a check, is taken for no fault, and
// repairing harms nothing.
func TestCheckWhileOthersWrite(t *testing.T) {
	for _, name := range []string{"push", "push to a new repository", "delete", "delete and collect", "untag, collect, push again",
		"delete a repository", "delete a repository and push it again"} {
		t.Run(name, func(t *testing.T) {
			steps := 0
			for done := false; !done; steps++ {
				b := mem.New()
				at := ocitest.Push(t, open(t, b), base)
				h := &hooked{Backend: b}
				s, err := store.New(t.Context(), h, store.Options{NoCatalogue: true})
				if err != nil {
					t.Fatal(err)
				}
				done = true
				h.do = func() {
					done = false
					if err := meanwhile(at)[name](t.Context(), t, s); err != nil {
						t.Errorf("step %d: %v", steps, err)
					}
				}
				h.at = int64(steps + 1)
				r, err := s.Check(t.Context(), store.CheckOptions{Repair: true, Jobs: 1})
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range r.Faults {
					if f.Level != store.LevelNote || f.Kind == store.NoteChild {
						t.Errorf("step %d: %+v", steps, f)
					}
				}
				if t.Failed() {
					return
				}
			}
			if steps < 50 {
				t.Errorf("a check has %d steps only", steps)
			}
		})
	}
}

// As above, with all of it at once.
func TestCheckUnderLoad(t *testing.T) {
	b := mem.New()
	s := open(t, b)
	at := ocitest.Push(t, s, base)
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for n := range 3 {
		group.Go(func() {
			repo := fmt.Sprintf("load/%d", n)
			for i := 0; ctx.Err() == nil; i++ {
				content := ocitest.Content{repo: {
					Blobs:     ocitest.Blobs{"first": "first layer", "own": fmt.Sprintf("layer %d", i)},
					Manifests: ocitest.Manifests{"one": {Layers: "first own"}, "list": {Manifests: "one"}},
					Tags:      ocitest.Tags{"v1": "one", "v2": "list"},
				}}
				if err := pushed(t, s, content, repo, i%5 == 0); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 15 {
		r := check(t, s, store.CheckOptions{Repair: true})
		for _, f := range r.Faults {
			if f.Level != store.LevelNote {
				t.Errorf("a fault where there is none: %+v", f)
			}
		}
	}
	stop()
	group.Wait()
	for tag, name := range base["app"].Tags {
		if err := points(s, "app", tag, at[name]); err != nil {
			t.Error(err)
		}
	}
}

// pushed pushes and deletes again.
func pushed(t testing.TB, s *store.Store, content ocitest.Content, repo string, whole bool) error {
	at := ocitest.Push(t, s, content)
	ctx := context.WithoutCancel(t.Context())
	if whole {
		return s.DeleteRepo(ctx, repo)
	}
	if err := s.DeleteManifest(ctx, repo, at["list"]); err != nil {
		return err
	}
	return s.DeleteManifest(ctx, repo, at["one"])
}
