package client

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

const (
	maxReopens = 8          // In a row, of which none got far.
	getsFar    = 256 << 10  // Bytes that count as progress.
	skipBuffer = 64 << 10   // For what a server sends although it was not asked to.
	identity   = "identity" // A body that is coded on the way would have another length.
)

// StatBlob returns the descriptor of a blob.
// Errors: [oci.BlobUnknown].
func (c *Client) StatBlob(ctx context.Context, repo string, d oci.Digest) (oci.Descriptor, error) {
	if err := checkDigest(repo, d); err != nil {
		return oci.Descriptor{}, err
	}
	r := c.blobRequest(http.MethodHead, repo, d)
	r.accept = []int{http.StatusOK, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented}
	resp, err := c.do(ctx, r)
	if err != nil {
		return oci.Descriptor{}, missing(err, oci.BlobUnknown)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ContentLength < 0 { // Not by HEAD, then.
		r.method, r.accept = http.MethodGet, nil
		if resp, err = c.do(ctx, r); err != nil {
			return oci.Descriptor{}, missing(err, oci.BlobUnknown)
		}
		resp.Body.Close()
	}
	return c.blobDescriptor(r.subject, d, resp)
}

func (c *Client) blobDescriptor(subject string, d oci.Digest, resp *http.Response) (oci.Descriptor, error) {
	if resp.ContentLength < 0 {
		return oci.Descriptor{}, oci.Errorf(oci.Unknown, "%s: the registry does not tell the size of the blob", subject)
	}
	return oci.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: resp.ContentLength}, nil
}

func (c *Client) blobRequest(method, repo string, d oci.Digest) request {
	return request{
		method: method, path: "/v2/" + repo + "/blobs/" + string(d), subject: c.subject(repo, string(d)),
		header: http.Header{"Accept-Encoding": {identity}}, scope: scope{repo: repo, actions: "pull"},
	}
}

// Blob opens a blob. A transfer that breaks goes on where it stood, with ctx,
// as long as it gets anywhere. Who reads all of it from the begin, in one go or
// not, has it verified: the last bytes come with [oci.DigestInvalid] if
// together they are not the blob.
// Errors: [oci.BlobUnknown].
func (c *Client) Blob(ctx context.Context, repo string, d oci.Digest) (oci.BlobReader, error) {
	if err := checkDigest(repo, d); err != nil {
		return oci.BlobReader{}, err
	}
	r := c.blobRequest(http.MethodGet, repo, d)
	resp, err := c.do(ctx, r)
	if err != nil {
		return oci.BlobReader{}, missing(err, oci.BlobUnknown)
	}
	desc, err := c.blobDescriptor(r.subject, d, resp)
	if err != nil { // A HEAD may tell.
		if desc, err = c.StatBlob(ctx, repo, d); err != nil {
			resp.Body.Close()
			return oci.BlobReader{}, err
		}
	}
	b := &blobReader{
		subject: r.subject, want: d, size: desc.Size, body: resp.Body, hash: d.Algorithm().Hash(), failed: c.failed,
		pause: func(n int) error { return c.sleep(ctx, c.pause(n)) },
	}
	b.open = func(at int64) (io.ReadCloser, error) { return c.reopen(ctx, r, at, b.size) }
	modified, _ := http.ParseTime(resp.Header.Get("Last-Modified")) // Zero if it says nothing.
	return oci.BlobReader{ReadSeekCloser: b, Descriptor: desc, ModTime: modified.In(time.UTC)}, nil
}

// reopen asks for a blob of this size from an offset on.
func (c *Client) reopen(ctx context.Context, r request, at, size int64) (io.ReadCloser, error) {
	r.accept = []int{http.StatusOK, http.StatusPartialContent}
	if at > 0 {
		r.header = r.header.Clone()
		r.header.Set("Range", fmt.Sprintf("bytes=%d-%d", at, size-1))
	}
	resp, err := c.do(ctx, r)
	if err != nil && at > 0 && isForeign(err) && !isAbsent(err) { // It does not like the question.
		r.header.Del("Range")
		resp, err = c.do(ctx, r)
	}
	if err != nil {
		return nil, missing(err, oci.BlobUnknown)
	}
	total, skip := resp.ContentLength, at
	if resp.StatusCode == http.StatusPartialContent {
		var first int64
		if first, total, err = parseContentRange(resp.Header.Get("Content-Range")); err == nil && first > at {
			err = fmt.Errorf("bytes from %d on came for those from %d on", first, at)
		}
		skip = at - first
	}
	if err == nil && total >= 0 && total != size {
		err = fmt.Errorf("the blob had %d bytes and has %d now", size, total)
	}
	if err == nil {
		_, err = io.CopyBuffer(io.Discard, io.LimitReader(resp.Body, skip), make([]byte, skipBuffer))
	}
	if err != nil {
		resp.Body.Close()
		return nil, &oci.Error{Code: oci.Unavailable, Message: r.subject + ": " + err.Error(), Err: err}
	}
	return resp.Body, nil
}

