package ocitest

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

// memoryUpload is an unfinished blob, shared by its handles.
type memoryUpload struct {
	id     string
	data   []byte
	holder *memoryHandle // Who has claimed it.
	ended  bool
}

// memoryHandle is one handle on an upload.
type memoryHandle struct {
	m      *memory
	repo   string
	up     *memoryUpload
	size   int64
	closed bool // By Close.
	done   bool // By Commit or Cancel of this handle.
}

func (m *memory) MountBlob(ctx context.Context, repo, from string, d oci.Digest) (oci.Upload, error) {
	errs := []error{oci.CheckRepo(repo), checkDigest(d)}
	if from != "" {
		errs = append(errs, oci.CheckRepo(from))
	}
	if err := check(errs...); err != nil {
		return nil, err
	}
	if m.mount(repo, from, d) {
		return nil, nil
	}
	return m.Upload(ctx, repo, "", oci.UploadOptions{Algorithm: d.Algorithm()})
}

func (m *memory) mount(repo, from string, d oci.Digest) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, r := range m.repos {
		data, ok := r.blobs[d]
		if ok && (from == "" || from == name) {
			m.repo(repo).blobs[d] = data
			return true
		}
	}
	return false
}

func (m *memory) Upload(_ context.Context, repo, id string, o oci.UploadOptions) (oci.Upload, error) {
	if err := oci.CheckRepo(repo); err != nil {
		return nil, err
	}
	if o.Algorithm != "" {
		if _, err := oci.ParseAlgorithm(string(o.Algorithm)); err != nil {
			return nil, err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.repo(repo)
	if id == "" {
		id = rand.Text()
		r.uploads[id] = &memoryUpload{id: id}
	}
	up, ok := r.uploads[id]
	if !ok {
		return nil, unknownUpload(id)
	}
	return &memoryHandle{m: m, repo: repo, up: up, size: int64(len(up.data))}, nil
}

func unknownUpload(id string) error { return oci.Errorf(oci.BlobUploadUnknown, "no upload %q", id) }

// claim makes h the only handle that may change the upload.
func (h *memoryHandle) claim() error {
	switch {
	case h.closed || h.up.ended:
		return unknownUpload(h.up.id)
	case h.up.holder != nil && h.up.holder != h:
		return oci.Errorf(oci.UploadBusy, "another handle has upload %s", h.up.id)
	case h.size != int64(len(h.up.data)):
		return oci.Errorf(oci.RangeInvalid, "upload %s has %d bytes, not %d", h.up.id, len(h.up.data), h.size)
	}
	h.up.holder = h
	return nil
}

// end ends the upload.
func (h *memoryHandle) end() {
	h.done, h.up.ended = true, true
	delete(h.m.repo(h.repo).uploads, h.up.id)
}

func (h *memoryHandle) Write(p []byte) (int, error) {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if err := h.claim(); err != nil {
		return 0, err
	}
	h.up.data = append(h.up.data, p...)
	h.size += int64(len(p))
	return len(p), nil
}

func (h *memoryHandle) ReadFrom(r io.Reader) (int64, error) {
	if _, err := h.Write(nil); err != nil { // Claim it before the first byte comes.
		return 0, err
	}
	return io.Copy(struct{ io.Writer }{h}, r)
}

func (h *memoryHandle) ID() string { return h.up.id }

func (h *memoryHandle) Size() int64 { return h.size }

func (h *memoryHandle) Commit(_ context.Context, d oci.Digest) (oci.Descriptor, error) {
	if err := checkDigest(d); err != nil {
		return oci.Descriptor{}, err
	}
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if err := h.claim(); err != nil {
		return oci.Descriptor{}, err
	}
	h.end()
	if got := hash(d, h.up.data); got != d {
		return oci.Descriptor{}, oci.Errorf(oci.DigestInvalid, "content has digest %s, not %s", got, d)
	}
	h.m.repo(h.repo).blobs[d] = h.up.data
	return blobDescriptor(d, h.up.data), nil
}

func (h *memoryHandle) Cancel(context.Context) error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	if h.done {
		return nil
	}
	if err := h.claim(); err != nil {
		return err
	}
	h.end()
	return nil
}

func (h *memoryHandle) Close() error {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	h.closed = true
	if h.up.holder == h {
		h.up.holder = nil
	}
	return nil
}

type nopCloser struct{ *bytes.Reader }

func (nopCloser) Close() error { return nil }

// check returns the first error, if there is one.
func check(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func checkDigest(d oci.Digest) error {
	_, err := oci.ParseDigest(string(d))
	return err
}

// hash returns the digest of data by the algorithm of like, or sha256.
func hash(like oci.Digest, data []byte) oci.Digest {
	if like == "" {
		return digest.FromBytes(data)
	}
	return like.Algorithm().FromBytes(data)
}

func blobDescriptor(d oci.Digest, data []byte) oci.Descriptor {
	return oci.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: int64(len(data))}
}
