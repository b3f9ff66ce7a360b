package main_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

// proxy stands before a registry, counts the requests to it, and may do
// something at each.
type proxy struct {
	addr     string // HOST:PORT
	requests atomic.Int64
	at       atomic.Pointer[func(n int64, r *http.Request)]
	open     atomic.Int64 // Connections.
}

// startProxy passes requests on to addr until the test ends. It keeps the
// Host of each request, as proxies before registries must, and waits for the
// answer even if the client is gone, so that settle is of use.
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
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := p.requests.Add(1)
		if at := p.at.Load(); at != nil {
			(*at)(n, r)
		}
		ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
		defer cancel()
		inner.ServeHTTP(w, r.WithContext(ctx))
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			p.open.Add(1)
		case http.StateClosed:
			p.open.Add(-1)
		}
	}
	s.Start()
	tb.Cleanup(s.Close)
	p.addr = s.Listener.Addr().String()
	return p
}

// settle waits until the server has answered whatever it was asked by clients
// that are gone. A connection of our own comes after all of theirs.
func (p *proxy) settle(tb testing.TB) {
	tb.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://"+p.addr+"/v2/", nil)
	if err != nil {
		tb.Fatal(err)
	}
	req.Close = true
	resp, err := (&http.Transport{}).RoundTrip(req)
	if err != nil {
		tb.Fatal(err)
	}
	resp.Body.Close()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(time.Minute)
	for p.open.Load() > 0 {
		select {
		case <-tick.C:
		case <-limit:
			tb.Fatal("a request is not answered for a minute")
		}
	}
}

// each makes do be called with each request before it is passed on, counted
// from 1 again.
func (p *proxy) each(do func(n int64, r *http.Request)) {
	p.at.Store(&do)
	p.requests.Store(0)
}
