package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/regctl/regctl/serve/auth/rule"
)

// late finds rules that decide, but not to deny what they were written for: a
// rule before has allowed it. So tags are taken for immutable that are not.
func (l *lint) late() {
	rules := l.c.Access.Rules
	if len(rules) > 0 && !slices.ContainsFunc(rules, func(r rule.Rule) bool { return len(r.May) > 0 }) {
		l.add(rules[0].Where, "access: no rule allows anything, and so nobody may do anything: what no rule is about is denied")
		return
	}
	for j, r := range rules {
		if len(r.Deny) == 0 || l.covered(rules, j, new([]int)) {
			continue
		}
		var words, rest, by []string
		for _, word := range r.Deny {
			before := l.allowedBefore(j, word)
			if before == nil {
				rest = append(rest, word)
				continue
			}
			words = append(words, word)
			for _, i := range before {
				if name := l.name(i); !slices.Contains(by, name) {
					by = append(by, name)
				}
			}
		}
		// To deny all the rest, before somebody else is allowed it, is a way to write rules.
		if len(words) > 0 && (slices.ContainsFunc(r.What, ofTag) || !l.allowedAfter(j, rest)) {
			l.add(r.Where, "access: rule %d is too late to deny %s%s: %s allows it before; the first that matches counts, so put what denies before it",
				j+1, strings.Join(words, ", "), exceptAnonymous(r), strings.Join(by, ", "))
		}
	}
}

// allowedBefore are the rules that allow the action to all whom rule j denies
// it, but who has not logged in; none if somebody is left.
func (l *lint) allowedBefore(j int, action string) (by []int) {
	rules := l.c.Access.Rules
	for _, who := range rules[j].Who {
		if who == "everyone" {
			who = "all"
		}
		for _, what := range rules[j].What {
			i := slices.IndexFunc(rules[:j], func(r rule.Rule) bool {
				return len(r.May) > 0 && (len(r.From) == 0 || slices.Equal(r.From, rules[j].From)) && slices.Contains(actionsOf(r), action) &&
					slices.ContainsFunc(r.Who, func(w string) bool { return coversWho(w, who) }) &&
					slices.ContainsFunc(r.What, func(w string) bool { return coversWhat(w, what) })
			})
			if i < 0 {
				return nil
			}
			by = append(by, i)
		}
	}
	return by
}

// allowedAfter tells whether a rule after rule j allows some of these actions.
func (l *lint) allowedAfter(j int, actions []string) bool {
	return slices.ContainsFunc(l.c.Access.Rules[j+1:], func(r rule.Rule) bool {
		return len(r.May) > 0 && slices.ContainsFunc(actionsOf(r), func(action string) bool {
			return slices.Contains(actionsOf(rule.Rule{Deny: actions}), action)
		})
	})
}

func exceptAnonymous(r rule.Rule) string {
	if slices.Contains(r.Who, "everyone") {
		return " to who has logged in"
	}
	return ""
}

// name is what rule i is called.
func (l *lint) name(i int) string {
	name := fmt.Sprintf("rule %d", i+1)
	if where := l.c.Access.Rules[i].Where; where != "" {
		name += " (" + where + ")"
	}
	return name
}

// capitals finds users that a directory never has: there names are in lower case.
func (l *lint) capitals() {
	if l.c.Auth.LDAP == nil || l.c.Auth.Htpasswd != nil || l.c.Auth.Token != nil {
		return
	}
	const text = "%s: nobody is called %s, as names of users of a directory are in lower case here; write %s"
	for i, r := range l.c.Access.Rules {
		for _, who := range r.Who {
			if name, ok := strings.CutPrefix(who, "user:"); ok && !strings.HasPrefix(name, "/") && strings.ToLower(name) != name {
				l.add(r.Where, text, fmt.Sprintf("access: rule %d", i+1), name, "user:"+strings.ToLower(name))
			}
		}
	}
	for _, group := range slices.Sorted(maps.Keys(l.c.Groups)) {
		for _, name := range l.c.Groups[group] {
			if !strings.HasPrefix(name, "robot:") && strings.ToLower(name) != name {
				l.add(l.c.Said("groups."+group), text, "groups: "+group, name, strings.ToLower(name))
			}
		}
	}
}

// shallow finds a list that was meant for all repositories, and is only for
// those without a slash.
func (l *lint) shallow() {
	star := -1
	for i, r := range l.c.Access.Rules {
		for _, what := range r.What {
			if strings.Contains(what, "**") || strings.HasPrefix(what, "/") {
				return
			}
			if star < 0 && (what == "*" || strings.HasPrefix(what, "*:")) {
				star = i
			}
		}
	}
	if star >= 0 {
		l.add(l.c.Access.Rules[star].Where, "access: rule %d: * is only repositories without a slash, and not team/app; ** is all", star+1)
	}
}
