package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/auth/rule"
)

// getBlob leaves ranges and conditions to net/http, and the bytes to the
// kernel where the registry gives it a file.
func (h *Handler) getBlob(ctx context.Context, w *response, q *request) error {
	b, err := h.reg.Blob(ctx, q.repo, q.digest)
	if err != nil {
		return err
	}
	defer b.Close()
	return serveContent(w, q, b.Descriptor, b.ReadSeekCloser)
}

// headBlob answers as getBlob does, but opens nothing. Ranges are for GET:
// RFC 9110, 14.2.
func (h *Handler) headBlob(ctx context.Context, w *response, q *request) error {
	d, err := h.reg.StatBlob(ctx, q.repo, q.digest)
	if err != nil {
		return err
	}
	q.Header.Del("Range")
	return serveContent(w, q, d, &sized{size: d.Size})
}

func serveContent(w *response, q *request, d oci.Descriptor, content io.ReadSeeker) error {
	describe(w, d)
	header := w.Header()
	header.Set("Content-Type", "application/octet-stream")
	header.Set("Cache-Control", q.lasting())
	c := &contentWriter{response: w}
	http.ServeContent(c, q.Request, "", time.Time{}, content)
	switch c.refused {
	case 0:
		if w.short {
			return &oci.Error{Code: oci.Unknown, Err: fmt.Errorf("blob %s of %s ends after %d bytes that were sent", d.Digest, q.repo, w.bytes)}
		}
		return nil
	case http.StatusRequestedRangeNotSatisfiable:
		return oci.Errorf(oci.RangeInvalid, "no byte of the blob is in this range; it has %d", d.Size)
	}
	return &oci.Error{Code: oci.Unknown, Err: errors.New("blob cannot be sought")}
}

// lasting is the header Cache-Control of what never changes. What not everybody
// may have is for no cache that others are answered from, either: some keep it
// although it was asked for with a login.
func (q *request) lasting() string {
	const long = "max-age=31536000, immutable"
	if s := q.session; s != nil && (s.Kind != rule.Anonymous || !s.Ruled) {
		return "private, " + long
	}
	return long
}

// contentWriter keeps [http.ServeContent] from writing errors in its own way.
// ReadFrom comes from response, so that files still go out by the kernel.
type contentWriter struct {
	*response
	refused int // The status that ServeContent wanted to fail with.
}

func (c *contentWriter) WriteHeader(status int) {
	if status == http.StatusRequestedRangeNotSatisfiable || status >= http.StatusInternalServerError {
		c.refused = status
		return
	}
	c.response.WriteHeader(status)
}

func (c *contentWriter) Write(p []byte) (int, error) {
	if c.refused != 0 {
		return len(p), nil
	}
	return c.response.Write(p)
}

// sized stands for content of which only the size is asked.
type sized struct{ size int64 }

func (s *sized) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekEnd {
		return s.size + offset, nil
	}
	return offset, nil
}

func (s *sized) Read([]byte) (int, error) { return 0, io.EOF }

func (h *Handler) deleteBlob(ctx context.Context, w *response, q *request) error {
	if err := h.reg.DeleteBlob(ctx, q.repo, q.digest); err != nil {
		return err
	}
	return empty(w, http.StatusAccepted)
}
