package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/regctl/regctl/serve/config"
)

// fates is what becomes of every key there is:
//
//	done   it rules, from the line where it is said
//	idle   it has no effect, and is listed as such
//	warns  it has no effect, and a warning says so
//	stops  no server starts with it
//
// A key after = stands for it among the settings.
func fates() map[string]string {
	all := map[string]string{}
	add := func(fate string, keys ...string) {
		for _, key := range keys {
			all[key] = fate
		}
	}
	add("done", "log.level", "loglevel = log.level", "log.formatter", "log.fields", "log.accesslog.disabled",
		"storage.filesystem.rootdirectory", "storage.filesystem.sync", "storage.inmemory", "storage.delete.enabled",
		"storage.maintenance.readonly.enabled", "storage.maintenance.uploadpurging.enabled", "storage.maintenance.uploadpurging.age",
		"storage.maintenance.uploadpurging.dryrun", "auth.none = auth", "auth.htpasswd.realm", "auth.htpasswd.path",
		"http.addr", "http.net", "http.prefix", "http.host", "http.relativeurls", "http.draintimeout", "http.headers",
		"http.tls.certificate", "http.tls.key", "http.tls.clientcas", "http.tls.clientauth", "http.tls.minimumtls", "http.tls.ciphersuites",
		"http.debug.addr", "http.debug.prometheus.enabled", "http.debug.prometheus.path", "http.http2.disabled", "http.h2c.enabled", "http.trustedproxies",
		"notifications.events.includereferences", "notifications.endpoints.0.name", "notifications.endpoints.0.disabled",
		"notifications.endpoints.0.url", "notifications.endpoints.0.headers", "notifications.endpoints.0.timeout", "notifications.endpoints.0.threshold",
		"notifications.endpoints.0.backoff", "notifications.endpoints.0.ignore.mediatypes", "notifications.endpoints.0.ignore.actions",
		"notifications.endpoints.0.ignoredmediatypes = notifications.endpoints.0.ignore.mediatypes",
		"health.storagedriver.enabled", "health.storagedriver.interval", "health.storagedriver.threshold", "health.file.0.file", "health.file.0.interval",
		"health.http.0.uri", "health.http.0.headers", "health.http.0.statuscode", "health.http.0.timeout", "health.http.0.interval", "health.http.0.threshold",
		"health.tcp.0.addr", "health.tcp.0.timeout", "health.tcp.0.interval", "health.tcp.0.threshold",
		"catalog.maxentries", "tags.maxtags", "validation.disabled", "validation.enabled = validation.disabled",
		"validation.manifests.urls.allow", "validation.manifests.urls.deny", "validation.manifests.indexes.platforms",
		"validation.manifests.indexes.platformlist.0.architecture", "validation.manifests.indexes.platformlist.0.os",
		"validation.manifests.images.layers", "gc.schedule", "gc.untagged", "gc.older", "gc.uploads", "gc.undo",
		"auth.token.realm", "auth.token.service", "auth.token.issuer", "auth.token.rootcertbundle", "auth.token.jwks", "auth.token.signingalgorithms",
		"auth.token.autoredirect", "auth.token.autoredirectpath",
		"auth.ldap.url", "auth.ldap.starttls", "auth.ldap.ca", "auth.ldap.binddn", "auth.ldap.bindpassword", "auth.ldap.bindfile", "auth.ldap.userdn",
		"auth.ldap.userbase", "auth.ldap.userfilter", "auth.ldap.username", "auth.ldap.groupbase", "auth.ldap.groupfilter", "auth.ldap.groupname",
		"auth.ldap.groupof", "auth.ldap.timeout", "groups", "tokens.service", "tokens.issuer", "tokens.expiration", "tokens.services",
		"audit.path", "audit.maxsize", "audit.keep", "audit.pulls")
	for _, key := range []string{"who", "what", "from", "may", "deny", "because"} {
		add("done", "access.0."+key+" = access.0")
	}
	add("idle", "log.reportcaller", "storage.filesystem.maxthreads", "storage.redirect", "storage.cache", "storage.tag",
		"storage.maintenance.uploadpurging.interval", "http.secret", "health.file.0.threshold",
		"proxy.username", "proxy.password", "proxy.exec", "proxy.ttl", "proxy.cachewritetimeout")
	add("warns", "log.hooks.0.type = log.hooks", "log.hooks.0.disabled = log.hooks", "log.hooks.0.levels = log.hooks", "log.hooks.0.options = log.hooks",
		"redis", "reporting", "compatibility.schema1.enabled = compatibility", "compatibility.schema1.signingkeyfile = compatibility")
	add("stops", "storage.s3", "storage.s3aws", "storage.azure", "storage.gcs", "storage.oss", "storage.swift", "auth.silly",
		"http.tls.letsencrypt", "proxy.remoteurl", "policy")
	for _, place := range []string{"registry", "repository", "storage"} {
		for _, key := range []string{"name", "disabled", "options"} {
			add("stops", "middleware."+place+".0."+key+" = middleware."+place)
		}
	}
	return all
}

