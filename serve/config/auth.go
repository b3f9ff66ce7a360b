package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const noLogin = "the server does not start without its authentication"

func authSection() field {
	return field{strict: "no such authentication", fields: section{
		"none":  {open: true, set: func(*Config, node) error { return nil }},
		"silly": {state: refused, bare: true, open: true, note: noLogin},
		"token": tokenAuthSection(),
		"ldap":  ldapSection(),
		"htpasswd": {bare: true, strict: "no such key", fields: section{
			"realm": {set: setString(func(c *Config) *string { return &c.htpasswd().Realm }), bare: true},
			"path":  {set: setString(func(c *Config) *string { return &c.htpasswd().Path })},
		}},
	}}
}

// tokenAuthSection is auth.token: a token server elsewhere.
func tokenAuthSection() field {
	text := func(at func(*TokenAuth) *string) field {
		return field{set: setString(func(c *Config) *string { return at(c.tokenAuth()) })}
	}
	return field{bare: true, strict: "no such key", fields: section{
		"realm":             text(func(t *TokenAuth) *string { return &t.Realm }),
		"service":           text(func(t *TokenAuth) *string { return &t.Service }),
		"issuer":            text(func(t *TokenAuth) *string { return &t.Issuer }),
		"rootcertbundle":    text(func(t *TokenAuth) *string { return &t.RootCertBundle }),
		"jwks":              text(func(t *TokenAuth) *string { return &t.JWKS }),
		"signingalgorithms": {set: setAlgorithms, list: true},
		"autoredirect":      {set: setBool(func(c *Config) *bool { return &c.tokenAuth().AutoRedirect })},
		"autoredirectpath":  text(func(t *TokenAuth) *string { return &t.AutoRedirectPath }),
	}}
}

