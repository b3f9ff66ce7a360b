package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/cli/cli/config/configfile"
	helpers "github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/authn"
)

// Login is how somebody proves to a registry who they are.
type Login = authn.AuthConfig

// Credentials finds logins where docker and podman keep them. It never fails:
// a file that cannot be read and a helper that is missing, broken or hangs are
// told to Warn, and the registry is asked without a login. Files are read and
// helpers asked once. It is an [authn.Keychain], safe for concurrent use; its
// exported fields must not change once it is in use.
type Credentials struct {
	// Logins come before all others. Their keys are such as those of podman's
	// files: "HOST", or "HOST/NAMESPACE" for the repositories below.
	Logins map[string]authn.AuthConfig
	// Files are tried in order; those that do not exist are passed over. The
	// first that knows a registry decides.
	Files []string
	// Inline is a file's content, asked before Files; may be empty.
	Inline string
	// Environ is the environment of helpers; nil: that of this process.
	Environ []string
	// Timeout is how long a helper may take; 0: 10 seconds.
	Timeout time.Duration
	// Warn is told what went wrong; nil: nobody is.
	Warn func(error)

	mu      sync.Mutex
	files   []*authFile // Nil: not read yet.
	answers map[question]*helperAnswer
}

// authFile is one of Files, with its own entries by the names that they are looked up
// under.
type authFile struct {
	file    *configfile.ConfigFile
	entries map[string]authn.AuthConfig
}

type question struct{ helper, key string }

// helperAnswer is what a helper said, once done is closed.
type helperAnswer struct {
	done  chan struct{}
	login authn.AuthConfig
	err   error
}

// BrokenLogin is an [authn.Authenticator] that is as good as
// [authn.Anonymous], and knows why there is nothing better.
type BrokenLogin struct{ Err error }

// Authorization is that of nobody.
func (*BrokenLogin) Authorization() (*authn.AuthConfig, error) { return &authn.AuthConfig{}, nil }

// Resolve is ResolveContext with a context that does not end.
func (c *Credentials) Resolve(r authn.Resource) (authn.Authenticator, error) {
	return c.ResolveContext(context.Background(), r)
}

// ResolveContext returns the login for a registry or a repository, where that
// of a repository or a namespace comes before that of the registry. Without
// one it returns [authn.Anonymous], or a [*BrokenLogin] if a helper failed.
// The error is always nil unless ctx ended.
func (c *Credentials) ResolveContext(ctx context.Context, r authn.Resource) (authn.Authenticator, error) {
	keys := lookups(r.String())
	for _, key := range keys {
		for address, login := range c.Logins {
			if aliasOf(address) == key {
				return authn.FromConfig(login), nil
			}
		}
	}
	var failure error
	for _, file := range c.load() {
		login, err := c.find(ctx, file, keys)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if failure == nil {
			failure = err
		}
		if login != (authn.AuthConfig{}) {
			return authn.FromConfig(login), nil
		}
	}
	if failure != nil {
		return &BrokenLogin{failure}, nil
	}
	return authn.Anonymous, nil
}

// hub is the one of Docker Hub's names that stands for all.
const hub = "docker.io"

// aliasOf makes one of all spellings of a registry or a repository in the keys
// of login files: without a scheme or what older logins put behind a name.
func aliasOf(address string) string {
	scheme, address := splitScheme(address)
	host, path, _ := strings.Cut(address, "/")
	if scheme != "" || slices.Contains([]string{"v1", "v2"}, strings.TrimSuffix(path, "/")) {
		path = ""
	}
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		host = hub
	}
	return strings.TrimSuffix(host+"/"+path, "/")
}

// lookups are the names to look for a login under, the most particular first:
// those of a repository, of each namespace around it, and of the registry.
func lookups(resource string) []string {
	var keys []string
	for name := aliasOf(resource); name != ""; name = name[:max(0, strings.LastIndexByte(name, '/'))] {
		keys = append(keys, name)
	}
	return keys
}

func (c *Credentials) warn(err error) {
	if c.Warn != nil {
		c.Warn(err)
	}
}

