package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/regctl/regctl/client/oci"
)

const (
	maxErrorBody = 64 << 10 // How much of an error answer is read.
	largeBody    = 64 << 10 // From where on a body is no small request.
)

// errNoAnswer is that a server said nothing for too long.
var errNoAnswer = errors.New("no answer in time")

// scope is what a request needs to be allowed to do: a repository and actions
// on it, or the catalogue. Registries that hand out tokens tell scopes apart.
type scope struct {
	repo    string   // Empty: the catalogue.
	actions string   // "pull", "pull,push" or "delete".
	also    []string // Repositories that are pulled from besides, for a mount.
	none    bool     // Nothing is asked for but to know who asks.
}

// request is one call of the registry API. Its answer is had by [Client.do].
// It may be sent several times. One that appends to an upload, or must find
// nothing there (If-None-Match), is sent again only if it certainly did not
// arrive: otherwise the caller has to ask what became of it. A DELETE that is
// sent again may find nothing left to delete.
type request struct {
	method  string
	path    string     // "/v2/…", or a whole address that the registry gave.
	query   url.Values // Added to that of path.
	header  http.Header
	scope   scope
	subject string // Begins the message of an error: "HOST/REPO:TAG".

	// body is opened anew for each attempt; nil: none. A body that can be had
	// only once fails the second time, and the request is not repeated.
	body func() (io.ReadCloser, error)
	size int64 // Of body in bytes; -1: unknown.

	// again is asked before r is sent once more, and its error ends it: that
	// which was seen to be so may have changed while one waited. Nil: send it.
	again func() error

	// accept lists the statuses that are a success; empty: 200.
	accept []int
}

// do sends r and returns its answer if it is a success. The caller closes the
// body of the answer. An answer that is none becomes an [*oci.Error].
// What may pass is tried again; a registry that asks for more time than that
// is left alone at once, and the error has its RetryAfter.
func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	l, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	first := true
	return c.repeated(ctx, func() (*http.Response, *fault) {
		if !first && r.again != nil {
			if err := r.again(); err != nil {
				return nil, &fault{err: err}
			}
		}
		first = false
		return c.once(ctx, l, &r)
	})
}

// once is one attempt at r, when it is its turn.
func (c *Client) once(ctx context.Context, l *link, r *request) (*http.Response, *fault) {
	slot, err := c.slots.acquire(ctx, r.kind())
	if err != nil {
		return nil, &fault{err: c.failed(err)}
	}
	if err := c.pass(ctx); err != nil {
		slot.release()
		return nil, &fault{err: c.failed(err)}
	}
	resp, f := c.permitted(ctx, l, r, slot)
	if f != nil {
		if errors.Is(f.err, oci.TooManyRequests) {
			slot.tooMany()
		}
		slot.release()
		return nil, f
	}
	slot.fine()
	if b, ok := resp.Body.(*answerBody); ok && slot.kind == download {
		b.slot = slot
	} else {
		slot.release()
	}
	return resp, nil
}

// permitted sends r with what allows it, under each name that has.
func (c *Client) permitted(ctx context.Context, l *link, r *request, slot *slot) (*http.Response, *fault) {
	var first *fault
	variants := l.auth.variants(r.scope)
	for _, s := range variants {
		resp, f := c.authorized(ctx, l, r, s, slot)
		if f == nil && len(variants) > 1 {
			l.auth.worked(s)
		}
		if f == nil {
			return resp, nil
		}
		if first == nil {
			first = f
		}
		if !f.refused {
			return nil, f
		}
	}
	return nil, first
}

// authorized sends r with what allows s, and once more if the registry wants
// to see something else.
func (c *Client) authorized(ctx context.Context, l *link, r *request, s scope, slot *slot) (*http.Response, *fault) {
	value, fresh, f := l.auth.header(ctx, s, "")
	if f != nil {
		return nil, f
	}
	resp, f := c.send(ctx, l, r, value, slot)
	if f != nil {
		return nil, f
	}
	head, status := resp.Header, resp.StatusCode
	ours := sameOrigin(resp.Request.URL, l.base())
	resp, refusal := c.judge(r, l, resp)
	if status != http.StatusUnauthorized || refusal == nil || !ours {
		return resp, refusal
	}
	other, f := l.auth.challenged(ctx, s, value, fresh, head)
	if f != nil {
		return nil, f
	}
	if other == value {
		return nil, refusal
	}
	resp, f = c.send(ctx, l, r, other, slot)
	switch {
	case f != nil && f.unsent:
		return nil, refusal
	case f != nil:
		return nil, f
	}
	return c.judge(r, l, resp)
}

