package serve

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/regctl/regctl/client/oci"
)

// startUpload begins an upload; with ?mount= it may be unnecessary, with
// ?digest= the body is the whole blob.
func (h *Handler) startUpload(ctx context.Context, w *response, q *request) error {
	query := q.URL.Query()
	if mount := query.Get("mount"); mount != "" {
		return h.mountBlob(ctx, w, q, mount, query.Get("from"))
	}
	var o oci.UploadOptions
	var whole oci.Digest
	var err error
	if name := query.Get("digest-algorithm"); name != "" {
		if o.Algorithm, err = oci.ParseAlgorithm(name); err != nil {
			return err
		}
	}
	if query.Has("digest") {
		if whole, err = oci.ParseDigest(query.Get("digest")); err != nil {
			return err
		}
		o.Algorithm = whole.Algorithm()
	}
	up, err := h.reg.Upload(ctx, q.repo, "", o)
	if err != nil {
		return err
	}
	defer up.Close()
	if whole == "" {
		return h.accepted(w, q, up)
	}
	if err := receive(q, up, -1); err != nil {
		// Nobody was told of this upload.
		return errors.Join(err, up.Cancel(context.WithoutCancel(ctx)))
	}
	return h.commit(ctx, w, q, up, whole)
}

func (h *Handler) mountBlob(ctx context.Context, w *response, q *request, mount, from string) error {
	d, err := oci.ParseDigest(mount)
	if err != nil {
		return err
	}
	if from != "" {
		if err := oci.CheckRepo(from); err != nil {
			return err
		}
	}
	up, err := h.reg.MountBlob(ctx, q.repo, from, d)
	if err != nil {
		return err
	}
	if up == nil {
		return h.created(w, q, d)
	}
	defer up.Close()
	return h.accepted(w, q, up)
}

func (h *Handler) patchUpload(ctx context.Context, w *response, q *request) error {
	up, err := h.reg.Upload(ctx, q.repo, q.ref, oci.UploadOptions{})
	if err != nil {
		return err
	}
	defer up.Close()
	if err := h.receiveChunk(ctx, w, q, up); err != nil {
		return err
	}
	return h.accepted(w, q, up)
}

func (h *Handler) finishUpload(ctx context.Context, w *response, q *request) error {
	d, err := oci.ParseDigest(q.URL.Query().Get("digest"))
	if err != nil {
		return err
	}
	up, err := h.reg.Upload(ctx, q.repo, q.ref, oci.UploadOptions{Algorithm: d.Algorithm()})
	if err != nil {
		return err
	}
	defer up.Close()
	if err := h.receiveChunk(ctx, w, q, up); err != nil {
		return err
	}
	return h.commit(ctx, w, q, up, d)
}

func (h *Handler) uploadStatus(ctx context.Context, w *response, q *request) error {
	up, err := h.reg.Upload(ctx, q.repo, q.ref, oci.UploadOptions{})
	if err != nil {
		return err
	}
	defer up.Close()
	h.progress(w, q, up)
	return empty(w, http.StatusNoContent)
}

func (h *Handler) cancelUpload(ctx context.Context, w *response, q *request) error {
	up, err := h.reg.Upload(ctx, q.repo, q.ref, oci.UploadOptions{})
	if err != nil {
		return err
	}
	defer up.Close()
	if err := up.Cancel(ctx); err != nil {
		return err
	}
	w.Header().Set("Docker-Upload-Uuid", up.ID())
	return empty(w, http.StatusNoContent)
}

// receiveChunk appends the body to up, at the offset that Content-Range names
// if there is one. A client at another offset is told where the upload stands.
func (h *Handler) receiveChunk(ctx context.Context, w *response, q *request, up oci.Upload) error {
	size := int64(-1)
	if value := q.Header.Get("Content-Range"); value != "" {
		r, err := parseContentRange(value, q.ContentLength)
		if err == nil && r.start != up.Size() {
			err = oci.Errorf(oci.RangeInvalid, "the chunk begins at %d, the upload is at %d", r.start, up.Size())
		}
		if errors.Is(err, oci.RangeInvalid) {
			h.progress(w, q, up)
		}
		if err != nil {
			return err
		}
		size = r.size
	}
	err := receive(q, up, size)
	if errors.Is(err, oci.RangeInvalid) { // Another request was faster.
		if now, err := h.reg.Upload(ctx, q.repo, q.ref, oci.UploadOptions{}); err == nil {
			h.progress(w, q, now)
			now.Close()
		}
	}
	return err
}

