// Package storage keeps bytes under keys. A [Backend] knows nothing of
// registries: package meta decides which key means what.
//
// Keys are slash-separated paths without empty, "." or ".." elements, relative
// to the root of the backend; "." is that root for Stat, List and Sync. What
// stands before the last slash is a directory: it is made when something is
// put into it, and no key becomes a directory or the reverse. Backends are in
// folders beside this one; all of them pass storagetest.Run.
package storage

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
	"time"
)

// Backend is a place for bytes. Implementations are safe for concurrent use.
// A missing key is an error for which errors.Is(err, fs.ErrNotExist) holds, a
// malformed one is fs.ErrInvalid; a full device is [ErrFull], one that takes
// no changes is [ErrReadOnly].
type Backend interface {
	// Stat tells about a key or a directory.
	Stat(ctx context.Context, key string) (Info, error)

	// Open opens a key for reading; a directory is fs.ErrInvalid. The reader
	// is an *os.File where it can be. The caller closes it. It goes on
	// reading what it opened when the key is replaced or removed meanwhile.
	Open(ctx context.Context, key string) (io.ReadSeekCloser, Info, error)

	// Create opens scratch under key, which nobody but the caller uses at the
	// same time, though Stat and List see it. With off 0 it begins anew; else what is there is kept up to
	// off bytes and written on from there, and scratch that is missing or
	// shorter is an error (fs.ErrNotExist, io.ErrUnexpectedEOF).
	Create(ctx context.Context, key string, off int64) (Writer, error)

	// List yields what is directly in dir, in bytewise order of names. A
	// missing dir is fs.ErrNotExist. Entries that vanish meanwhile may or may
	// not be yielded.
	List(ctx context.Context, dir string) iter.Seq2[Entry, error]

	// Rename moves a key, replacing what is under to, or a whole directory,
	// to where nothing is. It is durable once both directories were synced.
	Rename(ctx context.Context, from, to string) error

	// Remove removes one key or one empty directory; a directory that is not
	// empty is an error for which errors.Is(err, [ErrNotEmpty]) holds. It is
	// durable once the directory it was in was synced.
	Remove(ctx context.Context, key string) error
}

// Writer appends to scratch. It ends with Commit, Close or Cancel; after one
// of these, Close and Cancel do nothing. After a Write or Sync that failed it
// cannot be committed.
type Writer interface {
	io.Writer
	io.ReaderFrom

	// Sync makes what was written so far durable. Commit does it too; Sync
	// lets a caller wait for the device before it takes a lock.
	Sync() error

	// Commit makes what was written durable and visible under key to, in one
	// step: whatever was under to is seen until then, and after a crash it is
	// either there or replaced as a whole. When Commit fails, the scratch is
	// removed as by Cancel, and to is what it was.
	Commit(ctx context.Context, to string) error

	// Close keeps the scratch for a later Create, not necessarily over a
	// power cut.
	Close() error

	// Cancel removes the scratch, and its directory if nothing else is in it.
	Cancel() error
}

// Info describes a key.
type Info struct {
	Size    int64
	ModTime time.Time
	Dir     bool
}

// Entry is a name in a directory.
type Entry struct {
	Name string
	Dir  bool // Follows symbolic links.
	Link bool // It is a symbolic link. One that leads nowhere, or to a directory it is in, is no Dir.
}

// Errors that every backend reports alike.
var (
	ErrFull     = errors.New("no space left")
	ErrReadOnly = errors.New("storage takes no changes")
	ErrNotEmpty = errors.New("directory not empty")
	ErrTooLarge = errors.New("larger than it can be")
)

// Syncer is implemented by backends whose Rename and Remove are not durable
// by themselves.
type Syncer interface {
	// Sync makes all renames into and out of dir and removals from dir
	// durable. A missing dir is no error: its parents were changed later.
	Sync(ctx context.Context, dir string) error
}

// Sync makes changes of names in dir durable; see [Syncer].
func Sync(ctx context.Context, b Backend, dir string) error {
	if s, ok := b.(Syncer); ok {
		return s.Sync(ctx, dir)
	}
	return nil
}

// CaseFolder is implemented by backends that can tell that they take keys
// differing only in case for the same.
type CaseFolder interface{ FoldsCase() bool }

