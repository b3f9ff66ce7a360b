package config_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/regctl/regctl/serve/config"
)

// teams is the policy of a company with two teams, as it is written down.
const teams = `
auth: {htpasswd: {realm: r, path: /p}}
access:
  - {who: group:php,  what: php/**,  may: [pull], because: php people pull php images only}
  - {who: group:java, what: java/**, may: [pull, push, list]}
  - {who: user:admin, what: "**",    may: all}
groups:
  php: [alice, user:bob]
  java: [carol, "robot:ci"]
`

func TestRules(t *testing.T) {
	t.Parallel()
	c := mustParse(t, teams)
	var got []string
	for _, s := range c.Settings() {
		if strings.HasPrefix(s.Key, "access") || strings.HasPrefix(s.Key, "groups") {
			got = append(got, s.Key+": "+s.Value+" # "+s.From)
		}
	}
	want := []string{
		"access.0: {who: [group:php], what: [php/**], may: [pull], because: php people pull php images only} # config.yml:4",
		"access.1: {who: [group:java], what: [java/**], may: [pull, push, list]} # config.yml:5",
		`access.2: {who: [user:admin], what: ["**"], may: [all]} # config.yml:6`,
		"groups.java: [carol, robot:ci] # config.yml:9",
		"groups.php: [alice, bob] # config.yml:8",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if r := c.Access.Rules; len(r) != 3 || !c.Access.On || c.Access.Preset != "" || r[2].Where != "config.yml:6" || r[0].Because != "php people pull php images only" {
		t.Errorf("%+v", c.Access)
	}
	if lint := c.Lint(); len(lint) > 0 {
		t.Errorf("complains of it: %v", lint)
	}
}

func TestPresets(t *testing.T) {
	t.Parallel()
	tests := []struct{ file, environ, want string }{
		{"access: public-pull", "", "public-pull config.yml:1"},
		{"", "REGISTRY_ACCESS=public-pull", "public-pull $REGISTRY_ACCESS"},
		{teams, "REGISTRY_ACCESS=private", "private $REGISTRY_ACCESS"},
		{"access: private", "REGISTRY_ACCESS=open", "open $REGISTRY_ACCESS"},
		{"", "REGISTRY_ACCESS=", ""},
		{"", "REGISTRY_ACCESS_0_WHO=all\nREGISTRY_ACCESS_0_WHAT=**\nREGISTRY_ACCESS_0_MAY=[pull, list]", ""},
	}
	for _, tt := range tests {
		var file []byte
		if tt.file != "" {
			file = []byte(tt.file)
		}
		c, _, err := config.Parse("config.yml", file, strings.Split(tt.environ, "\n"))
		if err != nil {
			t.Errorf("%s, %s: %v", tt.file, tt.environ, err)
			continue
		}
		if got := strings.TrimSpace(c.Access.Preset + " " + c.Said("access")); got != tt.want && (tt.want != "" || c.Access.Preset != "") {
			t.Errorf("%s, %s: %q, not %q", tt.file, tt.environ, got, tt.want)
		}
		if on := tt.environ != "REGISTRY_ACCESS="; c.Access.On != on {
			t.Errorf("%s, %s: on is %v", tt.file, tt.environ, c.Access.On)
		}
	}
}

// TestAccessRefused are those that a server does not start with: it would be
// more open than was meant, or closed to all.
func TestAccessRefused(t *testing.T) {
	t.Parallel()
	const ok = "{who: all, what: '**', may: [pull]}"
	tests := []struct{ file, environ, want string }{
		{"access: publicpull", "", `config.yml:1: access: "publicpull" is none of open, public-pull, private; did you mean public-pull?`},
		{"access:", "", "config.yml:1: access is empty"},
		{"access: {}", "", "config.yml:1: access is empty"},
		{"access: []", "", "config.yml:1: access: is an empty list"},
		{"access: {who: all}", "", "config.yml:1: access: must be a list of rules"},
		{"acces: private", "", "config.yml:1: acces: unknown key, and it looks as if it were to restrict something"},
		{"auth:\n  htpasswd: {realm: x, path: y}\n  access: private", "", "config.yml:3: auth.access: no such authentication"},
		{"access:\n- " + ok + "\n- all", "", "config.yml:3: access.1 must be a rule"},
		{"access:\n- " + ok + "\n- {who: all, what: '**', may: [pull], deny: [push]}", "", "config.yml:3: access: rule 2: a rule has either may or deny"},
		{"access:\n- {who: all, what: '**'}", "", "config.yml:2: access: rule 1: a rule has either may or deny"},
		{"access:\n- {what: '**', may: all}", "", "config.yml:2: access: rule 1: who is missing"},
		{"access:\n- {who: all, may: all}", "", "config.yml:2: access: rule 1: what is missing"},
		{"access:\n- {who: alice, what: '**', may: all}", "", `config.yml:2: access: rule 1: who: "alice" is nobody`},
		{"access:\n- {who: all, what: '**:v*', may: pull}", "", "config.yml:2: access: rule 1: what:"},
		{"access:\n- {who: all, what: '**', may: read}", "", `config.yml:2: access: rule 1: may: there is no action "read"`},
		{"access:\n- who: all\n  whot: x\n  what: '**'\n  may: all", "", "config.yml:3: access.0.whot: no such key; did you mean what?"},
		{"access:\n- who: all\n  what: '**'\n  from: 10.0.0.1/8\n  may: all", "", `config.yml:4: access.0.from "10.0.0.1/8" has bits beyond its network; write 10.0.0.0/8`},
		{"access:\n- who: all\n  what: '**'\n  from:\n  may: all", "", "config.yml:4: access.0.from is empty"},
		{"access:\n- who: all\n  who: x\n  what: '**'\n  may: all", "", "config.yml:3: access.0.who is there twice"},
		{"access:\n- {who: [[a]], what: '**', may: all}", "", "config.yml:2: access.0.who must be a list of single values"},
		{"version: 0.1\nrules:\n- " + ok, "", "config.yml:2: rules: unknown key, with rules in it, and there is no access; did you mean access?"},
		{"version: 0.1\nacl:\n- {match: {account: ''}, actions: [pull]}", "", "config.yml:2: acl: unknown key, with rules of docker_auth in it; make rules of them: regctl acl import FILE"},
		{"http: {addr: ':5000', accessControl: {repositories: {}}}", "", "config.yml:1: http.accessControl: unknown key, and it looks as if it were to restrict something"},
		{"", "REGISTRY_ACL=x", "REGISTRY_ACL: unknown variable, and it looks as if it were to restrict something"},
		{"access:\n- {who: all, what: **, may: all}", "", `config.yml: line 2: did not find expected alphabetic or numeric character; a value that begins with * needs quotes: "**"`},
		{"access:\n- who: all\n  what: *app\n  may: all", "", `unknown anchor 'app' referenced; a value that begins with * needs quotes`},
		{"access:\n- {who: all, what: ${user}/**, may: all}", "", `; between braces ${user} needs quotes: "${user}/**"`},
		{"access: private", "REGISTRY_ACCESS=", "REGISTRY_ACCESS: it is empty, and takes away what the file says of access"},
		{"", "REGISTRY_ACCESS=privat", `REGISTRY_ACCESS: access: "privat" is none of open, public-pull, private`},
		{"", "REGISTRY_ACCESS_0_WHO=all", "REGISTRY_ACCESS_0_WHO: access: rule 1: what is missing"},
		{"groups: [a]", "", "config.yml:1: groups: must be a mapping"},
		{"groups: {a: {b: c}}", "", "config.yml:1: groups: a must be a list"},
		{"groups: {a: ['group:b']}", "", `config.yml:1: groups: a: "group:b" is the name of no user`},
		{"groups: {a: [b], a: [c]}", "", "groups: a is there twice"},
		{"tokens: {expiration: 30s}", "", `config.yml:1: tokens.expiration: "30s" is less than a minute`},
		{"tokens: {expiration: 2d}", "", `config.yml:1: tokens.expiration: "2d" is more than a day`},
		{"tokens: {issuers: x}", "", "config.yml:1: tokens.issuers: no such key; did you mean issuer?"},
		{"audit: {path: /x, maxsize: 10}", "", "config.yml:1: audit.maxsize is less than 64KiB"},
		{"audit: {path: /x, maxsize: big}", "", `config.yml:1: audit.maxsize: "big" is not a size such as 100MB or 1GiB`},
		{"audit: {pulls: true}", "", "config.yml:1: audit.pulls is there without audit.path"},
	}
	for _, tt := range tests {
		var file []byte
		if tt.file != "" {
			file = []byte(tt.file)
		}
		_, _, err := config.Parse("config.yml", file, strings.Split(tt.environ, "\n"))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s, %s: %v\nwant %s", tt.file, tt.environ, err, tt.want)
		}
	}
}

