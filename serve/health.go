package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/config"
)

// Health looks again and again at what the registry needs, as the section
// health says. What is wrong turns /readyz red; unlike registry:2 it refuses no
// request for it: a disk that was slow for a moment must not be an outage, and
// what really fails says so by itself. Nil is always well.
type Health struct {
	checks []*checkup
	clock  clock
	log    *slog.Logger
}

// Illness is a check that fails.
type Illness struct {
	Check string    `json:"check"` // As registry:2 names it, without secrets.
	Since time.Time `json:"since"` // Of the first failure in a row.
	why   string
}

// checkup is one thing that is looked at.
type checkup struct {
	name      string
	interval  time.Duration
	timeout   time.Duration
	threshold int // Failures in a row that make it ill.
	look      func(context.Context) error
	under     *look // Under way for longer than timeout.

	mu    sync.Mutex
	count int // Failures in a row.
	since time.Time
	why   string
}

// look is a look under way.
type look struct {
	done   chan error
	cancel context.CancelFunc
}

const (
	usualInterval = 10 * time.Second
	leastInterval = time.Millisecond
)

// outside is how checks reach what is not the store.
type outside struct {
	client *http.Client
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	stat   func(name string) (fs.FileInfo, error)
}

// realOutside is the world. Redirects are followed, as registry:2 does.
func realOutside() outside {
	return outside{client: &http.Client{}, dial: (&net.Dialer{}).DialContext, stat: os.Stat}
}

// newHealth makes the checks that c asks for. driver is the name of the storage
// in registry:2, storage looks at it. Nothing runs yet; see run. Without any
// check it is nil.
func newHealth(c config.Health, driver string, storage func(context.Context) error, o outside, at clock, log *slog.Logger) *Health {
	h := &Health{clock: at, log: log}
	if c.Storage.Enabled {
		h.add("storagedriver_"+driver, c.Storage.Interval, 0, c.Storage.Threshold, storage)
	}
	for _, f := range c.Files {
		h.add(f.File, f.Interval, 0, 1, func(context.Context) error { return o.noFile(f.File) })
	}
	for _, w := range c.HTTP {
		h.add(withoutSecrets(w.URI), w.Interval, w.Timeout, w.Threshold, func(ctx context.Context) error { return o.askHTTP(ctx, w) })
	}
	for _, t := range c.TCP {
		h.add(t.Addr, t.Interval, t.Timeout, t.Threshold, func(ctx context.Context) error { return o.askTCP(ctx, t.Addr) })
	}
	if len(h.checks) == 0 {
		return nil
	}
	return h
}

func (h *Health) add(name string, interval, timeout time.Duration, threshold int, look func(context.Context) error) {
	if interval <= 0 {
		interval = usualInterval
	}
	interval = max(interval, leastInterval)
	h.checks = append(h.checks, &checkup{
		name: name, interval: interval, timeout: or(timeout, interval), threshold: max(threshold, 1), look: look,
	})
}

// run looks until ctx ends, first at once. What hangs then is left alone.
func (h *Health) run(ctx context.Context) {
	if h == nil {
		return
	}
	var running sync.WaitGroup
	for _, c := range h.checks {
		running.Go(func() {
			for ctx.Err() == nil {
				err := c.ask(ctx, h.clock)
				if ctx.Err() != nil {
					return
				}
				h.note(ctx, c, err)
				h.clock.wait(ctx, c.interval)
			}
		})
	}
	running.Wait()
}

// ask looks once, for as long as the timeout at most. A look that hangs, as on
// a disk that does not answer, is not joined by another one: it has to end
// first.
func (c *checkup) ask(ctx context.Context, at clock) error {
	late := at.after(c.timeout)
	if c.under != nil {
		select {
		case <-c.under.done: //nolint:errcheck // What it found is old.
			c.under = nil
		case <-late:
			return errors.New("no answer still")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	asked, cancel := context.WithCancel(ctx)
	l := &look{done: make(chan error, 1), cancel: cancel}
	go func() { l.done <- c.look(asked) }()
	select {
	case err := <-l.done:
		cancel()
		return err
	case <-late:
		cancel()
		c.under = l
		return fmt.Errorf("no answer within %s", c.timeout)
	case <-ctx.Done():
		cancel()
		return ctx.Err()
	}
}

// note remembers what a look has found, and logs what has changed by it.
func (h *Health) note(ctx context.Context, c *checkup, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.count >= c.threshold
	if err == nil {
		if was {
			h.log.LogAttrs(ctx, slog.LevelInfo, "a health check passes again",
				slog.String("check", c.name), slog.Duration("after", h.clock.now().Sub(c.since)))
		}
		c.count, c.why, c.since = 0, "", time.Time{}
		return
	}
	if c.count == 0 {
		c.since = h.clock.now()
	}
	c.why = err.Error()
	if c.count < c.threshold {
		c.count++
	}
	if !was && c.count >= c.threshold {
		h.log.LogAttrs(ctx, slog.LevelError, "a health check fails: /readyz says 503, requests are answered",
			slog.String("check", c.name), slog.String("error", c.why), slog.Time("since", c.since))
	}
}

// Ill returns the checks that fail, in the order of the configuration.
func (h *Health) Ill() []Illness {
	if h == nil {
		return nil
	}
	var ill []Illness
	for _, c := range h.checks {
		c.mu.Lock()
		if c.count >= c.threshold {
			ill = append(ill, Illness{c.name, c.since, c.why})
		}
		c.mu.Unlock()
	}
	return ill
}

// err is [oci.Unavailable] with the names of what fails, if anything does. Why
// is for the log and /debug/health: whoever reaches the registry may read this.
func (h *Health) err() error {
	ill := h.Ill()
	if len(ill) == 0 {
		return nil
	}
	e := oci.Errorf(oci.Unavailable, "a health check fails: %s, since %s", ill[0].Check, ill[0].Since.UTC().Format(time.RFC3339))
	e.Detail, _ = json.Marshal(ill) // Strings and times can be marshalled.
	return e
}

// noFile fails if there is a file: who puts it there takes the registry out of
// the load balancer.
func (o outside) noFile(name string) error {
	_, err := o.stat(name)
	switch {
	case err == nil:
		return errors.New("file exists")
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return errors.New("file cannot be looked for: " + reason(err))
}

// askHTTP fails unless a HEAD request is answered as w says. The error has no
// part of the address, which may hold a secret.
func (o outside) askHTTP(ctx context.Context, w config.HealthHTTP) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodHead, w.URI, nil)
	if err != nil {
		return errors.New("no such address can be asked")
	}
	for name, values := range w.Headers {
		for _, v := range values {
			r.Header.Add(name, v)
		}
	}
	answer, err := o.client.Do(r)
	if err != nil {
		return errors.New("no answer: " + reason(err))
	}
	answer.Body.Close()
	want := w.StatusCode
	if want == 0 {
		want = http.StatusOK
	}
	if answer.StatusCode != want {
		return fmt.Errorf("the answer is %d, not %d", answer.StatusCode, want)
	}
	return nil
}

// askTCP fails unless something accepts connections.
func (o outside) askTCP(ctx context.Context, addr string) error {
	c, err := o.dial(ctx, "tcp", addr)
	if err != nil {
		return errors.New("no connection: " + reason(err))
	}
	c.Close()
	return nil
}

// reason is the innermost of what err wraps, which names no address.
func reason(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// withoutSecrets is an address without its user and its query.
func withoutSecrets(uri string) string {
	u, err := url.Parse(uri)
	if err != nil {
		return "an address that is none"
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}
