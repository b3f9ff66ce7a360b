package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// atOnce is a clock on which no time passes while one waits.
func atOnce(time.Duration) <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}

// clock is one on which time passes only while one waits.
type clock struct {
	mu     sync.Mutex
	now    time.Time
	waited []time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) After(d time.Duration) <-chan time.Time {
	c.pass(d)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waited = append(c.waited, d)
	return atOnce(d)
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// waits returns the pauses that were made since it was last called.
func (c *clock) waits() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	waited := c.waited
	c.waited = nil
	return waited
}

// options are those of a client that tells time by c, without chance.
func (c *clock) options(f *faults) Options {
	c.now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return Options{Transport: f, Now: c.Now, After: c.After, Jitter: func() float64 { return 0 }}
}

// spoil is what goes wrong with a request that next would carry.
type spoil func(req *http.Request, next http.RoundTripper) (*http.Response, error)

// faults carries requests and spoils some. It is an [http.RoundTripper]; the
// zero value spoils nothing.
type faults struct {
	mu    sync.Mutex
	rules []*rule
	asked []string // "METHOD /path" of each request but the greeting.
}

type rule struct {
	times int
	match string
	spoil spoil
}

// add spoils the next requests, as many as times says, that match: a
// beginning of "METHOD /path".
func (f *faults) add(times int, match string, s spoil) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, &rule{times, match, s})
}

// requests returns what was asked for since it was last called.
func (f *faults) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := f.asked
	f.asked = nil
	return asked
}

func (f *faults) RoundTrip(req *http.Request) (*http.Response, error) {
	f.mu.Lock()
	what, spoil := req.Method+" "+req.URL.Path, spoil(nil)
	if req.URL.Path != "/v2/" {
		f.asked = append(f.asked, what)
	}
	for _, r := range f.rules {
		if r.times > 0 && strings.HasPrefix(what, r.match) && (req.URL.Path != "/v2/" || r.match == what) {
			r.times--
			spoil = r.spoil
			break
		}
	}
	f.mu.Unlock()
	if spoil == nil {
		return http.DefaultTransport.RoundTrip(req)
	}
	return spoil(req, http.DefaultTransport)
}

// answers gives a status without asking the server, with pairs of header names
// and values.
func answers(status int, body string, header ...string) spoil {
	return func(req *http.Request, _ http.RoundTripper) (*http.Response, error) {
		if req.Body != nil {
			_, _ = io.Copy(io.Discard, req.Body)
			_ = req.Body.Close()
		}
		h := http.Header{}
		for pair := range slices.Chunk(header, 2) {
			h.Add(pair[0], pair[1])
		}
		return &http.Response{
			StatusCode: status, Header: h, Request: req, ContentLength: int64(len(body)), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Body: io.NopCloser(strings.NewReader(body)),
		}, nil
	}
}

// redirects sends the client elsewhere.
func redirects(to string) spoil { return answers(http.StatusTemporaryRedirect, "", "Location", to) }

// refuses is a server that does not listen.
func refuses(*http.Request, http.RoundTripper) (*http.Response, error) {
	return nil, syscall.ECONNREFUSED
}

// loses does what is asked, and loses the answer.
func loses(req *http.Request, next http.RoundTripper) (*http.Response, error) {
	resp, err := next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close()
	return nil, syscall.ECONNRESET
}

// hangs says nothing until the client gives up.
func hangs(req *http.Request, _ http.RoundTripper) (*http.Response, error) {
	<-req.Context().Done()
	return nil, req.Context().Err()
}

// changed is an answer with another body.
func changed(change func(io.ReadCloser, context.Context) io.Reader) spoil {
	return func(req *http.Request, next http.RoundTripper) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		if err == nil {
			body := resp.Body
			resp.Body = struct {
				io.Reader
				io.Closer
			}{change(body, req.Context()), body}
		}
		return resp, err
	}
}

// cuts breaks the body of the answer off after n bytes, with an error.
func cuts(n int64) spoil {
	return changed(func(body io.ReadCloser, _ context.Context) io.Reader {
		return io.MultiReader(io.LimitReader(body, n), fails{io.ErrUnexpectedEOF})
	})
}

// ends lets the body of the answer end early, as if it were whole: the length
// in the header is a lie.
func ends(n int64) spoil {
	return changed(func(body io.ReadCloser, _ context.Context) io.Reader { return io.LimitReader(body, n) })
}

// stalls stops sending after n bytes.
func stalls(n int64) spoil {
	return changed(func(body io.ReadCloser, ctx context.Context) io.Reader {
		return io.MultiReader(io.LimitReader(body, n), silent{ctx})
	})
}

// drips sends byte by byte.
func drips() spoil {
	return changed(func(body io.ReadCloser, _ context.Context) io.Reader { return drip{body} })
}

// alters changes the first byte.
func alters() spoil {
	return changed(func(body io.ReadCloser, _ context.Context) io.Reader {
		first := make([]byte, 1)
		if _, err := io.ReadFull(body, first); err != nil {
			return fails{err}
		}
		return io.MultiReader(strings.NewReader("\x00"), body)
	})
}

type fails struct{ err error }

func (f fails) Read([]byte) (int, error) { return 0, f.err }

type silent struct{ ctx context.Context }

func (s silent) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

type drip struct{ io.Reader }

func (d drip) Read(p []byte) (int, error) { return d.Reader.Read(p[:min(1, len(p))]) }

// spoiled opens h as a registry behind f.
func spoiled(t *testing.T, f *faults, c *clock, h http.HandlerFunc) *Client {
	t.Helper()
	return open(t, h, c.options(f))
}

// echo is a registry that takes everything and answers with body.
func echo(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, body)
	}
}

// get asks for path and returns the body.
func get(t *testing.T, c *Client, path string) (string, error) {
	t.Helper()
	resp, err := c.do(t.Context(), request{method: http.MethodGet, path: path, scope: scope{repo: "app", actions: "pull"}, subject: c.host + "/app"})
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(resp.Body)
	return string(body), errors.Join(err, resp.Body.Close())
}

// TestFaults: the faults are those that they say.
func TestFaults(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(echo("hello"))
	defer server.Close()
	for name, c := range map[string]struct {
		spoil spoil
		body  string
		err   error
	}{
		"cuts": {cuts(2), "he", io.ErrUnexpectedEOF}, "ends": {ends(2), "he", nil}, "drips": {drips(), "hello", nil},
		"alters": {alters(), "\x00ello", nil}, "answers": {answers(503, "x"), "x", nil},
		"refuses": {refuses, "", syscall.ECONNREFUSED}, "loses": {loses, "", syscall.ECONNRESET},
	} {
		f := &faults{}
		f.add(1, "GET /x", c.spoil)
		resp, err := (&http.Client{Transport: f}).Get(server.URL + "/x")
		var body []byte
		if err == nil {
			body, err = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
		if !errors.Is(err, c.err) || string(body) != c.body {
			t.Errorf("%s: got %q, %v", name, body, err)
		}
	}
}
