package commands

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/regctl/regctl/serve"
	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
)

// cannotServe gives an error of [serve.Assemble] its exit status, and what to
// try next.
func cannotServe(err error) error {
	var held *file.HeldError
	var inUse *serve.AddrInUseError
	var listening *net.OpError
	var wrong *serve.ConfigError
	switch {
	case errors.Is(err, context.Canceled): // While it waited for the store, too.
		return err
	case errors.As(err, &held), errors.Is(err, meta.ErrForeign):
		return &ExitError{exitLocked, err}
	case errors.Is(err, storage.ErrReadOnly):
		return &ExitError{exitLocked, &hinted{err, err.Error() + "; make it writable for this user, or keep the store elsewhere: regctl serve --data DIR"}}
	case errors.As(err, &wrong):
		return &ExitError{exitUsage, err}
	case errors.As(err, &inUse):
		return &ExitError{exitFailed, otherAddr(inUse)}
	case errors.As(err, &listening) && listening.Op == "listen" && errors.Is(err, fs.ErrPermission):
		return &ExitError{exitFailed, notAllowed(err, listening)}
	}
	return &ExitError{exitFailed, err}
}

// otherAddr names the next port to try.
func otherAddr(err *serve.AddrInUseError) error {
	host, port, splitErr := net.SplitHostPort(err.Addr)
	n, convErr := strconv.Atoi(port)
	if splitErr != nil || convErr != nil || n >= 65535 {
		return err
	}
	why := ""
	if n == 5000 {
		why = " (macOS: AirPlay)"
	}
	next := net.JoinHostPort(host, strconv.Itoa(n+1))
	return &hinted{err, fmt.Sprintf("%v%s. Try: regctl serve --addr %s", err, why, next)}
}

// notAllowed says who may listen there.
func notAllowed(err error, op *net.OpError) error {
	tcp, ok := op.Addr.(*net.TCPAddr)
	if !ok || tcp.Port >= 1024 {
		return err
	}
	return &hinted{err, fmt.Sprintf("this user may not listen on port %[1]d, as on none below 1024. "+
		"Allow it: sudo setcap cap_net_bind_service=+ep \"$(command -v regctl)\", or in a systemd unit AmbientCapabilities=CAP_NET_BIND_SERVICE; "+
		"or take another: regctl serve --addr :%[2]d", tcp.Port, 8000+tcp.Port)}
}

// greet says where the registry is, what it keeps where, who may come, and how
// to push to it.
func (e *Env) greet(addrs []net.Addr, place config.Place, c *config.Config) {
	keeps := "in memory"
	if place.Path != "" {
		keeps = e.tilde(place.Path)
		if !place.Found {
			keeps += " (new)"
		}
	}
	deletes := "off"
	switch {
	case c.Storage.ReadOnly:
		deletes = "off, read-only"
	case c.Storage.Deletes:
		deletes = "on"
	}
	addr, open := reachable(addrs)
	at := address(addr, c.HTTP)
	e.say("%s · store %s · deletes %s · %s", at, keeps, deletes, whoMayCome(addrs, open, c))
	if c.Storage.NoSync {
		e.say("warning: storage.filesystem.sync is false: a power cut may lose what was pushed")
	}
	if open && (c.Auth.Htpasswd != nil || c.Auth.LDAP != nil) && c.HTTP.TLS.Certificate == "" {
		e.say("warning: without TLS passwords cross the network for all to read, unless a proxy in front ends TLS")
	}
	e.say("push: %s", howToPush(addr, c.HTTP))
}

// address is where the API is, as somebody on this machine would write it.
func address(addr string, h config.HTTP) string {
	switch {
	case h.Network == "unix":
		return "unix:" + addr
	case h.TLS.Certificate != "":
		return "https://" + addr + strings.TrimRight(h.Prefix, "/")
	}
	return "http://" + addr + strings.TrimRight(h.Prefix, "/")
}

