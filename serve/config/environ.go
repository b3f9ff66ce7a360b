package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// override puts the variables of environ into the tree and tells whether
// there was a known one. Sorting puts a section before what is in it.
func (p *parser) override(root node, environ []string) (known bool) {
	environ = slices.Clone(environ)
	slices.SortFunc(environ, byParts)
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		path, ok := strings.CutPrefix(name, "REGISTRY_")
		if !ok || name == "REGISTRY_CONFIGURATION_PATH" {
			continue
		}
		parts := strings.Split(strings.ToLower(path), "_")
		steps, ok := schema.find(parts)
		if !ok || ofService(parts) { // A service called registry-proxy asks for no proxy.
			p.unknownVariable(name, parts)
			continue
		}
		known = true
		if key, _ := get(root, steps[0].name); key == nil && (name == "REGISTRY_AUTH" || name == "REGISTRY_ACCESS") && strings.TrimSpace(value) == "" {
			continue // Nobody has asked for a login; with one in the file, it is not to be lost like this.
		}
		p.putClosing(root, steps, name, value)
	}
	return known
}

// unknownVariable warns, or refuses what looks as if it were to restrict
// something, as in the file.
func (p *parser) unknownVariable(name string, parts []string) {
	hint := nearest(name, variables())
	if why := schema.whyRefused(parts); why != "" && !ofService(parts) {
		p.errors = append(p.errors, Problem{name, "unknown variable, and " + why + hint})
		return
	}
	p.warnings = append(p.warnings, Problem{name, "unknown variable" + hint})
}

// ofService tells whether it is one of the variables that Kubernetes sets in
// every container for a service called registry, or registry-x.
func ofService(parts []string) bool {
	for i, part := range parts {
		after := append(parts[i+1:len(parts):len(parts)], "")[0]
		_, err := strconv.Atoi(after)
		switch {
		case part == "service" && (after == "host" || after == "port"), part == "port" && (after == "" || err == nil):
			return true
		}
	}
	return false
}

// put sets the value at the end of steps to that of a variable.
func (p *parser) put(m node, steps []step, name, value string) {
	for i, s := range steps {
		index, ok := p.place(m, s, name)
		if !ok {
			return
		}
		at := follow(m.Content[index])
		kind := yaml.MappingNode
		if i+1 < len(steps) && steps[i+1].index {
			kind = yaml.SequenceNode
		}
		switch {
		case i == len(steps)-1:
			m.Content[index] = p.value(name, value, at)
		case at.Kind != kind: // Such as "auth: htpasswd", to which a realm is added.
			wider := &yaml.Node{Kind: kind, Line: at.Line}
			if at.Kind == yaml.ScalarNode && !isNull(at) {
				wider.Content = []node{at}
				if kind == yaml.MappingNode {
					wider.Content = append(wider.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"})
				}
			}
			if p.from[at] != "" {
				p.from[wider] = p.from[at]
			}
			m.Content[index] = wider
		case m.Content[index] != at: // Shared by an alias: change a copy.
			clone := *at
			clone.Content = slices.Clone(at.Content)
			m.Content[index] = &clone
		}
		m = m.Content[index]
	}
}

// place tells where in m.Content the value of a step is, and makes it if it is
// missing: a key, or an entry of a list that ends just before it.
func (p *parser) place(m node, s step, name string) (index int, ok bool) {
	empty := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}
	if s.index {
		index, err := strconv.Atoi(s.name)
		if err != nil || index > len(m.Content) {
			p.errors = append(p.errors, Problem{name, fmt.Sprintf("there is no entry %s in a list of %d; they are counted from 0, without a gap", s.name, len(m.Content))})
			return 0, false
		}
		if index == len(m.Content) {
			m.Content = append(m.Content, empty)
			p.from[empty] = name
		}
		return index, true
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if key := m.Content[i]; key.Value == s.name || s.any && strings.EqualFold(key.Value, s.name) {
			p.from[key] = name
			return i + 1, true
		}
	}
	key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s.name}
	p.from[key] = name
	m.Content = append(m.Content, key, empty)
	return len(m.Content) - 1, true
}

// value reads the value of a variable as YAML, as registry:2 does; what is
// none is a string. A word in place of a section that the file has
// (REGISTRY_STORAGE=inmemory) chooses within it and keeps the rest.
func (p *parser) value(name, value string, was node) node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
	var doc yaml.Node
	switch err := yaml.Unmarshal([]byte(value), &doc); {
	case err == nil && doc.Kind != 0:
		n = follow(doc.Content[0])
	case err == nil: // Nothing but space, or a comment.
		n.Tag, n.Value = "!!null", ""
	}
	if (name == "REGISTRY_STORAGE" || name == "REGISTRY_AUTH") && n.Kind == yaml.ScalarNode && !isNull(n) && was.Kind == yaml.MappingNode && len(was.Content) > 0 {
		p.choose(was, n.Value, name)
		return was
	}
	p.mark(n, name, 0)
	return n
}

// choose makes word a key of the section was. What was said of it is gone, as
// with registry:2, but for a login.
func (p *parser) choose(was node, word, name string) {
	_, old := get(was, word)
	p.put(was, []step{{name: word}}, name, "{}")
	switch {
	case old == nil || !says(old, 0):
	case name == "REGISTRY_AUTH":
		_, now := get(was, word)
		*now = *old
	default:
		p.warnings = append(p.warnings, Problem{name, fmt.Sprintf("as with registry:2, what the file says of %s does not count beside it; a variable for each of its keys does", word)})
	}
}

// byParts sorts a section before what is in it, and entries of lists by their
// number.
func byParts(a, b string) int {
	nameA, _, _ := strings.Cut(a, "=")
	nameB, _, _ := strings.Cut(b, "=")
	return slices.CompareFunc(strings.Split(nameA, "_"), strings.Split(nameB, "_"), func(a, b string) int {
		m, errA := strconv.ParseUint(a, 10, 16)
		n, errB := strconv.ParseUint(b, 10, 16)
		if errA == nil && errB == nil {
			return cmp.Compare(m, n)
		}
		return cmp.Compare(a, b)
	})
}
