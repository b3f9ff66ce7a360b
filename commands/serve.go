package commands

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/serve"
	"github.com/regctl/regctl/serve/config"
)

type serveOptions struct {
	ownTLSOptions
	Config string
	Addrs  []string
	Data   string

	Access          string
	Htpasswd        string
	TLSCert, TLSKey string

	raw   []byte           // The config file as it was read.
	asked <-chan os.Signal // To read it again.
}

const serveHelp = `Host a registry: a drop-in for registry:2, with its directory, its config.yml
and its REGISTRY_* variables.

Without any of these it listens on this machine only, port 5000, and deletes are
on. With a config file or a REGISTRY_* variable the defaults of registry:2 rule.
--htpasswd asks for logins, --tls-cert and --tls-key or --tls self make it HTTPS;
certificates and logins that change in their files are in force at once.

--access says who may do what: public-pull lets everyone pull, and who logs in do
everything; private lets nobody do anything without a login; open is for all. For
finer rules see regctl acl.

The store is --data, else $REGCTL_DATA, else storage.filesystem.rootdirectory,
else /var/lib/registry if a registry is there, else ~/.local/share/regctl. The
config file is the argument, else $REGISTRY_CONFIGURATION_PATH.

A config file that changes takes effect within seconds, on SIGHUP at once; what
needs a restart is named in the log.

The first SIGINT or SIGTERM lets requests finish, the second one does not.`

const serveExamples = `  regctl serve                                      for this machine
  regctl serve --addr :5000 --data /srv/registry    for all that reach it
  regctl serve --addr :5000 --htpasswd users        for all with a login in users
  regctl serve --access public-pull --htpasswd users
  regctl serve /etc/docker/registry/config.yml      instead of registry:2`

func newServe(env *Env, run func(context.Context, *Env, *serveOptions) error) *cobra.Command {
	o := &serveOptions{}
	cmd := &cobra.Command{
		Use:     "serve [CONFIG.yml]",
		Short:   "Host a registry",
		Long:    serveHelp,
		Example: serveExamples,
		GroupID: groupServe,
		Args:    atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.Config = args[0]
			}
			return run(cmd.Context(), env, o)
		},
		ValidArgsFunction: cobra.FixedCompletions([]cobra.Completion{"yml", "yaml"}, cobra.ShellCompDirectiveFilterFileExt),
	}
	cmd.Flags().StringArrayVar(&o.Addrs, "addr", nil, "listen on `HOST:PORT` or :PORT (repeatable)")
	cmd.Flags().StringVar(&o.Data, "data", "", "keep the store in `DIR`")
	cmd.Flags().StringVar(&o.Access, "access", "", "who may do what: `PRESET` open, public-pull or private")
	cmd.Flags().StringVar(&o.Htpasswd, "htpasswd", "", "ask for a login that is in `FILE`, see regctl htpasswd")
	cmd.Flags().StringVar(&o.TLSCert, "tls-cert", "", "speak HTTPS with the certificate in `FILE` (PEM, with those of CAs after it)")
	cmd.Flags().StringVar(&o.TLSKey, "tls-key", "", "the key of --tls-cert is in `FILE` (PEM)")
	_ = cmd.MarkFlagDirname("data") // Cannot fail: the flag was added a moment ago.
	_ = cmd.RegisterFlagCompletionFunc("access", cobra.FixedCompletions(config.Presets(), cobra.ShellCompDirectiveNoFileComp))
	o.add(cmd)
	return cmd
}

