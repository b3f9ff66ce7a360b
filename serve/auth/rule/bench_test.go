package rule

import (
	"fmt"
	"testing"
)

// thousand are 1,000 rules of a kind, of which the last but one allows.
func thousand(what func(i int) Rule) []Rule {
	var rules []Rule
	for i := range 998 {
		rules = append(rules, what(i))
	}
	return append(rules, allow("all", "php/app/**", "pull push"), allow("anonymous", "**", "pull"))
}

// BenchmarkDecide has 1,000 rules, and somebody in ten groups.
func BenchmarkDecide(b *testing.B) {
	s := Subject{Kind: User, Name: "alice"}
	for i := range 10 {
		s.Groups = append(s.Groups, fmt.Sprintf("team%d", i))
	}
	for _, c := range []struct {
		name string
		what func(i int) Rule
	}{
		{"teams", func(i int) Rule {
			return allow(fmt.Sprintf("group:team%d", i), fmt.Sprintf("team%d/**", i), "pull push")
		}},
		{"users", func(i int) Rule { return allow(fmt.Sprintf("user:user%d", i), "php/**", "all") }},
		{"everybody, apart", func(i int) Rule { return deny("all", fmt.Sprintf("team%d/**", i), "all") }},
		{"everybody, one folder", func(i int) Rule { return deny("all", fmt.Sprintf("php/x%d/**", i), "all") }},
		{"everybody, stars", func(i int) Rule { return deny("all", fmt.Sprintf("*/x%d", i), "all") }},
		{"everybody, tags", func(i int) Rule { return deny("all", fmt.Sprintf("**:v%d-*", i), "push") }},
		{"everybody, regexps", func(i int) Rule { return deny("all", fmt.Sprintf("/team-%d/.*/", i), "all") }},
		{"one group, one folder", func(i int) Rule { return deny("group:team5", fmt.Sprintf("php/x%d/**", i), "all") }},
		{"users by patterns", func(i int) Rule { return allow(fmt.Sprintf("user:u%d-*", i), "php/**", "all") }},
	} {
		p := compile(b, thousand(c.what)...)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !p.Decide(s, "php/app/web", "latest", Push).Allowed {
					b.Fatal("denied")
				}
			}
		})
	}
}

// TestNoMemory is about what a decision costs: nothing of the heap.
func TestNoMemory(t *testing.T) {
	p := compile(t, thousand(func(i int) Rule {
		return allow(fmt.Sprintf("group:team%d", i), fmt.Sprintf("team%d/${user}/**", i), "pull push")
	})...)
	s := Subject{Kind: User, Name: "alice", Groups: []string{"team1", "team7"}}
	allowed := true
	if n := testing.AllocsPerRun(100, func() { allowed = allowed && p.Decide(s, "php/app/web", "latest", Push).Allowed }); n > 0 || !allowed {
		t.Errorf("a decision takes %v pieces of memory; allowed: %v", n, allowed)
	}
}
