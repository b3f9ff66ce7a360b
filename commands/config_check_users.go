package commands

import (
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/auth"
)

// strangers are users whom rules and groups name, and who cannot log in. A
// directory or a token server knows others.
func (l *complaints) strangers() {
	h := l.c.Auth.Htpasswd
	if h == nil || l.c.Auth.LDAP != nil || l.c.Auth.Token != nil || len(l.c.Access.Rules) == 0 {
		return
	}
	raw, err := os.ReadFile(h.Path)
	if err != nil { // Told by auth.
		return
	}
	f, _ := auth.Parse(raw)
	known := map[string]string{} // By name, and by name in lower case.
	for _, u := range f.Users() {
		known[strings.ToLower(u.Name)] = u.Name
	}
	for _, u := range f.Users() {
		known[u.Name] = u.Name
	}
	l.homeless(f.Users())
	told := map[string]bool{}
	tell := func(where, in, name string) {
		if known[name] == name || told[name] {
			return
		}
		told[name] = true
		hint := "regctl htpasswd add " + h.Path + " " + name
		if meant := known[strings.ToLower(name)]; meant != "" {
			hint = "did you mean " + meant + "?"
		}
		l.add("note", where, "%s: there is no user %s in %s; %s", in, name, h.Path, hint)
	}
	for i, r := range l.c.Access.Rules {
		for _, who := range r.Who {
			if name, ok := strings.CutPrefix(who, "user:"); ok && !strings.HasPrefix(name, "/") && !strings.ContainsAny(name, "*?[") {
				tell(r.Where, "access: rule "+strconv.Itoa(i+1), name)
			}
		}
	}
	for _, group := range slices.Sorted(maps.Keys(l.c.Groups)) {
		for _, name := range l.c.Groups[group] {
			if !strings.HasPrefix(name, "robot:") {
				tell(l.c.Said("groups."+group), "groups: "+group, name)
			}
		}
	}
}

// homeless are users whose names are in no name of a repository, so that rules
// with ${user} are nothing for them.
func (l *complaints) homeless(users []auth.User) {
	var names []string
	for _, u := range users {
		if oci.CheckRepo(u.Name) != nil || strings.Contains(u.Name, "/") {
			names = append(names, u.Name)
		}
	}
	if len(names) > 3 {
		names = append(names[:3], "…")
	}
	for i, r := range l.c.Access.Rules {
		if at := slices.IndexFunc(r.What, func(what string) bool { return strings.Contains(what, "${user}") }); at >= 0 && len(names) > 0 {
			l.add("note", r.Where, "access: rule %d: no repository is %s for %s: these have lower case letters, digits and . _ - in their names", i+1, r.What[at], strings.Join(names, ", "))
			return
		}
	}
}