func runServe(ctx context.Context, env *Env, o *serveOptions) error {
	defer env.heedHangups(o)()
	c, err := env.serveConfig(o)
	if err != nil {
		return err
	}
	place, err := env.storePlace(o, c)
	if err != nil {
		return err
	}
	logs := newLogs(env.Stderr, c.Log)
	own, err := newOwnTLS(env, &o.ownTLSOptions, c, place.Path, logs.operator())
	if err != nil {
		return err
	}
	registry, err := serve.Assemble(ctx, serve.Parts{
		Config: c, Dir: place.Path, Log: logs.operator(), Access: logs.access(), Relog: logs.set, Version: env.Build.Version, Now: env.Now, After: env.After,
		Certify: own.certifier(ctx),
		Waiting: func(held error, limit time.Duration) { env.say("%v; waiting up to %s for it to stop", held, limit) },
	})
	if err != nil {
		return cannotServe(err)
	}
	env.greet(registry.Addrs(), place, own.shown(c))
	own.greet(registry.Addrs())
	defer own.keep(ctx)()
	defer env.reloading(ctx, o, registry.Reconfigure, logs.operator())()
	return registry.Serve(ctx)
}

// serveConfig reads what configures the server, and tells its warnings.
func (e *Env) serveConfig(o *serveOptions) (*config.Config, error) {
	if (o.TLSCert == "") != (o.TLSKey == "") {
		return nil, usagef("--tls-cert and --tls-key go together")
	}
	if o.Access != "" && !slices.Contains(config.Presets(), o.Access) {
		return nil, usagef("--access %s is none of %s; a list of rules goes into a config file, see regctl acl", o.Access, strings.Join(config.Presets(), ", "))
	}
	name, raw, err := e.configFile(o.Config)
	if err != nil {
		return nil, err
	}
	o.raw = raw
	c, problems, err := e.parseServe(o, name, raw)
	for _, p := range problems {
		e.say("warning: %s", p)
	}
	if err != nil {
		return nil, &ExitError{exitUsage, err}
	}
	return c, nil
}

// parseServe parses a config file as [config.Parse] does, and tells what is
// strange about the rules; flags win.
func (e *Env) parseServe(o *serveOptions, name string, raw []byte) (*config.Config, []config.Problem, error) {
	c, problems, err := config.Parse(name, raw, e.Environ)
	if err == nil {
		o.override(c)
		problems = append(problems, c.Lint()...)
	}
	return c, problems, err
}

// override sets what flags say in c.
func (o *serveOptions) override(c *config.Config) {
	if len(o.Addrs) > 0 {
		c.HTTP.Network, c.HTTP.Addrs = "tcp", o.Addrs
	}
	if o.TLSCert != "" {
		c.HTTP.TLS.Certificate, c.HTTP.TLS.Key = o.TLSCert, o.TLSKey
	}
	if o.Access != "" {
		c.Access = config.Access{Preset: o.Access, On: true}
	}
	switch {
	case o.Htpasswd == "":
	case c.Auth.Htpasswd != nil:
		c.Auth.Htpasswd.Path = o.Htpasswd
	default:
		c.Auth.Htpasswd = &config.Htpasswd{Realm: "regctl", Path: o.Htpasswd}
	}
}

// configFile reads the config file that is named, or that of the variable of
// registry:2. Without either it is nil.
func (e *Env) configFile(named string) (name string, raw []byte, err error) {
	path := e.configPath(named)
	if path == "" {
		return "", nil, nil
	}
	if raw, err = os.ReadFile(path); err != nil {
		return "", nil, &ExitError{exitUsage, err}
	}
	if raw == nil {
		raw = []byte{} // An empty file is one.
	}
	return filepath.Base(path), raw, nil
}

// storePlace finds the store. Without a path it is kept in memory.
func (e *Env) storePlace(o *serveOptions, c *config.Config) (config.Place, error) {
	if c.Storage.InMemory && o.Data == "" {
		return config.Place{}, nil
	}
	stat := func(name string) (fs.FileInfo, error) { return os.Stat(name) }
	place, looked := config.FindStore(o.Data, c, e.Getenv, stat)
	if place.Path == "" {
		return place, usagef("no place for the store: %s holds no registry, and there is no home directory; name one: regctl serve --data DIR",
			looked[0].Path)
	}
	var err error
	place.Path, err = filepath.Abs(place.Path)
	return place, err
}
