package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/regctl/regctl/client/oci"
)

// TestWhereARegistryMayLead: to the user's own network only from there, and
// never to where machines find their secrets.
func TestWhereARegistryMayLead(t *testing.T) {
	t.Parallel()
	const never, private, always = "never", "private", "always"
	for address, want := range map[string]string{
		"http://169.254.169.254/x": never, "http://[fe80::1]/": never, "http://[fe80::1%25eth0]/": never, "https://[::ffff:169.254.1.1]:5/": never,
		"http://[fd00:ec2::254]/": never, "http://100.100.100.200/": never, "http://[::ffff:100.100.100.200]/": never, "http://168.63.129.16": never, "http://224.0.0.1/": never,
		"http://10.0.0.1/x": private, "https://192.168.1.1:9000/x": private, "http://172.16.5.5/": private, "http://[fd12::1]/": private,
		"http://127.0.0.1:5000/": private, "http://[::1]/": private, "http://localhost/": private, "http://x.localhost:1/": private,
		"http://0.0.0.0/": private, "http://[::]/": private, "http://[::ffff:10.0.0.1]/": private,
		"https://s3.example.com/x": always, "https://8.8.8.8/": always, "https://[2001:db8::1]/": always, "http://minio.lan:9000/x": always,
		"https://ｍinio.lan/": never,
	} {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal(err)
		}
		for _, own := range []bool{false, true} {
			w := &wire{host: "reg", private: func() bool { return own }}
			if err := w.leads(u); (err == nil) != (want == always || want == private && own) {
				t.Errorf("%s from a private registry %v: %v", address, own, err)
			}
		}
	}
}

// TestNamesAreCheckedWhenTheyAreDialled: and those of a proxy are not.
func TestNamesAreCheckedWhenTheyAreDialled(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(echo(""))
	defer server.Close()
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("localhost", port) // Stands for a name that resolves to a private address.
	w := &wire{host: "reg.example.com", private: func() bool { return false }}
	for _, c := range []struct {
		meant string
		ok    bool
	}{{address, false}, {"other.example.com:443", true}} {
		ctx := context.WithValue(t.Context(), foreignKey{}, foreign{c.meant, w.allow})
		conn, err := dialer(net.Dialer{})(ctx, "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		if (err == nil) != c.ok || err != nil && !errors.Is(err, oci.Unavailable) {
			t.Errorf("%s: %v", c.meant, err)
		}
	}
}

