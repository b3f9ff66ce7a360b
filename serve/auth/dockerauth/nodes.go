package dockerauth

import (
	"iter"
	"slices"

	"go.yaml.in/yaml/v3"
)

// follow is what an alias stands for.
func follow(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// pairs are the keys and values of a mapping, those that it takes over from
// others ("<<") after its own; of anything else there are none. Of two values
// of a key the last one counts.
func pairs(n *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	var keys, values []*yaml.Node
	collect(n, 0, func(key, value *yaml.Node, own bool) {
		i := slices.IndexFunc(keys, func(k *yaml.Node) bool { return k.Value == key.Value })
		switch {
		case i < 0:
			keys, values = append(keys, key), append(values, value)
		case own:
			keys[i], values[i] = key, value
		}
	})
	return func(yield func(key, value *yaml.Node) bool) {
		for i := range keys {
			if !yield(keys[i], values[i]) {
				return
			}
		}
	}
}

// deepest is how many mappings may take over from each other: one may be in
// itself.
const deepest = 10

func collect(n *yaml.Node, depth int, add func(key, value *yaml.Node, own bool)) {
	if n = follow(n); n.Kind != yaml.MappingNode || depth > deepest {
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag != "!!merge" {
			add(n.Content[i], n.Content[i+1], depth == 0)
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag != "!!merge" {
			continue
		}
		others := []*yaml.Node{n.Content[i+1]}
		if from := follow(n.Content[i+1]); from.Kind == yaml.SequenceNode {
			others = from.Content
		}
		for _, other := range others {
			collect(other, depth+1, add)
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
