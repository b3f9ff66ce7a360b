// Package client is a remote registry, spoken to over HTTP with the names and
// logins of go-containerregistry.
//
// Whatever goes wrong comes back as an error with a code of
// [github.com/regctl/regctl/client/oci], as if the registry were at hand: one
// that cannot be reached is [oci.Unavailable], one that answers in the wrong
// protocol a [*SpeaksError] beneath it. What may pass is tried again, without
// a hurry, before it is called an error.
package client

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/regctl/regctl/client/oci"
)

// Options of [New]. The zero value is an anonymous client with the usual
// timeouts.
type Options struct {
	// Keychain finds logins; nil: anonymous. An [authn.ContextKeychain] is
	// asked with the context of the call. See [Credentials].
	Keychain authn.Keychain
	// Transport carries the requests; nil: that of the function [Transport].
	// The fields about TLS have no effect on one of another kind than
	// [*http.Transport].
	Transport http.RoundTripper
	// Wrap is put around what carries the requests, to watch them; may be nil.
	Wrap func(http.RoundTripper) http.RoundTripper

	// Insecure accepts any certificate, and plain HTTP where a server does
	// not speak HTTPS.
	Insecure bool
	// CAs are PEM files with authorities to trust besides those of the system.
	CAs []string
	// Cert and Key are PEM files with what to show to the registry; both may
	// be in one.
	Cert, Key string
	// CertDirs are directories such as /etc/docker/certs.d, with one for each
	// HOST[:PORT] in them.
	CertDirs []string

	// Cache keeps manifests and image configs for later runs; nil: nothing is
	// kept.
	Cache Cache
	// UserAgent of the requests; empty: "regctl".
	UserAgent string
	// Jobs is how many small requests, and besides how many downloads and how
	// many uploads, may be under way at once; 0: 8. There are fewer while the
	// registry finds that too many.
	Jobs int
	// Warn is told of trouble that stops nothing when the registry is first
	// spoken to, and of pauses of more than some seconds that it asks for; nil:
	// nobody is.
	Warn func(error)
	// Now, After and Jitter (from 0 up to 1) are the clock and the chance by
	// which what failed is repeated; nil: those of this machine.
	Now    func() time.Time
	After  func(time.Duration) <-chan time.Time
	Jitter func() float64
}

// Client is one remote registry. It is safe for concurrent use.
type Client struct {
	host     string // As the user wrote it, for messages.
	schemes  []string
	keychain authn.Keychain
	base     http.RoundTripper
	proxy    func(*http.Request) (*url.URL, error)
	agent    string
	trust    *trust
	warn     func(error)

	now      func() time.Time
	after    func(time.Duration) <-chan time.Time
	jitter   func() float64
	patience time.Duration // With a server that says nothing.
	stall    time.Duration // The same, with one that takes nothing.

	cache  Cache
	traits traits

	slots      *slots
	gate       gate
	connecting chan struct{} // Held by who finds out how to speak to the registry.
	link       atomic.Pointer[link]
}

const (
	usualJobs = 8
	patience  = time.Minute
	// stalled is longer: some registries pass on what they have before they
	// take more.
	stalled = 5 * time.Minute
	// slowest is how long an answer to a write may take: some registries
	// copy a blob once more before they say that they have it.
	slowest = 15 * time.Minute
	// farewell is for how long what will be left behind is taken away.
	farewell = 10 * time.Second
)

// New returns the registry at host, such as "localhost:5000", "docker.io" or
// "http://registry.lan". Loopback addresses are spoken to in plain HTTP, all
// others in HTTPS, unless host begins with "http://" or "https://". Nothing is
// sent yet.
// Errors: [oci.NameInvalid]; without a code if a file that o names cannot be
// read.
func New(host string, o Options) (*Client, error) {
	scheme, rest := splitScheme(host)
	rest = strings.TrimSuffix(rest, "/")
	reg, err := name.NewRegistry(rest, name.StrictValidation)
	if err != nil {
		return nil, oci.Errorf(oci.NameInvalid, "%q is not the address of a registry, such as localhost:5000", host)
	}
	hosts := []string{rest}
	if reg.RegistryStr() != rest {
		hosts = append(hosts, reg.RegistryStr())
	}
	trust, err := trustOf(o, hosts...)
	if err != nil {
		return nil, err
	}
	c := &Client{
		cache: o.Cache, traits: newTraits(),
		host: rest, keychain: o.Keychain, agent: cmp.Or(o.UserAgent, "regctl"), trust: trust,
		now: o.Now, after: o.After, jitter: o.Jitter, patience: patience, stall: stalled, connecting: make(chan struct{}, 1),
	}
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
	c.complete(o)
	return c, nil
}

// complete puts in place what o leaves out.
func (c *Client) complete(o Options) {
	if c.keychain == nil {
		c.keychain = authn.NewMultiKeychain()
	}
	if c.warn = o.Warn; c.warn == nil {
		c.warn = func(error) {}
	}
	if c.now == nil {
		c.now = time.Now
	}
	if c.after == nil {
		c.after = time.After
	}
	if c.jitter == nil {
		c.jitter = rand.Float64
	}
	c.slots = newSlots(max(1, cmp.Or(o.Jobs, usualJobs)), c.after)
	c.base, c.proxy = c.trust.apply(Transport(o.Transport, o.Insecure)), http.ProxyFromEnvironment
	if t, ok := c.base.(*http.Transport); ok {
		c.proxy = t.Proxy
	}
	if o.Wrap != nil {
		c.base = o.Wrap(c.base)
	}
}