// load reads what there is to read, once.
func (c *Credentials) load() []*authFile {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files != nil {
		return c.files
	}
	c.files = []*authFile{}
	if c.Inline != "" {
		c.add("DOCKER_AUTH_CONFIG", strings.NewReader(c.Inline))
	}
	for _, path := range c.Files {
		raw, err := os.ReadFile(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			c.warn(fmt.Errorf("%w; going on without its logins", err))
		default:
			c.add(path, bytes.NewReader(raw))
		}
	}
	return c.files
}

func (c *Credentials) add(from string, r io.Reader) {
	file := configfile.New(from)
	if err := file.LoadFromReader(r); err != nil {
		c.warn(fmt.Errorf("%s: %w; going on without its logins", from, err))
		return
	}
	l := &authFile{file: file, entries: map[string]authn.AuthConfig{}}
	for _, address := range slices.Sorted(maps.Keys(file.AuthConfigs)) {
		e := file.AuthConfigs[address]
		login := authn.AuthConfig{
			Username: e.Username, Password: e.Password,
			IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken,
		}
		key := aliasOf(address)
		if known := l.entries[key]; known == (authn.AuthConfig{}) || address == key {
			l.entries[key] = login // The plain name comes before its other spellings.
		}
	}
	c.files = append(c.files, l)
}

// find looks for a login for one of keys, of which the last is that of the
// registry: for those below it in the file, for that with the helper that the
// file names, then in the file.
func (c *Credentials) find(ctx context.Context, l *authFile, keys []string) (authn.AuthConfig, error) {
	registry := keys[len(keys)-1]
	for _, key := range keys[:len(keys)-1] {
		if login := l.entries[key]; login != (authn.AuthConfig{}) {
			return login, nil
		}
	}
	login, err := c.help(ctx, l.file, registry)
	if login == (authn.AuthConfig{}) {
		login = l.entries[registry]
	}
	return login, err
}

// help asks the helper that file names for registry, if any.
func (c *Credentials) help(ctx context.Context, file *configfile.ConfigFile, registry string) (authn.AuthConfig, error) {
	key, helper := registry, file.CredentialsStore
	if registry == hub {
		key = authn.DefaultAuthKey
	}
	for _, address := range slices.Sorted(maps.Keys(file.CredentialHelpers)) {
		if aliasOf(address) == registry {
			helper = file.CredentialHelpers[address]
		}
	}
	if helper == "" {
		return authn.AuthConfig{}, nil
	}
	return c.ask(ctx, question{helper, key})
}

// ask asks a helper, once for all who want to know.
func (c *Credentials) ask(ctx context.Context, q question) (authn.AuthConfig, error) {
	c.mu.Lock()
	a, asked := c.answers[q]
	if !asked {
		a = &helperAnswer{done: make(chan struct{})}
		if c.answers == nil {
			c.answers = map[question]*helperAnswer{}
		}
		c.answers[q] = a
	}
	c.mu.Unlock()
	if !asked {
		a.login, a.err = c.run(ctx, q)
		if ctx.Err() != nil { // No answer to the question: the next one asks again.
			c.mu.Lock()
			delete(c.answers, q)
			c.mu.Unlock()
		} else if a.err != nil {
			c.warn(fmt.Errorf("%w; going on without a login", a.err))
		}
		close(a.done)
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		return authn.AuthConfig{}, ctx.Err()
	}
	if ctx.Err() == nil && (errors.Is(a.err, context.Canceled) || errors.Is(a.err, context.DeadlineExceeded)) {
		return c.ask(ctx, q) // Who asked lost interest.
	}
	return a.login, a.err
}

// run runs a credential helper. One that knows no login for key is no error.
func (c *Credentials) run(ctx context.Context, q question) (authn.AuthConfig, error) {
	h := newHelperCall(ctx, q.helper, c.Environ, c.Timeout)
	defer h.cancel()
	got, err := helpers.Get(h.program, q.key)
	switch {
	case credentials.IsErrCredentialsNotFound(err):
		return authn.AuthConfig{}, nil
	case err != nil:
		return authn.AuthConfig{}, h.failed(err)
	case got.Username == tokenUser:
		return authn.AuthConfig{IdentityToken: got.Secret}, nil
	}
	return authn.AuthConfig{Username: got.Username, Password: got.Secret}, nil
}
