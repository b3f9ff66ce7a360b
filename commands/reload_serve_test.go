//go:build unix

package commands

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// saidBuffer is what a server says while others look.
type saidBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *saidBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *saidBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// until waits until the server has said something that matches, and returns it.
func (b *saidBuffer) until(t *testing.T, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	limit, tick := time.After(30*time.Second), time.NewTicker(2*time.Millisecond)
	defer tick.Stop()
	for {
		if m := re.FindString(b.String()); m != "" {
			return m
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("no %s in\n%s", pattern, b)
		}
	}
}

// A server follows its config file: what can change does, what is wrong is
// refused, what needs a restart is named, and the flags still win.
func TestServeFollowsItsConfig(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	name := filepath.Join(home, "config.yml")
	write := func(lines ...string) {
		t.Helper()
		text := strings.Join(append([]string{"version: 0.1", "http: {addr: ':1'}"}, lines...), "\n")
		if err := errors.Join(os.WriteFile(name+".new", []byte(text), 0o600), os.Rename(name+".new", name)); err != nil { // In one step.
			t.Fatal(err)
		}
	}
	write("storage: {filesystem: {rootdirectory: "+filepath.Join(home, "store")+"}}", "log: {level: debug}")
	env, said := newTestEnv(nil, "HOME="+home), &saidBuffer{}
	env.Stderr, env.Now = said, time.Now
	env.After = func(d time.Duration) <-chan time.Time {
		if d == reloadEvery {
			d = time.Millisecond
		}
		return time.After(d)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	go func() { ended <- Main(ctx, env.Env, []string{"serve", "--addr", "127.0.0.1:0", name}) }()
	url := said.until(t, `http://127\S+`)
	put(t, url, "app", "v1")
	refused := func(why string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "DELETE", url+"/v2/app/manifests/v1", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if body, _ := io.ReadAll(res.Body); res.StatusCode != 405 || !strings.Contains(string(body), why) {
			t.Errorf("%d %s, want %s", res.StatusCode, body, why)
		}
	}
	refused("deletes are off")
	said.until(t, `level=info msg=request method=DELETE`)
	said.until(t, `level=debug msg="the config file takes effect when it changes" file=`)

	write("storage: {filesystem: {rootdirectory: "+filepath.Join(home, "other")+"}, delete: {enabled: true}, maintenance: {readonly: {enabled: true}}}",
		"log: {accesslog: {disabled: true}, formatter: logstash}")
	said.until(t, `"message":"storage.filesystem.rootdirectory changed: takes effect when restarted"`)
	refused("read-only")
	write("storage: {filesystem: {rootdirectory: nowhere}, delete: {enabled: perhaps}}", "log: {level: loud}")
	said.until(t, `"message":"config.yml:4: log.level: .*loud`)
	said.until(t, `"message":"config.yml:3: storage.delete.enabled: `)
	said.until(t, `"message":"the config file is refused`)
	refused("read-only")
	write("storage: {filesystem: {rootdirectory: "+filepath.Join(home, "store")+"}, delete: {enabled: true}}", "log: {accesslog: {disabled: true}}")
	said.until(t, `no restart is needed any more`)
	req, err := http.NewRequestWithContext(t.Context(), "DELETE", url+"/v2/app/manifests/v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	do(t, req, http.StatusAccepted)
	stop()
	if status := <-ended; status != exitDone {
		t.Errorf("status %d", status)
	}
	if got := said.String(); strings.Contains(got, "http.addr changed") || strings.Count(got, "method=DELETE") != 1 {
		t.Errorf("said\n%s", got)
	}
}