// parseContentRange reads "bytes 5-9/10"; a total of "*" is -1.
func parseContentRange(s string) (first, total int64, err error) {
	place, of, ok := strings.Cut(strings.TrimPrefix(s, "bytes "), "/")
	begin, _, ranged := strings.Cut(place, "-")
	if ok && ranged {
		if first, err = strconv.ParseInt(begin, 10, 64); err == nil && of != "*" {
			total, err = strconv.ParseInt(of, 10, 64)
		}
	}
	if !ok || !ranged || err != nil || first < 0 {
		return 0, 0, fmt.Errorf("the registry answers with the range %.80q", s)
	}
	if of == "*" {
		total = -1
	}
	return first, total, nil
}

// blobReader reads a blob over as many requests as it takes.
type blobReader struct {
	subject string
	want    oci.Digest
	open    func(at int64) (io.ReadCloser, error)
	pause   func(n int) error
	failed  func(error) error

	body   io.ReadCloser // What comes from the registry; nil: has to be asked for.
	from   int64         // Where body stands.
	at     int64         // Of the next Read.
	size   int64
	hash   hash.Hash
	hashed int64 // How much from the begin is in hash.
	breaks int   // In a row.
	since  int64 // Bytes read since the last of them.
	closed bool
}

// errShort is a body that ends before the blob does.
var errShort = errors.New("the answer broke off")

// Read reads on, and asks the registry again if that breaks.
func (b *blobReader) Read(p []byte) (int, error) {
	if b.closed {
		return 0, http.ErrBodyReadAfterClose
	}
	for len(p) > 0 {
		if b.at >= b.size {
			if b.at == 0 {
				return 0, b.whole()
			}
			return 0, io.EOF
		}
		if err := b.ready(); err != nil {
			return 0, err
		}
		n, err := b.body.Read(p[:min(int64(len(p)), b.size-b.at)])
		b.take(p[:n])
		if b.at == b.size && b.size > 0 {
			return n, b.whole()
		}
		if err != nil {
			b.body.Close()
			b.body = nil
			if !b.truly() {
				if err := b.broke(err); err != nil {
					return n, err
				}
			}
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, nil
}

// ready has a body to read from: the same one, if a Seek has come back to
// where it stands.
func (b *blobReader) ready() (err error) {
	if b.body != nil && b.from != b.at {
		b.body.Close()
		b.body = nil
	}
	if b.body == nil {
		b.body, err = b.open(b.at)
		b.from = b.at
	}
	return err
}

// take notes what was read. What follows on what was seen before is hashed.
func (b *blobReader) take(p []byte) {
	if next := b.hashed - b.at; next >= 0 && next < int64(len(p)) {
		b.hash.Write(p[next:])
		b.hashed += int64(len(p)) - next
	}
	b.at += int64(len(p))
	b.from = b.at
	if b.since += int64(len(p)); b.since >= getsFar {
		b.breaks = 0
	}
}

// truly tells whether the blob is whole although more of it was announced,
// which is then forgotten.
func (b *blobReader) truly() bool {
	if b.hashed != b.at || digest.NewDigest(b.want.Algorithm(), b.hash) != b.want {
		return false
	}
	b.size = b.at
	return true
}

// broke decides whether to ask again, and waits for that.
func (b *blobReader) broke(err error) error {
	if errors.Is(err, io.EOF) {
		err = errShort
	}
	failed := b.failed(err)
	if errors.Is(failed, context.Canceled) {
		return failed
	}
	if b.breaks++; b.breaks > maxReopens {
		return &oci.Error{Code: oci.Unavailable, Err: err, Message: fmt.Sprintf("%s: broke off %d times, the last time after %d of %d bytes: %v", b.subject, b.breaks, b.at, b.size, err)}
	}
	if b.since == 0 {
		return b.pause(b.breaks)
	}
	b.since = 0
	return nil
}

// whole is EOF, or that the blob is not what it should be. What was read in
// part only is not known.
func (b *blobReader) whole() error {
	if b.hashed != b.size {
		return nil
	}
	if got := digest.NewDigest(b.want.Algorithm(), b.hash); got != b.want {
		b.hash.Reset() // Who begins again gets another chance.
		b.hashed = 0
		return oci.Errorf(oci.DigestInvalid, "%s: the registry sent %d bytes that are %s", b.subject, b.size, got)
	}
	if b.size == 0 {
		return io.EOF
	}
	return nil
}

// Seek changes where Read reads. Nothing is sent for that.
func (b *blobReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += b.at
	case io.SeekEnd:
		offset += b.size
	}
	switch {
	case b.closed:
		return 0, http.ErrBodyReadAfterClose
	case offset < 0:
		return 0, fmt.Errorf("%s: seek to %d", b.subject, offset)
	}
	b.at = offset
	return offset, nil
}

// Close ends the transfer.
func (b *blobReader) Close() error {
	b.closed = true
	if b.body == nil {
		return nil
	}
	return b.body.Close()
}
