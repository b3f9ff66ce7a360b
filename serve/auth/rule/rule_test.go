package rule

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func words(s string) []string { return strings.Fields(s) }

// allow and deny are rules in short.
func allow(who, what, may string) Rule {
	return Rule{Who: words(who), What: words(what), May: words(may)}
}

func deny(who, what, actions string) Rule {
	return Rule{Who: words(who), What: words(what), Deny: words(actions)}
}

func compile(t testing.TB, rules ...Rule) *Policy {
	t.Helper()
	p, err := Compile(rules)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// subject reads "alice", "alice@php,java", "robot:ci" or "anonymous".
func subject(s string) Subject {
	if s == "anonymous" {
		return Subject{}
	}
	name, groups, ok := strings.Cut(s, "@")
	sub := Subject{Kind: User, Name: name}
	if robot, is := strings.CutPrefix(name, "robot:"); is {
		sub.Kind, sub.Name = Robot, robot
	}
	if ok {
		sub.Groups = strings.Split(groups, ",")
	}
	return sub
}

func decide(t testing.TB, p *Policy, who, what, action string) Decision {
	t.Helper()
	a, ok := ParseAction(action)
	if !ok {
		t.Fatalf("no action %q", action)
	}
	repo, tag, _ := strings.Cut(what, ":")
	return p.Decide(subject(who), repo, tag, a)
}

func TestPresets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		preset, who string
		want        string // The actions that are allowed.
	}{
		{"open", "anonymous", "pull push overwrite delete list"},
		{"open", "alice", "pull push overwrite delete list"},
		{"public-pull", "anonymous", "pull"},
		{"public-pull", "alice", "pull push overwrite delete list"},
		{"public-pull", "robot:ci", "pull push overwrite delete list"},
		{"private", "anonymous", ""},
		{"private", "alice", "pull push overwrite delete list"},
	} {
		rules, ok := Preset(c.preset)
		if !ok {
			t.Fatal(c.preset)
		}
		p := compile(t, rules...)
		var got []string
		for _, a := range actionNames {
			if decide(t, p, c.who, "a/b:c", a).Allowed {
				got = append(got, a)
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %s may %v, not %s", c.preset, c.who, got, c.want)
		}
	}
	if _, ok := Preset("public"); ok {
		t.Error("there is no preset public")
	}
}

// TestTeams is the policy of an article: people of php pull images of php only,
// those of java pull and push images of java.
func TestTeams(t *testing.T) {
	t.Parallel()
	p := compile(t,
		Rule{Who: words("group:php"), What: words("php/**"), May: words("pull"), Because: "php people pull php images only", Where: "config.yml:9"},
		allow("group:java", "java/**", "pull push list"),
		allow("user:admin", "**", "all"),
	)
	for _, c := range []struct {
		who, what, action string
		rule              int // 0: denied by none.
	}{
		{"alice@php", "php/app:1", "pull", 1}, {"alice@php", "php/app:1", "push", 0}, {"alice@php", "php/app", "list", 0},
		{"alice@php", "java/app:1", "pull", 0}, {"alice@php", "php:1", "pull", 0}, {"alice@php", "phpx/app:1", "pull", 0},
		{"bob@java", "java/a/b:1", "pull", 2}, {"bob@java", "java/app:1", "push", 2}, {"bob@java", "java/app:1", "overwrite", 2},
		{"bob@java", "java/app:1", "delete", 0}, {"bob@java", "php/app:1", "pull", 0}, {"bob@java", "java/app", "list", 2},
		{"eve@php,java", "java/app:1", "push", 2}, {"eve@php,java", "php/app", "pull", 1},
		{"admin", "anything/at/all:1", "delete", 3}, {"anonymous", "php/app:1", "pull", 0},
		{"robot:admin", "php/app:1", "pull", 0}, {"php", "php/app:1", "pull", 0},
	} {
		d := decide(t, p, c.who, c.what, c.action)
		if d.Rule != c.rule || d.Allowed != (c.rule > 0) {
			t.Errorf("%s %s %s: %+v, not rule %d", c.who, c.what, c.action, d, c.rule)
		}
	}
	const want = "rule 1 (config.yml:9): php people pull php images only"
	if d := decide(t, p, "alice@php", "php/app:1", "pull"); d.Reason != want {
		t.Errorf("the reason is %q", d.Reason)
	}
	if d := decide(t, p, "anonymous", "php/app:1", "pull"); d.Reason != "no rule allows it" {
		t.Errorf("the reason is %q", d.Reason)
	}
}

