package file_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/storage/file/filetest"
	"github.com/regctl/regctl/serve/storage/storagetest"
)

func asUser() int { return 1000 }

// on opens a backend on a model disk, as a user who is not root.
func on(t testing.TB, d *filetest.Disk) *file.Backend {
	t.Helper()
	return open(t, "/srv/registry", file.Options{FS: d, Euid: asUser})
}

func put(t testing.TB, b storage.Backend, key, data string) {
	t.Helper()
	ok(t, storage.Put(t.Context(), b, key, []byte(data)))
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// get returns what is under key, "" if nothing is.
func get(t testing.TB, b storage.Backend, key string) string {
	t.Helper()
	data, _, err := storage.Get(t.Context(), b, key, 1<<20)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}

// scratch writes data to scratch.
func scratch(t testing.TB, b storage.Backend, key, data string) storage.Writer {
	t.Helper()
	w, err := b.Create(t.Context(), key, 0)
	ok(t, err)
	_, err = io.WriteString(w, data)
	ok(t, err)
	return w
}

func TestBackendOnDisk(t *testing.T) {
	for _, fold := range []bool{false, true} {
		t.Run(fmt.Sprintf("fold=%t", fold), func(t *testing.T) {
			storagetest.Run(t, func(t testing.TB) storage.Backend {
				d := filetest.NewDisk()
				d.FoldCase = fold
				return on(t, d)
			})
		})
	}
}

// How often each commit waits for the device, and for what.
func TestSyncs(t *testing.T) {
	tests := []struct {
		name  string
		do    func(t testing.TB, b *file.Backend)
		syncs []string
	}{
		{"open", func(testing.TB, *file.Backend) {}, nil},
		{"commit into a directory that is there", func(t testing.TB, b *file.Backend) {
			ok(t, scratch(t, b, "up/1/data", "x").Commit(t.Context(), "old/dir/key"))
		}, []string{"file up/1/data", "dir old/dir"}},
		{"commit that replaces", func(t testing.TB, b *file.Backend) {
			ok(t, scratch(t, b, "up/1/data", "x").Commit(t.Context(), "old/dir/was"))
		}, []string{"file up/1/data", "dir old/dir"}},
		{"synced before", func(t testing.TB, b *file.Backend) {
			w := scratch(t, b, "up/1/data", "x")
			ok(t, w.Sync())
			ok(t, w.Sync())
			ok(t, w.Commit(t.Context(), "old/dir/key"))
		}, []string{"file up/1/data", "dir old/dir"}},
		{"written after sync", func(t testing.TB, b *file.Backend) {
			w := scratch(t, b, "up/1/data", "x")
			ok(t, w.Sync())
			_, err := w.ReadFrom(strings.NewReader("y"))
			ok(t, err)
			ok(t, w.Commit(t.Context(), "old/dir/key"))
		}, []string{"file up/1/data", "file up/1/data", "dir old/dir"}},
		{"new directories", func(t testing.TB, b *file.Backend) {
			ok(t, scratch(t, b, "up/1/data", "x").Commit(t.Context(), "new/a/b/key"))
		}, []string{"file up/1/data", "dir new/a/b", "dir new/a", "dir new", "dir ."}},
		{"new directories, not again", func(t testing.TB, b *file.Backend) {
			ok(t, scratch(t, b, "up/1/data", "x").Commit(t.Context(), "new/a/1"))
			ok(t, scratch(t, b, "up/1/data", "x").Commit(t.Context(), "new/a/2"))
		}, []string{
			"file up/1/data", "dir new/a", "dir new", "dir .",
			"file up/1/data", "dir new/a",
		}},
		{"directory made by scratch", func(t testing.TB, b *file.Backend) {
			w := scratch(t, b, "old/repo/up/data", "x")
			ok(t, w.Commit(t.Context(), "old/repo/key"))
		}, []string{"file old/repo/up/data", "dir old/repo", "dir old"}},
		{"close and resume", func(t testing.TB, b *file.Backend) {
			ok(t, scratch(t, b, "up/1/data", "x").Close())
			w, err := b.Create(t.Context(), "up/1/data", 1)
			ok(t, err)
			ok(t, w.Commit(t.Context(), "old/dir/key"))
		}, []string{"file up/1/data", "dir old/dir"}},
		{"cancel", func(t testing.TB, b *file.Backend) {
			ok(t, scratch(t, b, "up/1/data", "x").Cancel())
		}, nil},
		{"rename, remove", func(t testing.TB, b *file.Backend) {
			ok(t, b.Rename(t.Context(), "old/dir/was", "old/dir/is"))
			ok(t, b.Remove(t.Context(), "old/dir/is"))
		}, nil},
		{"sync", func(t testing.TB, b *file.Backend) {
			ok(t, b.Rename(t.Context(), "old/dir/was", "old/new/is"))
			ok(t, b.Sync(t.Context(), "old/dir"))
			ok(t, b.Sync(t.Context(), "old/new"))
			ok(t, b.Sync(t.Context(), "missing"))
		}, []string{"dir old/dir", "dir old/new", "dir old"}},
		{"directory made, removed, made again", func(t testing.TB, b *file.Backend) {
			ok(t, scratch(t, b, "up/1/data", "x").Commit(t.Context(), "a/1"))
			ok(t, b.Remove(t.Context(), "a/1"))
			ok(t, b.Remove(t.Context(), "a"))
			ok(t, scratch(t, b, "up/1/data", "x").Commit(t.Context(), "a/1"))
		}, []string{"file up/1/data", "dir a", "dir .", "file up/1/data", "dir a", "dir ."}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := filetest.NewDisk()
			b := on(t, d)
			put(t, b, "old/dir/was", "old")
			put(t, b, "up/keep", "so that up stays")
			d.TakeSyncs()
			tt.do(t, b)
			var got []string
			for _, s := range d.TakeSyncs() {
				s = strings.Replace(s, "/srv/registry/", "", 1)
				got = append(got, strings.Replace(s, "/srv/registry", ".", 1))
			}
			// Directories are synced at the same time, in no order.
			slices.Sort(got)
			slices.Sort(tt.syncs)
			if !slices.Equal(got, tt.syncs) {
				t.Errorf("got  %q\nwant %q", got, tt.syncs)
			}
		})
	}
}

