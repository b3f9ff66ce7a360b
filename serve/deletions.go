package serve

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/state"
)

const (
	// runHeader of a request groups what one command of a client deletes.
	runHeader = "Regctl-Run"
	// purposeHeader with purposeLook is of who reads manifests without using
	// the images.
	purposeHeader = "Regctl-Purpose"
	purposeLook   = "look"
	// maxRun is how long the id of a run may be.
	maxRun = 64
)

// runOf is the run that a request says it is part of, if that is well-formed.
func runOf(r *http.Request) string {
	if run := r.Header.Get(runHeader); isToken(run, maxRun) {
		return run
	}
	return ""
}

// Deletions tell what was deleted. A [state.State] does.
type Deletions interface {
	// List returns a page, the oldest first; an empty one at the end.
	List(ctx context.Context, o state.ListOptions) ([]state.Deletion, error)
}

type (
	deletionsJSON struct {
		Schema    string         `json:"schema"`
		Deletions []deletionJSON `json:"deletions"`
	}
	deletionJSON struct {
		ID        int64      `json:"id"`
		At        time.Time  `json:"at"`
		Run       string     `json:"run,omitempty"`
		Kind      string     `json:"kind"`
		Repo      string     `json:"repo"`
		Tag       string     `json:"tag,omitempty"`
		Digest    oci.Digest `json:"digest,omitempty"`
		MediaType string     `json:"mediaType,omitempty"`
		Raw       []byte     `json:"raw,omitempty"` // In base64.
		By        string     `json:"by,omitempty"`
		Addr      string     `json:"addr,omitempty"`
	}
)

// deletions is ours: a page of what was deleted, the oldest first. ?since= is a
// time, ?run= the only run that is wanted, ?digest= the only digest, ?raw=1 asks
// for manifests too, ?last= is the id before the page.
func (h *Handler) deletions(ctx context.Context, w *response, q *request) error {
	if h.o.Deletions == nil {
		return oci.Errorf(oci.NotFound, "this registry keeps no record of what is deleted")
	}
	query := q.URL.Query()
	o, err := listOptions(query, h.o.MaxTags)
	if err != nil {
		return err
	}
	ds, err := h.o.Deletions.List(ctx, o)
	if err != nil {
		return err
	}
	page := deletionsJSON{Schema: "regctl.deletions/v1", Deletions: make([]deletionJSON, len(ds))}
	for i, d := range ds {
		page.Deletions[i] = deletionJSON(d)
	}
	if len(ds) == o.N || o.Raw && len(ds) > 0 { // With manifests a page may be full before.
		query.Set("last", strconv.FormatInt(ds[len(ds)-1].ID, 10))
		query.Set("n", strconv.Itoa(o.N))
		linkNext(w, q, query, o.N)
	}
	body, err := json.Marshal(page)
	if err != nil {
		return err
	}
	w.Header().Set("Cache-Control", "no-store")
	return writeJSON(w, "application/json", append(body, '\n'))
}

// listOptions reads the query of a page of at most most.
func listOptions(query url.Values, most int) (state.ListOptions, error) {
	o := state.ListOptions{N: most, Run: query.Get("run"), Digest: oci.Digest(query.Get("digest")), Raw: query.Get("raw") == "1"}
	if value := query.Get("n"); value != "" {
		n, err := parseN(value)
		if err != nil {
			return o, err
		}
		if n == 0 {
			return o, oci.Errorf(oci.PaginationInvalid, "a page of nothing leads nowhere")
		}
		o.N = min(n, most)
	}
	if value := query.Get("last"); value != "" {
		id, err := parseN(value)
		if err != nil {
			return o, oci.Errorf(oci.PaginationInvalid, "last=%q is not the id of a deletion", clip(value, 80))
		}
		o.After = int64(id)
	}
	if value := query.Get("since"); value != "" {
		var err error
		if o.Since, err = time.Parse(time.RFC3339, value); err != nil {
			return o, oci.Errorf(oci.PaginationInvalid, "since=%q is not a time such as 2026-11-20T12:00:00Z", clip(value, 80))
		}
	}
	return o, nil
}