func TestLoginsRefused(t *testing.T) {
	t.Parallel()
	const token = "realm: https://a/, service: s, issuer: i, rootcertbundle: /c"
	const ldap = "url: 'ldaps://l', userbase: 'dc=x'"
	tests := []struct{ file, want string }{
		{"auth: {token: {" + token + "}, htpasswd: {realm: r, path: p}, ldap: {" + ldap + "}}", ""},
		{"auth: {token: {service: s, issuer: i, jwks: /k, autoredirect: true}}", ""},
		{"auth: {token: {service: s, issuer: i, jwks: /k}}", "config.yml:1: auth.token has no realm"},
		{"auth: {token: {realm: 'https://a/', issuer: i, jwks: /k}}", "config.yml:1: auth.token has no service"},
		{"auth: {token: {realm: 'https://a/', service: s, jwks: /k}}", "config.yml:1: auth.token has no issuer"},
		{"auth: {token: {realm: 'https://a/', service: s, issuer: i}}", "config.yml:1: auth.token has no rootcertbundle"},
		{"auth: {token: {realm: /token, service: s, issuer: i, jwks: /k}}", "auth.token.realm is not of the form https://HOST/PATH"},
		{"auth: {token: {" + token + ", signingalgorithms: [none]}}", `auth.token.signingalgorithms: "none" is none of EdDSA`},
		{"auth: {token: {" + token + ", signingalgorithms: [HS256]}}", "auth.token.signingalgorithms: has none by which"},
		{"auth: {token: {" + token + ", issuers: x}}", "auth.token.issuers: no such key"},
		{"auth: {ldap: }", "config.yml:1: auth.ldap has no url"},
		{"auth: {ldap: {userbase: x}}", "config.yml:1: auth.ldap has no url"},
		{"auth: {ldap: {url: 'https://x', userbase: y}}", "auth.ldap.url: is not of the form"},
		{"auth: {ldap: {url: 'ldaps://me:topsecret@x', userbase: y}}", "auth.ldap.url: has a login in it"},
		{"auth: {ldap: {url: 'ldaps://x'}}", "auth.ldap says not where users are"},
		{"auth: {ldap: {url: 'ldaps://x', userbase: y, userdn: 'uid=${user}'}}", "auth.ldap has both userdn and userbase"},
		{"auth: {ldap: {url: 'ldaps://x', userdn: 'uid=admin'}}", "auth.ldap.userdn has no ${user} in it"},
		{"auth: {ldap: {" + ldap + ", userfilter: '(uid=*)'}}", "auth.ldap.userfilter has no ${user} in it"},
		{"auth: {ldap: {" + ldap + ", binddn: x}}", "auth.ldap.binddn is there without bindpassword or bindfile"},
		{"auth: {ldap: {" + ldap + ", bindpassword: x}}", "auth.ldap has a password, and no binddn"},
		{"auth: {ldap: {" + ldap + ", binddn: a, bindpassword: x, bindfile: y}}", "auth.ldap has both bindpassword and bindfile"},
		{"auth: {ldap: {" + ldap + ", starttls: true}}", "auth.ldap.starttls is for ldap://"},
		{"auth: {ldap: {" + ldap + ", bindpasswd: x}}", "auth.ldap.bindpasswd: no such key"},
	}
	for _, tt := range tests {
		_, _, err := config.Parse("config.yml", []byte(tt.file), nil)
		switch {
		case tt.want == "" && err != nil, tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v\nwant %q", tt.file, err, tt.want)
		case err != nil && strings.Contains(err.Error(), "topsecret"):
			t.Errorf("%s: tells the password: %v", tt.file, err)
		}
	}
}

