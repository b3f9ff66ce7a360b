package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

type node = *yaml.Node

// parser gathers what is wrong while it walks a tree of YAML.
type parser struct {
	name     string
	from     map[node]string // The variable that a key or value comes from.
	errors   []Problem
	warnings []Problem
	apart    bool // It is for who does not serve.
}

func (p *parser) where(n node) string {
	switch {
	case n == nil:
		return p.name
	case p.from[n] != "":
		return p.from[n]
	case n.Line == 0:
		return p.name
	}
	return fmt.Sprintf("%s:%d", p.name, n.Line)
}

// document returns the mapping that file is; an empty one if it cannot be read.
func (p *parser) document(file []byte) node {
	empty := &yaml.Node{Kind: yaml.MappingNode}
	var doc yaml.Node
	if err := yaml.Unmarshal(file, &doc); err != nil {
		text := strings.TrimPrefix(err.Error(), "yaml: ")
		if strings.Contains(text, "cannot start any token") && strings.Contains(string(file), ": @") {
			text += `; a value that begins with @ needs quotes: "@daily"`
		}
		p.errors = append(p.errors, Problem{p.name, text})
		return empty
	}
	if doc.Kind == 0 || isNull(doc.Content[0]) {
		return empty
	}
	root := follow(doc.Content[0])
	if root.Kind != yaml.MappingNode {
		p.errorf(root, "the file is not a mapping of sections")
		return empty
	}
	return root
}

// follow returns what an alias stands for.
func follow(n node) node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isNull(n node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// get returns the key and value of a mapping under name; nil if missing.
func get(m node, name string) (key, value node) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == name {
			return m.Content[i], follow(m.Content[i+1])
		}
	}
	return nil, nil
}

// override puts the variables of environ into the tree and tells whether
// there was a known one. Sorting puts a section before what is in it.
func (p *parser) override(root node, environ []string) (known bool) {
	environ = slices.Clone(environ)
	slices.Sort(environ)
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
		p.put(root, steps, name, value)
	}
	return known
}

