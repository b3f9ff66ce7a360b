package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

// MountBlob makes a blob of repository from one of repo. A registry that does
// not want to, for whatever reason, gets an upload instead.
func (c *Client) MountBlob(ctx context.Context, repo, from string, d oci.Digest) (oci.Upload, error) {
	if err := checkDigest(repo, d); err != nil {
		return nil, err
	}
	query := url.Values{"mount": {string(d)}}
	s := scope{repo: repo, actions: "pull,push"}
	if from != "" {
		if err := oci.CheckRepo(from); err != nil {
			return nil, err
		}
		query.Set("from", from)
		if from != repo {
			s.also = []string{from}
		}
	}
	resp, err := c.do(ctx, c.startRequest(repo, query, s, http.StatusCreated))
	switch {
	case err == nil:
	case isAbsent(err), errors.Is(err, oci.Unauthorized), errors.Is(err, oci.Denied),
		errors.Is(err, oci.DigestInvalid), errors.Is(err, oci.NameInvalid):
		return c.Upload(ctx, repo, "", oci.UploadOptions{Algorithm: d.Algorithm()})
	default:
		return nil, err
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusCreated {
		return nil, nil
	}
	return c.started(ctx, repo, resp)
}

// Upload starts an upload if id is empty, or finds the one with that id. It is
// written to as long as ctx is not done. What ReadFrom gets from a source that
// can seek goes out in one piece, if it is much, and is sought again where that
// breaks. Anything else is kept in memory up to 8 MiB, to be sent again, and
// goes out with what follows, with Commit or with Close. An upload that the
// registry cannot resume begins again under another id, as long as all of it is
// at hand.
// Errors: [oci.BlobUploadUnknown].
func (c *Client) Upload(ctx context.Context, repo, id string, o oci.UploadOptions) (oci.Upload, error) {
	if err := oci.CheckRepo(repo); err != nil {
		return nil, err
	}
	query := url.Values{}
	if o.Algorithm != "" {
		if _, err := oci.ParseAlgorithm(string(o.Algorithm)); err != nil {
			return nil, err
		}
		if o.Algorithm != digest.Canonical {
			query.Set("digest-algorithm", string(o.Algorithm))
		}
	}
	if id != "" {
		return c.foundUpload(ctx, repo, id)
	}
	resp, err := c.do(ctx, c.startRequest(repo, query, scope{repo: repo, actions: "pull,push"}))
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	return c.started(ctx, repo, resp)
}

func (c *Client) startRequest(repo string, query url.Values, s scope, also ...int) request {
	return request{
		method: http.MethodPost, path: "/v2/" + repo + "/blobs/uploads/", query: query, scope: s,
		subject: c.host + "/" + repo, accept: append(also, http.StatusAccepted),
	}
}

// started is an upload that nobody else knows of.
func (c *Client) started(ctx context.Context, repo string, resp *http.Response) (oci.Upload, error) {
	u := c.newUpload(ctx, repo)
	if err := u.follow(resp); err != nil {
		return nil, err
	}
	if u.at == "" {
		return nil, oci.Errorf(oci.Unknown, "%s/%s: the registry does not say where to upload to", c.host, repo)
	}
	if n, err := strconv.ParseInt(resp.Header.Get("OCI-Chunk-Min-Length"), 10, 64); err == nil && n > 0 && n <= mostLeast {
		u.least = n // What nobody has the memory for is not meant.
	}
	u.sure = true
	return u, nil
}

// foundUpload is an upload that others may know of.
func (c *Client) foundUpload(ctx context.Context, repo, id string) (oci.Upload, error) {
	at, err := uploadAt(repo, id)
	if err != nil {
		return nil, err
	}
	u := c.newUpload(ctx, repo)
	u.at = at
	size, err := u.state(ctx)
	if err != nil {
		return nil, noUpload(err)
	}
	u.size = size
	return u, nil
}

// uploading is a handle on an upload.
type uploading struct {
	c    *Client
	repo string
	do   func(request) (*http.Response, error) // As long as the context of Upload.
	wait func(n int) error
	base *url.URL

	at    string // Where the upload is, as the registry said last.
	size  int64  // What the registry has.
	least int64  // The registry takes no smaller chunk but the last.
	held  []byte
	sure  bool // Nobody else has added anything.
	ended bool
}

func (c *Client) newUpload(ctx context.Context, repo string) *uploading {
	u := &uploading{c: c, repo: repo}
	u.do = func(r request) (*http.Response, error) { return c.do(ctx, r) }
	u.wait = func(n int) error { return c.sleep(ctx, c.pause(n)) }
	if l := c.link.Load(); l != nil {
		u.base = l.base()
	}
	return u
}

// follow notes where the upload goes on.
func (u *uploading) follow(resp *http.Response) error {
	said := resp.Header.Get("Location")
	if said == "" {
		return nil
	}
	at, err := resp.Request.URL.Parse(said)
	if err != nil {
		return oci.Errorf(oci.Unknown, "%s/%s: the registry says to upload to %.80q", u.c.host, u.repo, said)
	}
	if u.base == nil {
		if l := u.c.link.Load(); l != nil {
			u.base = l.base()
		}
	}
	u.at = at.String()
	return nil
}

// ID implements [oci.Upload]. That of an upload outlives the process, but where
// the registry puts the state of an upload into its location, it is to be asked
// for again after the last write.
func (u *uploading) ID() string {
	if u.base == nil {
		return uploadID(&url.URL{}, u.repo, u.at)
	}
	return uploadID(u.base, u.repo, u.at)
}

// Size implements [oci.Upload].
func (u *uploading) Size() int64 { return u.size + int64(len(u.held)) }

func (u *uploading) request(method string, accept ...int) request {
	return request{
		method: method, path: u.at, scope: u.scope(),
		subject: u.c.host + "/" + u.repo, accept: accept,
	}
}

func (u *uploading) scope() scope { return scope{repo: u.repo, actions: "pull,push"} }

// state asks the registry how much it has. No byte and one byte look the same;
// they count as none.
func (u *uploading) state(ctx context.Context) (int64, error) {
	resp, err := u.c.do(ctx, u.request(http.MethodGet, http.StatusNoContent, http.StatusOK, http.StatusAccepted))
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	size, ok := received(resp.Header)
	if !ok {
		return 0, oci.Errorf(oci.Unsupported, "%s/%s: the registry does not tell how far an upload got", u.c.host, u.repo)
	}
	return size, u.follow(resp)
}

// received reads the header Range of an upload: "0-9" are 10 bytes.
func received(h http.Header) (size int64, ok bool) {
	_, last, ok := strings.Cut(strings.TrimPrefix(h.Get("Range"), "bytes="), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil || n < 0 {
		return 0, ok && last == "-1" // As some say "0--1" for nothing.
	}
	if n == 0 {
		return 0, true
	}
	return n + 1, true
}

// Write implements [oci.Upload].
func (u *uploading) Write(p []byte) (int, error) {
	n, err := u.take(bytes.NewReader(p))
	return int(n), err
}

// ReadFrom implements [oci.Upload].
func (u *uploading) ReadFrom(r io.Reader) (int64, error) {
	s, ok := r.(io.ReadSeeker)
	if !ok || u.ended || !u.sure || u.c.traits.limit() > 0 {
		return u.take(r)
	}
	begin, left, err := length(s)
	if err != nil || left <= smallBlob {
		return u.take(r)
	}
	if err := u.flush(); err != nil {
		return 0, err
	}
	return u.stream(s, begin, left)
}

// take holds back what r has, and sends what is too much for that. The first
// bytes of an upload that others may know of are sent at once, to see that
// nobody has added to it.
func (u *uploading) take(r io.Reader) (int64, error) {
	if u.ended {
		return 0, oci.Errorf(oci.BlobUploadUnknown, "the upload has ended")
	}
	n, err := u.chunks(r)
	if err != nil || u.sure {
		return n, err
	}
	if err := u.flush(); err != nil {
		return 0, err
	}
	return n, nil
}

// Commit implements [oci.Upload]. A connection that breaks then does not tell
// whether the registry has the blob: it is asked.
func (u *uploading) Commit(ctx context.Context, d oci.Digest) (oci.Descriptor, error) {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return oci.Descriptor{}, err
	}
	if u.ended {
		return oci.Descriptor{}, oci.Errorf(oci.BlobUploadUnknown, "the upload has ended")
	}
	if err := u.ascertain(ctx); err != nil {
		return oci.Descriptor{}, err
	}
	size := u.Size()
	err := u.finish(ctx, d)
	u.ended, u.held = true, nil
	if err == nil {
		return oci.Descriptor{MediaType: "application/octet-stream", Digest: d, Size: size}, nil
	}
	u.remove(ctx)
	return oci.Descriptor{}, err
}

// ascertain fails if somebody else has added to the upload: a request without
// a byte has no place in the blob that the registry could refuse.
func (u *uploading) ascertain(ctx context.Context) error {
	if u.sure {
		return nil
	}
	size, err := u.state(ctx)
	switch {
	case errors.Is(err, oci.Unsupported):
		return nil
	case err != nil:
		return noUpload(err)
	case size != u.size:
		return oci.Errorf(oci.RangeInvalid, "the upload had %d bytes and has %d now", u.size, size)
	}
	u.sure = true
	return nil
}

// finish sends the PUT with what was held back, until it is known how it went.
func (u *uploading) finish(ctx context.Context, d oci.Digest) error {
	for n := 1; ; n++ {
		if len(u.held) > u.chunkSize() {
			if err := u.flush(); err != nil {
				return err
			}
		}
		err := u.put(ctx, d)
		switch {
		case err == nil:
			return nil
		case u.shrinks(err, int64(len(u.held))):
			continue
		case !isDoubtful(err):
			return err
		}
		if there, statErr := u.c.StatBlob(ctx, u.repo, d); statErr == nil && there.Size == u.Size() {
			return nil
		}
		if size, stateErr := u.state(ctx); n >= maxReopens/2 || stateErr != nil || size != u.size {
			return missing(err, oci.BlobUploadUnknown)
		}
		if waitErr := u.c.sleep(ctx, u.c.pause(n)); waitErr != nil {
			return waitErr
		}
	}
}

// put sends the PUT.
func (u *uploading) put(ctx context.Context, d oci.Digest) error {
	r := u.request(http.MethodPut, http.StatusCreated, http.StatusOK, http.StatusAccepted, http.StatusNoContent, http.StatusRequestEntityTooLarge)
	r.query = url.Values{"digest": {string(d)}}
	held := u.held
	u.fill(&r, int64(len(held)), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(held)), nil })
	resp, err := u.c.do(ctx, r)
	if err != nil {
		return err
	}
	resp.Body.Close()
	said := resp.Header.Get("Docker-Content-Digest")
	switch {
	case resp.StatusCode == http.StatusRequestEntityTooLarge:
		return tooLarge(r)
	case said != "" && said != string(d):
		return oci.Errorf(oci.DigestInvalid, "%s: the registry took the blob for %s", u.c.subject(u.repo, string(d)), clip(said))
	}
	return nil
}

