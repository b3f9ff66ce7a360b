package config_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/regctl/regctl/serve/auth/rule"
	"github.com/regctl/regctl/serve/config"
)

// TestLintIsRight holds what is said of random rules against what they decide:
// a rule that is said never to decide never does, and nothing is said of one
// that does.
func TestLintIsRight(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(6, 48))
	pick := func(list ...string) []string {
		n := 1 + r.IntN(2)
		some := make([]string, 0, n)
		for range n {
			some = append(some, list[r.IntN(len(list))])
		}
		return some
	}
	told, late := 0, 0
	for range 3000 {
		rules := make([]rule.Rule, 2+r.IntN(3))
		for i := range rules {
			rules[i] = rule.Rule{
				Who:  pick("everyone", "all", "anonymous", "user:amy", "user:*", "user:/a(.*)/", "group:g", "robot:ci", "robot:**"),
				What: pick("**", "a/**", "a/b", "a/b/**", "a/b:v*", "a/b:**", "**:v*", "*", "/a/.*/", "x/${user:0}", "/a.(?:b)/:v1"),
			}
			actions := pick("push", "overwrite", "delete", "all")
			if r.IntN(2) == 0 {
				rules[i].May = actions
			} else {
				rules[i].Deny = actions
			}
		}
		policy, err := rule.Compile(rules)
		if err != nil {
			continue
		}
		decides := decidingRules(policy)
		for _, p := range (&config.Config{Access: config.Access{Rules: rules, On: true}}).Lint() {
			var n int
			if _, err := fmt.Sscanf(p.Text, "access: rule %d never decides", &n); err == nil {
				told++
				if decides[n] {
					t.Fatalf("%s\n%+v", p, rules)
				}
			}
			if _, err := fmt.Sscanf(p.Text, "access: rule %d is too late to deny", &n); err == nil {
				late++
				if words := deniedBy(policy, n); strings.Contains(words, firstLate(p.Text)) {
					t.Fatalf("%s, but it denies %s\n%+v", p, words, rules)
				}
			}
		}
	}
	if told < 100 || late < 20 {
		t.Errorf("only %d rules were said not to decide, and %d to be too late", told, late)
	}
}

// firstLate is the first action of which it is said that a rule denies it too late.
func firstLate(text string) string {
	_, text, _ = strings.Cut(text, " is too late to deny ")
	word, _, _ := strings.Cut(text, ":")
	word, _, _ = strings.Cut(word, ",")
	word, _, _ = strings.Cut(word, " ")
	return word
}

// deniedBy are the actions that rule n denies to somebody who has logged in.
func deniedBy(policy *rule.Policy, n int) string {
	denied := map[string]bool{}
	for _, s := range subjects() {
		for _, repo := range strings.Fields(repos) {
			for _, tag := range []string{"", "v1", "w"} {
				for word, a := range map[string]rule.Action{"pull": rule.Pull, "push": rule.Push, "overwrite": rule.Overwrite, "delete": rule.Delete, "list": rule.List} {
					if d := policy.Decide(s, repo, tag, a); d.Rule == n && !d.Allowed && s.Kind != rule.Anonymous {
						denied[word] = true
					}
				}
			}
		}
	}
	return fmt.Sprint(denied)
}

// decidingRules are the numbers of those that decide something.
func decidingRules(policy *rule.Policy) map[int]bool {
	decides := map[int]bool{}
	for _, s := range subjects() {
		for _, repo := range strings.Fields(repos) {
			for _, tag := range []string{"", "v1", "w"} {
				for _, a := range []rule.Action{rule.Pull, rule.Push, rule.Overwrite, rule.Delete, rule.List} {
					decides[policy.Decide(s, repo, tag, a).Rule] = true
				}
			}
		}
	}
	return decides
}

const repos = "a b a/b a/b/c a/c x/amy c/d"

func subjects() []rule.Subject {
	return []rule.Subject{
		{Kind: rule.Anonymous}, {Kind: rule.User, Name: "amy"}, {Kind: rule.User, Name: "bob", Groups: []string{"g"}},
		{Kind: rule.User, Name: "amy", Groups: []string{"g"}}, {Kind: rule.User, Name: "eve"}, {Kind: rule.Robot, Name: "ci"}, {Kind: rule.Robot, Name: "cd", Groups: []string{"g"}},
	}
}
