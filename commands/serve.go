package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve"
	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/store"
)

// lockWait is how long a server that stops may take to let go of its store.
const lockWait = 30 * time.Second

type serveOptions struct {
	Config string
	Addrs  []string
	Data   string
}

const serveHelp = `Host a registry: a drop-in for registry:2, with its directory, its config.yml
and its REGISTRY_* variables.

Without any of these it listens on this machine only, port 5000, and deletes are
on. With a config file or a REGISTRY_* variable the defaults of registry:2 rule.

The store is --data, else $REGCTL_DATA, else storage.filesystem.rootdirectory,
else /var/lib/registry if a registry is there, else ~/.local/share/regctl. The
config file is the argument, else $REGISTRY_CONFIGURATION_PATH.

The first SIGINT or SIGTERM lets requests finish, the second one does not.`

func newServe(env *Env, run func(context.Context, *Env, *serveOptions) error) *cobra.Command {
	o := &serveOptions{}
	cmd := &cobra.Command{
		Use:     "serve [CONFIG.yml]",
		Short:   "Host a registry",
		Long:    serveHelp,
		GroupID: groupRegistry,
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
	return cmd
}

func runServe(ctx context.Context, env *Env, o *serveOptions) error {
	c, err := env.serveConfig(o)
	if err != nil {
		return err
	}
	log, access := newLoggers(env.Stderr, c.Log)
	s := &server{env: env, config: c}
	listeners, err := serve.Listen(ctx, c.HTTP.Addrs, log)
	if err != nil {
		return cannotListen(err)
	}
	defer func() { // Serve closes them; this is for what fails before.
		for _, l := range listeners {
			_ = l.Close()
		}
	}()
	backend, unlock, err := s.openStorage(ctx, o.Data)
	if err != nil {
		return err
	}
	defer unlock()
	background, cancel := context.WithCancel(context.WithoutCancel(ctx)) // Requests are drained after ctx.
	defer cancel()
	st, err := store.New(background, backend, store.Options{Log: log})
	if errors.Is(err, meta.ErrForeign) {
		return &ExitError{exitLocked, fmt.Errorf("%s: %w", s.place.Path, err)}
	}
	if err != nil {
		return err
	}
	var reg oci.Registry = st
	if !c.Storage.Deletes {
		reg = serve.WithoutDeletes(reg)
	}
	handler := serve.NewHandler(reg, serve.Options{
		Log: log, Access: access, Host: c.HTTP.LocationHost(), Headers: c.HTTP.Headers,
		MaxTags: c.Tags.MaxTags, MaxRepos: c.Catalog.MaxEntries, Now: env.Now,
	})
	s.greet(listeners)
	return (&serve.Server{Handler: handler, Log: log, DrainTimeout: c.HTTP.DrainTimeout}).Serve(ctx, listeners)
}

// serveConfig reads what configures the server, and tells its warnings.
func (e *Env) serveConfig(o *serveOptions) (*config.Config, error) {
	var raw []byte
	path := cmp.Or(o.Config, e.Getenv("REGISTRY_CONFIGURATION_PATH"))
	if path != "" {
		var err error
		if raw, err = os.ReadFile(path); err != nil {
			return nil, &ExitError{exitUsage, err}
		}
		if raw == nil {
			raw = []byte{} // An empty file is one.
		}
	}
	c, problems, err := config.Parse(filepath.Base(path), raw, e.Environ)
	for _, p := range problems {
		e.say("warning: %s", p)
	}
	if err != nil {
		return nil, &ExitError{exitUsage, err}
	}
	if len(o.Addrs) > 0 {
		c.HTTP.Addrs = o.Addrs
	}
	return c, nil
}

// cannotListen says what to try when an address is taken.
func cannotListen(err error) error {
	var inUse *serve.AddrInUseError
	if !errors.As(err, &inUse) {
		return &ExitError{exitFailed, err}
	}
	host, port, splitErr := net.SplitHostPort(inUse.Addr)
	n, convErr := strconv.Atoi(port)
	if splitErr != nil || convErr != nil || n >= 65535 {
		return &ExitError{exitFailed, err}
	}
	why := ""
	if n == 5000 {
		why = " (macOS: AirPlay)"
	}
	next := net.JoinHostPort(host, strconv.Itoa(n+1))
	return &ExitError{exitFailed, &hinted{err, fmt.Sprintf("%s is in use%s. Try: regctl serve --addr %s", inUse.Addr, why, next)}}
}

// server is what is known of a server when it starts.
type server struct {
	env    *Env
	config *config.Config
	place  config.Place
}

// openStorage finds the store and makes it ours until unlock is called.
func (s *server) openStorage(ctx context.Context, flag string) (b storage.Backend, unlock func(), err error) {
	if s.config.Storage.InMemory && flag == "" {
		return mem.New(), func() {}, nil
	}
	var looked []config.Place
	s.place, looked = config.FindStore(flag, s.config, s.env.Getenv, func(name string) (fs.FileInfo, error) { return os.Stat(name) })
	if s.place.Path == "" {
		return nil, nil, usagef("no place for the store: %s holds no registry, and there is no home directory; name one: regctl serve --data DIR",
			looked[0].Path)
	}
	if s.place.Path, err = filepath.Abs(s.place.Path); err != nil {
		return nil, nil, err
	}
	if err := makeStore(s.place.Path); err != nil {
		return nil, nil, err
	}
	locked, err := s.lock(ctx)
	if err != nil {
		return nil, nil, err
	}
	unlock = func() { _ = locked.Unlock() } // The end of the process does it, too.
	b, err = file.Open(s.place.Path, file.Options{NoSync: s.config.Storage.NoSync})
	if err != nil {
		unlock()
		return nil, nil, err
	}
	return b, unlock, nil
}

// makeStore makes the directory of a store that may be new.
func makeStore(dir string) error {
	err := os.MkdirAll(dir, 0o777)
	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("cannot make the store: %w: %w", storage.ErrReadOnly, err)
	}
	return err
}

