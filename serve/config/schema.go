package config

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// state is what becomes of a key.
type state uint8

const (
	built    state = iota
	accepted       // It has no effect here, and need not.
	later          // Not built yet; going on without it is safe: a warning.
	refused        // Not built yet; going on without it is not.
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
		open   bool   // Variables may go on with any name: maps and lists.
	}
)

func notYetDriver(name string) field {
	return field{state: refused, driver: true, bare: true, open: true,
		note: "of the storage drivers only filesystem and inmemory are, not " + name}
}

func restricts(what string) field {
	return field{state: refused, open: true, note: "the server does not start without " + what}
}

func notYet() field { return field{state: later, open: true} }

// schema is the file of registry:2, v2 and v3.
var schema = section{
	"version":  {set: setVersion},
	"loglevel": {set: setLevel},
	"log": {fields: section{
		"level":        {set: setLevel},
		"formatter":    {set: setFormatter},
		"fields":       {set: setFields, open: true},
		"accesslog":    {fields: section{"disabled": {set: setBool(func(c *Config) *bool { return &c.Log.AccessLog.Disabled })}}},
		"hooks":        notYet(),
		"reportcaller": {state: accepted},
	}},
	"storage": {strict: "no such storage driver or key", fields: section{
		"filesystem": {driver: true, fields: section{
			"rootdirectory": {set: setRoot},
			"maxthreads":    {state: accepted},
			"sync":          {set: setSync},
		}},
		"inmemory": {driver: true, bare: true, open: true, set: func(c *Config, _ node) error { c.Storage.InMemory = true; return nil }},
		"s3":       notYetDriver("s3"),
		"s3aws":    notYetDriver("s3aws"),
		"azure":    notYetDriver("azure"),
		"gcs":      notYetDriver("gcs"),
		"oss":      notYetDriver("oss"),
		"swift":    notYetDriver("swift"),
		"delete":   {fields: section{"enabled": {set: setBool(func(c *Config) *bool { return &c.Storage.Deletes })}}},
		"redirect": {state: accepted, open: true},
		"cache":    {state: accepted, open: true},
		"tag":      {state: accepted, open: true},
		"maintenance": {fields: section{
			"uploadpurging": purgingSection(),
			"readonly":      restricts("being read-only"),
		}},
	}},
	"auth": {strict: "no such authentication", fields: section{
		"none":     {state: accepted, open: true},
		"silly":    {state: refused, bare: true, open: true, note: "the server does not start without its authentication"},
		"token":    {state: refused, bare: true, open: true, note: "the server does not start without its authentication"},
		"htpasswd": {state: refused, bare: true, open: true, note: "the server does not start without its authentication"},
	}},
	"middleware": restricts("its middleware"),
	"http": {fields: section{
		"addr":         {set: setAddr},
		"net":          {set: setNet},
		"prefix":       {set: setPrefix},
		"host":         {set: setHost},
		"secret":       {state: accepted},
		"relativeurls": {set: setBool(func(c *Config) *bool { return &c.HTTP.RelativeURLs })},
		"draintimeout": {set: setDrainTimeout},
		"headers":      {set: setHeaders, open: true},
		"tls":          restricts("TLS"),
		"debug":        notYet(),
		"http2":        notYet(),
		"h2c":          notYet(),
	}},
	"notifications": notYet(),
	"redis":         notYet(),
	"health":        notYet(),
	"reporting":     notYet(),
	"compatibility": notYet(),
	"catalog":       {fields: section{"maxentries": {set: setCount(func(c *Config) *int { return &c.Catalog.MaxEntries })}}},
	"tags":          {fields: section{"maxtags": {set: setCount(func(c *Config) *int { return &c.Tags.MaxTags })}}},
	"proxy":         restricts("being a mirror"),
	"validation": {fields: section{
		"enabled":  restricts("validation"),
		"disabled": {state: accepted},
		"manifests": {fields: section{
			"urls": restricts("validation"),
			"indexes": {fields: section{
				"platforms":    {set: setPlatforms},
				"platformlist": {state: accepted, open: true}, // It is for platforms: list.
			}},
			"images": {strict: "no such key", fields: section{"layers": {set: setLayers}}},
		}},
	}},
	"policy": restricts("its policy"),
	"gc":     gcSection(),
}

