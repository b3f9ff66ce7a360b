package file

import (
	"errors"
	"io/fs"
	"path"
)

// Permissions, less umask: as registry:2 makes them, and our own.
const (
	dirPerm     = 0o777
	filePerm    = 0o666
	privatePerm = 0o700
)

// makeRoot makes the directory root and what is missing above it, durably.
func makeRoot(f FS, root string) error {
	if _, err := f.Stat(root); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := path.Dir(root)
	if parent == root {
		return &fs.PathError{Op: "mkdir", Path: root, Err: fs.ErrNotExist}
	}
	if err := makeRoot(f, parent); err != nil {
		return err
	}
	if err := f.Mkdir(root, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return f.SyncDir(parent)
}

// heir returns whom new files are to be given: the owner of root if we are
// root and they are not.
func heir(f FS, root string, euid int) (*ids, error) {
	if euid != 0 {
		return nil, nil
	}
	uid, gid, err := f.Owner(root)
	if err != nil || uid == 0 {
		return nil, err
	}
	return &ids{uid, gid}, nil
}

// makePrivate makes our own directory below root.
func makePrivate(f FS, root string, to *ids) error {
	name := path.Join(root, Private)
	if err := f.Mkdir(name, privatePerm); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return err
	}
	if to == nil {
		return nil
	}
	return f.Chown(name, to.uid, to.gid)
}
