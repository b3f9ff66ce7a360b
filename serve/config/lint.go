package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/regctl/regctl/serve/auth/rule"
)

// Lint tells what will surprise somebody about who may do what, when all has
// been said: by the file, variables and flags.
func (c *Config) Lint() []Problem {
	l := &lint{c: c}
	if !c.Access.On {
		l.withoutRules()
		return l.all
	}
	if c.Auth.Htpasswd == nil && c.Auth.LDAP == nil && c.Auth.Token == nil && c.Access.Preset != "open" && !onlyAnonymous(c.Access.Rules) {
		who := "only robots can log in, see regctl token"
		if c.Storage.InMemory {
			who = "nobody can log in"
		}
		l.add(c.Said("access"), "access: there is no auth, and so %s", who)
	}
	l.groups()
	l.unreachable()
	l.late()
	l.shallow()
	l.capitals()
	l.alone()
	l.outdone()
	l.addresses()
	return l.all
}

type lint struct {
	c   *Config
	all []Problem
}

func (l *lint) add(where, format string, args ...any) {
	l.all = append(l.all, Problem{where, fmt.Sprintf(format, args...)})
}

// withoutRules is about sections that count only where there are rules.
func (l *lint) withoutRules() {
	if len(l.c.Groups) > 0 {
		l.add(l.c.Said("groups"), "groups: they have no effect without rules that name them: access")
	}
	for _, name := range []string{"htpasswd", "ldap"} {
		if where := l.c.Said("auth." + name); where != "" && l.c.Auth.Token != nil {
			l.add(where, "auth.%s: who is in it may do everything, whatever the tokens of auth.token say: there are no rules; say who may do what: access", name)
		}
	}
	for _, key := range []string{"service", "issuer", "expiration", "services"} {
		if where := l.c.Said("tokens." + key); where != "" && l.c.Auth.LDAP == nil {
			l.add(where, "tokens.%s: has no effect: without access or auth.ldap no tokens are given", key)
		}
	}
}

func onlyAnonymous(rules []rule.Rule) bool {
	return len(rules) > 0 && !slices.ContainsFunc(rules, func(r rule.Rule) bool {
		return slices.ContainsFunc(r.Who, func(who string) bool { return who != "anonymous" && who != "everyone" })
	})
}

// groups finds those that nobody is in. What groups a directory has is not
// known.
func (l *lint) groups() {
	if l.c.Auth.LDAP != nil {
		return
	}
	known := keys(l.c.Groups)
	told := map[string]bool{}
	for i, r := range l.c.Access.Rules {
		for _, who := range r.Who {
			name, ok := strings.CutPrefix(who, "group:")
			if !ok || told[name] || strings.ContainsAny(name, "*?[") || strings.HasPrefix(name, "/") || len(l.c.Groups[name]) > 0 {
				continue
			}
			told[name] = true
			hint := nearest(name, known)
			if hint == "" {
				hint = "; say who is: groups: {" + name + ": [alice]}"
			}
			l.add(r.Where, "access: rule %d: nobody is in the group %s%s", i+1, name, hint)
		}
	}
}

// unreachable finds rules that never decide.
func (l *lint) unreachable() {
	rules := l.c.Access.Rules
	for j := range rules {
		var by []int
		if !l.covered(rules, j, &by) || len(by) == 0 { // One that is about nothing is an error.
			continue
		}
		before := make([]string, len(by))
		for k, i := range by {
			before[k] = l.name(i)
		}
		verb := "has decided"
		if len(by) > 1 {
			verb = "have decided"
		}
		l.add(rules[j].Where, "access: rule %d never decides anything: %s %s before; the first that matches counts", j+1, strings.Join(before, ", "), verb)
	}
}