// meantToRestrict tells whether an unknown key in fields is probably one that
// restricts or secures: misspelled, or out of its section because of a lost
// indentation. Passing over it would leave open what is to be closed.
func meantToRestrict(key string, fields section) bool {
	key = strings.ToLower(key)
	for name, f := range fields {
		if f.restricts() && distance(key, name) <= 1 {
			return true
		}
	}
	return schema.refuses(key)
}

// meansToRestrict asks [meantToRestrict] of the parts of an unknown variable,
// from the first that is unknown. "enabled" alone is said of everything.
func (s section) meansToRestrict(parts []string) bool {
	for i, part := range parts {
		if f, ok := s[part]; ok {
			s = f.fields
			continue
		}
		return meantToRestrict(part, s) || slices.ContainsFunc(parts[i+1:], func(p string) bool { return p != "enabled" && schema.refuses(p) })
	}
	return false
}

// restricts tells whether a field, or one in it, is refused.
func (f field) restricts() bool {
	if f.state == refused {
		return true
	}
	for _, in := range f.fields {
		if in.restricts() {
			return true
		}
	}
	return false
}

// refuses tells whether a field called key, however deep, is refused.
func (s section) refuses(key string) bool {
	for name, f := range s {
		if name == key && f.state == refused || f.fields.refuses(key) {
			return true
		}
	}
	return false
}

// find leads the parts of a variable's name to the keys of the file. In what is
// built, the Go fields of registry:2 differ from its keys only in letter case;
// sections in which they differ by more are open.
func (s section) find(parts []string) (steps []string, ok bool) {
	for i, part := range parts {
		f, ok := s[part]
		if !ok {
			return nil, false
		}
		steps = append(steps, part)
		if f.open {
			return append(steps, parts[i+1:]...), true
		}
		if s = f.fields; s == nil && i < len(parts)-1 {
			return nil, false
		}
	}
	return steps, true
}

// variables lists the variables that have a name of their own.
func variables() []string {
	var names []string
	var add func(prefix string, s section)
	add = func(prefix string, s section) {
		for _, key := range slices.Sorted(maps.Keys(s)) {
			names = append(names, prefix+strings.ToUpper(key))
			add(prefix+strings.ToUpper(key)+"_", s[key].fields)
		}
	}
	add("REGISTRY_", schema)
	return names
}

func scalar(n node) (string, error) {
	if n.Kind != yaml.ScalarNode {
		return "", errors.New("must be a single value")
	}
	return n.Value, nil
}

func setVersion(_ *Config, n node) error {
	if v, err := scalar(n); err != nil || v != "0.1" {
		return errors.New("must be 0.1, the only version there is")
	}
	return nil
}

func setLevel(c *Config, n node) error {
	v, err := scalar(n)
	if err != nil {
		return err
	}
	switch v = strings.ToLower(v); v {
	case "error", "warn", "info", "debug":
		c.Log.Level = v
	case "warning":
		c.Log.Level = "warn"
	default:
		return fmt.Errorf("%q is none of error, warn, info, debug", v)
	}
	return nil
}

func setFormatter(c *Config, n node) error {
	v, err := scalar(n)
	if err != nil {
		return err
	}
	switch v {
	case "text", "json":
		c.Log.Formatter = v
	case "logstash":
		c.Log.Formatter = "json"
	default:
		return fmt.Errorf("%q is none of text, json, logstash", v)
	}
	return nil
}

