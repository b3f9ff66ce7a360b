package layout

import (
	"context"
	"crypto/rand"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

// uploadsExpire is the age from which unfinished uploads are removed.
const uploadsExpire = 7 * 24 * time.Hour

// uploads are the unfinished blobs that this process has to do with.
type uploads struct {
	mu    sync.Mutex // Guards what follows, and what upload shares.
	open  map[string]*upload
	swept bool
}

// upload is an unfinished blob, shared by its handles.
type upload struct {
	id, repo, path string
	size           int64
	holder         *handle // Who has claimed it.
	ended          bool

	// The holder's alone:
	file   *os.File
	sum    hash.Hash
	by     digest.Algorithm
	summed int64 // What sum has seen; less than size after a restart.
}

// handle is one handle on an upload.
type handle struct {
	d      *Directory
	up     *upload
	size   int64
	closed bool // By Close.
	done   bool // By Commit or Cancel of this handle.
}

// MountBlob is that of [oci.Writer].
func (d *Directory) MountBlob(ctx context.Context, repo, from string, of oci.Digest) (oci.Upload, error) {
	errs := []error{oci.CheckRepo(repo), checkDigest(of)}
	if from != "" {
		errs = append(errs, oci.CheckRepo(from))
	}
	if err := first(errs...); err != nil {
		return nil, err
	}
	mounted, err := d.mount(repo, from, of)
	if err != nil || mounted {
		return nil, err
	}
	return d.Upload(ctx, repo, "", oci.UploadOptions{Algorithm: of.Algorithm()})
}

func (d *Directory) mount(repo, from string, of oci.Digest) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var ok bool
	var err error
	if from != "" {
		_, ok, err = d.has(from, of)
	} else {
		ok, err = d.anywhere(of)
	}
	if ok {
		d.own(repo, of)
	}
	return ok, err
}

// anywhere tells whether of is a blob of any repository, or of nobody.
func (d *Directory) anywhere(of oci.Digest) (bool, error) {
	if _, err := d.stat(of); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	v, err := d.view()
	if err != nil {
		return false, err
	}
	u, err := d.users(v, of)
	return u.blob || !u.manifest, err
}

// own makes of a blob of repo. The caller holds d.mu.
func (d *Directory) own(repo string, of oci.Digest) {
	if d.pushed[repo] == nil {
		d.pushed[repo] = map[oci.Digest]bool{}
	}
	d.pushed[repo][of] = true
}

// Upload is that of [oci.Writer]. What was written is found again by other
// processes, too, once the handle is closed; after a week it is removed.
func (d *Directory) Upload(_ context.Context, repo, id string, o oci.UploadOptions) (oci.Upload, error) {
	if err := oci.CheckRepo(repo); err != nil {
		return nil, err
	}
	by := digest.SHA256
	if o.Algorithm != "" {
		var err error
		if by, err = oci.ParseAlgorithm(string(o.Algorithm)); err != nil {
			return nil, err
		}
	}
	d.uploads.mu.Lock()
	defer d.uploads.mu.Unlock()
	up, err := d.upload(repo, id, by)
	if err != nil {
		return nil, err
	}
	return &handle{d: d, up: up, size: up.size}, nil
}

var uploadID = regexp.MustCompile(`^[A-Z2-7]{26}$`) // Of rand.Text.

// upload starts an upload or finds one. The caller holds uploads.mu.
func (d *Directory) upload(repo, id string, by digest.Algorithm) (*upload, error) {
	if id == "" {
		return d.start(repo, by)
	}
	if up := d.uploads.open[id]; up != nil && up.repo == repo {
		return up, nil
	}
	if !uploadID.MatchString(id) {
		return nil, unknownUpload(id)
	}
	up := d.newUpload(repo, id, by)
	info, err := os.Stat(up.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, unknownUpload(id)
	}
	if err != nil {
		return nil, err
	}
	up.size = info.Size()
	d.uploads.open[id] = up
	return up, nil
}

func unknownUpload(id string) error {
	return oci.Errorf(oci.BlobUploadUnknown, "no upload %.40q", id)
}

func (d *Directory) newUpload(repo, id string, by digest.Algorithm) *upload {
	path := filepath.Join(d.uploadsOf(repo), id)
	return &upload{id: id, repo: repo, path: path, by: by, sum: by.Hash()}
}

// uploadsOf is where the uploads of a repository are.
func (d *Directory) uploadsOf(repo string) string {
	return filepath.Join(d.dir, ownDir, "uploads", digest.FromString(repo).Encoded()[:32])
}

func (d *Directory) start(repo string, by digest.Algorithm) (*upload, error) {
	if !d.uploads.swept {
		d.uploads.swept = true
		d.sweep()
	}
	up := d.newUpload(repo, rand.Text(), by)
	if err := os.MkdirAll(filepath.Dir(up.path), 0o777); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(up.path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, err
	}
	d.uploads.open[up.id] = up
	return up, f.Close() // Who claims it opens it again.
}

