package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/regctl/regctl/client/oci"
)

const (
	// runHeader groups what one command deletes, purposeHeader tells reading
	// about an image from using it. Only regctl serve wants to know.
	runHeader     = "Regctl-Run"
	purposeHeader = "Regctl-Purpose"
	purposeLook   = "look"
)

// setCaller tells a regctl serve what it records of who asks.
func setCaller(ctx context.Context, req *http.Request) {
	c := oci.CallerFrom(ctx)
	switch {
	case c.Run != "" && req.Method == http.MethodDelete:
		req.Header.Set(runHeader, c.Run)
	case c.Look && req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/manifests/"):
		req.Header.Set(purposeHeader, purposeLook)
	}
}

// Deletion is the record of something that a regctl serve was about to delete.
type Deletion struct {
	ID        int64      `json:"id"`
	At        time.Time  `json:"at"`
	Run       string     `json:"run"`  // What groups the deletions of one command. May be empty.
	Kind      string     `json:"kind"` // "tag", "manifest", "blob" or "repository".
	Repo      string     `json:"repo"`
	Tag       string     `json:"tag"`
	Digest    oci.Digest `json:"digest"` // Of a tag: where it pointed.
	MediaType string     `json:"mediaType"`
	Raw       []byte     `json:"raw"` // Of a manifest, if that was asked for.
	By        string     `json:"by"`
	Addr      string     `json:"addr"`
}

// DeletionsOptions say which of [Client.Deletions] are wanted.
type DeletionsOptions struct {
	Since  time.Time  // Not before.
	Run    string     // Only of this run. Empty: of any.
	Digest oci.Digest // Only of this. Empty: of any.
	After  int64      // Only those whose IDs are larger.
	Raw    bool       // With the bytes of manifests.
}

// Deletions lists what was deleted from the registry by anybody, the oldest
// first. Only regctl serve keeps a record.
// Errors: [oci.Unsupported].
func (c *Client) Deletions(ctx context.Context, o DeletionsOptions) iter.Seq2[Deletion, error] {
	return func(yield func(Deletion, error) bool) {
		can, err := c.has(ctx, keepsRecords)
		if err == nil && !can {
			err = oci.Errorf(oci.Unsupported, "%s keeps no record of what is deleted", c.host)
		}
		if err != nil {
			yield(Deletion{}, err)
			return
		}
		l, err := c.connect(ctx)
		if err != nil {
			yield(Deletion{}, err)
			return
		}
		q := query{subject: c.host, path: "/v2/_regctl/deletions", key: "deletions", refused: func(err error) error { return err }}
		for next := l.first(q.path, "") + "&" + o.query().Encode(); next != ""; {
			var more bool
			if next, more = page(ctx, c, l, &q, next, decodeDeletion, yield); !more {
				return
			}
		}
	}
}

func (o DeletionsOptions) query() url.Values {
	q := url.Values{}
	if !o.Since.IsZero() {
		q.Set("since", o.Since.UTC().Format(time.RFC3339Nano))
	}
	if o.Run != "" {
		q.Set("run", o.Run)
	}
	if o.Digest != "" {
		q.Set("digest", string(o.Digest))
	}
	if o.After != 0 {
		q.Set("last", strconv.FormatInt(o.After, 10))
	}
	if o.Raw {
		q.Set("raw", "1")
	}
	return q
}

// decodeDeletion reads one. What it names may be used in paths, so that it is
// held against the grammar.
func decodeDeletion(d *json.Decoder) (Deletion, error) {
	var w Deletion
	if err := d.Decode(&w); err != nil {
		return w, err
	}
	if err := oci.CheckRepo(w.Repo); err != nil {
		return w, err
	}
	if w.Tag != "" {
		if err := oci.CheckTag(w.Tag); err != nil {
			return w, err
		}
	}
	if w.Digest != "" {
		if _, err := oci.ParseDigest(string(w.Digest)); err != nil {
			return w, err
		}
	}
	return w, nil
}
