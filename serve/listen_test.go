package serve

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regctl/regctl/serve/config"
)

// socketPath is short: a socket's path has room for about 100 bytes.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func TestListenUnix(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	first, err := ListenUnix(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if f, err := os.Stat(path); err != nil || f.Mode().Perm()&0o600 != 0o600 {
		t.Errorf("%v, %v", f, err)
	}
	var inUse *AddrInUseError
	if l, err := ListenUnix(t.Context(), path); !errors.As(err, &inUse) || inUse.Addr != path {
		t.Fatalf("a socket where a server listens: %v, %v", l, err)
	}
	first.Close()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestListenUnixReplacesWhatWasLeft(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	l, err := ListenUnix(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestListenUnixErrors(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := ListenUnix(t.Context(), path); err == nil || !strings.Contains(err.Error(), path+": a file is there that is no socket") {
		t.Errorf("%v, %v", l, err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "precious" {
		t.Errorf("the file is now %q, %v", got, err)
	}
	if l, err := ListenUnix(t.Context(), filepath.Join(path, "below")); err == nil {
		l.Close()
		t.Error("no error")
	}
	live := socketPath(t)
	l, err := ListenUnix(t.Context(), live)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if ls, err := listen(t.Context(), "unix", []string{socketPath(t), live}, nil); err == nil {
		closeAll(ls)
		t.Error("no error")
	}
}

// TestServeOnASocket: http.net: unix.
func TestServeOnASocket(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	ctx, stop := context.WithCancel(t.Context())
	log := &logBuffer{}
	a, err := Assemble(ctx, Parts{Config: &config.Config{HTTP: config.HTTP{Network: "unix", Addrs: []string{path}}}, Access: log.text()})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx) }()
	tr := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://reg/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"client=unix ", "client=192.0.2.7 "} {
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Error(resp.Status)
		}
		eventually(t, func() bool { return strings.Contains(log.String(), want) })
		req.Header.Set("X-Forwarded-For", "192.0.2.7") // The peers of a socket are trusted.
	}
	tr.CloseIdleConnections()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

// TestHTTPOnTheTLSPort: the answer says what to use, and nothing that is no host.
func TestHTTPOnTheTLSPort(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t)
	certPEM, keyPEM := ca.leaf()
	f := pemFiles(t, certPEM, keyPEM)
	addr := serveTLS(t, config.HTTP{TLS: config.TLS{Certificate: f[0], Key: f[1]}})

	// Who says nothing, and who does not end, keeps nobody else waiting.
	silent, slow := dial(t, addr), dial(t, addr)
	fmt.Fprint(slow, "G")
	_ = silent

	for request, want := range map[string]string{
		"GET /v2/ HTTP/1.1\r\nHost: reg.example.com:5000\r\n\r\n":   "this port speaks HTTPS; use https://reg.example.com:5000\"",
		"PUT /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n": "use https://x\"",
		"GET / HTTP/1.0\r\n\r\n":                                    "this port speaks HTTPS; use https://\"",
		"GET / HTTP/1.1\r\nHost: <b>\r\n\r\n":                       "this port speaks HTTPS",
		"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n":                        "",
		"NONSENSE\r\n\r\n":                                          "this port speaks HTTPS\"",
		"A" + strings.Repeat("x", 2*wrongHead):                      "this port speaks HTTPS\"",
	} {
		c := dial(t, addr)
		_, _ = io.WriteString(c, request)
		method, _, _ := strings.Cut(request, " ")
		res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%.40q: %v", request, err)
		}
		body, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode != 400 || !strings.Contains(string(body), want) || strings.Contains(string(body), "<b>") {
			t.Errorf("%.40q: %s %s, %v", request, res.Status, body, err)
		}
		if rest, err := io.ReadAll(c); len(rest) > 0 || err != nil {
			t.Errorf("%.40q: then %q, %v", request, rest, err)
		}
	}
	resp, err := clientOf(t, &tls.Config{RootCAs: ca.pool()}, true).Get("https://" + addr + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// TestTLSOnThePlainPort: clients of Go, docker's above all, say what is wrong,
// and the operator is told once a minute.
func TestTLSOnThePlainPort(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	var clock atomic.Int64
	now := func() time.Time { return time.Unix(0, clock.Load()) }
	addr := runServer(t, &Server{Handler: newTestHandler(t, Options{}), Log: log.text(), Now: now})
	ask := func() {
		t.Helper()
		_, err := clientOf(t, &tls.Config{InsecureSkipVerify: true}, true).Get("https://" + addr + "/v2/")
		if err == nil || !strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
			t.Error(err)
		}
	}
	told := func() int { return strings.Count(log.String(), "a client speaks HTTPS") }
	ask()
	ask()
	clock.Add(int64(wrongPause) - 1)
	ask()
	if told() != 1 {
		t.Errorf("log %s", log)
	}
	if l := log.String(); !strings.Contains(l, "client=127.0.0.1 port="+addr) || !strings.Contains(l, "level=INFO") {
		t.Errorf("log %s", l)
	}
	clock.Add(1)
	ask()
	if told() != 2 {
		t.Errorf("log %s", log)
	}
	resp, err := http.Get("http://" + addr + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// TestWrongTalkForgets: those who are wrong cannot fill the memory.
func TestWrongTalkForgets(t *testing.T) {
	t.Parallel()
	at := time.Unix(0, 0)
	w := newWrongTalk(nil, func() time.Time { return at })
	for i := range 2 * wrongMost {
		if got, want := w.first(fmt.Sprint(i)), i < wrongMost; got != want {
			t.Fatalf("client %d: %v", i, got)
		}
	}
	at = at.Add(wrongPause)
	if !w.first("another") || len(w.told) != 1 {
		t.Errorf("%d clients are remembered", len(w.told))
	}
}

// TestOpenConnKeepsSendfile: what net/http looks for to let the kernel send
// files is there on a connection that is looked at.
func TestOpenConnKeepsSendfile(t *testing.T) {
	t.Parallel()
	ls, err := Listen(t.Context(), []string{"127.0.0.1:0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(ls)
	dial(t, ls[0].Addr().String())
	c, err := newWrongTalk(nil, nil).listener(ls[0], false).Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, ok := c.(*openConn); !ok {
		t.Fatalf("a %T", c)
	}
	from, ok := c.(io.ReaderFrom)
	if !ok {
		t.Fatal("no io.ReaderFrom")
	}
	if _, err := from.ReadFrom(strings.NewReader("x")); err != nil {
		t.Error(err)
	}
}
