package commands

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/regctl/regctl/serve/auth"
	"github.com/regctl/regctl/serve/auth/ldap"
	"github.com/regctl/regctl/serve/auth/token"
)

func (l *complaints) auth() {
	h := l.c.Auth.Htpasswd
	if h == nil || h.Path == "" {
		return
	}
	for _, p := range auth.Inspect(h.Path) {
		level := "warning"
		if p.Fatal {
			level = "error"
		}
		l.of(level, "auth.htpasswd.path", "%s: %s", h.Path, p)
	}
	l.inTheOpen("auth.htpasswd")
}

// inTheOpen warns of passwords that whoever is on the way can read.
func (l *complaints) inTheOpen(key string) {
	others := func(addr string) bool { return !isLoopback(addr) }
	if l.c.HTTP.TLS.Certificate == "" && l.c.HTTP.Network == "tcp" && slices.ContainsFunc(l.c.HTTP.Addrs, others) {
		l.of("warning", key, "without http.tls passwords cross the network for all to read, unless a proxy in front ends TLS")
	}
}

// token looks into the files with the keys of a token server elsewhere.
func (l *complaints) token() {
	t := l.c.Auth.Token
	if t == nil || t.RootCertBundle == "" && t.JWKS == "" {
		return
	}
	key := "auth.token.rootcertbundle"
	if t.RootCertBundle == "" {
		key = "auth.token.jwks"
	}
	if _, err := token.OpenTrust(token.TrustOptions{
		Issuer: t.Issuer, Service: t.Service, RootCertBundle: t.RootCertBundle, JWKS: t.JWKS, Algorithms: t.SigningAlgorithms, Now: l.env.Now,
	}); err != nil {
		l.of("error", key, "auth.token: %v", err)
	}
}

// ldap looks at all that can be without asking the directory.
func (l *complaints) ldap() {
	d := l.c.Auth.LDAP
	if d == nil || d.URL == "" || (d.UserDN == "") == (d.UserBase == "") {
		return
	}
	directory, err := ldap.Open(ldap.Options{
		URL: d.URL, StartTLS: d.StartTLS, CA: d.CA, BindDN: d.BindDN, BindPassword: d.BindPassword, BindFile: d.BindFile,
		UserDN: d.UserDN, UserBase: d.UserBase, UserFilter: d.UserFilter, UserName: d.UserName,
		GroupBase: d.GroupBase, GroupFilter: d.GroupFilter, GroupName: d.GroupName, GroupOf: d.GroupOf, Timeout: d.Timeout, Now: l.env.Now,
	})
	if err != nil {
		l.of("error", "auth.ldap", "auth.ldap: %v", err)
		return
	}
	_ = directory.Close() // It has asked nobody anything.
	if l.c.Auth.Htpasswd == nil {
		l.inTheOpen("auth.ldap")
	}
}

// audit looks at where the audit log goes.
func (l *complaints) audit() {
	path := l.c.Audit.Path
	if path == "" {
		return
	}
	dir := filepath.Dir(path)
	if _, err := os.Stat(dir); err != nil {
		dir = existing(dir)
	}
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return // Who may write to it, the server will see.
	} else if err == nil {
		l.of("error", "audit.path", "audit.path: %s is a directory", path)
		return
	}
	if err := canWrite(dir); err != nil {
		l.of("error", "audit.path", "audit.path: %s is not writable for this user: %v", dir, err)
	}
}
