package config

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Setting is a value that rules.
type Setting struct {
	Key   string // By its names in the file; entries of lists are counted from 0.
	Value string // As it may be shown to anybody: what is secret is [Hidden].
	From  string // "config.yml:12", "$REGISTRY_X", "the default of registry:2" or "our default".
	Note  string // Why it has no effect, if so.
}

const (
	// Hidden is shown in place of what is secret.
	Hidden = "(hidden)"

	ofRegistry2 = "the default of registry:2"
	ofOurs      = "our default"
)

// Settings are the values that rule, section by section, and what was said
// that has no effect.
func (c *Config) Settings() []Setting {
	l := &settings{c: c}
	l.log()
	l.storage()
	l.http()
	l.auth()
	l.access()
	l.tokens()
	l.health()
	l.notify()
	l.rest()
	return append(l.list, c.idle...)
}

// Said tells where the value of a key was said, or "".
func (c *Config) Said(key string) string { return c.said[strings.ToLower(key)] }

// settings gathers them.
type settings struct {
	c    *Config
	list []Setting
}

// add adds a value of registry:2, own one that it does not know.
func (l *settings) add(key string, value any) { l.put(key, value, ofRegistry2) }
func (l *settings) own(key string, value any) { l.put(key, value, ofOurs) }

func (l *settings) put(key string, value any, otherwise string) {
	if !l.c.Compat {
		otherwise = ofOurs
	}
	from := l.c.Said(key)
	l.list = append(l.list, Setting{Key: key, Value: show(value), From: or(from, otherwise)})
}

// as says where the last one comes from, if it was said elsewhere.
func (l *settings) as(key string) {
	if s := &l.list[len(l.list)-1]; l.c.Said(s.Key) == "" && l.c.Said(key) != "" {
		s.From = l.c.Said(key)
	}
}

// headers adds headers, whose values are hidden if they may be secret.
func (l *settings) headers(key string, header http.Header, secret func(name string) bool) {
	for _, name := range slices.Sorted(maps.Keys(header)) {
		values := header[name]
		if secret(name) {
			values = []string{Hidden}
		}
		l.add(key+"."+name, values)
		l.as(key)
	}
}

func (l *settings) log() {
	c := l.c.Log
	l.add("log.level", c.Level)
	l.as("loglevel")
	l.add("log.formatter", c.Formatter)
	for _, name := range slices.Sorted(maps.Keys(c.Fields)) {
		l.add("log.fields."+name, c.Fields[name])
		l.as("log.fields")
	}
	l.add("log.accesslog.disabled", c.AccessLog.Disabled)
}

func (l *settings) storage() {
	c := l.c.Storage
	if c.InMemory {
		l.add("storage.inmemory", "{}")
	} else {
		l.add("storage.filesystem.rootdirectory", c.Root)
		l.own("storage.filesystem.sync", !c.NoSync)
	}
	l.add("storage.delete.enabled", c.Deletes)
	l.add("storage.maintenance.readonly.enabled", c.ReadOnly)
	for _, key := range []string{"enabled", "age", "dryrun"} {
		name := "storage.maintenance.uploadpurging." + key
		if l.c.Said(name) != "" {
			l.add(name, map[string]any{"enabled": l.c.purging.enabled, "age": l.c.purging.age, "dryrun": l.c.purging.dry}[key])
		}
	}
}

func (l *settings) http() {
	c := l.c.HTTP
	if len(c.Addrs) == 1 {
		l.add("http.addr", c.Addrs[0])
	} else {
		l.add("http.addr", c.Addrs)
	}
	l.add("http.net", c.Network)
	l.add("http.prefix", c.Prefix)
	l.add("http.host", c.Host)
	l.add("http.relativeurls", c.RelativeURLs)
	l.add("http.draintimeout", c.DrainTimeout)
	l.headers("http.headers", c.Headers, secretName) // Whoever asks gets them.
	if t := c.TLS; t.Certificate != "" {
		l.add("http.tls.certificate", t.Certificate)
		l.add("http.tls.key", t.Key)
		l.add("http.tls.minimumtls", strings.ToLower(strings.ReplaceAll(tls.VersionName(t.MinVersion), " ", "")))
		l.add("http.tls.ciphersuites", suiteNames(t.CipherSuites))
		l.add("http.tls.clientcas", t.ClientCAs)
		if len(t.ClientCAs) > 0 {
			l.add("http.tls.clientauth", t.ClientAuth)
		}
	}
	l.add("http.http2.disabled", c.HTTP2Off)
	l.add("http.h2c.enabled", c.H2C)
	l.add("http.debug.addr", c.Debug.Addr)
	l.add("http.debug.prometheus.enabled", c.Debug.Prometheus)
	l.add("http.debug.prometheus.path", c.Debug.Path)
	proxies := make([]string, len(c.TrustedProxies))
	for i, prefix := range c.TrustedProxies {
		proxies[i] = prefix.String()
	}
	l.own("http.trustedproxies", proxies)
}