func TestNilPolicyDeniesAll(t *testing.T) {
	t.Parallel()
	var p *Policy
	for a := range List + 1 {
		if s := subject("alice"); p.Decide(s, "a", "", a).Allowed || p.May(s, a) || p.Ranges(s, a) != nil || p.TagMatters(s, "a", a) {
			t.Errorf("%s is allowed", a)
		}
	}
	if p.Rules() != nil || p.Explain(subject("alice"), "a", "", Pull) != nil {
		t.Error("it has rules")
	}
}

// TestTags is about rules that tags are immutable by, and what is asked
// without a tag.
func TestTags(t *testing.T) {
	t.Parallel()
	p := compile(t,
		deny("everyone", "**:v*", "overwrite delete"),
		allow("user:alice", "app:dev-*", "push delete"),
		deny("user:bob", "app:secret", "push"),
		allow("user:bob user:carol", "app", "all"),
	)
	for _, c := range []struct {
		who, what, action string
		allowed           bool
	}{
		{"alice", "app:dev-1", "push", true}, {"alice", "app:dev-1", "overwrite", true}, {"alice", "app:dev-1", "delete", true},
		{"alice", "app:1", "push", false}, {"alice", "app:1", "delete", false}, {"alice", "app:v1", "overwrite", false},
		{"alice", "app", "push", true},    // Blobs, and manifests by digest.
		{"alice", "app", "delete", false}, // All that has other tags.
		{"alice", "app", "overwrite", false}, {"alice", "app:dev-1", "pull", false}, {"alice", "app", "pull", false},
		{"bob", "app:v1", "push", true}, {"bob", "app:v1", "overwrite", false}, {"bob", "app:v1", "delete", false},
		{"bob", "app:latest", "overwrite", true}, {"bob", "app:secret", "push", false}, {"bob", "app:secret", "overwrite", false},
		{"bob", "app", "push", true}, {"bob", "app", "delete", true}, {"bob", "app:secret", "pull", true},
		{"carol", "app:secret", "push", true},
	} {
		if d := decide(t, p, c.who, c.what, c.action); d.Allowed != c.allowed {
			t.Errorf("%s %s %s: %+v", c.who, c.what, c.action, d)
		}
	}
	for _, c := range []struct {
		who    string
		action Action
		want   bool
	}{
		{"alice", Push, true}, {"alice", Pull, false}, {"bob", Push, true}, {"carol", Push, false}, {"carol", Delete, true},
		{"carol", Overwrite, true}, {"dave", Push, false}, {"dave", Overwrite, true},
	} {
		if got := p.TagMatters(subject(c.who), "app", c.action); got != c.want {
			t.Errorf("the tag matters to %s for %s: %v", c.who, c.action, got)
		}
	}
}

