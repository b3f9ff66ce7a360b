package config

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// closing are the keys that keep somebody out, and without which a server
// starts all the same; those of auth have checks of their own.
var closing = []string{"storage.maintenance.readonly.enabled", "http.tls.clientcas", "access"}

// closed are those of closing that ask for something.
func closed(root node) (names []string) {
	for _, name := range closing {
		n := root
		for part := range strings.SplitSeq(name, ".") {
			if n == nil || n.Kind != yaml.MappingNode {
				n = nil
				break
			}
			_, n = get(n, part)
		}
		if n != nil && says(n, 0) {
			names = append(names, name)
		}
	}
	return names
}

// putClosing is put for variables of which one may open what is closed. An
// empty one is one that somebody forgot to set. To replace a section is as in
// registry:2, and told.
func (p *parser) putClosing(root node, steps []step, name, value string) {
	before := closed(root)
	p.put(root, steps, name, value)
	after := closed(root)
	var path []string
	for _, s := range steps {
		path = append(path, s.name)
	}
	for _, key := range before {
		switch {
		case slices.Contains(after, key):
		case strings.TrimSpace(value) == "":
			p.errors = append(p.errors, Problem{name, fmt.Sprintf("it is empty, and takes away what the file says of %s; give it a value, or leave it out", key)})
		case strings.Join(path, ".") != key:
			p.warnings = append(p.warnings, Problem{name, fmt.Sprintf("as with registry:2, what the file says of %s does not count beside it", key)})
		}
	}
}
