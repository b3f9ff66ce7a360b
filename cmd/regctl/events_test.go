package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

// notified is one event as it came over the wire.
type notified map[string]any

// at returns the text at a path such as "target.digest", "" if there is none.
func (e notified) at(path string) string {
	var v any = map[string]any(e)
	for name := range strings.SplitSeq(path, ".") {
		fields, _ := v.(map[string]any)
		v = fields[name]
	}
	if v == nil {
		return ""
	}
	return fmt.Sprint(v)
}

func (e notified) String() string {
	return fmt.Sprintf("%s %s:%s %s", e.at("action"), e.at("target.repository"), e.at("target.tag"), e.at("target.digest"))
}

// webhook takes notifications, or fails as fail says for the n-th request.
type webhook struct {
	*httptest.Server
	fail func(n int, w http.ResponseWriter) bool // Nil: never.

	mu     sync.Mutex
	count  int
	events []notified
	types  []string // Of content.
	more   chan struct{}
}

func newWebhook(tb testing.TB, fail func(n int, w http.ResponseWriter) bool) *webhook {
	h := &webhook{fail: fail, more: make(chan struct{}, 1)}
	h.Server = httptest.NewServer(h)
	tb.Cleanup(func() {
		h.CloseClientConnections()
		h.Close()
	})
	return h
}