// sweep removes uploads that nobody has gone on with for long. What cannot be
// removed is looked at again by the next process.
func (d *Directory) sweep() {
	found, _ := filepath.Glob(filepath.Join(d.dir, ownDir, "uploads", "*", "*"))
	for _, path := range found {
		if info, err := os.Stat(path); err == nil && d.now().Sub(info.ModTime()) > uploadsExpire {
			_ = os.Remove(path)
		}
	}
}

// end ends all uploads of a repository.
func (u *uploads) end(d *Directory, repo string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	for id, up := range u.open {
		if up.repo == repo {
			up.ended = true
			delete(u.open, id)
		}
	}
	return os.RemoveAll(d.uploadsOf(repo))
}

// claim makes h the only handle that may change the upload.
func (h *handle) claim() error {
	h.d.uploads.mu.Lock()
	defer h.d.uploads.mu.Unlock()
	up := h.up
	switch {
	case h.closed || up.ended:
		return unknownUpload(up.id)
	case up.holder != nil && up.holder != h:
		return oci.Errorf(oci.UploadBusy, "another handle has upload %s", up.id)
	case h.size != up.size:
		return oci.Errorf(oci.RangeInvalid, "upload %s has %d bytes, not %d", up.id, up.size, h.size)
	}
	if up.file == nil {
		f, err := os.OpenFile(up.path, os.O_WRONLY|os.O_APPEND, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return unknownUpload(up.id)
		}
		if err != nil {
			return err
		}
		up.file = f
	}
	up.holder = h
	return nil
}

// release ends the upload, for all handles.
func (h *handle) release() {
	h.d.uploads.mu.Lock()
	defer h.d.uploads.mu.Unlock()
	h.done, h.up.ended = true, true
	delete(h.d.uploads.open, h.up.id)
}

func (h *handle) Write(p []byte) (int, error) {
	if err := h.claim(); err != nil {
		return 0, err
	}
	n, err := h.up.file.Write(p)
	if h.up.summed == h.size {
		_, _ = h.up.sum.Write(p[:n]) // It never fails.
		h.up.summed += int64(n)
	}
	h.d.uploads.mu.Lock()
	defer h.d.uploads.mu.Unlock()
	h.size += int64(n)
	h.up.size = h.size
	return n, err
}

func (h *handle) ReadFrom(r io.Reader) (int64, error) {
	if err := h.claim(); err != nil { // Before the first byte comes.
		return 0, err
	}
	return io.CopyBuffer(struct{ io.Writer }{h}, r, make([]byte, 256<<10))
}

func (h *handle) ID() string { return h.up.id }

func (h *handle) Size() int64 { return h.size }

// Commit verifies, syncs and places the blob, in this order.
func (h *handle) Commit(_ context.Context, d oci.Digest) (oci.Descriptor, error) {
	if err := checkDigest(d); err != nil {
		return oci.Descriptor{}, err
	}
	if err := h.claim(); err != nil {
		return oci.Descriptor{}, err
	}
	h.release()
	err := h.verify(d)
	err = errors.Join(err, h.up.file.Close())
	if err == nil {
		err = h.d.store(h.up, d)
	}
	if err != nil {
		_ = os.Remove(h.up.path) // It goes with the others later.
		return oci.Descriptor{}, err
	}
	return oci.Descriptor{MediaType: octets, Digest: d, Size: h.size}, nil
}

func (h *handle) verify(d oci.Digest) error {
	info, err := h.up.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() != h.size { // Another process has the upload, too.
		return oci.Errorf(oci.RangeInvalid, "upload %s has %d bytes, not %d", h.up.id, info.Size(), h.size)
	}
	got := digest.NewDigest(h.up.by, h.up.sum)
	if h.up.by != d.Algorithm() || h.up.summed != h.size {
		f, err := os.Open(h.up.path)
		if err != nil {
			return err
		}
		defer f.Close()
		if got, err = d.Algorithm().FromReader(f); err != nil {
			return err
		}
	}
	if got != d {
		return oci.Errorf(oci.DigestInvalid, "content has digest %s, not %s", got, d)
	}
	return h.up.file.Sync()
}

// store makes what was uploaded a blob.
func (d *Directory) store(up *upload, as oci.Digest) error {
	d.mu.Lock() // No deletion comes between file and member.
	defer d.mu.Unlock()
	if err := d.place(up.path, blobName(as)); err != nil {
		if errors.Is(err, fs.ErrNotExist) { // Removed with its repository.
			return unknownUpload(up.id)
		}
		return err
	}
	d.own(up.repo, as)
	return nil
}

func (h *handle) Cancel(context.Context) error {
	if h.done {
		return nil
	}
	if err := h.claim(); err != nil {
		return err
	}
	h.release()
	return errors.Join(h.up.file.Close(), os.Remove(h.up.path))
}

func (h *handle) Close() error {
	h.d.uploads.mu.Lock()
	defer h.d.uploads.mu.Unlock()
	if h.closed || h.done {
		h.closed = true
		return nil
	}
	h.closed = true
	if h.up.holder != h {
		return nil
	}
	h.up.holder = nil
	f := h.up.file
	h.up.file = nil
	return f.Close()
}
