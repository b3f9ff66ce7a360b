package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	helpers "github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// Credentials finds logins where docker and podman keep them. It never fails:
// a file that cannot be read and a helper that is missing, broken or hangs are
// told to Warn, and the registry is asked without a login. It is an
// [authn.Keychain]; its exported fields must not change once it is in use.
type Credentials struct {
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
}

// Resolve is ResolveContext with a context that does not end.
func (c *Credentials) Resolve(r authn.Resource) (authn.Authenticator, error) {
	return c.ResolveContext(context.Background(), r)
}

// ResolveContext returns the login for a registry, or [authn.Anonymous]. The
// error is always nil unless ctx ended.
func (c *Credentials) ResolveContext(ctx context.Context, r authn.Resource) (authn.Authenticator, error) {
	key := r.RegistryStr()
	if key == name.DefaultRegistry {
		key = authn.DefaultAuthKey
	}
	for _, file := range c.load() {
		login, err := c.find(ctx, file, key)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			c.warn(err)
		}
		if login != (authn.AuthConfig{}) {
			return authn.FromConfig(login), nil
		}
	}
	return authn.Anonymous, nil
}

func (c *Credentials) warn(err error) {
	if c.Warn != nil {
		c.Warn(err)
	}
}

// load reads what there is to read.
func (c *Credentials) load() []*configfile.ConfigFile {
	var files []*configfile.ConfigFile
	add := func(from string, r io.Reader) {
		file := configfile.New(from)
		if err := file.LoadFromReader(r); err != nil {
			c.warn(fmt.Errorf("%s: %w; going on without its logins", from, err))
			return
		}
		files = append(files, file)
	}
	if c.Inline != "" {
		add("DOCKER_AUTH_CONFIG", strings.NewReader(c.Inline))
	}
	for _, path := range c.Files {
		raw, err := os.ReadFile(path)
		switch {
		case errors.Is(err, os.ErrNotExist):
		case err != nil:
			c.warn(fmt.Errorf("%w; going on without its logins", err))
		default:
			add(path, bytes.NewReader(raw))
		}
	}
	return files
}

// find asks the helper that file names for key, then file itself.
func (c *Credentials) find(ctx context.Context, file *configfile.ConfigFile, key string) (authn.AuthConfig, error) {
	var failure error
	if helper := cmp.Or(file.CredentialHelpers[key], file.CredentialsStore); helper != "" {
		login, err := c.ask(ctx, helper, key)
		if err == nil && login != (authn.AuthConfig{}) {
			return login, nil
		}
		failure = err
	}
	entry, ok := file.AuthConfigs[key]
	if !ok {
		for _, address := range slices.Sorted(maps.Keys(file.AuthConfigs)) {
			if hostname(address) == hostname(key) {
				entry = file.AuthConfigs[address]
			}
		}
	}
	return fromFile(entry), failure
}

func fromFile(e types.AuthConfig) authn.AuthConfig {
	return authn.AuthConfig{
		Username: e.Username, Password: e.Password,
		IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken,
	}
}

// hostname undoes what older logins put around the name of a registry.
func hostname(address string) string {
	_, address = splitScheme(address)
	host, _, _ := strings.Cut(address, "/")
	return host
}

// ask runs a credential helper. One that knows no login for key is no error.
func (c *Credentials) ask(ctx context.Context, helper, key string) (authn.AuthConfig, error) {
	timeout := cmp.Or(c.Timeout, 10*time.Second)
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	program := "docker-credential-" + helper
	got, err := helpers.Get(func(args ...string) helpers.Program {
		cmd := exec.CommandContext(limited, program, args...)
		cmd.Env = c.Environ
		cmd.WaitDelay = time.Second // For what the helper started and left behind.
		return (*helperProgram)(cmd)
	}, key)
	switch {
	case credentials.IsErrCredentialsNotFound(err):
		return authn.AuthConfig{}, nil
	case limited.Err() != nil:
		return authn.AuthConfig{}, fmt.Errorf("%s did not answer within %s; going on without a login", program, timeout)
	case err != nil:
		return authn.AuthConfig{}, fmt.Errorf("%s: %w; going on without a login", program, err)
	case got.Username == "<token>":
		return authn.AuthConfig{IdentityToken: got.Secret}, nil
	}
	return authn.AuthConfig{Username: got.Username, Password: got.Secret}, nil
}

// helperProgram runs a helper and keeps what it says on stderr out of ours.
type helperProgram exec.Cmd

// Input sets what the helper reads.
func (p *helperProgram) Input(r io.Reader) { p.Stdin = r }

// Output runs the helper.
func (p *helperProgram) Output() ([]byte, error) { return (*exec.Cmd)(p).Output() }