// setAlgorithms leaves out those with one key to sign and to check, which
// distribution 3 knows as well.
func setAlgorithms(c *Config, n node) error {
	list, err := texts(n)
	if err != nil {
		return err
	}
	known := []string{"EdDSA", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"}
	t := c.tokenAuth()
	t.SigningAlgorithms, t.symmetric = nil, nil
	for _, alg := range list {
		switch {
		case slices.Contains(known, alg):
			t.SigningAlgorithms = append(t.SigningAlgorithms, alg)
		case slices.Contains([]string{"HS256", "HS384", "HS512"}, alg):
			t.symmetric = append(t.symmetric, alg)
		default:
			return fmt.Errorf("%q is none of %s%s", alg, strings.Join(known, ", "), nearest(alg, known))
		}
	}
	if len(t.SigningAlgorithms) == 0 {
		return errors.New("has none by which who checks a token could not sign one as well, such as ES256")
	}
	return nil
}

// ldapSection is auth.ldap, which is ours.
func ldapSection() field {
	text := func(at func(*LDAP) *string) field {
		return field{set: setString(func(c *Config) *string { return at(c.ldap()) })}
	}
	return field{bare: true, strict: "no such key", fields: section{
		"url":          {set: setLDAPURL},
		"starttls":     {set: setBool(func(c *Config) *bool { return &c.ldap().StartTLS })},
		"ca":           text(func(l *LDAP) *string { return &l.CA }),
		"binddn":       text(func(l *LDAP) *string { return &l.BindDN }),
		"bindpassword": text(func(l *LDAP) *string { return &l.BindPassword }),
		"bindfile":     text(func(l *LDAP) *string { return &l.BindFile }),
		"userdn":       text(func(l *LDAP) *string { return &l.UserDN }),
		"userbase":     text(func(l *LDAP) *string { return &l.UserBase }),
		"userfilter":   text(func(l *LDAP) *string { return &l.UserFilter }),
		"username":     text(func(l *LDAP) *string { return &l.UserName }),
		"groupbase":    text(func(l *LDAP) *string { return &l.GroupBase }),
		"groupfilter":  text(func(l *LDAP) *string { return &l.GroupFilter }),
		"groupname":    text(func(l *LDAP) *string { return &l.GroupName }),
		"groupof":      text(func(l *LDAP) *string { return &l.GroupOf }),
		"timeout":      {set: setDuration(func(c *Config) *time.Duration { return &c.ldap().Timeout })},
	}}
}

// setLDAPURL never tells the value: it may hold a password.
func setLDAPURL(c *Config, n node) error {
	v, err := scalar(n)
	if err != nil {
		return err
	}
	c.ldap().URL = v
	if strings.HasPrefix(v, "ldapi://") { // Of which the path may be escaped, as if it were a host.
		return nil
	}
	u, err := url.Parse(v)
	switch {
	case err != nil:
	case u.User != nil:
		return errors.New("has a login in it; that goes into binddn and bindpassword")
	case (u.Scheme == "ldap" || u.Scheme == "ldaps") && u.Hostname() != "":
		return nil
	}
	return errors.New("is not of the form ldaps://HOST, ldap://HOST:PORT or ldapi://PATH")
}

// htpasswd is the section auth.htpasswd, which is there from now on.
func (c *Config) htpasswd() *Htpasswd {
	if c.Auth.Htpasswd == nil {
		c.Auth.Htpasswd = &Htpasswd{}
	}
	return c.Auth.Htpasswd
}

// tokenAuth is the section auth.token, which is there from now on.
func (c *Config) tokenAuth() *TokenAuth {
	if c.Auth.Token == nil {
		c.Auth.Token = &TokenAuth{}
	}
	return c.Auth.Token
}

// ldap is the section auth.ldap, which is there from now on.
func (c *Config) ldap() *LDAP {
	if c.Auth.LDAP == nil {
		c.Auth.LDAP = &LDAP{}
	}
	return c.Auth.LDAP
}

// checkAuth wants all of each kind of login. There may be several, but none is
// not one of them.
func (p *parser) checkAuth(c *Config, root node) {
	p.checkNoAccess(root)
	_, auth := get(root, "auth")
	if auth == nil {
		p.checkNoAuth(root)
		return
	}
	for i := 0; i+1 < len(auth.Content) && len(auth.Content) > 2; i += 2 {
		if key := auth.Content[i]; key.Value == "none" {
			p.errorf(key, "auth has none, and %s beside it; leave one", auth.Content[(i+2)%len(auth.Content)].Value)
		}
	}
	if key := p.at["auth.htpasswd"]; key != nil {
		p.checkHtpasswd(c, key)
	}
	if key := p.at["auth.token"]; key != nil {
		p.checkTokenAuth(c.tokenAuth(), key)
	}
	if key := p.at["auth.ldap"]; key != nil {
		p.checkLDAP(c.ldap(), key)
	}
}

func (p *parser) checkHtpasswd(c *Config, key node) {
	h := c.htpasswd()
	if p.at["auth.htpasswd.realm"] == nil {
		p.errorf(key, "auth.htpasswd has no realm: say what a login is for, such as realm: Registry")
	}
	if h.Path == "" {
		p.errorf(key, "auth.htpasswd has no path of a file of users; make one: regctl htpasswd add FILE USER")
	}
}

// checkTokenAuth wants what registry:2 wants of auth.token. A realm that is
// this host needs no name.
func (p *parser) checkTokenAuth(t *TokenAuth, key node) {
	missing := func(name, what string) {
		p.errorf(key, "auth.token has no %s: %s", name, what)
	}
	if u, err := url.Parse(t.Realm); t.Realm != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") && !t.AutoRedirect {
		p.errorf(p.at["auth.token.realm"], "auth.token.realm is not of the form https://HOST/PATH")
	}
	if t.Realm == "" && !t.AutoRedirect {
		missing("realm", "say where tokens are got, such as realm: https://auth.example.com/token")
	}
	if t.Service == "" {
		missing("service", "say what the token server calls this registry")
	}
	if t.Issuer == "" {
		missing("issuer", "say what the token server calls itself")
	}
	if t.RootCertBundle == "" && t.JWKS == "" {
		missing("rootcertbundle", "name a file with the certificate of the token server, or in jwks one with its keys")
	}
	if len(t.symmetric) > 0 {
		p.warnf(p.at["auth.token.signingalgorithms"], "auth.token.signingalgorithms: %s left out: who checks such a token can sign one as well", strings.Join(t.symmetric, ", "))
	}
	t.AutoRedirectPath = or(t.AutoRedirectPath, "/auth/token")
	if !strings.HasPrefix(t.AutoRedirectPath, "/") {
		p.errorf(p.at["auth.token.autoredirectpath"], "auth.token.autoredirectpath: %q does not begin with a slash", t.AutoRedirectPath)
	}
}

