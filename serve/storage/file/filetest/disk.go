// Package filetest models a disk under a POSIX file system: what a program
// sees, and what of that is still there after the power went. Only what was
// fsynced is, or that and any part of the rest.
package filetest

import (
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/regctl/regctl/serve/storage/file"
)

var _ file.FS = (*Disk)(nil)

// Unlimited is the room of a disk that is never full.
const Unlimited = -1

// Disk is a file system in memory. Make one with [NewDisk]; set its fields
// before it is used.
type Disk struct {
	// Before is called ahead of each call that changes or syncs something,
	// with no lock held. Where it returns an error, the call does nothing and
	// returns that error as the file system would, in a *fs.PathError.
	Before func(Call) error

	// Torn lets a failing write write the first half.
	Torn bool

	// FoldCase takes names that differ in case alone for one.
	FoldCase bool

	// Now gives files and directories their time.
	Now func() time.Time

	mu       sync.Mutex
	root     *inode
	log      []op // What is not durable.
	syncs    []string
	calls    int
	devices  int
	room     int64 // Bytes left, or Unlimited.
	readOnly bool
}

// Call is a call that changes or syncs something.
type Call struct {
	N  int    // From 1, in the order of the calls.
	Op string // open, write, truncate, fsync, mkdir, rename, remove, chown, syncdir or syncall.
	// Name is the path; of a rename, the new one.
	Name string
}

// NewDisk returns an empty disk: there is only "/".
func NewDisk() *Disk {
	return &Disk{Now: time.Now, root: newDir(), room: Unlimited}
}

// SetRoom leaves n bytes for data that is written from now on; writes beyond
// write what fits and fail with ENOSPC. What is removed makes room again.
func (d *Disk) SetRoom(n int64) { d.mu.Lock(); defer d.mu.Unlock(); d.room = n }

// SetReadOnly makes all changes fail with EROFS, or none.
func (d *Disk) SetReadOnly(on bool) { d.mu.Lock(); defer d.mu.Unlock(); d.readOnly = on }

// Mount makes the directory name, which is empty, another device: nothing can
// be renamed into or out of it.
func (d *Disk) Mount(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find(name)
	if err != nil {
		return pathError("mount", name, err)
	}
	d.devices++
	n.dev = d.devices
	return nil
}

// Calls returns how many changes and syncs were called for.
func (d *Disk) Calls() int { d.mu.Lock(); defer d.mu.Unlock(); return d.calls }

// TakeSyncs returns what was synced since it was last called, in order: "file"
// or "dir" and a path.
func (d *Disk) TakeSyncs() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	syncs := d.syncs
	d.syncs = nil
	return syncs
}

// change runs do, a call that changes or syncs something.
func (d *Disk) change(op, name string, do func() error) error {
	d.mu.Lock()
	d.calls++
	c := Call{d.calls, op, path.Clean(name)}
	d.mu.Unlock()
	if d.Before != nil {
		if err := d.Before(c); err != nil {
			return pathError(op, name, err)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.readOnly && op != "syncdir" && op != "syncall" {
		return pathError(op, name, syscall.EROFS)
	}
	return pathError(op, name, do())
}

func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// OpenFile implements file.FS.
func (d *Disk) OpenFile(name string, flag int, perm fs.FileMode) (file.File, error) {
	var h file.File
	open := func() (err error) {
		h, err = d.open(name, flag, perm)
		return err
	}
	if flag&(os.O_CREATE|os.O_TRUNC) != 0 {
		err := d.change("open", name, open)
		return h, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	err := open()
	return h, pathError("open", name, err)
}

func (d *Disk) open(name string, flag int, perm fs.FileMode) (file.File, error) {
	if path.Clean(name) == "/" && flag == os.O_RDONLY {
		return &handle{d: d, n: d.root, name: name}, nil
	}
	dir, base, err := d.parent(name)
	if err != nil {
		return nil, err
	}
	n := dir.child(d.fold(base))
	writes := flag&(os.O_WRONLY|os.O_RDWR) != 0
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, syscall.ENOENT
	case n == nil:
		n = &inode{perm: perm, mod: d.Now(), dev: dir.dev}
		d.set(dir, base, n)
	case n.isDir() && writes:
		return nil, syscall.EISDIR
	}
	if flag&os.O_TRUNC != 0 {
		d.truncate(n, 0)
	}
	return &handle{d: d, n: n, name: name, writes: writes}, nil
}

// Stat implements file.Tree.
func (d *Disk) Stat(name string) (fs.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find(name)
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	return n.info(path.Base(name)), nil
}

// ReadDir implements file.Tree.
func (d *Disk) ReadDir(name string) ([]fs.DirEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find(name)
	if err == nil && !n.isDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	entries := make([]fs.DirEntry, 0, len(n.names))
	for _, e := range n.names {
		entries = append(entries, fs.FileInfoToDirEntry(e.node.info(e.name)))
	}
	slices.SortFunc(entries, byName)
	return entries, nil
}

// SameFile implements file.Tree.
func (d *Disk) SameFile(a, b fs.FileInfo) bool { return a.Sys() == b.Sys() }

// Owner implements file.Tree.
func (d *Disk) Owner(name string) (uid, gid int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find(name)
	if err != nil {
		return 0, 0, pathError("stat", name, err)
	}
	return n.uid, n.gid, nil
}

// Mkdir implements file.Changer.
func (d *Disk) Mkdir(name string, perm fs.FileMode) error {
	return d.change("mkdir", name, func() error {
		dir, base, err := d.parent(name)
		if err != nil {
			return err
		}
		if dir.child(d.fold(base)) != nil {
			return syscall.EEXIST
		}
		n := newDir()
		n.perm, n.mod, n.dev = perm, d.Now(), dir.dev
		d.set(dir, base, n)
		return nil
	})
}

// Rename implements file.Changer.
func (d *Disk) Rename(from, to string) error {
	return d.change("rename", to, func() error { return d.rename(from, to) })
}

// Remove implements file.Changer.
func (d *Disk) Remove(name string) error {
	return d.change("remove", name, func() error {
		dir, base, err := d.parent(name)
		if err != nil {
			return err
		}
		n := dir.child(d.fold(base))
		switch {
		case n == nil:
			return syscall.ENOENT
		case len(n.names) > 0:
			return syscall.ENOTEMPTY
		}
		d.drop(dir, base)
		return nil
	})
}

// Chown implements file.Changer. Owners are always durable.
func (d *Disk) Chown(name string, uid, gid int) error {
	return d.change("chown", name, func() error {
		n, err := d.find(name)
		if err != nil {
			return err
		}
		n.uid, n.gid = uid, gid
		return nil
	})
}

// SyncDir implements file.Durable. As fsync(2) does, it takes a file too.
func (d *Disk) SyncDir(name string) error {
	return d.change("syncdir", name, func() error {
		n, err := d.find(name)
		if err != nil {
			return err
		}
		d.syncs = append(d.syncs, "dir "+path.Clean(name))
		if !n.isDir() {
			d.syncFile(n, false)
		}
		d.syncNames(n)
		return nil
	})
}

// SyncAll implements file.Durable.
func (d *Disk) SyncAll(name string) error {
	return d.change("syncall", name, func() error {
		d.syncs = append(d.syncs, "all "+path.Clean(name))
		d.apply(d.log, func(n *inode) *state { return &n.saved })
		d.log = nil
		return nil
	})
}
