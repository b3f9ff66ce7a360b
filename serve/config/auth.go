package config

import "go.yaml.in/yaml/v3"

const noLogin = "the server does not start without its authentication"

func authSection() field {
	return field{strict: "no such authentication", fields: section{
		"none":  {open: true, set: func(*Config, node) error { return nil }},
		"silly": {state: refused, bare: true, open: true, note: noLogin},
		"token": {state: refused, bare: true, open: true, note: noLogin},
		"htpasswd": {bare: true, strict: "no such key", fields: section{
			"realm": {set: setString(func(c *Config) *string { return &c.htpasswd().Realm }), bare: true},
			"path":  {set: setString(func(c *Config) *string { return &c.htpasswd().Path })},
		}},
	}}
}

// htpasswd is the section auth.htpasswd, which is there from now on.
func (c *Config) htpasswd() *Htpasswd {
	if c.Auth.Htpasswd == nil {
		c.Auth.Htpasswd = &Htpasswd{}
	}
	return c.Auth.Htpasswd
}

// checkAuth wants one kind of login, and all of it.
func (p *parser) checkAuth(c *Config, root node) {
	_, auth := get(root, "auth")
	if auth == nil {
		p.checkNoAuth(root)
		return
	}
	if len(auth.Content) > 2 {
		p.errorf(auth.Content[2], "auth has two kinds, %s and %s; leave one", auth.Content[0].Value, auth.Content[2].Value)
	}
	key := p.at["auth.htpasswd"]
	if key == nil {
		return
	}
	c.htpasswd()
	if p.at["auth.htpasswd.realm"] == nil {
		p.errorf(key, "auth.htpasswd has no realm: say what a login is for, such as realm: Registry")
	}
	if c.Auth.Htpasswd.Path == "" {
		p.errorf(key, "auth.htpasswd has no path of a file of users; make one: regctl htpasswd add FILE USER")
	}
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
