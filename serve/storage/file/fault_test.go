package file_test

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/storage/file/filetest"
)

// failing makes the first call after now for which which returns true fail.
func failing(d *filetest.Disk, err error, which func(filetest.Call) bool) (failed func() bool) {
	var done atomic.Bool // Calls may come at the same time.
	d.Before = func(c filetest.Call) error {
		if which(c) && done.CompareAndSwap(false, true) {
			return err
		}
		return nil
	}
	return done.Load
}

// Each call of a commit fails once: then nothing is left of the scratch and
// the key is what it was, now and after a power cut.
func TestCommitFailsAtEveryStep(t *testing.T) {
	for _, to := range []string{"repo/tag/was", "repo/tag/new", "fresh/a/b/new", "mnt/was", "mnt/new"} {
		for n := 1; ; n++ {
			d, b := mounted(t)
			failed := false
			w := scratch(t, b, "repo/up/1/data", "new")
			before := d.Calls()
			hit := failing(d, syscall.EIO, func(c filetest.Call) bool { return c.N-before == n })
			err := w.Commit(t.Context(), to)
			failed = hit()
			d.Before = nil
			want := ""
			switch {
			case err == nil:
				want = "new"
			case !errors.Is(err, syscall.EIO) || !failed:
				t.Fatalf("%s, call %d: %v", to, n, err)
			case strings.HasSuffix(to, "/was"):
				want = "old"
			}
			if got := get(t, b, to); got != want {
				t.Errorf("%s, call %d, error %v: holds %q, want %q", to, n, err, got, want)
			}
			if err != nil {
				noneLeft(t, b)
				noneLeft(t, on(t, d.PowerCut()))
			}
			for seed := range uint64(8) {
				rnd := rand.New(rand.NewPCG(seed, uint64(n)))
				cut := d.PowerCutKeeping(func() bool { return seed > 0 && rnd.IntN(2) == 0 })
				if got := get(t, on(t, cut), to); got != want {
					t.Errorf("%s, call %d, error %v: after a power cut %q, want %q", to, n, err, got, want)
				}
			}
			if !failed {
				break
			}
		}
	}
}

// mounted returns a disk with something under two keys, mnt on another device.
func mounted(t testing.TB) (*filetest.Disk, *file.Backend) {
	d := filetest.NewDisk()
	b := on(t, d)
	ok(t, d.Mkdir("/srv/registry/mnt", 0o777))
	ok(t, d.Mount("/srv/registry/mnt"))
	ok(t, d.SyncDir("/srv/registry"))
	put(t, b, "repo/tag/was", "old")
	put(t, b, "mnt/was", "old")
	return d, b
}

// noneLeft fails the test if there is scratch or a temporary file anywhere.
func noneLeft(t *testing.T, b *file.Backend) {
	t.Helper()
	if got := get(t, b, "repo/up/1/data"); got != "" {
		t.Errorf("scratch holds %q", got)
	}
	for _, dir := range []string{"repo/tag", "mnt", "fresh/a/b"} {
		for e, err := range b.List(t.Context(), dir) {
			if err == nil && strings.HasSuffix(e.Name, ".tmp") {
				t.Errorf("%s is left in %s", e.Name, dir)
			}
		}
	}
}

// What another commit has put there meanwhile is not taken back.
func TestFailedCommitKeepsAnothers(t *testing.T) {
	d := filetest.NewDisk()
	b := on(t, d)
	put(t, b, "a/other", "x")
	w := scratch(t, b, "up/data", "first")
	var inner atomic.Bool
	d.Before = func(c filetest.Call) error {
		if c.Op != "syncdir" || !inner.CompareAndSwap(false, true) {
			return nil
		}
		put(t, b, "a/key", "second")
		return syscall.EIO
	}
	if err := w.Commit(t.Context(), "a/key"); !errors.Is(err, syscall.EIO) {
		t.Errorf("commit: %v", err)
	}
	if got := get(t, b, "a/key"); got != "second" {
		t.Errorf("key holds %q", got)
	}
}

// What was there is not removed because it could not be looked at.
func TestFailedCommitBlind(t *testing.T) {
	h := &hooked{Disk: filetest.NewDisk()}
	b := open(t, "/srv/registry", file.Options{FS: h, Euid: asUser})
	put(t, b, "a/key", "old")
	w := scratch(t, b, "up/data", "new")
	h.blind = true
	failing(h.Disk, syscall.EIO, func(c filetest.Call) bool { return c.Op == "syncdir" })
	if err := w.Commit(t.Context(), "a/key"); !errors.Is(err, syscall.EIO) {
		t.Errorf("commit: %v", err)
	}
	h.blind = false
	if get(t, b, "a/key") == "" {
		t.Error("the key is gone")
	}
}

