package layout

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
)

// Archive is a tar file with a layout in it, or of the form that docker wrote
// before it knew layouts. It is a registry that cannot be changed: what would
// change it is [oci.Unsupported]. Nothing is unpacked; a blob is verified while
// it is read from begin to end, and a damaged one ends with
// [oci.DigestInvalid].
//
// An image of the old form has no manifest. It gets one that says the same
// whoever reads the archive.
type Archive struct {
	reader
	unchanging
	file    *os.File
	spooled string // The temporary file; empty: the file is the user's.

	list  []byte                // What stands for index.json.
	made  map[oci.Digest][]byte // Manifests of images that had none.
	parts map[oci.Digest]part
}

// part is a piece of the file.
type part struct{ at, size int64 }

var _ oci.Registry = (*Archive)(nil)

// OpenArchive opens an archive, which may be compressed by gzip: then it is
// unpacked to a temporary file. What is no archive of images, or one that is
// cut off or ambiguous, is [oci.ManifestInvalid]. The caller closes it.
func OpenArchive(path string) (*Archive, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	var magic [6]byte
	n, err := f.ReadAt(magic[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		f.Close()
		return nil, err
	}
	if !isGzip(magic[:n]) {
		return newArchive(f, "")
	}
	defer f.Close()
	return SpoolArchive(f)
}

// SpoolArchive reads an archive to its end into a temporary file, which goes
// with Close. Its errors are those of [OpenArchive].
func SpoolArchive(r io.Reader) (*Archive, error) {
	temp, err := os.CreateTemp("", "regctl-archive-*")
	if err != nil {
		return nil, fmt.Errorf("an archive that is no plain file needs room for a temporary one, see TMPDIR: %w", err)
	}
	_ = os.Remove(temp.Name()) // Where an open file can be removed, nothing is left even if we are killed.
	b := bufio.NewReaderSize(r, 256<<10)
	if magic, _ := b.Peek(2); isGzip(magic) {
		r, err = gzip.NewReader(b)
	} else {
		r = b
	}
	if err == nil {
		_, err = io.Copy(temp, r)
	}
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = invalid("the compressed archive is cut off or damaged: %v", err)
	}
	if err != nil {
		temp.Close()
		_ = os.Remove(temp.Name()) // Its owner sweeps the directory of temporary files.
		return nil, fmt.Errorf("read archive: %w", err)
	}
	return newArchive(temp, temp.Name())
}

func isGzip(magic []byte) bool { return bytes.HasPrefix(magic, []byte("\x1f\x8b")) }

func invalid(format string, args ...any) error {
	return oci.Errorf(oci.ManifestInvalid, format, args...)
}

// newArchive takes over the file.
func newArchive(f *os.File, spooled string) (*Archive, error) {
	a := &Archive{file: f, spooled: spooled, made: map[oci.Digest][]byte{}, parts: map[oci.Digest]part{}}
	a.reader = newReader(a)
	files, err := scan(f)
	if err == nil {
		err = a.load(files)
	}
	if err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

// load finds out which of the two forms the archive has.
func (a *Archive) load(t *tarball) error {
	raw, err := t.read(ocispec.ImageLayoutFile, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return a.loadDocker(t)
	}
	if err != nil {
		return err
	}
	if err := checkVersion(raw); err != nil {
		return err
	}
	a.list, err = t.read(ocispec.ImageIndexFile, maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return invalid("the archive has no %s", ocispec.ImageIndexFile)
	}
	if err != nil {
		return err
	}
	for name := range t.files {
		d, ok := blobDigest(name)
		if !ok {
			continue
		}
		if a.parts[d], err = t.find(name); err != nil {
			return err
		}
	}
	for name := range t.links {
		if d, ok := blobDigest(name); ok {
			if p, err := t.find(name); err == nil {
				a.parts[d] = p
			}
		}
	}
	_, err = parseView(a.list)
	return err
}

// Close ends the use of the archive and removes what was spooled.
func (a *Archive) Close() error {
	err := a.file.Close()
	if a.spooled != "" {
		_ = os.Remove(a.spooled) // Mostly it went when it was made.
	}
	return err
}

func (a *Archive) open(d oci.Digest) (content, error) {
	if raw, ok := a.made[d]; ok {
		return content{ReadSeekCloser: unclosed{bytes.NewReader(raw)}, size: int64(len(raw))}, nil
	}
	p, ok := a.parts[d]
	if !ok {
		return content{}, fs.ErrNotExist
	}
	r := io.NewSectionReader(a.file, p.at, p.size)
	return content{ReadSeekCloser: newVerified(r, d), size: p.size}, nil
}

func (a *Archive) stat(d oci.Digest) (int64, error) {
	if raw, ok := a.made[d]; ok {
		return int64(len(raw)), nil
	}
	if p, ok := a.parts[d]; ok {
		return p.size, nil
	}
	return 0, fs.ErrNotExist
}

func (a *Archive) index() ([]byte, error) { return a.list, nil }

// unclosed is a reader that needs no closing.
type unclosed struct{ *bytes.Reader }

func (unclosed) Close() error { return nil }

// unchanging are the methods of a registry that change it.
type unchanging struct{}

func refused(errs ...error) error {
	if err := first(errs...); err != nil {
		return err
	}
	return oci.Errorf(oci.Unsupported, "an archive cannot be changed")
}

// PutManifest is [oci.Unsupported].
func (unchanging) PutManifest(_ context.Context, repo string, _ oci.Put) (oci.Descriptor, error) {
	return oci.Descriptor{}, refused(oci.CheckRepo(repo))
}

// MountBlob is [oci.Unsupported].
func (unchanging) MountBlob(_ context.Context, repo, _ string, d oci.Digest) (oci.Upload, error) {
	return nil, refused(oci.CheckRepo(repo), checkDigest(d))
}

// Upload is [oci.Unsupported].
func (unchanging) Upload(_ context.Context, repo, _ string, _ oci.UploadOptions) (oci.Upload, error) {
	return nil, refused(oci.CheckRepo(repo))
}

// DeleteTag is [oci.Unsupported].
func (unchanging) DeleteTag(_ context.Context, repo, tag string, _ oci.Digest) error {
	return refused(oci.CheckRepo(repo), oci.CheckTag(tag))
}

// DeleteManifest is [oci.Unsupported].
func (unchanging) DeleteManifest(_ context.Context, repo string, d oci.Digest) error {
	return refused(oci.CheckRepo(repo), checkDigest(d))
}

// DeleteBlob is [oci.Unsupported].
func (unchanging) DeleteBlob(_ context.Context, repo string, d oci.Digest) error {
	return refused(oci.CheckRepo(repo), checkDigest(d))
}

// DeleteRepo is [oci.Unsupported].
func (unchanging) DeleteRepo(_ context.Context, repo string) error {
	return refused(oci.CheckRepo(repo))
}
