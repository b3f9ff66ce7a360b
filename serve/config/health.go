package config

import (
	"net/http"
	"time"
)

const checkInterval = 10 * time.Second

func healthSection() field {
	return field{fields: section{
		"storagedriver": {fields: section{
			"enabled":   {set: setBool(func(c *Config) *bool { return &c.Health.Storage.Enabled })},
			"interval":  {set: setDuration(func(c *Config) *time.Duration { return &c.Health.Storage.Interval })},
			"threshold": {set: setCount(func(c *Config) *int { return &c.Health.Storage.Threshold })},
		}},
		"file": {alias: "filecheckers", begin: next(func(c *Config) *[]HealthFile { return &c.Health.Files }), items: section{
			"file":      {set: setString(func(c *Config) *string { return &last(c.Health.Files).File })},
			"interval":  {set: setDuration(func(c *Config) *time.Duration { return &last(c.Health.Files).Interval })},
			"threshold": {state: accepted}, // As in registry:2: a file is there or not.
		}},
		"http": {alias: "httpcheckers", begin: next(func(c *Config) *[]HealthHTTP { return &c.Health.HTTP }), items: section{
			"uri":        {set: setURL(func(c *Config) *string { return &last(c.Health.HTTP).URI })},
			"headers":    headersField(func(c *Config) *http.Header { return &last(c.Health.HTTP).Headers }),
			"statuscode": {set: setCount(func(c *Config) *int { return &last(c.Health.HTTP).StatusCode })},
			"timeout":    {set: setDuration(func(c *Config) *time.Duration { return &last(c.Health.HTTP).Timeout })},
			"interval":   {set: setDuration(func(c *Config) *time.Duration { return &last(c.Health.HTTP).Interval })},
			"threshold":  {set: setCount(func(c *Config) *int { return &last(c.Health.HTTP).Threshold })},
		}},
		"tcp": {alias: "tcpcheckers", begin: next(func(c *Config) *[]HealthTCP { return &c.Health.TCP }), items: section{
			"addr":      {set: setPeer(func(c *Config) *string { return &last(c.Health.TCP).Addr })},
			"timeout":   {set: setDuration(func(c *Config) *time.Duration { return &last(c.Health.TCP).Timeout })},
			"interval":  {set: setDuration(func(c *Config) *time.Duration { return &last(c.Health.TCP).Interval })},
			"threshold": {set: setCount(func(c *Config) *int { return &last(c.Health.TCP).Threshold })},
		}},
	}}
}

// next begins an entry of a list, last is the one that was begun.
func next[T any](at at[[]T]) func(*Config) {
	return func(c *Config) { *at(c) = append(*at(c), *new(T)) }
}

func last[T any](list []T) *T { return &list[len(list)-1] }

// checkHealth wants something to check in every entry, and sets what was not
// said to the defaults of registry:2.
func (p *parser) checkHealth(c *Config) {
	h := &c.Health
	h.Storage.Interval, h.Storage.Threshold = orElse(h.Storage.Interval, checkInterval), orElse(h.Storage.Threshold, 1)
	for i := range h.Files {
		e := &h.Files[i]
		e.Interval = orElse(e.Interval, checkInterval)
		p.wantIn("health.file", i, "file", e.File)
	}
	for i := range h.HTTP {
		e := &h.HTTP[i]
		e.Interval, e.Threshold = orElse(e.Interval, checkInterval), orElse(e.Threshold, 1)
		e.Timeout, e.StatusCode = orElse(e.Timeout, e.Interval), orElse(e.StatusCode, http.StatusOK)
		p.wantIn("health.http", i, "uri", e.URI)
	}
	for i := range h.TCP {
		e := &h.TCP[i]
		e.Interval, e.Threshold = orElse(e.Interval, checkInterval), orElse(e.Threshold, 1)
		e.Timeout = orElse(e.Timeout, e.Interval)
		p.wantIn("health.tcp", i, "addr", e.Addr)
	}
}

func orElse[T comparable](v, otherwise T) T {
	if v == *new(T) {
		return otherwise
	}
	return v
}