// storage is another server that notes what it was asked for.
func storage(t *testing.T) (address string, asked *http.Request) {
	t.Helper()
	asked = &http.Request{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = *r
		echo("stored")(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL, asked
}

// TestRedirects: lead to other servers, which are told nothing about us.
func TestRedirects(t *testing.T) {
	t.Parallel()
	elsewhere, asked := storage(t)
	var shown []string
	c := open(t, func(w http.ResponseWriter, r *http.Request) {
		shown = append(shown, r.URL.Path+" "+r.Header.Get("Authorization"))
		switch r.URL.Path {
		case "/v2/away":
			http.Redirect(w, r, elsewhere+"/data", http.StatusTemporaryRedirect)
		case "/v2/here":
			http.Redirect(w, r, "/v2/there", http.StatusTemporaryRedirect)
		case "/v2/round":
			http.Redirect(w, r, "/v2/round", http.StatusFound)
		case "/v2/metadata":
			http.Redirect(w, r, "http://169.254.169.254/latest", http.StatusFound)
		}
	}, login1("me"))
	resp, err := c.do(t.Context(), request{method: http.MethodGet, path: "/v2/away", header: http.Header{"Range": {"bytes=2-"}, "Cookie": {"a=b"}}})
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if h := asked.Header; asked.URL.Path != "/data" || h.Get("Authorization") != "" || h.Get("Cookie") != "" || h.Get("Referer") != "" || h.Get("Range") != "bytes=2-" {
		t.Errorf("asked for %s with %v", asked.URL, h)
	}
	shown = nil
	if _, err := get(t, c, "/v2/here"); err != nil {
		t.Fatal(err)
	}
	if len(shown) != 2 || !strings.HasPrefix(shown[0], "/v2/here Basic ") || !strings.HasPrefix(shown[1], "/v2/there Basic ") {
		t.Errorf("shown: %q", shown)
	}
	shown = nil
	if _, err := get(t, c, "/v2/round"); !errors.Is(err, oci.Unavailable) || !strings.Contains(err.Error(), "more than 10 redirects") || len(shown) != 10 {
		t.Errorf("%d requests, %v", len(shown), err)
	}
	shown = nil
	if _, err := get(t, c, "/v2/metadata"); !errors.Is(err, oci.Unavailable) || !strings.Contains(err.Error(), "leads to 169.254.169.254") || len(shown) != 1 {
		t.Errorf("%d requests, %v", len(shown), err)
	}
}

// TestAPublicRegistryLeadsNowherePrivate: neither by a redirect, a token
// server, nor the location of an upload.
func TestAPublicRegistryLeadsNowherePrivate(t *testing.T) {
	t.Parallel()
	f := &faults{}
	f.add(99, "GET /v2/", answers(200, ""))
	f.add(99, "GET /away", redirects("http://10.0.0.1/x"))
	f.add(99, "GET /token", answers(401, "", "WWW-Authenticate", `Bearer realm="https://192.168.0.1/token"`))
	c, err := New("reg.example.com", Options{Transport: f, After: atOnce})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/away", "https://10.0.0.1/upload", "/token"} {
		if _, err := get(t, c, path); !errors.Is(err, oci.Unavailable) || !strings.Contains(err.Error(), "a private address, without being on one") {
			t.Errorf("%s: %v", path, err)
		}
	}
	for _, asked := range f.requests() {
		if asked != "GET /away" && asked != "GET /token" {
			t.Errorf("%s was asked for", asked)
		}
	}
}

// TestUploadsElsewhere: a location on another server is used without saying
// who we are; one in the scheme that a registry behind a proxy takes for its
// own is used in ours.
func TestUploadsElsewhere(t *testing.T) {
	t.Parallel()
	elsewhere, asked := storage(t)
	c := open(t, echo(""), login1("me"))
	if err := put(t, c, http.MethodPut, elsewhere+"/upload?digest=x", "hello", 1); err != nil {
		t.Fatal(err)
	}
	if asked.URL.RawQuery != "digest=x" || asked.Header.Get("Authorization") != "" {
		t.Errorf("asked for %s with %v", asked.URL, asked.Header)
	}
	if _, err := get(t, c, "https://"+c.host+"/v2/x"); err != nil {
		t.Error(err)
	}
}

func TestErrorsOfOtherServersNameThem(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }))
	defer server.Close()
	cut := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	defer cut.Close()
	closed := httptest.NewServer(nil)
	closed.Close()
	c := open(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v2/denied":
			http.Redirect(w, r, server.URL+"/x?signature=secret", http.StatusFound)
		case "/v2/gone":
			http.Redirect(w, r, closed.URL+"/x?signature=secret", http.StatusFound)
		case "/v2/cut":
			http.Redirect(w, r, cut.URL+"/x?signature=secret", http.StatusFound)
		}
	}, Options{})
	for path, host := range map[string]string{"/v2/denied": server.URL, "/v2/gone": closed.URL, "/v2/cut": cut.URL} {
		_, err := get(t, c, path)
		if err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(host, "http://")+": ") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestIsForbiddenIsAboutWholeNetworks(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{"169.254.0.1": true, "169.253.255.255": false, "fe80::1": true, "fec0::1": false, "100.100.100.201": false} {
		if got := isForbidden(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s: %v", address, got)
		}
	}
}

// TestProxies: look names up themselves, and being near says nothing of the
// registry behind them.
func TestProxies(t *testing.T) {
	t.Parallel()
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		switch r.URL.Path {
		case "/v2/away":
			http.Redirect(w, r, "http://storage.example.com/data", http.StatusFound)
		case "/v2/private":
			http.Redirect(w, r, "http://10.0.0.1/data", http.StatusFound)
		}
	}))
	defer proxy.Close()
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New("http://reg.example.com", Options{Transport: &http.Transport{Proxy: http.ProxyURL(at), DialContext: dialer(net.Dialer{})}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, c, "/v2/away"); err != nil {
		t.Error(err)
	}
	if _, err := get(t, c, "/v2/private"); !errors.Is(err, oci.Unavailable) || !strings.Contains(err.Error(), "without being on one") {
		t.Errorf("got %v", err)
	}
	want := "[http://reg.example.com/v2/ http://reg.example.com/v2/away http://storage.example.com/data http://reg.example.com/v2/private]"
	if fmt.Sprint(asked) != want {
		t.Errorf("asked for %v", asked)
	}
}

// TestPrivateRegistriesAreKnownByWhereTheyAre: not only by an address that the
// user typed.
func TestPrivateRegistriesAreKnownByWhereTheyAre(t *testing.T) {
	t.Parallel()
	elsewhere, asked := storage(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/away" {
			http.Redirect(w, r, elsewhere+"/data", http.StatusFound)
		}
	}))
	defer server.Close()
	c, err := New("http://reg.example.com", Options{Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if address == "reg.example.com:80" {
			address = server.Listener.Addr().String()
		}
		return dialer(net.Dialer{})(ctx, network, address)
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, c, "/v2/away"); err != nil || asked.URL.Path != "/data" {
		t.Errorf("got %v", err)
	}
}