// TestAuthWarnings are those that something surprising follows from.
func TestAuthWarnings(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"auth: {ldap: {url: 'ldaps://x', userbase: y, userfilter: '(|(uid=${user})(mail=${user}))'}}":              "auth.ldap.userfilter compares more than one attribute with ${user}: a user has as many names",
		"auth: {ldap: {url: 'ldap://x', userbase: y}}":                                                             "auth.ldap.url: without starttls: true or ldaps:// passwords cross the network",
		"auth: {ldap: {url: 'ldap://x', userbase: y, starttls: true}}":                                             "",
		"auth: {ldap: {url: 'ldap://localhost:389', userbase: y}}":                                                 "",
		"auth: {token: {realm: 'https://a/', service: s, issuer: i, jwks: /k, signingalgorithms: [ES256, HS256]}}": "auth.token.signingalgorithms: HS256 left out",
	}
	for file, want := range tests {
		_, warnings, err := config.Parse("config.yml", []byte(file), nil)
		got := ""
		for _, w := range warnings {
			got += w.Text
		}
		if err != nil || !strings.Contains(got, want) || want == "" && got != "" {
			t.Errorf("%s: %v, %q, not %q", file, err, got, want)
		}
	}
}

// TestShowsRulesAsTheyAreWritten: what config show says of a rule can stand in a
// file, and means the same there.
func TestShowsRulesAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	show := func(file string) (list []string) {
		c, _, err := config.Parse("config.yml", []byte(file), nil)
		if err != nil {
			t.Fatalf("%s\n%v", file, err)
		}
		for _, s := range c.Settings() {
			if strings.HasPrefix(s.Key, "access.") {
				list = append(list, s.Value)
			}
		}
		return list
	}
	const rules = `access:
- {who: everyone, what: ["**:v*", "${user}/**", '/a\d{2}[b,c]/'], deny: [overwrite, delete], from: ["::1", 10.0.0.0/8]}
- {who: ["group:a, b", 'user:/t-(.*)/', 'user:#x', "group:x y"], what: ['${user:1}/*', php/**, '*'], may: all, because: "a: b, c's \"d\" {e} - # f\\\n"}
- {who: all, what: a, may: pull, because: "- x"}
- {who: all, what: a, may: pull, because: "größer: ja"}
`
	first := show(rules)
	if again := show("access:\n- " + strings.Join(first, "\n- ")); len(first) != 4 || !slices.Equal(first, again) {
		t.Errorf("%q\n%q", first, again)
	}
}

