package serve

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/regctl/regctl/serve/auth/rule"
	"github.com/regctl/regctl/serve/config"
)

// TestRulesAreWhatIsDone asks rules by chance what they say, and the server,
// which goes by them as they are, what it does.
func TestRulesAreWhatIsDone(t *testing.T) {
	t.Parallel()
	s := newAsking(t, public(), Options{})
	dice := rand.New(rand.NewPCG(6, 2026))
	one := func(of ...string) string { return of[dice.IntN(len(of))] }
	answers := map[bool]int{}
	for round := range 25 {
		var list []string
		for range 1 + dice.IntN(5) {
			list = append(list, strings.Join([]string{
				one("anonymous", "all", "everyone", "user:alice", "user:b*", "user:/a(l).*/"),
				one("**", "app", "app:new-*", "app:/.*-1./", "t*/**", "team/app", "app/**"),
				one("", "", "-") + one("all", "pull,push", "push", "push,delete", "overwrite,push", "pull,delete"),
			}, " "))
		}
		c := rules(list...)
		p, err := RulesOf(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.ad.take(c); err != nil {
			t.Fatal(err)
		}
		for _, who := range []string{"", "alice", "bob"} {
			sub := rule.Subject{Kind: rule.User, Name: who}
			headers := sayPassword(who + ":" + who + "'s")
			if who == "" {
				sub, headers = rule.Subject{}, nil
			}
			for _, repo := range []string{"app", "team/app", "none"} {
				tag := fmt.Sprintf("new-%d-%s", round, who)
				for _, q := range []struct {
					action rule.Action
					tag    string
					method string
					path   string
					body   string
				}{
					{rule.Pull, "", "GET", "/manifests/latest", ""},
					{rule.Pull, "", "HEAD", "/blobs/sha256:" + strings.Repeat("0", 64), ""},
					{rule.Pull, "", "GET", "/tags/list", ""},
					{rule.Push, "", "POST", "/blobs/uploads/", ""},
					{rule.Push, tag, "PUT", "/manifests/" + tag, "{}"},
					{rule.Delete, tag, "DELETE", "/manifests/" + tag, ""},
				} {
					a := s.do(q.method, "/v2/"+repo+q.path, q.body, headers...)
					d := p.Decide(sub, repo, q.tag, q.action)
					answers[d.Allowed]++
					denied := 403
					if who == "" {
						denied = 401
					}
					if d.Allowed == (a.status == denied) || a.status >= 500 {
						t.Fatalf("%v\n%q %s %s%s: %d %s\n%+v", list, who, q.method, repo, q.path, a.status, a.body, d)
					}
				}
			}
		}
	}
	if answers[true] < 100 || answers[false] < 100 {
		t.Errorf("the answers are not both: %v", answers)
	}
}

func TestRulesOf(t *testing.T) {
	t.Parallel()
	htpasswd := config.Auth{Htpasswd: &config.Htpasswd{}}
	for _, c := range []struct {
		name   string
		c      *config.Config
		public bool // Anybody pulls.
		people bool // Who has logged in pushes.
	}{
		{"nothing", &config.Config{}, true, true},
		{"open", &config.Config{Access: config.Access{On: true, Preset: "open"}}, true, true},
		{"open, with logins", &config.Config{Auth: htpasswd, Access: config.Access{On: true, Preset: "open"}}, true, true},
		{"logins", &config.Config{Auth: htpasswd}, false, true},
		{"public-pull", public(), true, true},
		{"private", &config.Config{Access: config.Access{On: true, Preset: "private"}}, false, true},
		{"rules", rules("everyone ** pull"), true, false},
	} {
		p, err := RulesOf(c.c)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Decide(rule.Subject{}, "a", "", rule.Pull).Allowed; got != c.public {
			t.Errorf("%s: anybody pulls: %v", c.name, got)
		}
		if got := p.Decide(rule.Subject{Kind: rule.User, Name: "alice"}, "a", "", rule.Push).Allowed; got != c.people {
			t.Errorf("%s: alice pushes: %v", c.name, got)
		}
	}
	if _, err := RulesOf(rules("team ** pull")); err == nil {
		t.Error("rules that make no sense are taken")
	}
}