// isDoubtful tells whether err leaves open if the request was done.
func isDoubtful(err error) bool {
	for _, code := range []oci.Code{oci.Unavailable, oci.Unknown, oci.BlobUploadUnknown, oci.NotFound} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// remove ends the upload on the registry, if it can do so soon: who gave up is
// not kept waiting.
func (u *uploading) remove(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), min(farewell, u.c.patience))
	defer cancel()
	if resp, err := u.c.do(ctx, u.cancelRequest()); err == nil {
		resp.Body.Close()
	}
}

func (u *uploading) cancelRequest() request {
	return u.request(http.MethodDelete, http.StatusNoContent, http.StatusOK, http.StatusAccepted)
}

// Cancel implements [oci.Upload]. A registry that cannot cancel uploads removes
// them for their age.
func (u *uploading) Cancel(ctx context.Context) error {
	if u.ended {
		return nil
	}
	if err := u.ascertain(ctx); err != nil {
		return err
	}
	u.ended = true
	resp, err := u.c.do(ctx, u.cancelRequest())
	switch {
	case err == nil:
		return resp.Body.Close()
	case errors.Is(noUpload(err), oci.BlobUploadUnknown), errors.Is(err, oci.Unsupported):
		return nil
	}
	return err
}

// noUpload gives err its code if it says that there is no such upload, or
// comes from a registry that takes an upload for a blob.
func noUpload(err error) error {
	switch oci.AsError(err).Code {
	case oci.BlobUploadInvalid, oci.NameInvalid, oci.DigestInvalid, methodUnknown:
		return &oci.Error{Code: oci.BlobUploadUnknown, Message: err.Error(), Err: err}
	}
	return missing(err, oci.BlobUploadUnknown)
}

// Close implements [oci.Upload]: what was held back goes out.
func (u *uploading) Close() error {
	if u.ended {
		return nil
	}
	err := u.flush()
	u.ended, u.held = true, nil
	return err
}
