// Package config is the configuration of the server: the file of registry:2
// (config.yml) with its REGISTRY_* variables, as one struct that was checked
// as a whole.
//
// All that registry:2 knows, in 2.8 and 3, is known here, under the keys of the
// file and, in variables, under the names that its Go fields have as well. What
// becomes of a key that is said follows from one rule:
//
//   - It is done. Most are.
//   - It has no effect, and nobody misses it, such as what tunes a storage or a
//     cache of registry:2: it is accepted, and [Config.Settings] says so.
//   - It asks for something that is not done, and going on without it is safe,
//     such as log.hooks: a warning.
//   - It restricts or secures something, or says where the data is, and cannot
//     be honoured: an error. A server that came up without it would be open, or
//     empty. So would one with such a key misspelled or badly indented: an
//     unknown key is an error if it may be meant for one of those, or stands in
//     a section of them or of ours, and else a warning.
//
// A section is read as registry:2 would. Where it would start and then do
// something else than was said, or fall over, the file is an error: TLS without
// a certificate, two kinds of login, an endpoint without a URL.
package config

import (
	"fmt"
	"strings"
)

// Config is what a server needs to know. Parse fills it whole.
type Config struct {
	// Compat says that a file or a variable of registry:2 is in use, so that
	// its defaults rule; else ours do.
	Compat     bool
	Log        Log
	Storage    Storage
	HTTP       HTTP
	Auth       Auth
	Health     Health
	Notify     Notify
	Catalog    Catalog
	Tags       Tags
	Validation Validation
	GC         GC
	Access     Access
	Groups     map[string][]string // The section groups, which is ours: users by group.
	Tokens     TokenService
	Audit      Audit

	purging  purging
	rules    []node            // Of access.
	hostCut  string            // What does not count of the path in http.host.
	hostless string            // What http.host says, if it is no URL.
	oldTLS   string            // The version in http.tls.minimumtls, if it is too old.
	rc4      []string          // What is left out of http.tls.ciphersuites.
	loglevel string            // What was said before there was log.level, which wins.
	said     map[string]string // Where each value was said, by its name in lower case.
	idle     []Setting         // What was said and has no effect.
}

// Problem is a complaint about one place of the configuration.
type Problem struct {
	Where string // "config.yml:12" or a variable.
	Text  string
}

// String is where and what.
func (p Problem) String() string {
	if p.Where == "" {
		return p.Text
	}
	return p.Where + ": " + p.Text
}

// Error holds all that is wrong with a configuration.
type Error struct{ Problems []Problem }

// Error lists the problems, one a line.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

const (
	rootOfRegistry2 = "/var/lib/registry"
	defaultPage     = 1000
)

// Parse reads a config file, called name in messages, and the variables of
// environ ("KEY=value") that begin with REGISTRY_; they win. A nil file is
// none. The problems are warnings; the error is an [*Error] with everything
// that keeps the server from starting.
func Parse(name string, file []byte, environ []string) (*Config, []Problem, error) {
	return parse(name, file, environ, func(*parser, node) {})
}

// Inspect is [Parse] for who wants to know all that is wrong. If there are
// errors, c is what is left without them: enough to look at the files that it
// names, and nothing to serve with.
func Inspect(name string, file []byte, environ []string) (c *Config, warnings, errors []Problem) {
	p := &parser{name: name}
	c = p.parse(file, environ, func(*parser, node) {})
	return c, p.warnings, p.errors
}

// parse lets only take away what does not matter.
func parse(name string, file []byte, environ []string, only func(*parser, node)) (*Config, []Problem, error) {
	p := &parser{name: name}
	c := p.parse(file, environ, only)
	if len(p.errors) > 0 {
		return nil, p.warnings, &Error{p.errors}
	}
	return c, p.warnings, nil
}

func (p *parser) parse(file []byte, environ []string, only func(*parser, node)) *Config {
	p.from, p.at = map[node]string{}, map[string]node{}
	c := &Config{Storage: Storage{Deletes: true}, Catalog: Catalog{defaultPage}, Tags: Tags{defaultPage}, GC: gcDefaults()}
	root := p.document(file)
	known := p.override(root, environ)
	if c.Compat = file != nil || known; c.Compat {
		c.Storage.Deletes = false
	}
	only(p, root)
	p.onlyDriver(root)
	p.onlyAuth(root)
	p.dropValidation(root)
	p.walk(c, root, schema, "", "")
	p.warnPurging(c, root)
	p.checkAuth(c, root)
	p.checkAccess(c)
	p.checkTokens(c)
	p.checkHTTP(c)
	p.checkHealth(c)
	p.checkNotify(c)
	p.checkValidation(c)
	c.fill()
	c.said = p.said()
	return c
}

// said is where each value was said.
func (p *parser) said() map[string]string {
	said := make(map[string]string, len(p.at))
	for name, n := range p.at {
		said[strings.ToLower(name)] = p.origin(n)
	}
	return said
}

// fill sets what was not said to its default.
func (c *Config) fill() {
	c.Log.Level = or(c.Log.Level, or(c.loglevel, "info"))
	c.Log.Formatter = or(c.Log.Formatter, "text")
	c.GC.Uploads = c.uploads()
	if c.Storage.Root == "" && c.Compat && !c.Storage.InMemory {
		c.Storage.Root, c.Storage.RootFrom = rootOfRegistry2, "the default of registry:2"
	}
}

// LocationHost is what goes before paths in the header Location.
func (h HTTP) LocationHost() string {
	if h.RelativeURLs {
		return ""
	}
	return h.Host
}

func (p *parser) errorf(n node, format string, args ...any) {
	p.errors = append(p.errors, Problem{p.where(n), fmt.Sprintf(format, args...)})
}

func (p *parser) warnf(n node, format string, args ...any) {
	p.warnings = append(p.warnings, Problem{p.where(n), fmt.Sprintf(format, args...)})
}