// covered tells whether all that rule j matches is matched by one before, and by
// which.
func (l *lint) covered(rules []rule.Rule, j int, by *[]int) bool {
	for _, who := range rules[j].Who {
		for _, what := range rules[j].What {
			for _, action := range actionsOf(rules[j]) {
				i := slices.IndexFunc(rules[:j], func(r rule.Rule) bool {
					// To deny tags is not to deny what has none: a rule after that may still decide about blobs.
					whole := len(r.May) > 0 || len(rules[j].Deny) > 0
					return (len(r.From) == 0 || slices.Equal(r.From, rules[j].From)) && slices.Contains(actionsOf(r), action) &&
						slices.ContainsFunc(r.Who, func(w string) bool { return coversWho(w, who) }) &&
						slices.ContainsFunc(r.What, func(w string) bool { return coversWhat(w, what) && (whole || !ofTag(w)) })
				})
				if i < 0 {
					return false
				}
				if !slices.Contains(*by, i) {
					*by = append(*by, i)
				}
			}
		}
	}
	slices.Sort(*by)
	return true
}

// actionsOf are those that a rule is about: push is to overwrite as well.
func actionsOf(r rule.Rule) []string {
	var list []string
	for _, action := range append(r.May[:len(r.May):len(r.May)], r.Deny...) {
		switch action {
		case "all":
			return []string{"pull", "push", "overwrite", "delete", "list"}
		case "push":
			list = append(list, action, "overwrite")
		default:
			list = append(list, action)
		}
	}
	return list
}

// coversWho tells whether everybody who is b certainly is a.
func coversWho(a, b string) bool {
	if a == b || a == "everyone" {
		return true
	}
	if a == "all" {
		return b != "anonymous" && b != "everyone"
	}
	kind, name, _ := strings.Cut(a, ":")
	return name != "" && strings.Trim(name, "*") == "" && strings.HasPrefix(b, kind+":")
}

// ofTag tells whether a pattern is about tags, or may be.
func ofTag(what string) bool { return strings.Contains(strings.ReplaceAll(what, "${user:", ""), ":") }

// coversWhat tells whether every name that b matches is certainly matched by a.
func coversWhat(a, b string) bool {
	if a == b || a == "**" {
		return true
	}
	prefix, all := strings.CutSuffix(a, "/**")
	return all && !strings.ContainsAny(prefix, "*?[$/:") && strings.HasPrefix(b, prefix+"/") && !strings.HasPrefix(b, "/")
}

// outdone finds what is allowed to who has not logged in, and not to who has:
// all is not anonymous, and anonymous not all.
func (l *lint) outdone() {
	policy, err := rule.Compile(l.c.Access.Rules)
	if err != nil { // Told where it was read.
		return
	}
	for i, r := range l.c.Access.Rules {
		if len(r.May) == 0 || !slices.Contains(r.Who, "anonymous") {
			continue
		}
		for _, what := range r.What {
			repo, tag, ok := sample(what)
			if lost := l.lost(policy, r, repo, tag); ok && len(lost) > 0 {
				l.add(r.Where, "access: rule %d: who has not logged in may %s %s, and who has may not; write everyone in place of anonymous", i+1, strings.Join(lost, ", "), what)
			}
		}
	}
}

// lost are the actions of r that are allowed to anonymous callers, and not to a
// user of whom no rule says anything.
func (l *lint) lost(policy *rule.Policy, r rule.Rule, repo, tag string) (lost []string) {
	user := rule.Subject{Kind: rule.User, Name: "a user whom nobody knows"}
	nobody := rule.Subject{Kind: rule.Anonymous}
	if len(r.From) > 0 {
		user.Addr = r.From[0].Addr()
		nobody.Addr = user.Addr
	}
	for _, word := range r.May {
		for _, word := range actionsOf(rule.Rule{May: []string{word}}) {
			action, _ := rule.ParseAction(word)
			if policy.Decide(nobody, repo, tag, action).Allowed && !policy.Decide(user, repo, tag, action).Allowed && !slices.Contains(lost, word) {
				lost = append(lost, word)
			}
		}
	}
	return lost
}

// sample is a name that a pattern matches, if it is a simple one.
func sample(what string) (repo, tag string, ok bool) {
	if strings.HasPrefix(what, "/") || strings.ContainsAny(what, "$?[") || strings.Contains(what, ":/") {
		return "", "", false
	}
	repo, tag, _ = strings.Cut(strings.NewReplacer("**", "some", "*", "some").Replace(what), ":")
	return repo, tag, true
}
