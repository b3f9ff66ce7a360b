package serve

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// TestSite: where the API is for requests, and for those who make them.
func TestSite(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		o                    Options
		location, link, base string // Of what is at <prefix>v2/app/x.
	}{
		{Options{}, "/v2/app/x", "/v2/app/x", "http://in:1/"},
		{Options{Prefix: "/"}, "/v2/app/x", "/v2/app/x", "http://in:1/"},
		{Options{Prefix: "/a/b/"}, "/a/b/v2/app/x", "/a/b/v2/app/x", "http://in:1/a/b/"},
		{Options{Host: "https://out"}, "https://out/v2/app/x", "/v2/app/x", "https://out/"},
		{Options{Host: "https://out", RelativeURLs: true}, "/v2/app/x", "/v2/app/x", "https://out/"},
		// As in registry:2, whose http.host has the path that clients see.
		{Options{Host: "https://out", Prefix: "/a/"}, "https://out/v2/app/x", "/v2/app/x", "https://out/"},
		{Options{Host: "https://out/b/", Prefix: "/a/"}, "https://out/b/v2/app/x", "/b/v2/app/x", "https://out/b/"},
		{Options{Host: "https://out/b"}, "https://out/b/v2/app/x", "/b/v2/app/x", "https://out/b/"},
	} {
		s := newSite(tt.o)
		if got := s.location("app/", "x"); got != tt.location {
			t.Errorf("%+v: location %s", tt.o, got)
		}
		if got := s.link(s.prefix + "v2/app/x"); got != tt.link {
			t.Errorf("%+v: link %s", tt.o, got)
		}
		if got := s.origin(&http.Request{Host: "in:1", RemoteAddr: "8.8.8.8:1"}).base; got != tt.base {
			t.Errorf("%+v: base %s", tt.o, got)
		}
	}
}

func TestPrefix(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{Prefix: "/reg/"})
	for path, status := range map[string]int{
		"/": 200, "/healthz": 200, "/readyz": 200, "/_ping": 200, "/v1/_ping": 404,
		"/reg": 200, "/reg/": 200, "/reg/healthz": 200, "/reg/readyz": 200, "/reg/_ping": 200,
		"/reg/v2": 200, "/reg/v2/": 200, "/reg/v2/_catalog": 200, "/reg/v1/_ping": 404,
		"/v2": 404, "/v2/": 404, "/v2/_catalog": 404, "/regx/v2/": 404, "/reg/reg/v2/": 404, "//reg/v2/": 404, "/reg//v2/": 404,
	} {
		r := s.do("GET", path, "")
		if r.status != status {
			t.Errorf("%s: %d, want %d", path, r.status, status)
		}
		if got, api := r.header.Get("Docker-Distribution-Api-Version"), strings.HasPrefix(path, "/reg/v2"); (got != "") != api {
			t.Errorf("%s: API version %q", path, got)
		}
	}
	if r := s.do("GET", "/v2/", ""); !strings.Contains(r.body, "the API is at /reg/v2/") {
		t.Error(r.body)
	}
	at := s.do("POST", "/reg/v2/app/blobs/uploads/", "").header.Get("Location")
	if !strings.HasPrefix(at, "/reg/v2/app/blobs/uploads/") {
		t.Fatalf("location %q", at)
	}
	if got := s.do("PUT", at+"?digest="+sha256abc, "abc").header.Get("Location"); got != "/reg/v2/app/blobs/"+sha256abc {
		t.Errorf("location %q", got)
	}
	got := s.do("GET", "/reg/v2/app/tags/list?n=1", "").header.Get("Link")
	if !strings.HasPrefix(got, "</reg/v2/app/tags/list?last=") {
		t.Errorf("link %q", got)
	}
}

// TestOldPings: who asks whether this is a registry of version 1 is told that
// it is none; who asks whether it is up is told that it is.
func TestOldPings(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	for path, want := range map[string]string{
		"/_ping": "200 {}", "/v1/_ping": "404 version 2", "/v1/search?q=ubuntu": "404 docker search", "/v1/": "404 version 2",
		"/v1": "404 version 2", "/v1/repositories/app/images": "404 version 2", "/v10": "404 no such endpoint",
	} {
		status, text, _ := strings.Cut(want, " ")
		r := s.do("GET", path, "")
		if strconv.Itoa(r.status) != status || !strings.Contains(r.body, text) {
			t.Errorf("%s: %d %s, want %s", path, r.status, r.body, want)
		}
		if h := r.header.Get("X-Docker-Registry-Version"); h != "" {
			t.Errorf("%s: version %s", path, h)
		}
	}
}

// TestForwarded: what a proxy says goes into the log and to the registry.
func TestForwarded(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	reg := seer{ocitest.NewRegistry(), make(chan oci.Caller, 1)}
	s := newServer(t, reg, Options{Access: log.text(), TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	s.do("HEAD", "/v2/app/manifests/v1", "", "X-Forwarded-For", "192.0.2.7", "X-Forwarded-Proto", "https", "X-Forwarded-Host", "reg.example.com")
	got := <-reg.caller
	if got.Addr != "192.0.2.7" || got.Host != "reg.example.com" || got.Base != "https://reg.example.com/" || got.Method != "HEAD" {
		t.Errorf("%+v", got)
	}
	if line := log.wait(t, 1); !strings.Contains(line, "client=192.0.2.7 ") {
		t.Error(line)
	}
}
