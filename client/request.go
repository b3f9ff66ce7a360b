package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// scope is what a request needs to be allowed to do: a repository and actions
// on it, or the catalogue. Registries that hand out tokens tell scopes apart.
type scope struct {
	repo    string   // Empty: the catalogue.
	actions string   // "pull", "pull,push" or "delete".
	also    []string // Repositories that are pulled from besides, for a mount.
}

// request is one call of the registry API. Its answer is had by [Client.do].
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

	// accept lists the statuses that are a success; empty: 200.
	accept []int
}

// do sends r and returns its answer if it is a success. The caller closes the
// body of the answer. An answer that is none becomes an [*oci.Error].
func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	l, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	t, err := l.authorized(ctx, r.scope.String())
	if err != nil {
		return nil, c.failed(err)
	}
	req, err := l.newRequest(ctx, r)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		return nil, c.failed(err)
	}
	if slices.Contains(r.accept, resp.StatusCode) || len(r.accept) == 0 && resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }() // Read as far as we want it.
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil {
		return nil, c.failed(err)
	}
	return nil, fmt.Errorf("%s: %w", r.subject, answered(resp.StatusCode, resp.Header, body))
}

func (l *link) newRequest(ctx context.Context, r request) (*http.Request, error) {
	base := url.URL{Scheme: l.scheme, Host: l.reg.RegistryStr()}
	u, err := base.Parse(r.path)
	if err != nil {
		return nil, err
	}
	if len(r.query) > 0 {
		q := u.Query()
		for name, values := range r.query {
			q[name] = values
		}
		u.RawQuery = q.Encode()
	}
	var body io.ReadCloser
	if r.body != nil {
		if body, err = r.body(); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, err
	}
	if r.body != nil {
		req.ContentLength = r.size
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	return req, nil
}

// String is the scope as token servers know it.
func (s scope) String() string {
	if s.repo == "" {
		return "registry:catalog:*"
	}
	all := []string{"repository:" + s.repo + ":" + s.actions}
	for _, repo := range s.also {
		all = append(all, "repository:"+repo+":pull")
	}
	return strings.Join(all, " ")
}
