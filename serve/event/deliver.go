package event

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"github.com/regctl/regctl/serve/state"
)

const (
	// pageOf is how many events are read at once, and delivered once more at
	// most after a crash.
	pageOf = 64
	// gather is how long events are gathered for, to be read at once: under
	// load that is cheaper than one by one.
	gather = 50 * time.Millisecond
	// maxWait is the longest time between two attempts.
	maxWait = time.Hour
	// giveUpAfter is how old an event may become.
	giveUpAfter = 24 * time.Hour
	// unreadWait is how long it takes until events are read again that could
	// not be read.
	unreadWait = time.Second
	// farewell is for how long an attempt is waited for that has begun when
	// the server stops.
	farewell = 5 * time.Second
	// maxAnswer is how much of an answer is read, so that its connection can
	// be used again.
	maxAnswer = 64 << 10
)

// deliver tells an endpoint what happens, in order, until ctx ends.
func (n *Notifier) deliver(ctx context.Context, e *endpoint) {
	for ctx.Err() == nil {
		page := pageOf
		if e.failing() > 0 {
			page = 1
		}
		es, err := n.outbox.NextEvents(ctx, e.Name, page)
		if ctx.Err() != nil {
			return // What was read or not is for the next server.
		}
		if !n.wrote(ctx, err) {
			n.wait(ctx, e, unreadWait)
			continue
		}
		if len(es) == 0 {
			select {
			case <-e.wake:
			case <-ctx.Done():
			}
		}
		for _, ev := range es {
			if ctx.Err() != nil || !n.attempt(ctx, e, ev) {
				break
			}
		}
		if len(es) < pageOf && e.failing() == 0 {
			select {
			case <-n.o.After(gather):
			case <-ctx.Done():
			}
		}
	}
}

// attempt delivers an event. If it fails it waits as long as is right, and
// tells so.
func (n *Notifier) attempt(ctx context.Context, e *endpoint, ev state.Event) (delivered bool) {
	status, err := n.post(ctx, e, ev.Body)
	now := n.o.Now()
	if err == nil {
		n.outbox.Done(ev.ID)
		if was := e.succeeded(status, now); was >= e.Threshold {
			n.o.Log.LogAttrs(ctx, slog.LevelInfo, "an endpoint takes notifications again", slog.String("endpoint", e.Name))
		}
		return true
	}
	if ctx.Err() != nil {
		return false // The next server tries again.
	}
	failures := e.failed(status, err, now)
	if failures == e.Threshold {
		n.o.Log.LogAttrs(ctx, slog.LevelWarn, "an endpoint takes no notifications; they wait, for a day each",
			slog.String("endpoint", e.Name), slog.Any("error", err))
	}
	if failures < e.Threshold {
		return false
	}
	if now.Sub(ev.At) >= giveUpAfter {
		n.giveUp(ctx, e, ev, err)
		return false
	}
	n.wait(ctx, e, n.backoff(e, failures))
	return false
}

// backoff is how long to wait after so many failures.
func (n *Notifier) backoff(e *endpoint, failures int) time.Duration {
	wait := min(e.Backoff, maxWait)
	for range min(failures-e.Threshold, 32) {
		wait = min(2*wait, maxWait)
	}
	return min(wait+time.Duration(n.o.Random()*float64(wait)/4), maxWait)
}

// wait waits, but not for an endpoint that is known to be there again.
func (n *Notifier) wait(ctx context.Context, e *endpoint, d time.Duration) {
	e.change(func(s *Stats) { s.NextTry = n.o.Now().Add(d) })
	select {
	case <-n.o.After(d):
	case <-e.kick:
	case <-ctx.Done():
	}
	e.change(func(s *Stats) { s.NextTry = time.Time{} })
}

// giveUp keeps an event to be looked at only.
func (n *Notifier) giveUp(ctx context.Context, e *endpoint, ev state.Event, why error) {
	if err := n.outbox.GiveUpEvents(ctx, ev.ID); err != nil {
		n.wrote(ctx, err)
		n.wait(ctx, e, unreadWait)
		return
	}
	n.lost(ctx, fmt.Sprintf("a notification is given up after %s: %v", giveUpAfter, why), ev)
	e.change(func(s *Stats) { s.Pending = max(s.Pending-1, 0); s.Dead++; s.GivenUp++ })
}

// post sends one event. The status is empty if there was no answer.
func (n *Notifier) post(ctx context.Context, e *endpoint, body []byte) (status string, err error) {
	data, err := json.MarshalIndent(Envelope{Events: []json.RawMessage{body}}, "", "   ")
	if err != nil {
		return "", err
	}
	if e.Timeout <= farewell {
		ctx = context.WithoutCancel(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL, bytes.NewReader(data))
	if err != nil {
		return "", withoutURL(err)
	}
	req.Header.Set("Content-Type", MediaType)
	for name, values := range e.Headers {
		if name = http.CanonicalHeaderKey(name); name == "Host" && len(values) > 0 {
			req.Host = values[0]
		}
		req.Header[name] = values
	}
	res, err := n.o.Client.Do(req)
	if err != nil {
		return "", withoutURL(err)
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, maxAnswer) // The status says it all.
	if status = fmt.Sprintf("%d %s", res.StatusCode, http.StatusText(res.StatusCode)); res.StatusCode < 200 || res.StatusCode >= 400 {
		return status, errors.New("it answers " + status)
	}
	if moved(res) {
		return status, errors.New("it answers " + status + ", and takes no event there; the URL is to be the one that it leads to")
	}
	return status, nil
}

// withoutURL takes the URL out of an error: there may be a secret in it.
func withoutURL(err error) error {
	for with := (*url.Error)(nil); errors.As(err, &with); {
		err = with.Err
	}
	return err
}

// Tested is how an endpoint took a test.
type Tested struct {
	Endpoint string        `json:"endpoint"`
	URL      string        `json:"url"`              // Without what may be secret.
	Status   string        `json:"status,omitempty"` // Of the answer: "200 OK".
	Error    string        `json:"error,omitempty"`  // Empty: it was taken.
	Took     time.Duration `json:"took"`
}

// Test posts an event with the action test to an endpoint, or to all if name is
// empty, past what waits. If one takes it that takes nothing else, what waits is
// tried at once.
func (n *Notifier) Test(ctx context.Context, name string) []Tested {
	tests := []Tested{}
	for _, e := range n.endpoints {
		if name != "" && e.Name != name {
			continue
		}
		began := n.o.Now()
		body, err := json.Marshal(n.event(ctx, draft{action: "test", target: Target{Repository: "regctl/test"}}))
		status := ""
		if err == nil {
			status, err = n.post(ctx, e, body)
		}
		t := Tested{Endpoint: e.Name, URL: shown(e.URL), Status: status, Took: n.o.Now().Sub(began)}
		if err != nil {
			t.Error = err.Error()
		} else if e.failing() > 0 {
			poke(e.kick)
		}
		tests = append(tests, t)
	}
	return tests
}

// Retry lets what was given up for an endpoint be sent after all, for all if
// name is empty, and tells how much that is.
func (n *Notifier) Retry(ctx context.Context, name string) (int64, error) {
	all := int64(0)
	for _, e := range n.endpoints {
		if name != "" && e.Name != name {
			continue
		}
		some, err := n.outbox.ReviveEvents(ctx, e.Name)
		all += some
		e.change(func(s *Stats) { s.Pending += some; s.Dead -= some })
		poke(e.wake)
		poke(e.kick)
		if err != nil {
			return all, err
		}
	}
	return all, nil
}
