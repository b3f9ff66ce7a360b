package rule

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// naive decides by the words of [Rule], rule by rule, without what the package
// has for that.
func naive(rules []Rule, s Subject, repo, tag, action string) int {
	for i, r := range rules {
		if naiveFrom(r, s) && naiveAction(r, action) && naiveNames(r, s, repo, tag, action) {
			return i + 1
		}
	}
	return 0
}

func naiveFrom(r Rule, s Subject) bool {
	if len(r.From) == 0 {
		return true
	}
	if !s.Addr.IsValid() {
		return len(r.Deny) > 0
	}
	return slices.ContainsFunc(r.From, func(p netip.Prefix) bool { return p.Contains(s.Addr) })
}

func naiveAction(r Rule, action string) bool {
	said := slices.Concat(r.May, r.Deny)
	return slices.Contains(said, "all") || slices.Contains(said, action) ||
		action == "overwrite" && slices.Contains(said, "push")
}

// naiveNames tries each word of Who with each of What.
func naiveNames(r Rule, s Subject, repo, tag, action string) bool {
	for _, who := range r.Who {
		for _, groups := range naiveWho(who, s) {
			for _, what := range r.What {
				if naiveWhat(what, r, s, groups, repo, tag, action) {
					return true
				}
			}
		}
	}
	return false
}

// naiveWho returns what the groups of a word matched, for each name that it does.
func naiveWho(who string, s Subject) [][]string {
	of, pattern, _ := strings.Cut(who, ":")
	var names []string
	switch {
	case who == "everyone", who == "anonymous" && s.Kind == Anonymous, who == "all" && s.Kind != Anonymous:
		return [][]string{nil}
	case of == "user" && s.Kind == User, of == "robot" && s.Kind == Robot:
		names = []string{s.Name}
	case of == "group" && s.Kind != Anonymous:
		names = s.Groups
	}
	var all [][]string
	for _, name := range names {
		re := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `(?:.*)`)
		if strings.HasPrefix(pattern, "/") {
			re = strings.Trim(pattern, "/")
		}
		if m := regexp.MustCompile("^(?:" + re + ")$").FindStringSubmatch(name); m != nil {
			all = append(all, m[1:])
		}
	}
	return all
}

func naiveWhat(what string, r Rule, s Subject, groups []string, repo, tag, action string) bool {
	what = strings.ReplaceAll(what, "${user:1}", "<1>")
	repoPattern, tagPattern, tagged := strings.Cut(what, ":")
	if !naiveName(repoPattern, s, groups, repo) {
		return false
	}
	switch {
	case !tagged:
		return true
	case action == "pull" || action == "list":
		return false
	case tag == "":
		return len(r.May) > 0 && action == "push"
	}
	return naiveName(tagPattern, s, groups, tag)
}

func naiveName(pattern string, s Subject, groups []string, name string) bool {
	isRegexp := strings.HasPrefix(pattern, "/")
	if isRegexp {
		pattern = strings.Trim(pattern, "/")
	} else {
		pattern = regexp.QuoteMeta(pattern)
		pattern = strings.NewReplacer(`\*\*`, `.*`, `\*`, `[^/]*`, `\$\{user\}`, "${user}").Replace(pattern)
	}
	for variable, value := range map[string]string{"${user}": s.Name, "<1>": strings.Join(groups, "")} {
		if strings.Contains(pattern, variable) && (value == "" || strings.Contains(value, "/")) {
			return false
		}
		pattern = strings.ReplaceAll(pattern, variable, regexp.QuoteMeta(value))
	}
	return regexp.MustCompile("^(?:" + pattern + ")$").MatchString(name)
}

type dice struct{ *rand.Rand }

func (d dice) one(of ...string) string { return of[d.IntN(len(of))] }

func (d dice) some(of ...string) []string {
	var all []string
	for range 1 + d.IntN(2) {
		all = append(all, d.one(of...))
	}
	return all
}

