package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

type node = *yaml.Node

// parser gathers what is wrong while it walks a tree of YAML.
type parser struct {
	name     string
	from     map[node]string // The variable that a key or value comes from.
	at       map[string]node // Where what is said stands, by its name.
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

// origin is where n comes from, as people write it.
func (p *parser) origin(n node) string {
	if p.from[n] != "" {
		return "$" + p.from[n]
	}
	return p.where(n)
}

// document returns the mapping that file is; an empty one if it cannot be read.
func (p *parser) document(file []byte) node {
	empty := &yaml.Node{Kind: yaml.MappingNode}
	var doc, next yaml.Node
	documents := yaml.NewDecoder(bytes.NewReader(file))
	if err := documents.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		text := strings.TrimPrefix(err.Error(), "yaml: ")
		p.errors = append(p.errors, Problem{p.name, text + unquoted(text, string(file))})
		return empty
	}
	if documents.Decode(&next) == nil && len(next.Content) > 0 && !nothing(next.Content[0]) {
		p.errorf(next.Content[0], "a second document begins here, and only the first counts; take out the line --- before it")
	}
	if doc.Kind == 0 || isNull(doc.Content[0]) {
		if file != nil && len(bytes.TrimSpace(file)) == 0 { // Cut off, on a full disk or by an editor.
			p.errorf(nil, "the file is empty, and the server does not start without what it may have said; for the defaults, name no file")
		}
		return empty
	}
	root := follow(doc.Content[0])
	if root.Kind != yaml.MappingNode {
		p.errorf(root, "the file is not a mapping of sections")
		return empty
	}
	p.merge(root, map[node]bool{})
	p.wantSections(root)
	return root
}

// unquoted is a hint at values that YAML takes for something else, if they are
// what it complains about.
func unquoted(complaint, file string) string {
	has := func(list ...string) bool {
		return slices.ContainsFunc(list, func(s string) bool { return strings.Contains(file, s) })
	}
	switch {
	case strings.Contains(complaint, "cannot start any token") && has(": @"):
		return `; a value that begins with @ needs quotes: "@daily"`
	case (strings.Contains(complaint, "alphabetic or numeric character") || strings.Contains(complaint, "unknown anchor")) && has(": *", "[*", ", *", "- *"):
		return `; a value that begins with * needs quotes: "**"`
	case strings.Contains(complaint, "expected ',' or '}'") && has(" ${", "[${"):
		return `; between braces ${user} needs quotes: "${user}/**"`
	}
	return ""
}

// wantSections refuses a file of which no section is known: it is that of
// another program, or all of it is indented, and a server would start open,
// with an empty store.
func (p *parser) wantSections(root node) {
	var unknown node
	for i := 0; i+1 < len(root.Content); i += 2 {
		key := root.Content[i]
		if _, known := schema[key.Value]; known && key.Value != "version" {
			return
		} else if !known && unknown == nil {
			unknown = key
		}
	}
	if unknown != nil {
		p.errorf(unknown, "no section of the file is known, such as storage or http; is it the right file, and are they indented right?")
	}
}

// merge puts in place of every merge key (<<) what it stands for: what is said
// beside it wins, and of several the first.
func (p *parser) merge(n node, seen map[node]bool) {
	if seen[n] {
		return
	}
	seen[n] = true
	for _, in := range n.Content {
		p.merge(follow(in), seen)
	}
	if n.Kind != yaml.MappingNode {
		return
	}
	var from []node
	for i := 0; i+1 < len(n.Content); i += 2 {
		if key, value := n.Content[i], follow(n.Content[i+1]); key.Value == "<<" && key.Tag == "!!merge" {
			from = append(from, value)
			n.Content = slices.Delete(n.Content, i, i+2)
			i -= 2
		}
	}
	for len(from) > 0 {
		source := from[0]
		from = from[1:]
		switch source.Kind {
		case yaml.SequenceNode:
			for _, in := range source.Content {
				if in = follow(in); in.Kind == yaml.MappingNode {
					from = append(from, in)
				}
			}
		case yaml.MappingNode:
			for i := 0; i+1 < len(source.Content); i += 2 {
				if key, _ := get(n, source.Content[i].Value); key == nil {
					n.Content = append(n.Content, source.Content[i], source.Content[i+1])
				}
			}
		default:
			p.errorf(source, "<< takes a mapping, or a list of mappings")
		}
	}
}

// follow returns what an alias stands for.
func follow(n node) node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// nothing tells whether a value is there and says nothing at all.
func nothing(n node) bool {
	n = follow(n)
	return isNull(n) || n.Value == "" && len(n.Content) == 0
}

