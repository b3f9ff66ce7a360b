package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

func validationSection() field {
	return field{fields: section{
		"enabled":  {set: setBool(func(c *Config) *bool { return &c.Validation.enabled })},
		"disabled": {set: setBool(func(c *Config) *bool { return &c.Validation.disabled })},
		"manifests": {strict: "no such key", fields: section{
			"urls": {strict: "no such key", fields: section{
				"allow": {set: setPatterns(func(c *Config) *[]*regexp.Regexp { return &c.Validation.Allow }), list: true},
				"deny":  {set: setPatterns(func(c *Config) *[]*regexp.Regexp { return &c.Validation.Deny }), list: true},
			}},
			"indexes": {strict: "no such key", fields: section{
				"platforms": {set: setPlatforms},
				"platformlist": {begin: next(func(c *Config) *[]Platform { return &c.Validation.PlatformList }), items: section{
					"architecture": {set: setString(func(c *Config) *string { return &last(c.Validation.PlatformList).Architecture })},
					"os":           {set: setString(func(c *Config) *string { return &last(c.Validation.PlatformList).OS })},
				}},
			}},
			"images": {strict: "no such key", fields: section{"layers": {set: setLayers}}},
		}},
	}}
}

func setPatterns(at at[[]*regexp.Regexp]) func(*Config, node) error {
	return func(c *Config, n node) error {
		list, err := texts(n)
		if err != nil {
			return err
		}
		*at(c) = nil
		for _, s := range list {
			pattern, err := regexp.Compile(s)
			if err != nil {
				return fmt.Errorf("%q is no regular expression: %w", s, errors.Unwrap(err))
			}
			*at(c) = append(*at(c), pattern)
		}
		return nil
	}
}

func setPlatforms(c *Config, n node) error {
	v, err := scalar(n)
	if err != nil {
		return err
	}
	switch v = strings.ToLower(v); v {
	case "all", "none", "list":
		c.Validation.Platforms = v
		return nil
	}
	return fmt.Errorf("%q is none of all, none, list", v)
}

func setLayers(c *Config, n node) error {
	v, err := oneOf(n, "all", "none")
	c.Validation.SparseImages = v == "none"
	return err
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
	on := disabled == nil || !isTrue(disabled) || enabled != nil && isTrue(enabled)
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

// checkValidation sets what registry:2 holds manifests against where nothing
// is said: no layer elsewhere, and indexes of nothing but what is there.
func (p *parser) checkValidation(c *Config) {
	v := &c.Validation
	v.on = c.Compat && (v.enabled || !v.disabled)
	v.URLs = v.on
	switch {
	case !v.on:
		v.Platforms = "none"
	case v.Platforms == "":
		v.Platforms = "all"
	case v.Platforms == "list" && len(v.PlatformList) == 0:
		p.warnf(p.at["validation.manifests.indexes.platforms"], "validation.manifests.indexes.platforms: list, and the platformlist is empty: that is all, as in registry:2")
	}
	for i, platform := range v.PlatformList {
		if v.Platforms != "list" {
			break
		}
		if platform.OS == "" || platform.Architecture == "" {
			entry := fmt.Sprintf("validation.manifests.indexes.platformlist.%d", i)
			p.errorf(p.at[entry], "%s needs both architecture and os", entry)
		}
	}
}
