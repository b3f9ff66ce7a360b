package filetest_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/storage/file/filetest"
)

// put writes a file and fsyncs it if sync.
func put(t testing.TB, d file.FS, name, data string, sync bool) {
	t.Helper()
	f, err := d.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	ok(t, err)
	_, err = io.WriteString(f, data)
	ok(t, err)
	if sync {
		ok(t, f.Sync())
	}
	ok(t, f.Close())
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tree returns all that is below dir: "name/" or "name=data", sorted.
func tree(t testing.TB, d file.FS, dir string) string {
	t.Helper()
	entries, err := d.ReadDir(dir)
	ok(t, err)
	var all []string
	for _, e := range entries {
		name := strings.TrimSuffix(dir, "/") + "/" + e.Name()
		if e.IsDir() {
			all = append(all, name+"/")
			if below := tree(t, d, name); below != "" {
				all = append(all, below)
			}
			continue
		}
		f, err := d.OpenFile(name, os.O_RDONLY, 0)
		ok(t, err)
		data, err := io.ReadAll(f)
		ok(t, errors.Join(err, f.Close()))
		all = append(all, name+"="+string(data))
	}
	return strings.Join(all, " ")
}

func TestPowerCut(t *testing.T) {
	tests := []struct {
		name    string
		do      func(t testing.TB, d *filetest.Disk)
		nothing string // What a cut leaves that keeps nothing more than it must.
		all     string // One that keeps everything.
	}{
		{"name without data", func(t testing.TB, d *filetest.Disk) {
			put(t, d, "/a", "data", false)
			ok(t, d.SyncDir("/"))
		}, "/a=", "/a=data"},
		{"data without name", func(t testing.TB, d *filetest.Disk) {
			put(t, d, "/a", "data", true)
		}, "", "/a=data"},
		{"both", func(t testing.TB, d *filetest.Disk) {
			put(t, d, "/a", "data", true)
			ok(t, d.SyncDir("/"))
		}, "/a=data", "/a=data"},
		{"parent not synced", func(t testing.TB, d *filetest.Disk) {
			ok(t, d.Mkdir("/d", 0o777))
			put(t, d, "/d/a", "data", true)
			ok(t, d.SyncDir("/d"))
		}, "", "/d/ /d/a=data"},
		{"parent synced later", func(t testing.TB, d *filetest.Disk) {
			ok(t, d.Mkdir("/d", 0o777))
			put(t, d, "/d/a", "data", true)
			ok(t, d.SyncDir("/d"))
			ok(t, d.SyncDir("/"))
		}, "/d/ /d/a=data", "/d/ /d/a=data"},
		{"removed", func(t testing.TB, d *filetest.Disk) {
			put(t, d, "/a", "data", true)
			ok(t, d.SyncDir("/"))
			ok(t, d.Remove("/a"))
		}, "/a=data", ""},
		{"removed and synced", func(t testing.TB, d *filetest.Disk) {
			put(t, d, "/a", "data", true)
			ok(t, d.SyncDir("/"))
			ok(t, d.Remove("/a"))
			ok(t, d.SyncDir("/"))
		}, "", ""},
		{"renamed, target synced", func(t testing.TB, d *filetest.Disk) {
			renamed(t, d)
			ok(t, d.SyncDir("/y"))
		}, "/x/ /x/a=new /y/ /y/b=new", "/x/ /y/ /y/b=new"},
		{"renamed, source synced", func(t testing.TB, d *filetest.Disk) {
			renamed(t, d)
			ok(t, d.SyncDir("/x"))
		}, "/x/ /y/ /y/b=new", "/x/ /y/ /y/b=new"},
		{"renamed, source then target synced", func(t testing.TB, d *filetest.Disk) {
			renamed(t, d)
			ok(t, d.SyncDir("/x"))
			ok(t, d.SyncDir("/y"))
		}, "/x/ /y/ /y/b=new", "/x/ /y/ /y/b=new"},
		{"renamed", renamed, "/x/ /x/a=new /y/ /y/b=old", "/x/ /y/ /y/b=new"},
		{"removed after renamed", func(t testing.TB, d *filetest.Disk) {
			renamed(t, d)
			ok(t, d.Remove("/y/b"))
			ok(t, d.SyncDir("/x"))
		}, "/x/ /y/ /y/b=new", "/x/ /y/"},
		{"overwritten", func(t testing.TB, d *filetest.Disk) {
			put(t, d, "/a", "data", true)
			ok(t, d.SyncDir("/"))
			f, err := d.OpenFile("/a", os.O_WRONLY, 0)
			ok(t, err)
			ok(t, f.Truncate(2))
			_, err = f.Seek(1, io.SeekStart)
			ok(t, err)
			_, err = io.WriteString(f, "xyz")
			ok(t, err)
		}, "/a=data", "/a=dxyz"},
		{"all synced", func(t testing.TB, d *filetest.Disk) {
			renamed(t, d)
			ok(t, d.SyncAll("/"))
		}, "/x/ /y/ /y/b=new", "/x/ /y/ /y/b=new"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := filetest.NewDisk()
			tt.do(t, d)
			before := tree(t, d, "/")
			if got := tree(t, d.PowerCut(), "/"); got != tt.nothing {
				t.Errorf("cut leaves %s, want %s", got, tt.nothing)
			}
			all := d.PowerCutKeeping(func() bool { return true })
			if got := tree(t, all, "/"); got != tt.all || got != before {
				t.Errorf("cut that keeps all leaves %s, want %s, before was %s", got, tt.all, before)
			}
			if got := tree(t, all.PowerCut(), "/"); got != tt.all {
				t.Errorf("what a cut leaves is not durable: %s", got)
			}
			if got := tree(t, d, "/"); got != before {
				t.Errorf("the cut changed the disk to %s, was %s", got, before)
			}
		})
	}
}

