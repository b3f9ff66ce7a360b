package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

var _ oci.Registry = (*Client)(nil)

// maxManifest is what is read of a manifest: others push what the
// specification does not ask registries to take.
const maxManifest = 16 << 20

// acceptable are the media types that are asked for: all that a registry may
// hold, so that none makes something else of it. Those of schema 1 are last,
// for registries that have nothing better.
func acceptable() []string {
	return append(oci.ManifestTypes(),
		"application/vnd.oci.artifact.manifest.v1+json",
		"application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.2",
		"application/vnd.docker.distribution.manifest.v1+json;q=0.1",
		"*/*;q=0.01",
	)
}

// Resolve returns the descriptor of a manifest: by HEAD, unless the registry
// does not tell all by that.
// Errors: [oci.ManifestUnknown].
func (c *Client) Resolve(ctx context.Context, repo, ref string) (oci.Descriptor, error) {
	if err := checkRef(repo, ref); err != nil {
		return oci.Descriptor{}, err
	}
	r := c.manifestRequest(http.MethodHead, repo, ref)
	r.accept = []int{http.StatusOK, http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotImplemented}
	resp, err := c.do(ctx, r)
	if err != nil {
		return oci.Descriptor{}, missing(err, oci.ManifestUnknown)
	}
	resp.Body.Close()
	d, err := oci.ParseDigest(resp.Header.Get("Docker-Content-Digest"))
	mediaType := typeOf(resp.Header)
	switch {
	case resp.StatusCode != http.StatusOK, err != nil, resp.ContentLength <= 0, isVague(mediaType):
		m, err := c.getManifest(ctx, repo, ref)
		return m.Descriptor, err
	case oci.IsDigest(ref) && ref != string(d):
		return oci.Descriptor{}, c.otherDigest(repo, ref, d)
	}
	c.traits.saw(repo, d)
	return oci.Descriptor{MediaType: mediaType, Digest: d, Size: resp.ContentLength}, nil
}

// Manifest returns a manifest exactly as it was pushed, up to 16 MiB. It is
// verified against its digest, and its media type, where the registry does not
// tell, is told from its bytes. With a [Cache], one asked for by digest may
// come from there once the registry has said that it is still there.
// Errors: [oci.ManifestUnknown], [oci.DigestInvalid] (not what was asked for),
// [oci.ManifestTooLarge].
func (c *Client) Manifest(ctx context.Context, repo, ref string) (oci.Manifest, error) {
	if err := checkRef(repo, ref); err != nil {
		return oci.Manifest{}, err
	}
	if !oci.IsDigest(ref) {
		return c.getManifest(ctx, repo, ref)
	}
	d := oci.Digest(ref)
	raw, ok := c.cached(d)
	mediaType := oci.MediaTypeOf(raw)
	if !ok || mediaType == "" {
		return c.getManifest(ctx, repo, ref)
	}
	if !c.traits.sees(repo, d) {
		if _, err := c.Resolve(ctx, repo, ref); err != nil {
			return oci.Manifest{}, err
		}
	}
	return oci.Manifest{Descriptor: oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))}, Raw: raw}, nil
}

// getManifest reads a manifest from the registry.
func (c *Client) getManifest(ctx context.Context, repo, ref string) (oci.Manifest, error) {
	r := c.manifestRequest(http.MethodGet, repo, ref)
	resp, err := c.do(ctx, r)
	if err != nil {
		return oci.Manifest{}, missing(err, oci.ManifestUnknown)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	switch {
	case err != nil:
		return oci.Manifest{}, fmt.Errorf("%s: %w", r.subject, c.failed(err))
	case len(raw) > maxManifest:
		return oci.Manifest{}, oci.Errorf(oci.ManifestTooLarge, "%s: the manifest has more than %d bytes", r.subject, maxManifest)
	}
	d, err := c.identify(repo, ref, resp.Header, raw)
	if err != nil {
		return oci.Manifest{}, err
	}
	mediaType := typeOf(resp.Header)
	if told := oci.MediaTypeOf(raw); isVague(mediaType) && told != "" {
		mediaType = told
	}
	c.traits.saw(repo, d)
	c.keep(d, raw)
	return oci.Manifest{Descriptor: oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))}, Raw: raw}, nil
}

// identify returns the digest of a manifest, which must be what was asked for
// and what the registry says it is.
func (c *Client) identify(repo, ref string, h http.Header, raw []byte) (oci.Digest, error) {
	said := h.Get("Docker-Content-Digest")
	want, err := oci.ParseDigest(cmp.Or(digestIn(ref), said))
	if err != nil {
		return digest.FromBytes(raw), nil
	}
	if got := want.Algorithm().FromBytes(raw); got != want {
		return "", c.otherDigest(repo, cmp.Or(digestIn(ref), said), got)
	}
	return want, nil
}

func digestIn(ref string) string {
	if oci.IsDigest(ref) {
		return ref
	}
	return ""
}

func (c *Client) otherDigest(repo, want string, got oci.Digest) error {
	return oci.Errorf(oci.DigestInvalid, "%s: the registry sent %s for %s", c.host+"/"+repo, got, want)
}

func (c *Client) manifestRequest(method, repo, ref string) request {
	return request{
		method: method, path: "/v2/" + repo + "/manifests/" + ref, subject: c.subject(repo, ref),
		header: http.Header{"Accept": {strings.Join(acceptable(), ", ")}}, scope: scope{repo: repo, actions: "pull"},
	}
}

// subject names a manifest or blob in messages.
func (c *Client) subject(repo, ref string) string {
	if oci.IsDigest(ref) {
		return c.host + "/" + repo + "@" + ref
	}
	return c.host + "/" + repo + ":" + ref
}

// typeOf is the media type of an answer without its parameters.
func typeOf(h http.Header) string {
	value := h.Get("Content-Type")
	if t, _, err := mime.ParseMediaType(value); err == nil {
		return t
	}
	return value
}

// isVague tells whether a media type says less than a manifest's body does.
func isVague(mediaType string) bool {
	switch mediaType {
	case "", "application/json", "application/octet-stream", "text/plain", "text/html":
		return true
	}
	return false
}

// missing gives err the code of what is not there, if that is what it says.
func missing(err error, code oci.Code) error {
	for _, absent := range []oci.Code{oci.NotFound, oci.NameUnknown, oci.ManifestUnknown, oci.BlobUnknown, oci.BlobUploadUnknown} {
		if absent != code && errors.Is(err, absent) {
			message, bare := strings.CutSuffix(err.Error(), "404 Not Found") // The answer to a HEAD says no more.
			if bare {
				message += "not there"
			}
			return &oci.Error{Code: code, Message: message, Err: err}
		}
	}
	return err
}

func checkRef(repo, ref string) error {
	if err := oci.CheckRepo(repo); err != nil {
		return err
	}
	return oci.CheckRef(ref)
}

func checkDigest(repo string, d oci.Digest) error {
	if err := oci.CheckRepo(repo); err != nil {
		return err
	}
	_, err := oci.ParseDigest(string(d))
	return err
}

// cached returns content that was kept in an earlier run, or in this one.
func (c *Client) cached(d oci.Digest) ([]byte, bool) {
	if c.cache == nil {
		return nil, false
	}
	raw, ok := c.cache.Get(d)
	return bytes.Clone(raw), ok
}

func (c *Client) keep(d oci.Digest, raw []byte) {
	if c.cache != nil {
		c.cache.Put(d, raw)
	}
}
