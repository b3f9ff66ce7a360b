package serve

import (
	"context"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"github.com/regctl/regctl/serve/config"
)

const (
	// debugTimeout is for how long an answer may be written: a profile takes as
	// long as it is asked to.
	debugTimeout = 5 * time.Minute
	// mostDebug is how many requests there may be at once: a profile costs.
	mostDebug = 16
)

// newDebugHandler answers at the address http.debug.addr: /debug/health,
// /debug/vars and /debug/pprof/ as registry:2 does, and the metrics at their
// path if they are on. None of it is on the address of the registry.
func newDebugHandler(c config.Debug, m *Metrics, h *Health) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/health", h.serve)
	mux.Handle("/debug/vars", expvar.Handler())
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	at := c.Path
	if at == "" {
		at = "/metrics"
	}
	free := make(chan struct{}, mostDebug)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case free <- struct{}{}:
			defer func() { <-free }()
		default:
			http.Error(w, "too many requests at once", http.StatusServiceUnavailable)
			return
		}
		if c.Prometheus && r.URL.Path == at {
			m.Handler().ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// serve tells which checks fail and why, as registry:2 does: an object of names
// and errors, with status 503 unless it is empty.
func (h *Health) serve(w http.ResponseWriter, _ *http.Request) {
	found, status := map[string]string{}, http.StatusOK
	for _, ill := range h.Ill() {
		found[ill.Check], status = ill.why, http.StatusServiceUnavailable
	}
	body, err := json.Marshal(found)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// listenDebug opens the debug address, and warns if others can reach it.
func listenDebug(ctx context.Context, addr string, log *slog.Logger) (net.Listener, error) {
	ls, err := Listen(ctx, []string{addr}, log)
	var inUse *AddrInUseError
	if errors.As(err, &inUse) { // Not one that --addr is about.
		return nil, fmt.Errorf("http.debug.addr: %s is in use", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("http.debug.addr: %w", err)
	}
	warnOpen(ctx, ls[0].Addr(), log)
	return ls[0], nil
}

// warnOpen warns if others can reach a debug address.
func warnOpen(ctx context.Context, at net.Addr, log *slog.Logger) {
	if tcp, ok := at.(*net.TCPAddr); ok && !tcp.IP.IsLoopback() {
		log.LogAttrs(ctx, slog.LevelWarn, "others can reach the debug address: it asks for no login, and profiles tell what is in memory; prefer 127.0.0.1, or let a firewall guard it",
			slog.String("http.debug.addr", at.String()))
	}
}

// startDebug answers on l until end is called.
func startDebug(l net.Listener, h http.Handler, log *slog.Logger) (end func()) {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: debugTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.LogAttrs(context.Background(), slog.LevelError, "the debug address answers no more", slog.Any("error", err))
		}
	}()
	return func() {
		s.Close() // Nothing there is worth waiting for.
		<-done
	}
}
