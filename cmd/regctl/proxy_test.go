package main_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
)

// proxy stands before a registry, counts the requests to it, and may do
// something at each.
type proxy struct {
	addr     string // HOST:PORT
	requests atomic.Int64
	at       atomic.Pointer[func(n int64, r *http.Request)]
}

// startProxy passes requests on to addr until the test ends. It keeps the
// Host of each request, as proxies before registries must.
func startProxy(tb testing.TB, addr string) *proxy {
	tb.Helper()
	p := &proxy{}
	inner := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: addr})
			r.Out.Host = r.In.Host
		},
		// A client that was killed is what some tests are about.
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := p.requests.Add(1)
		if at := p.at.Load(); at != nil {
			(*at)(n, r)
		}
		inner.ServeHTTP(w, r)
	}))
	tb.Cleanup(s.Close)
	p.addr = s.Listener.Addr().String()
	return p
}

// each makes do be called with each request before it is passed on, counted
// from 1 again.
func (p *proxy) each(do func(n int64, r *http.Request)) {
	p.at.Store(&do)
	p.requests.Store(0)
}
