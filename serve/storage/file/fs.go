package file

import (
	"io"
	"io/fs"
	"os"
)

// FS is the part of a POSIX file system that a [Backend] stands on. Names are
// slash-separated paths that begin with the root given to [Open]; errors are
// those of package os. [OS] is the real one.
type FS interface {
	Tree
	Changer
	Durable

	// OpenFile opens a file as os.OpenFile does.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
}

// Tree tells what is there. It follows symbolic links.
type Tree interface {
	Stat(name string) (fs.FileInfo, error)
	// ReadDir lists a directory sorted by name; it need not look at each file.
	ReadDir(name string) ([]fs.DirEntry, error)
	// SameFile tells whether both describe one file, as os.SameFile does.
	SameFile(a, b fs.FileInfo) bool
	// Owner returns who owns a file.
	Owner(name string) (uid, gid int, err error)
}

// Changer changes names.
type Changer interface {
	Mkdir(name string, perm fs.FileMode) error
	Rename(from, to string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// Chown gives a file away; it does not follow symbolic links.
	Chown(name string, uid, gid int) error
}

// Durable makes names durable.
type Durable interface {
	// SyncDir makes the names in a directory durable.
	SyncDir(name string) error
	// SyncAll makes all that is on the file system of name durable, where the
	// system can do that for one file system; else it does nothing.
	SyncAll(name string) error
}

// File is an open file.
type File interface {
	io.ReadSeekCloser
	io.Writer
	Stat() (fs.FileInfo, error)
	Sync() error
	Truncate(size int64) error
}

// OS is the file system of the machine. Its files are *os.File.
type OS struct{}

// OpenFile implements [FS].
func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Stat implements [Tree].
func (OS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// ReadDir implements [Tree].
func (OS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// SameFile implements [Tree].
func (OS) SameFile(a, b fs.FileInfo) bool { return os.SameFile(a, b) }

// Owner implements [Tree].
func (OS) Owner(name string) (uid, gid int, err error) {
	info, err := os.Stat(name)
	if err != nil {
		return 0, 0, err
	}
	return owner(info)
}

// Mkdir implements [Changer].
func (OS) Mkdir(name string, perm fs.FileMode) error { return os.Mkdir(name, perm) }

// Rename implements [Changer]. Like os.Rename, it never replaces a directory.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements [Changer].
func (OS) Remove(name string) error { return os.Remove(name) }

// Chown implements [Changer].
func (OS) Chown(name string, uid, gid int) error { return os.Lchown(name, uid, gid) }

// SyncDir implements [Durable].
func (OS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	if e := d.Close(); err == nil {
		err = e
	}
	return err
}

// SyncAll implements [Durable].
func (OS) SyncAll(name string) error { return syncAll(name) }
