//go:build unix

package commands

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/regctl/regctl/serve"
	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
)

// running is a `regctl serve` in this process.
type running struct {
	greeting []string
	url      string
	stop     context.CancelFunc
	status   chan int
}

// start runs regctl serve ARG... and waits until it says where it is.
func start(t *testing.T, env testEnv, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{stop: cancel, status: make(chan int, 1)}
	talk, w := io.Pipe()
	env.Stderr = w
	go func() {
		r.status <- Main(ctx, env.Env, append([]string{"serve"}, args...))
		_ = w.Close()
	}()
	lines := bufio.NewScanner(talk)
	for lines.Scan() {
		r.greeting = append(r.greeting, lines.Text())
		if strings.HasPrefix(lines.Text(), "push: ") {
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, talk) }()
	t.Cleanup(cancel)
	r.url = regexp.MustCompile(`https?://\S+`).FindString(strings.Join(r.greeting, "\n"))
	if r.url == "" {
		t.Fatalf("serve said %q", r.greeting)
	}
	return r
}

// end asks the server to stop and wants it to have gone well.
func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	if status := <-r.status; status != 0 {
		t.Errorf("exit status %d", status)
	}
}

func put(t *testing.T, url, repo, tag string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+"/v2/"+repo+"/manifests/"+tag, strings.NewReader(emptyIndex))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/vnd.oci.image.index.v1+json")
	do(t, req, http.StatusCreated)
}

func do(t *testing.T, req *http.Request, status int) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	if err := resp.Body.Close(); err != nil || resp.StatusCode != status {
		t.Fatalf("%s %s: %d %s, want %d", req.Method, req.URL, resp.StatusCode, body, status)
	}
}

// TestServe is the first ten minutes: serve, push, list, stop, serve again.
func TestServe(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	env := newTestEnv(nil, "HOME="+home)
	env.Home = home
	env.Now = time.Now
	r := start(t, env, "-addr", "127.0.0.1:0", "-data", filepath.Join(home, "store"))
	at := strings.TrimPrefix(r.url, "http://")
	want := []string{
		r.url + " · store ~/store (new) · deletes on · this machine only",
		"push: docker tag IMAGE localhost:PORT/NAME && docker push localhost:PORT/NAME",
	}
	want[1] = strings.ReplaceAll(want[1], "PORT", at[strings.LastIndex(at, ":")+1:])
	if strings.Join(r.greeting, "\n") != strings.Join(want, "\n") {
		t.Errorf("greeting %q, want %q", r.greeting, want)
	}
	put(t, r.url, "myfirstimage", "latest")
	put(t, r.url, "team/app", "1.0")
	client := newTestEnv(nil)
	client.run(t, "ls "+at, 0, "myfirstimage\nteam/app\n", "")
	client.run(t, "ls -a "+at, 0, "myfirstimage:latest\nteam/app:1.0\n", "")
	client.Terminal = true
	client.stdout.Reset()
	if status := Main(t.Context(), client.Env, []string{"ls", at}); status != 0 ||
		!strings.HasPrefix(client.stdout.String(), "REPOSITORY    TAGS  SIZE  PUSHED\nmyfirstimage  1     88 B  ") {
		t.Errorf("status %d: %s%s", status, client.stdout, client.stderr)
	}
	if status := Main(t.Context(), client.Env, []string{"ls", at + "/team/app"}); status != 0 ||
		!strings.Contains(client.stdout.String(), "TAG  DIGEST ") {
		t.Errorf("status %d: %s%s", status, client.stdout, client.stderr)
	}
	r.end(t)

	r = start(t, env, "-addr", "127.0.0.1:0", "-data", filepath.Join(home, "store"))
	if !strings.Contains(r.greeting[0], "store ~/store · ") {
		t.Errorf("greeting %q", r.greeting)
	}
	newTestEnv(nil).run(t, "ls -a "+strings.TrimPrefix(r.url, "http://"), 0, "myfirstimage:latest\nteam/app:1.0\n", "")
	r.end(t)
}

// TestServeConfig: with a config.yml the defaults of registry:2 rule.
func TestServeConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yml")
	text := "version: 0.1\nlog: {accesslog: {disabled: true}}\nstorage: {inmemory: {}}\nhttp: {addr: '127.0.0.1:0', headers: {X-Test: [yes]}}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, newTestEnv(nil), path)
	if !strings.Contains(r.greeting[len(r.greeting)-2], " · store in memory · deletes off · this machine only") {
		t.Errorf("greeting %q", r.greeting)
	}
	put(t, r.url, "app", "1")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, r.url+"/v2/app/manifests/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	do(t, req, http.StatusMethodNotAllowed)
	r.end(t)
}

// TestServeOpen: an address that others can reach is warned of.
func TestServeOpen(t *testing.T) {
	t.Parallel()
	listeners, err := serve.Listen(t.Context(), []string{"0.0.0.0:0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listeners[0].Close() }()
	env := newTestEnv(nil)
	env.greet([]net.Addr{listeners[0].Addr()}, config.Place{}, &config.Config{})
	if got := env.stderr.String(); !strings.Contains(got, "http://localhost:") ||
		!strings.Contains(got, "warning: no login is asked, whoever reaches it may pull and push\n") {
		t.Errorf("said %q", got)
	}
}

func TestCannotServe(t *testing.T) {
	t.Parallel()
	taken := func(addr string) error { return &serve.AddrInUseError{Addr: addr, Err: errors.New("x")} }
	for _, c := range []struct {
		err    error
		status int
		want   string
	}{
		{taken("127.0.0.1:5000"), exitFailed, "127.0.0.1:5000 is in use (macOS: AirPlay). Try: regctl serve --addr 127.0.0.1:5001"},
		{taken(":8080"), exitFailed, ":8080 is in use. Try: regctl serve --addr :8081"},
		{taken("[::1]:65535"), exitFailed, "[::1]:65535 is in use"},
		{&net.OpError{Op: "listen", Err: syscall.EACCES}, exitFailed, "listen: permission denied"},
		{errors.New("other"), exitFailed, "other"},
		{&file.HeldError{}, exitLocked, "the store is in use by another process"},
		{meta.ErrForeign, exitLocked, meta.ErrForeign.Error()},
		{storage.ErrReadOnly, exitLocked, "storage takes no changes; make it writable for this user, or keep the store elsewhere: regctl serve --data DIR"},
		{errors.Join(context.Canceled, &file.HeldError{}), exitInterrupted, "context canceled\nthe store is in use by another process"},
	} {
		if got := cannotServe(c.err); got.Error() != c.want || exitStatus(got) != c.status {
			t.Errorf("got %q, status %d, want %q, %d", got, exitStatus(got), c.want, c.status)
		}
	}
}

// TestServeHeldStore: a store that another server has is waited for, said, and
// left alone.
func TestServeHeldStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	locked, err := file.Lock(t.Context(), dir, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = locked.Unlock() }()
	env := newTestEnv(nil)
	var waited time.Duration
	env.After = func(d time.Duration) <-chan time.Time {
		waited += d
		now := make(chan time.Time, 1)
		now <- time.Time{}
		return now
	}
	status := Main(t.Context(), env.Env, []string{"serve", "--addr", "127.0.0.1:0", "--data", dir})
	if status != exitLocked || waited != 30*time.Second {
		t.Errorf("status %d after %s", status, waited)
	}
	if got := env.stderr.String(); !strings.Contains(got, "; waiting up to 30s for it to stop\n") || strings.Count(got, "in use by process") != 2 {
		t.Errorf("said %q", got)
	}
}