func suiteNames(ids []uint16) []string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = tls.CipherSuiteName(id)
	}
	return names
}

func (l *settings) health() {
	h := l.c.Health
	l.add("health.storagedriver.enabled", h.Storage.Enabled)
	l.add("health.storagedriver.interval", h.Storage.Interval)
	l.add("health.storagedriver.threshold", h.Storage.Threshold)
	for i, e := range h.Files {
		entry := "health.file." + strconv.Itoa(i)
		l.add(entry+".file", e.File)
		l.add(entry+".interval", e.Interval)
	}
	for i, e := range h.HTTP {
		entry := "health.http." + strconv.Itoa(i)
		l.add(entry+".uri", hideURL(e.URI))
		l.headers(entry+".headers", e.Headers, secretSent)
		l.add(entry+".statuscode", e.StatusCode)
		l.own(entry+".timeout", e.Timeout)
		l.add(entry+".interval", e.Interval)
		l.add(entry+".threshold", e.Threshold)
	}
	for i, e := range h.TCP {
		entry := "health.tcp." + strconv.Itoa(i)
		l.add(entry+".addr", e.Addr)
		l.own(entry+".timeout", e.Timeout)
		l.add(entry+".interval", e.Interval)
		l.add(entry+".threshold", e.Threshold)
	}
}

func (l *settings) notify() {
	c := l.c.Notify
	l.add("notifications.events.includereferences", c.IncludeReferences)
	for _, e := range c.Endpoints {
		entry := "notifications.endpoints." + strconv.Itoa(e.index)
		l.add(entry+".name", e.Name)
		l.add(entry+".disabled", false)
		l.add(entry+".url", hidePath(e.URL))
		l.headers(entry+".headers", e.Headers, secretSent)
		l.add(entry+".timeout", e.Timeout)
		l.add(entry+".threshold", e.Threshold)
		l.add(entry+".backoff", e.Backoff)
		l.add(entry+".ignore.mediatypes", e.IgnoreMediaTypes)
		l.as(entry + ".ignoredmediatypes")
		l.add(entry+".ignore.actions", e.IgnoreActions)
	}
}

func (l *settings) rest() {
	c := l.c
	l.add("catalog.maxentries", c.Catalog.MaxEntries)
	l.add("tags.maxtags", c.Tags.MaxTags)
	v := c.Validation
	l.add("validation.disabled", !v.on)
	l.as("validation.enabled")
	if v.on {
		l.add("validation.manifests.urls.allow", v.Allow)
		l.add("validation.manifests.urls.deny", v.Deny)
	}
	l.add("validation.manifests.indexes.platforms", v.Platforms)
	for i, platform := range v.PlatformList {
		entry := "validation.manifests.indexes.platformlist." + strconv.Itoa(i)
		l.add(entry+".architecture", platform.Architecture)
		l.add(entry+".os", platform.OS)
	}
	layers := "all"
	if v.SparseImages {
		layers = "none"
	}
	l.own("validation.manifests.images.layers", layers)
	l.own("gc.schedule", c.GC.Schedule)
	l.own("gc.untagged", c.GC.Untagged)
	l.own("gc.older", c.GC.Older)
	l.own("gc.uploads", c.GC.Uploads)
	for _, key := range []string{"age", "enabled", "dryrun"} {
		l.as("storage.maintenance.uploadpurging." + key)
	}
	l.own("gc.undo", c.GC.Undo)
}

// show writes a value as it could stand in the file.
func show(value any) string {
	switch v := value.(type) {
	case string:
		if v == "" || strings.TrimSpace(v) != v || strings.ContainsAny(v, "#\n\"'") {
			return strconv.Quote(v)
		}
		return v
	case []string:
		list := make([]string, len(v))
		for i, s := range v {
			if list[i] = show(s); strings.Contains(s, ",") {
				list[i] = strconv.Quote(s)
			}
		}
		return "[" + strings.Join(list, ", ") + "]"
	case []*regexp.Regexp:
		list := make([]string, len(v))
		for i, pattern := range v {
			list[i] = pattern.String()
		}
		return show(list)
	case time.Duration:
		if v == Never {
			return "never"
		}
		return shortly(v)
	}
	return fmt.Sprint(value)
}

// shortly writes 1h30m for 1h30m0s.
func shortly(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
