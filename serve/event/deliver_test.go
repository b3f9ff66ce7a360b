package event_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve/event"
	"github.com/regctl/regctl/serve/state"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/store"
)

// world is a registry that tells endpoints what happens, in a bubble of time.
type world struct {
	t     *testing.T
	store *store.Store
	box   *state.State
	n     *event.Notifier
	reg   oci.Registry
	log   bytes.Buffer
	raw   string
	end   func()
}

// newWorld begins; all has ended when f returns.
func inWorld(t *testing.T, o event.Options, f func(*world)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t}
		background, cancel := context.WithCancel(t.Context())
		defer cancel()
		var err error
		if w.store, err = store.New(background, mem.New(), store.Options{}); err != nil {
			t.Fatal(err)
		}
		if w.box, err = state.OpenMemory(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		defer w.box.Close()
		w.raw = imageOf(t, w.store, "app", "layer")
		o.Random = func() float64 { return 0 }
		o.Log = slog.New(slog.NewTextHandler(&w.log, nil))
		w.begin(o)
		defer func() { w.end() }()
		synctest.Wait() // It has seen that nothing is to be told yet.
		f(w)
	})
}

func (w *world) begin(o event.Options) {
	w.n = event.New(w.t.Context(), w.box, w.store, o)
	w.reg = event.Observe(w.store, w.n)
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.n.Run(ctx)
	}()
	w.end = func() { cancel(); <-ended }
}

func (w *world) push(tags ...string) {
	w.t.Helper()
	for _, tag := range tags {
		ocitest.PushManifest(w.t, w.reg, "app", w.raw, tag)
	}
}

// soon is when all is told that can be.
const soon = 200 * time.Millisecond

// after lets so much time pass, and all end that can.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func tags(told []string) string {
	var all []string
	for _, s := range told {
		all = append(all, between(s, ":", "@"))
	}
	return strings.Join(all, " ")
}

func (w *world) stats() event.Stats { return w.n.Stats()[0] }

// TestDelivery wants one event a request, in order, with the headers of the
// endpoint.
func TestDelivery(t *testing.T) {
	h := &hook{}
	o := to(h)
	o.Endpoints[0].Headers = http.Header{"authorization": {"Bearer x"}, "Host": {"other.test"}}
	inWorld(t, o, func(w *world) {
		w.push("a", "b", "c")
		after(soon)
		if got := tags(h.told()); got != "a b c" {
			t.Errorf("told %s", got)
		}
		if _, err := w.reg.Manifest(w.t.Context(), "app", "a"); err != nil {
			t.Fatal(err)
		}
		after(soon)
		if len(h.told()) != 3 {
			t.Error("a pull is not gathered with others")
		}
		after(time.Second)
		if got := h.told(); len(got) != 4 || !strings.HasPrefix(got[3], "pull app:a@") {
			t.Errorf("told %q", got)
		}
		r := h.requests[0]
		if r.Method != http.MethodPost || r.Host != "other.test" || r.Header.Get("Content-Type") != event.MediaType || r.Header.Get("Authorization") != "Bearer x" {
			t.Errorf("%s, host %s, %v", r.Method, r.Host, r.Header)
		}
		if !strings.HasPrefix(h.bodies[0], "{\n   \"events\": [\n      {\n         \"id\": ") {
			t.Errorf("the envelope is %s", h.bodies[0])
		}
		if s := w.stats(); s.Events != 4 || s.Successes != 4 || s.Pending != 0 || s.Statuses["200 OK"] != 4 || s.URL != "http://hook.test" {
			t.Errorf("%+v", s)
		}
	})
}

// TestContentType wants the type that an endpoint asks for in place of ours.
func TestContentType(t *testing.T) {
	h := &hook{}
	o := to(h)
	const v2 = "application/vnd.docker.distribution.events.v2+json"
	o.Endpoints[0].Headers = http.Header{"content-type": {v2}}
	inWorld(t, o, func(w *world) {
		w.push("a")
		after(soon)
		if got := h.requests[0].Header["Content-Type"]; len(got) != 1 || got[0] != v2 {
			t.Errorf("Content-Type: %q", got)
		}
	})
}

