package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
)

const tags = "/v2/app/tags/list"

func seconds(all ...int) []time.Duration {
	var waits []time.Duration
	for _, s := range all {
		waits = append(waits, time.Duration(s)*time.Second)
	}
	return waits
}

// TestWhatMayPassIsRepeated: with a pause that grows, or the one that the
// registry asks for if that is longer.
func TestWhatMayPassIsRepeated(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil spoil
		waits []time.Duration
	}{
		"429": {answers(429, ""), seconds(1, 2)}, "502": {answers(502, "<html>"), seconds(1, 2)},
		"503": {answers(503, ""), seconds(1, 2)}, "504": {answers(504, ""), seconds(1, 2)},
		"reset": {loses, seconds(1, 2)}, "refused in the middle": {refuses, seconds(1, 2)},
		"cut before an answer": {func(*http.Request, http.RoundTripper) (*http.Response, error) { return nil, io.EOF }, seconds(1, 2)},
		"seconds":              {answers(429, "", "Retry-After", "7"), seconds(7, 7)},
		"less than ours":       {answers(503, "", "Retry-After", "1"), seconds(1, 2)},
		"a date":               {answers(503, "", "Retry-After", "Fri, 02 Jan 2026 03:04:15 GMT", "Date", "Fri, 02 Jan 2026 03:04:05 GMT"), seconds(10, 10)},
		"a date by its clock":  {answers(503, "", "Retry-After", "Fri, 02 Jan 2009 03:04:15 GMT", "Date", "Fri, 02 Jan 2009 03:04:05 GMT"), seconds(10, 10)},
		"nonsense":             {answers(503, "", "Retry-After", "soon"), seconds(1, 2)},
		"a part of a body":     {answers(429, "Too Many Requests (HAP429)\r\n"), seconds(1, 2)},
	} {
		f, clock := &faults{}, &clock{}
		client := spoiled(t, f, clock, echo("hello"))
		f.add(2, "GET "+tags, c.spoil)
		body, err := get(t, client, tags)
		if err != nil || body != "hello" || len(f.requests()) != 3 {
			t.Errorf("%s: got %q, %v", name, body, err)
		}
		if got := clock.waits(); !slices.Equal(got, c.waits) {
			t.Errorf("%s: waited %v, want %v", name, got, c.waits)
		}
	}
}

// TestLongPausesAreTold: once for all who wait.
func TestLongPausesAreTold(t *testing.T) {
	t.Parallel()
	f, clock := &faults{}, &clock{}
	client := spoiled(t, f, clock, echo("hello"))
	var told []string
	client.warn = func(err error) { told = append(told, err.Error()) }
	f.add(1, "GET "+tags, answers(429, `{"errors":[{"code":"TOOMANYREQUESTS","message":"slowly"}]}`, "Retry-After", "59"))
	f.add(1, "GET /v2/other/tags/list", answers(503, "", "Retry-After", "2"))
	for _, path := range []string{tags, "/v2/other/tags/list"} {
		if _, err := get(t, client, path); err != nil {
			t.Fatal(err)
		}
	}
	if len(told) != 1 || !strings.Contains(told[0], "slowly") || !strings.HasSuffix(told[0], "; trying again in 59s") {
		t.Errorf("%q", told)
	}
}

// TestRepeatingEnds: after five attempts, or two minutes, or at once if the
// registry wants longer than that.
func TestRepeatingEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil    spoil
		attempts int
		code     oci.Code
		after    time.Duration
	}{
		"always busy":  {answers(503, ""), 5, oci.Unavailable, 0},
		"always reset": {loses, 5, oci.Unavailable, 0},
		"too slow":     {answers(503, "", "Retry-After", "50"), 3, oci.Unavailable, 50 * time.Second},
		"too long":     {answers(429, "", "Retry-After", "300"), 1, oci.TooManyRequests, 5 * time.Minute},
		"tomorrow": {answers(429, "", "Retry-After", "Sat, 03 Jan 2026 03:04:05 GMT", "Date", "Fri, 02 Jan 2026 03:04:05 GMT"),
			1, oci.TooManyRequests, 24 * time.Hour},
		"for ever":  {answers(429, `{"errors":[{"code":"DENIED","message":"too much"}]}`, "Retry-After", "99999999999999999999"), 1, oci.TooManyRequests, 365 * 24 * time.Hour},
		"not found": {answers(404, ""), 1, oci.NotFound, 0},
		"our fault": {answers(400, ""), 1, oci.Unknown, 0},
		"its fault": {answers(500, ""), 1, oci.Unknown, 0},
	} {
		f, clock := &faults{}, &clock{}
		client := spoiled(t, f, clock, echo(""))
		f.add(100, "GET "+tags, c.spoil)
		_, err := get(t, client, tags)
		if !errors.Is(err, c.code) || len(f.requests()) != c.attempts || oci.AsError(err).RetryAfter != c.after {
			t.Errorf("%s: got %v after %v", name, err, clock.waits())
		}
	}
}

