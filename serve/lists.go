package serve

import (
	"context"
	"encoding/json"
	"iter"
	"math"
	"net/url"
	"strconv"
	"time"

	"github.com/regctl/regctl/client/oci"
)

const (
	// defaultRepos is the page of the catalogue when none is asked for, as in
	// registry:2.
	defaultRepos = 100
	// flushAt is how much of a list is gathered before it goes out.
	flushAt = 32 << 10
)

// tags lists tags: all of them without ?n=, written as they come.
func (h *Handler) tags(ctx context.Context, w *response, q *request) error {
	query := q.URL.Query()
	last := query.Get("last")
	open := append(appendString([]byte(`{"name":`), q.repo), `,"tags":[`...)
	names := h.reg.Tags(ctx, q.repo, last)
	if query.Get("n") == "" {
		return streamNames(w, open, names)
	}
	n, err := parseN(query.Get("n"))
	if err != nil {
		return err
	}
	return writePage(w, q, open, names, min(n, h.o.MaxTags))
}

// catalog lists repositories, always by pages.
func (h *Handler) catalog(ctx context.Context, w *response, q *request) error {
	query := q.URL.Query()
	last := query.Get("last")
	n := min(defaultRepos, h.o.MaxRepos)
	if value := query.Get("n"); value != "" {
		var err error
		if n, err = parseN(value); err != nil {
			return err
		}
		if n > h.o.MaxRepos {
			return oci.Errorf(oci.PaginationInvalid, "n is more than %d", h.o.MaxRepos)
		}
	}
	return writePage(w, q, []byte(`{"repositories":[`), h.reg.Repos(ctx, last), n)
}

// parseN reads ?n=. A number too large for an int is a large number.
func parseN(s string) (int, error) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, oci.Errorf(oci.PaginationInvalid, "n=%q is not a number from 0 up", clip(s, 80))
		}
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return math.MaxInt, nil
	}
	return n, nil
}

// streamNames writes all of names. The answer begins with the first of them,
// so that an error before it is answered as such.
func streamNames(w *response, open []byte, names iter.Seq2[string, error]) error {
	w.Header().Set("Content-Type", "application/json")
	buf, first := open, true
	for name, err := range names {
		if err != nil {
			return err
		}
		if !first {
			buf = append(buf, ',')
		}
		buf, first = appendString(buf, name), false
		if len(buf) >= flushAt {
			if _, err := w.Write(buf); err != nil {
				return nil // The client is gone; w knows.
			}
			buf = buf[:0]
		}
	}
	buf = append(buf, "]}\n"...)
	if w.status == 0 {
		return writeJSON(w, "application/json", buf)
	}
	_, _ = w.Write(buf)
	return nil
}

// writePage writes the first n of names, and where the next page begins if
// there is one.
func writePage(w *response, q *request, open []byte, names iter.Seq2[string, error], n int) error {
	buf, count, last := open, 0, ""
	for name, err := range names {
		if err != nil {
			return err
		}
		if count == n {
			linkNext(w, q, url.Values{"n": {strconv.Itoa(n)}, "last": {last}}, n)
			break
		}
		if count > 0 {
			buf = append(buf, ',')
		}
		buf = appendString(buf, name)
		count, last = count+1, name
	}
	return writeJSON(w, "application/json", append(buf, "]}\n"...))
}

// linkNext sets the header Link to this path with another query. A page of
// nothing has no next one.
func linkNext(w *response, q *request, query url.Values, n int) {
	if n > 0 {
		w.Header().Set("Link", "<"+q.site.link(q.URL.EscapedPath())+"?"+query.Encode()+`>; rel="next"`)
	}
}

// appendString appends s as a JSON string. Names need no escapes.
func appendString(b []byte, s string) []byte {
	if oci.CheckTag(s) == nil || oci.CheckRepo(s) == nil {
		b = append(b, '"')
		b = append(b, s...)
		return append(b, '"')
	}
	quoted, _ := json.Marshal(s) // A string always has a JSON form.
	return append(b, quoted...)
}

