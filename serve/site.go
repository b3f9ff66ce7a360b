package serve

import (
	"net/http"
	"net/url"
	"strings"
)

// site is where the API is: for requests, and for those who make them.
type site struct {
	// prefix begins the paths of requests; it begins and ends with a slash.
	prefix string

	// host is scheme and host as clients see them; empty: as each of them says.
	host string

	// path begins the paths that clients see. It is that of http.host, as in
	// registry:2: a proxy in between may take a prefix away, or add it.
	path string

	relative bool // Locations are paths even if there is a host.
	trusted  proxies
}

func newSite(o Options) *site {
	s := &site{prefix: "/" + strings.Trim(o.Prefix, "/") + "/", relative: o.RelativeURLs, trusted: o.TrustedProxies}
	if s.prefix == "//" {
		s.prefix = "/"
	}
	s.path = s.prefix
	if u, err := url.Parse(o.Host); err == nil && u.Host != "" {
		s.host = u.Scheme + "://" + u.Host
		s.path = strings.TrimRight(u.EscapedPath(), "/") + "/"
	}
	return s
}

// locate is [locate] of a path of this site. What is not of the API is there
// without the prefix, too, for who looks after the process.
func (s *site) locate(path string) target {
	rest, ok := strings.CutPrefix(path, s.prefix)
	if ok {
		return locate("/" + rest)
	}
	if path+"/" == s.prefix {
		return target{form: formRoot}
	}
	if t := locate(path); !t.form.ofAPI() {
		return t
	}
	return target{}
}

// nowhere says why there is nothing at path.
func (s *site) nowhere(path string) string {
	switch {
	case !strings.HasPrefix(path, s.prefix) && strings.HasPrefix(path, "/v2"):
		return "no such endpoint: the API is at " + s.prefix + "v2/"
	case path == "/v1", strings.HasPrefix(path, "/v1/"):
		// Status 404 is what registry:2 answers to /v1/_ping, too. With 200
		// old clients of docker would take this for a registry of version 1
		// and go on to ask for what is not there.
		return "no such endpoint: this registry speaks version 2 of the API only, at " + s.prefix + "v2/; docker before 1.6 and docker search speak version 1"
	}
	return "no such endpoint"
}

// isAPI tells whether path is one of the API.
func (s *site) isAPI(path string) bool {
	rest, ok := strings.CutPrefix(path, s.prefix)
	return ok && strings.HasPrefix(rest, "v2")
}

// location is a path of the API as it goes into the header Location.
func (s *site) location(parts ...string) string {
	at := s.path + "v2/" + strings.Join(parts, "")
	if s.relative {
		return at
	}
	return s.host + at
}

// link is the path of a request as its client sees it.
func (s *site) link(path string) string {
	return s.path + strings.TrimPrefix(path, s.prefix)
}

// origin tells who sent r, and where that client sees this site.
func (s *site) origin(r *http.Request) origin {
	o := s.trusted.origin(r)
	switch {
	case s.host != "":
		o.base = s.host + s.path
	case o.base != "":
		o.base += s.path
	}
	return o
}
