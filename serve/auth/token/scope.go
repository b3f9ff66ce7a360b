package token

import (
	"fmt"
	"slices"
	"strings"

	"github.com/regctl/regctl/serve/auth"
)

const (
	// mostScopes is how many rights one token is for. Clients gather those of
	// all that they have touched.
	mostScopes = 256
	// mostActions is how many of a scope count. Registries know four.
	mostActions = 16
	// longestScope is how much of a list of scopes counts.
	longestScope = 24 << 10
)

// ParseScope reads what a token is asked for: scopes with spaces between them,
// each "TYPE:NAME:ACTION,ACTION" or "TYPE(CLASS):NAME:ACTION". The name may
// begin with a host and its port, and may be empty of actions. What is asked
// twice is one right. A token must go into a header: of too many scopes the last
// ones count, as clients add what they need now, and of too many actions the
// first.
// Errors: one that names the scope that is none.
func ParseScope(list string) ([]auth.Access, error) {
	if long := len(list) - longestScope; long > 0 {
		_, list, _ = strings.Cut(list[long-1:], " ")
	}
	var all []auth.Access
	for scope := range strings.FieldsSeq(list) {
		a, ok := parseOne(scope)
		if !ok {
			return nil, fmt.Errorf("%q is no scope; one is TYPE:NAME:ACTION[,ACTION], as repository:library/app:pull,push", clip(scope))
		}
		i := slices.IndexFunc(all, func(b auth.Access) bool { return b.Type == a.Type && b.Class == a.Class && b.Name == a.Name })
		if i < 0 {
			all = append(all[max(0, len(all)+1-mostScopes):], a)
			continue
		}
		for _, action := range a.Actions {
			if len(all[i].Actions) < mostActions && !slices.Contains(all[i].Actions, action) {
				all[i].Actions = append(all[i].Actions, action)
			}
		}
	}
	return all, nil
}

func parseOne(scope string) (a auth.Access, ok bool) {
	kind, rest, ok := strings.Cut(scope, ":")
	end := strings.LastIndexByte(rest, ':') // A name may have the port of its host before it.
	if !ok || end < 0 {
		return a, false
	}
	if i := strings.IndexByte(kind, '('); i >= 0 {
		if !strings.HasSuffix(kind, ")") {
			return a, false
		}
		kind, a.Class = kind[:i], kind[i+1:len(kind)-1]
		if !isValue(a.Class) {
			return a, false
		}
	}
	a.Type, a.Name = kind, rest[:end]
	if !isValue(a.Type) || !isName(a.Name) {
		return a, false
	}
	a.Actions = []string{}
	for action := range strings.SplitSeq(rest[end+1:], ",") {
		switch {
		case action == "" || slices.Contains(a.Actions, action):
		case action != "*" && !isAction(action):
			return a, false
		case len(a.Actions) < mostActions:
			a.Actions = append(a.Actions, action)
		}
	}
	return a, true
}

// isValue tells whether s is of lower-case letters and digits: a type, a class.
func isValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != ""
}

// isAction tells whether s is of letters.
func isAction(s string) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; c < 'a' || c > 'z' {
			return false
		}
	}
	return s != ""
}

// isName tells whether s can be the name of a resource, or a pattern of some
// other server's. What it may be is for who answers: it is held against rules.
func isName(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '"' || s[i] == '\\' {
			return false
		}
	}
	return s != ""
}

func clip(s string) string {
	if len(s) <= 128 {
		return s
	}
	return s[:128] + "…"
}
