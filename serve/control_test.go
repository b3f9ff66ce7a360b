//go:build unix

package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/store"
)

// standIn stands in for a store.
type standIn struct {
	onCollect func(context.Context, gc.Options, bool) (gc.Report, error)
	onCheck   func(context.Context, store.CheckOptions) (store.CheckReport, error)
}

func (s standIn) Collect(ctx context.Context, o gc.Options, dry bool) (gc.Report, error) {
	return s.onCollect(ctx, o, dry)
}

func (s standIn) Check(ctx context.Context, o store.CheckOptions) (store.CheckReport, error) {
	return s.onCheck(ctx, o)
}

// never is a timer that does not fire.
func never(time.Duration) <-chan time.Time { return nil }

func fixedNow() time.Time { return time.Date(2026, 11, 21, 14, 2, 11, 0, time.UTC) }

// keptUp begins the upkeep of a store in dir that s stands in for.
func keptUp(t *testing.T, dir string, s standIn) *upkeeping {
	t.Helper()
	return keptUpLogged(t, dir, s, io.Discard)
}

func keptUpLogged(t *testing.T, dir string, s standIn, log io.Writer) *upkeeping {
	t.Helper()
	locked, err := file.Lock(t.Context(), dir, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	rules := config.GC{Older: time.Hour, Uploads: 2 * time.Hour, Undo: 3 * time.Hour}
	k := &keeper{store: s, rules: rules, jobs: 1, now: fixedNow}
	u := startUpkeeping(t.Context(), locked, nil, k, clock{fixedNow, never}, slog.New(slog.NewTextHandler(log, nil)))
	t.Cleanup(func() {
		if !u.stop() {
			t.Error("it has not ended")
		}
		u.leave()
		if err := locked.Unlock(); err != nil {
			t.Error(err)
		}
	})
	return u
}

// shortDir is a directory whose path a socket has room for.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "regctl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// opened opens the upkeep of a store that somebody has.
func opened(t *testing.T, dir string) Upkeep {
	t.Helper()
	u, err := OpenUpkeep(t.Context(), UpkeepParts{Dir: dir, Config: &config.Config{}, Now: fixedNow, After: never})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	if h := u.Holder(); !h.Remote || h.PID != os.Getpid() || h.Host == "" {
		t.Errorf("the holder is %+v", h)
	}
	return u
}

func unsaidRequest() CollectRequest {
	return CollectRequest{Options: gc.Options{Older: -1, Uploads: -1, Undo: -1}}
}

// What is asked reaches the store, and what it says the client; what is not
// asked is as configured.
func TestControl(t *testing.T) {
	t.Parallel()
	var asked []string
	want := gc.Report{
		Older: time.Hour, Before: gc.Count{N: 3, Bytes: 5}, Removed: map[gc.Kind]gc.Count{gc.KindData: {N: 1, Bytes: 2}},
		Kept: map[gc.Reason]gc.Count{gc.KeptYoung: {N: 1}}, Frozen: []gc.Frozen{{Repo: "a", Why: "b"}},
		Failed: []gc.Failure{{Kind: gc.KindBlob, Repo: "r", Digest: oci.Digest("sha256:x"), Why: "w"}},
	}
	s := standIn{
		onCollect: func(_ context.Context, o gc.Options, dry bool) (gc.Report, error) {
			asked = append(asked, fmt.Sprint(o.Untagged, o.Older, o.Uploads, o.Undo, o.Jobs, o.Now.Equal(fixedNow()), o.Approve == nil, dry))
			o.Progress(gc.Progress{Phase: gc.PhaseMark, Done: 1, Total: 2})
			return want, nil
		},
		onCheck: func(_ context.Context, o store.CheckOptions) (store.CheckReport, error) {
			asked = append(asked, fmt.Sprint(o.Fast, o.Repair, o.Jobs))
			o.Progress(store.CheckProgress{Phase: store.CheckRead, Done: 3, Total: 4})
			return store.CheckReport{Tags: 7, Corrupt: 1}, fmt.Errorf("disk: %w", storage.ErrReadOnly)
		},
	}
	dir := shortDir(t)
	var log bytes.Buffer
	kept := keptUpLogged(t, dir, s, &log)
	u := opened(t, dir)

	var seen []string
	note := func(p gc.Progress) { seen = append(seen, fmt.Sprint(p)) }
	r := unsaidRequest()
	got, err := u.Collect(t.Context(), r, note)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, %v", got, err)
	}
	r.Options = gc.Options{Untagged: true, Older: 0, Uploads: 1, Undo: 2, Jobs: 4}
	r.Dry = true
	if _, err := u.Collect(t.Context(), r, nil); err != nil {
		t.Error(err)
	}
	checked, err := u.Check(t.Context(), store.CheckOptions{Fast: true, Repair: true, Jobs: 3}, func(p store.CheckProgress) { seen = append(seen, fmt.Sprint(p)) })
	if checked.Tags != 7 || checked.Corrupt != 1 || !errors.Is(err, storage.ErrReadOnly) || !strings.HasPrefix(err.Error(), "disk: ") {
		t.Errorf("%+v, %v", checked, err)
	}
	wantAsked := "[false 1h0m0s 2h0m0s 3h0m0s 1 true true false true 0s 1ns 2ns 4 true true true true true 3]"
	if fmt.Sprint(asked) != wantAsked {
		t.Errorf("asked %v\nwant %s", asked, wantAsked)
	}
	if fmt.Sprint(seen) != "[{mark 1 2} {read 3 4}]" {
		t.Errorf("seen %v", seen)
	}
	kept.stop()
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `msg="a collection that was asked for is done" removed=1 bytes=2 of=5`) {
		t.Errorf("logged %s", got) // Of what was not dry.
	}
}

