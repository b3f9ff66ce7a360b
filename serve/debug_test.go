//go:build unix

package serve

import (
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/regctl/regctl/serve/config"
)

// What registry:2 has at its debug address is there.
func TestDebugPaths(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		path, in string
		c        config.Debug
		status   int
	}{
		{"/debug/health", "{}", config.Debug{}, 200},
		{"/debug/vars", `"memstats"`, config.Debug{}, 200},
		{"/debug/pprof/", "goroutine", config.Debug{}, 200},
		{"/debug/pprof/goroutine?debug=1", "goroutine profile", config.Debug{}, 200},
		{"/debug/pprof/cmdline", "", config.Debug{}, 200},
		{"/debug/pprof/symbol", "num_symbols", config.Debug{}, 200},
		{"/metrics", "registry_http_in_flight_requests", config.Debug{Prometheus: true}, 200},
		{"/numbers", "registry_http_in_flight_requests", config.Debug{Prometheus: true, Path: "/numbers"}, 200},
		{"/metrics", "", config.Debug{Prometheus: true, Path: "/numbers"}, 404},
		{"/metrics", "", config.Debug{}, 404},
		{"/v2/", "", config.Debug{Prometheus: true}, 404},
		{"/", "", config.Debug{Prometheus: true}, 404},
	} {
		rec := httptest.NewRecorder()
		newDebugHandler(test.c, NewMetrics(), nil).ServeHTTP(rec, httptest.NewRequest("GET", test.path, nil))
		if rec.Code != test.status || !strings.Contains(rec.Body.String(), test.in) {
			t.Errorf("%s: %d %.200s", test.path, rec.Code, rec.Body)
		}
	}
	rec := httptest.NewRecorder()
	newDebugHandler(config.Debug{}, nil, nil).ServeHTTP(rec, httptest.NewRequest("POST", "/debug/health", nil))
	if rec.Code != 405 {
		t.Errorf("POST: %d", rec.Code)
	}
}

// slowTaker is a client that does not take what it is sent, until it ends.
type slowTaker struct {
	*httptest.ResponseRecorder
	begun chan<- struct{}
	end   <-chan struct{}
}

func (s slowTaker) Write(p []byte) (int, error) {
	s.begun <- struct{}{}
	<-s.end
	return len(p), nil
}

// Many that ask at once do not get all of the machine.
func TestDebugIsLimited(t *testing.T) {
	t.Parallel()
	h := newDebugHandler(config.Debug{}, nil, nil)
	begun, end := make(chan struct{}), make(chan struct{})
	var clients sync.WaitGroup
	for range mostDebug {
		clients.Go(func() {
			h.ServeHTTP(slowTaker{httptest.NewRecorder(), begun, end}, httptest.NewRequest("GET", "/debug/health", nil))
		})
		<-begun
	}
	ask := func() int {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, httptest.NewRequest("GET", "/debug/health", nil))
		return rec.Code
	}
	if status := ask(); status != 503 {
		t.Errorf("one too many: %d", status)
	}
	close(end)
	clients.Wait()
	if status := ask(); status != 200 {
		t.Errorf("when the others have ended: %d", status)
	}
}

// That others can reach the address is said, and so is that it is taken,
// without a hint that is about another one.
func TestListenDebug(t *testing.T) {
	t.Parallel()
	var log logBuffer
	l, err := listenDebug(t.Context(), "127.0.0.1:0", log.text())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := log.String(); got != "" {
		t.Error(got)
	}
	_, err = listenDebug(t.Context(), l.Addr().String(), log.text())
	if err == nil || err.Error() != "http.debug.addr: "+l.Addr().String()+" is in use" {
		t.Error(err)
	}
	if _, err := listenDebug(t.Context(), "no-port", log.text()); err == nil || !strings.HasPrefix(err.Error(), "http.debug.addr: ") {
		t.Error(err)
	}
	warnOpen(t.Context(), &net.TCPAddr{IP: net.IPv4zero, Port: 5001}, log.text())
	if got := log.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, "others can reach the debug address") || !strings.Contains(got, "http.debug.addr=0.0.0.0:5001") {
		t.Error(got)
	}
}
