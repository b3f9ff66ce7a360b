// Package mem keeps a [storage.Backend] in memory: a tree of directories and
// byte slices under one lock, gone with the process. It behaves as a file
// system does, so that what is tested on it holds on disk.
package mem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/regctl/regctl/serve/storage"
)

var errNotDir = errors.New("not a directory")

// Backend is a tree in memory. Make one with [New].
type Backend struct {
	// Now gives files and directories their time. It may be set before the
	// first use.
	Now func() time.Time

	mu   sync.RWMutex
	root *node
}

// New returns an empty backend.
func New() *Backend {
	return &Backend{Now: time.Now, root: newDir(time.Now())}
}

// Stat implements [storage.Backend].
func (b *Backend) Stat(_ context.Context, key string) (storage.Info, error) {
	if err := checkDir(key); err != nil {
		return storage.Info{}, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	n, err := b.find(key)
	if err != nil {
		return storage.Info{}, err
	}
	return n.info(), nil
}

// Open implements [storage.Backend].
func (b *Backend) Open(_ context.Context, key string) (io.ReadSeekCloser, storage.Info, error) {
	if err := storage.CheckKey(key); err != nil {
		return nil, storage.Info{}, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	n, err := b.find(key)
	if err != nil {
		return nil, storage.Info{}, err
	}
	if n.isDir() {
		return nil, storage.Info{}, fmt.Errorf("open %s: is a directory: %w", key, fs.ErrInvalid)
	}
	return newReader(n.data), n.info(), nil
}

// Create implements [storage.Backend].
func (b *Backend) Create(_ context.Context, key string, off int64) (storage.Writer, error) {
	if err := storage.CheckKey(key); err != nil {
		return nil, err
	}
	if off < 0 {
		return nil, fmt.Errorf("create %s at %d: %w", key, off, fs.ErrInvalid)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var (
		n   *node
		err error
	)
	if off == 0 {
		n, err = b.begin(key)
	} else {
		n, err = b.resume(key, off)
	}
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", key, err)
	}
	return &writer{b: b, key: key, node: n}, nil
}

func (b *Backend) begin(key string) (*node, error) {
	dir, err := b.makeDir(path.Dir(key))
	if err != nil {
		return nil, err
	}
	if old := dir.children[path.Base(key)]; old != nil && old.isDir() {
		return nil, fmt.Errorf("is a directory: %w", fs.ErrInvalid)
	}
	n := &node{mod: b.Now()}
	dir.put(path.Base(key), n, n.mod)
	return n, nil
}

func (b *Backend) resume(key string, off int64) (*node, error) {
	n, err := b.find(key)
	switch {
	case err != nil:
		return nil, err
	case n.isDir():
		return nil, fmt.Errorf("is a directory: %w", fs.ErrInvalid)
	case int64(len(n.data)) < off:
		return nil, fmt.Errorf("%d bytes, at least %d expected: %w", len(n.data), off, io.ErrUnexpectedEOF)
	}
	// The limit on the capacity keeps writes out of what readers see.
	n.data = n.data[:off:off]
	return n, nil
}

// List implements [storage.Backend].
func (b *Backend) List(ctx context.Context, dir string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		entries, err := b.entries(dir)
		if err != nil {
			yield(storage.Entry{}, err)
			return
		}
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				yield(storage.Entry{}, err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (b *Backend) entries(dir string) ([]storage.Entry, error) {
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.find(dir)
	if err != nil {
		return nil, err
	}
	if !n.isDir() {
		return nil, fmt.Errorf("list %s: %w: %w", dir, errNotDir, fs.ErrNotExist)
	}
	return n.sorted(), nil
}

// Rename implements [storage.Backend].
func (b *Backend) Rename(_ context.Context, from, to string) error {
	if err := errors.Join(storage.CheckKey(from), storage.CheckKey(to)); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.find(from)
	if err != nil {
		return err
	}
	if strings.HasPrefix(to, from+"/") {
		return fmt.Errorf("rename %s into itself: %w", from, fs.ErrInvalid)
	}
	return b.move(n, from, to)
}

// move puts n, found under from, under to.
func (b *Backend) move(n *node, from, to string) error {
	dir, err := b.makeDir(path.Dir(to))
	if err != nil {
		return fmt.Errorf("rename %s to %s: %w", from, to, err)
	}
	old := dir.children[path.Base(to)]
	if old == n {
		return nil
	}
	if old != nil && (old.isDir() || n.isDir()) {
		return fmt.Errorf("rename %s to %s: %w", from, to, fs.ErrExist)
	}
	now := b.Now()
	dir.put(path.Base(to), n, now)
	if src, err := b.find(path.Dir(from)); err == nil {
		src.drop(path.Base(from), now)
	}
	return nil
}

// Remove implements [storage.Backend].
func (b *Backend) Remove(_ context.Context, key string) error {
	if err := storage.CheckKey(key); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := b.find(key)
	if err != nil {
		return err
	}
	if len(n.children) > 0 {
		return fmt.Errorf("remove %s: %w", key, storage.ErrNotEmpty)
	}
	dir, err := b.find(path.Dir(key))
	if err != nil {
		return err
	}
	dir.drop(path.Base(key), b.Now())
	return nil
}

// checkDir is storage.CheckKey that takes the root, ".", too.
func checkDir(key string) error {
	if key == "." {
		return nil
	}
	return storage.CheckKey(key)
}
