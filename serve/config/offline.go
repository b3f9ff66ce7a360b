package config

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// ParseStore reads of a configuration only what says where a store is and what
// a collection takes away: the sections storage and gc. It is for who works on
// a store and does not serve it; that a server would not start without a login
// or TLS that is not built yet, or is read-only, is none of their business.
// Arguments, results and defaults are as of [Parse].
func ParseStore(name string, file []byte, environ []string) (*Config, []Problem, error) {
	return parse(name, file, environ, (*parser).onlyStore)
}

// onlyStore leaves of a tree, and of what was said about variables, what
// [ParseStore] reads.
func (p *parser) onlyStore(root node) {
	p.apart = true
	keepKeys(root, func(key node) bool { return key.Value == "storage" || key.Value == "gc" })
	if _, storage := get(root, "storage"); storage != nil {
		if _, maintenance := get(storage, "maintenance"); maintenance != nil {
			keepKeys(maintenance, func(key node) bool { return key.Value != "readonly" })
		}
	}
	ofOthers := func(problem Problem) bool {
		variable, ok := strings.CutPrefix(problem.Where, "REGISTRY_")
		return ok && !strings.HasPrefix(variable, "STORAGE") && !strings.HasPrefix(variable, "GC")
	}
	p.errors = slices.DeleteFunc(p.errors, ofOthers)
	p.warnings = slices.DeleteFunc(p.warnings, ofOthers)
}

// keepKeys leaves those keys of a mapping that keep wants.
func keepKeys(m node, keep func(key node) bool) {
	if m.Kind != yaml.MappingNode {
		return
	}
	var kept []node
	for i := 0; i+1 < len(m.Content); i += 2 {
		if keep(m.Content[i]) {
			kept = append(kept, m.Content[i], m.Content[i+1])
		}
	}
	m.Content = kept
}
