package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/regctl/regctl/client/oci"
)

const (
	pageSize = 1000     // Some registries refuse more.
	maxPage  = 64 << 20 // Of one answer, whatever the registry was asked for.
	maxPages = 1 << 17
)

// Repos lists the repositories. Over several pages they are in the order of the
// server: bytewise on most, but not on all. A registry that refuses its
// catalogue to everybody looks just as one that wants a login.
// Errors: [oci.Unsupported] (this registry has no catalogue).
func (c *Client) Repos(ctx context.Context, after string) iter.Seq2[string, error] {
	return names(ctx, c, query{
		subject: c.host, path: "/v2/_catalog", key: "repositories", after: after,
		refused: func(err error) error {
			if errors.Is(err, oci.NotFound) || errors.Is(err, oci.NameUnknown) || errors.Is(err, oci.Unsupported) {
				return &oci.Error{Code: oci.Unsupported, Message: c.host + " has no catalogue of its repositories", Err: err}
			}
			return err
		},
	})
}

// Tags lists the tags of repo. Over several pages they are in the order of the
// server: bytewise on most, but not on all.
// Errors: [oci.NameUnknown].
func (c *Client) Tags(ctx context.Context, repo, after string) iter.Seq2[string, error] {
	if err := oci.CheckRepo(repo); err != nil {
		return func(yield func(string, error) bool) { yield("", err) }
	}
	return names(ctx, c, c.repoQuery(repo, "/tags/list", after))
}

// names lists names. A registry that gives them all at once may have ignored
// where to begin, as registry:2 does with tags, which it does not sort either.
func names(ctx context.Context, c *Client, q query) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		l, err := c.connect(ctx)
		if err != nil {
			yield("", err)
			return
		}
		q := q // With pages of its own: a sequence may be asked for twice.
		first := l.first(q.path, q.after)
		for address := first; address != ""; {
			var all []string
			next, _ := page(ctx, c, l, &q, address, decodeName, func(name string, pageErr error) bool {
				if err = pageErr; err == nil {
					all = append(all, name)
				}
				return err == nil
			})
			if address == first && next == "" {
				slices.Sort(all)
				if from, found := slices.BinarySearch(all, q.after); q.after != "" {
					if found {
						from++
					}
					all = all[from:]
				}
			}
			for _, name := range all {
				if !yield(name, nil) {
					return
				}
			}
			if err != nil {
				yield("", err)
				return
			}
			address = next
		}
	}
}

// FirstTagDetails returns the first page of [Client.TagDetails], by one
// request, and whether there are more. Only regctl serve can; others have no
// such endpoint.
// Errors: those of TagDetails.
func (c *Client) FirstTagDetails(ctx context.Context, repo string) (details []oci.TagDetail, more bool, err error) {
	if err := oci.CheckRepo(repo); err != nil {
		return nil, false, err
	}
	q := c.repoQuery(repo, "/_regctl/tags", "")
	l, err := c.connect(ctx)
	if err != nil {
		return nil, false, err
	}
	next, _ := page(ctx, c, l, &q, l.first(q.path, ""), decodeDetail, func(d oci.TagDetail, pageErr error) bool {
		if err = pageErr; err == nil {
			details = append(details, d)
		}
		return err == nil
	})
	if err != nil {
		return nil, false, err
	}
	return details, next != "", nil
}

// inRepo lists something of a repository.
func inRepo[T any](ctx context.Context, c *Client, repo, endpoint, after string, decode func(*json.Decoder) (T, error)) iter.Seq2[T, error] {
	if err := oci.CheckRepo(repo); err != nil {
		return func(yield func(T, error) bool) {
			var none T
			yield(none, err)
		}
	}
	return list(ctx, c, c.repoQuery(repo, endpoint, after), decode)
}

func (c *Client) repoQuery(repo, endpoint, after string) query {
	return query{
		subject: c.host + "/" + repo, scope: scope{repo: repo, actions: "pull"},
		path: "/v2/" + repo + endpoint, key: "tags", after: after,
		refused: func(err error) error { return err },
	}
}

// errNoList is JSON of another shape.
var errNoList = errors.New("unexpected JSON")

