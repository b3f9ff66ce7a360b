package serve

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/mem"
)

// world is what checks reach in a test.
type world struct {
	mu      sync.Mutex
	storage func(context.Context) error
	files   map[string]error // What a look for a file says; nil: it is there.
	status  int              // Of the web; 0: no answer.
	dialled error
}

// becomes changes the world.
func (w *world) becomes(change func(*world)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

func (w *world) look(ctx context.Context) error {
	w.mu.Lock()
	look := w.storage
	w.mu.Unlock()
	if look == nil {
		return nil
	}
	return look(ctx)
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status == 0 {
		return nil, errors.New("connection refused")
	}
	return &http.Response{StatusCode: w.status, Body: http.NoBody, Header: http.Header{}, Request: r}, nil
}

func (w *world) outside() outside {
	return outside{
		client: &http.Client{Transport: w},
		stat: func(name string) (fs.FileInfo, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			err, known := w.files[name]
			if !known {
				err = fs.ErrNotExist
			}
			return nil, err
		},
		dial: func(context.Context, string, string) (net.Conn, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.dialled != nil {
				return nil, &net.OpError{Op: "dial", Err: w.dialled}
			}
			c, other := net.Pipe()
			other.Close()
			return c, nil
		},
	}
}

func (w *world) health(t *testing.T, yaml string, log *slog.Logger) *Health {
	t.Helper()
	c, _, err := config.Parse("config.yml", []byte("version: 0.1\nstorage: {inmemory: {}}\nhealth: "+yaml), nil)
	if err != nil {
		t.Fatal(err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return newHealth(c.Health, "filesystem", w.look, w.outside(), clock{time.Now, time.After}, log)
}

func failing(h *Health) string {
	var all []string
	for _, ill := range h.Ill() {
		all = append(all, ill.Check+": "+ill.why)
	}
	return strings.Join(all, "; ")
}

// Each check fails for its reason, after as many failures in a row as its
// threshold says, and no sooner; it is well again at once.
func TestHealthChecks(t *testing.T) {
	t.Parallel()
	bad := errors.New("input/output error")
	tests := map[string]struct {
		yaml  string
		ill   func(*world)
		well  func(*world)
		after time.Duration // Until it counts, from the first look that fails.
		said  string
	}{
		"storage": {
			"{storagedriver: {enabled: true, interval: 10s, threshold: 3}}",
			func(w *world) { w.storage = func(context.Context) error { return bad } },
			func(w *world) { w.storage = func(context.Context) error { return nil } },
			20 * time.Second, "storagedriver_filesystem: input/output error",
		},
		"storage without a threshold": {
			"{storagedriver: {enabled: true, interval: 7s, threshold: 1}}",
			func(w *world) { w.storage = func(context.Context) error { return bad } },
			func(w *world) { w.storage = func(context.Context) error { return nil } },
			0, "storagedriver_filesystem: input/output error",
		},
		"file": {
			"{file: [{file: /ill, interval: 5s}]}",
			func(w *world) { w.files = map[string]error{"/ill": nil} }, func(w *world) { w.files = nil },
			0, "/ill: file exists",
		},
		"file that cannot be looked for": {
			"{file: [{file: /ill}]}",
			func(w *world) {
				w.files = map[string]error{"/ill": &fs.PathError{Op: "stat", Path: "/ill", Err: fs.ErrPermission}}
			},
			func(w *world) { w.files = nil },
			0, "/ill: file cannot be looked for: permission denied",
		},
		"web": {
			"{http: [{uri: 'http://u:secret@up/x?key=secret', interval: 2s, threshold: 4}]}",
			func(w *world) { w.status = 500 }, func(w *world) { w.status = 200 },
			6 * time.Second, "http://up/x: the answer is 500, not 200",
		},
		"web that says something else": {
			"{http: [{uri: 'http://up/', statuscode: 204}]}",
			func(w *world) { w.status = 200 }, func(w *world) { w.status = 204 },
			0, "http://up/: the answer is 200, not 204",
		},
		"web without an answer": {
			"{http: [{uri: 'http://u:secret@up/?key=secret'}]}",
			func(w *world) { w.status = 0 }, func(w *world) { w.status = 200 },
			0, "http://up/: no answer: connection refused",
		},
		"tcp": {
			"{tcp: [{addr: 'db:5432', timeout: 1s, interval: 3s, threshold: 2}]}",
			func(w *world) { w.dialled = errors.New("connection refused") }, func(w *world) { w.dialled = nil },
			3 * time.Second, "db:5432: no connection: connection refused",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &world{status: 200}
				w.becomes(test.well)
				h := w.health(t, test.yaml, nil)
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { defer close(done); h.run(ctx) }()
				synctest.Wait()
				if got := failing(h); got != "" {
					t.Errorf("at the start %q", got)
				}
				w.becomes(test.ill)
				time.Sleep(h.checks[0].interval) // The first look that fails.
				synctest.Wait()
				began := time.Now()
				if test.after > 0 {
					time.Sleep(test.after - time.Millisecond)
					synctest.Wait()
					if got := failing(h); got != "" {
						t.Errorf("too early %q", got)
					}
					time.Sleep(time.Millisecond)
					synctest.Wait()
				}
				if got := failing(h); got != test.said {
					t.Errorf("%q, want %q", got, test.said)
				}
				if ill := h.Ill(); len(ill) != 1 || !ill[0].Since.Equal(began) {
					t.Errorf("%+v, want since %s", ill, began)
				}
				w.becomes(test.well)
				time.Sleep(h.checks[0].interval)
				synctest.Wait()
				if got := failing(h); got != "" {
					t.Errorf("well again, but %q", got)
				}
				cancel()
				<-done
			})
		})
	}
}