func TestPushIsOverwrite(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name            string
		rules           []Rule
		push, overwrite bool
	}{
		{"may push", []Rule{allow("all", "**", "push")}, true, true},
		{"may overwrite", []Rule{allow("all", "**", "overwrite")}, false, true},
		{"denied before", []Rule{deny("all", "**", "overwrite"), allow("all", "**", "push")}, true, false},
		{"denied after", []Rule{allow("all", "**", "push"), deny("all", "**", "overwrite")}, true, true},
		{"denied push", []Rule{deny("all", "**", "push"), allow("all", "**", "all")}, false, false},
		{"denied push, overwrite allowed before", []Rule{allow("all", "**", "overwrite"), deny("all", "**", "push")}, false, true},
	} {
		p := compile(t, c.rules...)
		if got := decide(t, p, "alice", "a:b", "push").Allowed; got != c.push {
			t.Errorf("%s: push %v", c.name, got)
		}
		if got := decide(t, p, "alice", "a:b", "overwrite").Allowed; got != c.overwrite {
			t.Errorf("%s: overwrite %v", c.name, got)
		}
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	p := compile(t,
		allow("everyone", "${user}/**", "all"),
		allow("user:/team-(.+)-(.+)/ all", "teams/${user:1}/${user:2}:${user}-*", "push"),
		allow("group:/dev-(.*)/", "dev/${user:1}/*", "pull"),
		allow("all", "/re/${user}(\\.[0-9]+)?/", "pull"),
		allow("group:php", "old.${user}", "pull"),
	)
	for _, c := range []struct {
		who, what, action string
		want              int
	}{
		{"alice", "alice/a/b:1", "delete", 1}, {"alice", "bob/a:1", "pull", 0}, {"alice", "alice", "pull", 0},
		{"anonymous", "/a", "pull", 0}, {"", "/a", "pull", 0},
		{"a/b", "a/b/c", "pull", 0}, // A name with a slash opens nothing of others.
		{"*", "bob/a", "pull", 0}, {"**", "bob/a/b", "pull", 0}, {".*", "bob/a", "pull", 0}, {".*", "re/bob", "pull", 0},
		{"team-php-1", "teams/php/1:team-php-1-x", "push", 2}, {"team-php-1", "teams/php/2:team-php-1-x", "push", 0},
		{"team-php-1", "teams/php/1:x", "push", 0}, {"team-a/b-1", "teams/a/b/1:team-a/b-1-x", "push", 0}, {"bob", "teams//:bob-x", "push", 0},
		{"alice@x,dev-php,dev-java", "dev/java/a", "pull", 3}, {"alice@x,dev-php", "dev/java/a", "pull", 0}, {"alice@dev-", "dev//a", "pull", 0},
		{"alice", "re/alice", "pull", 4}, {"alice", "re/alice.12", "pull", 4}, {"alice", "re/alice.x", "pull", 0},
		{"a.c", "re/abc", "pull", 0}, {"robot:ci", "ci/a", "push", 1},
		{"bob@php", "old.bob", "pull", 5},
	} {
		for range 2 { // The second time from what is kept.
			if d := decide(t, p, c.who, c.what, c.action); d.Rule != c.want {
				t.Errorf("%q %s %s: %+v, not rule %d", c.who, c.what, c.action, d, c.want)
			}
		}
	}
}

func TestFrom(t *testing.T) {
	t.Parallel()
	in := allow("everyone", "**", "pull")
	in.From = []netip.Prefix{netip.MustParsePrefix("10.1.2.3/8"), netip.MustParsePrefix("fe80::/64"), netip.MustParsePrefix("::ffff:192.168.0.0/112")}
	out := deny("everyone", "**", "push")
	out.From = []netip.Prefix{netip.MustParsePrefix("10.66.0.0/16")}
	p := compile(t, in, out, allow("everyone", "**", "push"))
	for _, c := range []struct {
		addr       string
		pull, push bool
	}{
		{"10.9.9.9", true, true}, {"::ffff:10.9.9.9", true, true}, {"11.0.0.1", false, true}, {"fe80::1%eth0", true, true},
		{"192.168.7.7", true, true}, {"10.66.0.1", true, false}, {"::ffff:10.66.0.1", true, false},
		{"", false, false}, // Not known.
	} {
		s := Subject{}
		if c.addr != "" {
			s.Addr = netip.MustParseAddr(c.addr)
		}
		if got := p.Decide(s, "a", "", Pull).Allowed; got != c.pull {
			t.Errorf("%s: pull %v", c.addr, got)
		}
		if got := p.Decide(s, "a", "", Push).Allowed; got != c.push {
			t.Errorf("%s: push %v", c.addr, got)
		}
		if got := p.May(s, Pull); got != c.pull {
			t.Errorf("%s: may pull something %v", c.addr, got)
		}
	}
}

