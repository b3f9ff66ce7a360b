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
	"net/url"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

// maxTags is how many tags go into the address of one request.
const maxTags = 50

// PutManifest stores a manifest and moves p.Tags to it, in order: in one
// request where the registry takes several tags, else in one for each, so that
// one that fails leaves those before it moved.
//
// NoOverwrite and Fixed are decided by regctl serve itself. Of other registries they are
// asked before the first tag moves, and somebody who is faster than that is
// overwritten. To a registry without the referrers API a manifest with a
// subject is pushed together with the index under the tag that stands in for
// it. Two processes that change that index at the same moment may need several
// rounds, and in the worst case one of the two is not listed.
// Errors: [oci.ManifestInvalid], [oci.ManifestTooLarge], [oci.DigestInvalid],
// [oci.ManifestBlobUnknown], [oci.TagExists], [oci.Unsupported] (a digest or
// several tags that this registry cannot take), [oci.InsufficientStorage].
func (c *Client) PutManifest(ctx context.Context, repo string, p oci.Put) (oci.Descriptor, error) {
	d, err := checkPut(repo, p)
	if err != nil {
		return oci.Descriptor{}, err
	}
	w := manifestPush{c: c, repo: repo, Put: p, desc: oci.Descriptor{MediaType: declared(p), Digest: d, Size: int64(len(p.Raw))}}
	if w.ours, err = c.has(ctx, takesCondition); err != nil {
		return oci.Descriptor{}, err
	}
	if !w.ours {
		if err := c.mustNotExist(ctx, repo, w.kept(true), d); err != nil {
			return oci.Descriptor{}, err
		}
	}
	if err := w.send(ctx); err != nil {
		return oci.Descriptor{}, err
	}
	c.traits.saw(repo, d)
	if !w.listed {
		err = c.addReferrer(ctx, repo, w.desc, p.Raw)
	}
	return w.desc, err
}

func checkPut(repo string, p oci.Put) (oci.Digest, error) {
	if err := oci.CheckRepo(repo); err != nil {
		return "", err
	}
	for _, tag := range p.Tags {
		if err := oci.CheckTag(tag); err != nil {
			return "", err
		}
	}
	if p.Digest == "" {
		return digest.FromBytes(p.Raw), nil
	}
	d, err := oci.ParseDigest(string(p.Digest))
	if err != nil {
		return "", err
	}
	if got := d.Algorithm().FromBytes(p.Raw); got != d {
		return "", oci.Errorf(oci.DigestInvalid, "the manifest is %s, not %s", got, d)
	}
	return d, nil
}

// declared is the media type to push p with: that of its bytes, unless p says
// something else, which the registry then decides about.
func declared(p oci.Put) string {
	said := p.MediaType
	if t, _, err := mime.ParseMediaType(said); err == nil {
		said = t
	}
	if said == "" || said == "application/json" {
		return cmp.Or(oci.MediaTypeOf(p.Raw), said, "application/json")
	}
	return said
}

// mustNotExist fails if one of tags points elsewhere.
func (c *Client) mustNotExist(ctx context.Context, repo string, tags []string, d oci.Digest) error {
	for _, tag := range tags {
		now, err := c.Resolve(ctx, repo, tag)
		switch {
		case errors.Is(err, oci.ManifestUnknown):
		case err != nil:
			return err
		case now.Digest != d:
			return oci.Errorf(oci.TagExists, "%s is %s and must not be overwritten", c.subject(repo, tag), now.Digest)
		}
	}
	return nil
}

// manifestPush is one manifest on its way.
type manifestPush struct {
	oci.Put

	c      *Client
	repo   string
	desc   oci.Descriptor
	ours   bool
	listed bool // The registry has seen that it is a referrer.
}

// send pushes it under all its names.
func (w *manifestPush) send(ctx context.Context) error {
	if w.ours {
		return w.sendOurs(ctx)
	}
	if w.desc.Digest.Algorithm() != digest.Canonical && len(w.Tags) > 0 {
		return w.tagOther(ctx)
	}
	names := w.Tags
	if len(names) == 0 {
		names = []string{string(w.desc.Digest)}
	}
	for _, name := range names {
		if _, err := w.put(ctx, name, nil); err != nil {
			return err
		}
	}
	return nil
}

