package ldap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"github.com/regctl/regctl/serve/auth"
)

const (
	// connections is how many are used at a time; as many more may be idle.
	connections = 8
	// idleFor is how long one is kept that nobody uses: what is between forgets
	// it without telling.
	idleFor = 30 * time.Second
	// giveUp is how long nobody asks a directory that could not be reached.
	giveUp = time.Second
	// sayEvery is how often the same is logged.
	sayEvery = time.Minute
	// longestSecret is how large a file with a password may be.
	longestSecret = 4096
)

// link leads to the directory.
type link struct {
	network, addr string
	host          string // That the certificate is for.
	secure        bool   // ldaps
	startTLS      bool
	ca            string
	bindDN        string
	password      string
	passwordFile  string
	timeout       time.Duration
	now           func() time.Time
	log           *slog.Logger
	turns         chan struct{}

	mu    sync.Mutex
	idle  map[bool][]*conn // By whether they are bound for searches.
	until time.Time        // Nobody asks before that.
	down  bool             // What was logged last.
	said  map[string]time.Time
}

// conn is a connection, used by one at a time.
type conn struct {
	*goldap.Conn
	raw   net.Conn
	used  time.Time
	fresh bool // It has never been idle.
}

// newLink reads the options.
func newLink(o Options) (*link, error) {
	l := &link{
		startTLS: o.StartTLS, ca: o.CA, bindDN: o.BindDN, password: o.BindPassword, passwordFile: o.BindFile,
		timeout: o.Timeout, now: o.Now, log: o.Log, turns: make(chan struct{}, connections), idle: map[bool][]*conn{}, said: map[string]time.Time{},
	}
	if err := l.parse(o.URL); err != nil {
		return nil, err
	}
	switch {
	case o.BindDN == "" && (o.BindPassword != "" || o.BindFile != ""):
		return nil, errors.New("there is a password, but no binddn that it is of")
	case o.BindPassword != "" && o.BindFile != "":
		return nil, errors.New("set bindpassword or bindfile, not both")
	case o.BindDN != "" && o.BindPassword == "" && o.BindFile == "":
		return nil, errors.New("binddn has no password: set bindfile or bindpassword")
	}
	if _, err := l.secret(); err != nil {
		return nil, err
	}
	if _, err := l.config(); err != nil {
		return nil, err
	}
	return l, nil
}

// parse takes a URL apart.
func (l *link) parse(raw string) error {
	scheme, rest, _ := strings.Cut(raw, "://")
	switch strings.ToLower(scheme) {
	case "ldapi":
		path, err := url.PathUnescape(rest)
		if err != nil || l.startTLS {
			return fmt.Errorf("url %q: it is ldapi:// and the path of a socket, without starttls", raw)
		}
		if path == "" || path == "/" {
			path = "/var/run/slapd/ldapi"
		}
		l.network, l.addr = "unix", path
		return nil
	case "ldap", "ldaps":
	default:
		return fmt.Errorf("url %q: it begins with ldap://, ldaps:// or ldapi://", raw)
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return errors.New("url: it is a scheme, a host and perhaps a port, as in ldaps://ldap.example.com")
	}
	l.secure = u.Scheme == "ldaps"
	if l.secure && l.startTLS {
		return fmt.Errorf("url %q: with ldaps there is TLS already: leave starttls out", raw)
	}
	port := u.Port()
	if port == "" {
		port = goldap.DefaultLdapPort
		if l.secure {
			port = goldap.DefaultLdapsPort
		}
	}
	l.network, l.host, l.addr = "tcp", u.Hostname(), net.JoinHostPort(u.Hostname(), port)
	return nil
}

// String is the directory, for people.
func (l *link) String() string {
	switch {
	case l.network == "unix":
		return "ldapi://" + l.addr
	case l.secure:
		return "ldaps://" + l.addr
	}
	return "ldap://" + l.addr
}

// secret is the password of the bind DN.
func (l *link) secret() (string, error) {
	if l.passwordFile == "" {
		return l.password, nil
	}
	raw, err := os.ReadFile(l.passwordFile)
	if err != nil {
		return "", fmt.Errorf("read bindfile: %w", err)
	}
	secret := strings.TrimRight(string(raw), "\r\n")
	if secret == "" || len(raw) > longestSecret {
		return "", fmt.Errorf("bindfile %s holds no password", l.passwordFile)
	}
	return secret, nil
}

// config is that of TLS, nil without.
func (l *link) config() (*tls.Config, error) {
	if !l.secure && !l.startTLS {
		if l.ca != "" {
			return nil, errors.New("there is a ca, but no TLS: use ldaps:// or starttls")
		}
		return nil, nil
	}
	c := &tls.Config{ServerName: l.host, MinVersion: tls.VersionTLS12}
	if l.ca == "" {
		return c, nil
	}
	raw, err := os.ReadFile(l.ca)
	if err != nil {
		return nil, fmt.Errorf("read ca: %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("ca %s holds no certificate in PEM", l.ca)
	}
	return c, nil
}

// dial makes a connection, which ends at the deadline unless that is taken off.
func (l *link) dial(deadline time.Time) (*conn, error) {
	config, err := l.config()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, l.network, l.addr)
	if err != nil {
		return nil, err
	}
	if err := raw.SetDeadline(deadline); err != nil {
		_ = raw.Close()
		return nil, err
	}
	spoken := raw
	if l.secure {
		encrypted := tls.Client(raw, config)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		spoken = encrypted
	}
	c := &conn{Conn: goldap.NewConn(spoken, l.secure), raw: raw, fresh: true}
	c.SetTimeout(l.timeout)
	c.Start()
	if l.startTLS {
		if err := c.StartTLS(config); err != nil {
			_ = c.Close()
			return nil, fmt.Errorf("start TLS: %w", err)
		}
	}
	return c, nil
}

