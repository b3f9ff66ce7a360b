// Package client is a remote registry, spoken to over HTTP with the names,
// logins and token exchange of go-containerregistry.
//
// Whatever goes wrong comes back as an error with a code of
// [github.com/regctl/regctl/client/oci], as if the registry were at hand: one
// that cannot be reached is [oci.Unavailable], one that answers in the wrong
// protocol a [*SpeaksError] beneath it.
package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/regctl/regctl/client/oci"
)

// Options of [New]. The zero value is an anonymous client with the usual
// timeouts.
type Options struct {
	// Keychain finds logins; nil: anonymous. An [authn.ContextKeychain] is
	// asked with the context of the call. See [Credentials].
	Keychain authn.Keychain
	// Transport carries the requests; nil: one as [http.DefaultTransport]
	// that gives up on servers that do not answer.
	Transport http.RoundTripper
	// Insecure accepts any certificate, and plain HTTP where a server does
	// not speak HTTPS.
	Insecure bool
	// UserAgent of the requests; empty: "regctl".
	UserAgent string
}

// Client is one remote registry. It is safe for concurrent use.
type Client struct {
	host     string // As the user wrote it, for messages.
	schemes  []string
	keychain authn.Keychain
	base     http.RoundTripper
	agent    string

	mu   sync.Mutex
	link *link // Set by the first call that reached the registry.
}

// New returns the registry at host, such as "localhost:5000", "docker.io" or
// "http://registry.lan". Loopback addresses are spoken to in plain HTTP, all
// others in HTTPS, unless host begins with "http://" or "https://". Nothing is
// sent yet.
// Errors: [oci.NameInvalid].
func New(host string, o Options) (*Client, error) {
	scheme, rest := splitScheme(host)
	rest = strings.TrimSuffix(rest, "/")
	if _, err := name.NewRegistry(rest, name.StrictValidation); err != nil {
		return nil, oci.Errorf(oci.NameInvalid, "%q is not the address of a registry, such as localhost:5000", host)
	}
	c := &Client{host: rest, keychain: o.Keychain, agent: o.UserAgent}
	switch {
	case scheme != "":
		c.schemes = []string{scheme}
	case o.Insecure:
		c.schemes = []string{"https", "http"}
	case isLoopback(rest):
		c.schemes = []string{"http"}
	default:
		c.schemes = []string{"https"}
	}
	if c.keychain == nil {
		c.keychain = authn.NewMultiKeychain()
	}
	if c.agent == "" {
		c.agent = "regctl"
	}
	c.base = Transport(o.Transport, o.Insecure)
	return c, nil
}

// Host is the registry's address without a scheme.
func (c *Client) Host() string { return c.host }

func splitScheme(host string) (scheme, rest string) {
	for _, s := range []string{"http", "https"} {
		if rest, ok := strings.CutPrefix(host, s+"://"); ok {
			return s, rest
		}
	}
	return "", host
}

func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if ip := net.ParseIP(host); ip != nil {
		return ip.IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// Transport is what [New] makes of [Options].Transport, for those who want to
// put something around it. One of another kind than [*http.Transport] is
// left alone.
func Transport(given http.RoundTripper, insecure bool) http.RoundTripper {
	if given == nil {
		given = http.DefaultTransport
		if t, ok := given.(*http.Transport); ok {
			t = t.Clone()
			t.DialContext = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
			t.ResponseHeaderTimeout = time.Minute
			t.MaxIdleConnsPerHost = 16
			given = t
		}
	}
	t, ok := given.(*http.Transport)
	if !ok || !insecure {
		return given
	}
	t = t.Clone()
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{}
	}
	t.TLSClientConfig.InsecureSkipVerify = true
	return t
}

// link is what is known of a registry once it has answered.
type link struct {
	scheme    string
	reg       name.Registry
	auth      authn.Authenticator
	challenge *transport.Challenge
	wire      http.RoundTripper

	mu     sync.Mutex
	scopes map[string]http.RoundTripper
}