// TestEveryKeyHasAFate holds the files of reference against what is made of
// them, key by key.
func TestEveryKeyHasAFate(t *testing.T) {
	t.Parallel()
	stands, fate := map[string]string{}, map[string]string{"version": ""}
	for key, f := range fates() {
		key, shown, found := strings.Cut(key, " = ")
		if !found {
			shown = key
		}
		stands[key], fate[key] = shown, f
	}
	for _, key := range config.Leaves() {
		if _, ok := fate[key]; !ok {
			t.Errorf("%s has no stated fate", key)
		}
	}
	met := map[string]bool{}
	for _, name := range []string{"reference-2.8.yml", "reference-3.yml"} {
		r := newReference(t, name)
		for leaf, lines := range r.leaves {
			met[leaf] = true
			if f, ok := fate[leaf]; !ok {
				t.Errorf("%s: %s is not known", name, leaf)
			} else if f != "" {
				r.check(t, leaf, stands[leaf], f, lines)
			}
		}
	}
	for key := range fate {
		if !met[key] {
			t.Errorf("no file has %s", key)
		}
		if !slices.Contains(config.Leaves(), key) {
			t.Errorf("%s is not in the schema", key)
		}
	}
}

// reference is a file, with what is said about it, and about what is left of it
// without what stops the start.
type reference struct {
	name     string
	leaves   map[string][]int // The lines of every key of the schema.
	errors   []config.Problem
	warnings []config.Problem
	settings []config.Setting
}

func newReference(t *testing.T, name string) *reference {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	r := &reference{name: name, leaves: map[string][]int{}}
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	r.add("", doc.Content[0])
	_, r.warnings, r.errors = config.Inspect(name, raw, nil)
	rest := strings.Split(string(raw), "\n")
	for _, p := range r.errors {
		blank(rest, line(p.Where))
	}
	c, _, err := config.Parse(name, []byte(strings.Join(rest, "\n")), nil)
	if err != nil {
		t.Fatalf("%s without what stops the start: %v", name, err)
	}
	r.settings = c.Settings()
	return r
}

// add notes the lines of the keys in n.
func (r *reference) add(path string, n *yaml.Node) {
	if n.Kind == yaml.SequenceNode {
		for _, entry := range n.Content {
			r.add(path+"0.", entry)
		}
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := path+n.Content[i].Value, n.Content[i+1]
		if slices.Contains(config.Leaves(), key) || value.Kind == yaml.ScalarNode {
			r.leaves[key] = append(r.leaves[key], n.Content[i].Line)
			continue
		}
		r.add(key+".", value)
	}
}

func (r *reference) check(t *testing.T, leaf, shown, fate string, lines []int) {
	t.Helper()
	at := func(text string, p config.Problem) bool { return strings.HasPrefix(p.Text, text) }
	switch fate {
	case "stops":
		if !slices.ContainsFunc(r.errors, func(p config.Problem) bool { return at(shown, p) }) {
			t.Errorf("%s: nothing says that %s stops the start", r.name, leaf)
		}
	case "warns":
		if !slices.ContainsFunc(r.warnings, func(p config.Problem) bool { return at(shown+": has no effect", p) }) {
			t.Errorf("%s: nothing warns of %s", r.name, leaf)
		}
	case "idle", "done":
		from := fmt.Sprintf("%s:%d", r.name, lines[0])
		if !slices.ContainsFunc(r.settings, func(s config.Setting) bool {
			own := s.Key == shown && s.From == from
			in := strings.HasPrefix(s.Key, shown+".") && strings.HasPrefix(s.From, r.name)
			other := s.Key == shown && leaf != shown // Two keys may be one setting; where one is said is shown.
			return (own || in || other) && (s.Note != "") == (fate == "idle")
		}) {
			t.Errorf("%s: %s is not %s from %s", r.name, leaf, fate, from)
		}
	}
}

// blank takes away a line and what is indented below it.
func blank(lines []string, number int) {
	indent := func(s string) int { return len(s) - len(strings.TrimLeft(s, " ")) }
	if lines[number-1] == "" {
		return
	}
	depth := indent(lines[number-1])
	lines[number-1] = ""
	for i := number; i < len(lines) && (lines[i] == "" || indent(lines[i]) > depth); i++ {
		lines[i] = ""
	}
}

func line(where string) (n int) {
	_, _ = fmt.Sscanf(where[strings.LastIndexByte(where, ':')+1:], "%d", &n)
	return n
}

// TestReference shows what is said about the files, and what rules without what
// stops the start.
func TestReference(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"reference-2.8", "reference-3"} {
		r := newReference(t, name+".yml")
		var b strings.Builder
		for _, p := range r.errors {
			fmt.Fprintf(&b, "error: %s\n", p)
		}
		for _, p := range r.warnings {
			fmt.Fprintf(&b, "warning: %s\n", p)
		}
		for _, s := range r.settings {
			fmt.Fprintf(&b, "%s: %s  # %s", s.Key, s.Value, s.From)
			if s.Note != "" {
				fmt.Fprintf(&b, ", %s", s.Note)
			}
			b.WriteByte('\n')
		}
		golden(t, filepath.Join("testdata", name+".golden"), b.String())
		if secret := regexp.MustCompile(`stamp|keep-me-to-yourself|of-good-news|: red\b|: pass\b`).FindString(b.String()); secret != "" {
			t.Errorf("%s shows a secret: %s", name, secret)
		}
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil || got != string(want) {
		t.Errorf("%s: %v\n%s\nwant\n%s", file, err, got, want)
	}
}