// TestStatuses wants 2xx and 3xx taken for a delivery, and nothing else.
func TestStatuses(t *testing.T) {
	codes := []int{500, 404, 400, 199, 304, 204}
	h := &hook{}
	h.answer = func(*http.Request) (*http.Response, error) {
		code := codes[0]
		codes = codes[1:]
		return status(code), nil
	}
	inWorld(t, to(h), func(w *world) {
		w.push("a", "b")
		after(soon)
		if s := w.stats(); len(codes) != 0 || s.Failures != 4 || s.Successes != 2 || s.LastError != "it answers 199 " {
			t.Errorf("%+v, %d answers left", s, len(codes))
		}
	})
}

// TestBackOff wants an endpoint that is down tried threshold times, then ever
// more rarely, up to once an hour, and all told in order when it is there.
func TestBackOff(t *testing.T) {
	down := true
	var tries []time.Duration
	var began time.Time
	h := &hook{}
	h.answer = func(r *http.Request) (*http.Response, error) {
		tries = append(tries, time.Since(began))
		if down {
			return nil, errors.New("refused")
		}
		return status(200), nil
	}
	o := to(h)
	o.Endpoints[0].URL = "http://me:secret@hook.test/in?token=secret"
	o.Endpoints[0].Threshold, o.Endpoints[0].Backoff = 3, 10*time.Minute
	inWorld(t, o, func(w *world) {
		began = time.Now().Add(50 * time.Millisecond)
		w.push("a", "b")
		after(5 * time.Hour)
		want := []time.Duration{0, 0, 0, 10, 30, 70, 130, 190, 250}
		for i := range want {
			want[i] *= time.Minute
		}
		if !slices.Equal(tries, want) {
			t.Errorf("tried at %v, want %v", tries, want)
		}
		s := w.stats()
		if s.Errors != 9 || s.Pending != 2 || !s.NextTry.Equal(began.Add(310*time.Minute)) || s.LastError != "refused" {
			t.Errorf("%+v", s)
		}
		down = false
		if all := w.n.Test(w.t.Context(), "hook"); len(all) != 1 || all[0].Status != "200 OK" || all[0].Error != "" {
			t.Errorf("test: %+v", all)
		}
		after(soon)
		if got := tags(h.told()[1:]); got != "a b" {
			t.Errorf("told %s once it is there again, though it was tested", got)
		}
		if got := w.log.String(); strings.Count(got, "takes no notifications") != 1 || strings.Count(got, "again") != 1 || strings.Contains(got, "secret") {
			t.Errorf("the log:\n%s", got)
		}
	})
}

// TestGivenUpAfterADay wants what is not taken for a day named in the log, kept,
// and sent when it is asked for.
func TestGivenUpAfterADay(t *testing.T) {
	down := true
	h := &hook{}
	h.answer = func(r *http.Request) (*http.Response, error) {
		if down {
			return nil, &url.Error{Op: "Post", URL: r.URL.String(), Err: errors.New("refused")}
		}
		return status(200), nil
	}
	inWorld(t, to(h), func(w *world) {
		w.push("a", "b")
		after(12 * time.Hour)
		w.push("c")
		after(11 * time.Hour)
		if s := w.stats(); s.Pending != 3 || s.Dead != 0 {
			t.Errorf("before a day: %+v", s)
		}
		after(2 * time.Hour)
		if s := w.stats(); s.Pending != 1 || s.Dead != 2 || s.GivenUp != 2 {
			t.Errorf("after a day: %+v", s)
		}
		for _, tag := range []string{"a", "b"} {
			if !strings.Contains(w.log.String(), "given up after 24h0m0s: refused\" endpoint=hook action=push repo=app tag="+tag) {
				t.Errorf("the log does not name %s:\n%s", tag, &w.log)
			}
		}
		down = false
		if n, err := w.n.Retry(w.t.Context(), ""); n != 2 || err != nil {
			t.Errorf("retry: %d, %v", n, err)
		}
		after(soon)
		if got := tags(h.told()); got != "c a b" {
			t.Errorf("told %s", got)
		}
		if s := w.stats(); s.Pending != 0 || s.Dead != 0 {
			t.Errorf("in the end: %+v", s)
		}
	})
}

