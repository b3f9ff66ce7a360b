package filetest

import (
	"cmp"
	"io/fs"
	"path"
	"strings"
	"syscall"
	"time"
)

const nameMax = 255

// inode is a directory if it has names, even none, else a file.
type inode struct {
	state       // As programs see it.
	saved state // As the device has it.
	perm  fs.FileMode
	mod   time.Time
	dev   int
	uid   int
	gid   int
}

type state struct {
	names map[string]dirent // By folded name.
	data  []byte
}

type dirent struct {
	name string
	node *inode
}

func newDir() *inode {
	return &inode{
		state: state{names: map[string]dirent{}},
		saved: state{names: map[string]dirent{}},
		perm:  0o777,
	}
}

func (n *inode) isDir() bool { return n.names != nil }

func (n *inode) child(folded string) *inode { return n.names[folded].node }

func (n *inode) info(name string) fs.FileInfo {
	return fileInfo{name: name, node: n, size: int64(len(n.data)), mod: n.mod, dir: n.isDir()}
}

type fileInfo struct {
	name string
	node *inode
	size int64
	mod  time.Time
	dir  bool
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.size }
func (i fileInfo) ModTime() time.Time { return i.mod }
func (i fileInfo) IsDir() bool        { return i.dir }
func (i fileInfo) Sys() any           { return i.node }

func (i fileInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | i.node.perm
	}
	return i.node.perm
}

func byName(a, b fs.DirEntry) int { return cmp.Compare(a.Name(), b.Name()) }

func (d *Disk) fold(name string) string {
	if d.FoldCase {
		return strings.ToLower(name)
	}
	return name
}

// find returns the inode of a path. The caller holds mu.
func (d *Disk) find(name string) (*inode, error) {
	name = path.Clean(name)
	if name == "/" {
		return d.root, nil
	}
	dir, base, err := d.parent(name)
	if err != nil {
		return nil, err
	}
	if n := dir.child(d.fold(base)); n != nil {
		return n, nil
	}
	return nil, syscall.ENOENT
}

// parent returns the directory that name is in, and its last element.
func (d *Disk) parent(name string) (*inode, string, error) {
	name = path.Clean(name)
	if !path.IsAbs(name) || name == "/" {
		return nil, "", syscall.EINVAL
	}
	dir, err := d.find(path.Dir(name))
	if err != nil {
		return nil, "", err
	}
	base := path.Base(name)
	switch {
	case !dir.isDir():
		return nil, "", syscall.ENOTDIR
	case len(base) > nameMax:
		return nil, "", syscall.ENAMETOOLONG
	}
	return dir, base, nil
}

func (d *Disk) rename(from, to string) error {
	src, fromBase, err := d.parent(from)
	if err != nil {
		return err
	}
	n := src.child(d.fold(fromBase))
	if n == nil {
		return syscall.ENOENT
	}
	dst, toBase, err := d.parent(to)
	if err != nil {
		return err
	}
	old := dst.child(d.fold(toBase))
	switch {
	case n.dev != dst.dev:
		return syscall.EXDEV
	case old == n && fromBase != toBase: // Only the case changes.
	case old != nil && old.isDir():
		return syscall.EEXIST
	case old == n:
		return nil
	case strings.HasPrefix(path.Clean(to), path.Clean(from)+"/"):
		return syscall.EINVAL
	case old != nil && n.isDir():
		return syscall.ENOTDIR
	}
	d.move(src, fromBase, dst, toBase, n)
	return nil
}