// checkLDAP wants a directory, a way to find users in it, and one way for each
// thing.
func (p *parser) checkLDAP(l *LDAP, key node) {
	if l.URL == "" {
		p.errorf(key, "auth.ldap has no url, such as url: ldaps://ldap.example.com")
	}
	switch {
	case l.UserDN == "" && l.UserBase == "":
		p.errorf(key, `auth.ldap says not where users are: userbase: "ou=people,dc=example,dc=com" to search them, or userdn: "uid=${user},ou=people,dc=example,dc=com"`)
	case l.UserDN != "" && l.UserBase != "":
		p.errorf(p.at["auth.ldap.userbase"], "auth.ldap has both userdn and userbase; leave one")
	}
	for _, pattern := range []struct{ name, v string }{{"userdn", l.UserDN}, {"userfilter", l.UserFilter}} {
		found := pattern.name == "userfilter" && l.UserDN != "" // By its name, and held against the filter.
		if pattern.v != "" && !found && !strings.Contains(pattern.v, "${user}") {
			p.errorf(p.at["auth.ldap."+pattern.name], "auth.ldap.%s has no ${user} in it: whoever logs in is the same one", pattern.name)
		}
	}
	if strings.Count(l.UserFilter, "=${user})") > 1 && l.UserName == "" {
		p.warnf(p.at["auth.ldap.userfilter"], "auth.ldap.userfilter compares more than one attribute with ${user}: a user has as many names, for rules and groups as well; say in username which one is the name")
	}
	p.checkBind(l, key)
	l.fill()
}

// checkBind wants one password, if there is somebody to give it.
func (p *parser) checkBind(l *LDAP, key node) {
	if l.BindPassword != "" && l.BindFile != "" {
		p.errorf(p.at["auth.ldap.bindfile"], "auth.ldap has both bindpassword and bindfile; leave one")
	}
	if l.BindDN != "" && l.BindPassword == "" && l.BindFile == "" {
		p.errorf(p.at["auth.ldap.binddn"], "auth.ldap.binddn is there without bindpassword or bindfile, and a directory lets anybody in who gives no password")
	}
	if l.BindDN == "" && (l.BindPassword != "" || l.BindFile != "") {
		p.errorf(key, "auth.ldap has a password, and no binddn")
	}
	if l.StartTLS && !strings.HasPrefix(l.URL, "ldap://") {
		p.errorf(p.at["auth.ldap.starttls"], "auth.ldap.starttls is for ldap://; %s is encrypted already, or on this machine", cutAt(l.URL, "://"))
	}
	if strings.HasPrefix(l.URL, "ldap://") && !l.StartTLS && !onThisMachine(l.URL) {
		p.warnf(p.at["auth.ldap.url"], "auth.ldap.url: without starttls: true or ldaps:// passwords cross the network for all to read")
	}
}

// fill sets what is not said.
func (l *LDAP) fill() {
	if l.UserDN == "" {
		if l.UserDN == "" {
			l.UserFilter = or(l.UserFilter, "(uid=${user})")
		}
	}
	l.GroupFilter = or(l.GroupFilter, "(|(member=${dn})(uniqueMember=${dn})(memberUid=${user}))")
	l.GroupName = or(l.GroupName, "cn")
	if l.GroupBase == "" {
		l.GroupOf = or(l.GroupOf, "memberOf")
	}
	l.Timeout = orElse(l.Timeout, 5*time.Second)
}

