package mem

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/regctl/regctl/serve/storage"
)

// node is a directory if it has children, even none, else a file.
type node struct {
	children map[string]*node
	list     []storage.Entry // What sorted returned last; nil: to be made. Never changed.
	data     []byte          // Only ever grows in place: readers hold what they opened.
	mod      time.Time
}

func newDir(now time.Time) *node { return &node{children: map[string]*node{}, mod: now} }

func (n *node) isDir() bool { return n.children != nil }

func (n *node) info() storage.Info {
	return storage.Info{Size: int64(len(n.data)), ModTime: n.mod, Dir: n.isDir()}
}

func (n *node) put(name string, child *node, now time.Time) {
	n.children[name], n.list, n.mod = child, nil, now
}

func (n *node) drop(name string, now time.Time) {
	delete(n.children, name)
	n.list, n.mod = nil, now
}

func (n *node) sorted() []storage.Entry {
	if n.list == nil {
		n.list = make([]storage.Entry, 0, len(n.children))
		for name, c := range n.children {
			n.list = append(n.list, storage.Entry{Name: name, Dir: c.isDir()})
		}
		slices.SortFunc(n.list, func(a, b storage.Entry) int { return strings.Compare(a.Name, b.Name) })
	}
	return n.list
}

// find returns what is under key, "." being the root. The caller holds mu.
func (b *Backend) find(key string) (*node, error) {
	n := b.root
	if key == "." {
		return n, nil
	}
	for name := range strings.SplitSeq(key, "/") {
		if n = n.children[name]; n == nil {
			return nil, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
		}
	}
	return n, nil
}

// makeDir returns the directory key and makes what is missing of it. The
// caller holds mu.
func (b *Backend) makeDir(key string) (*node, error) {
	n := b.root
	if key == "." {
		return n, nil
	}
	for name := range strings.SplitSeq(key, "/") {
		c := n.children[name]
		if c == nil {
			now := b.Now()
			c = newDir(now)
			n.put(name, c, now)
		}
		if !c.isDir() {
			return nil, fmt.Errorf("%s: %w", key, errNotDir)
		}
		n = c
	}
	return n, nil
}
