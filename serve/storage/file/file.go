// Package file keeps a [storage.Backend] in a directory of a POSIX file
// system: a key is a path, a commit is fsync, rename, fsync of the directory,
// once each. What Commit, and Sync after Rename and Remove, have acknowledged
// survives a power cut; nothing else is promised to.
//
// One process owns the directory, see [Lock].
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/regctl/regctl/serve/storage"
)

// Private is the directory below the root that is the server's own. No key
// should begin with it.
const Private = ".regctl"

// attempts bounds how often a change is tried that finds its directory gone,
// because others remove empty directories at any time.
const attempts = 100

// bufSize is what ReadFrom writes at once: it takes a fifth less of the
// processor than 32 KiB, and more than this gains nothing.
const bufSize = 256 << 10

// Options of a [Backend]. The zero value is right for the real file system.
type Options struct {
	// NoSync never waits for the device: a power cut may take or tear
	// anything. For stores that may be thrown away.
	NoSync bool

	// FS is OS{} if nil.
	FS FS

	// Euid is os.Geteuid if nil. For root, what is made below a root
	// directory that is somebody else's is given to them.
	Euid func() int
}

// Backend keeps keys as files below a directory. Make one with [Open].
type Backend struct {
	fs     FS
	root   string
	noSync bool
	folds  bool
	owner  *ids // nil: as the process.
	dirs   dirs
	bufs   sync.Pool // Of *[]byte.
}

type ids struct{ uid, gid int }

// Open returns a backend on the directory root and makes it if it is missing.
// What an earlier process left in the system's caches is made durable first,
// where the system can do that (Linux). A root that takes no changes is no
// error. Systems other than unix are errors.ErrUnsupported with the real file
// system.
func Open(root string, o Options) (*Backend, error) {
	if o.FS == nil {
		if !servable {
			return nil, fmt.Errorf("a store in a local directory can be served on unix only: %w", errors.ErrUnsupported)
		}
		o.FS = OS{}
	}
	if o.Euid == nil {
		o.Euid = os.Geteuid
	}
	b := &Backend{fs: o.FS, root: strings.TrimRight(root, "/"), noSync: o.NoSync}
	b.dirs.off = o.NoSync
	b.bufs.New = func() any { buf := make([]byte, bufSize); return &buf }
	if err := makeRoot(b.fs, root); err != nil {
		return nil, fmt.Errorf("open store: %w", refused(err))
	}
	if err := b.prepare(o.Euid()); err != nil {
		return nil, fmt.Errorf("open store %s: %w", root, err)
	}
	return b, nil
}

func (b *Backend) prepare(euid int) error {
	info, err := b.fs.Stat(b.path("."))
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return errors.New("not a directory")
	}
	if b.owner, err = heir(b.fs, b.path("."), euid); err != nil {
		return err
	}
	err = refused(makePrivate(b.fs, b.path("."), b.owner))
	if err != nil && !errors.Is(err, storage.ErrReadOnly) && !errors.Is(err, storage.ErrFull) {
		return err
	}
	b.folds = b.probeCase()
	if b.noSync {
		return nil
	}
	return b.fs.SyncAll(b.path("."))
}

// probeCase finds the private directory under another name. Without it the
// root takes no changes, and none can collide.
func (b *Backend) probeCase() bool {
	was, err := b.fs.Stat(b.path(Private))
	if err != nil {
		return false
	}
	is, err := b.fs.Stat(b.path(strings.ToUpper(Private)))
	return err == nil && b.fs.SameFile(was, is)
}

// FoldsCase implements [storage.CaseFolder].
func (b *Backend) FoldsCase() bool { return b.folds }

// path returns the path of a key, or of the root for ".".
func (b *Backend) path(key string) string {
	if key == "." {
		return b.root + "/"
	}
	return b.root + "/" + key
}

// Stat implements [storage.Backend].
func (b *Backend) Stat(_ context.Context, key string) (storage.Info, error) {
	if err := checkDir(key); err != nil {
		return storage.Info{}, err
	}
	info, err := b.fs.Stat(b.path(key))
	if err != nil {
		return storage.Info{}, missing(err)
	}
	return infoOf(info), nil
}

func infoOf(info fs.FileInfo) storage.Info {
	i := storage.Info{Size: info.Size(), ModTime: info.ModTime(), Dir: info.IsDir()}
	if i.Dir {
		i.Size = 0
	}
	return i
}

// Open implements [storage.Backend]. On the real file system the reader is an
// *os.File.
func (b *Backend) Open(_ context.Context, key string) (io.ReadSeekCloser, storage.Info, error) {
	if err := storage.CheckKey(key); err != nil {
		return nil, storage.Info{}, err
	}
	f, err := b.fs.OpenFile(b.path(key), os.O_RDONLY, 0)
	if err != nil {
		return nil, storage.Info{}, missing(err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("open %s: is a directory: %w", key, fs.ErrInvalid)
	}
	if err != nil {
		return nil, storage.Info{}, errors.Join(err, f.Close())
	}
	return f, infoOf(info), nil
}

// List implements [storage.Backend].
func (b *Backend) List(ctx context.Context, dir string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		entries, err := b.readDir(dir)
		if err != nil {
			yield(storage.Entry{}, missing(err))
			return
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				yield(storage.Entry{}, err)
				return
			}
			entry, err := b.entry(dir, e)
			if !yield(entry, err) {
				return
			}
		}
	}
}

func (b *Backend) readDir(dir string) ([]fs.DirEntry, error) {
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	return b.fs.ReadDir(b.path(dir))
}

// entry follows symbolic links. One that is broken, or leads to a directory
// that it is in, is no directory: who walks down would never come to an end.
func (b *Backend) entry(dir string, e fs.DirEntry) (storage.Entry, error) {
	entry := storage.Entry{Name: e.Name(), Dir: e.IsDir()}
	if e.Type()&fs.ModeSymlink == 0 {
		return entry, nil
	}
	entry.Link = true
	info, err := b.fs.Stat(b.path(path.Join(dir, e.Name())))
	switch err = missing(err); {
	case errors.Is(err, fs.ErrNotExist):
		return entry, nil
	case err != nil:
		return storage.Entry{}, err
	}
	entry.Dir = info.IsDir() && !b.isAbove(info, dir)
	return entry, nil
}

// isAbove tells whether a directory is dir or one above it, up to that of the
// file system.
func (b *Backend) isAbove(info fs.FileInfo, dir string) bool {
	for name := path.Clean(b.path(dir)); ; name = path.Dir(name) {
		above, err := b.fs.Stat(name)
		if err == nil && b.fs.SameFile(info, above) {
			return true
		}
		if name == path.Dir(name) {
			return false
		}
	}
}

// checkDir is storage.CheckKey that takes the root, ".", too.
func checkDir(key string) error {
	if key == "." {
		return nil
	}
	return storage.CheckKey(key)
}
