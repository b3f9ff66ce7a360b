package commands

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/regctl/regctl/client/layout"
	"github.com/regctl/regctl/client/oci"
)

// defaultRegistry is what bare names mean when nothing else was said.
const defaultRegistry = "localhost:5000"

// target is what a WHAT of the command line names: a registry, a repository,
// or one image of it.
type target struct {
	layout string // The directory of an OCI layout; empty: a registry behind HTTP.
	scheme string // "http", "https" or "": as the client thinks fit.
	host   string
	repo   string // Empty: the registry, or all that is in a layout.
	ref    string // A tag or a digest; may be empty.
}

// address is what [client.New] takes; of a layout, how it is typed.
func (t target) address() string {
	if t.layout != "" {
		return layoutPrefix + t.layout
	}
	if t.scheme != "" {
		return t.scheme + "://" + t.host
	}
	return t.host
}

// String is t as it may be typed, without anything meant silently.
func (t target) String() string {
	name, separator := t.address(), "/"
	switch {
	case t.layout != "":
		separator = ":"
	case beginsWithHost(name) || t.scheme != "":
	case t.repo == "":
		return name + "/"
	default: // Else the host would be taken for the first part of a repository.
		name = "https://" + name
	}
	if t.repo != "" && (t.layout == "" || t.repo != layout.Unnamed) {
		name, separator = name+separator+t.repo, ":"
	}
	switch {
	case t.ref == "":
		return name
	case oci.IsDigest(t.ref):
		return name + "@" + t.ref
	}
	return name + separator + t.ref
}

// parseTarget reads HOST, HOST/, REPO, HOST/REPO, each but the first two with
// :TAG or @DIGEST, all with http:// or https:// before them. Bare names are in
// the registry that fallback returns, which is asked only then. What begins
// with "oci:" is a directory.
func parseTarget(what string, fallback func() (string, error)) (target, error) {
	if rest, ok := strings.CutPrefix(what, layoutPrefix); ok {
		return parseLayout(what, rest)
	}
	var t target
	rest := what
	if t.scheme, rest = cutScheme(what); t.scheme == "" && !beginsWithHost(rest) {
		return parseBare(what, fallback)
	}
	t.host, rest, _ = strings.Cut(rest, "/")
	if t.host == "" {
		return target{}, usagef("%q names no registry", what)
	}
	return t, t.parseRepo(what, rest)
}

// parseBare reads a name without a host.
func parseBare(what string, fallback func() (string, error)) (target, error) {
	registry, err := fallback()
	if err != nil {
		return target{}, err
	}
	var t target
	t.scheme, t.host = cutScheme(strings.TrimSuffix(registry, "/"))
	if strings.Contains(t.host, "/") || t.host == "" {
		return target{}, usagef("%q is not a registry: HOST or HOST:PORT", registry)
	}
	return t, t.parseRepo(what, what)
}

// isShortImage tells whether what is as debian:12 or node:20. Where an image
// is meant it is that tag, since a port of a registry alone makes no sense.
func isShortImage(what string) bool {
	name, tag, ok := strings.Cut(what, ":")
	return ok && tag != "" && strings.Trim(tag, "0123456789") == "" &&
		name != "localhost" && name+":" != layoutPrefix && !strings.ContainsAny(name, "./@[")
}

const layoutPrefix = "oci:"

// parseLayout reads DIR, followed by :TAG, :REPO:TAG, :TEAM/REPO or @DIGEST. A
// tag alone is one of the repository that a layout does not name.
// A repository called oci is HOST/oci.
func parseLayout(what, rest string) (target, error) {
	drive := ""
	if len(rest) > 2 && rest[1] == ':' && (rest[2] == '\\' || rest[2] == '/') { // C:\images
		drive, rest = rest[:2], rest[2:]
	}
	i := strings.IndexAny(rest, ":@")
	if i < 0 {
		i = len(rest)
	}
	t := target{layout: drive + rest[:i]}
	name := rest[i:]
	switch {
	case t.layout == "":
		return target{}, usagef("%q names no directory: oci:DIR or oci:DIR:TAG", what)
	case name == ":":
		return target{}, usagef("%q ends where a tag should be", what)
	case name == "":
		return t, nil
	case name[0] == '@':
		t.repo, t.ref = layout.Unnamed, name[1:]
		_, err := oci.ParseDigest(t.ref)
		return t, err
	case strings.ContainsAny(name[1:], ":/@"):
		return t, t.parseRepo(what, name[1:])
	}
	t.repo, t.ref = layout.Unnamed, name[1:]
	return t, oci.CheckTag(t.ref)
}

