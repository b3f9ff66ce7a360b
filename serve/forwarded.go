package serve

import (
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
)

// fromSocket stands for the address of a client that has none.
const fromSocket = "unix"

// maxHops is how many proxies there may be between a client and us.
const maxHops = 32

// origin is where a request came from, and what its client asked for.
type origin struct {
	addr string // Of the client, without a port.
	host string // As in the header Host; empty if that is none.
	base string // Scheme and host as the client sees them, and in [site.origin] a path; empty without a host.
}

// proxies are the peers whose word on a client counts.
type proxies []netip.Prefix

// origin tells who sent r. What trusted proxies say has been checked: it is an
// address, a scheme, a host. What is wrong does not count.
func (p proxies) origin(r *http.Request) origin {
	o := origin{addr: hostOf(r.RemoteAddr)}
	scheme, host := "http", r.Host
	if r.TLS != nil {
		scheme = "https"
	}
	peer, ok := parseAddr(r.RemoteAddr)
	if !ok { // Who can open the socket is on this machine.
		o.addr = fromSocket
	}
	if hasForwarded(r.Header) && (!ok || p.trust(peer)) {
		o.addr = p.client(r.Header, o.addr)
		scheme, host = forwardedTo(r.Header, scheme, host)
	}
	if isHost(host) {
		o.host, o.base = host, scheme+"://"+host
	}
	return o
}

func (p proxies) trust(a netip.Addr) bool {
	for _, network := range p {
		if network.Contains(a) {
			return true
		}
	}
	return false
}

// The headers by their canonical names: a request without them costs a few
// lookups.
const (
	headerFor       = "X-Forwarded-For"
	headerReal      = "X-Real-Ip"
	headerProto     = "X-Forwarded-Proto"
	headerHost      = "X-Forwarded-Host"
	headerPort      = "X-Forwarded-Port"
	headerForwarded = "Forwarded"
)

func hasForwarded(h http.Header) bool {
	return h[headerFor] != nil || h[headerReal] != nil || h[headerProto] != nil ||
		h[headerHost] != nil || h[headerPort] != nil || h[headerForwarded] != nil
}

// client is the address that proxies tell: going back from the last one, the
// first address that is not that of a trusted proxy, as anybody may have put
// there what is before it. If all are trusted it is the first one. The headers
// X- go before Forwarded: proxies pass on from the client what they do not set,
// and most set the former.
func (p proxies) client(h http.Header, peer string) string {
	var hops []string
	switch {
	case h[headerFor] != nil:
		hops = strings.Split(strings.Join(h[headerFor], ","), ",")
	case h[headerReal] != nil:
		hops = h[headerReal]
	default:
		for _, hop := range parseForwarded(h[headerForwarded]) {
			hops = append(hops, hop["for"])
		}
	}
	for i := len(hops) - 1; i >= max(0, len(hops)-maxHops); i-- {
		a, ok := parseAddr(strings.TrimSpace(hops[i]))
		if !ok {
			return peer
		}
		peer = a.String()
		if !p.trust(a) {
			return peer
		}
	}
	return peer
}

// forwardedTo is the scheme and host that the first proxy was asked for.
func forwardedTo(h http.Header, scheme, host string) (string, string) {
	proto, toHost, port := first(h[headerProto]), first(h[headerHost]), first(h[headerPort])
	if hops := parseForwarded(h[headerForwarded]); proto == "" && toHost == "" && len(hops) > 0 {
		proto, toHost = hops[0]["proto"], hops[0]["host"]
	}
	switch strings.ToLower(proto) {
	case "https", "wss":
		scheme = "https"
	case "http", "ws":
		scheme = "http"
	}
	if isHost(toHost) {
		host = toHost
	}
	if n, err := strconv.ParseUint(port, 10, 16); err == nil && n > 0 && !hasPort(host) && !isDefaultPort(scheme, n) {
		host += ":" + strconv.FormatUint(n, 10)
	}
	return scheme, host
}

// first is the first of values that may be lists.
func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	value, _, _ := strings.Cut(values[0], ",")
	return strings.TrimSpace(value)
}

func isDefaultPort(scheme string, port uint64) bool {
	return scheme == "http" && port == 80 || scheme == "https" && port == 443
}

func hasPort(host string) bool {
	return strings.LastIndexByte(host, ':') > strings.LastIndexByte(host, ']')
}

// parseForwarded reads the header of RFC 7239: one map a proxy, with names in
// lower case. If something does not follow the grammar, or there are too many,
// there are none: what a proxy adds comes last, and a client that could hide it
// would be believed instead.
func parseForwarded(values []string) []map[string]string {
	var hops []map[string]string
	for _, rest := range values {
		hop := map[string]string{}
		hops = append(hops, hop)
		for rest = strings.TrimSpace(rest); rest != ""; {
			name, after, ok := strings.Cut(rest, "=")
			if !ok || len(hops) > maxHops {
				return nil
			}
			var value string
			if value, rest, ok = forwardedValue(after); !ok {
				return nil
			}
			hop[strings.ToLower(strings.TrimSpace(name))] = value
			if rest == "" {
				break
			}
			if rest[0] == ',' {
				hop = map[string]string{}
				hops = append(hops, hop)
			}
			rest = strings.TrimSpace(rest[1:])
		}
	}
	return hops
}

// forwardedValue takes a token or a quoted string off s. What is left begins
// with a comma or a semicolon, or is empty.
func forwardedValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, ",;")
		if end < 0 {
			end = len(s)
		}
		return strings.TrimSpace(s[:end]), s[end:], true
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			rest = strings.TrimSpace(s[i+1:])
			return b.String(), rest, rest == "" || rest[0] == ',' || rest[0] == ';'
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", "", false
}

// parseAddr reads an address, with or without a port and brackets. A zone is
// dropped: it may be any text.
func parseAddr(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		host := hostOf(s)
		if len(host) > 1 && host[0] == '[' && host[len(host)-1] == ']' {
			host = host[1 : len(host)-1]
		}
		if a, err = netip.ParseAddr(host); err != nil {
			return netip.Addr{}, false
		}
	}
	return a.Unmap().WithZone(""), true
}

// hostOf is an address without its port.
func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

// isHost tells whether s can be a host, with or without a port: letters,
// digits, and what names, addresses and ports have besides.
func isHost(s string) bool {
	if s == "" || len(s) > 262 { // 255, a colon, a port.
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !alnum && !strings.ContainsRune(".-_:[]", rune(c)) {
			return false
		}
	}
	return true
}