func (d dice) rule() Rule {
	r := Rule{
		Who: d.some("anonymous", "all", "everyone", "user:a", "user:b", "user:*", "user:a*", "group:g", "group:*", "group:h*",
			"robot:a", "robot:*", "user:/(a)b?/", "group:/(.)x?/", "user:/(.*)/"),
		May: d.some("pull", "push", "overwrite", "delete", "list", "all", "push"),
	}
	named := slices.ContainsFunc(r.Who, func(who string) bool { return who != "anonymous" })
	grouped := slices.ContainsFunc(r.Who, func(who string) bool { return strings.Contains(who, "(") })
	for len(r.What) == 0 || d.IntN(3) == 0 {
		what := d.one("**", "*", "a", "a/b", "a/*", "a/**", "**/b", "*/b", "a**b", "b/**a", "*a*b*", "${user}/**", "${user}", "**/${user}",
			"*/${user:1}", "${user:1}/*", "/a.*/", "/(a|b)/", "/.*b/", "/^a.b$/", "/${user}.+/")
		if strings.Contains(what, ":1") && !grouped || strings.Contains(what, "$") && !named {
			continue
		}
		if d.IntN(3) == 0 && naiveAction(r, "delete") {
			what += ":" + d.one("*", "v*", "**1", "/v./", "${user}", "v1")
			if strings.HasSuffix(what, "${user}") && !named {
				what = "a:v1"
			}
		}
		r.What = append(r.What, what)
	}
	if d.IntN(3) == 0 {
		r.May, r.Deny = nil, r.May
	}
	if d.IntN(5) == 0 {
		r.From = []netip.Prefix{netip.MustParsePrefix(d.one("10.0.0.0/8", "fe80::/10", "0.0.0.0/0"))}
	}
	return r
}

func (d dice) subject() Subject {
	s := Subject{Kind: Kind(d.IntN(3))}
	if s.Kind != Anonymous {
		s.Name = d.one("a", "b", "ab", "a/b", ".*", "*")
		for range d.IntN(3) {
			s.Groups = append(s.Groups, d.one("g", "h", "hx", "ax"))
		}
	}
	if addr := d.one("", "10.1.1.1", "192.168.1.1", "fe80::1"); addr != "" {
		s.Addr = netip.MustParseAddr(addr)
	}
	return s
}

// TestAgainstNaive compares with the naive decider, on policies by chance.
func TestAgainstNaive(t *testing.T) {
	t.Parallel()
	d := dice{rand.New(rand.NewPCG(6, 2026))}
	allowed := 0
	for range 500 {
		rules := make([]Rule, d.IntN(6))
		for i := range rules {
			rules[i] = d.rule()
		}
		p, err := Compile(rules)
		if err != nil {
			t.Fatalf("%v\n%+v", err, rules)
		}
		for range 10 {
			allowed += compareNaive(t, d, p, rules)
		}
	}
	if allowed < 500 {
		t.Errorf("%d questions were answered by yes: too few to say anything", allowed)
	}
}

func compareNaive(t *testing.T, d dice, p *Policy, rules []Rule) int {
	t.Helper()
	s, action := d.subject(), d.one(actionNames[:]...)
	repo := d.one("a", "b", "ab", "a/b", "a/a", "b/a", "a/b/c", "a/x/b", "b/b/a", "x", "a/hx", "b/g/ab")
	a, _ := ParseAction(action)
	allowed, answers := 0, map[bool]bool{}
	for _, tag := range []string{"", "v1", "v22", "a", "x1", "ab"} {
		got, want := p.Decide(s, repo, tag, a), naive(rules, s, repo, tag, action)
		answers[got.Allowed] = true
		about := fmt.Sprintf("%+v %s:%s %s\n%+v", s, repo, tag, action, rules)
		if got.Rule != want || got.Allowed != (want > 0 && len(rules[want-1].May) > 0) {
			t.Fatalf("%s\n%+v, not rule %d", about, got, want)
		}
		if steps := p.Explain(s, repo, tag, a); len(steps) != cmpRule(want, len(rules)) || want > 0 && steps[want-1] != (Step{want, ""}) {
			t.Fatalf("%s\nit is explained as %+v, but rule %d decides", about, steps, want)
		}
		if !got.Allowed {
			continue
		}
		allowed++
		in := func(r Range) bool { return r.From <= repo && (r.To == "" || repo < r.To) }
		if ranges := p.Ranges(s, a); !slices.ContainsFunc(ranges, in) || !p.May(s, a) {
			t.Fatalf("%s\nallowed by rule %d, but in none of %q", about, want, ranges)
		}
	}
	if len(answers) == 2 && !p.TagMatters(s, repo, a) {
		t.Fatalf("%+v %s %s\n%+v\nthe tag matters", s, repo, action, rules)
	}
	return allowed
}

// cmpRule is how many rules are looked at until one decides.
func cmpRule(decides, of int) int {
	if decides == 0 {
		return of
	}
	return decides
}