func cutScheme(s string) (scheme, rest string) {
	if scheme, rest, ok := strings.Cut(s, "://"); ok && (scheme == "http" || scheme == "https") {
		return scheme, rest
	}
	return "", s
}

// beginsWithHost: a trailing slash, a dot, "localhost" or name:digits makes
// the first part of a name a host.
func beginsWithHost(s string) bool {
	first, rest, slash := strings.Cut(s, "/")
	name, port, colon := strings.Cut(first, ":")
	switch {
	case slash && rest == "" && first != "":
		return true
	case strings.HasPrefix(first, "["): // An IPv6 address.
		return true
	case strings.Contains(first, "@"): // No login here; a digest.
		return false
	case strings.Contains(name, "."), name == "localhost":
		return true
	}
	return colon && port != "" && strings.Trim(port, "0123456789") == ""
}

func (t *target) parseRepo(what, rest string) error {
	if strings.HasSuffix(rest, "/") {
		return usagef("%q is no repository; for those below it: --include '%s**'", what, rest)
	}
	if name, digest, ok := strings.Cut(rest, "@"); ok {
		rest, t.ref = name, digest
		rest, _, _ = strings.Cut(rest, ":") // The digest says more than the tag.
	} else {
		rest, t.ref, ok = strings.Cut(rest, ":")
		if ok && t.ref == "" {
			return usagef("%q ends where a tag should be", what)
		}
	}
	t.repo = rest
	if t.repo == "" {
		if t.ref != "" {
			return usagef("%q names no repository", what)
		}
		return nil
	}
	if isHub(t.host) && !strings.Contains(t.repo, "/") {
		t.repo = "library/" + t.repo
	}
	if err := oci.CheckRepo(t.repo); err != nil {
		return err
	}
	switch {
	case strings.Contains(what, "@"):
		_, err := oci.ParseDigest(t.ref)
		return err
	case t.ref != "":
		return oci.CheckTag(t.ref)
	}
	return nil
}

func isHub(host string) bool { return host == "docker.io" || host == "index.docker.io" }

// clientConfig is regctl/config.yaml in the user's configuration directory.
type clientConfig struct {
	// Registry is what bare names mean.
	Registry string `yaml:"registry"`
}

// registry tells which registry bare names mean: of --registry,
// $REGCTL_REGISTRY, the configuration file and the built-in one the first
// that is set.
func (e *Env) registry(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	if host := e.Getenv("REGCTL_REGISTRY"); host != "" {
		return host, nil
	}
	config, err := e.clientConfig()
	if err != nil {
		return "", err
	}
	if config.Registry != "" {
		return config.Registry, nil
	}
	return defaultRegistry, nil
}

// clientConfig reads the configuration file; without one it is empty.
func (e *Env) clientConfig() (clientConfig, error) {
	var config clientConfig
	dir := e.configHome()
	if dir == "" {
		return config, nil
	}
	path := filepath.Join(dir, "regctl", "config.yaml")
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return config, nil
	}
	if err != nil {
		return config, err
	}
	defer func() { _ = f.Close() }() // It was only read.
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	err = d.Decode(&config)
	var wrong *yaml.TypeError
	switch {
	case errors.As(err, &wrong):
		return config, usagef("%s: %s; it has registry:", path, strings.TrimSuffix(wrong.Errors[0], " in type commands.clientConfig"))
	case err != nil && !errors.Is(err, io.EOF):
		return config, usagef("%s: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	return config, nil
}
