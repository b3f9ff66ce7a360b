package dockerauth_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/regctl/regctl/serve/auth/dockerauth"
	"github.com/regctl/regctl/serve/auth/rule"
	"github.com/regctl/regctl/serve/config"
)

func load(t *testing.T, name string) *dockerauth.Result {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name+".yml"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := dockerauth.Import(raw, dockerauth.Options{Name: name + ".yml"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// subject is who the name in a recording is by our configuration.
func subject(t *testing.T, r *dockerauth.Result, name, addr string) rule.Subject {
	t.Helper()
	s := rule.Subject{Addr: netip.MustParseAddr(addr)}
	if name == "-" {
		return s
	}
	s.Kind, s.Name = rule.User, name
	for _, g := range r.Groups {
		if slices.Contains(g.Users, name) {
			s.Groups = append(s.Groups, g.Name)
		}
	}
	return s
}

// The answers were given by a docker_auth with the same configuration, to
// random questions.
func TestAnswersAsDockerAuth(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"reference", "labels", "article", "odd"} {
		r := load(t, name)
		policy, err := rule.Compile(r.Rules)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		raw, err := os.ReadFile(filepath.Join("testdata", name+".tsv"))
		if err != nil {
			t.Fatal(err)
		}
		asked, allowed := 0, 0
		for line := range strings.Lines(string(raw)) {
			f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
			if len(f) != 6 {
				continue
			}
			who, repo, action := subject(t, r, f[0], f[1]), f[3], rule.List
			if f[2] == "registry" {
				repo = "any/repository"
			} else if a, ok := rule.ParseAction(f[4]); ok {
				action = a
			}
			d := policy.Decide(who, repo, "", action)
			if asked++; d.Allowed {
				allowed++
			}
			if want := f[5] == "yes"; d.Allowed != want {
				t.Errorf("%s: %s answers %v: %s", name, strings.Join(f, " "), d.Allowed, d.Reason)
			}
			if action == rule.Push {
				if over := policy.Decide(who, repo, "latest", rule.Overwrite); over.Allowed != d.Allowed {
					t.Errorf("%s: %s: push %v, overwrite %v", name, strings.Join(f, " "), d.Allowed, over.Allowed)
				}
			}
		}
		if least := map[string]int{"article": 200}[name]; asked < max(least, 200) || name != "article" && asked < 1000 || allowed == 0 || allowed == asked {
			t.Errorf("%s: %d questions, %d allowed", name, asked, allowed)
		}
	}
}

// What is written means what was read.
func TestConfig(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"reference", "labels", "article", "odd"} {
		r := load(t, name)
		text, err := r.Config("/auth/htpasswd")
		if err != nil {
			t.Fatal(err)
		}
		c, _, err := config.Parse("config.yml", append([]byte("version: 0.1\nstorage: {inmemory: {}}\n"), text...), nil)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		if len(c.Access.Rules) != len(r.Rules) || len(c.Groups) != len(r.Groups) {
			t.Fatalf("%s: %d rules and %d groups of %d and %d", name, len(c.Access.Rules), len(c.Groups), len(r.Rules), len(r.Groups))
		}
		for i, got := range c.Access.Rules {
			want := r.Rules[i]
			got.Where, want.Where = "", ""
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
		for _, g := range r.Groups {
			if !slices.Equal(c.Groups[g.Name], g.Users) {
				t.Errorf("%s: %s has %v", name, g.Name, c.Groups[g.Name])
			}
		}
	}
}

// line is an entry of a random configuration, as docker_auth takes it.
type line struct {
	account, typ, name, ip string // "-": nothing is said.
	label, value           string
	actions                []string
}

func (e *line) yaml() string {
	var match []string
	for _, field := range [][2]string{{"account", e.account}, {"type", e.typ}, {"name", e.name}, {"ip", e.ip}} {
		if field[1] != "-" {
			match = append(match, fmt.Sprintf("%s: %q", field[0], field[1]))
		}
	}
	if e.label != "-" {
		match = append(match, fmt.Sprintf("labels: {%s: %q}", e.label, e.value))
	}
	return fmt.Sprintf("  - {match: {%s}, actions: [%s]}\n", strings.Join(match, ", "), strings.ReplaceAll(strings.Join(e.actions, ", "), "*", `"*"`))
}

// naively is whether docker_auth would match.
func naively(p, account, captured, s string) bool {
	if p == "-" {
		return true
	}
	p = strings.ReplaceAll(strings.ReplaceAll(p, "${account}", regexp.QuoteMeta(account)), "${account:1}", captured)
	if len(p) > 2 && p[0] == '/' && p[len(p)-1] == '/' {
		return regexp.MustCompile(p[1 : len(p)-1]).MatchString(s)
	}
	ok, err := path.Match(p, s)
	return ok && err == nil
}

func (e *line) matches(account, typ, name, addr string, labels map[string][]string) bool {
	captured := "${account:1}"
	if len(e.account) > 2 && e.account[0] == '/' {
		if found := regexp.MustCompile(strings.Trim(e.account, "/")).FindStringSubmatch(account); len(found) > 1 {
			captured = found[1]
		}
	}
	if e.label != "-" && !slices.ContainsFunc(labels[e.label], func(v string) bool { return naively(e.value, account, captured, v) }) {
		return false
	}
	if e.ip != "-" && !netip.MustParsePrefix(e.ip).Contains(netip.MustParseAddr(addr)) {
		return false
	}
	names := []string{e.name}
	for _, v := range labels["group"] {
		names = append(names, strings.ReplaceAll(e.name, "${labels:group}", v))
	}
	return naively(e.account, account, captured, account) && naively(e.typ, account, captured, typ) &&
		slices.ContainsFunc(names, func(p string) bool { return naively(p, account, captured, name) })
}

func (e *line) allows(action string) bool {
	return len(e.actions) == 1 && e.actions[0] == "*" || slices.Contains(e.actions, action)
}

func randomLine(r *rand.Rand, pick func(...string) string) *line {
	return &line{
		account: pick("-", "-", "", "amy", "*", "b*", "*-?", "/.+/", "/^(.+)-[0-9]$/", "/b|c/", "/(.)@/", "[a-c]*", `ca\\t.x`, "/^(a|d).*$/"),
		typ:     pick("-", "-", "-", "repository", "registry", "re*"),
		name: pick("-", "*", "web/*", "${account}/*", "${account:1}/*", "*/app", "/^(web|dev)/", "/app$/", "${labels:group}/*", "/^${account}/", "w?b/*", "[^a]*/app", "/a|^dev/",
			"/./", "catalog", "/^web/app$/", "dev/[a-b]pp", "nobody/${account:2}", "**/app", "x${account}"),
		ip: pick("-", "-", "-", "10.0.0.0/8"), label: pick("-", "-", "-", "group", "title"), value: pick("web", "dev", "*", "/e/", "?eb", "Chief"),
		actions: [][]string{{"*"}, {"pull"}, {"pull", "push"}, {}, {"push", "delete"}, {"pull", "*"}}[r.IntN(6)],
	}
}

// Random lists are decided as a second, plain reading of docker_auth's rules
// decides them.
func TestRandomLists(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	labels := map[string]map[string][]string{"": nil, "amy": nil, "bob-1": {"group": {"web"}}, "cat.x": {"group": {"web", "dev"}, "title": {"Chief", "dev"}}, "d@e": {"title": {"web"}}}
	users := "users:\n"
	for name, of := range labels {
		users += fmt.Sprintf("  %q: {labels: {", name)
		for label, values := range of {
			users += fmt.Sprintf("%s: [%s], ", label, strings.Join(values, ", "))
		}
		users += "}}\n"
	}
	allowed, asked, said := 0, 0, 0
	for range 200 {
		var list []*line
		text := users + "acl:\n"
		for range 1 + r.IntN(6) {
			e := randomLine(r, pick)
			list = append(list, e)
			text += e.yaml()
		}
		result, err := dockerauth.Import([]byte(text), dockerauth.Options{})
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		policy, err := rule.Compile(result.Rules)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if slices.ContainsFunc(result.Notes, func(n dockerauth.Note) bool { return n.Inexact && strings.HasPrefix(n.Text, "acl:") }) {
			said++ // A group of the account beside a label, which rules cannot say.
			continue
		}
		for range 100 {
			name, addr := pick("", "amy", "bob-1", "cat.x", "d@e"), pick("10.1.2.3", "192.168.1.1")
			typ, repo := "repository", pick("web/app", "web", "dev/app", "dev/app/x", "amy/app", "bob/x", "bob-1/y", "cat.x/app", "d/x", "catalog", "xamy", "x", "a")
			action, ours := pick("pull", "push", "delete"), repo
			asks, _ := rule.ParseAction(action)
			if r.IntN(6) == 0 {
				typ, repo, action, asks = "registry", "catalog", "*", rule.List
			}
			want := false
			for _, e := range list {
				if e.matches(name, typ, repo, addr, labels[name]) {
					want = e.allows(action)
					break
				}
			}
			if name == "" {
				name = "-"
			}
			got := policy.Decide(subject(t, result, name, addr), ours, "", asks)
			if asked++; got.Allowed {
				allowed++
			}
			if got.Allowed != want {
				t.Fatalf("%s from %s, %s %s %s: %v by %q, want %v\n%s\n%v\n%v", name, addr, typ, repo, action, got.Allowed, got.Reason, want, text, result.Rules, result.Notes)
			}
		}
	}
	if said > 20 {
		t.Errorf("%d lists of 200 cannot be said", said)
	}
	if allowed < asked/20 || allowed > asked*19/20 {
		t.Errorf("%d of %d allowed: the lists are not what they should be", allowed, asked)
	}
}

// What cannot be said is named, with its line.
func TestNotes(t *testing.T) {
	t.Parallel()
	const anybody = "users: {\"\": {}, amy: {password: \"$2y$05$LO.vzwpWC5LZGqThvEfznu8qhb5SGqvBSWY1J3yZ4AxtMRZ3kN5jC\"}}\n"
	tests := map[string]struct {
		text  string
		line  int
		part  string
		exact bool
	}{
		"google":          {anybody + "google_auth: {domain: x}\nacl: [{match: {}, actions: [pull]}]\n", 2, "google_auth: logins by Google", false},
		"a program":       {anybody + "ext_auth: {command: x}\nacl: [{match: {}, actions: [pull]}]\n", 2, "ext_auth", false},
		"mongo":           {anybody + "acl: [{match: {}, actions: [pull]}]\nacl_mongo: {cache_ttl: 1m}\n", 3, "acl_mongo: rules in MongoDB", false},
		"no rules":        {anybody, 1, "no acl", false},
		"empty rules":     {anybody + "acl: []\n", 2, "acl is empty", false},
		"a service":       {anybody + "acl:\n  - match: {service: x}\n    actions: [pull]\n", 3, "--service", false},
		"a variable":      {anybody + "acl:\n  - match: {name: \"${service}/*\"}\n    actions: [pull]\n", 3, "${service}", false},
		"an account":      {anybody + "acl:\n  - match: {account: \"${name:1}\"}\n    actions: [pull]\n", 3, "has a variable", false},
		"no password":     {"users:\n  amy: {}\nacl: [{match: {}, actions: [pull]}]\n", 2, "amy has no password", false},
		"anonymous login": {"users:\n  \"\": {password: x}\nacl: [{match: {}, actions: [pull]}]\n", 2, "no name needs a password", false},
		"a broken hash":   {"users:\n  amy: {password: secret}\nacl: [{match: {}, actions: [pull]}]\n", 2, "not of bcrypt", true},
		"null":            {"users:\n  amy:\nacl: [{match: {}, actions: [pull]}]\n", 2, "nobody can log in", true},
		"unknown":         {anybody + "colour: red\nacl: [{match: {}, actions: [pull]}]\n", 2, "no such section", true},
		"unknown match":   {anybody + "acl:\n  - match: {nmae: x}\n    actions: [pull]\n", 3, "no nmae in match", true},
		"never":           {anybody + "acl:\n  - match: {name: \"Foo/*\"}\n    actions: [pull]\n", 3, "no repository can be called", true},
		"a proxy":         {anybody + "server:\n  real_ip_header: X-Real-IP\nacl: [{match: {}, actions: [pull]}]\n", 3, "trustedproxies", true},
		"labels unknown":  {anybody + "ext_auth: {}\nacl:\n  - match: {labels: {group: web}}\n    actions: [pull]\n", 4, "the label group", false},
		"a title of LDAP": {anybody + "ldap_auth:\n  addr: x:1\n  labels: {title: {attribute: title}}\nacl: [{match: {}, actions: [pull]}]\n", 4, "the label title", false},
		"LDAP unchecked":  {anybody + "ldap_auth:\n  addr: x:1\n  insecure_tls_skip_verify: true\nacl: [{match: {}, actions: [pull]}]\n", 4, "auth.ldap.ca", false},
	}
	for name, test := range tests {
		r, err := dockerauth.Import([]byte(test.text), dockerauth.Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !slices.ContainsFunc(r.Notes, func(n dockerauth.Note) bool { return n.Line == test.line && strings.Contains(n.Text, test.part) }) || r.Exact() != test.exact {
			t.Errorf("%s: exact %v, %v", name, r.Exact(), r.Notes)
		}
		for _, n := range r.Notes {
			if strings.Contains(n.Text, "secret") {
				t.Errorf("%s: a password is told: %s", name, n.Text)
			}
		}
	}
}

func TestImportFaults(t *testing.T) {
	t.Parallel()
	for text, part := range map[string]string{
		"":                          "no configuration",
		"- x":                       "no configuration",
		"a: [":                      "no configuration",
		"users: 7":                  "line 1: users",
		"acl:\n  - actions: [pull]": "line 2: acl entry 1: there is no match",
		"acl:\n  - match: {}":       "line 2: acl entry 1: there are no actions",
		"acl:\n  - {match: {}, actions: []}\n  - {match: {name: \"/(/\"}, actions: []}": "line 3: acl entry 2",
		"acl:\n  - {match: {labels: {x: \"/(/\"}}, actions: []}":                        "line 2: acl entry 1",
	} {
		if _, err := dockerauth.Import([]byte(text), dockerauth.Options{}); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q: %v, want %s", text, err, part)
		}
	}
}

// Robots, which docker_auth does not know, are bound by what an entry denies,
// not by what it does not say.
func TestRobots(t *testing.T) {
	t.Parallel()
	r, err := dockerauth.Import([]byte(`users: {}
acl:
  - {match: {name: "closed/*"}, actions: []}
  - {match: {account: "/.+/"}, actions: [pull]}
  - {match: {account: amy}, actions: ["*"]}
`), dockerauth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	policy, err := rule.Compile(r.Rules)
	if err != nil {
		t.Fatal(err)
	}
	robot, amy := rule.Subject{Kind: rule.Robot, Name: "ci"}, rule.Subject{Kind: rule.User, Name: "amy"}
	for repo, want := range map[string]bool{"app/x": true, "closed/x": false} {
		if d := policy.Decide(robot, repo, "", rule.Push); (d.Rule == 0) != want {
			t.Errorf("a robot pushes to %s: %+v", repo, d)
		}
	}
	if policy.Decide(amy, "app/x", "", rule.Push).Allowed {
		t.Error("the first entry does not decide about amy")
	}
}

// Entries may take over from each other, as YAML has it.
func TestMerges(t *testing.T) {
	t.Parallel()
	r, err := dockerauth.Import([]byte(`users: {"": {}}
acl:
  - &one {match: &m {account: "", name: "a/*"}, actions: [pull]}
  - {<<: *one, actions: [push]}
  - match: {<<: [*m], name: "b/*", name: "c/*"}
    actions: [delete]
  - match: &self {<<: *self, name: "d/*"}
    actions: [pull]
`), dockerauth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, one := range r.Rules {
		got = append(got, fmt.Sprint(one.Who, one.What, one.May))
	}
	if want := []string{"[anonymous] [a/*] [pull]", "[anonymous] [a/*] [push]", "[anonymous] [c/*] [delete]", "[everyone] [d/*] [pull]"}; !slices.Equal(slices.DeleteFunc(got, func(s string) bool { return strings.HasSuffix(s, "[]") }), want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestService(t *testing.T) {
	t.Parallel()
	text := "users: {\"\": {}}\nacl:\n  - {match: {service: \"Docker *\"}, actions: [pull]}\n  - {match: {service: other}, actions: [push]}\n"
	r, err := dockerauth.Import([]byte(text), dockerauth.Options{Service: "Docker registry"})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Exact() || len(r.Rules) != 1 || r.Rules[0].May[0] != "pull" {
		t.Errorf("%v %v", r.Rules, r.Notes)
	}
}

// Of LDAP the configuration says the same; groups are those of LDAP.
func TestLDAP(t *testing.T) {
	t.Parallel()
	r, err := dockerauth.Import([]byte(`
users: {}
ldap_auth:
  addr: ldap.example.com:636
  tls: always
  bind_dn: cn=reader,o=example.com
  bind_password_file: /run/secrets/ldap
  base: o=example.com
  filter: (&(uid=${account})(objectClass=person))
  labels: {groups: {attribute: memberOf, parse_cn: true}}
acl:
  - {match: {labels: {groups: "Admin"}}, actions: ["*"]}
  - {match: {labels: {groups: "/^team-/"}}, actions: ["pull"]}
`), dockerauth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := r.Config("")
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := config.Parse("config.yml", append([]byte("version: 0.1\nstorage: {inmemory: {}}\n"), text...), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	l := c.Auth.LDAP
	if !r.Exact() || l == nil || l.URL != "ldaps://ldap.example.com:636" || l.UserFilter != "(&(uid=${user})(objectClass=person))" || l.GroupOf != "memberOf" || l.BindFile != "/run/secrets/ldap" {
		t.Errorf("%+v\n%s\n%v", l, text, r.Notes)
	}
	if len(r.Rules) != 2 || r.Rules[0].Who[0] != "group:Admin" || r.Rules[1].Who[0] != "group:/team-.*/" {
		t.Errorf("%v", r.Rules)
	}
}

// Where users search with a DN of their own, they do so here; and the port of LDAPS
// means TLS.
func TestLDAPOfTheUserItself(t *testing.T) {
	t.Parallel()
	file := func(base, more string) *dockerauth.Result {
		r, err := dockerauth.Import([]byte(`
ldap_auth:
  addr: ldap.example.com:636
  base: `+base+`
  filter: (&(uid=${account})(objectClass=person))
`+more+`acl: [{match: {account: "/.+/"}, actions: ["*"]}]
`), dockerauth.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := file("o=x", ""); !r.Exact() || r.LDAP == nil || r.LDAP.URL != "ldaps://ldap.example.com:636" {
		t.Errorf("%+v %v", r.LDAP, r.Notes)
	}
	const itself = "  initial_bind_as_user: true\n  bind_dn: \"uid=${account},ou=people,dc=example,dc=com\"\n"
	r := file("dc=example,dc=com", itself)
	text, err := r.Config("")
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := config.Parse("config.yml", append([]byte("version: 0.1\nstorage: {inmemory: {}}\n"), text...), nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	l := c.Auth.LDAP
	if !r.Exact() || l.UserDN != "uid=${user},ou=people,dc=example,dc=com" || l.UserFilter != "(&(uid=${user})(objectClass=person))" || l.BindDN+l.UserBase != "" {
		t.Errorf("%+v %v", l, r.Notes)
	}
	for base, more := range map[string]string{"o=elsewhere": itself, "dc=example,dc=com": "  initial_bind_as_user: true\n  bind_dn: 'EXAMPLE\\${account}'\n"} {
		r := file(base, more)
		if r.Exact() || r.LDAP != nil || len(r.Notes) != 1 || r.Notes[0].Line != 6 || !strings.Contains(r.Notes[0].Text, "ldap_auth: left out") {
			t.Errorf("%+v %v", r.LDAP, r.Notes)
		}
	}
}

func FuzzImport(f *testing.F) {
	for _, name := range []string{"reference", "odd"} {
		raw, err := os.ReadFile(filepath.Join("testdata", name+".yml"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := dockerauth.Import(raw, dockerauth.Options{Name: "x"})
		if err != nil {
			return
		}
		if _, err := rule.Compile(r.Rules); err != nil {
			t.Errorf("rules that are none: %v", err)
		}
		if _, err := r.Config("x"); err != nil {
			t.Error(err)
		}
	})
}