// waits is a collection that goes on until its context ends, or end is closed.
func waits(began chan<- struct{}, end <-chan struct{}) standIn {
	return standIn{onCollect: func(ctx context.Context, _ gc.Options, _ bool) (gc.Report, error) {
		began <- struct{}{}
		select {
		case <-ctx.Done():
			return gc.Report{Before: gc.Count{N: 1}}, fmt.Errorf("sweep: %w", ctx.Err())
		case <-end:
			return gc.Report{}, nil
		}
	}}
}

// A client that goes away ends its run; the next one may run.
func TestControlClientLeaves(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	began, end := make(chan struct{}), make(chan struct{})
	kept := keptUp(t, dir, waits(began, end))
	u := opened(t, dir)
	ctx, leave := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := u.Collect(ctx, unsaidRequest(), nil)
		failed <- err
	}()
	<-began
	kept.keeper.mu.Lock()
	idle := kept.keeper.idle
	kept.keeper.mu.Unlock()
	leave()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-idle
	go func() {
		<-began
		close(end)
	}()
	if _, err := u.Collect(t.Context(), unsaidRequest(), nil); err != nil {
		t.Error(err)
	}
}

func TestControlOneAtATime(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	began, end := make(chan struct{}), make(chan struct{})
	keptUp(t, dir, waits(began, end))
	failed := make(chan error)
	go func() {
		_, err := opened(t, dir).Collect(t.Context(), unsaidRequest(), nil)
		failed <- err
	}()
	<-began
	const want = "a collection is running since 2026-11-21 14:02:11"
	u := opened(t, dir)
	if _, err := u.Collect(t.Context(), unsaidRequest(), nil); !errors.Is(err, ErrRunning) || err.Error() != want {
		t.Errorf("a second collection: %v", err)
	}
	if _, err := u.Check(t.Context(), store.CheckOptions{}, nil); !errors.Is(err, ErrRunning) || err.Error() != want {
		t.Errorf("a check: %v", err)
	}
	close(end)
	if err := <-failed; err != nil {
		t.Error(err)
	}
}