// connect asks the registry how it wants to be spoken to, once.
func (c *Client) connect(ctx context.Context) (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != nil {
		return c.link, nil
	}
	var err error
	for i, scheme := range c.schemes {
		var l *link
		if l, err = c.ping(ctx, scheme); err == nil {
			c.link = l
			return l, nil
		}
		var speaks *SpeaksError
		if i+1 < len(c.schemes) && !errors.As(err, &speaks) && !isRefused(err) {
			break
		}
	}
	return nil, err
}

func (c *Client) ping(ctx context.Context, scheme string) (*link, error) {
	var options []name.Option
	if scheme == "http" {
		options = append(options, name.Insecure)
	}
	reg, err := name.NewRegistry(c.host, options...)
	if err != nil {
		return nil, oci.Errorf(oci.NameInvalid, "%q is not the address of a registry: %v", c.host, err)
	}
	w := &wire{inner: c.base, host: reg.RegistryStr(), scheme: scheme, agent: c.agent}
	l := &link{scheme: scheme, reg: reg, scopes: map[string]http.RoundTripper{}, wire: w}
	if l.challenge, err = transport.Ping(ctx, reg, w); err != nil {
		var answer *transport.Error
		if failure := w.failure.Load(); failure != nil && !errors.As(err, &answer) {
			err = *failure // Ping tells of the scheme that was refused as well.
		}
		if err = c.failed(err); errors.Is(err, oci.NotFound) {
			err = &oci.Error{Code: oci.NotFound, Message: c.host + " is not a registry: it has no /v2/", Err: err}
		}
		return nil, err
	}
	if l.auth, err = authn.Resolve(ctx, c.keychain, reg); err != nil {
		return nil, fmt.Errorf("login for %s: %w", c.host, err)
	}
	return l, nil
}

// maxScopes bounds the tokens that are kept for reuse.
const maxScopes = 64

// authorized returns a transport that may do what scope says. Only a registry
// that hands out tokens tells scopes apart.
func (l *link) authorized(ctx context.Context, scope string) (http.RoundTripper, error) {
	token := &transport.Token{}
	if !strings.EqualFold(l.challenge.Scheme, "bearer") {
		scope = ""
	}
	l.mu.Lock()
	t := l.scopes[scope]
	l.mu.Unlock()
	if t != nil {
		return t, nil
	}
	if scope != "" {
		var err error
		if token, err = transport.Exchange(ctx, l.reg, l.auth, l.wire, []string{scope}, l.challenge); err != nil {
			return nil, err
		}
	}
	t, err := transport.FromToken(l.reg, l.auth, l.wire, l.challenge, token)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.scopes) >= maxScopes {
		clear(l.scopes)
	}
	l.scopes[scope] = t
	return t, nil
}

// wire names us to servers, and sends nothing to the registry in another
// scheme than was agreed on: neither by guess nor by redirect.
type wire struct {
	inner   http.RoundTripper
	host    string
	scheme  string
	agent   string
	failure atomic.Pointer[error] // The last one of inner.
}

func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host == w.host && req.URL.Scheme != w.scheme {
		return nil, fmt.Errorf("%s is spoken to in %s only", w.host, w.scheme)
	}
	req = req.Clone(req.Context())
	req.Header.Set("User-Agent", w.agent)
	resp, err := w.inner.RoundTrip(req)
	if err != nil {
		w.failure.Store(&err)
	}
	return resp, err
}

// maxErrorBody is how much of an error answer is read.
const maxErrorBody = 64 << 10

// get returns the answer to a GET of address if it is a success; the caller
// closes its body. The error of another answer begins with subject.
func (c *Client) get(ctx context.Context, t http.RoundTripper, address, subject string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		return nil, c.failed(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }() // Read as far as we want it.
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if err != nil {
		return nil, c.failed(err)
	}
	return nil, fmt.Errorf("%s: %w", subject, answered(resp.StatusCode, resp.Header, body))
}
