package config

import (
	"maps"
	"slices"
)

// Leaves are the keys of the schema that have no known keys in them; entries of
// lists are called 0.
func Leaves() []string {
	var all []string
	var add func(path string, s section)
	add = func(path string, s section) {
		for _, key := range slices.Sorted(maps.Keys(s)) {
			switch f := s[key]; {
			case len(f.fields) > 0:
				add(path+key+".", f.fields)
			case len(f.items) > 0:
				add(path+key+".0.", f.items)
			default:
				all = append(all, path+key)
			}
		}
	}
	add("", schema)
	return all
}