// receive appends the body to up. Size is what the body must have; negative if
// the client did not say. What arrived is kept in any case.
func receive(q *request, up oci.Upload, size int64) error {
	if q.body.ended && size <= 0 {
		return nil
	}
	from := io.Reader(q.body)
	if size >= 0 {
		from = io.LimitReader(q.body, size)
	}
	n, err := up.ReadFrom(from)
	if q.body.err != nil {
		return &oci.Error{Code: oci.BlobUploadInvalid, Err: q.body.err,
			Message: "the body of the request ended early; what arrived is kept, ask for the state of the upload"}
	}
	switch {
	case err != nil:
		return err
	case size >= 0 && n < size || moreIn(q.body, size):
		return oci.Errorf(oci.SizeInvalid, "Content-Range announces %d bytes, the body has another length", size)
	}
	return nil
}

// moreIn tells whether a body of known size goes on after it.
func moreIn(body io.Reader, size int64) bool {
	if size < 0 {
		return false
	}
	n, _ := io.ReadFull(body, make([]byte, 1))
	return n > 0
}

func (h *Handler) commit(ctx context.Context, w *response, q *request, up oci.Upload, d oci.Digest) error {
	done, err := up.Commit(ctx, d)
	if err != nil {
		return err
	}
	return h.created(w, q, done.Digest)
}

// created answers that a blob is there.
func (h *Handler) created(w *response, q *request, d oci.Digest) error {
	w.Header().Set("Location", h.location(q.repo, "/blobs/", string(d)))
	w.Header().Set("Docker-Content-Digest", string(d))
	return empty(w, http.StatusCreated)
}

// accepted answers that an upload goes on.
func (h *Handler) accepted(w *response, q *request, up oci.Upload) error {
	h.progress(w, q, up)
	return empty(w, http.StatusAccepted)
}

// progress sets the headers that tell the state of an upload. One without a
// byte has the range 0-0, as in registry:2; clients know it by that.
func (h *Handler) progress(w *response, q *request, up oci.Upload) {
	header := w.Header()
	header.Set("Location", h.location(q.repo, "/blobs/uploads/", up.ID()))
	header.Set("Range", "0-"+strconv.FormatInt(max(up.Size()-1, 0), 10))
	header.Set("Docker-Upload-Uuid", up.ID())
}

// contentRange is the place of a chunk in its blob.
type contentRange struct{ start, size int64 }

// parseContentRange reads "<first>-<last>", both inclusive, as the
// distribution specification has it. Length is that of the body, negative if
// unknown. Errors: [oci.RangeInvalid]; [oci.SizeInvalid] if the two disagree.
func parseContentRange(s string, length int64) (contentRange, error) {
	first, last, ok := strings.Cut(s, "-")
	start, err1 := parseOffset(first)
	end, err2 := parseOffset(last)
	if !ok || err1 != nil || err2 != nil || end < start {
		return contentRange{}, oci.Errorf(oci.RangeInvalid, "Content-Range %q is not of the form <first>-<last>", clip(s, 80))
	}
	size := end - start + 1
	if length >= 0 && length != size {
		return contentRange{}, oci.Errorf(oci.SizeInvalid, "Content-Range %s is %d bytes, Content-Length says %d", s, size, length)
	}
	return contentRange{start, size}, nil
}

// parseOffset reads decimal digits and nothing else, up to 2^62: sums of two
// offsets do not overflow.
func parseOffset(s string) (int64, error) {
	n, err := strconv.ParseUint(s, 10, 62)
	if err != nil || s[0] == '+' {
		return 0, strconv.ErrSyntax
	}
	return int64(n), nil
}
