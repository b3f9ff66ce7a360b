package config

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

func httpSection() field {
	return field{fields: section{
		"addr":         {set: setAddr},
		"net":          {set: setNet},
		"prefix":       {set: setPrefix},
		"host":         {set: setHost},
		"secret":       {state: accepted, secret: true},
		"relativeurls": {set: setBool(func(c *Config) *bool { return &c.HTTP.RelativeURLs })},
		"draintimeout": {set: setDuration(func(c *Config) *time.Duration { return &c.HTTP.DrainTimeout })},
		"headers":      headersField(func(c *Config) *http.Header { return &c.HTTP.Headers }),
		"tls":          tlsSection(),
		"debug": {fields: section{
			"addr": {set: setDebugAddr},
			"prometheus": {fields: section{
				"enabled": {set: setBool(func(c *Config) *bool { return &c.HTTP.Debug.Prometheus })},
				"path":    {set: setMetricsPath},
			}},
		}},
		"http2":          {fields: section{"disabled": {set: setBool(func(c *Config) *bool { return &c.HTTP.HTTP2Off })}}},
		"h2c":            {fields: section{"enabled": {set: setBool(func(c *Config) *bool { return &c.HTTP.H2C })}}},
		"trustedproxies": {set: setTrustedProxies, list: true},
	}}
}

func setAddr(c *Config, n node) error {
	v, err := scalar(n)
	c.HTTP.Addrs = []string{v}
	return err
}

func setNet(c *Config, n node) (err error) {
	c.HTTP.Network, err = oneOf(n, "tcp", "unix")
	return err
}

func setPrefix(c *Config, n node) error {
	v, err := scalar(n)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(v, "/") || strings.ContainsAny(v, "{}?#") {
		return fmt.Errorf("%q is not of the form /PATH/", v)
	}
	if c.HTTP.Prefix = strings.TrimRight(v, "/") + "/"; strings.Contains(c.HTTP.Prefix, "//") {
		return fmt.Errorf("%q is not of the form /PATH/", v)
	}
	return nil
}

func setHost(c *Config, n node) error {
	v, err := scalar(n)
	if err != nil {
		return err
	}
	u, err := url.Parse(v)
	if c.hostless = ""; err == nil && u.Host == "" && !strings.ContainsAny(v, "@/?#") {
		c.hostless, c.HTTP.Host = v, "" // registry:2 starts, and passes over it.
		return nil
	}
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("%q is not of the form https://HOST", hideURL(v))
	}
	// As in registry:2, of a path only what is before its last slash counts.
	path := u.EscapedPath()
	kept := path[:strings.LastIndexByte(path, '/')+1]
	c.hostCut = path[len(kept):]
	c.HTTP.Host = u.Scheme + "://" + u.Host + strings.TrimRight(kept, "/")
	return nil
}

func setDebugAddr(c *Config, n node) error {
	v, err := scalar(n)
	if err != nil {
		return err
	}
	c.HTTP.Debug.Addr = v
	return hostPort(v)
}

func hostPort(v string) error {
	if !strings.Contains(v, ":") {
		return fmt.Errorf("%q is not of the form host:port", v)
	}
	return nil
}

func setMetricsPath(c *Config, n node) error {
	v, err := scalar(n)
	if err != nil {
		return err
	}
	if c.HTTP.Debug.Path = v; !strings.HasPrefix(v, "/") {
		return fmt.Errorf("%q does not begin with a slash", v)
	}
	return nil
}

// setTrustedProxies sets a list that is not nil, so that an empty one trusts
// nobody.
func setTrustedProxies(c *Config, n node) error {
	nets, err := networks(n)
	if err == nil {
		c.HTTP.TrustedProxies = nets
	}
	return err
}

// privateNetworks are the peers that are trusted to say who asked them:
// loopback, private and link-local ones.
func privateNetworks() []netip.Prefix {
	var list []netip.Prefix
	for _, s := range []string{"127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"} {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

// checkHTTP holds together what was said of HTTP, and sets the rest.
func (p *parser) checkHTTP(c *Config) {
	h := &c.HTTP
	switch {
	case h.Network == "unix" && len(h.Addrs) == 0:
		p.errorf(p.at["http.net"], "http.net: unix needs the path of a socket in http.addr")
	case h.Network == "" || h.Network == "tcp":
		h.Network = "tcp"
		for _, addr := range h.Addrs {
			if err := hostPort(addr); err != nil {
				p.errorf(p.at["http.addr"], "http.addr: %v", err)
			}
		}
	}
	switch {
	case len(h.Addrs) > 0:
	case c.Compat:
		h.Addrs = []string{":5000"}
	default:
		h.Addrs = []string{"127.0.0.1:5000", "[::1]:5000"}
	}
	if h.Prefix == "" {
		h.Prefix = "/"
	}
	if h.TrustedProxies == nil {
		h.TrustedProxies = privateNetworks()
	}
	if h.Debug.Path == "" {
		h.Debug.Path = "/metrics"
	}
	if c.hostCut != "" {
		p.warnf(p.at["http.host"], "http.host: as with registry:2, %[1]s at its end does not count; write %[1]s/ if it is to", c.hostCut)
	}
	if c.hostless != "" {
		p.warnf(p.at["http.host"], "http.host: as with registry:2, %[1]q does not count without what is before it; write https://%[1]s if clients are to be sent there", c.hostless)
	}
	if h.Debug.Prometheus && h.Debug.Addr == "" {
		p.warnf(p.at["http.debug.prometheus.enabled"], "http.debug.prometheus: metrics are served at http.debug.addr, and that is not said")
	}
	p.checkTLS(c)
}
