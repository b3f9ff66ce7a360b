package serve

import (
	"context"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/regctl/regctl/serve/config"
)

// live is what can change while a registry runs.
type live struct {
	mu        sync.Mutex
	config    config.Config // What is in force.
	log       *slog.Logger
	relog     func(config.Log)
	handler   *Handler
	keeper    *keeper
	admission *admission // Nil: nobody is asked who they are.
	audit     *auditLog  // Nil before there is one.
	readOnly  atomic.Bool
	deletes   atomic.Bool
}

func newLive(p Parts) *live {
	l := &live{config: *p.Config, log: p.Log, relog: p.Relog}
	l.readOnly.Store(p.Config.Storage.ReadOnly)
	l.deletes.Store(p.Config.Storage.Deletes)
	return l
}

// setting is a key of the configuration, and what it says.
type setting struct {
	key string
	of  func(*config.Config) any
}

// atOnce are the keys that take effect while the registry runs.
var atOnce = []setting{
	{"log.level", func(c *config.Config) any { return c.Log.Level }},
	{"log.formatter", func(c *config.Config) any { return c.Log.Formatter }},
	{"log.fields", func(c *config.Config) any { return c.Log.Fields }},
	{"log.accesslog.disabled", func(c *config.Config) any { return c.Log.AccessLog }},
	{"storage.delete.enabled", func(c *config.Config) any { return c.Storage.Deletes }},
	{"storage.maintenance.readonly", func(c *config.Config) any { return c.Storage.ReadOnly }},
	{"http.headers", func(c *config.Config) any { return c.HTTP.Headers }},
	{"gc.schedule", func(c *config.Config) any { return c.GC.Schedule }},
	{"gc.untagged", func(c *config.Config) any { return c.GC.Untagged }},
	{"gc.older", func(c *config.Config) any { return c.GC.Older }},
	{"gc.uploads", func(c *config.Config) any { return c.GC.Uploads }},
	{"gc.undo", func(c *config.Config) any { return c.GC.Undo }},
	{"audit", func(c *config.Config) any { return c.Audit }},
}

// admissive are the keys that take effect while the registry runs, if it asks
// who somebody is, and is to go on with that.
var admissive = []setting{
	{"access", func(c *config.Config) any { return placeless(c.Access) }},
	{"groups", func(c *config.Config) any { return c.Groups }},
	{"tokens", func(c *config.Config) any { return c.Tokens }},
}

// placeless is a section access without where its rules stand.
func placeless(a config.Access) config.Access {
	a.Rules = slices.Clone(a.Rules)
	for i := range a.Rules {
		a.Rules[i].Where = ""
	}
	return a
}

// atStart are the keys that are read when the registry starts.
var atStart = []setting{
	{"storage.filesystem.rootdirectory", func(c *config.Config) any { return c.Storage.Root }},
	{"storage.inmemory", func(c *config.Config) any { return c.Storage.InMemory }},
	{"storage.filesystem.sync", func(c *config.Config) any { return c.Storage.NoSync }},
	{"http.addr", func(c *config.Config) any { return c.HTTP.Addrs }},
	{"http.net", func(c *config.Config) any { return c.HTTP.Network }},
	{"http.prefix", func(c *config.Config) any { return c.HTTP.Prefix }},
	{"http.host", func(c *config.Config) any { return c.HTTP.Host }},
	{"http.relativeurls", func(c *config.Config) any { return c.HTTP.RelativeURLs }},
	{"http.draintimeout", func(c *config.Config) any { return c.HTTP.DrainTimeout }},
	{"http.tls", func(c *config.Config) any { return c.HTTP.TLS }},
	{"http.http2", func(c *config.Config) any { return c.HTTP.HTTP2Off }},
	{"http.h2c", func(c *config.Config) any { return c.HTTP.H2C }},
	{"http.debug", func(c *config.Config) any { return c.HTTP.Debug }},
	{"http.trustedproxies", func(c *config.Config) any { return c.HTTP.TrustedProxies }},
	{"auth", func(c *config.Config) any { return c.Auth }},
	{"health", func(c *config.Config) any { return c.Health }},
	{"notifications", func(c *config.Config) any { return c.Notify }},
	{"catalog", func(c *config.Config) any { return c.Catalog }},
	{"tags", func(c *config.Config) any { return c.Tags }},
	{"validation", func(c *config.Config) any { return c.Validation }},
}

// changed returns the keys that do not say the same in both.
func changed(among []setting, a, b *config.Config) []string {
	var keys []string
	for _, s := range among {
		if !reflect.DeepEqual(s.of(a), s.of(b)) {
			keys = append(keys, s.key)
		}
	}
	return keys
}

// Reconfigure takes from c, which must have been parsed without an error, what
// can change while the registry runs, and returns the keys that say something
// else than at the start and need a restart. No request under way fails of it.
// It may be called concurrently.
func (a *Assembly) Reconfigure(c *config.Config) (later []string) { return a.live.take(c) }

func (l *live) take(c *config.Config) (later []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	later = changed(atStart, &l.config, c)
	now := changed(atOnce, &l.config, c)
	admitted, refused := l.admit(c)
	now, later = append(now, admitted...), append(later, refused...)
	if !l.auditTo(c.Audit) {
		now = slices.DeleteFunc(now, func(key string) bool { return key == "audit" })
	}
	if len(now) == 0 {
		return later
	}
	if len(admitted) > 0 {
		l.audit.add(auditRecord{Action: "configure", Outcome: auditOK, Reason: strings.Join(admitted, " ") + " changed in the configuration"})
	}
	l.config.Log, l.config.GC, l.config.HTTP.Headers = c.Log, c.GC, c.HTTP.Headers
	l.config.Storage.Deletes, l.config.Storage.ReadOnly = c.Storage.Deletes, c.Storage.ReadOnly
	if l.relog != nil {
		l.relog(c.Log)
	}
	l.deletes.Store(c.Storage.Deletes)
	l.readOnly.Store(c.Storage.ReadOnly)
	l.handler.setHeaders(c.HTTP.Headers)
	l.keeper.setRules(c.GC)
	l.log.LogAttrs(context.Background(), slog.LevelInfo, "the configuration has changed",
		slog.String("keys", strings.Join(now, " ")))
	return later
}

// admit puts in force what c says of who may do what. Where the sources of
// logins are others than at the start, it is held against those that are open.
// Of a registry that is open, or is to be, nothing changes until it restarts:
// its requests would be on both sides of the door.
func (l *live) admit(c *config.Config) (now, later []string) {
	keys := changed(admissive, &l.config, c)
	next := l.config
	next.Access, next.Groups, next.Tokens = c.Access, c.Groups, c.Tokens
	switch {
	case l.admission == nil && !admits(&next): // Nobody asks for any of it.
		return nil, nil
	case l.admission == nil, !admits(&next):
		return nil, keys
	case len(keys) == 0 && reflect.DeepEqual(l.config.Access, c.Access): // Rules may stand elsewhere now, and reasons say where.
		return nil, nil
	}
	if err := l.admission.take(&next); err != nil { // Not of a configuration that was parsed.
		l.log.LogAttrs(context.Background(), slog.LevelError, "the rules are refused, those before stay in force", slog.Any("error", err))
		return nil, keys
	}
	l.config.Access, l.config.Groups, l.config.Tokens = c.Access, c.Groups, c.Tokens
	return keys, nil
}

// setHeaders puts others on every answer from now on.
func (h *Handler) setHeaders(from http.Header) {
	headers := make(http.Header, len(from))
	for name, values := range from {
		for _, v := range values {
			headers.Add(name, v)
		}
	}
	h.headers.Store(&headers)
}