// TestNobodyListens: is an error at once; a registry that is busy when it is
// greeted is waited for.
func TestNobodyListens(t *testing.T) {
	t.Parallel()
	f, clock := &faults{}, &clock{}
	client := spoiled(t, f, clock, echo("hello"))
	f.add(1, "GET /v2/", refuses)
	if _, err := get(t, client, tags); !errors.Is(err, oci.Unavailable) || !strings.HasSuffix(err.Error(), ": connection refused") || len(clock.waits()) > 0 {
		t.Errorf("got %v", err)
	}
	f.add(2, "GET /v2/", answers(503, ""))
	if body, err := get(t, client, tags); body != "hello" || !slices.Equal(clock.waits(), seconds(1, 2)) {
		t.Errorf("got %q, %v", body, err)
	}
}

// TestOneBusyAnswerHoldsAllRequestsBack: and none of them is sent before the
// registry wants it.
func TestOneBusyAnswerHoldsAllRequestsBack(t *testing.T) {
	t.Parallel()
	f, asked, fire := &faults{}, make(chan time.Duration), make(chan time.Time)
	now := &clock{now: time.Unix(0, 0)}
	client := open(t, echo("hello"), Options{Transport: f, Now: now.Now, After: func(d time.Duration) <-chan time.Time {
		asked <- d
		return fire
	}})
	if err := client.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.requests()
	f.add(1, "GET "+tags, answers(429, "", "Retry-After", "10"))
	results := make(chan error)
	ask := func() {
		_, err := get(t, client, tags)
		results <- err
	}
	go ask()
	if d := <-asked; d != 10*time.Second {
		t.Errorf("waits %s", d)
	}
	for range 3 {
		go ask()
		if d := <-asked; d != 10*time.Second {
			t.Errorf("another waits %s", d)
		}
	}
	if got := f.requests(); len(got) != 1 {
		t.Errorf("asked meanwhile: %q", got)
	}
	now.pass(10 * time.Second)
	close(fire)
	for range 4 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// put sends body as often as times says.
func put(t *testing.T, c *Client, method, path, body string, times int) error {
	t.Helper()
	resp, err := c.do(t.Context(), request{
		method: method, path: path, scope: scope{repo: "app", actions: "pull,push"}, subject: c.host + "/app", size: int64(len(body)),
		body: func() (io.ReadCloser, error) {
			if times--; times < 0 {
				return nil, errors.New("gone")
			}
			return io.NopCloser(strings.NewReader(body)), nil
		},
	})
	if err == nil {
		_ = resp.Body.Close()
	}
	return err
}

// TestWhatMustNotBeRepeated: is what adds to an upload and may have arrived,
// and what cannot be had again.
func TestWhatMustNotBeRepeated(t *testing.T) {
	t.Parallel()
	const uploads, manifest = "/v2/app/blobs/uploads/1", "/v2/app/manifests/1"
	for _, c := range []struct {
		method, path string
		spoil        spoil
		times        int
		requests     int
		code         oci.Code
	}{
		{"PATCH", uploads, loses, 9, 1, oci.Unavailable},
		{"PATCH", uploads, answers(503, ""), 9, 1, oci.Unavailable},
		{"PATCH", uploads, answers(429, ""), 9, 2, ""},
		{"PATCH", uploads, refuses, 9, 2, ""},
		{"PUT", uploads, loses, 9, 1, oci.Unavailable},
		{"PUT", manifest, loses, 9, 2, ""},
		{"PUT", manifest, answers(503, ""), 9, 2, ""},
		{"PUT", manifest, answers(503, ""), 1, 1, oci.Unavailable},
		{"PUT", manifest, answers(429, ""), 1, 1, oci.TooManyRequests},
		{"POST", "/v2/app/blobs/uploads/", loses, 9, 2, ""},
	} {
		f := &faults{}
		client := spoiled(t, f, &clock{}, echo(""))
		f.add(1, c.method, c.spoil)
		err := put(t, client, c.method, c.path, "hello", c.times)
		if n := len(f.requests()); n != c.requests || c.code == "" && err != nil || c.code != "" && !errors.Is(err, c.code) {
			t.Errorf("%s %s: got %v after %d requests, want %d", c.method, c.path, err, n, c.requests)
		}
	}
}

// TestWhatMustFindNothingThere: is not refused for having succeeded.
func TestWhatMustFindNothingThere(t *testing.T) {
	t.Parallel()
	f := &faults{}
	client := spoiled(t, f, &clock{}, echo(""))
	f.add(1, "PUT", loses)
	_, err := client.do(t.Context(), request{
		method: http.MethodPut, path: "/v2/app/manifests/1", header: http.Header{"If-None-Match": {"*"}}, size: 1,
		body: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("x")), nil },
	})
	if !errors.Is(err, oci.Unavailable) || len(f.requests()) != 1 {
		t.Errorf("got %v", err)
	}
}