type (
	detailsJSON struct {
		Schema string       `json:"schema"`
		Name   string       `json:"name"`
		Tags   []detailJSON `json:"tags"`
	}
	detailJSON struct {
		Tag          string         `json:"tag"`
		Digest       oci.Digest     `json:"digest"`
		MediaType    string         `json:"mediaType"`
		ManifestSize int64          `json:"manifestSize"`
		Size         int64          `json:"size"`
		Created      time.Time      `json:"created,omitzero"`
		Pushed       time.Time      `json:"pushed,omitzero"`
		Pulled       time.Time      `json:"pulled,omitzero"`
		Platforms    []oci.Platform `json:"platforms"`
	}
)

// tagDetails is ours: a page of tags with what a list for people shows.
func (h *Handler) tagDetails(ctx context.Context, w *response, q *request) error {
	query := q.URL.Query()
	last, n := query.Get("last"), h.o.MaxTags
	if value := query.Get("n"); value != "" {
		asked, err := parseN(value)
		if err != nil {
			return err
		}
		n = min(n, asked)
	}
	page := detailsJSON{Schema: "regctl.tags/v1", Name: q.repo, Tags: []detailJSON{}}
	for d, err := range h.reg.TagDetails(ctx, q.repo, last) {
		if err != nil {
			return err
		}
		if len(page.Tags) == n {
			linkNext(w, q, url.Values{"n": {strconv.Itoa(n)}, "last": {last}}, n)
			break
		}
		page.Tags = append(page.Tags, newDetail(d))
		last = d.Tag
	}
	body, err := json.Marshal(page)
	if err != nil {
		return err
	}
	return writeJSON(w, "application/json", append(body, '\n'))
}

func newDetail(d oci.TagDetail) detailJSON {
	platforms := d.Platforms
	if platforms == nil {
		platforms = []oci.Platform{}
	}
	return detailJSON{
		Tag: d.Tag, Digest: d.Manifest.Digest, MediaType: d.Manifest.MediaType, ManifestSize: d.Manifest.Size,
		Size: d.Size, Created: d.Created, Pushed: d.Pushed, Pulled: d.Pulled, Platforms: platforms,
	}
}

// referrersPage is about how large an answer of the referrers API may become:
// clients read it like a manifest.
const referrersPage = oci.MaxManifest

// referrers answers with an index, by pages if it would be too large.
func (h *Handler) referrers(ctx context.Context, w *response, q *request) error {
	query := q.URL.Query()
	after, artifactType := query.Get("last"), query.Get("artifactType")
	if after != "" {
		if _, err := oci.ParseDigest(after); err != nil {
			return err
		}
	}
	buf := []byte(`{"schemaVersion":2,"mediaType":"` + oci.MediaTypeIndex + `","manifests":[`)
	last := ""
	for d, err := range h.reg.Referrers(ctx, q.repo, q.digest, artifactType) {
		if err != nil {
			return err
		}
		if after != "" && string(d.Digest) <= after {
			continue
		}
		one, err := json.Marshal(d)
		if err != nil {
			return err
		}
		if last != "" {
			if len(buf)+len(one)+len(",]}\n") > referrersPage {
				linkNext(w, q, nextReferrers(last, artifactType), 1)
				break
			}
			buf = append(buf, ',')
		}
		buf, last = append(buf, one...), string(d.Digest)
	}
	if artifactType != "" {
		w.Header().Set("Oci-Filters-Applied", "artifactType")
	}
	w.Header().Set("Cache-Control", "no-cache")
	return writeJSON(w, oci.MediaTypeIndex, append(buf, "]}\n"...))
}

func nextReferrers(last, artifactType string) url.Values {
	next := url.Values{"last": {last}}
	if artifactType != "" {
		next.Set("artifactType", artifactType)
	}
	return next
}