// unknownVariable warns, or refuses what looks as if it were to restrict
// something, as in the file.
func (p *parser) unknownVariable(name string, parts []string) {
	hint := nearest(name, variables())
	if !ofService(parts) && schema.meansToRestrict(parts) {
		p.errors = append(p.errors, Problem{name, "unknown variable, and it looks as if it were to restrict something" + hint})
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
func (p *parser) put(m node, steps []string, name, value string) {
	for i, step := range steps {
		key, at := get(m, step)
		if key == nil {
			key = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: step}
			m.Content = append(m.Content, key, &yaml.Node{Kind: yaml.MappingNode})
			at = m.Content[len(m.Content)-1]
		}
		p.from[key] = name
		index := slices.Index(m.Content, key) + 1
		switch {
		case i == len(steps)-1:
			m.Content[index] = p.value(name, value, at)
		case at.Kind != yaml.MappingNode: // Such as "auth: htpasswd", to which a realm is added.
			wider := &yaml.Node{Kind: yaml.MappingNode}
			if at.Kind == yaml.ScalarNode && !isNull(at) {
				wider.Content = []node{at, {Kind: yaml.ScalarNode, Tag: "!!null"}}
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

// value reads the value of a variable as YAML, as registry:2 does; what is
// none is a string. A word in place of a section that the file has
// (REGISTRY_STORAGE=inmemory) chooses within it and keeps the rest.
func (p *parser) value(name, value string, was node) node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(value), &doc); err == nil && doc.Kind != 0 {
		n = follow(doc.Content[0])
	}
	if n.Kind == yaml.ScalarNode && !isNull(n) && was.Kind == yaml.MappingNode && len(was.Content) > 0 {
		p.put(was, []string{n.Value}, name, "{}")
		return was
	}
	p.mark(n, name, 0)
	return n
}

// mark notes that n and all in it come from a variable.
func (p *parser) mark(n node, name string, depth int) {
	p.from[n] = name
	if depth > maxDepth {
		return
	}
	for _, c := range n.Content {
		p.mark(c, name, depth+1)
	}
}

// maxDepth ends walks through aliases that contain themselves.
const maxDepth = 16

// walk holds the keys of m against the fields and sets c.
func (p *parser) walk(c *Config, m node, fields section, path, strict string) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, value := m.Content[i], follow(m.Content[i+1])
		name := path + key.Value
		switch f, ok := fields[key.Value]; {
		case key.Value == "<<":
			p.errorf(key, "merge keys (<<) are not read; write the section out")
		case seen[key.Value]:
			p.errorf(key, "%s is there twice", name)
		case !ok && strict != "":
			p.errorf(key, "%s: %s%s", name, strict, nearest(key.Value, slices.Collect(maps.Keys(fields))))
		case !ok && meantToRestrict(key.Value, fields):
			p.errorf(key, "%s: unknown key, and it looks as if it were to restrict something; is it spelled and indented right?", name)
		case !ok:
			p.warnf(key, "%s: unknown key%s", name, nearest(key.Value, slices.Collect(maps.Keys(fields))))
		case name == "auth" && isNull(value):
			p.errorf(key, "auth is empty; indent what belongs to it, or leave it out to serve without a login")
		case f.bare || !isNull(value) && (value.Kind != yaml.ScalarNode || value.Value != ""):
			p.field(c, key, value, f, name)
		}
		seen[key.Value] = true
	}
}

func (p *parser) field(c *Config, key, value node, f field, name string) {
	switch {
	case f.state == refused:
		if f.bare || says(value, 0) {
			p.errorf(key, "%s is not built yet: %s", name, f.note)
		}
	case f.state == later:
		if says(value, 0) {
			p.warnf(key, "%s: %s", name, or(f.note, "not built yet, it has no effect"))
		}
	case f.state == accepted:
	case f.set != nil:
		if err := f.set(c, value); err != nil {
			p.errorf(key, "%s: %v", name, err)
		} else if name == "storage.filesystem.rootdirectory" {
			c.Storage.RootFrom = p.where(key)
		}
	case value.Kind == yaml.MappingNode:
		p.walk(c, value, f.fields, name+".", f.strict)
	case value.Kind == yaml.ScalarNode: // "storage: inmemory" is "storage: {inmemory: }".
		p.walk(c, &yaml.Node{Kind: yaml.MappingNode, Content: []node{value, {Kind: yaml.MappingNode}}}, f.fields, name+".", f.strict)
	default:
		p.errorf(key, "%s must be a mapping", name)
	}
}

// says tells whether a value asks for anything: a section of nothing but
// empty and false values does not.
func says(n node, depth int) bool {
	n = follow(n)
	switch {
	case depth > maxDepth:
		return true
	case n.Kind == yaml.ScalarNode:
		return !isNull(n) && n.Value != "" && n.Value != "false"
	case n.Kind == yaml.MappingNode:
		for i := 1; i < len(n.Content); i += 2 {
			if says(n.Content[i], depth+1) {
				return true
			}
		}
		return false
	}
	return slices.ContainsFunc(n.Content, func(c node) bool { return says(c, depth+1) })
}

// onlyDriver leaves one storage driver: that of a variable wins over that of
// the file. Two of the same rank are an error.
func (p *parser) onlyDriver(root node) {
	_, storage := get(root, "storage")
	if storage == nil || storage.Kind != yaml.MappingNode {
		return
	}
	var file, env []node
	for i := 0; i+1 < len(storage.Content); i += 2 {
		key := storage.Content[i]
		switch {
		case !schema["storage"].fields[key.Value].driver:
		case p.from[key] != "":
			env = append(env, key)
		default:
			file = append(file, key)
		}
	}
	drivers := file
	if len(env) > 0 {
		drivers = env
		for _, key := range file {
			i := slices.Index(storage.Content, key)
			storage.Content = slices.Delete(storage.Content, i, i+2)
		}
	}
	if len(drivers) > 1 {
		p.errorf(drivers[1], "storage has two drivers, %s and %s; leave one", drivers[0].Value, drivers[1].Value)
	}
}

// dropValidation takes away the restrictions of registry:2 on manifests where
// it would not look at them either: with disabled set, and enabled not.
func (p *parser) dropValidation(root node) {
	_, validation := get(root, "validation")
	if validation == nil || validation.Kind != yaml.MappingNode {
		return
	}
	_, enabled := get(validation, "enabled")
	_, disabled := get(validation, "disabled")
	_, manifests := get(validation, "manifests")
	on := disabled == nil || disabled.Value != "true" || enabled != nil && says(enabled, 0)
	if on || manifests == nil || manifests.Kind != yaml.MappingNode {
		return
	}
	for _, name := range []string{"urls", "indexes"} {
		if key, _ := get(manifests, name); key != nil {
			i := slices.Index(manifests.Content, key)
			manifests.Content = slices.Delete(manifests.Content, i, i+2)
		}
	}
}

func or(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}
