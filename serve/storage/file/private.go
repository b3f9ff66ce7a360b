package file

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"time"
)

// private is our own directory below the root of a store.
type private interface {
	OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error)
	Chmod(name string, mode fs.FileMode) error
	Lchown(name string, uid, gid int) error
	Chtimes(name string, read, written time.Time) error
	Close() error
}

// openPrivate opens it. If we are root and the store is another user's, nothing
// there may lead out of it: who owns the store could have us write to, and give
// them, any file of the machine.
func openPrivate(root string, owner *ids) (private, error) {
	dir := path.Join(root, Private)
	if owner == nil {
		return plain(dir), nil
	}
	store, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	in, err := store.OpenRoot(Private)
	if err != nil {
		return nil, err
	}
	if err := noLinks(dir); err != nil {
		in.Close()
		return nil, err
	}
	return in, nil
}

// noLinks is for those that open files there by their path.
func noLinks(dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type()&fs.ModeSymlink != 0 {
			err = fmt.Errorf("%s is a symbolic link, which root does not follow in a store of another user", name)
		}
		return err
	})
}

// plain is a directory whose owner may link from it to where they like.
type plain string

func (p plain) in(name string) string { return path.Join(string(p), name) }

func (p plain) OpenFile(name string, flag int, perm fs.FileMode) (*os.File, error) {
	return os.OpenFile(p.in(name), flag, perm)
}

func (p plain) Chmod(name string, mode fs.FileMode) error { return os.Chmod(p.in(name), mode) }

func (p plain) Lchown(name string, uid, gid int) error { return os.Lchown(p.in(name), uid, gid) }

func (p plain) Chtimes(name string, read, written time.Time) error {
	return os.Chtimes(p.in(name), read, written)
}

func (p plain) Close() error { return nil }