// Host is the registry's address without a scheme.
func (c *Client) Host() string { return c.host }

// Check tells whether the registry takes the login that there is for it. One
// that wants to know nobody takes any.
// Errors: [oci.Unauthorized], [oci.Denied], [oci.Unavailable], [oci.NotFound]
// (there is no registry), [oci.TooManyRequests], [oci.Unknown].
func (c *Client) Check(ctx context.Context) error {
	resp, err := c.do(ctx, request{method: http.MethodGet, path: "/v2/", scope: scope{none: true}, subject: c.host})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

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

// link is what is known of a registry once it has answered.
type link struct {
	client  *Client
	scheme  string
	reg     name.Registry
	http    *http.Client
	auth    *auth
	private atomic.Bool // It is on a private address.
}

// base is the address that those of the registry are relative to.
func (l *link) base() *url.URL {
	return &url.URL{Scheme: l.scheme, Host: l.reg.RegistryStr(), Path: "/"}
}

// connect asks the registry how it wants to be spoken to, once.
func (c *Client) connect(ctx context.Context) (*link, error) {
	if l := c.link.Load(); l != nil {
		return l, nil
	}
	select {
	case c.connecting <- struct{}{}:
		defer func() { <-c.connecting }()
	case <-ctx.Done():
		return nil, c.failed(ctx.Err())
	}
	if l := c.link.Load(); l != nil {
		return l, nil
	}
	for _, trouble := range c.trust.trouble {
		c.warn(trouble)
	}
	c.trust.trouble = nil
	var err error
	for i, scheme := range c.schemes {
		var l *link
		if l, err = c.ping(ctx, scheme); err == nil {
			c.link.Store(l)
			return l, nil
		}
		var speaks *SpeaksError
		if i+1 < len(c.schemes) && !errors.As(err, &speaks) && !isRefused(err) {
			break
		}
	}
	return nil, err
}

func (c *Client) newLink(scheme string) (*link, error) {
	var options []name.Option
	if scheme == "http" {
		options = append(options, name.Insecure)
	}
	reg, err := name.NewRegistry(c.host, options...)
	if err != nil {
		return nil, oci.Errorf(oci.NameInvalid, "%q is not the address of a registry: %v", c.host, err)
	}
	l := &link{client: c, scheme: scheme, reg: reg}
	l.auth = &auth{client: c, link: l, tokens: map[string]*grant{}, logins: map[string]login{}}
	l.http = &http.Client{CheckRedirect: follow, Transport: &wire{
		inner: c.base, host: reg.RegistryStr(), scheme: scheme, agent: c.agent, private: l.private.Load,
	}}
	l.private.Store(isPrivate(reg.RegistryStr()))
	return l, nil
}

// ping greets the registry. Nobody who listens, or does not speak as expected,
// will do so in a moment; but one that is busy may.
func (c *Client) ping(ctx context.Context, scheme string) (*link, error) {
	l, err := c.newLink(scheme)
	if err != nil {
		return nil, err
	}
	var done func()
	resp, err := c.repeated(ctx, func() (*http.Response, *fault) {
		if err := c.pass(ctx); err != nil {
			return nil, &fault{err: c.failed(err)}
		}
		req, err := http.NewRequestWithContext(l.watch(ctx), http.MethodGet, l.base().JoinPath("/v2/").String(), nil)
		if err != nil {
			return nil, &fault{err: err}
		}
		req, done = c.impatient(req)
		resp, err := l.http.Do(req)
		if err != nil {
			done()
			return nil, &fault{err: c.failed(late(req, err))}
		}
		answer, f := c.judge(&request{method: req.Method, subject: c.host, accept: []int{
			http.StatusOK, http.StatusUnauthorized, http.StatusForbidden,
		}}, l, resp)
		if f != nil {
			done()
		}
		return answer, f
	})
	if errors.Is(err, oci.NotFound) {
		err = &oci.Error{Code: oci.NotFound, Message: c.host + " is not a registry: it has no /v2/", Err: err}
	}
	if err != nil {
		return nil, err
	}
	defer done()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxErrorBody)) // So that the connection is used again.
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, c.failed(err)
	}
	l.auth.challenge = challengeOf(resp.Header)
	c.traits.greeted(resp.StatusCode, resp.Header)
	return l, nil
}

// watch notes in l whether the registry is found on a private address. That
// of a proxy says nothing.
func (l *link) watch(ctx context.Context) context.Context {
	if l.client.proxy != nil {
		if via, err := l.client.proxy(&http.Request{URL: l.base()}); via != nil || err != nil {
			return ctx
		}
	}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if address := info.Conn.RemoteAddr(); address != nil && isPrivate(address.String()) {
			l.private.Store(true)
		}
	}})
}

// isPrivate tells whether address, with or without a port, is on a network
// of the user's own.
func isPrivate(address string) bool {
	if isLoopback(address) {
		return true
	}
	if host, _, err := net.SplitHostPort(address); err == nil {
		address = host
	}
	ip, err := netip.ParseAddr(strings.Trim(address, "[]"))
	return err == nil && (ip.Unmap().IsPrivate() || ip.IsLinkLocalUnicast())
}