// whoMayCome says who may do what, as far as the configuration decides it.
func whoMayCome(addrs []net.Addr, open bool, c *config.Config) string {
	who, need := "this machine only", whatIsNeeded(c)
	switch {
	case c.HTTP.Network == "unix":
		who = "who may write to the socket"
	case asksCertificate(c.HTTP.TLS):
		who, open = "clients with a certificate", false
	case open && need != "":
		who = "all who reach it"
	}
	if need != "" {
		return who + ", " + need
	}
	if !open || c.HTTP.Network == "unix" {
		return who
	}
	switch {
	case c.Storage.ReadOnly:
		return "warning: no login is asked, whoever reaches it may pull"
	case c.Storage.Deletes:
		return "warning: no login is asked, whoever reaches it may pull, push and delete"
	}
	return "warning: no login is asked, whoever reaches it may pull and push"
}

// whatIsNeeded says what who comes must have to do something. Empty: nothing.
func whatIsNeeded(c *config.Config) string {
	const login = "with a login"
	switch {
	case !c.Access.On && c.Auth.Htpasswd == nil && c.Auth.LDAP == nil && c.Auth.Token == nil, c.Access.Preset == "open":
		return ""
	case c.Access.Preset == "public-pull":
		return login + " but for pulls"
	case len(c.Access.Rules) > 0:
		return "by " + some(len(c.Access.Rules), "rule")
	case c.Auth.Token != nil && c.Auth.Htpasswd == nil && c.Auth.LDAP == nil:
		return "with a token of " + c.Auth.Token.Issuer
	}
	return login
}

// asksCertificate tells whether only clients are let in whose certificate is of
// a CA that is trusted.
func asksCertificate(t config.TLS) bool {
	return t.Certificate != "" && len(t.ClientCAs) > 0 &&
		(t.ClientAuth == "" || t.ClientAuth == "require-and-verify-client-cert")
}

// howToPush is what a client types, or why none of docker can reach this.
func howToPush(addr string, h config.HTTP) string {
	host := addr
	_, outside, ok := strings.Cut(h.Host, "://")
	outside, path, _ := strings.Cut(outside, "/")
	switch {
	case ok && path == "":
		host = outside
	case h.Network == "unix":
		return "through a proxy that passes /v2/ on to the socket"
	case strings.Trim(h.Prefix, "/") != "":
		return "through a proxy that passes /v2/ on to " + h.Prefix + "v2/, as clients know no prefix; set http.host to what it is called"
	default:
		if _, port, err := net.SplitHostPort(addr); err == nil && isLoopback(addr) {
			host = nameFor(h.TLS.Certificate) + ":" + port
		}
	}
	return fmt.Sprintf("docker tag IMAGE %[1]s/NAME && docker push %[1]s/NAME", host)
}

// nameFor is the first name in a certificate that a client can use; without a
// certificate it is localhost.
func nameFor(certFile string) string {
	const here = "localhost"
	raw, err := os.ReadFile(certFile)
	if certFile == "" || err != nil {
		return here
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return here
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil || c.VerifyHostname(here) == nil {
		return here
	}
	for _, name := range c.DNSNames {
		if !strings.Contains(name, "*") {
			return name
		}
	}
	if len(c.IPAddresses) > 0 {
		return strings.TrimSuffix(net.JoinHostPort(c.IPAddresses[0].String(), ""), ":")
	}
	return here
}

// reachable returns the first address as a client on this machine would write
// it, and whether others can reach any of them.
func reachable(addrs []net.Addr) (addr string, open bool) {
	for i, a := range addrs {
		at := a.String()
		if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
			at = "localhost:" + strconv.Itoa(tcp.Port)
			open = true
		}
		open = open || !isLoopback(at)
		if i == 0 {
			addr = at
		}
	}
	return addr, open
}

func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback())
}

// tilde shortens a path in the home directory.
func (e *Env) tilde(path string) string {
	if rest, ok := strings.CutPrefix(path, e.Home+string(filepath.Separator)); ok && e.Home != "" {
		return "~" + string(filepath.Separator) + rest
	}
	return path
}