// FoldsCase tells whether b takes keys that differ only in case for the same.
func FoldsCase(b Backend) bool {
	f, ok := b.(CaseFolder)
	return ok && f.FoldsCase()
}

// Pending is scratch on its way to a key.
type Pending struct {
	Writer Writer
	To     string
}

// BatchCommitter is implemented by backends that commit several writers in
// less time than one after the other.
type BatchCommitter interface {
	// CommitAll is what the function [CommitAll] says.
	CommitAll(ctx context.Context, batch []Pending) error
}

// CommitAll commits writers, which become visible in the order given and are
// all durable when it returns. When it fails, each is either visible as a whole
// or what was under its key is untouched. All writers have ended either way.
func CommitAll(ctx context.Context, b Backend, batch ...Pending) error {
	if c, ok := b.(BatchCommitter); ok && len(batch) > 1 {
		return c.CommitAll(ctx, batch)
	}
	for i, p := range batch {
		if err := p.Writer.Commit(ctx, p.To); err != nil {
			for _, rest := range batch[i+1:] {
				err = errors.Join(err, rest.Writer.Cancel())
			}
			return err
		}
	}
	return nil
}

// scratchSuffix ends the keys of scratch made by [Prepare], as registry:2 names
// its own.
const scratchSuffix = ".tmp"

// IsScratch tells whether a key is that of scratch made by [Prepare], which is
// either under way to a key beside it or was left by a crash.
func IsScratch(key string) bool { return strings.HasSuffix(key, scratchSuffix) }

// Prepare writes data to scratch beside key, to be committed; see [IsScratch].
func Prepare(ctx context.Context, b Backend, key string, data []byte) (Pending, error) {
	w, err := b.Create(ctx, key+"."+rand.Text()+scratchSuffix, 0)
	if err != nil {
		return Pending{}, err
	}
	if _, err := w.Write(data); err != nil {
		return Pending{}, errors.Join(err, w.Cancel())
	}
	return Pending{Writer: w, To: key}, nil
}

// Put stores data under key, durably and in one step; see [Prepare].
func Put(ctx context.Context, b Backend, key string, data []byte) error {
	p, err := Prepare(ctx, b, key, data)
	if err != nil {
		return err
	}
	return p.Writer.Commit(ctx, key)
}

// Getter is implemented by backends that read something small in less time
// than by Open.
type Getter interface {
	// Get is what the function [Get] says.
	Get(ctx context.Context, key string, most int64) ([]byte, Info, error)
}

// Get returns what is under key, [ErrTooLarge] if that is more than most bytes.
func Get(ctx context.Context, b Backend, key string, most int64) ([]byte, Info, error) {
	if g, ok := b.(Getter); ok {
		return g.Get(ctx, key, most)
	}
	r, info, err := b.Open(ctx, key)
	if err != nil {
		return nil, Info{}, err
	}
	defer r.Close()
	if info.Size > most {
		return nil, info, fmt.Errorf("%s: %w: %d bytes, at most %d expected", key, ErrTooLarge, info.Size, most)
	}
	buf := bytes.NewBuffer(make([]byte, 0, info.Size+bytes.MinRead))
	if _, err := buf.ReadFrom(io.LimitReader(r, most)); err != nil {
		return nil, info, fmt.Errorf("read %s: %w", key, err)
	}
	return buf.Bytes(), info, nil
}

// Resolver is implemented by backends that have symbolic links.
type Resolver interface {
	// Resolve returns where a key or directory really is: the same for all
	// names of one thing, and where its parent really is for what is no link.
	Resolve(ctx context.Context, key string) (string, error)
}

// Resolve returns where a key or directory really is; see [Resolver]. It is
// fs.ErrNotExist if there is none, as behind a link that leads nowhere.
func Resolve(ctx context.Context, b Backend, key string) (string, error) {
	if r, ok := b.(Resolver); ok {
		return r.Resolve(ctx, key)
	}
	_, err := b.Stat(ctx, key)
	return key, err
}

// CheckKey returns fs.ErrInvalid with the reason unless key is well-formed.
func CheckKey(key string) error {
	if !fs.ValidPath(key) || key == "." || strings.ContainsAny(key, "\x00\\") {
		return fmt.Errorf("key %q: %w", key, fs.ErrInvalid)
	}
	return nil
}