// A server that stops ends the run and says so, with what was done.
func TestControlServerStops(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	began := make(chan struct{})
	kept := keptUp(t, dir, waits(began, nil))
	type result struct {
		report gc.Report
		err    error
	}
	ended := make(chan result)
	go func() {
		r, err := opened(t, dir).Collect(t.Context(), unsaidRequest(), nil)
		ended <- result{r, err}
	}()
	<-began
	if !kept.stop() {
		t.Error("it has not ended")
	}
	if r := <-ended; !errors.Is(r.err, ErrStopping) || r.report.Before.N != 1 {
		t.Errorf("got %+v", r)
	}
	if _, err := kept.keeper.collect(t.Context(), unsaidRequest(), nil); !errors.Is(err, ErrStopping) {
		t.Errorf("collected after the end: %v", err)
	}
	for _, name := range []string{controlSocket, controlFile} {
		if _, err := os.Lstat(filepath.Join(dir, file.Private, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A server that does not stop is told from one that does, and a server that
// died in the middle from one that answered.
func TestControlServerDies(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	began := make(chan struct{})
	kept := keptUp(t, dir, waits(began, nil))
	failed := make(chan error)
	go func() {
		_, err := opened(t, dir).Collect(t.Context(), unsaidRequest(), nil)
		failed <- err
	}()
	<-began
	if kept.keeper.shut(0) {
		t.Error("it has ended")
	}
	kept.control.server.Close()
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "went away before it had finished") {
		t.Error(err)
	}
}

// What a dead server left is no obstacle.
func TestControlStale(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	private := filepath.Join(dir, file.Private)
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(private, controlSocket), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if err := os.WriteFile(filepath.Join(private, controlFile), []byte(`{"addr":"127.0.0.1:1","token":"x"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	keptUp(t, dir, standIn{onCollect: func(context.Context, gc.Options, bool) (gc.Report, error) { return gc.Report{}, nil }})
	if _, err := opened(t, dir).Collect(t.Context(), unsaidRequest(), nil); err != nil {
		t.Error(err)
	}
	info, err := os.Stat(filepath.Join(private, controlSocket))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// Where a socket has no room for the path, it is a port and a token.
func TestControlLongPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	keptUp(t, dir, standIn{onCollect: func(context.Context, gc.Options, bool) (gc.Report, error) { return gc.Report{}, nil }})
	if _, err := opened(t, dir).Collect(t.Context(), unsaidRequest(), nil); err != nil {
		t.Error(err)
	}
	name := filepath.Join(dir, file.Private, controlFile)
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	var addr controlAddr
	data, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(data, &addr)
	}
	if host, _, splitErr := net.SplitHostPort(addr.Addr); err != nil || splitErr != nil || !net.ParseIP(host).IsLoopback() || len(addr.Token) < 26 {
		t.Fatalf("%s: %v", data, err)
	}
	for _, token := range []string{"", addr.Token + "x", "Bearer"} {
		req := httptest.NewRequestWithContext(t.Context(), "POST", "http://"+addr.Addr+"/gc", strings.NewReader("{}"))
		req.RequestURI = ""
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != 401 || !bytes.Contains(body, []byte(`"denied"`)) {
			t.Errorf("token %q: %d %s", token, res.StatusCode, body)
		}
	}
	if err := os.WriteFile(name, bytes.ReplaceAll(data, []byte(addr.Token), []byte("wrong")), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = OpenUpkeep(t.Context(), UpkeepParts{Dir: dir, Config: &config.Config{}})
	var held *file.HeldError
	if !errors.As(err, &held) || !strings.Contains(err.Error(), "the token is not that of") {
		t.Error(err)
	}
}

// A store that something has that cannot be asked is held.
func TestControlUnreachable(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		control string
		want    string
	}{
		"no control": {"", ""},
		"nobody":     {`{"addr":"127.0.0.1:1","token":"x"}`, ""}, // As a server that was killed leaves it.
		"garbage":    {`{"addr"`, "unexpected end of JSON input"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			locked, err := file.Lock(t.Context(), dir, 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer locked.Unlock()
			if tt.control != "" {
				if err := os.WriteFile(locked.Path(controlFile), []byte(tt.control), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err = OpenUpkeep(t.Context(), UpkeepParts{Dir: dir, Config: &config.Config{}})
			var held *file.HeldError
			if !errors.As(err, &held) || held.PID != os.Getpid() || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "://") {
				t.Error(err)
			}
		})
	}
}

// Something else that answers is not taken for a server of ours.
func TestControlOfAnother(t *testing.T) {
	t.Parallel()
	for _, answer := range []string{"", "hello", "{}", `{"pid":`, `[]`} {
		dir := t.TempDir()
		locked, err := file.Lock(t.Context(), dir, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) }))
		data, _ := json.Marshal(controlAddr{other.Listener.Addr().String(), "x"})
		if err := os.WriteFile(locked.Path(controlFile), data, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = OpenUpkeep(t.Context(), UpkeepParts{Dir: dir, Config: &config.Config{}})
		var held *file.HeldError
		if !errors.As(err, &held) || !strings.Contains(err.Error(), "makes no sense") {
			t.Errorf("%q: %v", answer, err)
		}
		other.Close()
		locked.Unlock()
	}
}

// What makes no sense is refused in words, and harms nobody.
func TestControlGarbage(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	keptUp(t, dir, standIn{onCollect: func(context.Context, gc.Options, bool) (gc.Report, error) { return gc.Report{}, nil }})
	socket := filepath.Join(dir, file.Private, controlSocket)
	dial := func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }
	client := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}

	conn, err := dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write(bytes.Repeat([]byte{0, 255, '\n'}, 1000))
	conn.Close()

	tests := []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"POST", "/gc", `{"older":-1,"fanciness":3}`, 400, `may be of another version: json: unknown field \"fanciness\"`},
		{"POST", "/gc", ``, 400, "EOF"},
		{"POST", "/gc", `{} {}`, 400, "goes on after its end"},
		{"POST", "/gc", `{"older":"soon"}`, 400, "cannot unmarshal string"},
		{"POST", "/gc", strings.Repeat(" ", longestRequest+1) + `{}`, 400, "too large"},
		{"POST", "/check", `[1]`, 400, "cannot unmarshal array"},
		{"POST", "/defrag", `{}`, 404, "does not know POST /defrag; it is of another version"},
		{"GET", "/gc", ``, 404, "does not know GET /gc"},
	}
	for _, tt := range tests {
		req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://control"+tt.path, strings.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		res.Body.Close()
		var line controlLine[gc.Progress, gc.Report]
		if err := json.Unmarshal(body, &line); err != nil || line.Error == nil || res.StatusCode != tt.status || !bytes.Contains(body, []byte(tt.want)) {
			t.Errorf("%s %s %.40s: %d %s (%v)", tt.method, tt.path, tt.body, res.StatusCode, body, err)
		}
	}
	if _, err := opened(t, dir).Collect(t.Context(), unsaidRequest(), nil); err != nil {
		t.Error(err)
	}
}

// slowly is an answer that nobody reads until they may.
type slowly struct {
	*httptest.ResponseRecorder
	writing chan struct{}
	may     chan struct{}
}

func (s *slowly) Write(p []byte) (int, error) {
	select {
	case s.writing <- struct{}{}:
	default:
	}
	<-s.may
	return s.ResponseRecorder.Write(p)
}

func (*slowly) SetWriteDeadline(time.Time) error { return nil }

// A run does not wait for who does not read, nor tells more than one line each
// tenth of a second; but the last progress is told.
func TestControlSlowClient(t *testing.T) {
	t.Parallel()
	w := &slowly{httptest.NewRecorder(), make(chan struct{}, 1), make(chan struct{})}
	var waited time.Duration
	after := func(d time.Duration) <-chan time.Time { waited += d; return nil }
	l := startLines[gc.Progress, gc.Report](w, after, func() { t.Error("it failed") })
	l.progress(gc.Progress{Phase: gc.PhaseMark, Done: 1})
	<-w.writing
	for i := range 1000 {
		l.progress(gc.Progress{Phase: gc.PhaseSweep, Done: i})
	}
	close(w.may)
	l.end(gc.Report{}, nil)
	lines := strings.Split(strings.TrimSpace(w.Body.String()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], `"done":1,`) || !strings.Contains(lines[1], `"done":999,`) || !strings.Contains(lines[2], `"report"`) {
		t.Errorf("got %s", lines)
	}
	if waited > progressEvery {
		t.Errorf("waited %s", waited)
	}
}

// A client that takes nothing any more ends the run.
func TestControlLostClient(t *testing.T) {
	t.Parallel()
	failed := make(chan struct{})
	l := startLines[gc.Progress, gc.Report](refusing{httptest.NewRecorder()}, never, func() { close(failed) })
	l.progress(gc.Progress{})
	<-failed
	l.failed = func() {}
	l.end(gc.Report{}, nil)
}

type refusing struct{ *httptest.ResponseRecorder }

func (refusing) Write([]byte) (int, error)        { return 0, net.ErrClosed }
func (refusing) SetWriteDeadline(time.Time) error { return nil }
