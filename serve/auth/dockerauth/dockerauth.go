// Package dockerauth reads the configuration of docker_auth, a token server
// that registries had to have beside them, and says the same in the words of
// this registry: rules, groups and users. What cannot be said exactly is not
// guessed: it is left out, and named with its line.
package dockerauth

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/regctl/regctl/serve/auth"
	"github.com/regctl/regctl/serve/auth/rule"
)

// Options say what a configuration does not.
type Options struct {
	// Name is that of the file, for the places of rules.
	Name string

	// Service is auth.token.service of the registry, by which rules may match.
	// Empty: it is not known.
	Service string
}

// Result is what a configuration says.
type Result struct {
	Rules  []rule.Rule
	Groups []Group
	Users  []User
	LDAP   *LDAP  // Nil: it is not asked.
	Issuer string // May be empty.
	Notes  []Note
}

// Group is a group and its users.
type Group struct {
	Name  string
	Users []string
}

// User is one that can log in. Hash is of bcrypt.
type User struct{ Name, Hash string }

// LDAP is what auth.ldap is to say. See the section of that name in
// serve/config.
type LDAP struct {
	URL                                                          string
	StartTLS                                                     bool
	CA, BindDN, BindFile, UserDN, UserBase, UserFilter, GroupsOf string
}

// Note is about a line of the configuration.
type Note struct {
	Line int
	Text string

	// Inexact says that the Result is not what the line means.
	Inexact bool
}

// Exact tells whether the Result means what the configuration does.
func (r *Result) Exact() bool {
	return !slices.ContainsFunc(r.Notes, func(n Note) bool { return n.Inexact })
}

// importer is an import that goes on.
type importer struct {
	o   Options
	out *Result

	users     []user
	anonymous bool // Who has no name gets tokens, too.
	elsewhere bool // There are users that the file does not name, and their labels.
	prefixes  map[string]string

	made []made
}

// user is an entry of users.
type user struct {
	line   int
	name   string
	hash   string
	open   bool // Any password is taken.
	labels map[string][]string
}

// Import reads a configuration.
// Errors: one that docker_auth would not start with, with its line.
func Import(raw []byte, o Options) (*Result, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("no configuration of docker_auth: %w", err)
	}
	if len(doc.Content) == 0 || follow(doc.Content[0]).Kind != yaml.MappingNode {
		return nil, fmt.Errorf("no configuration of docker_auth: it is a YAML file with users and acl in it")
	}
	im := &importer{o: o, out: &Result{}, prefixes: map[string]string{}}
	root := follow(doc.Content[0])
	if get(root, "users") == nil && get(root, "acl") == nil && get(root, "token") == nil {
		return nil, fmt.Errorf("no configuration of docker_auth: there are neither users nor acl in it")
	}
	var acl *yaml.Node
	for key, value := range pairs(root) {
		if key.Value == "acl" {
			acl = value
			continue
		}
		if err := im.section(key, value); err != nil {
			return nil, err
		}
	}
	im.logins()
	if acl == nil {
		im.inexact(root.Line, "there is no acl, and so nobody may do anything")
	} else if err := im.rules(acl); err != nil {
		return nil, err
	}
	slices.SortStableFunc(im.out.Notes, func(a, b Note) int { return a.Line - b.Line })
	return im.out, nil
}

func (im *importer) note(line int, format string, args ...any) {
	im.out.Notes = append(im.out.Notes, Note{Line: line, Text: fmt.Sprintf(format, args...)})
}

func (im *importer) inexact(line int, format string, args ...any) {
	im.out.Notes = append(im.out.Notes, Note{line, fmt.Sprintf(format, args...), true})
}

// section reads all but the rules.
func (im *importer) section(key, value *yaml.Node) error {
	logins := map[string]string{
		"google_auth": "Google", "github_auth": "GitHub", "oidc_auth": "OpenID Connect", "gitlab_auth": "GitLab", "mongo_auth": "MongoDB",
		"xorm_auth": "an SQL database", "ext_auth": "a program", "plugin_authn": "a plugin",
	}
	rules := map[string]string{
		"acl_mongo": "in MongoDB", "acl_xorm": "in an SQL database", "casbin_authz": "of casbin", "ext_authz": "of a program", "plugin_authz": "of a plugin",
	}
	if follow(value).Tag == "!!null" {
		return nil
	}
	switch name := key.Value; {
	case name == "users":
		return im.readUsers(follow(value))
	case name == "token":
		im.out.Issuer = textOf(get(value, "issuer"))
	case name == "server":
		if at := get(value, "real_ip_header"); textOf(at) != "" {
			im.note(at.Line, "real_ip_header: addresses of callers are those of X-Forwarded-For, if the proxy is one of http.trustedproxies")
		}
	case name == "ldap_auth":
		im.elsewhere = true
		im.ldap(value)
	case logins[name] != "":
		im.elsewhere = true
		im.inexact(key.Line, "%s: logins by %s are not known here; users are in htpasswd or LDAP, and machines are robots: regctl token create", name, logins[name])
	case rules[name] != "":
		im.inexact(key.Line, "%s: rules %s cannot be read; what they allow is denied", name, rules[name])
	default:
		im.note(key.Line, "%s: no such section; docker_auth passes over it, too", name)
	}
	return nil
}