func TestRanges(t *testing.T) {
	t.Parallel()
	p := compile(t,
		deny("group:out", "**", "list"),
		deny("all", "php/secret", "list"),
		allow("group:php", "php/** phq", "list pull"),
		allow("user:alice", "java/app ${user}/**", "list"),
		allow("user:alice", "php/x/** *:v1", "list push"),
		allow("user:bob", "/^team-(a|b)/.*/ /zoo\\/${user}.*/", "list"),
		allow("user:/t-(.*)/", "*/${user:1}", "list"),
		allow("user:carol", "java/** jave java", "list"),
		allow("user:root", "**", "list"),
		allow("group:out", "**", "all"),
	)
	for _, c := range []struct {
		who    string
		action Action
		want   []Range
	}{
		{"nobody", List, nil}, {"anonymous", List, nil},
		{"x@php", List, []Range{{"php/", "php0"}, {"phq", "phq\x00"}}},
		{"alice@php", List, []Range{{"alice/", "alice0"}, {"java/app", "java/app\x00"}, {"php/", "php0"}, {"phq", "phq\x00"}}},
		{"alice", Push, []Range{{"", ""}}},
		{"bob", List, []Range{{"team-", "team."}, {"zoo/bob", "zoo/boc"}}},
		{"t-", List, nil}, {"t-x", List, []Range{{"", ""}}},
		{"carol", List, []Range{{"java", "java\x00"}, {"java/", "java0"}, {"jave", "jave\x00"}}},
		{"root@php", List, []Range{{"", ""}}},
		{"root@out", List, nil}, {"root@out", Pull, []Range{{"", ""}}},
	} {
		if got := p.Ranges(subject(c.who), c.action); !slices.Equal(got, c.want) {
			t.Errorf("%s %s: %q, not %q", c.who, c.action, got, c.want)
		}
		if got := p.May(subject(c.who), c.action); got != (c.want != nil) {
			t.Errorf("%s may %s something: %v", c.who, c.action, got)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rule Rule
		want string // Part of the only problem; empty: none.
	}{
		{allow("everyone", "**", "all"), ""},
		{allow("user:/a|b/ group:x* robot:ci", "php/** /a(b)*/ x/*.y:/v[0-9:]+/ a:*", "push"), ""},
		{allow("user:DOM\\alice user:a[b]?c user:cn=x,dc=y", "a", "pull"), ""},
		{Rule{What: words("a"), May: words("pull")}, "who is missing"},
		{Rule{Who: words("all"), May: words("pull")}, "what is missing"},
		{Rule{Who: words("all"), What: words("a")}, "either may or deny"},
		{Rule{Who: words("all"), What: words("a"), May: words("pull"), Deny: words("push")}, "either may or deny"},
		{allow("alice", "a", "pull"), "user:alice, group:alice"},
		{allow("group", "a", "pull"), "group:NAME"},
		{allow("user:", "a", "pull"), "user:NAME"},
		{allow("team:php", "a", "pull"), `"team:php" is nobody`},
		{Rule{Who: []string{"user: ann"}, What: words("a"), May: words("pull")}, `has a space where a name begins or ends, and so is nobody; write user:ann`},
		{Rule{Who: []string{""}, What: words("a"), May: words("pull")}, "is nobody"},
		{allow("user:${user}", "a", "pull"), "variable"},
		{allow("user:/(/", "a", "pull"), "missing closing )"},
		{allow("all", "/a)|(b/", "pull"), "unexpected )"},
		{allow("all", "PHP/**", "pull"), "lower case"},
		{allow("all", "php/[ab]", "pull"), "regular expression"},
		{allow("all", "php/", "pull"), "ends with a slash"},
		{allow("all", "/php/**", "pull"), "empty part"},
		{allow("all", "php//x", "pull"), "empty part"},
		{allow("all", "a:v/1", "push"), "a tag has"},
		{allow("all", "a:", "push"), "names no tag"},
		{allow("all", ":a", "push"), "names no repository"},
		{allow("all", "a:v*", "pull list"), "it is not tags that are pulled"},
		{allow("all", "a:v*", "pull push"), ""},
		{allow("all", "a", "pul"), `no action "pul"`},
		{deny("all", "a", "write"), `deny: there is no action "write"`},
		{allow("all", "${name}/**", "pull"), "unknown variable ${name}"},
		{allow("all", "${user:0}/**", "pull"), "unknown variable"},
		{allow("all", "${user", "pull"), "without }"},
		{allow("anonymous", "${user}/**", "pull"), "has no name"},
		{allow("user:/a(.)/", "${user:2}/**", "pull"), "${user:2}"},
		{allow("user:a*", "${user:1}/**", "pull"), "${user:1}"},
		{Rule{Who: words("all"), What: words("a"), May: words("pull"), From: []netip.Prefix{{}}}, "no network"},
		{Rule{Who: words("all"), What: words("a"), May: words("pull"), From: []netip.Prefix{netip.MustParsePrefix("::ffff:0.0.0.0/90")}}, "more than IPv4"},
	} {
		c.rule.Where = "config.yml:7"
		problems := Check([]Rule{allow("all", "**", "all"), c.rule})
		_, err := Compile([]Rule{c.rule})
		if c.want == "" {
			if len(problems) > 0 || err != nil {
				t.Errorf("%+v: %v, %v", c.rule, problems, err)
			}
			continue
		}
		if len(problems) != 1 || problems[0].Index != 1 || !strings.Contains(problems[0].Text, c.want) {
			t.Errorf("%+v: %v, not %s", c.rule, problems, c.want)
		}
		if err == nil || !strings.Contains(err.Error(), "rule 1 (config.yml:7): ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.rule, err)
		}
	}
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ pattern, yes, no string }{
		{"php/*", "php/a php/a.b", "php php/a/b php/a/ xphp/a"},
		{"php/**", "php/a php/a/b", "php phpx/a"},
		{"**/app", "a/app a/b/app", "app a/app/b a/xapp2"},
		{"**", "a a/b", ""},
		{"*", "a", "a/b"},
		{"test-*", "test-a test-", "test-a/b test"},
		{"a*b*c", "abc axbxc abcbc", "ab a/bc abc/c"},
		{"a**b*c", "abc a/b/bc a/b/bxc axbc", "a/b/c/ a/b/cx"},
		{"**a*/b", "a/b x/a/b xa1/b a/a/b aa/x/a/b", "a/x/b a/b/c"},
		{"*/*/x", "a/b/x", "a/x a/b/c/x"},
		{"***", "a/b", ""},
		{"/dev/", "dev", "mydevil dev/a"},
		{"/a|b/", "a b", "ab aa ba"},
		{"/^team-[0-9]+$/", "team-1", "team- team-1/a"},
		{"/(?i:x)y/", "xy Xy", "xY"},
	} {
		p, err := parsePattern(c.pattern, false)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range words(c.yes) {
			if !p.match(name, &vars{}) {
				t.Errorf("%s does not match %s", c.pattern, name)
			}
		}
		for _, name := range words(c.no) {
			if p.match(name, &vars{}) {
				t.Errorf("%s matches %s", c.pattern, name)
			}
		}
	}
}

