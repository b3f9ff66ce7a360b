package serve

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/regctl/regctl/client/oci"
)

// maxPutTags is how many ?tag= one push may carry.
const maxPutTags = 100

// getManifest answers with the bytes as they were pushed, whatever the client
// says it accepts: a manifest that was rewritten would have another digest.
func (h *Handler) getManifest(ctx context.Context, w *response, q *request) error {
	if len(q.Header["If-None-Match"]) > 0 {
		d, err := h.reg.Resolve(ctx, q.repo, q.ref)
		if err != nil {
			return err
		}
		if notModified(w, q, d) {
			return nil
		}
	}
	m, err := h.reg.Manifest(ctx, q.repo, q.ref)
	if err != nil {
		return err
	}
	describe(w, m.Descriptor)
	return writeJSON(w, m.Descriptor.MediaType, m.Raw)
}

func (h *Handler) headManifest(ctx context.Context, w *response, q *request) error {
	d, err := h.reg.Resolve(ctx, q.repo, q.ref)
	if err != nil || notModified(w, q, d) {
		return err
	}
	describe(w, d)
	w.Header().Set("Content-Type", d.MediaType)
	w.Header().Set("Content-Length", strconv.FormatInt(d.Size, 10))
	w.WriteHeader(http.StatusOK)
	return nil
}

// describe sets the headers that name content by its digest.
func describe(w *response, d oci.Descriptor) {
	header := w.Header()
	header.Set("Docker-Content-Digest", string(d.Digest))
	header.Set("Etag", etag(d.Digest))
}

func etag(d oci.Digest) string { return `"` + string(d) + `"` }

// notModified answers 304 if the client has d already.
func notModified(w *response, q *request, d oci.Descriptor) bool {
	conditions := q.Header["If-None-Match"]
	if len(conditions) == 0 || !matchETag(conditions, d.Digest, true) {
		return false
	}
	describe(w, d)
	w.WriteHeader(http.StatusNotModified)
	return true
}

// matchETag tells whether d is in the values of an If-Match or If-None-Match.
// Entity tags here are digests, so that a comma always ends one. A weak one
// ("W/…") matches only where weak comparison is asked for: RFC 9110, 8.8.3.2.
func matchETag(values []string, d oci.Digest, weak bool) bool {
	want := etag(d)
	for _, v := range values {
		for tag := range strings.SplitSeq(v, ",") {
			tag = strings.TrimSpace(tag)
			if weak {
				tag = strings.TrimPrefix(tag, "W/")
			}
			if tag == want || tag == "*" || weak && tag == string(d) { // As registry:2, without quotes too.
				return true
			}
		}
	}
	return false
}

func (h *Handler) putManifest(ctx context.Context, w *response, q *request) error {
	if len(q.Header["If-Match"]) > 0 {
		return oci.Errorf(oci.Unsupported, "If-Match is not supported on a push; If-None-Match: * is")
	}
	p := oci.Put{
		Digest: q.digest, MediaType: q.Header.Get("Content-Type"),
		NoOverwrite: strings.TrimSpace(q.Header.Get("If-None-Match")) == "*",
	}
	extra, err := putTags(q.URL.Query())
	if err != nil {
		return err
	}
	if q.digest == "" {
		p.Tags = append(p.Tags, q.ref)
	}
	p.Tags = append(p.Tags, extra...)
	if err := h.permit(ctx, q); err != nil {
		return err
	}
	if p.Raw, err = readManifest(q); err != nil {
		return err
	}
	d, err := h.reg.PutManifest(ctx, q.repo, p)
	if err != nil {
		return err
	}
	header := w.Header()
	header.Set("Location", h.location(q.repo, "/manifests/", string(d.Digest)))
	header.Set("Docker-Content-Digest", string(d.Digest))
	if len(extra) > 0 {
		header["Oci-Tag"] = p.Tags
	}
	if g, err := oci.ParseManifest("", p.Raw); err == nil && g.Subject != nil {
		header.Set("Oci-Subject", string(g.Subject.Digest))
	}
	return empty(w, http.StatusCreated)
}

// permit refuses a push before its manifest is kept in memory, if the registry
// knows already that it will.
func (h *Handler) permit(ctx context.Context, q *request) error {
	guard, ok := h.reg.(interface {
		Permit(ctx context.Context, repo string) error
	})
	if !ok {
		return nil
	}
	err := guard.Permit(ctx, q.repo)
	if err != nil && q.Header.Get("Expect") == "" { // Who expects an answer before has sent nothing.
		q.body.drain(oci.MaxManifest)
	}
	return err
}

func putTags(query url.Values) ([]string, error) {
	tags := query["tag"]
	if len(tags) > maxPutTags {
		return nil, oci.Errorf(oci.TooManyTags, "%d tags in one request, at most %d are taken", len(tags), maxPutTags)
	}
	for _, t := range tags {
		if err := oci.CheckTag(t); err != nil {
			return nil, err
		}
	}
	return tags, nil
}

// readManifest reads the body, and no more of it than a manifest may have. The
// length that the client announces is no reason to set memory aside.
func readManifest(q *request) ([]byte, error) {
	tooLarge := oci.Errorf(oci.ManifestTooLarge, "a manifest may have at most %d bytes", oci.MaxManifest)
	if q.ContentLength > oci.MaxManifest {
		q.body.drain(oci.MaxManifest * 2)
		return nil, tooLarge
	}
	var buf bytes.Buffer
	buf.Grow(int(min(max(q.ContentLength, 0), 64<<10)) + bytes.MinRead)
	n, err := buf.ReadFrom(io.LimitReader(q.body, oci.MaxManifest+1))
	switch {
	case err != nil:
		return nil, &oci.Error{Code: oci.SizeInvalid, Message: "the body of the request ended early", Err: err}
	case n > oci.MaxManifest:
		q.body.drain(oci.MaxManifest)
		return nil, tooLarge
	}
	return buf.Bytes(), nil
}

// deleteManifest removes a tag, or by digest a manifest with its tags. With
// If-Match it happens only if the client's view still holds.
func (h *Handler) deleteManifest(ctx context.Context, w *response, q *request) error {
	was, err := h.condition(ctx, q)
	if err != nil {
		return err
	}
	if q.digest != "" {
		err = h.reg.DeleteManifest(ctx, q.repo, q.digest)
	} else {
		err = h.reg.DeleteTag(ctx, q.repo, q.ref, was)
	}
	if err != nil {
		return err
	}
	return empty(w, http.StatusAccepted)
}

// condition returns the digest that If-Match demands of the ref; "" without.
func (h *Handler) condition(ctx context.Context, q *request) (oci.Digest, error) {
	values := q.Header["If-Match"]
	if len(values) == 0 {
		return "", nil
	}
	d, err := h.reg.Resolve(ctx, q.repo, q.ref)
	if err != nil {
		return "", err
	}
	if !matchETag(values, d.Digest, false) {
		return "", oci.Errorf(oci.TagMoved, "%s is at %s now", q.ref, d.Digest)
	}
	return d.Digest, nil
}

func (h *Handler) deleteRepo(ctx context.Context, w *response, q *request) error {
	if err := h.reg.DeleteRepo(ctx, q.repo); err != nil {
		return err
	}
	return empty(w, http.StatusAccepted)
}
