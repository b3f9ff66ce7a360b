package file

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// placing puts a finished file under its key, and takes it back if that
// cannot be made durable.
type placing struct {
	b    *Backend
	to   string
	ours fs.FileInfo // The file to be placed.
	old  File        // What was under to, still open as its name goes; nil: nothing.
	keep bool        // What was under to is unknown: nothing is taken back.
}

// place moves the durable file under from to its key.
func (p *placing) place(from string) error {
	old, err := p.b.fs.OpenFile(p.b.path(p.to), os.O_RDONLY, 0)
	switch {
	case err == nil:
		p.old = old
	case !errors.Is(missing(err), fs.ErrNotExist):
		p.keep = true
	}
	err = p.rename(from)
	if errors.Is(err, syscall.EXDEV) {
		err = p.copy(from)
	}
	return err
}

func (p *placing) close() {
	if p.old != nil {
		_ = p.old.Close() // Only ever read.
	}
}

func (p *placing) rename(from string) error {
	return p.b.inDir(path.Dir(p.to), func() error {
		return p.b.fs.Rename(p.b.path(from), p.b.path(p.to))
	})
}

// copy places a copy of from, which is on another file system: a directory of
// the store is a symbolic link.
func (p *placing) copy(from string) error {
	src, err := p.b.fs.OpenFile(p.b.path(from), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	tmp, err := p.beside(src)
	if err != nil {
		return err
	}
	if err := p.rename(tmp); err != nil {
		return errors.Join(err, p.b.remove(tmp))
	}
	// The copy stands: scratch that cannot be removed is for the collector.
	_ = p.b.remove(from)
	return nil
}

// beside copies src, durably, into a new file in the directory of to, whose
// key it returns. That file is then ours.
func (p *placing) beside(src io.Reader) (string, error) {
	w := &writer{b: p.b, key: p.to + "." + rand.Text() + ".tmp", dirty: true}
	var err error
	if w.file, err = p.b.begin(w.key); err != nil {
		return "", err
	}
	if _, err = w.ReadFrom(src); err == nil {
		err = w.Sync()
	}
	if err == nil {
		p.ours, err = w.file.Stat()
	}
	if err != nil {
		return "", errors.Join(err, w.Cancel())
	}
	if err := w.end(); err != nil {
		return "", errors.Join(err, w.discard())
	}
	return w.key, nil
}

// undo takes the file from its key again and puts back what was there, unless
// another commit has put something else there meanwhile.
func (p *placing) undo() error {
	is, err := p.b.fs.Stat(p.b.path(p.to))
	if p.keep || err != nil || !p.b.fs.SameFile(is, p.ours) {
		return nil
	}
	if p.old == nil {
		err = p.b.remove(p.to)
	} else {
		var tmp string
		if tmp, err = p.beside(p.old); err == nil {
			err = p.rename(tmp)
		}
	}
	// The caller has an error already; a second one of the device adds nothing.
	_ = p.b.syncDirs([]string{path.Dir(p.to)})
	return err
}