// renamed renames /x/a to /y/b, which was there; both are durable before.
func renamed(t testing.TB, d *filetest.Disk) {
	t.Helper()
	ok(t, d.Mkdir("/x", 0o777))
	ok(t, d.Mkdir("/y", 0o777))
	put(t, d, "/x/a", "new", true)
	put(t, d, "/y/b", "old", true)
	for _, dir := range []string{"/", "/x", "/y"} {
		ok(t, d.SyncDir(dir))
	}
	ok(t, d.Rename("/x/a", "/y/b"))
}

// After an fsync failed, the next one does not bring the data back.
func TestFailedSyncLoses(t *testing.T) {
	d := filetest.NewDisk()
	fail := false
	d.Before = func(c filetest.Call) error {
		if fail && c.Op == "fsync" {
			return syscall.EIO
		}
		return nil
	}
	f, err := d.OpenFile("/a", os.O_WRONLY|os.O_CREATE, 0o666)
	ok(t, err)
	ok(t, d.SyncDir("/"))
	_, err = io.WriteString(f, "lost")
	ok(t, err)
	fail = true
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("sync: %v", err)
	}
	_, err = io.WriteString(f, "kept")
	ok(t, err)
	if got := tree(t, d.PowerCutKeeping(func() bool { return true }), "/"); got != "/a=\x00\x00\x00\x00kept" {
		t.Errorf("a cut leaves %q", got)
	}
}

func TestRoom(t *testing.T) {
	d := filetest.NewDisk()
	put(t, d, "/old", "1234", false)
	d.SetRoom(3)
	f, err := d.OpenFile("/a", os.O_WRONLY|os.O_CREATE, 0o666)
	ok(t, err)
	if n, err := io.WriteString(f, "12345"); n != 3 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write beyond the room: %d, %v", n, err)
	}
	ok(t, d.Remove("/old"))
	if n, err := io.WriteString(f, "4567"); n != 4 || err != nil {
		t.Errorf("write into the room of what was removed: %d, %v", n, err)
	}
	if n, err := io.WriteString(f, "8"); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write without room: %d, %v", n, err)
	}
}

func TestFaults(t *testing.T) {
	d := filetest.NewDisk()
	put(t, d, "/a", "1234", true)
	d.SetReadOnly(true)
	_, err := d.OpenFile("/b", os.O_WRONLY|os.O_CREATE, 0o666)
	if !errors.Is(err, syscall.EROFS) || !errors.Is(d.Remove("/a"), syscall.EROFS) {
		t.Errorf("changes on a disk that takes none: %v", err)
	}
	d.SetReadOnly(false)
	d.Torn = true
	d.Before = func(filetest.Call) error { return syscall.EIO }
	f, err := d.OpenFile("/a", os.O_WRONLY, 0)
	ok(t, err)
	if n, err := io.WriteString(f, "xxxx"); n != 2 || !errors.Is(err, syscall.EIO) {
		t.Errorf("torn write: %d, %v", n, err)
	}
	if got := tree(t, d, "/"); got != "/a=xx34" {
		t.Errorf("left is %s", got)
	}
}