func cutAt(s, sep string) string {
	before, _, _ := strings.Cut(s, sep)
	return before + sep
}

func onThisMachine(s string) bool {
	u, err := url.Parse(s)
	return err == nil && slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname())
}

// checkNoAuth refuses a section with logins that is called otherwise: auth is
// misspelled, and the server would be open.
func (p *parser) checkNoAuth(root node) {
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, section := root.Content[i], follow(root.Content[i+1])
		if _, known := schema[key.Value]; !known && hasLogins(section, 0) {
			p.errorf(key, "%s: unknown key, with logins in it, and there is no auth; did you mean auth?", key.Value)
		}
	}
}

// checkNoAccess refuses rules under another name than access: of other servers,
// or misspelled, and nobody would be kept from anything.
func (p *parser) checkNoAccess(root node) {
	if key, _ := get(root, "access"); key != nil {
		return
	}
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, section := root.Content[i], follow(root.Content[i+1])
		if _, known := schema[key.Value]; known || section.Kind != yaml.SequenceNode {
			continue
		}
		for _, entry := range section.Content {
			entry = follow(entry)
			if entry.Kind != yaml.MappingNode {
				continue
			}
			if who, _ := get(entry, "who"); who != nil {
				p.errorf(key, "%s: unknown key, with rules in it, and there is no access; did you mean access?", key.Value)
				break
			}
			if match, _ := get(entry, "match"); match != nil {
				p.errorf(key, "%s: unknown key, with rules of docker_auth in it; make rules of them: regctl acl import FILE", key.Value)
				break
			}
		}
	}
}

// hasLogins tells whether there are logins in a section, however deep.
func hasLogins(n node, depth int) bool {
	if n.Kind != yaml.MappingNode || depth > maxDepth/4 {
		return false
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "htpasswd" || hasLogins(follow(n.Content[i+1]), depth+1) {
			return true
		}
	}
	return false
}

func (l *settings) auth() {
	a := l.c.Auth
	if h := a.Htpasswd; h != nil {
		l.add("auth.htpasswd.realm", h.Realm)
		l.add("auth.htpasswd.path", h.Path)
	}
	if t := a.Token; t != nil {
		l.add("auth.token.realm", hideURL(t.Realm))
		l.add("auth.token.service", t.Service)
		l.add("auth.token.issuer", t.Issuer)
		l.add("auth.token.rootcertbundle", t.RootCertBundle)
		l.add("auth.token.jwks", t.JWKS)
		l.add("auth.token.signingalgorithms", t.SigningAlgorithms)
		l.add("auth.token.autoredirect", t.AutoRedirect)
		l.add("auth.token.autoredirectpath", t.AutoRedirectPath)
	}
	if d := a.LDAP; d != nil {
		l.ldap(d)
	}
	if a.Htpasswd == nil && a.Token == nil && a.LDAP == nil {
		l.add("auth", "none")
		l.as("auth.none")
	}
}

func (l *settings) ldap(d *LDAP) {
	password := d.BindPassword
	if password != "" {
		password = Hidden
	}
	l.own("auth.ldap.url", hideURL(d.URL))
	l.own("auth.ldap.starttls", d.StartTLS)
	l.own("auth.ldap.ca", d.CA)
	l.own("auth.ldap.binddn", d.BindDN)
	l.own("auth.ldap.bindpassword", password)
	l.own("auth.ldap.bindfile", d.BindFile)
	l.own("auth.ldap.userdn", d.UserDN)
	l.own("auth.ldap.userbase", d.UserBase)
	l.own("auth.ldap.userfilter", d.UserFilter)
	l.own("auth.ldap.username", d.UserName)
	l.own("auth.ldap.groupbase", d.GroupBase)
	l.own("auth.ldap.groupfilter", d.GroupFilter)
	l.own("auth.ldap.groupname", d.GroupName)
	l.own("auth.ldap.groupof", d.GroupOf)
	l.own("auth.ldap.timeout", d.Timeout)
}