func TestNoSync(t *testing.T) {
	d := filetest.NewDisk()
	ok(t, d.Mkdir("/srv", 0o777))
	ok(t, d.Mkdir("/srv/registry", 0o777))
	b := open(t, "/srv/registry", file.Options{FS: d, Euid: asUser, NoSync: true})
	w := scratch(t, b, "up/data", "x")
	ok(t, w.Sync())
	ok(t, w.Commit(t.Context(), "a/b"))
	ok(t, b.Sync(t.Context(), "a"))
	if got := d.TakeSyncs(); len(got) != 0 {
		t.Errorf("waited for %q", got)
	}
}

// What an earlier process left in the caches is durable once the store is open.
func TestOpenSyncsAll(t *testing.T) {
	d := filetest.NewDisk()
	for _, dir := range []string{"/srv", "/srv/registry"} {
		ok(t, d.Mkdir(dir, 0o777))
	}
	f, err := d.OpenFile("/srv/registry/key", os.O_WRONLY|os.O_CREATE, 0o666)
	ok(t, err)
	_, err = io.WriteString(f, "left")
	ok(t, err)
	on(t, d)
	if got := get(t, on(t, d.PowerCut()), "key"); got != "left" {
		t.Errorf("key is %q", got)
	}
}

// script is what a store does: it calls acked with each key that must be held
// from then on, and its data; "" for one that is gone.
func script(ctx context.Context, b *file.Backend, acked func(key, data string)) error {
	commit := func(key, data string) error {
		w, err := b.Create(ctx, "repo/up/1/data", 0)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, data); err != nil {
			return errors.Join(err, w.Cancel())
		}
		if err := w.Commit(ctx, key); err != nil {
			return err
		}
		acked(key, data)
		return nil
	}
	synced := func(dirs ...string) error {
		for _, dir := range dirs {
			if err := b.Sync(ctx, dir); err != nil {
				return err
			}
		}
		return nil
	}
	steps := []func() error{
		func() error { return commit("repo/tag/current", "one") },
		func() error { return commit("blobs/aa/data", "blob") },
		func() error { return commit("repo/tag/current", "two") },
		func() error { return commit("blobs/aa/data", "blob") },
		func() error { return b.Remove(ctx, "blobs/aa/data") },
		func() error { return b.Remove(ctx, "blobs/aa") },
		func() error { return synced("blobs") },
		func() error { acked("blobs/aa/data", ""); return nil },
		func() error { return commit("blobs/aa/data", "blob again") },
		func() error { return b.Rename(ctx, "repo", "trash/repo") },
		func() error { return synced(".", "trash") },
		func() error {
			acked("repo/tag/current", "")
			acked("trash/repo/tag/current", "two")
			return nil
		},
		func() error { return commit("repo/tag/current", "three") },
		func() error { return commit("trash/repo/late", "late") },
		func() error {
			one, err := storage.Prepare(ctx, b, "batch/a/one", []byte("1"))
			if err != nil {
				return err
			}
			two, err := storage.Prepare(ctx, b, "batch/b/two", []byte("2"))
			if err != nil {
				return errors.Join(err, one.Writer.Cancel())
			}
			if err := b.CommitAll(ctx, []storage.Pending{one, two}); err != nil {
				return err
			}
			acked("batch/a/one", "1")
			acked("batch/b/two", "2")
			return nil
		},
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// everything that any run of script puts under a key.
var everything = map[string][]string{
	"repo/tag/current":       {"", "one", "two", "three"},
	"blobs/aa/data":          {"", "blob", "blob again"},
	"trash/repo/tag/current": {"", "two"},
	"trash/repo/late":        {"", "late"},
	"batch/a/one":            {"", "1"},
	"batch/b/two":            {"", "2"},
}

// The power goes at every step, and what the device had not been told to keep
// is lost, or any part of it: what was acknowledged is there, and nothing is
// torn.
func TestPowerCut(t *testing.T) {
	for n := 1; ; n++ {
		acks, last := powerCutAt(t, n)
		if t.Failed() {
			t.Fatalf("at call %d, after %v", n, acks)
		}
		if last {
			if len(acks) != len(everything) {
				t.Errorf("the script acknowledged %v", acks)
			}
			return
		}
	}
}

// powerCutAt tells what was acknowledged before call n, and whether there was
// no such call.
func powerCutAt(t *testing.T, n int) (acks map[string]string, last bool) {
	d := filetest.NewDisk()
	b := on(t, d)
	before := d.Calls()
	d.Torn = n%2 == 0
	d.Before = func(c filetest.Call) error {
		if c.N-before >= n {
			return syscall.EIO
		}
		return nil
	}
	acks = map[string]string{}
	// A key whose change was begun is either old or new.
	err := script(t.Context(), b, func(key, data string) { acks[key] = data })
	for seed := range uint64(8) {
		rnd := rand.New(rand.NewPCG(seed, uint64(n)))
		cut := d.PowerCutKeeping(func() bool { return seed > 0 && rnd.IntN(2) == 0 })
		checkCut(t, on(t, cut), acks, err != nil)
	}
	return acks, err == nil
}

func checkCut(t *testing.T, b *file.Backend, acks map[string]string, begun bool) {
	for key, all := range everything {
		got := get(t, b, key)
		if !slices.Contains(all, got) {
			t.Errorf("%s is torn: %q", key, got)
		}
		if want, ok := acks[key]; ok && got != want && (!begun || !isNext(key, want, got)) {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

// isNext tells whether script changes key from was to is, in one step that is
// not acknowledged yet.
func isNext(key, was, is string) bool {
	return slices.Contains(map[string][]string{
		"repo/tag/current": {"one two", "two ", " three"},
		"blobs/aa/data":    {"blob ", " blob again"},
	}[key], was+" "+is)
}

// Two commits into the same new directory, the second one begun and done at
// each step of the first: both survive the power cut that comes right after
// they were acknowledged.
func TestPowerCutRace(t *testing.T) {
	for n := 1; ; n++ {
		d := filetest.NewDisk()
		b := on(t, d)
		before, at := d.Calls(), ""
		var begun atomic.Bool
		d.Before = func(c filetest.Call) error {
			// mkdir is called with a lock held that the other waits for.
			if c.N-before < n || c.Op == "mkdir" || !begun.CompareAndSwap(false, true) {
				return nil
			}
			at = c.Op + " " + c.Name
			put(t, b, "a/b/c/second", "2")
			if got := get(t, on(t, d.PowerCut()), "a/b/c/second"); got != "2" {
				t.Errorf("second, at %s of the first: %q", at, got)
			}
			return nil
		}
		put(t, b, "a/b/c/first", "1")
		cut := on(t, d.PowerCut())
		if one, two := get(t, cut, "a/b/c/first"), get(t, cut, "a/b/c/second"); one != "1" || two != "2" && at != "" {
			t.Errorf("second at %s of the first: %q and %q are left", at, one, two)
		}
		if at == "" {
			if n < 8 {
				t.Errorf("only %d steps", n)
			}
			return
		}
	}
}

// Many commits at once into the same new directories, which others remove when
// they are empty: what was acknowledged is durable at that moment.
func TestPowerCutManyRace(t *testing.T) {
	d := filetest.NewDisk()
	b := on(t, d)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 25 {
				key := fmt.Sprintf("a/%d/b/%d", j, i)
				if err := storage.Put(t.Context(), b, key, []byte("x")); err != nil {
					t.Error(err)
					continue
				}
				cut, err := file.Open("/srv/registry", file.Options{FS: d.PowerCut(), Euid: asUser})
				if err != nil {
					t.Error(err)
					continue
				}
				if _, err := cut.Stat(t.Context(), key); err != nil {
					t.Error(err)
				}
				for _, key := range []string{key, fmt.Sprintf("a/%d/b", j), fmt.Sprintf("a/%d", j), "a"} {
					err := b.Remove(t.Context(), key)
					if err != nil && !errors.Is(err, storage.ErrNotEmpty) && !errors.Is(err, fs.ErrNotExist) {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
}