func TestNamesOfPeople(t *testing.T) {
	t.Parallel()
	p := compile(t, deny("user:*", "secret", "pull"), deny("group:/.*\\/ops/", "ops", "pull"), allow("all", "**", "pull"))
	for _, c := range []struct {
		who, what string
		want      int
	}{
		{"alice", "secret", 1}, {"team/alice", "secret", 1}, {"robot:ci", "secret", 3}, {"alice@a/ops", "ops", 2}, {"alice@ops", "ops", 3},
	} {
		if d := decide(t, p, c.who, c.what, "pull"); d.Rule != c.want {
			t.Errorf("%s %s: %+v", c.who, c.what, d)
		}
	}
}

// TestEverything: only a rule for all names allows everything, and only if none
// before denies a part.
func TestEverything(t *testing.T) {
	t.Parallel()
	allow := func(what string) Rule { return Rule{Who: []string{"all"}, What: []string{what}, May: []string{"all"}} }
	deny := func(what string) Rule {
		return Rule{Who: []string{"all"}, What: []string{what}, Deny: []string{"delete"}}
	}
	for _, c := range []struct {
		rules       []Rule
		may, denied bool
	}{
		{nil, false, false},
		{[]Rule{allow("a/**")}, false, false},
		{[]Rule{allow("**:v1")}, false, false},
		{[]Rule{allow("**")}, true, false},
		{[]Rule{allow("**"), deny("a")}, true, false},
		{[]Rule{deny("a"), allow("**")}, false, true},
		{[]Rule{deny("**:v1"), allow("**")}, false, true},
	} {
		p, err := Compile(c.rules)
		if err != nil {
			t.Fatal(err)
		}
		if may, denied := p.Everything(Subject{Kind: User, Name: "alice"}, Delete); may != c.may || denied != c.denied {
			t.Errorf("%v: may %t, denied %t", c.rules, may, denied)
		}
	}
	if may, _ := (*Policy)(nil).Everything(Subject{}, Pull); may {
		t.Error("without rules all is allowed")
	}
}
