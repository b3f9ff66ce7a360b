package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	headerTimeout = 30 * time.Second
	idleTimeout   = 3 * time.Minute
	maxHeader     = 64 << 10
	defaultDrain  = time.Minute
	defaultCut    = 5 * time.Second

	streamBuffer     = 1 << 20
	connectionBuffer = 8 << 20
)

// Server runs a handler on listeners until it is told to stop. Its zero value
// but for Handler works.
type Server struct {
	Handler http.Handler

	// Log takes what an operator must know. Nil: nothing is logged.
	Log *slog.Logger

	// Stall must be that of the handler; see [Options]. Default: one minute.
	Stall time.Duration

	// HeaderTimeout is how long a request may take to tell what it wants.
	// Default: 30 seconds.
	HeaderTimeout time.Duration

	// DrainTimeout is how long requests under way may take to finish once the
	// server is to stop; then they are cut. Default: one minute.
	DrainTimeout time.Duration

	// TLS is how connections are encrypted; its certificates are set. Nil:
	// they are not.
	TLS *tls.Config

	// Protocols are those that are spoken. Default: HTTP/1, and HTTP/2 with TLS.
	Protocols *http.Protocols

	// Now is the clock. Default: time.Now.
	Now func() time.Time

	cut time.Duration // How long requests that were cut may take to end. Default: 5 seconds.
}

// Serve answers on all of ls until ctx ends, then stops accepting and lets
// what is under way finish; it returns nil after that. It closes ls. An error
// is one of accepting: the server has stopped then as well.
func (s *Server) Serve(ctx context.Context, ls []net.Listener) error {
	_, err := s.serve(ctx, ls)
	return err
}

// serve tells, besides, whether every request has ended: one may hang in the
// storage and go on after it was cut.
func (s *Server) serve(ctx context.Context, ls []net.Listener) (ended bool, err error) {
	log := s.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	// Requests outlive ctx: they are drained, not cancelled.
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	requests := &gate{Handler: s.Handler, empty: make(chan struct{})}
	srv := &http.Server{
		Handler:           requests,
		ReadHeaderTimeout: or(s.HeaderTimeout, headerTimeout),
		WriteTimeout:      or(s.Stall, defaultStall),
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		Protocols:         s.Protocols,
		HTTP2:             s.http2(),
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return base },
	}
	wrong := newWrongTalk(log, s.Now)
	failed := make(chan error, len(ls))
	var running sync.WaitGroup
	for _, l := range ls {
		running.Go(func() {
			if err := s.accept(srv, wrong.listener(l, s.TLS != nil)); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	if !s.drain(base, srv) {
		log.LogAttrs(base, slog.LevelWarn, "requests were still under way and have been cut",
			slog.Duration("after", or(s.DrainTimeout, defaultDrain)))
		srv.Close()
		cancel()
	}
	running.Wait()
	return requests.shut(or(s.cut, defaultCut)), err
}

// http2 sets limits for HTTP/2. A connection may hold more than one request has
// sent, or one that is slow to be written would keep the others from sending.
func (s *Server) http2() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxReceiveBufferPerStream:     streamBuffer,
		MaxReceiveBufferPerConnection: connectionBuffer,
		WriteByteTimeout:              or(s.Stall, defaultStall),
	}
}

// accept answers on l until srv is closed. The TLS of net/http's ServeTLS would
// refuse cipher suites that are fine for HTTP/2, and that registry:2 takes.
func (s *Server) accept(srv *http.Server, l net.Listener) error {
	if s.TLS != nil {
		t := s.TLS.Clone()
		t.NextProtos = []string{"http/1.1"}
		if s.Protocols == nil || s.Protocols.HTTP2() {
			t.NextProtos = []string{"h2", "http/1.1"}
		}
		if other := t.GetConfigForClient; other != nil {
			t.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				c, err := other(hello)
				if c != nil {
					c.NextProtos = t.NextProtos
				}
				return c, err
			}
		}
		l = tls.NewListener(l, t)
	}
	return srv.Serve(l)
}

// drain tells whether all that was under way has finished in time.
func (s *Server) drain(ctx context.Context, srv *http.Server) bool {
	if d, ok := s.Handler.(interface{ Drain() }); ok {
		d.Drain()
	}
	ctx, cancel := context.WithTimeout(ctx, or(s.DrainTimeout, defaultDrain))
	defer cancel()
	return srv.Shutdown(ctx) == nil
}

// gate counts the requests in a handler: [http.Server.Close] closes their
// connections, but does not wait for them.
type gate struct {
	http.Handler
	mu     sync.Mutex
	inside int
	closed bool
	empty  chan struct{} // Closed once the gate is, and nobody is inside.
}

// ServeHTTP lets a request in while the gate is open.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !g.enter() {
		panic(http.ErrAbortHandler) // It came with the last connection, which is closed.
	}
	defer g.leave()
	g.Handler.ServeHTTP(w, r)
}

func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.inside++
	}
	return !g.closed
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.closed && g.inside == 0 {
		close(g.empty)
	}
}

// shut lets nobody in any more, and tells whether all are out within limit. It
// is called once.
func (g *gate) shut(limit time.Duration) bool {
	g.mu.Lock()
	g.closed = true
	if g.inside == 0 {
		close(g.empty)
	}
	g.mu.Unlock()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-g.empty:
		return true
	case <-late.C:
		return false
	}
}

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}
