package rule

import (
	"regexp"
	"strings"
	"testing"
)

// FuzzGlob compares globs with regular expressions that say the same.
func FuzzGlob(f *testing.F) {
	for _, seed := range [][2]string{{"**a*/b", "xa1/b"}, {"a*b*c", "abcbc"}, {"***", ""}, {"*/**", "a/"}, {"a**b**c*d/e*", "a/b/c/d/ccd/e"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, glob, name string) {
		if strings.ContainsAny(glob, "$\n") || strings.Contains(name, "\n") || strings.HasPrefix(glob, "/") || len(glob)+len(name) > 100 {
			return
		}
		p, err := parsePattern(glob, false)
		if err != nil {
			t.Fatal(err)
		}
		quoted := regexp.QuoteMeta(glob)
		for strings.Contains(quoted, `\*\*\*`) {
			quoted = strings.ReplaceAll(quoted, `\*\*\*`, `\*\*`)
		}
		re, err := regexp.Compile("(?s)^(?:" + strings.NewReplacer(`\*\*`, `.*`, `\*`, `[^/]*`).Replace(quoted) + ")$")
		if err != nil || strings.ToValidUTF8(name, "") != name || strings.ToValidUTF8(glob, "") != glob {
			return
		}
		if got, want := p.match(name, &vars{}), re.MatchString(name); got != want {
			t.Errorf("%q matches %q: %v", glob, name, got)
		}
		if r, ok := p.within(&vars{}); ok && re.MatchString(name) && (name < r.From || r.To != "" && name >= r.To) {
			t.Errorf("%q matches %q, which is not within %q", glob, name, r)
		}
	})
}

// FuzzRule looks for rules that make it panic, or that match where the range of
// names does not reach.
func FuzzRule(f *testing.F) {
	f.Add("user:/a(.*)/", "${user:1}/**:v*", "abc", "bc/d", "v1")
	f.Add("group:x", "/^${user}[/]:b/:/(?i)x/", "a.", "a./:b", "X")
	f.Add("everyone", "/(?i)a|b/", "", "A", "")
	f.Fuzz(func(t *testing.T, who, what, name, repo, tag string) {
		p, err := Compile([]Rule{{Who: []string{who}, What: []string{what}, May: []string{"all"}}})
		if err != nil {
			if len(Check([]Rule{{Who: []string{who}, What: []string{what}, May: []string{"all"}}})) == 0 {
				t.Errorf("it is not found beforehand: %v", err)
			}
			return
		}
		for _, s := range []Subject{{}, {Kind: User, Name: name, Groups: []string{"x", name}}, {Kind: Robot, Name: name}} {
			for a := range List + 1 {
				d := p.Decide(s, repo, tag, a)
				steps := p.Explain(s, repo, tag, a)
				if d.Allowed != (steps[0].Passed == "") {
					t.Errorf("%+v is explained as %+v", d, steps)
				}
				if !d.Allowed {
					continue
				}
				in := false
				for _, r := range p.Ranges(s, a) {
					in = in || r.From <= repo && (r.To == "" || repo < r.To)
				}
				if !in {
					t.Errorf("%q is allowed, but not in %q", repo, p.Ranges(s, a))
				}
			}
		}
	})
}
