package serve

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func trusted(t *testing.T, networks ...string) proxies {
	t.Helper()
	var p proxies
	for _, n := range networks {
		network, err := netip.ParsePrefix(n)
		if err != nil {
			t.Fatal(err)
		}
		p = append(p, network)
	}
	return p
}

// TestOrigin: "client | base" of a request from a peer with headers.
func TestOrigin(t *testing.T) {
	t.Parallel()
	p := trusted(t, "10.0.0.0/8", "::1/128", "127.0.0.0/8")
	for _, tt := range []struct {
		name, peer, headers, want string
	}{
		{"no proxy", "8.8.8.8:1", "", "8.8.8.8 | http://reg:5000"},
		{"a stranger says things", "8.8.8.8:1", "X-Forwarded-For: 1.1.1.1\nX-Real-Ip: 1.1.1.1\nX-Forwarded-Proto: https\nX-Forwarded-Host: evil\nForwarded: for=1.1.1.1;host=evil", "8.8.8.8 | http://reg:5000"},
		{"nginx of the articles", "127.0.0.1:1", "X-Real-Ip: 8.8.8.8\nX-Forwarded-For: 8.8.8.8\nX-Forwarded-Proto: https", "8.8.8.8 | https://reg:5000"},
		{"real address only", "127.0.0.1:1", "X-Real-Ip: 8.8.8.8", "8.8.8.8 | http://reg:5000"},
		{"the client made something up", "127.0.0.1:1", "X-Forwarded-For: 1.1.1.1, 8.8.8.8", "8.8.8.8 | http://reg:5000"},
		{"two proxies", "127.0.0.1:1", "X-Forwarded-For: 8.8.8.8, 10.0.0.7", "8.8.8.8 | http://reg:5000"},
		{"two proxies, two headers", "127.0.0.1:1", "X-Forwarded-For: 1.1.1.1, 8.8.8.8\nX-Forwarded-For: 10.0.0.7", "8.8.8.8 | http://reg:5000"},
		{"a client beside the proxy", "127.0.0.1:1", "X-Forwarded-For: 10.0.0.9, 10.0.0.7", "10.0.0.9 | http://reg:5000"},
		{"garbage stops the way back", "127.0.0.1:1", "X-Forwarded-For: 8.8.8.8, x\x01y, 10.0.0.7", "10.0.0.7 | http://reg:5000"},
		{"nothing but garbage", "127.0.0.1:1", "X-Forwarded-For: unknown\nX-Forwarded-Proto: gopher\nX-Forwarded-Host: a/../b\nX-Forwarded-Port: 99999", "127.0.0.1 | http://reg:5000"},
		{"empty", "127.0.0.1:1", "X-Forwarded-For: ", "127.0.0.1 | http://reg:5000"},
		{"port", "127.0.0.1:1", "X-Forwarded-For: 8.8.8.8:4711", "8.8.8.8 | http://reg:5000"},
		{"IPv6", "[::1]:1", "X-Forwarded-For: 2001:db8::7", "2001:db8::7 | http://reg:5000"},
		{"IPv6 with a port", "[::1]:1", "X-Forwarded-For: [2001:db8::7]:9", "2001:db8::7 | http://reg:5000"},
		{"IPv6 in brackets", "[::1]:1", "X-Forwarded-For: [2001:db8::7]", "2001:db8::7 | http://reg:5000"},
		{"a zone is any text", "[::1]:1", "X-Forwarded-For: fe80::1%<script>", "fe80::1 | http://reg:5000"},
		{"IPv4 in IPv6", "[::ffff:127.0.0.1]:1", "X-Forwarded-For: ::ffff:8.8.8.8", "8.8.8.8 | http://reg:5000"},
		{"host", "127.0.0.1:1", "X-Forwarded-Proto: https\nX-Forwarded-Host: reg.example.com", "127.0.0.1 | https://reg.example.com"},
		{"hosts", "127.0.0.1:1", "X-Forwarded-Proto: https,http\nX-Forwarded-Host: reg.example.com, inner", "127.0.0.1 | https://reg.example.com"},
		{"host and port", "127.0.0.1:1", "X-Forwarded-Host: reg.example.com\nX-Forwarded-Port: 8443\nX-Forwarded-Proto: HTTPS", "127.0.0.1 | https://reg.example.com:8443"},
		{"default port", "127.0.0.1:1", "X-Forwarded-Host: reg.example.com\nX-Forwarded-Port: 443\nX-Forwarded-Proto: https", "127.0.0.1 | https://reg.example.com"},
		{"the host has a port", "127.0.0.1:1", "X-Forwarded-Host: [::1]:77\nX-Forwarded-Port: 8443", "127.0.0.1 | http://[::1]:77"},
		{"an address without one", "127.0.0.1:1", "X-Forwarded-Host: [::1]\nX-Forwarded-Port: 8443", "127.0.0.1 | http://[::1]:8443"},
		{"host with a line break", "127.0.0.1:1", "X-Forwarded-Host: a\rb", "127.0.0.1 | http://reg:5000"},
		{"very long host", "127.0.0.1:1", "X-Forwarded-Host: " + strings.Repeat("a", 300), "127.0.0.1 | http://reg:5000"},
		{"RFC 7239", "127.0.0.1:1", `Forwarded: for=8.8.8.8;host=reg.example.com;proto=https, FOR="10.0.0.2:80"`, "8.8.8.8 | https://reg.example.com"},
		{"RFC 7239, IPv6", "127.0.0.1:1", `Forwarded: For="[2001:db8::17]:4711" ; proto=https`, "2001:db8::17 | https://reg:5000"},
		{"RFC 7239, two headers", "127.0.0.1:1", "Forwarded: for=1.1.1.1\nForwarded: for=8.8.8.8", "8.8.8.8 | http://reg:5000"},
		{"RFC 7239, hidden", "127.0.0.1:1", "Forwarded: for=_hidden, for=10.0.0.2", "10.0.0.2 | http://reg:5000"},
		{"RFC 7239, escapes", "127.0.0.1:1", `Forwarded: host="re\g:1;,";for="8.8.8.8"`, "8.8.8.8 | http://reg:5000"},
		{"RFC 7239, no end", "127.0.0.1:1", `Forwarded: for="8.8.8.8`, "127.0.0.1 | http://reg:5000"},
		{"RFC 7239, what a client says hides what a proxy adds", "127.0.0.1:1", "Forwarded: for=1.1.1.1, x, for=8.8.8.8", "127.0.0.1 | http://reg:5000"},
		{"RFC 7239, an open quote hides it", "127.0.0.1:1", `Forwarded: for=1.1.1.1, for=", for=8.8.8.8`, "127.0.0.1 | http://reg:5000"},
		{"RFC 7239, too many hide it", "127.0.0.1:1", "Forwarded: " + strings.Repeat("for=1.1.1.1, ", maxHops+1) + "for=8.8.8.8", "127.0.0.1 | http://reg:5000"},
		{"RFC 7239, no value", "127.0.0.1:1", `Forwarded: for`, "127.0.0.1 | http://reg:5000"},
		{"a client's own Forwarded", "127.0.0.1:1", "X-Forwarded-For: 8.8.8.8\nX-Forwarded-Proto: http\nForwarded: for=1.1.1.1;host=evil;proto=https", "8.8.8.8 | http://reg:5000"},
		{"socket", "@", "", "unix | http://reg:5000"},
		{"socket and a proxy", "", "X-Forwarded-For: 8.8.8.8\nX-Forwarded-Proto: https", "8.8.8.8 | https://reg:5000"},
	} {
		r := &http.Request{RemoteAddr: tt.peer, Host: "reg:5000", Header: http.Header{}}
		for line := range strings.SplitSeq(tt.headers, "\n") {
			if name, value, ok := strings.Cut(line, ": "); ok {
				r.Header.Add(name, value)
			}
		}
		if o := p.origin(r); o.addr+" | "+o.base != tt.want {
			t.Errorf("%s: %s | %s, want %s", tt.name, o.addr, o.base, tt.want)
		}
	}
}

