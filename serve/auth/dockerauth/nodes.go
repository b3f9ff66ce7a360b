package dockerauth

import (
	"iter"

	"go.yaml.in/yaml/v3"
)

// follow is what an alias stands for.
func follow(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// pairs are the keys and values of a mapping; of anything else there are none.
func pairs(n *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(key, value *yaml.Node) bool) {
		if n = follow(n); n.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i], n.Content[i+1]) {
				return
			}
		}
	}
}

// get is the value of a key, or nil.
func get(n *yaml.Node, name string) *yaml.Node {
	for key, value := range pairs(n) {
		if key.Value == name {
			return value
		}
	}
	return nil
}

// textOf is a scalar, or "".
func textOf(n *yaml.Node) string {
	if n == nil {
		return ""
	}
	if n = follow(n); n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return ""
	}
	return n.Value
}

// optional is a scalar, or nil if there is none.
func optional(n *yaml.Node) *string {
	if n == nil {
		return nil
	}
	if n = follow(n); n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		return nil
	}
	return &n.Value
}
