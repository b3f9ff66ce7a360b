package config

import (
	"errors"

	"go.yaml.in/yaml/v3"
)

// middlewareSection takes middleware that is disabled: there is no other.
func middlewareSection() field {
	list := field{set: noMiddleware, items: section{
		"name": {state: accepted}, "disabled": {state: accepted}, "options": {state: accepted, open: true, secret: true},
	}}
	return field{strict: "no such place for middleware", fields: section{"registry": list, "repository": list, "storage": list}}
}

func noMiddleware(_ *Config, n node) error {
	if n.Kind != yaml.SequenceNode {
		return errors.New("must be a list")
	}
	for _, entry := range n.Content {
		if entry = follow(entry); entry.Kind != yaml.MappingNode {
			return errors.New("must be a list of mappings")
		}
		if _, disabled := get(entry, "disabled"); says(entry, 0) && (disabled == nil || !isTrue(disabled)) {
			name := "middleware"
			if _, n := get(entry, "name"); n != nil && n.Value != "" {
				name = "the middleware " + n.Value
			}
			return errors.New("is not built yet: the server does not start without " + name + "; disabled: true leaves it out")
		}
	}
	return nil
}

// proxySection is that of a mirror; without a remoteurl registry:2 is none.
func proxySection() field {
	return field{strict: "no such key", fields: section{
		"remoteurl":         restricts("being a mirror"),
		"username":          {state: accepted, secret: true},
		"password":          {state: accepted, secret: true},
		"exec":              {state: accepted, open: true, secret: true},
		"ttl":               {state: accepted},
		"cachewritetimeout": {state: accepted},
	}}
}
