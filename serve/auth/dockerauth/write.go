package dockerauth

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/regctl/regctl/serve/auth/rule"
)

// Config is the Result as a piece of config.yml. The users are in the htpasswd
// file at the path; empty: there is none.
// Errors: none but of writing YAML.
func (r *Result) Config(htpasswd string) ([]byte, error) {
	root := mapping(0)
	logins := mapping(0)
	if htpasswd != "" {
		users := mapping(yaml.FlowStyle)
		realm := r.Issuer
		if realm == "" {
			realm = "regctl"
		}
		put(users, "realm", scalar(realm))
		put(users, "path", scalar(htpasswd))
		put(logins, "htpasswd", users)
	}
	if r.LDAP != nil {
		put(logins, "ldap", r.LDAP.node())
	}
	if len(logins.Content) > 0 {
		put(root, "auth", logins)
	}
	if len(r.Groups) > 0 {
		groups := mapping(0)
		for _, g := range r.Groups {
			put(groups, g.Name, sequence(g.Users))
		}
		put(root, "groups", groups)
	}
	if len(root.Content)+len(r.Rules) == 0 {
		return nil, nil
	}
	var b bytes.Buffer
	if len(root.Content) > 0 {
		e := yaml.NewEncoder(&b)
		e.SetIndent(2)
		if err := e.Encode(root); err != nil {
			return nil, fmt.Errorf("write the configuration: %w", err)
		}
	}
	if len(r.Rules) > 0 {
		b.WriteString("access:\n")
	}
	for _, one := range r.Rules {
		b.WriteString("  - " + ruleLine(one) + "\n")
	}
	return b.Bytes(), nil
}

func (l *LDAP) node() *yaml.Node {
	n := mapping(0)
	for _, field := range [][2]string{
		{"url", l.URL}, {"ca", l.CA}, {"binddn", l.BindDN}, {"bindfile", l.BindFile}, {"userdn", l.UserDN}, {"userbase", l.UserBase},
		{"userfilter", l.UserFilter}, {"groupof", l.GroupsOf},
	} {
		if field[1] != "" {
			put(n, field[0], scalar(field[1]))
		}
	}
	if l.StartTLS {
		put(n, "starttls", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"})
	}
	return n
}

// ruleLine is a rule as people write it.
func ruleLine(r rule.Rule) string {
	parts := []string{"who: " + words(r.Who, false), "what: " + words(r.What, false)}
	if len(r.From) > 0 {
		var from []string
		for _, network := range r.From {
			from = append(from, network.String())
		}
		parts = append(parts, "from: "+words(from, false))
	}
	for _, list := range []struct {
		key   string
		words []string
	}{{"may", r.May}, {"deny", r.Deny}} {
		if len(list.words) > 0 {
			parts = append(parts, list.key+": "+words(list.words, list.words[0] != "all"))
		}
	}
	if r.Because != "" {
		parts = append(parts, "because: "+word(r.Because))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// words is one word, or a list.
func words(all []string, list bool) string {
	if len(all) == 1 && !list {
		return word(all[0])
	}
	var quoted []string
	for _, s := range all {
		quoted = append(quoted, word(s))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// word is s, in quotes if it would not be a text, or all of it, without.
func word(s string) string {
	if plain := regexp.MustCompile(`^[A-Za-z][A-Za-z0-9 ._=@/()*-]*(:[A-Za-z0-9._=@/*-]+)?$`); plain.MatchString(s) {
		n := &yaml.Node{}
		if err := yaml.Unmarshal([]byte("["+s+"]"), n); err == nil && len(n.Content) == 1 && len(n.Content[0].Content) == 1 {
			if one := n.Content[0].Content[0]; one.Kind == yaml.ScalarNode && one.Tag == "!!str" && one.Value == s && !slices.Contains([]string{"y", "n", "on", "off", "yes", "no"}, strings.ToLower(s)) {
				return s
			}
		}
	}
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil { // Cannot happen: a string.
		return strconv.Quote(s)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func mapping(style yaml.Style) *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode, Style: style} }

// put adds a key; a nil value is left out.
func put(n *yaml.Node, key string, value *yaml.Node) {
	if value != nil {
		n.Content = append(n.Content, scalar(key), value)
	}
}

// scalar is a text, quoted if it would be something else.
func scalar(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}

func sequence(list []string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, s := range list {
		n.Content = append(n.Content, scalar(s))
	}
	return n
}
