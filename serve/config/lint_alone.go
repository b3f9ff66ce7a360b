package config

import (
	"slices"
	"strings"

	"github.com/regctl/regctl/serve/auth/rule"
)

// needs are the actions that are of no use without another one: clients look for
// what is there before they push it, and to move a tag is to push.
var needs = map[string]struct {
	of  rule.Action
	why string
}{
	"push":      {rule.Pull, "clients look what is there before they push, and may not; add pull"},
	"overwrite": {rule.Push, "who moves a tag pushes, and may not; add push"},
}

// alone finds what is allowed without what it takes.
func (l *lint) alone() {
	policy, err := rule.Compile(l.c.Access.Rules)
	if err != nil { // Told where it was read.
		return
	}
	for i, r := range l.c.Access.Rules {
		for _, word := range r.May {
			if need, ok := needs[word]; ok && l.lacks(policy, r, word, need.of) {
				l.add(r.Where, "access: rule %d: to %s is of no use alone: %s", i+1, word, need.why)
			}
		}
	}
}

// lacks tells whether somebody to whom r allows the action may not do what it
// needs.
func (l *lint) lacks(policy *rule.Policy, r rule.Rule, word string, need rule.Action) bool {
	action, _ := rule.ParseAction(word)
	for _, s := range l.subjects(r) {
		for _, what := range r.What {
			repo, tag, ok := sample(what)
			if ok && policy.Decide(s, repo, tag, action).Allowed && !policy.Decide(s, repo, tag, need).Allowed {
				return true
			}
		}
	}
	return false
}

// subjects are callers whom r is about, of whom all is known: what a robot may
// its scopes say as well, and who is in a group of a directory may be in others.
func (l *lint) subjects(r rule.Rule) (list []rule.Subject) {
	user := func(name string) rule.Subject {
		s := rule.Subject{Kind: rule.User, Name: name}
		for group, members := range l.c.Groups {
			if slices.Contains(members, name) {
				s.Groups = append(s.Groups, group)
			}
		}
		return s
	}
	for _, who := range r.Who {
		kind, name, _ := strings.Cut(who, ":")
		switch {
		case who == "anonymous":
			list = append(list, rule.Subject{Kind: rule.Anonymous})
		case who == "all", who == "everyone":
			list = append(list, user("a user whom nobody knows"))
		case l.c.Auth.LDAP != nil || strings.ContainsAny(name, "*/"):
		case kind == "user":
			list = append(list, user(name))
		case kind == "group":
			for _, member := range l.c.Groups[name] {
				if !strings.HasPrefix(member, "robot:") {
					list = append(list, user(member))
				}
			}
		}
	}
	for i := range list {
		if len(r.From) > 0 {
			list[i].Addr = r.From[0].Addr()
		}
	}
	return list
}
