package client

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"

	"github.com/regctl/regctl/client/oci"
)

// maxRedirects is how many in a row are followed.
const maxRedirects = 10

// wire carries the requests to a registry, and those to where the registry
// sends us: token servers, redirects, locations of uploads. It names us to
// servers, sends nothing to the registry in another scheme than was agreed
// on, and lets no registry lead us to what only we can reach.
type wire struct {
	inner   http.RoundTripper
	host    string
	scheme  string
	agent   string
	private func() bool // The registry is on a private address itself.
}

// RoundTrip sends req, if it may go there.
func (w *wire) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Host == w.host && req.URL.Scheme != w.scheme {
		return nil, oci.Errorf(oci.Unavailable, "%s is spoken to in %s only", w.host, w.scheme)
	}
	ctx := req.Context()
	if req.URL.Host != w.host {
		if err := w.leads(req.URL); err != nil {
			return nil, err
		}
		ctx = context.WithValue(ctx, foreignKey{}, foreign{hostPort(req.URL), w.allow})
	}
	req = req.Clone(ctx)
	req.Header.Set("User-Agent", w.agent)
	return w.inner.RoundTrip(req)
}

// leads checks an address that is not the registry's as it is spelled. What
// its name stands for is checked when it is dialled.
func (w *wire) leads(u *url.URL) error {
	host := u.Hostname()
	if strings.ContainsFunc(host, func(r rune) bool { return r > '~' }) {
		return oci.Errorf(oci.Unavailable, "%s leads to %q, which is not spelled in ASCII; not followed", w.host, clip(host))
	}
	if isLoopback(host) {
		return w.allow(netip.IPv6Loopback(), host)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return w.allow(ip, host)
	}
	return nil
}

// allow tells whether a registry may lead to ip.
func (w *wire) allow(ip netip.Addr, host string) error {
	ip = ip.Unmap().WithZone("")
	switch {
	case isForbidden(ip):
		return oci.Errorf(oci.Unavailable, "%s leads to %s, an address of the machine's own surroundings; not followed", w.host, host)
	case (ip.IsPrivate() || ip.IsLoopback() || ip.IsUnspecified()) && !w.private():
		return oci.Errorf(oci.Unavailable, "%s leads to %s, a private address, without being on one; not followed", w.host, host)
	}
	return nil
}

// isForbidden tells whether ip is one that no registry has anything on: clouds
// give machines their secrets there.
func isForbidden(ip netip.Addr) bool {
	if ip.IsLinkLocalUnicast() || ip.IsMulticast() {
		return true
	}
	switch ip.String() {
	case "fd00:ec2::254", "100.100.100.200", "168.63.129.16":
		return true
	}
	return false
}

// foreign travels in the context of a request to where a registry sent us.
type foreign struct {
	address string
	allow   func(ip netip.Addr, host string) error
}

type foreignKey struct{}

// dialer connects to where requests go, and to no address that they may not
// go to, whatever name it hides behind. A proxy looks names up itself.
func dialer(d net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		guarded := d
		if f, ok := ctx.Value(foreignKey{}).(foreign); ok && f.address == address {
			guarded.Control = func(_, resolved string, _ syscall.RawConn) error {
				ip, err := netip.ParseAddrPort(resolved)
				if err != nil {
					return err
				}
				return f.allow(ip.Addr(), fmt.Sprintf("%s (%s)", address, ip.Addr()))
			}
		}
		return guarded.DialContext(ctx, network, address)
	}
}

// hostPort is the address that u is dialled at.
func hostPort(u *url.URL) string {
	port := u.Port()
	switch {
	case port != "":
	case u.Scheme == "http":
		port = "80"
	default:
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// sameOrigin tells whether what is meant for a may be shown to b.
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(hostPort(a), hostPort(b))
}

// follow is what to do about a redirect: who we are is nobody's business but
// that of whom we asked, and a write of which only a GET would be left is not
// done by that, whatever is answered to it.
func follow(req *http.Request, via []*http.Request) error {
	if req.Method != via[0].Method {
		return oci.Errorf(oci.Unavailable, "%s answers %s %s by leading to %s; not followed",
			via[0].URL.Host, via[0].Method, via[0].URL.Path, clip(req.URL.Host+req.URL.Path))
	}
	if len(via) >= maxRedirects {
		return oci.Errorf(oci.Unavailable, "%s: more than %d redirects", via[0].URL.Host, maxRedirects)
	}
	req.Header.Del("Referer")
	for _, passed := range append(via[1:len(via):len(via)], req) {
		if !sameOrigin(via[0].URL, passed.URL) {
			req.Header.Del("Authorization")
			req.Header.Del("Cookie")
		}
	}
	return nil
}
