package file_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/storage/file/filetest"
)

// Whoever removes directories faster than they can be made makes a change
// fail, not hang.
func TestGivesUp(t *testing.T) {
	d := filetest.NewDisk()
	b := on(t, d)
	w := scratch(t, b, "up/data", "x")
	d.Before = func(c filetest.Call) error {
		if c.Op == "rename" {
			_ = d.Remove("/srv/registry/a")
		}
		return nil
	}
	if err := w.Commit(t.Context(), "a/key"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("commit: %v", err)
	}
}

// A directory that was removed and made again while it was synced is not taken
// for durable.
func TestMadeAgainWhileSynced(t *testing.T) {
	h := &hooked{Disk: filetest.NewDisk()}
	b := open(t, "/srv/registry", file.Options{FS: h, Euid: asUser})
	var done atomic.Bool
	h.synced = func(name string) {
		if path.Clean(name) != "/srv/registry" || !done.CompareAndSwap(false, true) {
			return
		}
		ok(t, b.Remove(t.Context(), "a/first"))
		ok(t, b.Remove(t.Context(), "a"))
		ok(t, scratch(t, b, "a/up/data", "makes a again").Close())
	}
	put(t, b, "a/first", "1")
	if !done.Load() {
		t.Fatal("nothing was made again")
	}
	put(t, b, "a/second", "2")
	if got := get(t, on(t, h.PowerCut()), "a/second"); got != "2" {
		t.Errorf("after a power cut %q", got)
	}
}

// hooked calls synced when a directory was synced, and opens nothing for
// reading while blind.
type hooked struct {
	*filetest.Disk
	synced func(name string)
	blind  bool
}

func (h *hooked) OpenFile(name string, flag int, perm fs.FileMode) (file.File, error) {
	if h.blind && flag == os.O_RDONLY {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EMFILE}
	}
	return h.Disk.OpenFile(name, flag, perm)
}

func (h *hooked) SyncDir(name string) error {
	err := h.Disk.SyncDir(name)
	if h.synced != nil {
		h.synced(name)
	}
	return err
}

// A directory that is moved before it is durable, or whose move is not, is
// made so by the next commit into it.
func TestCommitAfterRename(t *testing.T) {
	d := filetest.NewDisk()
	b := on(t, d)
	put(t, b, "durable/key", "x")
	ok(t, scratch(t, b, "made/up/1/data", "x").Close())
	ok(t, b.Rename(t.Context(), "durable", "x"))
	ok(t, b.Rename(t.Context(), "made", "y"))
	for _, key := range []string{"x/new", "y/up/1/new"} {
		put(t, b, key, "data")
		if got := get(t, on(t, d.PowerCut()), key); got != "data" {
			t.Errorf("%s after a power cut: %q", key, got)
		}
	}
}

// As root, all that is made is given to the owner of the root directory.
func TestAdopt(t *testing.T) {
	for _, tt := range []struct{ euid, owner, want int }{{0, 42, 42}, {0, 0, 0}, {1000, 42, 0}} {
		d := filetest.NewDisk()
		ok(t, d.Mkdir("/srv", 0o777))
		ok(t, d.Mkdir("/srv/registry", 0o777))
		ok(t, d.Chown("/srv/registry", tt.owner, tt.owner+1))
		b := open(t, "/srv/registry", file.Options{FS: d, Euid: func() int { return tt.euid }})
		put(t, b, "a/b/key", "data")
		ok(t, scratch(t, b, "up/data", "x").Close())
		for _, key := range []string{file.Private, "a", "a/b", "a/b/key", "up", "up/data"} {
			uid, gid, err := d.Owner("/srv/registry/" + key)
			ok(t, err)
			wantGID := 0
			if tt.want != 0 {
				wantGID = tt.want + 1
			}
			if uid != tt.want || gid != wantGID {
				t.Errorf("%+v: %s belongs to %d:%d", tt, key, uid, gid)
			}
		}
	}
}

// stats counts calls of Stat.
type stats struct {
	*filetest.Disk
	n int
}

func (s *stats) Stat(name string) (fs.FileInfo, error) { s.n++; return s.Disk.Stat(name) }

func TestListDoesNotStat(t *testing.T) {
	s := &stats{Disk: filetest.NewDisk()}
	b := open(t, "/srv/registry", file.Options{FS: s, Euid: asUser})
	for i := range 100 {
		ok(t, scratch(t, b, fmt.Sprintf("dir/%03d", i), "").Close())
	}
	s.n = 0
	var names []string
	for e, err := range b.List(t.Context(), "dir") {
		ok(t, err)
		names = append(names, e.Name)
	}
	if s.n != 0 || len(names) != 100 || !slices.IsSorted(names) {
		t.Errorf("%d names, %d calls of Stat", len(names), s.n)
	}
}

// A connection gives little at once, which is written in large pieces; what
// came before it broke is kept.
func TestReadFromFillsBuffers(t *testing.T) {
	for _, broken := range []error{nil, io.ErrUnexpectedEOF} {
		d := filetest.NewDisk()
		b := on(t, d)
		w := scratch(t, b, "up/data", "")
		var writes atomic.Int64
		d.Before = func(c filetest.Call) error {
			if c.Op == "write" {
				writes.Add(1)
			}
			return nil
		}
		data := strings.Repeat("0123456789abcdef", 40_000)
		n, err := w.ReadFrom(&pieces{strings.NewReader(data), broken})
		if n != int64(len(data)) || !errors.Is(err, broken) {
			t.Errorf("read %d of %d bytes, %v, want %v", n, len(data), err, broken)
		}
		if writes.Load() > 4 {
			t.Errorf("%d writes", writes.Load())
		}
		ok(t, w.Close())
		if got := get(t, b, "up/data"); got != data {
			t.Errorf("%d bytes are kept, want %d", len(got), len(data))
		}
	}
}

// pieces gives up to 1,000 bytes at once, and in the end err, if not nil.
type pieces struct {
	r   io.Reader
	err error
}

func (p *pieces) Read(buf []byte) (int, error) {
	n, err := p.r.Read(buf[:min(len(buf), 1000)])
	if err == io.EOF && p.err != nil {
		err = p.err
	}
	return n, err
}
