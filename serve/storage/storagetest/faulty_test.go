package storagetest_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/storage/storagetest"
)

// syncing is a backend that counts calls of Sync, and folds case.
type syncing struct {
	*mem.Backend
	n int
}

func (s *syncing) Sync(context.Context, string) error { s.n++; return nil }
func (s *syncing) FoldsCase() bool                    { return true }

// A Faulty without a script is as good as what it wraps.
func TestFaultyPasses(t *testing.T) {
	storagetest.Run(t, func(testing.TB) storage.Backend {
		return storagetest.NewFaulty(mem.New(), true, nil)
	})
}

func TestFaultyKeepsAbilities(t *testing.T) {
	s := &syncing{Backend: mem.New()}
	f := storagetest.NewFaulty(s, false, storagetest.FailAt(1, false))
	if err := storage.Sync(t.Context(), f, "dir"); !errors.Is(err, storagetest.ErrFault) || s.n != 0 {
		t.Errorf("first sync: %v, %d calls went through", err, s.n)
	}
	if err := storage.Sync(t.Context(), f, "dir"); err != nil || s.n != 1 {
		t.Errorf("second sync: %v, %d calls went through", err, s.n)
	}
	if !storage.FoldsCase(f) {
		t.Error("does not fold case")
	}
	plain := storagetest.NewFaulty(mem.New(), false, storagetest.FailAt(1, false))
	if err := storage.Sync(t.Context(), plain, "dir"); err != nil || plain.Changes() != 0 {
		t.Errorf("sync of a backend that needs none: %v, %d changes", err, plain.Changes())
	}
	if storage.FoldsCase(plain) {
		t.Error("folds case")
	}
}

// scenario makes one change of each kind.
func scenario(ctx context.Context, b storage.Backend) error {
	w, err := b.Create(ctx, "up/data", 0)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, "12345678"); err != nil {
		return errors.Join(err, w.Cancel())
	}
	if err := w.Sync(); err != nil {
		return errors.Join(err, w.Cancel())
	}
	if err := w.Commit(ctx, "a/key"); err != nil {
		return err
	}
	if err := b.Rename(ctx, "a/key", "b/key"); err != nil {
		return err
	}
	if err := storage.Sync(ctx, b, "b"); err != nil {
		return err
	}
	return b.Remove(ctx, "b/key")
}

func TestFaultyChanges(t *testing.T) {
	var got []string
	f := storagetest.NewFaulty(&syncing{Backend: mem.New()}, false, func(c storagetest.Change) error {
		got = append(got, c.String())
		return nil
	})
	if err := scenario(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	want := `change 1: Create up/data
change 2: Write up/data
change 3: WriterSync up/data
change 4: Commit up/data to a/key
change 5: Rename a/key to b/key
change 6: Sync b
change 7: Remove b/key`
	if got := strings.Join(got, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A failed change does nothing, or half of a write, and fails the scenario
// with the error of the script.
func TestFaultyFails(t *testing.T) {
	for _, torn := range []bool{false, true} {
		for n := 1; n <= 7; n++ {
			b := &syncing{Backend: mem.New()}
			f := storagetest.NewFaulty(b, torn, storagetest.FailAt(n, true))
			if err := scenario(t.Context(), f); !errors.Is(err, storagetest.ErrFault) {
				t.Errorf("change %d: %v", n, err)
			}
			for key, there := range map[string]bool{
				// Cancel of what Write or Sync left fails too.
				"up/data": n == 2 || n == 3,
				"a/key":   n == 5,
				"b/key":   n >= 6,
			} {
				info, err := b.Stat(t.Context(), key)
				if there != (err == nil) || err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("change %d: stat %s: %v, want it there: %t", n, key, err, there)
				}
				if n == 2 && there && (info.Size == 4) != torn {
					t.Errorf("torn %t: %d bytes written", torn, info.Size)
				}
			}
		}
	}
}

// What was torn is never committed.
func TestFaultyNeverCommitsTorn(t *testing.T) {
	b := mem.New()
	f := storagetest.NewFaulty(b, true, storagetest.FailAt(2, false))
	w, err := f.Create(t.Context(), "up/data", 0)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.WriteString(w, "1234"); n != 2 || !errors.Is(err, storagetest.ErrFault) {
		t.Errorf("write: %d, %v", n, err)
	}
	if err := w.Commit(t.Context(), "key"); !errors.Is(err, storagetest.ErrFault) {
		t.Errorf("commit: %v", err)
	}
	for _, key := range []string{"key", "up"} {
		if _, err := b.Stat(t.Context(), key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat %s: %v", key, err)
		}
	}
}

func TestEveryStep(t *testing.T) {
	steps := 0
	storagetest.EveryStep(t,
		func(t testing.TB) storage.Backend {
			b := mem.New()
			if err := storage.Put(t.Context(), b, "a/tag", []byte("old")); err != nil {
				t.Fatal(err)
			}
			return b
		},
		func(t testing.TB, b storage.Backend) error {
			return storage.Put(t.Context(), b, "a/tag", []byte("new!"))
		},
		func(t testing.TB, b storage.Backend, err error) {
			steps++
			got, _, e := storage.Get(t.Context(), b, "a/tag", 10)
			want := "new!"
			if err != nil {
				want = "old"
			}
			if e != nil || string(got) != want {
				t.Errorf("tag is %q, %v, want %q", got, e, want)
			}
		})
	// Put is Create, Write and Commit, then a run without a fault, four ways.
	// Cancel after the failed write makes no more: it is behind the fault.
	if steps != 4*4 {
		t.Errorf("%d runs, want 16", steps)
	}
}