// take returns a connection; one for searches is bound for them.
func (l *link) take(search bool, deadline time.Time) (*conn, error) {
	for c := l.pop(search); c != nil; c = l.pop(search) {
		if !c.IsClosing() && l.now().Sub(c.used) < idleFor && c.raw.SetDeadline(deadline) == nil {
			return c, nil
		}
		_ = c.Close()
	}
	c, err := l.dial(deadline)
	if err != nil {
		return nil, err
	}
	if !search || l.bindDN == "" {
		return c, nil
	}
	secret, err := l.secret()
	if err == nil {
		err = c.Bind(l.bindDN, secret)
	}
	if err != nil {
		_ = c.Close()
		return nil, &bindError{err}
	}
	return c, nil
}

func (l *link) pop(search bool) *conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.idle[search]
	if len(all) == 0 {
		return nil
	}
	c := all[len(all)-1]
	l.idle[search] = all[:len(all)-1]
	return c
}

// giveBack keeps a connection that works for the next.
func (l *link) giveBack(c *conn, search bool) {
	if c.IsClosing() || c.raw.SetDeadline(time.Time{}) != nil {
		_ = c.Close()
		return
	}
	now := l.now()
	c.used, c.fresh = now, false
	for _, old := range l.keep(c, search, now) {
		_ = old.Close()
	}
}

// keep makes c idle, and returns those that nobody has used for too long.
func (l *link) keep(c *conn, search bool, now time.Time) (old []*conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := append(l.idle[search], c) // The one that was used last is the last.
	n := max(0, slices.IndexFunc(all, func(c *conn) bool { return now.Sub(c.used) < idleFor }))
	l.idle[search] = slices.Clone(all[n:])
	return all[:n]
}

func (l *link) close() {
	for _, search := range []bool{true, false} {
		for c := l.pop(search); c != nil; c = l.pop(search) {
			_ = c.Close()
		}
	}
}

// bindError says that the registry itself may not ask.
type bindError struct{ error }

func (e *bindError) Unwrap() error { return e.error }

// with lets f ask on a connection. If one that was idle turns out to be gone, f
// is called again with a new one.
// Errors: [auth.ErrUnavailable] if there is none; those of the directory, which
// are of type [*goldap.Error].
func (l *link) with(search bool, f func(*conn) error) error {
	limit := time.NewTimer(l.timeout)
	defer limit.Stop()
	select {
	case l.turns <- struct{}{}:
		defer func() { <-l.turns }()
	case <-limit.C:
		return fmt.Errorf("%w: %s is asked by too many", auth.ErrUnavailable, l)
	}
	if l.away() {
		return fmt.Errorf("%w: %s could not be asked a moment ago", auth.ErrUnavailable, l)
	}
	for {
		deadline := time.Now().Add(l.timeout)
		c, err := l.take(search, deadline)
		if err != nil {
			return l.lost(err)
		}
		err = f(c)
		if err == nil || answered(err) {
			l.found()
			l.giveBack(c, search)
			return err
		}
		_ = c.Close()
		if !c.fresh && time.Now().Before(deadline) {
			continue
		}
		return l.lost(err)
	}
}

// answered tells whether an error is an answer of the directory about what was
// asked, not about itself.
func answered(err error) bool {
	if errors.Is(err, auth.ErrUnknown) || errors.Is(err, auth.ErrDenied) {
		return true
	}
	var e *goldap.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.ResultCode {
	case goldap.LDAPResultBusy, goldap.LDAPResultUnavailable:
		return false
	}
	return e.ResultCode < goldap.ErrorNetwork
}

// away tells whether the directory could not be reached a moment ago.
func (l *link) away() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.until.Sub(l.now())
	return left > 0 && left <= giveUp
}

// lost notes and tells that the directory cannot be asked.
func (l *link) lost(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = l.now().Add(giveUp)
	if !l.down {
		l.down = true
		what := "ldap: the directory cannot be asked: who has not been in within the last minute cannot log in"
		var mine *bindError
		if errors.As(err, &mine) {
			what = "ldap: the directory does not let the registry ask: see binddn and its password"
		}
		l.log.LogAttrs(context.Background(), slog.LevelError, what, slog.String("url", l.String()), slog.Any("error", err))
	}
	return fmt.Errorf("%w: ask %s: %w", auth.ErrUnavailable, l, err)
}

// found notes that the directory answers.
func (l *link) found() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		l.down = false
		l.log.LogAttrs(context.Background(), slog.LevelInfo, "ldap: the directory answers again", slog.String("url", l.String()))
	}
}

// say logs what an operator must know, not at every login.
func (l *link) say(level slog.Level, what string, more ...slog.Attr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, ok := l.said[what]; ok && l.now().Sub(at) < sayEvery {
		return
	}
	l.said[what] = l.now()
	l.log.LogAttrs(context.Background(), level, "ldap: "+what, append(more, slog.String("url", l.String()))...)
}