// After fsync failed nobody knows what the device has: such scratch is neither
// committed nor kept for a resume.
func TestFailedSyncEndsScratch(t *testing.T) {
	for name, end := range map[string]func(storage.Writer) error{
		"commit": func(w storage.Writer) error { return w.Commit(t.Context(), "key") },
		"close":  storage.Writer.Close,
	} {
		d := filetest.NewDisk()
		b := on(t, d)
		w := scratch(t, b, "up/data", "data")
		failing(d, syscall.EIO, func(c filetest.Call) bool { return c.Op == "fsync" })
		if err := w.Sync(); !errors.Is(err, syscall.EIO) {
			t.Errorf("sync: %v", err)
		}
		if err := w.Sync(); !errors.Is(err, syscall.EIO) {
			t.Errorf("second sync: %v", err)
		}
		if err := end(w); (err != nil) != (name == "commit") {
			t.Errorf("%s: %v", name, err)
		}
		for _, key := range []string{"up", "key"} {
			if _, err := b.Stat(t.Context(), key); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %s is left: %v", name, key, err)
			}
		}
	}
}

func TestFull(t *testing.T) {
	d := filetest.NewDisk()
	b := on(t, d)
	put(t, b, "a/was", "old")
	d.SetRoom(3)
	w, err := b.Create(t.Context(), "up/data", 0)
	ok(t, err)
	if n, err := w.ReadFrom(strings.NewReader("12345")); n != 3 || !errors.Is(err, storage.ErrFull) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write: %d, %v", n, err)
	}
	if err := w.Commit(t.Context(), "a/was"); !errors.Is(err, storage.ErrFull) {
		t.Errorf("commit of what is not whole: %v", err)
	}
	if got := get(t, b, "a/was"); got != "old" {
		t.Errorf("key holds %q", got)
	}
	if _, err := b.Stat(t.Context(), "up"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("scratch is left: %v", err)
	}
	put(t, b, "b", "123") // What failed made its room free again.
}

// A full device stops an upload, which goes on when there is room.
func TestFullThenResume(t *testing.T) {
	d := filetest.NewDisk()
	b := on(t, d)
	d.SetRoom(3)
	w, err := b.Create(t.Context(), "up/data", 0)
	ok(t, err)
	if _, err := io.WriteString(w, "12345"); !errors.Is(err, storage.ErrFull) {
		t.Errorf("write: %v", err)
	}
	ok(t, w.Close())
	d.SetRoom(filetest.Unlimited)
	w, err = b.Create(t.Context(), "up/data", 3)
	ok(t, err)
	_, err = io.WriteString(w, "45")
	ok(t, err)
	ok(t, w.Commit(t.Context(), "key"))
	if got := get(t, b, "key"); got != "12345" {
		t.Errorf("key holds %q", got)
	}
}

// Each change says why it was refused, with the system's error behind it.
func TestRefused(t *testing.T) {
	changes := map[string]func(t testing.TB, b *file.Backend) error{
		"open": func(t testing.TB, b *file.Backend) error {
			_, err := b.Create(t.Context(), "up/data", 0)
			return err
		},
		"mkdir":  func(t testing.TB, b *file.Backend) error { return b.Rename(t.Context(), "a/key", "x/y") },
		"rename": func(t testing.TB, b *file.Backend) error { return b.Rename(t.Context(), "a/key", "a/x") },
		"remove": func(t testing.TB, b *file.Backend) error { return b.Remove(t.Context(), "a/key") },
		"write": func(t testing.TB, b *file.Backend) error {
			w, err := b.Create(t.Context(), "up/data", 0)
			ok(t, err)
			_, err = io.WriteString(w, "x")
			return err
		},
		"fsync":    func(t testing.TB, b *file.Backend) error { return scratch(t, b, "up/data", "x").Sync() },
		"syncdir":  func(t testing.TB, b *file.Backend) error { return b.Sync(t.Context(), "a") },
		"truncate": func(t testing.TB, b *file.Backend) error { return resume(t, b, 1) },
	}
	for op, change := range changes {
		for errno, want := range map[syscall.Errno]error{
			syscall.ENOSPC: storage.ErrFull,
			syscall.EDQUOT: storage.ErrFull,
			syscall.EROFS:  storage.ErrReadOnly,
			syscall.EACCES: storage.ErrReadOnly,
			syscall.EPERM:  storage.ErrReadOnly,
		} {
			d := filetest.NewDisk()
			b := on(t, d)
			put(t, b, "a/key", "data")
			failing(d, errno, func(c filetest.Call) bool { return c.Op == op })
			if err := change(t, b); !errors.Is(err, want) || !errors.Is(err, errno) {
				t.Errorf("%s with %v: %v", op, errno, err)
			}
		}
	}
}

