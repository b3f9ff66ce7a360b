package config

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/regctl/regctl/serve/auth/rule"
)

// Presets are the names that stand for a list of rules.
func Presets() []string { return []string{"open", "public-pull", "private"} }

// accessSection is the section access, which is ours: a preset, or a list of
// rules.
func accessSection() field {
	entry := section{}
	for key := range ruleKeys() {
		entry[key] = field{list: true}
	}
	return field{set: setAccess, items: entry, strict: "no such key", guards: true}
}

// groupsSection is the section groups, which is ours: users by group.
func groupsSection() field {
	return field{set: setGroups, open: true, each: &field{list: true}, guards: true}
}

func setAccess(c *Config, n node) error {
	switch {
	case n.Kind == yaml.ScalarNode:
		v, err := oneOf(n, Presets()...)
		c.Access = Access{Preset: v, On: true}
		if err != nil {
			return fmt.Errorf("%w; or it is a list of rules", err)
		}
		return nil
	case n.Kind != yaml.SequenceNode:
		return errors.New("must be a list of rules, or one of " + strings.Join(Presets(), ", "))
	case len(n.Content) == 0:
		return errors.New("is an empty list, and nobody may do anything; leave it out, or write private")
	}
	c.Access = Access{On: true}
	c.rules = slices.Clone(n.Content)
	return nil
}

// ruleKeys are the keys of a rule, and what they set.
func ruleKeys() map[string]func(*rule.Rule, node) error {
	list := func(at func(*rule.Rule) *[]string) func(*rule.Rule, node) error {
		return func(r *rule.Rule, n node) (err error) {
			if *at(r), err = texts(n); err == nil && (len(*at(r)) == 0 || slices.Contains(*at(r), "")) {
				err = errors.New("is empty")
			}
			return err
		}
	}
	return map[string]func(*rule.Rule, node) error{
		"who":     list(func(r *rule.Rule) *[]string { return &r.Who }),
		"what":    list(func(r *rule.Rule) *[]string { return &r.What }),
		"may":     list(func(r *rule.Rule) *[]string { return &r.May }),
		"deny":    list(func(r *rule.Rule) *[]string { return &r.Deny }),
		"from":    setFrom,
		"because": func(r *rule.Rule, n node) (err error) { r.Because, err = scalar(n); return err },
	}
}

func setFrom(r *rule.Rule, n node) (err error) {
	if r.From, err = networks(n); err == nil && len(r.From) == 0 {
		err = errors.New("is empty")
	}
	return err
}

// networks reads a list of networks, of which each may be an address.
func networks(n node) ([]netip.Prefix, error) {
	list, err := texts(n)
	if err != nil {
		return nil, err
	}
	nets := []netip.Prefix{}
	for _, v := range list {
		prefix, err := netip.ParsePrefix(v)
		if addr, addrErr := netip.ParseAddr(v); err != nil && addrErr == nil && addr.Zone() == "" {
			prefix, err = addr.Prefix(addr.BitLen())
		}
		if err != nil {
			return nil, fmt.Errorf("%q is neither an address nor a network such as 10.0.0.0/8", v)
		}
		if prefix != prefix.Masked() {
			return nil, fmt.Errorf("%q has bits beyond its network; write %s", v, prefix.Masked())
		}
		nets = append(nets, prefix)
	}
	return nets, nil
}

// checkAccess reads the rules, each with its line.
func (p *parser) checkAccess(c *Config) {
	for i, entry := range c.rules {
		at := fmt.Sprintf("access.%d", i)
		p.at[at] = entry
		n := follow(entry)
		if n.Kind != yaml.MappingNode {
			p.errorf(entry, "%s must be a rule, such as {who: all, what: \"**\", may: [pull]}", at)
			continue
		}
		r, ok := p.rule(n, at)
		if !ok {
			continue
		}
		r.Where = p.where(entry)
		for _, wrong := range rule.Check([]rule.Rule{r}) {
			p.errorf(entry, "access: rule %d: %s", i+1, wrong.Text)
		}
		c.Access.Rules = append(c.Access.Rules, r)
	}
}

// rule reads one rule, called at.
func (p *parser) rule(n node, at string) (r rule.Rule, ok bool) {
	before := len(p.errors)
	set, seen := ruleKeys(), map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], follow(n.Content[i+1])
		name := at + "." + key.Value
		switch read, known := set[key.Value]; {
		case seen[key.Value]:
			p.errorf(key, "%s is there twice", name)
		case !known:
			p.errorf(key, "%s: no such key%s", name, nearest(key.Value, keys(set)))
		case nothing(value):
			if key.Value != "because" { // A list that is gone matches anything, or nothing.
				p.errorf(key, "%s is empty", name)
			}
		default:
			if err := read(&r, value); err != nil {
				p.errorf(key, "%s %v", name, err)
			}
		}
		seen[key.Value] = true
	}
	return r, len(p.errors) == before
}

func setGroups(c *Config, n node) error {
	if n.Kind != yaml.MappingNode {
		return errors.New("must be a mapping of groups and lists of users")
	}
	c.Groups = map[string][]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i].Value
		if _, twice := c.Groups[name]; twice {
			return fmt.Errorf("%s is there twice", name)
		}
		if strings.TrimSpace(name) == "" {
			return errors.New("has a group without a name")
		}
		value := follow(n.Content[i+1])
		if nothing(value) {
			c.Groups[name] = []string{}
			continue
		}
		users, err := texts(value)
		if err != nil {
			return fmt.Errorf("%s %w", name, err)
		}
		for j, user := range users {
			bare := strings.TrimPrefix(user, "user:")
			if bare == "" || strings.HasPrefix(bare, "group:") {
				return fmt.Errorf("%s: %q is the name of no user; of a robot it is robot:NAME", name, user)
			}
			users[j] = bare
		}
		c.Groups[name] = users
	}
	return nil
}

func (l *settings) access() {
	c := l.c
	switch {
	case !c.Access.On:
	case c.Access.Preset != "":
		l.own("access", c.Access.Preset)
	default:
		for i, r := range c.Access.Rules {
			l.own(fmt.Sprintf("access.%d", i), written(showRule(r)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Groups)) {
		l.own("groups."+name, c.Groups[name])
	}
}

// written is a value in the words of the file, quotes and all.
type written string

// showRule writes a rule as it could stand in the file.
func showRule(r rule.Rule) string {
	list := func(list []string) string {
		words := make([]string, len(list))
		for i, word := range list {
			words[i] = plain(word)
		}
		return "[" + strings.Join(words, ", ") + "]"
	}
	parts := []string{"who: " + list(r.Who), "what: " + list(r.What)}
	add := func(key string, values []string) {
		if len(values) > 0 {
			parts = append(parts, key+": "+list(values))
		}
	}
	from := make([]string, len(r.From))
	for i, prefix := range r.From {
		from[i] = prefix.String()
	}
	add("from", from)
	add("may", r.May)
	add("deny", r.Deny)
	if r.Because != "" {
		parts = append(parts, "because: "+plain(r.Because))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// plain is s as it can stand between braces: in quotes if it must.
func plain(s string) string {
	for i, r := range s {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r >= 0xa0 && unicode.IsLetter(r)
		inside := i > 0 && i < len(s)-1 && strings.ContainsRune(" :;()", r) && !strings.HasPrefix(s[i:], ": ")
		if !letter && !inside && !strings.ContainsRune("./_+", r) && (i == 0 || !strings.ContainsRune("*-", r)) {
			return strconv.Quote(s)
		}
	}
	if s == "" {
		return `""`
	}
	return s
}
