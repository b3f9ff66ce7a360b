// Package layout holds images in files: a directory in the OCI image layout,
// or an archive of one, is an [oci.Registry] like any other.
//
// A layout is one heap of content and one list, index.json, that names some of
// it. What a registry has besides is told from these: an entry names a tag, or
// a whole reference with a repository in it; what its manifest names is in that
// repository, too; and content that nothing names belongs to whoever asks, so
// that a copy which was broken off goes on where it was.
package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
)

// Unnamed is the repository of what a layout holds without saying of which
// repository it is, as most tools write it.
const Unnamed = "layout"

const (
	ownDir   = ".regctl" // Inside a layout: its lock, and what is unfinished.
	maxIndex = 64 << 20  // Bytes of an index.json that are read.
)

// Directory is an OCI image layout directory. Several processes may read and
// write it at the same time, each through a Directory or as the tools that
// replace index.json as a whole do.
//
// A tag is taken to be pushed when its manifest was last stored. DeleteRepo and
// DeleteBlob free the space of what nothing else in the layout needs, and
// DeleteManifest that of the manifest.
type Directory struct {
	reader
	dir     string
	now     func() time.Time
	uploads uploads
}

var _ oci.Registry = (*Directory)(nil)

// Open returns the layout in dir. Without one, or if it is of another version,
// the error is [oci.NotFound]. Nothing is written until something is pushed.
func Open(dir string) (*Directory, error) {
	raw, err := os.ReadFile(filepath.Join(dir, ocispec.ImageLayoutFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, oci.Errorf(oci.NotFound, "%s is no OCI image layout: it has no file %s", dir, ocispec.ImageLayoutFile)
	}
	if err != nil {
		return nil, err
	}
	if err := checkVersion(raw); err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return newDirectory(dir), nil
}

// Create returns the layout in dir, which is made if there is nothing. A
// directory with other things in it is refused with [oci.Unsupported].
func Create(dir string) (*Directory, error) {
	d, err := Open(dir)
	if !errors.Is(err, oci.NotFound) {
		return d, err
	}
	if _, err := os.Stat(filepath.Join(dir, ocispec.ImageLayoutFile)); err == nil {
		return nil, oci.Errorf(oci.Unsupported, "%s is a layout of another version", dir)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range found { // What is left of a Create that was broken off is ours.
		if n := entry.Name(); n != ownDir && n != ocispec.ImageIndexFile && n != ocispec.ImageBlobsDir {
			return nil, oci.Errorf(oci.Unsupported, "%s is no OCI image layout and not empty: it has %s", dir, n)
		}
	}
	d = newDirectory(dir)
	return d, d.found()
}

func newDirectory(dir string) *Directory {
	d := &Directory{dir: dir, now: time.Now, uploads: uploads{open: map[string]*upload{}}}
	d.reader = newReader(d)
	return d
}

// found makes an empty layout. The file that says so comes last.
func (d *Directory) found() error {
	unlock, err := d.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.MkdirAll(filepath.Join(d.dir, ocispec.ImageBlobsDir, "sha256"), 0o777); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(d.dir, ocispec.ImageIndexFile)); errors.Is(err, fs.ErrNotExist) {
		if err := d.replace(ocispec.ImageIndexFile, mustJSON(emptyIndex())); err != nil {
			return err
		}
	}
	return d.replace(ocispec.ImageLayoutFile, layoutFile())
}

func emptyIndex() ocispec.Index {
	return ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: oci.MediaTypeIndex,
		Manifests: []oci.Descriptor{},
	}
}

func layoutFile() []byte {
	return mustJSON(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
}

// mustJSON marshals what cannot fail: strings, numbers and lists of them.
func mustJSON(v any) []byte {
	raw, _ := json.Marshal(v)
	return raw
}

func checkVersion(raw []byte) error {
	var l ocispec.ImageLayout
	if err := json.Unmarshal(raw, &l); err != nil {
		return oci.Errorf(oci.NotFound, "%s is not of the right form: %v", ocispec.ImageLayoutFile, err)
	}
	if l.Version != ocispec.ImageLayoutVersion {
		return oci.Errorf(oci.NotFound, "OCI image layout of version %.20q; known is %s", l.Version, ocispec.ImageLayoutVersion)
	}
	return nil
}

// path is where the content d is kept.
func (d *Directory) path(of oci.Digest) string {
	return filepath.Join(d.dir, filepath.FromSlash(blobName(of)))
}

func (d *Directory) open(of oci.Digest) (content, error) {
	f, err := os.Open(d.path(of))
	if err != nil {
		return content{}, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", f.Name())
	}
	if err != nil {
		f.Close()
		return content{}, err
	}
	return content{f, info.Size(), info.ModTime()}, nil
}

func (d *Directory) stat(of oci.Digest) (int64, error) {
	info, err := os.Stat(d.path(of))
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (d *Directory) index() ([]byte, error) {
	f, err := os.Open(filepath.Join(d.dir, ocispec.ImageIndexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return mustJSON(emptyIndex()), nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readIndex(f)
}

// readIndex reads an index.json of bounded size.
func readIndex(r io.Reader) ([]byte, error) {
	var b bytes.Buffer
	if n, err := b.ReadFrom(io.LimitReader(r, maxIndex+1)); err != nil {
		return nil, err
	} else if n > maxIndex {
		return nil, oci.Errorf(oci.ManifestTooLarge, "%s has more than %d bytes", ocispec.ImageIndexFile, maxIndex)
	}
	return b.Bytes(), nil
}

// pool is where the bytes of a layout are.
type pool interface {
	// open opens content. What is missing is [fs.ErrNotExist].
	open(d oci.Digest) (content, error)
	// stat tells the size of content. What is missing is [fs.ErrNotExist].
	stat(d oci.Digest) (int64, error)
	// index returns what index.json says now.
	index() ([]byte, error)
}

// content is something of a pool, opened.
type content struct {
	io.ReadSeekCloser
	size   int64
	stored time.Time // Zero: unknown.
}

// reader answers from a pool. What it has read of manifests it remembers; the
// list is read again for every answer, for others may have changed it.
type reader struct {
	pool pool

	mu     sync.Mutex // Guards what follows.
	last   *view
	known  map[oci.Digest]*node
	pushed map[string]map[oci.Digest]bool // By repository, the blobs that came through us.
}

func newReader(p pool) reader {
	return reader{pool: p, known: map[oci.Digest]*node{}, pushed: map[string]map[oci.Digest]bool{}}
}
