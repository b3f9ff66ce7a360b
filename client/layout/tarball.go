package layout

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
)

const (
	maxEntries = 1 << 19 // Of a tar file.
	maxLinks   = 8       // That one name goes through.
)

// tarball knows where the files of a tar file are.
type tarball struct {
	file  *os.File
	files map[string]part
	links map[string]string // Symbolic and hard ones, by names within the archive.
}

// scan reads all headers. Names that lead out of the archive are refused, and
// files of which it is not clear what they hold.
func scan(f *os.File) (*tarball, error) {
	t := &tarball{file: f, files: map[string]part{}, links: map[string]string{}}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	for r, n := tar.NewReader(f), 0; ; n++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) && n > 0 {
			break
		}
		if err != nil {
			return nil, t.broken(err, n)
		}
		if n == maxEntries {
			return nil, invalid("the archive has more than %d entries", maxEntries)
		}
		if err := t.add(h); err != nil {
			return nil, err
		}
	}
	return t.rooted(), nil
}

// broken says what an error of the tar reader means.
func (t *tarball) broken(err error, n int) error {
	switch {
	case n > 0 && errors.Is(err, io.ErrUnexpectedEOF):
		return invalid("the archive is cut off after %d entries", n)
	case n > 0:
		return invalid("the archive is damaged after %d entries: %v", n, err)
	}
	var magic [6]byte
	_, _ = t.file.ReadAt(magic[:], 0) // What cannot be read is no known form.
	for form, begin := range map[string]string{"zstd": "\x28\xb5\x2f\xfd", "xz": "\xfd7zXZ\x00", "bzip2": "BZh"} {
		if bytes.HasPrefix(magic[:], []byte(begin)) {
			return invalid("the archive is compressed by %s; unpack it first: %s -dc FILE | regctl load -", form, form)
		}
	}
	return invalid("not a tar archive")
}

// add takes note of the entry of h. Its content begins where the file is now.
func (t *tarball) add(h *tar.Header) error {
	name, ok := inside(h.Name)
	if !ok {
		return invalid("the archive has an entry %q, which leads out of it", h.Name)
	}
	switch h.Typeflag {
	case tar.TypeReg:
		return t.addFile(name, h)
	case tar.TypeLink:
		return t.addLink(name, h.Linkname)
	case tar.TypeSymlink:
		return t.addLink(name, path.Join(path.Dir(name), h.Linkname))
	case tar.TypeGNUSparse:
		return invalid("%s is a sparse file; write the archive without: tar --format=posix", name)
	}
	return nil // Directories, and what no image is made of.
}

func (t *tarball) addFile(name string, h *tar.Header) error {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return invalid("%s is a sparse file; write the archive without --sparse", name)
		}
	}
	at, err := t.file.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	old, twice := t.files[name]
	same := isBlob(name) && old.size == h.Size // Then it is verified, whichever is read.
	if _, linked := t.links[name]; linked || twice && !same {
		return invalid("the archive has %s twice", name)
	}
	t.files[name] = part{at, h.Size}
	return nil
}

func isBlob(name string) bool { _, ok := blobDigest(name); return ok }

func (t *tarball) addLink(name, to string) error {
	target, ok := inside(to)
	if !ok {
		return invalid("the archive has a link %s to %q, which leads out of it", name, to)
	}
	_, file := t.files[name]
	if old, linked := t.links[name]; file || linked && old != target {
		return invalid("the archive has %s twice", name)
	}
	t.links[name] = target
	return nil
}

// inside cleans a name, and tells whether it stays within the archive.
func inside(name string) (string, bool) {
	if strings.HasPrefix(name, "/") || strings.Contains(name, "\x00") {
		return "", false
	}
	name = path.Clean(name)
	return name, name != ".." && !strings.HasPrefix(name, "../")
}

// rooted takes the one folder that the layout may be in for the root.
func (t *tarball) rooted() *tarball {
	if _, ok := t.files[ocispec.ImageLayoutFile]; ok {
		return t
	}
	if _, ok := t.files[dockerFile]; ok {
		return t
	}
	var roots []string
	for name := range t.files {
		if path.Base(name) == ocispec.ImageLayoutFile {
			roots = append(roots, path.Dir(name)+"/")
		}
	}
	if len(roots) != 1 {
		return t
	}
	below := &tarball{file: t.file, files: map[string]part{}, links: map[string]string{}}
	for name, p := range t.files {
		if rest, ok := strings.CutPrefix(name, roots[0]); ok {
			below.files[rest] = p
		}
	}
	return below
}

// find returns where the content of a name is, through links if need be. What
// is missing is [fs.ErrNotExist].
func (t *tarball) find(name string) (part, error) {
	for range maxLinks {
		if p, ok := t.files[name]; ok {
			return p, nil
		}
		to, ok := t.links[name]
		if !ok {
			return part{}, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
		}
		name = to
	}
	return part{}, invalid("%s is a link to itself", name)
}

func (t *tarball) section(p part) *io.SectionReader {
	return io.NewSectionReader(t.file, p.at, p.size)
}

// read returns the content of a file of at most so many bytes.
func (t *tarball) read(name string, most int64) ([]byte, error) {
	p, err := t.find(name)
	if err != nil {
		return nil, err
	}
	if p.size > most {
		return nil, invalid("%s has %d bytes, at most %d are read", name, p.size, most)
	}
	raw := make([]byte, p.size)
	if _, err := io.ReadFull(t.section(p), raw); err != nil {
		return nil, invalid("the archive is cut off in %s: %v", name, err)
	}
	return raw, nil
}

// some lists a few of the names, for people.
func (t *tarball) some() string {
	names := slices.Sorted(maps.Keys(t.files))
	if len(names) > 3 {
		names = append(names[:3], "…")
	}
	return strings.Join(names, ", ")
}

// verified reads content and, if it is read from begin to end, compares its
// digest.
type verified struct {
	io.ReadSeeker
	want oci.Digest
	sum  hash.Hash
	at   int64
	seen int64 // Bytes that sum has seen.
}

func newVerified(r io.ReadSeeker, d oci.Digest) *verified {
	return &verified{ReadSeeker: r, want: d, sum: d.Algorithm().Hash()}
}

// Read is that of [io.Reader].
func (v *verified) Read(p []byte) (int, error) {
	n, err := v.ReadSeeker.Read(p)
	if end := v.at + int64(n); v.at <= v.seen && end > v.seen {
		_, _ = v.sum.Write(p[v.seen-v.at : n]) // It never fails.
		v.seen = end
	}
	v.at += int64(n)
	if errors.Is(err, io.EOF) && v.at == v.seen {
		if got := digest.NewDigest(v.want.Algorithm(), v.sum); got != v.want {
			return n, oci.Errorf(oci.DigestInvalid, "%s of the archive is damaged: its content has digest %s", v.want, got)
		}
	}
	return n, err
}

// Seek is that of [io.Seeker].
func (v *verified) Seek(offset int64, whence int) (int64, error) {
	at, err := v.ReadSeeker.Seek(offset, whence)
	if err == nil {
		v.at = at
	}
	return at, err
}

// Close is that of [io.Closer].
func (v *verified) Close() error { return nil }