// query is one list of a registry.
type query struct {
	subject string // Whose list it is, for messages.
	scope   scope
	path    string
	key     string // Of the array in the answer.
	after   string
	refused func(error) error // What an answer that is no success means.
	seen    map[string]bool   // Pages that were asked for.
}

// list follows a list from page to page. It ends with its first error.
func list[T any](ctx context.Context, c *Client, q query, decode func(*json.Decoder) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		l, err := c.connect(ctx)
		if err != nil {
			yield(none, err)
			return
		}
		q := q // With pages of its own: a sequence may be asked for twice.
		for next := l.first(q.path, q.after); next != ""; {
			var more bool
			if next, more = page(ctx, c, l, &q, next, decode, yield); !more {
				return
			}
		}
	}
}

// page yields what is on the page at address, and returns that of the next
// one. There is no more after an error or a yield that wants none.
func page[T any](ctx context.Context, c *Client, l *link, q *query, address string,
	decode func(*json.Decoder) (T, error), yield func(T, error) bool) (next string, more bool) {
	var none T
	if err := q.turn(address); err != nil {
		yield(none, err)
		return "", false
	}
	resp, err := c.do(ctx, request{method: http.MethodGet, path: address, scope: q.scope, subject: q.subject})
	if err != nil {
		yield(none, q.refused(err))
		return "", false
	}
	defer func() { _ = resp.Body.Close() }() // It was only read.
	more = true
	items(resp.Body, q.key, decode, func(item T, err error) bool {
		if err != nil {
			err = c.garbled(err, q.subject)
		}
		more = yield(item, err) && err == nil
		return more
	})
	if !more {
		return "", false
	}
	if next, err = l.next(resp, address); err != nil {
		yield(none, err)
	}
	return next, err == nil
}

// turn notes that a page is asked for. Pages that lead to each other would have
// no end, and neither would those that never lead anywhere.
func (q *query) turn(address string) error {
	switch {
	case q.seen[address]:
		return oci.Errorf(oci.Unknown, "%s: the list leads in a circle: the next page was there already", q.subject)
	case len(q.seen) >= maxPages:
		return oci.Errorf(oci.Unknown, "%s: the list has more than %d pages", q.subject, maxPages)
	case q.seen == nil:
		q.seen = map[string]bool{}
	}
	q.seen[address] = true
	return nil
}

func (l *link) first(path, after string) string {
	query := url.Values{"n": {fmt.Sprint(pageSize)}}
	if after != "" {
		query.Set("last", after)
	}
	u := url.URL{Scheme: l.scheme, Host: l.reg.RegistryStr(), Path: path, RawQuery: query.Encode()}
	return u.String()
}

// next returns the address of the page that follows resp, or "". It never
// leads away from the registry.
func (l *link) next(resp *http.Response, current string) (string, error) {
	target := nextLink(resp.Header.Values("Link"))
	if target == "" {
		return "", nil
	}
	base, err := url.Parse(current)
	if err != nil {
		return "", err
	}
	u, err := base.Parse(target)
	if err != nil {
		return "", oci.Errorf(oci.Unknown, "%s: next page: %v", base.Host, err)
	}
	if u.Scheme != base.Scheme || u.Host != base.Host {
		return "", oci.Errorf(oci.Unknown, "%s: the next page is said to be on %s://%s; not followed", base.Host, u.Scheme, u.Host)
	}
	if u.String() == current {
		return "", oci.Errorf(oci.Unknown, "%s: the next page is said to be this one", base.Host)
	}
	return u.String(), nil
}

// nextLink finds the target of rel="next" in headers Link, each a list. One
// without any rel counts, since nothing else is linked from lists.
func nextLink(headers []string) string {
	for _, h := range headers {
		for {
			_, rest, _ := strings.Cut(h, "<")
			target, params, ok := strings.Cut(rest, ">")
			if !ok {
				break
			}
			var rel string
			if rel, h = linkRel(params); target != "" && (rel == "" || slices.Contains(strings.Fields(rel), "next")) {
				return target
			}
		}
	}
	return ""
}