func TestLint(t *testing.T) {
	t.Parallel()
	const auth = "auth: {htpasswd: {realm: r, path: /p}}\n"
	rules := func(list ...string) string { return auth + "access:\n- " + strings.Join(list, "\n- ") }
	tests := map[string]struct{ file, want string }{
		"no login":             {"access: public-pull", "config.yml:1: access: there is no auth, and so only robots can log in, see regctl token"},
		"no login at all":      {"storage: inmemory\naccess: private", "config.yml:2: access: there is no auth, and so nobody can log in"},
		"open to all":          {"access: open", ""},
		"for anonymous only":   {"access: [{who: everyone, what: '**', may: pull}]", ""},
		"groups for nothing":   {"groups: {a: [b]}", "config.yml:1: groups: they have no effect without rules"},
		"tokens for nothing":   {auth + "tokens: {expiration: 9m}", "config.yml:2: tokens.expiration: has no effect"},
		"beside tokens":        {"auth:\n  htpasswd: {realm: r, path: /p}\n  token: {realm: 'https://a/t', service: s, issuer: i, rootcertbundle: /c}", "config.yml:2: auth.htpasswd: who is in it may do everything, whatever the tokens of auth.token say"},
		"beside tokens, rules": {"auth:\n  ldap: {url: 'ldaps://x', userbase: y}\n  token: {realm: 'https://a/t', service: s, issuer: i, rootcertbundle: /c}\naccess: [{who: user:a, what: '**', may: all}]", ""},
		"a group of nobody":    {rules("{who: group:php, what: 'php/**', may: pull}"), "config.yml:3: access: rule 1: nobody is in the group php; say who is: groups: {php: [alice]}"},
		"a group misspelled":   {rules("{who: group:php-team, what: 'php/**', may: pull}") + "\ngroups: {phpteam: [a]}", "nobody is in the group php-team; did you mean phpteam?"},
		"a group of LDAP":      {"auth: {ldap: {url: 'ldaps://x', userbase: y}}\naccess: [{who: group:php, what: 'php/**', may: pull}]", ""},
		"after all":            {rules("{who: everyone, what: '**', may: pull}", "{who: user:eve, what: 'secret/**', deny: pull}"), "config.yml:4: access: rule 2 never decides anything: rule 1 (config.yml:3) has decided before"},
		"after two":            {rules("{who: all, what: 'a/**', may: pull}", "{who: all, what: 'b/**', may: push}", "{who: user:x, what: ['a/x', 'b/y:z'], may: [overwrite]}", "{who: [user:x, robot:r], what: 'b/y:z', deny: [push]}"), "config.yml:6: access: rule 4 never decides anything: rule 2 (config.yml:4) has decided before"},
		"for some more":        {rules("{who: all, what: '**', may: pull}", "{who: user:eve, what: 'secret/**', deny: [pull, push]}"), "config.yml:4: access: rule 2 is too late to deny pull: rule 1"},
		"from elsewhere":       {rules("{who: all, what: '**', from: 10.0.0.0/8, may: pull}", "{who: user:eve, what: 'secret/**', deny: [pull]}") + "\nhttp: {trustedproxies: [10.0.0.1]}", ""},
		"from no proxy":        {rules("{who: all, what: '**', from: 10.0.0.0/8, may: pull}") + "\nhttp: {trustedproxies: []}", ""},
		"from anywhere":        {rules("{who: all, what: '**', may: pull}", "{who: all, what: '**', from: 10.0.0.0/8, may: push}"), "config.yml:4: access: rule 2 goes by addresses, but whoever has a private one can say in X-Forwarded-For that it is another"},
		"some tags of it":      {rules("{who: all, what: 'a:v*', deny: push}", "{who: all, what: 'a:v*', may: push}"), ""},
		"every user":           {rules("{who: 'user:*', what: 'a/**', may: push}", "{who: [user:x, user:y], what: ['a/b:c', 'a/**'], deny: [overwrite]}"), "config.yml:4: access: rule 2 never decides anything: rule 1 (config.yml:3) has decided before"},
		"anonymous is not all": {rules("{who: anonymous, what: 'pub/**', may: [pull, list]}", "{who: user:x, what: '**', may: all}"), "config.yml:3: access: rule 1: who has not logged in may pull, list pub/**, and who has may not; write everyone in place of anonymous"},
		"all as well":          {rules("{who: anonymous, what: 'pub/**', may: pull}", "{who: all, what: '**', may: all}"), ""},
		"too late":             {rules("{who: all, what: '**', may: [pull, push]}", "{who: all, what: '**:v*', deny: [overwrite, delete]}"), "config.yml:4: access: rule 2 is too late to deny overwrite: rule 1 (config.yml:3) allows it before; the first that matches counts, so put what denies before it"},
		"too late for most":    {rules("{who: all, what: '**', may: all}", "{who: everyone, what: '**:v*', deny: [overwrite]}"), "config.yml:4: access: rule 2 is too late to deny overwrite to who has logged in: rule 1"},
		"but for somebody":     {rules("{who: 'robot:release', what: 'prod/**', may: [pull, push]}", "{who: all, what: 'prod/**', deny: [push, delete]}"), ""},
		"all the rest":         {rules("{who: all, what: 'php/**', may: pull}", "{who: all, what: 'php/**', deny: all}", "{who: all, what: '**', may: all}"), ""},
		"the rest, named":      {rules("{who: all, what: 'php/**', may: pull}", "{who: all, what: 'php/**', deny: [pull, push]}", "{who: all, what: '**', may: all}"), ""},
		"capitals of LDAP":     {"auth: {ldap: {url: 'ldaps://x', userbase: y}}\naccess: [{who: [user:Bob, 'user:/B.*/'], what: 'php/**', may: pull}]", "config.yml:2: access: rule 1: nobody is called Bob, as names of users of a directory are in lower case here; write user:bob"},
		"a member with them":   {"auth: {ldap: {url: 'ldaps://x', userbase: y}}\naccess: [{who: group:g, what: 'php/**', may: pull}]\ngroups: {g: [bob, 'robot:X', Eve]}", "config.yml:3: groups: g: nobody is called Eve"},
		"capitals of htpasswd": {"auth: {htpasswd: {realm: r, path: /p}, ldap: {url: 'ldaps://x', userbase: y}}\naccess: [{who: user:Bob, what: 'php/**', may: pull}]", ""},
		"push alone":           {rules("{who: user:ann, what: 'drop/**', may: push}"), "config.yml:3: access: rule 1: to push is of no use alone: clients look what is there before they push, and may not; add pull"},
		"push of tags":         {rules("{who: user:bob, what: 'a/b:dev', may: push}", "{who: user:bob, what: 'a/**', may: pull}"), ""},
		"push of a group":      {rules("{who: group:g, what: 'a/**', may: [push]}", "{who: group:h, what: '**', may: pull}") + "\ngroups: {g: [ann, eve, 'robot:x'], h: [ann]}", "config.yml:3: access: rule 1: to push is of no use alone"},
		"pull of another one":  {rules("{who: group:g, what: 'a/**', may: [push]}", "{who: group:h, what: '**', may: pull}") + "\ngroups: {g: [ann], h: [ann]}", ""},
		"push of a robot":      {rules("{who: 'robot:ci', what: 'a/**', may: [push]}"), ""},
		"overwrite alone":      {rules("{who: all, what: 'a/**', may: [pull, overwrite]}"), "config.yml:3: access: rule 1: to overwrite is of no use alone: who moves a tag pushes, and may not; add push"},
		"only denials":         {rules("{who: anonymous, what: '**', deny: push}"), "config.yml:3: access: no rule allows anything, and so nobody may do anything"},
		"one star":             {rules("{who: everyone, what: '*:v*', deny: overwrite}", "{who: all, what: '*', may: all}"), "config.yml:3: access: rule 1: * is only repositories without a slash, and not team/app; ** is all"},
		"one star on purpose":  {rules("{who: all, what: '*', may: pull}", "{who: user:admin, what: '**', may: all}"), ""},
		"immutable tags":       {rules("{who: everyone, what: '**:v*', deny: [overwrite, delete], because: releases never change}", "{who: anonymous, what: '**', may: pull}", "{who: all, what: '**', may: all}"), ""},
	}
	for name, tt := range tests {
		c, _, err := config.Parse("config.yml", []byte(tt.file), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []string
		for _, p := range c.Lint() {
			got = append(got, p.String())
		}
		if tt.want == "" && len(got) > 0 || tt.want != "" && !strings.Contains(strings.Join(got, "\n"), tt.want) {
			t.Errorf("%s: %q\nwant %q", name, got, tt.want)
		}
	}
}

// TestOfflineNeedsNoRules: who works on a store is not kept from it by what is
// wrong with logins and rules.
func TestOfflineNeedsNoRules(t *testing.T) {
	t.Parallel()
	const file = "storage: {filesystem: {rootdirectory: /x}}\nauth: {ldap: {}}\naccess: nobody\ntokens: {expiration: 1s}\naudit: {pulls: true}\ngroups: []"
	c, warnings, err := config.ParseStore("config.yml", []byte(file), []string{"REGISTRY_ACCESS=x"})
	if err != nil || len(warnings) > 0 || c.Storage.Root != "/x" {
		t.Error(c, warnings, err)
	}
}