func TestFoldCase(t *testing.T) {
	d := filetest.NewDisk()
	d.FoldCase = true
	put(t, d, "/Name", "1", false)
	ok(t, d.Rename("/Name", "/nAME"))
	put(t, d, "/name", "2", false)
	if got := tree(t, d, "/"); got != "/nAME=2" {
		t.Errorf("left is %s", got)
	}
}

func TestMount(t *testing.T) {
	d := filetest.NewDisk()
	ok(t, d.Mkdir("/m", 0o777))
	ok(t, d.Mount("/m"))
	put(t, d, "/a", "1", false)
	put(t, d, "/m/b", "2", false)
	for _, r := range [][2]string{{"/a", "/m/a"}, {"/m/b", "/b"}} {
		if err := d.Rename(r[0], r[1]); !errors.Is(err, syscall.EXDEV) {
			t.Errorf("rename %v: %v", r, err)
		}
	}
	ok(t, d.Rename("/m/b", "/m/c"))
}

func TestTakeSyncs(t *testing.T) {
	d := filetest.NewDisk()
	put(t, d, "/a", "1", true)
	ok(t, d.SyncDir("/"))
	ok(t, d.SyncAll("/"))
	if got := d.TakeSyncs(); !slices.Equal(got, []string{"file /a", "dir /", "all /"}) {
		t.Errorf("got %v", got)
	}
	if got := d.TakeSyncs(); len(got) != 0 {
		t.Errorf("got %v again", got)
	}
}

// rooted is the real file system below a directory.
type rooted struct {
	file.OS
	root string
}

func (r rooted) OpenFile(name string, flag int, perm fs.FileMode) (file.File, error) {
	return r.OS.OpenFile(r.root+name, flag, perm)
}
func (r rooted) ReadDir(name string) ([]fs.DirEntry, error) { return r.OS.ReadDir(r.root + name) }
func (r rooted) Mkdir(name string, perm fs.FileMode) error  { return r.OS.Mkdir(r.root+name, perm) }
func (r rooted) Rename(from, to string) error               { return r.OS.Rename(r.root+from, r.root+to) }
func (r rooted) Remove(name string) error                   { return r.OS.Remove(r.root + name) }
func (r rooted) SyncDir(name string) error                  { return r.OS.SyncDir(r.root + name) }

// TestAsTheRealOne does the same at random on the model and on the machine,
// and compares errors and what is left.
func TestAsTheRealOne(t *testing.T) {
	names := []string{"/a", "/b", "/a/a", "/a/b", "/b/a", "/a/a/a", "/c", "/" + strings.Repeat("x", 256)}
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		name := func() string { return names[rnd.IntN(len(names))] }
		model, real := filetest.NewDisk(), rooted{root: t.TempDir()}
		for range 200 {
			what, do := step(rnd.IntN(6), name(), name(), rnd.Int64N(5))
			want, got := do(real), do(model)
			if errno(want) != errno(got) {
				t.Fatalf("seed %d: %s: %v, really %v", seed, what, got, want)
			}
			if want, got := tree(t, real, "/"), tree(t, model, "/"); want != got {
				t.Fatalf("seed %d: %s leaves %s, really %s", seed, what, got, want)
			}
		}
	}
}

func step(kind int, a, b string, n int64) (string, func(file.FS) error) {
	switch kind {
	case 0:
		return "mkdir " + a, func(f file.FS) error { return f.Mkdir(a, 0o777) }
	case 1:
		return "rename " + a + " to " + b, func(f file.FS) error { return f.Rename(a, b) }
	case 2:
		return "remove " + a, func(f file.FS) error { return f.Remove(a) }
	case 3:
		return "syncdir " + a, func(f file.FS) error { return f.SyncDir(a) }
	case 4:
		return "create " + a, func(f file.FS) error { return writeAt(f, a, os.O_CREATE|os.O_TRUNC, n) }
	}
	return fmt.Sprintf("write %s at %d", a, n), func(f file.FS) error { return writeAt(f, a, 0, n) }
}

func writeAt(d file.FS, name string, flag int, off int64) error {
	f, err := d.OpenFile(name, os.O_WRONLY|flag, 0o666)
	if err != nil {
		return err
	}
	_, err = f.Seek(off, io.SeekStart)
	_, e := io.WriteString(f, "data")
	return errors.Join(err, e, f.Truncate(off+3), f.Sync(), f.Close())
}

// errno returns the number of an error. Those that say that a name cannot be
// are one: which of two bad names is told first is the kernel's affair.
func errno(err error) syscall.Errno {
	var e syscall.Errno
	errors.As(err, &e)
	if e == syscall.ENOTDIR || e == syscall.ENAMETOOLONG {
		return syscall.ENOENT
	}
	return e
}