// send sends r once and returns its answer, whatever it is.
func (c *Client) send(ctx context.Context, l *link, r *request, authorization string, slot *slot) (*http.Response, *fault) {
	ctx, cancel := context.WithCancelCause(ctx)
	sending := newSending(c.stall, func() { cancel(errNoAnswer) })
	req, err := l.newRequest(ctx, r, slot, sending)
	if err != nil {
		cancel(nil)
		return nil, &fault{err: err, unsent: true}
	}
	if authorization != "" && sameOrigin(req.URL, l.base()) {
		req.Header.Set("Authorization", authorization)
	}
	impatient := time.AfterFunc(c.patience, func() { cancel(errNoAnswer) })
	if r.method != http.MethodGet && r.method != http.MethodHead {
		impatient.Stop() // Writes take their time.
	}
	resp, err := l.http.Do(req)
	impatient.Stop()
	if err != nil {
		if context.Cause(ctx) == errNoAnswer {
			err = errNoAnswer
		}
		cancel(nil)
		return nil, c.broken(r, err)
	}
	resp.Body = &answerBody{
		inner: resp.Body, cause: func() error { return context.Cause(ctx) }, cancel: cancel,
		impatient: impatient, patience: c.patience,
	}
	return resp, nil
}

// impatient returns req as one that is cancelled if all of its answer is not
// there in time, unless done is called before.
func (c *Client) impatient(req *http.Request) (limited *http.Request, done func()) {
	ctx, cancel := context.WithTimeoutCause(req.Context(), c.patience, errNoAnswer)
	return req.WithContext(ctx), cancel
}

// late is err, or that req was given up.
func late(req *http.Request, err error) error {
	if context.Cause(req.Context()) == errNoAnswer {
		return errNoAnswer
	}
	return err
}

// judge returns resp if it is a success, and the fault if not.
func (c *Client) judge(r *request, l *link, resp *http.Response) (*http.Response, *fault) {
	status := resp.StatusCode
	if slices.Contains(r.accept, status) || len(r.accept) == 0 && status == http.StatusOK {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }() // Read as far as we want it.
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil && !mayPass(status) {
		return nil, c.broken(r, err)
	}
	if status == http.StatusBadRequest && l.scheme == "http" && strings.Contains(string(body), "HTTPS") {
		err := &SpeaksError{Host: c.host}
		return nil, &fault{err: &oci.Error{Code: oci.Unavailable, Message: err.Error(), Err: err}}
	}
	coded := answered(status, resp.Header, body, c.now())
	f := &fault{
		repeat: mayPass(status) && (status == http.StatusTooManyRequests || !r.once()),
		shared: mayPass(status), after: coded.RetryAfter,
	}
	f.err = fmt.Errorf("%s: %w", r.subject, coded)
	switch {
	case !sameOrigin(resp.Request.URL, l.base()):
		f.err = fmt.Errorf("%s: %s: %w", r.subject, resp.Request.URL.Host, coded)
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		f.refused = true
		if trouble := l.auth.trouble(r.scope); trouble != nil {
			f.err = fmt.Errorf("%w; %w", f.err, trouble)
		}
	}
	return nil, f
}

// kind is what r occupies while it is under way.
func (r *request) kind() kind {
	switch {
	case r.method == http.MethodGet && strings.Contains(r.path, "/blobs/") && !strings.Contains(r.path, "/blobs/uploads/"):
		return download
	case r.body != nil && (r.size < 0 || r.size > largeBody):
		return upload
	}
	return small
}

func (l *link) newRequest(ctx context.Context, r *request, slot *slot, sending *sending) (*http.Request, error) {
	u, err := l.base().Parse(r.path)
	if err != nil {
		return nil, err
	}
	if u.Host == l.reg.RegistryStr() {
		u.Scheme = l.scheme // Behind a proxy, some registries do not know theirs.
	}
	if len(r.query) > 0 {
		q := u.Query()
		for name, values := range r.query {
			q[name] = values
		}
		u.RawQuery = q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if r.body != nil && r.size != 0 {
		req.GetBody = func() (io.ReadCloser, error) {
			body, err := r.body()
			if err != nil {
				return nil, err
			}
			return &sentBody{body, slot, sending}, nil
		}
		if req.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
		req.ContentLength = r.size
	}
	for name, values := range r.header {
		req.Header[name] = slices.Clone(values)
	}
	setCaller(ctx, req)
	return req, nil
}

// String is the scope as token servers know it.
func (s scope) String() string {
	switch {
	case s.none:
		return ""
	case s.repo == "":
		return "registry:catalog:*"
	}
	all := []string{"repository:" + s.repo + ":" + s.actions}
	for _, repo := range s.also {
		all = append(all, "repository:"+repo+":pull")
	}
	return strings.Join(all, " ")
}