// lock takes the store, and waits for a server that is about to stop.
func (s *server) lock(ctx context.Context) (*file.Locked, error) {
	locked, err := file.Lock(ctx, s.place.Path, 0, s.env.After)
	var held *file.HeldError
	if errors.As(err, &held) {
		s.env.say("%v; waiting up to %s for it to stop", err, lockWait)
		locked, err = file.Lock(ctx, s.place.Path, lockWait, s.env.After)
	}
	if ctx.Err() == nil && errors.As(err, &held) {
		return nil, &ExitError{exitLocked, err}
	}
	return locked, err
}

// greet says where the registry is, what it keeps where, who may come, and how
// to push to it.
func (s *server) greet(listeners []net.Listener) {
	keeps := "in memory"
	if s.place.Path != "" {
		keeps = s.env.tilde(s.place.Path)
		if !s.place.Found {
			keeps += " (new)"
		}
	}
	deletes := "off"
	if s.config.Storage.Deletes {
		deletes = "on"
	}
	addr, open := reachable(listeners)
	who := "this machine only"
	if open {
		who = "warning: no login is asked, whoever reaches it may pull, push and delete"
		if !s.config.Storage.Deletes {
			who = "warning: no login is asked, whoever reaches it may pull and push"
		}
	}
	s.env.say("http://%s · store %s · deletes %s · %s", addr, keeps, deletes, who)
	if s.config.Storage.NoSync {
		s.env.say("warning: storage.filesystem.sync is false: a power cut may lose what was pushed")
	}
	at := addr
	if _, port, err := net.SplitHostPort(addr); err == nil && isLoopback(addr) {
		at = "localhost:" + port
	}
	s.env.say("push: docker tag IMAGE %[1]s/NAME && docker push %[1]s/NAME", at)
}

// reachable returns the first address as a client on this machine would write
// it, and whether others can reach any of them.
func reachable(listeners []net.Listener) (addr string, open bool) {
	for i, l := range listeners {
		at := l.Addr().String()
		if tcp, ok := l.Addr().(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
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