// linkRel returns the relations, in lower case, that the parameters of a link
// give it, and the links that follow.
func linkRel(params string) (rel, rest string) {
	quoted, from, found := false, 0, false
	for i := 0; ; i++ {
		end := i == len(params)
		switch {
		case !end && params[i] == '"':
			quoted = !quoted
		case !end && quoted && params[i] == '\\':
			i = min(i+1, len(params)-1)
		case end || !quoted && (params[i] == ';' || params[i] == ','):
			name, value, _ := strings.Cut(params[from:i], "=")
			if !found && strings.EqualFold(strings.TrimSpace(name), "rel") { // RFC 8288, 3.3: the first one counts.
				rel, found = strings.ToLower(strings.Trim(value, "\" \t")), true
			}
			if end || params[i] == ',' {
				return rel, params[i:]
			}
			from = i + 1
		}
	}
}

// items yields the elements of the array under key of a JSON object as they
// arrive. Null is an empty array.
func items[T any](body io.Reader, key string, decode func(*json.Decoder) (T, error), yield func(T, error) bool) {
	var none T
	d := json.NewDecoder(io.LimitReader(body, maxPage))
	open, err := seek(d, key)
	if err != nil {
		yield(none, err)
		return
	}
	for open && d.More() {
		item, err := decode(d)
		if err != nil {
			yield(none, err)
			return
		}
		if !yield(item, nil) {
			return
		}
	}
	if open {
		if _, err := d.Token(); err != nil { // The list must be seen to end.
			yield(none, err)
		}
	}
}

// seek reads up to the first element of the array under key. There is none if
// the array is null or missing.
func seek(d *json.Decoder, key string) (open bool, err error) {
	token, err := d.Token()
	if err != nil {
		return false, err
	}
	if token != json.Delim('{') {
		return false, fmt.Errorf("%w: not an object", errNoList)
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return false, err
		}
		if name != key {
			var skipped json.RawMessage
			if err := d.Decode(&skipped); err != nil {
				return false, err
			}
			continue
		}
		switch token, err := d.Token(); {
		case err != nil:
			return false, err
		case token == json.Delim('['):
			return true, nil
		case token != nil:
			return false, fmt.Errorf("%w: %q is not an array", errNoList, key)
		}
	}
	_, err = d.Token()
	return false, err
}

// garbled is the error for an answer that stopped being what it should be.
func (c *Client) garbled(err error, subject string) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	var coded *oci.Error
	switch {
	case errors.Is(err, errNoList), errors.As(err, &syntax), errors.As(err, &kind), errors.Is(err, io.EOF):
		return &oci.Error{Code: oci.Unknown, Message: subject + ": the answer is no list of a registry: " + err.Error(), Err: err}
	case errors.As(err, &coded):
		return fmt.Errorf("%s: %w", subject, err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &oci.Error{Code: oci.Unavailable, Message: subject + ": the answer broke off", Err: err}
	}
	return c.failed(err)
}

// decodeName refuses what would write more than a name to a terminal.
func decodeName(d *json.Decoder) (string, error) {
	var name string
	if err := d.Decode(&name); err != nil {
		return "", err
	}
	if strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }) {
		return "", oci.Errorf(oci.NameInvalid, "the registry lists a name that is none: %.80q", name)
	}
	return name, nil
}

func decodeDetail(d *json.Decoder) (oci.TagDetail, error) {
	var w struct {
		Tag          string         `json:"tag"`
		Digest       oci.Digest     `json:"digest"`
		MediaType    string         `json:"mediaType"`
		ManifestSize int64          `json:"manifestSize"`
		Size         int64          `json:"size"`
		Created      time.Time      `json:"created"`
		Pushed       time.Time      `json:"pushed"`
		Pulled       time.Time      `json:"pulled"`
		Platforms    []oci.Platform `json:"platforms"`
	}
	if err := d.Decode(&w); err != nil {
		return oci.TagDetail{}, err
	}
	if err := oci.CheckTag(w.Tag); err != nil {
		return oci.TagDetail{}, err
	}
	if _, err := oci.ParseDigest(string(w.Digest)); err != nil {
		return oci.TagDetail{}, err
	}
	return oci.TagDetail{
		Tag: w.Tag, Manifest: oci.Descriptor{MediaType: w.MediaType, Digest: w.Digest, Size: w.ManifestSize},
		Size: w.Size, Created: w.Created, Pushed: w.Pushed, Pulled: w.Pulled, Platforms: w.Platforms,
	}, nil
}