// isEmpty tells whether a value is there and has nothing in it. An empty list is
// not that.
func isEmpty(n node) bool { return nothing(n) && n.Kind != yaml.SequenceNode }

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
	seen := map[string]int{} // The lines.
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, value := m.Content[i], follow(m.Content[i+1])
		name := path + key.Value
		switch f, ok := fields[key.Value]; {
		case seen[key.Value] > 0:
			p.errorf(key, "%s is there twice, here and in line %d: make one of them", name, seen[key.Value])
		case !ok && strict != "":
			p.errorf(key, "%s: %s%s", name, strict, nearest(key.Value, keys(fields)))
		case !ok && meantToRestrict(key.Value, fields):
			p.errorf(key, "%s: unknown key, and it looks as if it were to restrict something; is it spelled and indented right?%s", name, nearest(key.Value, keys(fields)))
		case !ok:
			p.warnf(key, "%s: unknown key%s", name, nearest(key.Value, keys(fields)))
		case name == "http.tls.clientcas" && nothing(value):
			p.errorf(key, "http.tls.clientcas is empty; leave it out to let clients in without a certificate")
		case name == "auth" && nothing(value):
			p.errorf(key, "auth is empty; indent what belongs to it, or leave it out to serve without a login")
		case name == "access" && isEmpty(value):
			p.errorf(key, "access is empty; indent what belongs to it, or leave it out to serve without rules")
		case f.bare || !isNull(value) && (value.Kind != yaml.ScalarNode || value.Value != ""):
			p.field(c, key, value, f, name)
		}
		seen[key.Value] = key.Line
	}
}

func (p *parser) field(c *Config, key, value node, f field, name string) {
	if !isNull(value) || f.fields != nil || f.driver {
		p.at[name] = key
	}
	if value.Kind == yaml.MappingNode && f.open {
		for i := 0; i+1 < len(value.Content); i += 2 {
			p.at[name+"."+value.Content[i].Value] = value.Content[i]
		}
	}
	switch {
	case f.state == refused:
		if f.bare || says(value, 0) {
			p.errorf(key, "%s is not built yet: %s", name, f.note)
		}
	case f.state == later:
		if says(value, 0) && !allDisabled(value) {
			p.warnf(key, "%s: %s", name, f.note)
		}
		p.idle(c, key, value, f, name)
	case f.state == accepted:
		p.idle(c, key, value, f, name)
	case isNull(value) && f.fields == nil && !f.driver:
	case f.set != nil:
		if err := f.set(c, value); err != nil {
			p.errorf(key, "%s: %v", name, err)
		} else if name == "storage.filesystem.rootdirectory" {
			c.Storage.RootFrom = p.where(key)
		}
	case f.items != nil:
		p.entries(c, key, value, f, name)
	case value.Kind == yaml.MappingNode:
		p.walk(c, value, f.fields, name+".", f.strict)
	case isNull(value):
	case value.Kind == yaml.ScalarNode && (name == "storage" || name == "auth"): // "storage: inmemory" is "storage: {inmemory: }".
		p.walk(c, &yaml.Node{Kind: yaml.MappingNode, Content: []node{value, {Kind: yaml.MappingNode}}}, f.fields, name+".", f.strict)
	default:
		such := ""
		if _, ok := f.fields["enabled"]; ok {
			such = ", such as {enabled: true}"
		}
		p.errorf(key, "%s must be a mapping%s", name, such)
	}
}

// idle notes what was said that has no effect.
func (p *parser) idle(c *Config, key, value node, f field, name string) {
	shown := Hidden
	if !f.secret {
		shown = showNode(value, 0)
	}
	c.idle = append(c.idle, Setting{Key: name, Value: shown, From: p.origin(key), Note: or(f.note, "has no effect")})
}

// entries walks over the mappings of a list.
func (p *parser) entries(c *Config, key, value node, f field, name string) {
	if value.Kind != yaml.SequenceNode {
		p.errorf(key, "%s must be a list", name)
		return
	}
	for i, entry := range value.Content {
		at := fmt.Sprintf("%s.%d", name, i)
		f.begin(c)
		p.at[at] = entry
		switch entry = follow(entry); {
		case entry.Kind == yaml.MappingNode:
			p.walk(c, entry, f.items, at+".", f.strict)
		case !isNull(entry):
			p.errorf(entry, "%s must be a mapping", at)
		}
	}
}

// allDisabled tells whether a list has only entries that say so.
func allDisabled(n node) bool {
	return n.Kind == yaml.SequenceNode && !slices.ContainsFunc(n.Content, func(entry node) bool {
		if entry = follow(entry); entry.Kind != yaml.MappingNode {
			return true
		}
		_, disabled := get(entry, "disabled")
		return disabled == nil || !isTrue(disabled)
	})
}

// says tells whether a value asks for anything: a section of nothing but
// empty and false values does not.
func says(n node, depth int) bool {
	n = follow(n)
	switch {
	case depth > maxDepth:
		return true
	case n.Kind == yaml.ScalarNode:
		is, ok := truth(n.Value)
		return !isNull(n) && n.Value != "" && (is || !ok)
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

// onlyAuth leaves the kind of login that REGISTRY_AUTH names.
func (p *parser) onlyAuth(root node) {
	_, auth := get(root, "auth")
	if auth == nil || auth.Kind != yaml.MappingNode {
		return
	}
	chosen := slices.ContainsFunc(auth.Content, func(n node) bool { return p.from[n] == "REGISTRY_AUTH" })
	keepKeys(auth, func(key node) bool { return !chosen || p.from[key] != "" })
}

func keys[T any](m map[string]T) []string { return slices.Collect(maps.Keys(m)) }

func or(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}