// readUsers reads the section users.
func (im *importer) readUsers(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: users is no mapping of names", n.Line)
	}
	for key, value := range pairs(n) {
		value = follow(value)
		if value.Tag == "!!null" {
			im.note(key.Line, "users: nobody can log in as %q, of whom nothing is said; {} would take any password", key.Value)
			continue
		}
		u := user{line: key.Line, name: key.Value, labels: map[string][]string{}}
		password := get(value, "password")
		u.hash, u.open = textOf(password), password == nil || follow(password).Tag == "!!null"
		if labels := get(value, "labels"); labels != nil {
			for label, values := range pairs(follow(labels)) {
				for _, v := range follow(values).Content {
					u.labels[label.Value] = append(u.labels[label.Value], follow(v).Value)
				}
			}
		}
		im.users = append(im.users, u)
	}
	return nil
}

// logins says who can log in.
func (im *importer) logins() {
	for _, u := range im.users {
		switch {
		case u.name == "":
			im.anonymous = im.anonymous || u.open
			if !u.open {
				im.inexact(u.line, "users: who has no name needs a password there; here it is whoever has not logged in, and so nobody")
			}
		case u.open:
			im.inexact(u.line, "users: %s has no password, and any is taken there; give it one: regctl htpasswd add FILE %s", u.name, u.name)
		case auth.CheckUser(u.name) != nil:
			im.inexact(u.line, "users: %v", auth.CheckUser(u.name))
		case !isBcrypt(u.hash):
			im.note(u.line, "users: the password of %s is not of bcrypt, and lets nobody in there; nor is it taken over", u.name)
		default:
			im.out.Users = append(im.out.Users, User{u.name, u.hash})
		}
	}
}

func isBcrypt(hash string) bool {
	f, err := auth.Parse([]byte("u:" + hash))
	return err == nil && !strings.ContainsAny(hash, "\r\n") && len(f.Users()) == 1 && f.Users()[0].Kind == auth.Bcrypt
}

// ldap says what auth.ldap is to be.
func (im *importer) ldap(n *yaml.Node) {
	says := func(key string) string { return textOf(get(n, key)) }
	l := &LDAP{
		CA: says("ca_certificate"), BindDN: says("bind_dn"), BindFile: says("bind_password_file"), UserBase: says("base"),
		UserFilter: strings.ReplaceAll(says("filter"), "${account}", "${user}"),
	}
	switch tls := says("tls"); {
	case tls == "always", tls == "" && strings.HasSuffix(says("addr"), ":636"):
		l.URL = "ldaps://" + says("addr")
	case tls == "starttls":
		l.URL, l.StartTLS = "ldap://"+says("addr"), true
	default:
		l.URL = "ldap://" + says("addr")
	}
	if at := get(n, "insecure_tls_skip_verify"); textOf(at) == "true" {
		im.inexact(at.Line, "ldap_auth: certificates are always checked here; name the authority in auth.ldap.ca")
	}
	if at := get(n, "initial_bind_as_user"); textOf(at) == "true" {
		// Who binds with the DN must be whom the filter finds.
		dn := strings.ReplaceAll(l.BindDN, "${account}", "${user}")
		if !strings.Contains(dn, "=${user},") || !strings.HasSuffix(strings.ToLower(dn), strings.ToLower(","+l.UserBase)) {
			im.inexact(at.Line, "ldap_auth: left out, as users with the bind_dn %s are not all under the base %q; if they may all log in, write auth.ldap: {url: %q, userdn: %q}", l.BindDN, l.UserBase, l.URL, dn)
			return
		}
		l.UserDN, l.BindDN, l.BindFile, l.UserBase = dn, "", "", ""
	}
	if labels := get(n, "labels"); labels != nil {
		im.ldapLabels(l, follow(labels))
	}
	im.out.LDAP = l
}

// ldapLabels makes groups of the one label that can be some.
func (im *importer) ldapLabels(l *LDAP, labels *yaml.Node) {
	for label, how := range pairs(labels) {
		switch attribute := textOf(get(how, "attribute")); {
		case textOf(get(how, "parse_cn")) != "true" || l.GroupsOf != "" || textOf(get(how, "lower_case")) == "true":
			im.inexact(label.Line, "ldap_auth: the label %s is the attribute %s as it is; here users have groups, of whose DN the first part counts", label.Value, attribute)
		default:
			l.GroupsOf = attribute
			im.prefixes[label.Value] = "" // Its values are names of groups.
		}
	}
}
