package serve

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

func TestListenAddrInUse(t *testing.T) {
	t.Parallel()
	first, err := Listen(t.Context(), []string{"127.0.0.1:0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(first)
	addr := first[0].Addr().String()
	_, err = Listen(t.Context(), []string{"127.0.0.1:0", addr}, nil)
	var inUse *AddrInUseError
	if !errors.As(err, &inUse) || inUse.Addr != addr || err.Error() != addr+" is in use" || !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("%v", err)
	}
}

func TestListenErrors(t *testing.T) {
	t.Parallel()
	for _, addrs := range [][]string{nil, {"127.0.0.1:x"}, {"127.0.0.1:0", "nonsense"}} {
		if ls, err := Listen(t.Context(), addrs, nil); err == nil {
			closeAll(ls)
			t.Errorf("%q: no error", addrs)
		}
	}
}

func TestListenWithoutIPv6(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	// No machine has this address, as one without IPv6 has no ::1.
	const nowhere = "[2001:db8::1]:0"
	ls, err := Listen(t.Context(), []string{"127.0.0.1:0", nowhere}, log.text())
	if err != nil || len(ls) != 1 {
		t.Fatalf("%v, %v", ls, err)
	}
	closeAll(ls)
	if !strings.Contains(log.String(), "level=DEBUG") || !strings.Contains(log.String(), nowhere) {
		t.Errorf("log %q", log)
	}
	if ls, err := Listen(t.Context(), []string{nowhere}, nil); err == nil {
		closeAll(ls)
		t.Error("nothing to listen on, and no error")
	}
}

func TestServeOnSeveralAddresses(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	ls, err := Listen(ctx, []string{"127.0.0.1:0", "127.0.0.1:0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- (&Server{Handler: newTestHandler(t, Options{})}).Serve(ctx, ls) }()
	for _, l := range ls {
		s := &server{t: t, url: "http://" + l.Addr().String()}
		s.want(s.url, s.do("GET", "/v2/", ""), 200)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, l := range ls {
		if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
			c.Close()
			t.Errorf("%s still accepts", l.Addr())
		}
	}
}

// held is a registry that answers when it is let go.
type held struct {
	oci.Registry
	asked, release chan struct{}
	cancelled      chan error
}

func (h held) Resolve(ctx context.Context, _, _ string) (oci.Descriptor, error) {
	close(h.asked)
	select {
	case <-h.release:
	case <-ctx.Done():
		h.cancelled <- ctx.Err()
	}
	return oci.Descriptor{}, oci.ManifestUnknown
}

func newHeld() held {
	return held{ocitest.NewRegistry(), make(chan struct{}), make(chan struct{}), make(chan error, 1)}
}

// serveHeld runs a server over reg and asks it something that takes long.
func serveHeld(t *testing.T, reg held, srv *Server) (stop func(), done chan error, c *net.TCPConn) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ls, err := Listen(ctx, []string{"127.0.0.1:0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	done = make(chan error, 1)
	go func() { done <- srv.Serve(ctx, ls) }()
	c = dial(t, ls[0].Addr().String())
	fmt.Fprintf(c, "HEAD /v2/app/manifests/x HTTP/1.1\r\nHost: x\r\n\r\n")
	<-reg.asked
	return stop, done, c
}

func TestServeFinishesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	reg := newHeld()
	h := NewHandler(reg, Options{})
	stop, done, c := serveHeld(t, reg, &Server{Handler: h})
	stop()
	eventually(t, h.draining.Load)
	select {
	case err := <-done:
		t.Fatalf("the server did not wait: %v", err)
	case err := <-reg.cancelled:
		t.Fatalf("the request was cancelled: %v", err)
	default:
	}
	close(reg.release)
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: "HEAD"})
	if err != nil || res.StatusCode != 404 {
		t.Errorf("%v, %v", res, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestServeCutsWhatDoesNotFinish(t *testing.T) {
	t.Parallel()
	reg, log := newHeld(), &logBuffer{}
	srv := &Server{Handler: NewHandler(reg, Options{}), DrainTimeout: time.Millisecond, Log: log.text()}
	stop, done, c := serveHeld(t, reg, srv)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := <-reg.cancelled; err == nil {
		t.Error("the request was not cancelled")
	}
	if _, err := io.ReadAll(c); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("log %q", log)
	}
}

func TestServeReportsAcceptErrors(t *testing.T) {
	t.Parallel()
	ls, err := Listen(t.Context(), []string{"127.0.0.1:0", "127.0.0.1:0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ls[1].Close()
	if err := (&Server{Handler: newTestHandler(t, Options{})}).Serve(t.Context(), ls); err == nil {
		t.Error("no error")
	}
}

func TestStalledHeaderIsThrownOut(t *testing.T) {
	t.Parallel()
	c := dial(t, runServer(t, &Server{Handler: newTestHandler(t, Options{}), HeaderTimeout: 50 * time.Millisecond}))
	fmt.Fprintf(c, "GET /v2/ HTTP/1.1\r\nHos")
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Errorf("the connection lives: %v", err)
	}
}

// stall is long against the pauses of a busy machine.
const stall = 500 * time.Millisecond

func TestStalledUploadIsThrownOut(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	s := newServer(t, nil, Options{Stall: stall, Access: log.json()})
	at := s.start("")
	c := dial(t, s.addr)
	fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello", at)
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != 400 {
		t.Errorf("%v, %v", res, err)
	}
	if line := log.lines(t, 2)[1]; line["status"] != 499.0 {
		t.Errorf("log %v", line)
	}
	s.want("what came is kept", s.do("GET", at, ""), 204, "Range", "0-4")
}

func TestStalledBodyThatNobodyReadsIsThrownOut(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{Stall: stall})
	c := dial(t, s.addr)
	fmt.Fprintf(c, "GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
	if _, err := io.Copy(io.Discard, c); err != nil {
		t.Errorf("the connection lives: %v", err)
	}
}

// An upload that takes more than twice as long as it may stand still.
func TestSlowUploadLives(t *testing.T) {
	t.Parallel()
	const stall = 3 * time.Second // A busy machine may stand still for a while.
	s := newServer(t, nil, Options{Stall: stall})
	at := s.start("")
	c := dial(t, s.addr)
	const n = 12
	fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", at, n)
	tick := time.NewTicker(stall / 5)
	defer tick.Stop()
	for range n {
		<-tick.C
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != 202 {
		t.Errorf("%v, %v", res, err)
	}
}

func TestStalledPullIsThrownOut(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	reg := newFiles(t, 64<<20)
	s := newServer(t, reg, Options{Stall: stall, Access: log.json()})
	c := dial(t, s.addr)
	if err := c.SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET /v2/app/blobs/%s HTTP/1.1\r\nHost: x\r\n\r\n", reg.d.Digest)
	if line := log.lines(t, 1)[0]; line["status"] != 499.0 || line["bytes"].(float64) >= 64<<20 {
		t.Errorf("log %v", line)
	}
}

// A pull that takes more than twice as long as it may stand still.
func TestSlowPullLives(t *testing.T) {
	t.Parallel()
	const size = 24 << 20
	const stall = 3 * time.Second // A busy machine may stand still for a while.
	reg := newFiles(t, size)
	s := newServer(t, reg, Options{Stall: stall})
	c := dial(t, s.addr)
	// The read buffer stays as it is: one of a few segments of the loopback
	// makes TCP itself stand still for long.
	fmt.Fprintf(c, "GET /v2/app/blobs/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", reg.d.Digest)
	tick := time.NewTicker(stall / 5)
	defer tick.Stop()
	var sum int64
	for range 12 {
		<-tick.C
		n, err := io.CopyN(io.Discard, c, size/16)
		if sum += n; err != nil {
			t.Fatalf("after %d bytes: %v", sum, err)
		}
	}
	n, err := io.Copy(io.Discard, c)
	if sum += n; err != nil || sum < size {
		t.Errorf("%d bytes, %v", sum, err)
	}
}
