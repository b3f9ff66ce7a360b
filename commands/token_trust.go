package commands

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/storage/file"
)

type tokenTrustOptions struct {
	localOptions
	Services []string
	Host     string
	CA       bool
}

const tokenTrustHelp = `Print what another registry needs to let in whoever has a token of this one: the
lines for its config.yml, and where the certificate is that it must have. Its users
and rules are then those of this registry: registry:2, registry 3 and regctl serve
can do that.

SERVICE is what the other registry is called in tokens, any text that no other one
has. It must be one of tokens.services here, or nobody gets a token for it. --host is
where clients reach this registry, else it is http.host of the config file.

The certificate is of an authority whose keys sign tokens, and change by themselves;
it is good for decades. --ca prints it.

`

const tokenTrustExamples = `  regctl token trust mirror.lan --host https://registry.lan:5000
  regctl token trust --ca | ssh mirror.lan 'cat >/etc/docker/registry/token-ca.crt'`

func newTokenTrust(env *Env, run func(context.Context, *Env, *tokenTrustOptions) error) *cobra.Command {
	o := &tokenTrustOptions{}
	cmd := &cobra.Command{
		Use:     "trust [SERVICE...]",
		Short:   "Let another registry trust the tokens of this one",
		Long:    tokenTrustHelp + tokenStoreHelp,
		Example: tokenTrustExamples,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := noneEmpty(cmd.Flags(), "data", "config", "host"); err != nil {
				return err
			}
			if slices.Contains(args, "") {
				return usagef("the name of a service is empty")
			}
			o.Services = args
			return run(cmd.Context(), env, o)
		},
	}
	o.addStore(cmd, cobra.ArbitraryArgs)
	cmd.Flags().StringVar(&o.Host, "host", "", "clients reach this registry at `URL`, as https://registry.lan:5000")
	cmd.Flags().BoolVar(&o.CA, "ca", false, "print the certificate alone")
	return cmd
}

func runTokenTrust(_ context.Context, env *Env, o *tokenTrustOptions) error {
	name, raw, err := env.configFile(o.Config)
	if err != nil {
		return err
	}
	c, _, err := config.Parse(name, raw, env.Environ)
	if err != nil {
		return &ExitError{exitUsage, err}
	}
	place, err := env.localStore(&o.localOptions, c, "regctl token trust")
	if err != nil {
		return err
	}
	path := filepath.Join(place.Path, file.Private, "token-ca.crt")
	ca, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &ExitError{exitNotFound, fmt.Errorf("%s is not there yet: regctl serve makes it when it gives out tokens, which it does with access: in its config file", path)}
	case errors.Is(err, fs.ErrPermission):
		return &ExitError{exitDenied, fmt.Errorf("%w; run it as who owns %s", err, env.tilde(place.Path))}
	case err != nil:
		return err
	case o.CA:
		return write(env.Stdout, ca, nil)
	}
	if len(o.Services) == 0 {
		o.Services = c.Tokens.Services
	}
	if len(o.Services) == 0 {
		return usagef("what is the other registry called in tokens? Try: regctl token trust mirror.lan")
	}
	realm, err := env.realm(o.Host, c)
	if err != nil {
		return err
	}
	text, err := trustConfig(path, realm, o.Services, c)
	return write(env.Stdout, text, err)
}

// realm is where tokens are, as clients reach it.
func (e *Env) realm(host string, c *config.Config) (string, error) {
	if host == "" {
		host = c.HTTP.Host
	}
	if host == "" {
		return "", usagef("where do clients reach this registry? Name it: regctl token trust --host https://registry.lan:5000, or set http.host in its config file")
	}
	if !strings.Contains(host, "://") {
		host = "https://" + host
	}
	u, err := url.Parse(host)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.Trim(u.Path, "/") != "" {
		return "", usagef("--host %q is no address such as https://registry.lan:5000", host)
	}
	prefix := c.HTTP.Prefix
	if prefix == "" {
		prefix = "/"
	}
	return u.Scheme + "://" + u.Host + prefix + "v2/_token", nil
}

// trustConfig is what the config files of the others are to say, and ours.
func trustConfig(path, realm string, services []string, c *config.Config) ([]byte, error) {
	issuer := c.Tokens.Issuer
	if issuer == "" {
		issuer = "regctl"
	}
	var b bytes.Buffer
	add := func(value any) error {
		e := yaml.NewEncoder(&b)
		e.SetIndent(2)
		return e.Encode(value)
	}
	type trust struct {
		Realm          string `yaml:"realm"`
		Service        string `yaml:"service"`
		Issuer         string `yaml:"issuer"`
		RootCertBundle string `yaml:"rootcertbundle"`
	}
	for _, service := range services {
		fmt.Fprintf(&b, "# config.yml of %s, which needs a copy of %s:\n", service, path)
		err := add(map[string]any{"auth": map[string]any{"token": trust{realm, service, issuer, "/etc/docker/registry/token-ca.crt"}}})
		if err != nil {
			return nil, err
		}
	}
	all := slices.Clone(c.Tokens.Services)
	for _, service := range services {
		if !slices.Contains(all, service) {
			all = append(all, service)
		}
	}
	if len(all) > len(c.Tokens.Services) {
		fmt.Fprintf(&b, "# config.yml of this registry:\n")
		if err := add(map[string]any{"tokens": map[string]any{"services": all}}); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}