// TestServersThatStopAnswering: are given up, and asked again.
func TestServersThatStopAnswering(t *testing.T) {
	t.Parallel()
	f, clock := &faults{}, &clock{}
	client := spoiled(t, f, clock, echo("hello"))
	client.patience = 300 * time.Millisecond
	f.add(1, "GET "+tags, hangs)
	if body, err := get(t, client, tags); err != nil || body != "hello" || !slices.Equal(clock.waits(), seconds(1)) {
		t.Errorf("got %q, %v", body, err)
	}
	f.add(1, "GET "+tags, stalls(2))
	if body, err := get(t, client, tags); !errors.Is(err, errNoAnswer) || body != "he" || !strings.HasSuffix(client.failed(err).Error(), ": no answer in time") {
		t.Errorf("got %q, %v", body, err)
	}
	f.add(1, "GET "+tags, drips())
	if body, err := get(t, client, tags); err != nil || body != "hello" {
		t.Errorf("got %q, %v", body, err)
	}
}

// TestTheEndOfAContextEndsThePauses, whatever they are for.
func TestTheEndOfAContextEndsThePauses(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]spoil{"shared": answers(503, ""), "own": loses} {
		f := &faults{}
		ctx, cancel := context.WithCancel(t.Context())
		client := open(t, echo(""), Options{Transport: f, After: func(time.Duration) <-chan time.Time {
			cancel()
			return nil
		}})
		f.add(9, "GET "+tags, spoil)
		if _, err := client.do(ctx, request{method: http.MethodGet, path: tags}); !errors.Is(err, context.Canceled) || len(f.requests()) != 1 {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestQuotaOfDockerHub(t *testing.T) {
	t.Parallel()
	f := &faults{}
	client := spoiled(t, f, &clock{}, echo(""))
	f.add(1, "GET "+tags, answers(429, "Too Many Requests (HAP429)\r\n", "Retry-After", "600", "RateLimit-Limit", "100;w=21600", "RateLimit-Remaining", "0;w=21600"))
	_, err := get(t, client, tags)
	if want := client.host + "/app: 429 Too Many Requests; 0 of 100 pulls left in 6h0m0s"; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	for header, want := range map[string]string{"": "", "x;w=1": "", "5": "5 pulls left", "5;w=": "5 pulls left", "5;w=99999999999": "5 pulls left"} {
		if got := quotaOf(http.Header{"Ratelimit-Remaining": {header}}); got != want {
			t.Errorf("%q: got %q", header, got)
		}
	}
}

func TestPausesGrowAndDiffer(t *testing.T) {
	t.Parallel()
	for jitter, want := range map[float64][]time.Duration{0: seconds(1, 2, 4, 8, 16, 30, 30), 1: {500 * time.Millisecond, time.Second, 2 * time.Second}} {
		c := &Client{jitter: func() float64 { return jitter }}
		for n, d := range want {
			if got := c.pause(n + 1); got != d {
				t.Errorf("%v, %d: got %s, want %s", jitter, n+1, got, d)
			}
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"1", "-1", "1.5", "NaN", "1e400", "Fri, 02 Jan 2026 03:04:05 GMT", "Friday, 02-Jan-26 03:04:05 GMT", ""} {
		f.Add(s, "")
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, value, date string) {
		got := retryAfter(http.Header{"Retry-After": {value}, "Date": {date}}, time.Unix(0, 0))
		if got < 0 || got > 365*24*time.Hour {
			t.Errorf("%q is %s", value, got)
		}
	})
}

func ExampleOptions() {
	c, err := New("https://registry.lan", Options{UserAgent: "nightly/1.0", Jobs: 2})
	fmt.Println(c.Host(), err)
	// Output: registry.lan <nil>
}

// TestServersThatStopTaking: what they do not take is given up. A body that is
// slow to come is waited for.
func TestServersThatStopTaking(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	client := open(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch {
			<-done
		}
	}, Options{})
	t.Cleanup(func() { close(done) })
	client.stall = 50 * time.Millisecond
	request := request{
		method: http.MethodPatch, path: "/v2/app/blobs/uploads/1", size: 64 << 20,
		body: func() (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(strings.Repeat("x", 64<<20))), nil
		},
	}
	if _, err := client.do(t.Context(), request); !errors.Is(client.failed(err), oci.Unavailable) || !strings.HasSuffix(client.failed(err).Error(), ": no answer in time") {
		t.Errorf("got %v", err)
	}
}

// TestSlowBodies: as long as a body is slow to come, nobody is impatient.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	c := open(t, echo(""), Options{})
	slot, err := c.slots.acquire(t.Context(), upload)
	if err != nil {
		t.Fatal(err)
	}
	defer slot.release()
	s := newSending(time.Hour, func() {})
	b := &sentBody{io.NopCloser(reader(func(p []byte) (int, error) {
		if s.timer.Stop() {
			t.Error("what is sent must be there at once")
		}
		return copy(p, "x"), nil
	})), slot, s}
	for range 2 {
		if _, err := b.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if !s.timer.Stop() {
		t.Error("whoever takes it has all the time of the world")
	}
}

type reader func(p []byte) (int, error)

func (r reader) Read(p []byte) (int, error) { return r(p) }
