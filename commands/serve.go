package commands

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/serve"
	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
)

type serveOptions struct {
	ownTLSOptions
	Config string
	Addrs  []string
	Data   string

	raw []byte // The config file as it was read.
}

const serveHelp = `Host a registry: a drop-in for registry:2, with its directory, its config.yml
and its REGISTRY_* variables.

Without any of these it listens on this machine only, port 5000, and deletes are
on. With a config file or a REGISTRY_* variable the defaults of registry:2 rule.

The store is --data, else $REGCTL_DATA, else storage.filesystem.rootdirectory,
else /var/lib/registry if a registry is there, else ~/.local/share/regctl. The
config file is the argument, else $REGISTRY_CONFIGURATION_PATH.

The first SIGINT or SIGTERM lets requests finish, the second one does not.`

const serveExamples = `  regctl serve                                      for this machine
  regctl serve --addr :5000 --data /srv/registry    for all that reach it
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
	_ = cmd.MarkFlagDirname("data") // Cannot fail: the flag was added a moment ago.
	o.add(cmd)
	return cmd
}

func runServe(ctx context.Context, env *Env, o *serveOptions) error {
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
	own.greet(ctx, registry.Addrs())
	defer own.keep(ctx)()
	defer env.reloading(ctx, o, registry.Reconfigure, logs.operator())()
	return registry.Serve(ctx)
}

// serveConfig reads what configures the server, and tells its warnings.
func (e *Env) serveConfig(o *serveOptions) (*config.Config, error) {
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

// parseServe parses a config file as [config.Parse] does; flags win.
func (e *Env) parseServe(o *serveOptions, name string, raw []byte) (*config.Config, []config.Problem, error) {
	c, problems, err := config.Parse(name, raw, e.Environ)
	if err == nil && len(o.Addrs) > 0 {
		c.HTTP.Addrs = o.Addrs
	}
	return c, problems, err
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

// cannotServe gives an error of [serve.Assemble] its exit status, and what to
// try next.
func cannotServe(err error) error {
	var held *file.HeldError
	var inUse *serve.AddrInUseError
	switch {
	case errors.Is(err, context.Canceled): // While it waited for the store, too.
		return err
	case errors.As(err, &held), errors.Is(err, meta.ErrForeign):
		return &ExitError{exitLocked, err}
	case errors.Is(err, storage.ErrReadOnly):
		return &ExitError{exitLocked, &hinted{err, err.Error() + "; make it writable for this user, or keep the store elsewhere: regctl serve --data DIR"}}
	case errors.As(err, &inUse):
		return &ExitError{exitFailed, otherAddr(inUse)}
	}
	return &ExitError{exitFailed, err}
}

// otherAddr names the next port to try.
func otherAddr(err *serve.AddrInUseError) error {
	host, port, splitErr := net.SplitHostPort(err.Addr)
	n, convErr := strconv.Atoi(port)
	if splitErr != nil || convErr != nil || n >= 65535 {
		return err
	}
	why := ""
	if n == 5000 {
		why = " (macOS: AirPlay)"
	}
	next := net.JoinHostPort(host, strconv.Itoa(n+1))
	return &hinted{err, fmt.Sprintf("%v%s. Try: regctl serve --addr %s", err, why, next)}
}

// greet says where the registry is, what it keeps where, who may come, and how
// to push to it.
func (e *Env) greet(addrs []net.Addr, place config.Place, c *config.Config) {
	keeps := "in memory"
	if place.Path != "" {
		keeps = e.tilde(place.Path)
		if !place.Found {
			keeps += " (new)"
		}
	}
	deletes := "off"
	if c.Storage.Deletes {
		deletes = "on"
	}
	addr, open := reachable(addrs)
	who := "this machine only"
	if open {
		who = "warning: no login is asked, whoever reaches it may pull, push and delete"
		if !c.Storage.Deletes {
			who = "warning: no login is asked, whoever reaches it may pull and push"
		}
	}
	scheme := "http"
	if c.HTTP.TLS.Certificate != "" {
		scheme = "https"
	}
	e.say("%s://%s · store %s · deletes %s · %s", scheme, addr, keeps, deletes, who)
	if c.Storage.NoSync {
		e.say("warning: storage.filesystem.sync is false: a power cut may lose what was pushed")
	}
	at := addr
	if _, port, err := net.SplitHostPort(addr); err == nil && isLoopback(addr) {
		at = "localhost:" + port
	}
	e.say("push: docker tag IMAGE %[1]s/NAME && docker push %[1]s/NAME", at)
}

// reachable returns the first address as a client on this machine would write
// it, and whether others can reach any of them.
func reachable(addrs []net.Addr) (addr string, open bool) {
	for i, a := range addrs {
		at := a.String()
		if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
			at = "localhost:" + strconv.Itoa(tcp.Port)
			open = true
		}
		open = open || !isLoopback(at)
		if i == 0 {
			addr = at
		}
	}
	return addr, open
}

func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	return err == nil && (host == "localhost" || net.ParseIP(host).IsLoopback())
}

// tilde shortens a path in the home directory.
func (e *Env) tilde(path string) string {
	if rest, ok := strings.CutPrefix(path, e.Home+string(filepath.Separator)); ok && e.Home != "" {
		return "~" + string(filepath.Separator) + rest
	}
	return path
}
