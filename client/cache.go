package client

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// Cache keeps content that never changes: manifests and image configs, by
// their digests. It is safe for concurrent use, and may forget.
type Cache interface {
	Get(d oci.Digest) ([]byte, bool)
	Put(d oci.Digest, content []byte)
}

// DirCache is a [Cache] in a directory, which several processes may use at
// once. What goes wrong with it costs nothing but speed.
type DirCache struct {
	dir string
	max int64
	now func() time.Time

	mu   sync.Mutex
	size int64 // Of all files in bytes, as far as this process knows; -1: not at all.
}

// fresh is for how long a file that is used again is not marked as used.
const fresh = 24 * time.Hour

// NewDirCache returns a cache of about limit bytes in dir, which is made when
// there is something to keep. What was not used for longest goes first. A nil
// now is time.Now.
func NewDirCache(dir string, limit int64, now func() time.Time) *DirCache {
	if now == nil {
		now = time.Now
	}
	return &DirCache{dir: dir, max: limit, now: now, size: -1}
}

func (c *DirCache) path(d oci.Digest) string {
	hex := d.Encoded()
	return filepath.Join(c.dir, string(d.Algorithm()), hex[:2], hex)
}

// Get returns the content with this digest if it is there and whole.
func (c *DirCache) Get(d oci.Digest) ([]byte, bool) {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return nil, false
	}
	path := c.path(d)
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, false
	}
	if d.Algorithm().FromBytes(content) != d {
		_ = os.Remove(path) // The next Put brings it back.
		return nil, false
	}
	if info, err := os.Stat(path); err == nil && c.now().Sub(info.ModTime()) > fresh {
		_ = os.Chtimes(path, c.now(), c.now())
	}
	return content, true
}

// Put keeps content if it has this digest.
func (c *DirCache) Put(d oci.Digest, content []byte) {
	if _, err := oci.ParseDigest(string(d)); err != nil || d.Algorithm().FromBytes(content) != d || int64(len(content)) > c.max {
		return
	}
	if c.write(c.path(d), content) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.size >= 0 {
		c.size += int64(len(content))
	}
	if c.size < 0 || c.size > c.max {
		c.size = c.shrink()
	}
}

// write puts a whole file in place or none.
func (c *DirCache) write(path string, content []byte) error {
	if _, err := os.Lstat(path); err == nil {
		return fs.ErrExist
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = cmp.Or(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // It is of no use to anybody.
	}
	return err
}

// shrink removes what was not used for longest until there is room again, and
// returns the size of what is left.
func (c *DirCache) shrink() int64 {
	type file struct {
		path string
		info fs.FileInfo
	}
	var files []file
	var size int64
	_ = filepath.WalkDir(c.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil
		}
		if info, err := e.Info(); err == nil {
			files = append(files, file{path, info})
			size += info.Size()
		}
		return nil
	})
	if size <= c.max {
		return size
	}
	slices.SortFunc(files, func(a, b file) int { return a.info.ModTime().Compare(b.info.ModTime()) })
	for _, f := range files {
		if size <= c.max/10*9 {
			break
		}
		if os.Remove(f.path) == nil {
			size -= f.info.Size()
		}
	}
	return size
}
