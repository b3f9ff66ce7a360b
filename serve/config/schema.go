package config

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// state is what becomes of a key.
type state uint8

const (
	built    state = iota
	accepted       // It has no effect here, and need not.
	later          // Not built; going on without it is safe: a warning.
	refused        // Not built; going on without it is not.
)

// section holds the keys of a mapping, field what is known of one.
type (
	section map[string]field
	field   struct {
		state  state
		fields section // Of a mapping.
		set    func(*Config, node) error
		note   string
		strict string // An unknown key in it is an error, and this is what it is told.
		bare   bool   // It counts without a value too.
		driver bool   // A storage driver.
		open   bool   // Its keys are any names.
		list   bool   // A list, the entries of which have no keys that we know.
		guards bool   // Without it something is open that was to be closed.
		secret bool   // Its value is shown to nobody.

		alias string        // The name of its Go field in registry:2, where that is not the key.
		items section       // The keys of the entries of a list.
		begin func(*Config) // Begins the next entry.
		each  *field        // Of the values in what is open.
	}
)

// schema is the file of registry:2, v2 and v3, and what is ours.
var schema = section{
	"version":       {set: setVersion},
	"loglevel":      {set: setLevel(func(c *Config) *string { return &c.loglevel })},
	"log":           logSection(),
	"storage":       storageSection(),
	"auth":          authSection(),
	"middleware":    middlewareSection(),
	"http":          httpSection(),
	"notifications": notifySection(),
	"redis":         {state: later, open: true, note: "has no effect: no cache is kept outside, and none is needed"},
	"health":        healthSection(),
	"reporting":     {state: later, open: true, note: "has no effect: nothing is reported to Bugsnag or New Relic; see the log and http.debug.prometheus"},
	"compatibility": {state: later, open: true, note: "has no effect: manifests of schema 1 are not taken", fields: section{"schema1": {state: later, open: true, fields: section{
		"signingkeyfile": {state: later, alias: "trustkey"}, "enabled": {state: later}}}}},
	"catalog":    {fields: section{"maxentries": {set: setCount(func(c *Config) *int { return &c.Catalog.MaxEntries })}}},
	"tags":       {fields: section{"maxtags": {set: setMaxTags}}},
	"proxy":      proxySection(),
	"validation": validationSection(),
	"policy":     restricts("its policy"),
	"gc":         gcSection(),
	"access":     accessSection(),
	"groups":     groupsSection(),
	"tokens":     tokensSection(),
	"audit":      auditSection(),
}

func restricts(what string) field {
	return field{state: refused, open: true, note: "the server does not start without " + what}
}

// secures tells whether a field, or one in it, restricts or secures something.
// Going on without it would leave open what is to be closed.
func (f field) secures() bool {
	if f.state == refused || f.guards || f.strict != "" && f.fields != nil {
		return true
	}
	for _, in := range f.fields {
		if in.secures() {
			return true
		}
	}
	return false
}

// meantToRestrict tells whether an unknown key in fields is probably one that
// restricts or secures: misspelled, or out of its section because of a lost
// indentation. Passing over it would leave open what is to be closed.
func meantToRestrict(key string, fields section) bool {
	key = strings.ToLower(key)
	switch key {
	case "accesscontrol", "acl", "acls", "authz": // As others call it.
		return true
	}
	for name, f := range fields {
		if f.secures() && distance(key, name) <= 1 {
			return true
		}
	}
	return schema.refuses(key)
}

// whyRefused tells why an unknown variable of these parts is not passed over:
// its section takes no unknown key, as in the file, or [meantToRestrict] says
// so, from the first part that is unknown. "enabled" alone is said of
// everything. Empty: it is passed over.
func (s section) whyRefused(parts []string) string {
	strict := ""
	for i, part := range parts {
		if _, f, ok := s.named(part); ok {
			if s = f.fields; f.items != nil {
				s = f.items
			}
			strict = f.strict
			continue
		}
		if meantToRestrict(part, s) || slices.ContainsFunc(parts[i+1:], func(p string) bool { return p != "enabled" && schema.refuses(p) }) {
			return "it looks as if it were to restrict something"
		}
		return strict
	}
	return ""
}

// refuses tells whether a field called key, however deep, secures something.
func (s section) refuses(key string) bool {
	for name, f := range s {
		if name == key && f.secures() && name != "storage" || f.fields.refuses(key) {
			return true
		}
	}
	return false
}

// step is a part of the way to a value: a key, or the index of an entry of a
// list.
type step struct {
	name  string
	index bool
	any   bool // A key that is any name, and found in any case: variables have none.
}

// find leads the parts of a variable's name to a value of the file, by its keys
// or by the Go fields of registry:2.
func (s section) find(parts []string) (steps []step, ok bool) {
	at := field{fields: s}
	for _, part := range parts {
		_, err := strconv.ParseUint(part, 10, 16)
		switch name, f, known := at.fields.named(part); {
		case known:
			steps, at = append(steps, step{name: name}), f
		case at.items != nil || at.list:
			if err != nil {
				return nil, false
			}
			steps, at = append(steps, step{name: part, index: true}), field{fields: at.items, open: at.open}
		case at.open && at.each != nil:
			steps, at = append(steps, step{name: part, any: true}), *at.each
		case at.open:
			steps, at = append(steps, step{name: part, any: true}), field{open: true}
		default:
			return nil, false
		}
	}
	return steps, true
}

// named finds a field by its key or its alias.
func (s section) named(part string) (name string, f field, ok bool) {
	if f, ok = s[part]; ok {
		return part, f, true
	}
	for name, f := range s {
		if f.alias == part {
			return name, f, true
		}
	}
	return "", field{}, false
}

// variables lists the variables that have a name of their own.
func variables() []string {
	var names []string
	var add func(prefix string, s section)
	add = func(prefix string, s section) {
		for _, key := range slices.Sorted(maps.Keys(s)) {
			name := prefix + strings.ToUpper(key)
			names = append(names, name)
			add(name+"_", s[key].fields)
			add(name+"_0_", s[key].items)
		}
	}
	add("REGISTRY_", schema)
	return names
}
