package dockerauth

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/regctl/regctl/serve/auth/rule"
)

// entry is an entry of acl.
type entry struct {
	line                            int
	account, typ, name, ip, service *string
	labels                          map[string]string
	actions                         []string
	comment                         string
}

// made is a rule that was made of an entry.
type made struct {
	rule.Rule
	line int
	kept bool // The entry says so itself: it is not only what is left over.
}

// rules makes rules of the entries of acl.
func (im *importer) rules(acl *yaml.Node) error {
	acl = follow(acl)
	var entries []*entry
	for i, n := range acl.Content {
		e, err := im.readEntry(follow(n))
		if err != nil {
			return fmt.Errorf("line %d: acl entry %d: %w", n.Line, i+1, err)
		}
		entries = append(entries, e)
	}
	if len(entries) == 0 {
		im.inexact(acl.Line, "acl is empty, and so nobody may do anything; an empty list is none here")
	}
	im.nameGroups(entries)
	for _, e := range entries {
		im.entry(e)
	}
	im.finish()
	return nil
}

func (im *importer) readEntry(n *yaml.Node) (*entry, error) {
	match, actions := get(n, "match"), get(n, "actions")
	if match == nil || follow(match).Kind != yaml.MappingNode {
		return nil, errors.New("there is no match; {} matches all")
	}
	if actions == nil || follow(actions).Tag == "!!null" {
		return nil, errors.New("there are no actions; [] denies all")
	}
	e := &entry{line: n.Line, labels: map[string]string{}, comment: textOf(get(n, "comment"))}
	for _, a := range follow(actions).Content {
		e.actions = append(e.actions, follow(a).Value)
	}
	fields := map[string]**string{"account": &e.account, "type": &e.typ, "name": &e.name, "ip": &e.ip, "service": &e.service}
	for key, value := range pairs(match) {
		if at, ok := fields[key.Value]; ok {
			*at = optional(value)
			continue
		}
		if key.Value != "labels" {
			im.note(key.Line, "acl: there is no %s in match; docker_auth passes over it, and so do the rules here", key.Value)
			continue
		}
		for label, p := range pairs(value) {
			e.labels[label.Value] = follow(p).Value
		}
	}
	for _, p := range []*string{e.account, e.typ, e.name, e.service} {
		if p != nil {
			if err := valid(*p); err != nil {
				return nil, err
			}
		}
	}
	for _, p := range e.labels {
		if err := valid(p); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// entry makes the rules of one entry.
func (im *importer) entry(e *entry) {
	rules, err := im.rulesOf(e)
	var nothing *never
	switch {
	case errors.As(err, &nothing):
		im.note(e.line, "acl: left out, as it is about nothing: %s", nothing.why)
	case err != nil:
		im.inexact(e.line, "acl: left out: %v; see whether a rule after it allows too much now", err)
	default:
		im.made = append(im.made, rules...)
	}
}

// rulesOf are the rules that say what e does.
func (im *importer) rulesOf(e *entry) ([]made, error) {
	if err := im.checkService(e); err != nil {
		return nil, err
	}
	from, err := networkOf(e.ip)
	if err != nil {
		return nil, err
	}
	repositories, catalog, err := e.types()
	if err != nil {
		return nil, err
	}
	whole := e.name == nil || everything(*e.name)
	subjects, err := im.subjects(e)
	if err != nil {
		return nil, err
	}
	may, all := e.may()
	var rules []made
	for _, s := range subjects {
		base := made{Rule: rule.Rule{Who: s.who, What: s.what, From: from, Because: e.comment, Where: fmt.Sprintf("%s:%d", im.o.Name, e.line)}, line: e.line}
		switch {
		case repositories && catalog && whole:
			rules = append(rules, split(base, may, all, rule.Pull, rule.Push, rule.Delete, rule.List)...)
			continue
		case repositories && len(s.what) > 0:
			rules = append(rules, split(base, may, false, rule.Pull, rule.Push, rule.Delete)...)
		}
		if catalog && s.catalog {
			base.What = []string{"**"}
			rules = append(rules, split(base, may, false, rule.List)...)
		}
	}
	if len(rules) == 0 {
		return nil, &never{cmp.Or(im.nobody(subjects), "it matches neither a repository nor the catalogue")}
	}
	return rules, nil
}

func (im *importer) nobody(subjects []subject) string {
	if len(subjects) == 0 {
		return "there is nobody whom it matches"
	}
	return subjects[0].why
}

// split says of each of these actions whether it may be done.
func split(base made, may []rule.Action, all bool, of ...rule.Action) []made {
	var allowed, denied []string
	for _, a := range of {
		if slices.Contains(may, a) {
			allowed = append(allowed, a.String())
		} else {
			denied = append(denied, a.String())
		}
	}
	var rules []made
	if len(allowed) > 0 {
		r := base
		if r.May = allowed; all {
			r.May = []string{"all"}
		}
		r.kept = true
		rules = append(rules, r)
	}
	if len(denied) > 0 {
		r := base
		if r.Deny = denied; len(of) == 4 && len(denied) == 4 {
			r.Deny = []string{"all"}
		}
		if r.kept = len(allowed) == 0; !r.kept {
			r.Who = people(r.Who)
			if r.Because != "" {
				r.Because = "no more than: " + r.Because
			}
		}
		rules = append(rules, r)
	}
	return rules
}

// people is who without robots, of which docker_auth knows nothing: what is
// left over binds none of them.
func people(who []string) []string {
	var some []string
	for _, w := range who {
		switch w {
		case "everyone":
			some = append(some, "anonymous", "user:*")
		case "all":
			some = append(some, "user:*")
		default:
			some = append(some, w)
		}
	}
	return some
}

// may are the actions that e allows, and whether they are all.
func (e *entry) may() (actions []rule.Action, all bool) {
	if len(e.actions) == 1 && e.actions[0] == "*" {
		return []rule.Action{rule.Pull, rule.Push, rule.Delete, rule.List}, true
	}
	for _, word := range e.actions {
		switch word {
		case "pull":
			actions = append(actions, rule.Pull)
		case "push":
			actions = append(actions, rule.Push)
		case "delete":
			actions = append(actions, rule.Delete)
		case "*": // Beside others it is only what the catalogue is asked with.
			actions = append(actions, rule.List)
		}
	}
	return actions, false
}

// types tells what e is about: repositories, the catalogue or both.
func (e *entry) types() (repositories, catalog bool, err error) {
	if e.typ == nil {
		return true, true, nil
	}
	if strings.Contains(*e.typ, "${") {
		return false, false, fmt.Errorf("the type %q has a variable", *e.typ)
	}
	return matches(*e.typ, "repository"), matches(*e.typ, "registry"), nil
}

// checkService holds the service of e against that of the registry.
func (im *importer) checkService(e *entry) error {
	switch p := e.service; {
	case p == nil, everything(*p), *p == "*" && !strings.Contains(im.o.Service, "/"):
	case strings.Contains(*p, "${"):
		return fmt.Errorf("the service %q has a variable", *p)
	case im.o.Service == "":
		return fmt.Errorf("it is for tokens of the service %q only; give auth.token.service of the registry with --service", *p)
	case !matches(*p, im.o.Service):
		return &never{fmt.Sprintf("it is for the service %q", *p)}
	}
	return nil
}

func networkOf(ip *string) ([]netip.Prefix, error) {
	if ip == nil {
		return nil, nil
	}
	if addr, err := netip.ParseAddr(*ip); err == nil {
		addr = addr.Unmap()
		return []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}, nil
	}
	prefix, err := netip.ParsePrefix(*ip)
	if err != nil {
		return nil, fmt.Errorf("%q is no network", *ip)
	}
	return []netip.Prefix{prefix.Masked()}, nil
}

// finish takes out what is only said because docker_auth stops at the first
// entry, where no rule after it allows what it denies, and what rules cannot
// say after all.
func (im *importer) finish() {
	var rules []made
	for i, m := range im.made {
		if !m.kept && !slices.ContainsFunc(im.made[i+1:], func(later made) bool { return later.opens(m) }) {
			continue
		}
		rules = append(rules, m)
	}
	list := make([]rule.Rule, len(rules))
	for i, m := range rules {
		list[i] = m.Rule
	}
	bad := map[int]bool{}
	for _, problem := range rule.Check(list) {
		im.inexact(rules[problem.Index].line, "acl: left out: %s", problem.Text)
		bad[problem.Index] = true
	}
	for i, r := range list {
		if !bad[i] {
			im.out.Rules = append(im.out.Rules, r)
		}
	}
	im.out.Groups = im.groups()
}

// opens tells whether m may allow what denied denies.
func (m made) opens(denied made) bool {
	if len(m.May) == 0 {
		return false
	}
	common := slices.ContainsFunc(m.May, func(a string) bool { return a == "all" || slices.Contains(denied.Deny, a) })
	return common && overlap(m.Who, denied.Who, sameWho) && overlap(m.What, denied.What, sameWhat)
}

func overlap(a, b []string, same func(a, b string) bool) bool {
	return slices.ContainsFunc(a, func(x string) bool { return slices.ContainsFunc(b, func(y string) bool { return same(x, y) }) })
}

// sameWho tells whether somebody may be both a and b.
func sameWho(a, b string) bool {
	if a == b || a == "everyone" || b == "everyone" {
		return true
	}
	if a == "anonymous" || b == "anonymous" {
		return false
	}
	one, isOne := strings.CutPrefix(a, "user:")
	two, isTwo := strings.CutPrefix(b, "user:")
	return !isOne || !isTwo || isPattern(one) || isPattern(two)
}

// sameWhat tells whether a repository may match both a and b.
func sameWhat(a, b string) bool {
	if isPattern(a) && a[0] == '/' || isPattern(b) && b[0] == '/' {
		return true
	}
	a, b = prefix(a), prefix(b)
	return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
}

func prefix(p string) string {
	if i := strings.IndexAny(p, "*$"); i >= 0 {
		return p[:i]
	}
	return p + "\x00" // All of a name.
}

func isPattern(p string) bool { return strings.ContainsAny(p, "*$") || strings.HasPrefix(p, "/") }

// groups are the groups of users that the rules speak of.
func (im *importer) groups() []Group {
	members := map[string][]string{}
	for _, u := range im.users {
		for label, values := range u.labels {
			p, ok := im.prefixes[label]
			for _, v := range values {
				if ok && u.name != "" && !slices.Contains(members[p+v], u.name) {
					members[p+v] = append(members[p+v], u.name)
				}
			}
		}
	}
	var all []Group
	for _, name := range slices.Sorted(maps.Keys(members)) {
		all = append(all, Group{name, members[name]})
	}
	return all
}
