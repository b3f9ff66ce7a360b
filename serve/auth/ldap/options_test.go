package ldap

import (
	"path/filepath"
	"strings"
	"testing"

	goldap "github.com/go-ldap/ldap/v3"
)

// TestOpenRefuses: options that make no sense, by what is said about them.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty, damaged := filepath.Join(dir, "empty"), filepath.Join(dir, "damaged")
	write(t, empty, "\n")
	write(t, damaged, "no certificate")
	for want, change := range map[string]func(*Options){
		"begins with ldap://":             func(o *Options) { o.URL = "http://ldap.example.com" },
		"it is a scheme, a host":          func(o *Options) { o.URL = "ldap://" },
		"a host and perhaps a port":       func(o *Options) { o.URL = "ldap://cn=x:hunter2@ldap.example.com" },
		"perhaps a port, as in":           func(o *Options) { o.URL = "ldap://ldap.example.com/dc=example?uid" },
		"with ldaps there is TLS":         func(o *Options) { o.StartTLS = true },
		"without starttls":                func(o *Options) { o.URL, o.StartTLS = "ldapi:///run/ldapi", true },
		"but no TLS":                      func(o *Options) { o.URL, o.CA = "ldap://ldap.example.com", damaged },
		"holds no certificate":            func(o *Options) { o.CA = damaged },
		"read ca":                         func(o *Options) { o.CA = filepath.Join(dir, "nowhere") },
		"but no binddn":                   func(o *Options) { o.BindPassword = "hunter2" },
		"not both":                        func(o *Options) { o.BindDN, o.BindPassword, o.BindFile = admin, "hunter2", empty },
		"binddn has no password":          func(o *Options) { o.BindDN = admin },
		"holds no password":               func(o *Options) { o.BindDN, o.BindFile = admin, empty },
		"read bindfile":                   func(o *Options) { o.BindDN, o.BindFile = admin, filepath.Join(dir, "nowhere") },
		"nothing says where users are":    func(o *Options) { o.UserBase = "" },
		"or userdn, not both":             func(o *Options) { o.UserDN = "uid=${user}," + base },
		"does not contain ${user}":        func(o *Options) { o.UserBase, o.UserDN = "", "uid=user,"+base },
		"userdn \"${user}\" is no DN":     func(o *Options) { o.UserBase, o.UserDN = "", "${user}" },
		"userbase \"people\" is no DN":    func(o *Options) { o.UserBase = "people" },
		"userfilter \"(uid=alice)\" does": func(o *Options) { o.UserFilter = "(uid=alice)" },
		"is no filter":                    func(o *Options) { o.UserFilter = "(uid=${user}" },
		"no other variable":               func(o *Options) { o.UserFilter = "(&(uid=${user})(o=${org}))" },
		"set username":                    func(o *Options) { o.UserFilter = "(mail=${user}@example.com)" },
		"groupfilter is of no use":        func(o *Options) { o.GroupFilter = "(member=${dn}x)" },
		"groupbase \"groups\" is no DN":   func(o *Options) { o.GroupBase = "groups" },
		"neither ${dn} nor ${user}":       func(o *Options) { o.GroupBase, o.GroupFilter = base, "(cn=all)" },
		"groupfilter: \"(member=${dn}\"":  func(o *Options) { o.GroupBase, o.GroupFilter = base, "(member=${dn}" },
	} {
		o := Options{URL: "ldaps://ldap.example.com", UserBase: base}
		change(&o)
		_, err := Open(o)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a password is told: %v", err)
		}
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"ldap://ldap.example.com":        "ldap.example.com:389 false",
		"ldap://ldap.example.com:1389/":  "ldap.example.com:1389 false",
		"LDAPS://ldap.example.com":       "ldap.example.com:636 true",
		"ldaps://[2001:db8::1]:1636":     "[2001:db8::1]:1636 true",
		"ldap://127.0.0.1":               "127.0.0.1:389 false",
		"ldap://localhost":               "localhost:389 false",
		"ldapi:///run/slapd/ldapi":       "/run/slapd/ldapi false",
		"ldapi://%2Frun%2Fslapd%2Fldapi": "/run/slapd/ldapi false",
		"ldapi:///":                      "/var/run/slapd/ldapi false",
		"ldapi://":                       "/var/run/slapd/ldapi false",
	} {
		var l link
		if err := l.parse(raw); err != nil {
			t.Errorf("%s: %v", raw, err)
			continue
		}
		if got := strings.Join([]string{l.addr, yes(l.secure)}, " "); got != want {
			t.Errorf("%s is %s, want %s", raw, got, want)
		}
	}
}

func yes(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"alice": true, "alice smith": true, "änne": true, "a@b.c": true, "a,b": true,
		"": false, " alice": false, "alice ": false, "a\nb": false, "a\x00": false, "robot:ci": false, "a/b": false,
		"a\u202eb": false, "\xff": false, strings.Repeat("x", longestName+1): false,
	} {
		if isName(name) != want {
			t.Errorf("%q is a name: %v, want %v", name, !want, want)
		}
	}
}

// FuzzTemplates: whatever is typed is one value of the filter and of the DN.
func FuzzTemplates(f *testing.F) {
	for _, s := range []string{"alice", "*", "a)(uid=*", `\2a`, "a,ou=b", "#616c", " a ", "a+b=c", `a"b`, "a\x00b", "${dn}", "ü", "\xff", `a\`, "a;b<c>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, typed string) {
		p, err := goldap.CompileFilter(template("(&(objectClass=person)(uid=${user}))").asFilter(typed, ""))
		if err != nil {
			t.Fatalf("%q makes no filter: %v", typed, err)
		}
		if len(p.Children) != 2 || len(p.Children[1].Children) != 2 || p.Children[1].Tag != goldap.FilterEqualityMatch || p.Children[1].Children[1].Data.String() != typed {
			t.Errorf("%q becomes another filter", typed)
		}
		if !isName(typed) {
			return // Nobody asks for it.
		}
		dn, err := goldap.ParseDN(template("uid=${user},ou=people," + base).asDN(typed))
		if err != nil {
			t.Fatalf("%q makes no DN: %v", typed, err)
		}
		if len(dn.RDNs) != 4 || len(dn.RDNs[0].Attributes) != 1 || dn.RDNs[0].Attributes[0].Value != typed {
			t.Errorf("%q becomes %q", typed, dn)
		}
	})
}

// TestGroupNames: the names of groups are in their DNs.
func TestGroupNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, base, dn, want string }{
		{"cn", "", "cn=php,ou=groups,dc=example,dc=com", "php"},
		{"cn", "", `CN=a\, b,DC=example`, "a, b"},
		{"cn", "", "ou=team,dc=example", "team"},
		{"ou", "", "cn=php+ou=web,dc=example", "web"},
		{"cn", base, "cn=php,ou=Groups,DC=Example,dc=com", "php"},
		{"cn", base, "cn=php,dc=elsewhere,dc=com", ""},
		{"cn", base, base, ""},
		{"cn", "", "php", ""},
		{"cn", "", "", ""},
	} {
		d := &Directory{groups: groups{groupName: c.name}}
		if c.base != "" {
			d.under, _ = goldap.ParseDN(c.base)
		}
		if got := strings.Join(d.named([]string{c.dn}), "|"); got != c.want {
			t.Errorf("%s is %q, want %q", c.dn, got, c.want)
		}
	}
}
