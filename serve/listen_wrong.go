package serve

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/regctl/regctl/client/oci"
)

const (
	wrongPause  = time.Minute // A client is told of in the log once in this time.
	wrongMost   = 1024        // So many clients are remembered.
	wrongHead   = 8 << 10     // So much of a request is read to find its host.
	wrongLinger = time.Second // So long a client may take to hear that it is wrong.

	recordHandshake = 0x16 // Begins a TLS connection, and no HTTP request.
)

// wrongTalk tells clients that speak TLS where none is, or none where it is,
// what is wrong, and the operator of the former: those clients can show no
// answer. It looks at what a connection reads first, and never waits.
type wrongTalk struct {
	log  *slog.Logger
	now  func() time.Time
	mu   sync.Mutex
	told map[string]time.Time // When the log was last told of an address.
}

func newWrongTalk(log *slog.Logger, now func() time.Time) *wrongTalk {
	if now == nil {
		now = time.Now
	}
	return &wrongTalk{log: log, now: now, told: map[string]time.Time{}}
}

// listener wraps l, whose connections are encrypted or not.
func (w *wrongTalk) listener(l net.Listener, encrypted bool) net.Listener {
	return &wrongListener{Listener: l, encrypted: encrypted, talk: w}
}

type wrongListener struct {
	net.Listener
	encrypted bool
	talk      *wrongTalk
}

// Accept returns connections that look at what they read first.
func (l *wrongListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if l.encrypted {
		return &encryptedConn{Conn: c}, nil
	}
	if tcp, ok := c.(*net.TCPConn); ok {
		return &openConn{TCPConn: tcp, talk: l.talk}, nil
	}
	return c, nil
}

// openConn is a connection without TLS. It is a [*net.TCPConn] in all but Read,
// so that files go out through sendfile.
type openConn struct {
	*net.TCPConn
	talk  *wrongTalk
	begun bool
}

// Read reads on, unless TLS comes.
func (c *openConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if c.begun || n == 0 {
		return n, err
	}
	c.begun = true
	if p[0] != recordHandshake {
		return n, err
	}
	c.talk.tell(c.RemoteAddr(), c.LocalAddr())
	// A client of docker knows by the first letters that this is HTTP.
	bid(c.TCPConn, "this port speaks plain HTTP, not HTTPS", "")
	return 0, io.EOF
}

// tell tells the operator, but not of every connection of a client.
func (w *wrongTalk) tell(from, at net.Addr) {
	client := hostOf(from.String())
	if !w.first(client) {
		return
	}
	// No warning: some clients try HTTPS first, and then go on without.
	w.log.LogAttrs(context.Background(), slog.LevelInfo, "a client speaks HTTPS, and this port plain HTTP; "+
		"give the server a certificate, or let the client use HTTP (docker: insecure-registries in daemon.json)",
		slog.String("client", client), slog.String("port", at.String()))
}

// first tells whether client was not told of lately.
func (w *wrongTalk) first(client string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	if last, ok := w.told[client]; ok && now.Sub(last) < wrongPause {
		return false
	}
	if len(w.told) >= wrongMost {
		for c, last := range w.told {
			if now.Sub(last) >= wrongPause {
				delete(w.told, c)
			}
		}
		if len(w.told) >= wrongMost {
			return false
		}
	}
	w.told[client] = now
	return true
}

// encryptedConn is what is below a TLS connection.
type encryptedConn struct {
	net.Conn
	begun bool
}

// Read reads on, unless an HTTP request comes.
func (c *encryptedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.begun || n == 0 {
		return n, err
	}
	c.begun = true
	if p[0] < 'A' || p[0] > 'Z' { // No record of TLS begins with these, and every method does.
		return n, err
	}
	head := io.MultiReader(bytes.NewReader(bytes.Clone(p[:n])), c.Conn)
	r, err := http.ReadRequest(bufio.NewReader(io.LimitReader(head, wrongHead)))
	try := "https://"
	switch {
	case err != nil:
		bid(c.Conn, "this port speaks HTTPS", "")
	case isHost(r.Host):
		try += r.Host
		fallthrough
	default:
		bid(c.Conn, "this port speaks HTTPS; use "+try, r.Method)
	}
	return 0, io.EOF
}

// bid answers a client that is wrong here, and waits until it has heard it: a
// connection that is closed with something unread may lose the answer.
func bid(c net.Conn, what, method string) {
	body := oci.MarshalError(oci.Errorf(oci.Unsupported, "%s", what))
	if method == http.MethodHead {
		body = nil
	}
	_ = c.SetDeadline(time.Now().Add(wrongLinger)) // net/http has set one, and it is far.
	_, err := fmt.Fprintf(c, "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	if half, ok := c.(interface{ CloseWrite() error }); err == nil && ok && half.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c, maxHeader)
	}
}