// resume opens a/key as if it were scratch.
func resume(t testing.TB, b *file.Backend, off int64) error {
	w, err := b.Create(t.Context(), "a/key", off)
	if err == nil {
		err = w.Close()
	}
	return err
}

func TestOpenReadOnly(t *testing.T) {
	d := filetest.NewDisk()
	put(t, on(t, d), "a/key", "data")
	ok(t, d.Remove("/srv/registry/"+file.Private))
	d.SetReadOnly(true)
	b := on(t, d)
	if got := get(t, b, "a/key"); got != "data" {
		t.Errorf("key holds %q", got)
	}
	if err := storage.Put(t.Context(), b, "a/key", nil); !errors.Is(err, storage.ErrReadOnly) {
		t.Errorf("put: %v", err)
	}
	if err := b.Remove(t.Context(), "a/key"); !errors.Is(err, storage.ErrReadOnly) {
		t.Errorf("remove: %v", err)
	}
}

func TestOpenFails(t *testing.T) {
	d := filetest.NewDisk()
	_, err := d.OpenFile("/file", os.O_WRONLY|os.O_CREATE, 0o666)
	ok(t, err)
	for _, root := range []string{"/file", "/file/below"} {
		if _, err := file.Open(root, file.Options{FS: d, Euid: asUser}); err == nil {
			t.Errorf("%s: opened", root)
		}
	}
	failing(d, syscall.EIO, func(c filetest.Call) bool { return c.Op == "syncall" })
	if _, err := file.Open("/srv", file.Options{FS: d, Euid: asUser}); !errors.Is(err, syscall.EIO) {
		t.Errorf("what was left could not be made durable: %v", err)
	}
}

// Each call of a batch fails once: then neither key has changed, unless all
// went well, and nothing is left of any scratch.
func TestCommitAllFailsAtEveryStep(t *testing.T) {
	for n := 1; ; n++ {
		d, b := mounted(t)
		batch := []storage.Pending{
			{Writer: scratch(t, b, "repo/up/1/data", "new"), To: "fresh/a/b/new"},
			{Writer: scratch(t, b, "repo/tag/was.1.tmp", "new"), To: "repo/tag/was"},
		}
		before := d.Calls()
		failed := failing(d, syscall.EIO, func(c filetest.Call) bool { return c.N-before == n })
		err := storage.CommitAll(t.Context(), b, batch...)
		hit := failed()
		d.Before = nil
		fresh, was := "", "old"
		switch {
		case err == nil:
			fresh, was = "new", "new"
		case !errors.Is(err, syscall.EIO) || !hit:
			t.Fatalf("call %d: %v", n, err)
		}
		for what, b := range map[string]*file.Backend{"now": b, "after a power cut": on(t, d.PowerCut())} {
			if got := get(t, b, "fresh/a/b/new"); got != fresh {
				t.Errorf("call %d, error %v: %s the new key holds %q, want %q", n, err, what, got, fresh)
			}
			if got := get(t, b, "repo/tag/was"); got != was {
				t.Errorf("call %d, error %v: %s the old key holds %q, want %q", n, err, what, got, was)
			}
			noneLeft(t, b)
		}
		if !hit {
			if n < 8 {
				t.Errorf("only %d calls", n)
			}
			return
		}
	}
}

// A batch with the writer of another backend is refused as a whole.
func TestCommitAllForeign(t *testing.T) {
	b, other := on(t, filetest.NewDisk()), on(t, filetest.NewDisk())
	err := b.CommitAll(t.Context(), []storage.Pending{
		{Writer: scratch(t, b, "up/data", "x"), To: "one"},
		{Writer: scratch(t, other, "up/data", "x"), To: "two"},
	})
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	for _, b := range []*file.Backend{b, other} {
		for _, key := range []string{"up", "one", "two"} {
			if _, err := b.Stat(t.Context(), key); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left: %v", key, err)
			}
		}
	}
}
