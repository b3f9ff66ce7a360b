package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	maxAttempts = 5
	maxPatience = 2 * time.Minute // With one request, all attempts together.
	firstPause  = time.Second
	maxPause    = 30 * time.Second
	longPause   = 5 * time.Second // People are told why nothing happens.
)

// fault is why an attempt failed, and whether it is worth another.
type fault struct {
	err     error
	repeat  bool          // It may pass, and the request may be sent again.
	shared  bool          // It is not this request, it is the registry.
	after   time.Duration // How long the registry wants to be left alone.
	unsent  bool          // The body could not be had again.
	refused bool          // 401 or 403 of the registry or its token server.
}

// repeated calls attempt until it succeeds, or fails for good or too often,
// with a pause that grows between. The last error is returned.
func (c *Client) repeated(ctx context.Context, attempt func() (*http.Response, *fault)) (*http.Response, error) {
	start := c.now()
	var last *fault
	for n := 1; ; n++ {
		resp, f := attempt()
		switch {
		case f == nil:
			return resp, nil
		case f.unsent && last != nil:
			return nil, last.err
		case !f.repeat || n == maxAttempts || ctx.Err() != nil:
			return nil, f.err
		}
		last = f
		pause := max(f.after, c.pause(n))
		if c.now().Sub(start)+pause > maxPatience {
			return nil, f.err
		}
		if f.after >= longPause && !c.gate.opens().After(c.now()) { // All others who wait, wait for the same.
			c.warn(fmt.Errorf("%w; trying again in %s", f.err, f.after.Round(time.Second)))
		}
		if f.shared {
			c.gate.shut(c.now().Add(pause)) // The next attempt waits there with all others.
			continue
		}
		if err := c.sleep(ctx, pause); err != nil {
			return nil, c.failed(err)
		}
	}
}

// pause is how long to wait after n failures: twice as long each time, less
// some chance so that those who failed together do not come back together.
func (c *Client) pause(n int) time.Duration {
	full := min(firstPause<<(n-1), maxPause)
	return time.Duration(float64(full) * (1 - c.jitter()/2))
}

func (c *Client) sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-c.after(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gate holds all requests to a registry back until some time.
type gate struct {
	mu    sync.Mutex
	until time.Time
}

func (g *gate) shut(until time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if until.After(g.until) {
		g.until = until
	}
}

func (g *gate) opens() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.until
}

// pass waits until the gate is open. It may be shut for longer while one
// waits.
func (c *Client) pass(ctx context.Context) error {
	for waited := (time.Time{}); ; {
		opens := c.gate.opens()
		wait := opens.Sub(c.now())
		if wait <= 0 || opens.Equal(waited) {
			return nil
		}
		if err := c.sleep(ctx, wait); err != nil {
			return err
		}
		waited = opens
	}
}

// retryAfter is what the header Retry-After asks for, as a number of seconds
// or a date; 0: nothing that can be understood.
func retryAfter(h http.Header, now time.Time) time.Duration {
	const longest = 365 * 24 * time.Hour
	value := strings.TrimSpace(h.Get("Retry-After"))
	if s, err := strconv.ParseFloat(value, 64); err == nil {
		if !(s > 0) { // Nor NaN.
			return 0
		}
		return time.Duration(min(s, longest.Seconds()) * float64(time.Second))
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if said, err := http.ParseTime(h.Get("Date")); err == nil {
		now = said // By the clock that the date was made with.
	}
	return min(max(at.Sub(now), 0), longest)
}

// mayPass tells whether a status says that the same may succeed later.
func mayPass(status int) bool {
	return slices.Contains([]int{
		http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout,
	}, status)
}

// once tells whether r must not be sent again if it may have arrived: what
// adds to an upload, because where that stands has to be asked for first, and
// what is refused the second time for having succeeded.
func (r *request) once() bool {
	return r.method == http.MethodPatch || r.header.Get("If-None-Match") != "" ||
		r.method == http.MethodPut && r.body != nil && !strings.Contains(r.path, "/manifests/")
}

// broken is the fault for an error of the HTTP machinery.
func (c *Client) broken(r *request, err error) *fault {
	f := &fault{err: c.failed(err)}
	var dns *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), isPlain(err):
	case isRefused(err):
		f.repeat, f.shared = true, true
	case errors.As(err, &dns):
		f.repeat = dns.IsTemporary || dns.IsTimeout
	case errors.Is(err, errNoAnswer), isCut(err), errors.As(err, &timeout) && timeout.Timeout():
		f.repeat = !r.once()
	}
	return f
}

// isCut tells whether a connection ended before the answer was whole.
func isCut(err error) bool {
	for _, cut := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE} {
		if errors.Is(err, cut) {
			return true
		}
	}
	text := err.Error() // net/http has no names for these.
	return strings.Contains(text, "server closed idle connection") || strings.Contains(text, "http2: server sent GOAWAY") ||
		strings.Contains(text, "http2: client connection lost")
}