func setFields(c *Config, n node) error {
	var values map[string]any
	if err := n.Decode(&values); err != nil {
		return errors.New("must be a mapping of names and values")
	}
	c.Log.Fields = make(map[string]string, len(values))
	for k, v := range values {
		c.Log.Fields[k] = fmt.Sprint(v)
	}
	return nil
}

func setBool(at func(*Config) *bool) func(*Config, node) error {
	return func(c *Config, n node) error {
		v, err := scalar(n)
		if err != nil {
			return err
		}
		b, err := strconv.ParseBool(v)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", v)
		}
		*at(c) = b
		return nil
	}
}

func setCount(at func(*Config) *int) func(*Config, node) error {
	return func(c *Config, n node) error {
		v, err := scalar(n)
		if err != nil {
			return err
		}
		i, err := strconv.Atoi(v)
		if err != nil || i < 0 {
			return fmt.Errorf("%q is not a number from 0 up", v)
		}
		if i > 0 { // As in registry:2, 0 is not said.
			*at(c) = i
		}
		return nil
	}
}

func setRoot(c *Config, n node) (err error) {
	c.Storage.Root, err = scalar(n)
	return err
}

func setSync(c *Config, n node) error {
	sync := true
	err := setBool(func(*Config) *bool { return &sync })(c, n)
	c.Storage.NoSync = !sync
	return err
}

// setPlatforms: all and list refuse indexes that are not complete.
func setPlatforms(_ *Config, n node) error {
	switch v, err := scalar(n); {
	case err != nil:
		return err
	case v == "none":
		return nil
	case v == "all", v == "list":
		return fmt.Errorf("%s is not built yet: the server does not start without it", v)
	default:
		return fmt.Errorf("%q is none of all, none, list", v)
	}
}

func setLayers(c *Config, n node) error {
	v, err := scalar(n)
	if err != nil {
		return err
	}
	if v != "all" && v != "none" {
		return fmt.Errorf("%q is neither all nor none", v)
	}
	c.Validation.SparseImages = v == "none"
	return nil
}

func setAddr(c *Config, n node) error {
	v, err := scalar(n)
	if err != nil {
		return err
	}
	if !strings.Contains(v, ":") {
		return fmt.Errorf("%q is not of the form host:port", v)
	}
	c.HTTP.Addrs = []string{v}
	return nil
}

func setNet(_ *Config, n node) error {
	if v, err := scalar(n); err != nil || v != "tcp" && v != "" {
		return errors.New("is not built yet for anything but tcp")
	}
	return nil
}

func setPrefix(_ *Config, n node) error {
	if v, err := scalar(n); err != nil || v != "" && v != "/" {
		return errors.New("is not built yet: the API is at /v2/")
	}
	return nil
}

func setHost(c *Config, n node) error {
	v, err := scalar(n)
	if err != nil || v == "" {
		return err
	}
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("%q is not of the form https://HOST", v)
	}
	c.HTTP.Host = u.Scheme + "://" + u.Host
	return nil
}

func setDrainTimeout(c *Config, n node) error {
	v, err := scalar(n)
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(v)
	if err != nil && v == "0" {
		d, err = 0, nil
	}
	if err != nil || d < 0 {
		return fmt.Errorf("%q is not a duration such as 60s", v)
	}
	c.HTTP.DrainTimeout = d
	return nil
}

func setHeaders(c *Config, n node) error {
	var values map[string]yaml.Node
	if err := n.Decode(&values); err != nil {
		return errors.New("must be a mapping of header names and lists of values")
	}
	c.HTTP.Headers = http.Header{}
	for name, v := range values {
		var list []string
		if err := v.Decode(&list); err != nil {
			var one string
			if err := v.Decode(&one); err != nil {
				return fmt.Errorf("%s must be a list of values", name)
			}
			list = []string{one}
		}
		for _, value := range list {
			if strings.ContainsAny(name+value, "\r\n\x00") || name == "" {
				return fmt.Errorf("%q is no header", name)
			}
			c.HTTP.Headers.Add(name, value)
		}
	}
	return nil
}
