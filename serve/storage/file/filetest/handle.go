package filetest

import (
	"bytes"
	"io"
	"io/fs"
	"path"
	"syscall"

	"github.com/regctl/regctl/serve/storage/file"
)

var _ file.File = (*handle)(nil)

// handle is an open file.
type handle struct {
	d      *Disk
	n      *inode
	name   string
	writes bool
	off    int64
	closed bool
}

// check returns why the handle cannot be used, nil if it can.
func (h *handle) check(writing bool) error {
	switch {
	case h.closed:
		return fs.ErrClosed
	case h.n.isDir():
		return syscall.EISDIR
	case writing && !h.writes:
		return syscall.EBADF
	}
	return nil
}

// Read implements io.Reader.
func (h *handle) Read(p []byte) (int, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if err := h.check(false); err != nil {
		return 0, pathError("read", h.name, err)
	}
	if h.off >= int64(len(h.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.n.data[h.off:])
	h.off += int64(n)
	return n, nil
}

// Write implements io.Writer.
func (h *handle) Write(p []byte) (int, error) {
	n, tried := 0, false
	err := h.d.change("write", h.name, func() (err error) {
		tried = true
		n, err = h.write(p)
		return err
	})
	if !tried && h.d.Torn {
		h.d.mu.Lock()
		defer h.d.mu.Unlock()
		n, _ = h.write(p[:len(p)/2])
	}
	return n, err
}

func (h *handle) write(p []byte) (int, error) {
	if err := h.check(true); err != nil {
		return 0, err
	}
	was := int64(len(h.n.data))
	size := max(was, h.off+int64(len(p)))
	if room := h.d.room; room != Unlimited {
		more := size - was
		if more > room {
			p = p[:max(0, int64(len(p))-(more-room))]
			size = max(was, h.off+int64(len(p)))
			h.d.room -= size - was
			h.put(p, size)
			return len(p), syscall.ENOSPC
		}
		h.d.room -= more
	}
	h.put(p, size)
	return len(p), nil
}

func (h *handle) put(p []byte, size int64) {
	h.n.mod = h.d.Now()
	h.d.note(op{write: &write{node: h.n, off: h.off, data: bytes.Clone(p), size: size}})
	h.off += int64(len(p))
}

// Seek implements io.Seeker.
func (h *handle) Seek(off int64, whence int) (int64, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if err := h.check(false); err != nil {
		return 0, pathError("seek", h.name, err)
	}
	switch whence {
	case io.SeekCurrent:
		off += h.off
	case io.SeekEnd:
		off += int64(len(h.n.data))
	}
	if off < 0 {
		return 0, pathError("seek", h.name, syscall.EINVAL)
	}
	h.off = off
	return off, nil
}

// Stat implements file.File.
func (h *handle) Stat() (fs.FileInfo, error) {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if h.closed {
		return nil, pathError("stat", h.name, fs.ErrClosed)
	}
	return h.n.info(path.Base(h.name)), nil
}

// Sync implements file.File. After it failed, what was not durable never will
// be, and the next Sync does not tell: so do systems.
func (h *handle) Sync() error {
	tried := false
	err := h.d.change("fsync", h.name, func() error {
		tried = true
		if err := h.check(false); err != nil {
			return err
		}
		h.d.syncs = append(h.d.syncs, "file "+path.Clean(h.name))
		h.d.syncFile(h.n, false)
		return nil
	})
	if !tried {
		h.d.mu.Lock()
		defer h.d.mu.Unlock()
		h.d.syncFile(h.n, true)
	}
	return err
}

// Truncate implements file.File.
func (h *handle) Truncate(size int64) error {
	return h.d.change("truncate", h.name, func() error {
		if err := h.check(true); err != nil {
			return err
		}
		h.d.truncate(h.n, size)
		return nil
	})
}

// Close implements io.Closer.
func (h *handle) Close() error {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	if h.closed {
		return pathError("close", h.name, fs.ErrClosed)
	}
	h.closed = true
	return nil
}