// TestForgottenAfterAMonth wants what was given up forgotten some time.
func TestForgottenAfterAMonth(t *testing.T) {
	h := &hook{answer: func(*http.Request) (*http.Response, error) { return status(500), nil }}
	o := to(h)
	o.After = rarely
	inWorld(t, o, func(w *world) {
		w.push("a")
		after(30 * 24 * time.Hour)
		if s := w.stats(); s.Dead != 1 {
			t.Errorf("after 30 days: %+v", s)
		}
		after(24 * time.Hour)
		if s := w.stats(); s.Dead != 0 {
			t.Errorf("after 31 days: %+v", s)
		}
	})
}

// rarely is a timer that is quicker through months.
func rarely(d time.Duration) <-chan time.Time { return time.After(max(d, 6*time.Hour)) }

// TestOneEndpointDoesNotSlowAnother wants neither pushes nor other endpoints to
// wait for one that hangs.
func TestOneEndpointDoesNotSlowAnother(t *testing.T) {
	h := &hook{}
	h.answer = func(r *http.Request) (*http.Response, error) {
		if r.URL.Host == "dead.test" {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
		return status(200), nil
	}
	o := to(h)
	o.Endpoints = append([]event.Endpoint{{Name: "dead", URL: "http://dead.test", Timeout: time.Minute}}, o.Endpoints...)
	inWorld(t, o, func(w *world) {
		began := time.Now()
		w.push("a", "b", "c")
		if took := time.Since(began); took != 0 {
			t.Errorf("pushes take %s", took)
		}
		after(soon)
		if got := tags(h.told()); got != "a b c" {
			t.Errorf("told %s", got)
		}
		if s := w.n.Stats()[0]; s.Endpoint != "dead" || s.Pending != 3 {
			t.Errorf("%+v", s)
		}
		after(time.Minute)
		if s := w.n.Stats()[0]; s.Errors != 1 || s.LastError != context.DeadlineExceeded.Error() {
			t.Errorf("%+v", s)
		}
	})
}

// TestRestart wants a notifier to go on where another stopped: endpoints that
// are new are told what happens from then on, those that are no more may come
// back for a day.
func TestRestart(t *testing.T) {
	h := &hook{answer: func(*http.Request) (*http.Response, error) { return nil, errors.New("down") }}
	o := to(h)
	var log bytes.Buffer
	o.Endpoints = append(o.Endpoints, event.Endpoint{Name: "gone", URL: "http://gone.test"})
	inWorld(t, o, func(w *world) {
		w.push("a", "b")
		after(time.Hour)
		w.end()
		h.answer = nil
		fresh := &hook{}
		o := to(nil)
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		o.Client.Transport = route{"hook.test": h, "new.test": fresh}
		o.Endpoints = append(o.Endpoints, event.Endpoint{Name: "new", URL: "http://new.test"})
		w.begin(o)
		if s := w.n.Stats(); s[0].Pending+s[0].Successes != 2 || s[1].Pending != 0 {
			t.Errorf("at first: %+v", s)
		}
		if said := log.String(); strings.Count(said, "kept for a day") != 1 || !strings.Contains(said, "endpoint=gone count=2") {
			t.Errorf("said: %s", said)
		}
		w.push("c")
		after(soon)
		if got := tags(h.told()) + ", " + tags(fresh.told()); got != "a b c, c" {
			t.Errorf("told %s", got)
		}
		w.end()
		back := &hook{}
		o.Client.Transport = route{"hook.test": h, "gone.test": back}
		o.Endpoints[1] = event.Endpoint{Name: "gone", URL: "http://gone.test"}
		w.begin(o)
		after(soon)
		if got := tags(back.told()); got != "a b" {
			t.Errorf("what came back is told %s", got)
		}
	})
}

// TestGoneForADay wants nothing left of an endpoint that does not come back.
func TestGoneForADay(t *testing.T) {
	inWorld(t, to(&hook{answer: func(*http.Request) (*http.Response, error) { return nil, errors.New("down") }}), func(w *world) {
		w.push("a", "b")
		after(time.Hour)
		w.end()
		for _, c := range []struct {
			wait time.Duration
			left int
		}{{22 * time.Hour, 1}, {2 * time.Hour, 0}} {
			after(c.wait)
			event.Forget(w.t.Context(), w.box, slog.New(slog.DiscardHandler), time.Now(), "other")
			if left, err := w.box.EventCounts(w.t.Context()); len(left) != c.left || err != nil {
				t.Errorf("after %s: %+v, %v", c.wait, left, err)
			}
		}
	})
}

type route map[string]http.RoundTripper

func (r route) RoundTrip(q *http.Request) (*http.Response, error) { return r[q.URL.Host].RoundTrip(q) }

// TestTooMuchWaits wants the oldest dropped beyond a limit: pulls without many
// words, then pushes with the name of each.
func TestTooMuchWaits(t *testing.T) {
	h := &hook{answer: func(*http.Request) (*http.Response, error) { return nil, errors.New("down") }}
	o := to(h)
	o.Endpoints[0].Backoff = time.Hour
	inWorld(t, o, func(w *world) {
		w.n.SetMost(4)
		w.push("a", "b")
		for range 3 {
			if _, err := w.reg.Manifest(w.t.Context(), "app", "a"); err != nil {
				t.Fatal(err)
			}
		}
		w.push("c")
		after(2 * time.Second)
		if got := inBox(w.t, w.box, "hook"); len(got) != 4 || !strings.HasPrefix(got[2], "pull") || tags(got) != "a b a c" {
			t.Errorf("with pulls: %q", got)
		}
		w.push("d", "e")
		after(2 * time.Second)
		if got := inBox(w.t, w.box, "hook"); tags(got) != "b c d e" {
			t.Errorf("with pushes: %q", got)
		}
		if s := w.stats(); s.Pending != 4 || s.Dropped != 4 {
			t.Errorf("%+v", s)
		}
		if log := w.log.String(); !strings.Contains(log, "pulls are dropped") || !strings.Contains(log, "one is dropped\" endpoint=hook action=push repo=app tag=a") {
			t.Errorf("the log:\n%s", log)
		}
	})
}

// TestStopWaitsForWhatIsOnItsWay wants an attempt that has begun ended, and what
// it delivered not delivered again.
func TestStopWaitsForWhatIsOnItsWay(t *testing.T) {
	h := &hook{answer: func(*http.Request) (*http.Response, error) {
		time.Sleep(900 * time.Millisecond)
		return status(200), nil
	}}
	inWorld(t, to(h), func(w *world) {
		w.push("a", "b")
		after(soon)
		w.end()
		if got := tags(h.told()); got != "a" {
			t.Errorf("told %s", got)
		}
		if got := tags(inBox(w.t, w.box, "hook")); got != "b" {
			t.Errorf("left: %s", got)
		}
		w.end = func() {}
	})
}

// TestManyAtOnce wants all told that many push at the same time.
func TestManyAtOnce(t *testing.T) {
	h := &hook{}
	inWorld(t, to(h), func(w *world) {
		for i := range 20 {
			go func() {
				for j := range 5 {
					w.push(fmt.Sprintf("t%d-%d", i, j))
				}
			}()
		}
		after(soon)
		got := h.told()
		last := map[string]string{}
		for _, e := range got {
			who, n, _ := strings.Cut(between(e, ":t", "@"), "-")
			if n <= last[who] {
				t.Errorf("%s after %s", e, last[who])
			}
			last[who] = n
		}
		if len(got) != 100 {
			t.Errorf("%d are told", len(got))
		}
	})
}