// sendOurs sends it to regctl serve. A condition is on all tags of a request:
// those that must not be moved go first, as they may be refused.
func (w *manifestPush) sendOurs(ctx context.Context) error {
	kept, moved := w.kept(true), w.kept(false)
	requests := slices.Collect(slices.Chunk(kept, maxTags))
	if len(kept) == 0 || len(moved) > 0 {
		requests = append(requests, chunked(moved, maxTags)...)
	}
	for _, tags := range requests {
		if _, err := w.put(ctx, string(w.desc.Digest), tags); err != nil {
			return err
		}
	}
	return nil
}

// kept are the tags that must not be moved, or those that may be.
func (w *manifestPush) kept(kept bool) []string {
	var tags []string
	for _, tag := range w.Tags {
		if w.Keeps(tag) == kept {
			tags = append(tags, tag)
		}
	}
	return tags
}

// chunked cuts tags into lists of at most n; none is one list.
func chunked(tags []string, n int) [][]string {
	if len(tags) == 0 {
		return [][]string{nil}
	}
	return slices.Collect(slices.Chunk(tags, n))
}

// tagOther tags by a digest that a push by tag would not lead to.
func (w *manifestPush) tagOther(ctx context.Context) error {
	h, err := w.put(ctx, string(w.desc.Digest), w.Tags)
	if err != nil {
		return err
	}
	set := strings.Join(h.Values("OCI-Tag"), ",")
	for _, tag := range w.Tags {
		if !slices.ContainsFunc(strings.Split(set, ","), func(s string) bool { return strings.TrimSpace(s) == tag }) {
			return oci.Errorf(oci.Unsupported, "%s: the registry has the manifest, but cannot tag it by its %s digest",
				w.c.subject(w.repo, tag), w.desc.Digest.Algorithm())
		}
	}
	return nil
}

// put sends the manifest by one name, and with tags besides.
func (w *manifestPush) put(ctx context.Context, name string, tags []string) (http.Header, error) {
	r := request{
		method: http.MethodPut, path: "/v2/" + w.repo + "/manifests/" + name, subject: w.c.subject(w.repo, name),
		header: http.Header{"Content-Type": {w.desc.MediaType}}, scope: scope{repo: w.repo, actions: "pull,push"},
		body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(w.Raw)), nil }, size: int64(len(w.Raw)),
		accept: []int{http.StatusCreated, http.StatusOK, http.StatusAccepted, http.StatusNoContent},
	}
	if len(tags) > 0 {
		r.query, r.subject = url.Values{"tag": tags}, w.c.subject(w.repo, strings.Join(tags, ","))
	}
	switch {
	case w.ours && (w.NoOverwrite || len(tags) > 0 && w.Keeps(tags[0])):
		r.header.Set("If-None-Match", "*")
	case !w.ours && !oci.IsDigest(name) && w.Keeps(name):
		r.again = func() error { return w.c.mustNotExist(ctx, w.repo, []string{name}, w.desc.Digest) }
	}
	resp, err := w.c.do(ctx, r)
	if err != nil {
		return nil, w.refusal(err)
	}
	resp.Body.Close()
	if said := resp.Header.Get("Docker-Content-Digest"); said != "" && said != string(w.desc.Digest) {
		return nil, oci.Errorf(oci.DigestInvalid, "%s: the registry took the manifest %s for %s", r.subject, w.desc.Digest, clip(said))
	}
	w.listed = w.listed || resp.Header.Get("OCI-Subject") != ""
	return resp.Header, nil
}

// refusal gives err the code that the contract has for it.
func (w *manifestPush) refusal(err error) error {
	switch {
	case errors.Is(err, oci.BlobUnknown):
		return &oci.Error{Code: oci.ManifestBlobUnknown, Message: err.Error(), Err: err}
	case errors.Is(err, oci.TagMoved) && (w.NoOverwrite || len(w.Fixed) > 0): // 412 in other words.
		return &oci.Error{Code: oci.TagExists, Message: err.Error(), Err: err}
	case errors.Is(err, oci.NotFound):
		return &oci.Error{Code: oci.NameUnknown, Message: fmt.Sprintf("%v: no such repository, or none that may be pushed to", err), Err: err}
	}
	return err
}