// A disk that does not answer is noticed, and is not asked again before it
// does.
func TestHealthOfAHangingDisk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log logBuffer
		hang, looks := make(chan struct{}), atomic.Int64{}
		w := &world{storage: func(context.Context) error { looks.Add(1); <-hang; return nil }}
		h := w.health(t, "{storagedriver: {enabled: true, interval: 10s, threshold: 2}}", log.text())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); h.run(ctx) }()
		time.Sleep(30*time.Second - time.Millisecond)
		if got := failing(h); got != "" {
			t.Errorf("too early: %s", got)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := failing(h); got != "storagedriver_filesystem: no answer still" || looks.Load() != 1 {
			t.Errorf("%s, after %d looks", got, looks.Load())
		}
		close(hang)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		if got := failing(h); got != "" || looks.Load() < 2 {
			t.Errorf("it answers again: %s, after %d looks", got, looks.Load())
		}
		cancel()
		<-done
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], "level=ERROR") || !strings.Contains(lines[0], "a health check fails") ||
			!strings.Contains(lines[1], "level=INFO") || !strings.Contains(lines[1], "passes again") {
			t.Errorf("one line a change is logged:\n%s", log.String())
		}
	})
}

// The server ends though the disk hangs.
func TestHealthEndsWhileTheDiskHangs(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	defer close(hang)
	hangs := make(chan struct{})
	w := &world{storage: func(context.Context) error { close(hangs); <-hang; return nil }}
	h := w.health(t, "{storagedriver: {enabled: true}}", nil)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-hangs; cancel() }()
	h.run(ctx)
}

func TestWithoutHealthNothingIsLookedAt(t *testing.T) {
	t.Parallel()
	h := new(world).health(t, "{storagedriver: {enabled: false}}", nil)
	if h != nil || h.Ill() != nil || h.err() != nil {
		t.Errorf("%+v", h)
	}
	h.run(t.Context())
}

// What is ill is told by /readyz, without why, and by the debug address, with
// it; nothing else is refused.
func TestIllnessIsReported(t *testing.T) {
	t.Parallel()
	w := &world{files: map[string]error{"/ill": nil}}
	h := w.health(t, "{file: [{file: /ill}]}", nil)
	since := time.Date(2026, 11, 21, 1, 2, 3, 0, time.UTC)
	h.clock.now = func() time.Time { return since }
	s := newServer(t, nil, Options{Health: h})
	s.want("before", s.do("GET", "/readyz", ""), 200)
	h.note(t.Context(), h.checks[0], errors.New("because of a secret"))

	ready := s.do("GET", "/readyz", "")
	s.want("/readyz", ready, 503)
	var body struct {
		Errors []struct {
			Code    string
			Message string
			Detail  []Illness
		}
	}
	if err := json.Unmarshal([]byte(ready.body), &body); err != nil {
		t.Fatal(err)
	}
	e := body.Errors[0]
	if e.Code != "UNAVAILABLE" || len(e.Detail) != 1 || e.Detail[0].Check != "/ill" || !e.Detail[0].Since.Equal(since) ||
		strings.Contains(ready.body, "because") || e.Message != "a health check fails: /ill, since 2026-11-21T01:02:03Z" {
		t.Errorf("%s", ready.body)
	}
	s.want("/healthz", s.do("GET", "/healthz", ""), 200)
	s.want("a pull", s.do("GET", "/v2/app/manifests/v1", ""), 200)
	s.want("a push", s.do("POST", "/v2/app/blobs/uploads/", ""), 202)

	rec := httptest.NewRecorder()
	newDebugHandler(config.Debug{}, nil, h).ServeHTTP(rec, httptest.NewRequest("GET", "/debug/health", nil))
	if rec.Code != 503 || rec.Body.String() != `{"/ill":"because of a secret"}` {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
	h.note(t.Context(), h.checks[0], nil)
	s.want("after", s.do("GET", "/readyz", ""), 200)
	rec = httptest.NewRecorder()
	newDebugHandler(config.Debug{}, nil, h).ServeHTTP(rec, httptest.NewRequest("GET", "/debug/health", nil))
	if rec.Code != 200 || rec.Body.String() != `{}` || rec.Header().Get("Content-Type") != "application/json; charset=utf-8" {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

// The storage is looked at, not only asked for its root.
func TestLookAt(t *testing.T) {
	t.Parallel()
	b := mem.New()
	if err := lookAt(t.Context(), b); err != nil {
		t.Error(err)
	}
	if err := storage.Put(t.Context(), b, "a/b", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := lookAt(t.Context(), b); err != nil {
		t.Error(err)
	}
	if err := lookAt(t.Context(), rootless{b}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a volume that is gone: %v", err)
	}
}

type rootless struct{ storage.Backend }

func (rootless) Stat(context.Context, string) (storage.Info, error) {
	return storage.Info{}, fs.ErrNotExist
}
