package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/regctl/regctl/serve/storage"
)

// writer appends to a scratch file.
type writer struct {
	b     *Backend
	key   string
	file  File  // nil once the writer has ended.
	dirty bool  // Something may not be durable.
	err   error // The first that went wrong: such scratch is never committed.
	lost  bool  // What was written may be lost: such scratch is not kept.
}

var errEnded = fmt.Errorf("scratch: %w", fs.ErrClosed)

// Create implements [storage.Backend].
func (b *Backend) Create(_ context.Context, key string, off int64) (storage.Writer, error) {
	if err := storage.CheckKey(key); err != nil {
		return nil, err
	}
	var (
		f   File
		err error
	)
	switch {
	case off < 0:
		err = fs.ErrInvalid
	case off == 0:
		f, err = b.begin(key)
	default:
		f, err = b.resume(key, off)
	}
	if err != nil {
		return nil, fmt.Errorf("create %s at %d: %w", key, off, err)
	}
	return &writer{b: b, key: key, file: f, dirty: true}, nil
}

// begin opens an empty file.
func (b *Backend) begin(key string) (File, error) {
	var f File
	err := b.inDir(path.Dir(key), func() (err error) {
		f, err = b.fs.OpenFile(b.path(key), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, filePerm)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := b.adopt(key); err != nil {
		return nil, errors.Join(refused(err), f.Close(), b.remove(key))
	}
	return f, nil
}

// resume opens a file that is there already and cuts it at off.
func (b *Backend) resume(key string, off int64) (File, error) {
	f, err := b.fs.OpenFile(b.path(key), os.O_WRONLY, 0)
	if err != nil {
		return nil, refused(missing(err))
	}
	if err := cut(f, off); err != nil {
		return nil, errors.Join(refused(err), f.Close())
	}
	return f, nil
}

func cut(f File, off int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() < off {
		return fmt.Errorf("%d bytes: %w", info.Size(), io.ErrUnexpectedEOF)
	}
	if info.Size() > off {
		if err := f.Truncate(off); err != nil {
			return err
		}
	}
	_, err = f.Seek(off, io.SeekStart)
	return err
}

// Write implements [storage.Writer].
func (w *writer) Write(p []byte) (int, error) {
	if w.file == nil {
		return 0, errEnded
	}
	if len(p) == 0 {
		return 0, nil
	}
	w.dirty = true
	n, err := w.file.Write(p)
	if err != nil {
		err = refused(err)
		w.fail(err)
	}
	return n, err
}

// ReadFrom implements [storage.Writer]. It writes only full buffers: what
// comes from a connection comes in small pieces.
func (w *writer) ReadFrom(r io.Reader) (int64, error) {
	p := w.b.bufs.Get().(*[]byte)
	defer w.b.bufs.Put(p)
	var sum int64
	for {
		buf, rerr := fill(*p, r)
		n, err := w.Write(buf)
		sum += int64(n)
		switch {
		case err != nil:
			return sum, err
		case rerr == io.EOF:
			return sum, nil
		case rerr != nil:
			return sum, rerr
		}
	}
}

// fill reads until buf is full or r has no more, and returns what it read.
func fill(buf []byte, r io.Reader) (read []byte, err error) {
	n := 0
	for n < len(buf) && err == nil {
		var m int
		m, err = r.Read(buf[n:])
		n += m
	}
	return buf[:n], err
}

func (w *writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// Sync implements [storage.Writer].
func (w *writer) Sync() error {
	switch {
	case w.file == nil:
		return errEnded
	case w.err != nil:
		return w.err
	case !w.dirty || w.b.noSync:
		return nil
	}
	if err := w.file.Sync(); err != nil {
		// The system may have dropped the pages and call the next sync good.
		w.lost = true
		w.fail(refused(err))
		return w.err
	}
	w.dirty = false
	return nil
}

// Close implements [storage.Writer]. After a failed Sync nobody can tell what
// is in the scratch, and it is removed.
func (w *writer) Close() error {
	if w.lost {
		return w.Cancel()
	}
	return w.end()
}

// Cancel implements [storage.Writer].
func (w *writer) Cancel() error {
	if w.file == nil {
		return nil
	}
	// An error of close says that data is lost, which no longer matters.
	_ = w.end()
	return w.discard()
}

// end closes the file, once.
func (w *writer) end() error {
	if w.file == nil {
		return nil
	}
	f := w.file
	w.file = nil
	return refused(f.Close())
}

// discard removes the scratch and its directory if that is empty then.
func (w *writer) discard() error {
	err := w.b.remove(w.key)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	w.b.rmdir(path.Dir(w.key))
	return err
}

// Commit implements [storage.Writer].
func (w *writer) Commit(ctx context.Context, to string) error {
	return w.b.CommitAll(ctx, []storage.Pending{{Writer: w, To: to}})
}
