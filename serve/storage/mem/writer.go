package mem

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/regctl/regctl/serve/storage"
)

// reader is an opened file: what it held then.
type reader struct{ *bytes.Reader }

func newReader(data []byte) reader { return reader{bytes.NewReader(data)} }

// Close does nothing.
func (reader) Close() error { return nil }

// writer appends to a node that is already in the tree, under key.
type writer struct {
	b    *Backend
	key  string
	node *node // nil once the writer has ended.
}

var errEnded = fmt.Errorf("scratch: %w", fs.ErrClosed)

func (w *writer) Write(p []byte) (int, error) {
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	if w.node == nil {
		return 0, errEnded
	}
	w.node.data = append(w.node.data, p...)
	w.node.mod = w.b.Now()
	return len(p), nil
}

func (w *writer) ReadFrom(r io.Reader) (int64, error) {
	// The struct hides ReadFrom: io.Copy would call it again.
	return io.Copy(struct{ io.Writer }{w}, r)
}

func (w *writer) Sync() error {
	if w.node == nil {
		return errEnded
	}
	return nil
}

func (w *writer) Commit(ctx context.Context, to string) error {
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	if w.node == nil {
		return errEnded
	}
	err := w.commit(ctx, to)
	if err != nil {
		w.remove()
		w.rmdir()
	}
	w.node = nil
	return err
}

func (w *writer) commit(ctx context.Context, to string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := storage.CheckKey(to); err != nil {
		return err
	}
	if n, err := w.b.find(w.key); err != nil || n != w.node {
		return fmt.Errorf("scratch %s: %w", w.key, fs.ErrNotExist)
	}
	return w.b.move(w.node, w.key, to)
}

func (w *writer) Close() error {
	w.node = nil
	return nil
}

func (w *writer) Cancel() error {
	w.b.mu.Lock()
	defer w.b.mu.Unlock()
	if w.node == nil {
		return nil
	}
	w.remove()
	w.node = nil
	w.rmdir()
	return nil
}

// remove takes the scratch out of the tree, if it is still there.
func (w *writer) remove() {
	dir, err := w.b.find(path.Dir(w.key))
	if err == nil && dir.children[path.Base(w.key)] == w.node {
		dir.drop(path.Base(w.key), w.b.Now())
	}
}

// rmdir removes the scratch's directory if nothing is in it.
func (w *writer) rmdir() {
	dir := path.Dir(w.key)
	if dir == "." {
		return
	}
	if n, err := w.b.find(dir); err != nil || !n.isDir() || len(n.children) > 0 {
		return
	}
	if parent, err := w.b.find(path.Dir(dir)); err == nil {
		parent.drop(path.Base(dir), w.b.Now())
	}
}