func (h *webhook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var envelope struct{ Events []notified }
	if err == nil {
		err = json.Unmarshal(body, &envelope)
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count++
	if h.fail != nil && h.fail(h.count, w) {
		return
	}
	h.events = append(h.events, envelope.Events...)
	h.types = append(h.types, r.Header.Get("Content-Type"))
	select {
	case h.more <- struct{}{}:
	default:
	}
}

// until waits until enough of what came is there.
func (h *webhook) until(tb testing.TB, enough func([]notified) bool) []notified {
	tb.Helper()
	for limit := time.After(time.Minute); ; {
		h.mu.Lock()
		got := slices.Clone(h.events)
		h.mu.Unlock()
		if enough(got) {
			return got
		}
		select {
		case <-h.more:
		case <-limit:
			tb.Fatalf("only %d notifications came, the last ones:\n%v", len(got), got[max(0, len(got)-20):])
		}
	}
}

// eventsConfig is a file that tells hooks what happens.
func eventsConfig(tb testing.TB, more string, hooks ...string) string {
	tb.Helper()
	text := "version: 0.1\nstorage: {delete: {enabled: true}}\n" + more + "notifications:\n  events: {includereferences: true}\n  endpoints:\n"
	for i, at := range hooks {
		text += fmt.Sprintf("    - {name: hook%d, url: %q, timeout: 500ms, threshold: 3, backoff: 10ms}\n", i, at)
	}
	name := filepath.Join(tb.TempDir(), "config.yml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return name
}

// TestEventsAsRegistry2 does the same to registry:2 and to us, and compares what
// both tell: the same events in the same order, field by field.
func TestEventsAsRegistry2(t *testing.T) {
	t.Parallel()
	copier := newTool(t, "skopeo", "copy", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false")
	source := startRegctl(t, t.TempDir())
	image, err := speak(source).image("app", []byte("a layer"), "1")
	if err != nil {
		t.Fatal(err)
	}
	session := func(s *server, h *webhook) []notified {
		w := speak(s)
		copier.run(t, "docker://"+source.addr+"/app:1", "docker://"+s.addr+"/team/app:1")
		copier.run(t, "docker://"+source.addr+"/app:1", "docker://"+s.addr+"/team/app@"+string(image))
		dir := t.TempDir()
		copier.run(t, "docker://"+s.addr+"/team/app:1", "dir:"+dir)
		layer := digest.FromString("a layer")
		w.must(t, http.StatusOK, http.MethodHead, "/v2/team/app/manifests/1")
		w.must(t, http.StatusOK, http.MethodHead, "/v2/team/app/blobs/"+string(layer))
		w.must(t, http.StatusOK, http.MethodGet, "/v2/team/app/manifests/"+string(image))
		w.must(t, http.StatusCreated, http.MethodPost, "/v2/other/blobs/uploads/?from=team/app&mount="+string(layer))
		w.must(t, http.StatusAccepted, http.MethodDelete, "/v2/other/blobs/"+string(layer))
		w.must(t, http.StatusNotFound, http.MethodGet, "/v2/team/app/manifests/none")
		w.must(t, http.StatusAccepted, http.MethodDelete, "/v2/team/app/manifests/"+string(image))
		ended := h.until(t, func(es []notified) bool {
			return slices.ContainsFunc(es, func(e notified) bool { return e.at("action") == "delete" && e.at("target.tag") == "1" })
		})
		// Theirs takes a HEAD for a pull.
		return slices.DeleteFunc(ended, func(e notified) bool { return e.at("request.method") == http.MethodHead })
	}
	theirs, ours := newWebhook(t, nil), newWebhook(t, nil)
	cmd, addr := dockerRegistryCommand(t, t.TempDir())
	text, err := os.ReadFile(cmd.Args[2])
	if err == nil {
		text = append(text, "notifications:\n  events: {includereferences: true}\n  endpoints: [{name: hook, url: \""+theirs.URL+"\", timeout: 10s, threshold: 3, backoff: 1s}]\n"...)
		err = os.WriteFile(cmd.Args[2], text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	them := start(t, cmd, addr)
	us := startRegctl(t, t.TempDir(), eventsConfig(t, "", ours.URL))
	want, got := session(them, theirs), session(us, ours)
	for i := range max(len(want), len(got)) {
		var theirs, ours string
		if i < len(want) {
			theirs = plainEvent(t, want[i], them.addr)
		}
		if i < len(got) {
			ours = plainEvent(t, got[i], us.addr)
		}
		if theirs != ours {
			t.Errorf("event %d: registry:2 tells\n%s\nwe tell\n%s", i, theirs, ours)
		}
	}
	if len(want) < 10 {
		t.Errorf("registry:2 tells %d events only: this test shows little", len(want))
	}
	if got, want := ours.types[0], theirs.types[0]; got != want {
		t.Errorf("Content-Type %s, want %s", got, want)
	}
}

// plainEvent is an event without what is another one each time, once that was
// looked at: ids, times and ports.
func plainEvent(t *testing.T, e notified, addr string) string {
	t.Helper()
	for _, path := range []string{"id", "timestamp", "request.id", "request.addr", "request.useragent", "source.addr", "source.instanceID"} {
		if e.at(path) == "" {
			t.Errorf("%s: there is no %s", e, path)
		}
	}
	delete(e, "id")
	delete(e, "timestamp")
	request, source := e["request"].(map[string]any), e["source"].(map[string]any)
	delete(request, "id")
	if host, _, err := net.SplitHostPort(e.at("request.addr")); err == nil { // Ours has no port.
		request["addr"] = host
	}
	delete(source, "instanceID")
	if host, port, err := net.SplitHostPort(e.at("source.addr")); err != nil || !strings.HasSuffix(addr, ":"+port) {
		t.Errorf("%s: source %s is not that of %s", e, e.at("source.addr"), addr)
	} else {
		source["addr"] = host
	}
	raw, err := json.MarshalIndent(e, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(raw), addr, "HOST")
}

// TestNotificationsOutliveTheServer kills servers between push and delivery. Of
// two endpoints one fails in every way there is; each is told all that was
// acknowledged, in order.
func TestNotificationsOutliveTheServer(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	bad := newWebhook(t, func(n int, w http.ResponseWriter) bool {
		switch n % 6 {
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
		case 2: // It hangs up.
			if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = c.(*net.TCPConn).SetLinger(0)
				_ = c.Close()
			}
		case 3:
			w.WriteHeader(http.StatusNotFound)
		default:
			return false
		}
		return true
	})
	late := freeAddr(t) // Nobody is there at first.
	dir := t.TempDir()
	config := eventsConfig(t, "", bad.URL, "http://"+late)
	var want []string // What was acknowledged, in order.
	for round := range 4 {
		s := startRegctl(t, dir, config)
		w := speak(s)
		for n := range 6 {
			tag := fmt.Sprintf("r%d-n%d", round, n)
			d, err := w.image("team/app", fmt.Appendf(nil, "layer %s", tag), tag)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprintf("push team/app:%s %s", tag, d))
			if n%3 == 2 {
				w.must(t, http.StatusAccepted, http.MethodDelete, "/v2/team/app/manifests/"+string(d))
				want = append(want, fmt.Sprintf("delete team/app: %s", d), fmt.Sprintf("delete team/app:%s ", tag))
			}
		}
		_ = s.stop(syscall.SIGKILL) // It says so.
	}
	good := &webhook{more: make(chan struct{}, 1)}
	l, err := net.Listen("tcp", late)
	if err != nil {
		t.Fatal(err)
	}
	good.Server = &httptest.Server{Listener: l, Config: &http.Server{Handler: good}}
	good.Start()
	t.Cleanup(good.Close)
	s := startRegctl(t, dir, config)
	for name, h := range map[string]*webhook{"the one that fails": bad, "the one that comes late": good} {
		got := h.until(t, func(es []notified) bool { return len(changesOf(es)) >= len(want) })
		if got := changesOf(got); !slices.Equal(got, want) {
			t.Errorf("%s is told\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	s.end(t)
}

// TestNotificationsOnAFullDisk wants what can be done on a full disk told as well
// as all else, and no more.
func TestNotificationsOnAFullDisk(t *testing.T) {
	t.Parallel()
	dir := tmpfs(t, "size=2m")
	h := newWebhook(t, nil)
	s := startRegctl(t, dir, eventsConfig(t, "", h.URL))
	w := speak(s)
	image := pushV1(t, s)
	old := oci.Digest(w.must(t, http.StatusOK, http.MethodHead, "/v2/app/manifests/old").header.Get("Docker-Content-Digest"))
	empty := fill(t, dir)
	a := w.must(t, http.StatusOK, http.MethodGet, "/v2/app/manifests/v1")
	for range 20 { // What each leaves to be written is not much.
		w.refused(t, oci.InsufficientStorage, http.MethodPut, "/v2/app/manifests/none", append(a.body, ' '))
	}
	w.must(t, http.StatusAccepted, http.MethodDelete, "/v2/app/manifests/"+string(old))
	empty()
	s.usable(t, "v2", image)
	v2 := w.must(t, http.StatusOK, http.MethodHead, "/v2/app/manifests/v2").header.Get("Docker-Content-Digest")
	want := []string{
		"push app:v1 " + string(image), "push app:old " + string(old),
		"delete app: " + string(old), "delete app:old ", "push app:v2 " + v2,
	}
	told := func(es []notified) []string {
		return slices.DeleteFunc(changesOf(es), func(e string) bool { return strings.HasPrefix(e, "pull ") })
	}
	got := told(h.until(t, func(es []notified) bool { return len(told(es)) >= len(want) }))
	if !slices.Equal(got, want) {
		t.Errorf("told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	s.end(t)
}

// changesOf are the pushes and deletions of images, each told once: after a
// crash some are told again.
func changesOf(es []notified) []string {
	var all []string
	seen := map[string]bool{}
	for _, e := range es {
		if id := e.at("id"); e.at("target.mediaType") == "application/octet-stream" || seen[id] {
			continue
		}
		seen[e.at("id")] = true
		all = append(all, e.String())
	}
	return all
}

// TestNoNotificationOfWhatIsRefused wants pushes that fail untold.
func TestNoNotificationOfWhatIsRefused(t *testing.T) {
	t.Parallel()
	h := newWebhook(t, nil)
	at, err := url.Parse(h.URL)
	if err != nil {
		t.Fatal(err)
	}
	at.User = url.UserPassword("me", "secret")
	s := startRegctl(t, t.TempDir(), eventsConfig(t, "", at.String()))
	w := speak(s)
	missing := digest.FromString("nowhere")
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"x/y","digest":%q,"size":7},"layers":[]}`, oci.MediaTypeManifest, missing)
	for _, refused := range []func() (answer, error){
		func() (answer, error) {
			return w.call(http.MethodPut, "/v2/app/manifests/1", oci.MediaTypeManifest, raw)
		},
		func() (answer, error) {
			return w.call(http.MethodDelete, "/v2/app/manifests/"+string(missing), "", nil)
		},
		func() (answer, error) { return w.call(http.MethodDelete, "/v2/app/blobs/"+string(missing), "", nil) },
		func() (answer, error) {
			at, err := w.unfinished("app", []byte("something"))
			if err != nil {
				return answer{}, err
			}
			return w.call(http.MethodPut, withDigest(at, missing), "", nil)
		},
	} {
		if a, err := refused(); err != nil || a.status < 400 {
			t.Fatalf("status %d, %v; want a refusal", a.status, err)
		}
	}
	if _, err := w.image("app", []byte("layer"), "1"); err != nil {
		t.Fatal(err)
	}
	got := h.until(t, func(es []notified) bool { return len(changesOf(es)) > 0 })
	if len(got) != 3 {
		t.Errorf("told: %v", got)
	}
	s.end(t)
	if said := s.log.String(); strings.Contains(said, "secret") {
		t.Errorf("the log has a secret:\n%s", said)
	}
}
