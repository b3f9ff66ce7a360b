package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"
)

func notifySection() field {
	end := func(c *Config) *Endpoint { return last(c.Notify.Endpoints) }
	return field{fields: section{
		"events": {alias: "eventconfig", fields: section{
			"includereferences": {set: setBool(func(c *Config) *bool { return &c.Notify.IncludeReferences })},
		}},
		"endpoints": {begin: next(func(c *Config) *[]Endpoint { return &c.Notify.Endpoints }), items: section{
			"name":              {set: setString(func(c *Config) *string { return &end(c).Name })},
			"disabled":          {set: setBool(func(c *Config) *bool { return &end(c).disabled })},
			"url":               {set: setURL(func(c *Config) *string { return &end(c).URL })},
			"headers":           headersField(func(c *Config) *http.Header { return &end(c).Headers }),
			"timeout":           {set: setPause("timeout", func(e *Endpoint) *time.Duration { return &e.Timeout })},
			"threshold":         {set: setCount(func(c *Config) *int { return &end(c).Threshold })},
			"backoff":           {set: setPause("backoff", func(e *Endpoint) *time.Duration { return &e.Backoff })},
			"ignoredmediatypes": {set: addMediaTypes, list: true},
			"ignore": {fields: section{
				"mediatypes": {set: addMediaTypes, list: true},
				"actions":    {set: setStrings(func(c *Config) *[]string { return &end(c).IgnoreActions }), list: true},
			}},
		}},
	}}
}

// setPause takes a number without a unit for milliseconds. To registry:2 it is
// nanoseconds, but its documentation once had "timeout: 500" in its examples,
// and configurations have it still, whose notifications never arrived.
func setPause(key string, at func(*Endpoint) *time.Duration) func(*Config, node) error {
	return func(c *Config, n node) error {
		e := last(c.Notify.Endpoints)
		if v, err := strconv.ParseUint(n.Value, 10, 31); err == nil && v > 0 {
			*at(e) = time.Duration(v) * time.Millisecond
			e.unitless = append(e.unitless, key)
			return nil
		}
		return setDuration(func(*Config) *time.Duration { return at(e) })(c, n)
	}
}

func addMediaTypes(c *Config, n node) error {
	list, err := texts(n)
	e := last(c.Notify.Endpoints)
	e.IgnoreMediaTypes = append(e.IgnoreMediaTypes, list...)
	return err
}

// setURL never tells the value: it may hold a password.
func setURL(at at[string]) func(*Config, node) error {
	return func(c *Config, n node) error {
		v, err := scalar(n)
		if err != nil {
			return err
		}
		*at(c) = v
		if u, err := url.Parse(v); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
			return errors.New("is not of the form https://HOST/PATH")
		}
		return nil
	}
}

func setPeer(at at[string]) func(*Config, node) error {
	return func(c *Config, n node) error {
		v, err := scalar(n)
		if err != nil {
			return err
		}
		*at(c) = v
		return hostPort(v)
	}
}

// wantIn complains if an entry of a list lacks what it is about.
func (p *parser) wantIn(list string, i int, key, value string) {
	entry := fmt.Sprintf("%s.%d", list, i)
	if value == "" && p.at[entry+"."+key] == nil {
		p.errorf(p.at[entry], "%s has no %s", entry, key)
	}
}

// nameEndpoint calls an endpoint without a name, which registry:2 takes, by the
// host of its URL.
func (p *parser) nameEndpoint(e *Endpoint, entry string) {
	if u, err := url.Parse(e.URL); e.Name == "" && err == nil && u.Host != "" {
		e.Name = u.Host
		p.warnf(p.at[entry], "%s has no name: it is called %s, and what waits for it is kept under that; add name: %[2]s", entry, e.Name)
	}
}

// checkNotify wants endpoints that events can be sent to, and told apart by
// their names. Those that are disabled go.
func (p *parser) checkNotify(c *Config) {
	seen := map[string]bool{}
	for i := range c.Notify.Endpoints {
		e := &c.Notify.Endpoints[i]
		if e.index = i; e.disabled {
			off := fmt.Sprintf("notifications.endpoints.%d.disabled", i)
			c.idle = append(c.idle, Setting{Key: off, Value: "true", From: p.origin(p.at[off]), Note: "nothing is sent to it"})
			continue
		}
		name := fmt.Sprintf("notifications.endpoints.%d", i)
		p.wantIn("notifications.endpoints", i, "url", e.URL)
		p.nameEndpoint(e, name)
		if seen[e.Name] && e.Name != "" {
			p.errorf(cmp.Or(p.at[name+".name"], p.at[name]), "%s.name: there are two endpoints called %q", name, e.Name)
		}
		seen[e.Name] = true
		for _, key := range e.unitless {
			p.warnf(p.at[name+"."+key], "%s.%s: a number without a unit is so many milliseconds here, and nanoseconds to registry:2; write 500ms, or 2s", name, key)
		}
		for _, action := range e.IgnoreActions {
			if !slices.Contains([]string{"pull", "push", "mount", "delete"}, action) {
				p.warnf(p.at[name+".ignore.actions"], "%s.ignore.actions: %q is none of pull, push, mount, delete", name, action)
			}
		}
		e.Timeout, e.Threshold, e.Backoff = orElse(e.Timeout, time.Second), orElse(e.Threshold, 10), orElse(e.Backoff, time.Second)
	}
	c.Notify.Endpoints = slices.DeleteFunc(c.Notify.Endpoints, func(e Endpoint) bool { return e.disabled })
}