func TestOriginWithoutAHost(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"", "a b", "a\r\nX: y", `"`, "x/y", "ä"} {
		r := &http.Request{RemoteAddr: "8.8.8.8:1", Host: host, TLS: &tls.ConnectionState{}}
		if o := proxies(nil).origin(r); o.host != "" || o.base != "" {
			t.Errorf("%q: %+v", host, o)
		}
	}
	r := &http.Request{RemoteAddr: "8.8.8.8:1", Host: "reg", TLS: &tls.ConnectionState{}}
	if o := proxies(nil).origin(r); o.host != "reg" || o.base != "https://reg" {
		t.Errorf("%+v", o)
	}
}

// TestOriginOfManyHops: a header does not make us walk for ever.
func TestOriginOfManyHops(t *testing.T) {
	t.Parallel()
	p := trusted(t, "10.0.0.0/8")
	h := http.Header{headerFor: {"8.8.8.8" + strings.Repeat(", 10.0.0.1", 5000)}}
	if got := p.client(h, "10.0.0.2"); got != "10.0.0.1" {
		t.Error(got)
	}
	h = http.Header{headerForwarded: {strings.Repeat("for=10.0.0.1,", 5000) + "for=8.8.8.8"}}
	if got := len(parseForwarded(h[headerForwarded])); got > maxHops {
		t.Error(got)
	}
}

func FuzzOrigin(f *testing.F) {
	f.Add("8.8.8.8, 10.0.0.1", "https", "reg:1", "443", `for="[::1]:2";proto=http, for=_x`)
	f.Fuzz(func(t *testing.T, xff, proto, host, port, forwarded string) {
		p := trusted(t, "10.0.0.0/8")
		for _, h := range []http.Header{
			{headerFor: {xff}, headerProto: {proto}, headerHost: {host}, headerPort: {port}, headerForwarded: {forwarded}},
			{headerReal: {xff}, headerForwarded: {forwarded}}, {headerForwarded: {forwarded, xff}},
		} {
			o := p.origin(&http.Request{RemoteAddr: "10.0.0.9:1", Host: "reg", Header: h})
			if _, err := netip.ParseAddr(o.addr); err != nil {
				t.Errorf("client %q", o.addr)
			}
			rest, https := strings.CutPrefix(o.base, "https://")
			if !https {
				rest = strings.TrimPrefix(o.base, "http://")
			}
			if rest != o.host || !isHost(o.host) {
				t.Errorf("host %q, base %q", o.host, o.base)
			}
		}
	})
}
