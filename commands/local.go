package commands

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/serve"
	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
)

// localOptions say which store on this machine a command works on.
type localOptions struct {
	Data   string
	Config string
}

// localHelp is which one that is.
const localHelp = `The store is --data, else $REGCTL_DATA, else storage.filesystem.rootdirectory of
the config file, else /var/lib/registry if a registry is there, else
~/.local/share/regctl. The config file is the argument, else --config, else
$REGISTRY_CONFIGURATION_PATH; of it only storage and gc matter here.`

// add adds the flags to a command that takes a config file as its argument, as
// that of registry:2 does.
func (o *localOptions) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.Data, "data", "", "the store in `DIR`")
	cmd.Flags().StringVar(&o.Config, "config", "", "the store that the config file `FILE` names")
	_ = cmd.MarkFlagDirname("data") // Neither can fail: the flags were added a moment ago.
	_ = cmd.MarkFlagFilename("config", "yml", "yaml")
	cmd.Args = atMost(1)
	cmd.ValidArgsFunction = cobra.FixedCompletions([]cobra.Completion{"yml", "yaml"}, cobra.ShellCompDirectiveFilterFileExt)
}

// read takes the argument, and refuses flags without a value: with one, "$DIR"
// may have been meant to name another store than what is found without.
func (o *localOptions) read(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		if o.Config != "" && o.Config != args[0] {
			return usagef("two config files, %s and %s; leave one", o.Config, args[0])
		}
		if o.Config = args[0]; o.Config == "" {
			return usagef("the name of the config file is empty")
		}
	}
	return noneEmpty(cmd.Flags(), "data", "config")
}

// findStore finds the store that a command is about. Command is what to type,
// such as "regctl gc".
func (e *Env) findStore(o *localOptions, command string) (serve.UpkeepParts, config.Place, error) {
	c, err := e.localConfig(o, command)
	if err != nil {
		return serve.UpkeepParts{}, config.Place{}, err
	}
	place, err := e.localStore(o, c, command)
	if err != nil {
		return serve.UpkeepParts{}, place, err
	}
	e.warnOtherStore(o, c, place)
	return serve.UpkeepParts{Dir: place.Path, Config: c, Now: e.Now, After: e.After}, place, nil
}

// openLocal finds the store and opens it for upkeep: here, or in the server
// that has it.
func (e *Env) openLocal(ctx context.Context, o *localOptions, command string) (serve.Upkeep, config.Place, error) {
	parts, place, err := e.findStore(o, command)
	if err != nil {
		return nil, place, err
	}
	if e.verbose {
		parts.Log = newLogs(e.Stderr, config.Log{Level: "debug"}).operator()
	}
	u, err := serve.OpenUpkeep(ctx, parts)
	if err != nil {
		return nil, place, e.cannotUpkeep(err, place, command+o.flags())
	}
	if !u.Holder().Remote {
		// What is read of a store lives long, or not at all. On a machine that
		// has a registry to run, a sixth less memory is worth a tenth more time
		// of the processor, while most of the time is the disk's.
		debug.SetGCPercent(40)
	}
	return u, place, nil
}

// warnOtherStore says that it is not the store of the config file that was named
// for this command: that is in the environment, where nobody looks, and what is
// collected is gone.
func (e *Env) warnOtherStore(o *localOptions, c *config.Config, place config.Place) {
	root := c.Storage.Root
	if abs, err := filepath.Abs(root); err == nil {
		root = abs
	}
	if o.Config != "" && o.Data == "" && place.From == "$REGCTL_DATA" && c.Storage.Root != "" && root != place.Path {
		e.say("$REGCTL_DATA decides which store this is: %s, not %s of %s", e.tilde(place.Path), e.tilde(root), c.Storage.RootFrom)
	}
}

// flags choose the same store again.
func (o *localOptions) flags() string {
	switch {
	case o.Data != "":
		return " --data " + o.Data
	case o.Config != "":
		return " " + o.Config
	}
	return ""
}

// localConfig reads what a config file and variables say about the store.
// Their warnings are those of `regctl serve`: they are about the server.
func (e *Env) localConfig(o *localOptions, command string) (*config.Config, error) {
	name, raw, err := e.configFile(o.Config)
	switch {
	case errors.Is(err, syscall.EISDIR):
		return nil, usagef("%s is a directory, not a config file; if it is the store: %s --data %s", o.Config, command, o.Config)
	case o.Config != "" && errors.Is(err, fs.ErrNotExist) && !strings.ContainsAny(filepath.Ext(o.Config), "yY"):
		return nil, usagef("%v; %s works on a store of this machine, not on a registry over the network: %s --data DIR", err, command, command)
	case err != nil:
		return nil, err
	}
	c, _, err := config.ParseStore(name, raw, e.Environ)
	if err != nil {
		return nil, &ExitError{exitUsage, err}
	}
	return c, nil
}

// localStore finds a store that is there.
func (e *Env) localStore(o *localOptions, c *config.Config, command string) (config.Place, error) {
	if c.Storage.InMemory && o.Data == "" {
		return config.Place{}, usagef("this configuration keeps the store in memory: there is nothing on disk; name a store: %s --data DIR", command)
	}
	denied := map[string]bool{}
	stat := func(name string) (fs.FileInfo, error) {
		info, err := os.Stat(name)
		denied[name] = errors.Is(err, fs.ErrPermission)
		return info, err
	}
	place, looked := config.FindStore(o.Data, c, e.Getenv, stat)
	if !place.Found && place.Path != "" {
		// What a server of ours has made, and nobody has pushed to, is a store.
		_, err := stat(filepath.Join(place.Path, file.Private, "lock"))
		place.Found = err == nil
	}
	if !place.Found {
		lines := make([]string, len(looked))
		for i, p := range looked {
			lines[i] = fmt.Sprintf("\n  %s (%s)", p.Path, p.From)
			if denied[filepath.Join(p.Path, "docker", "registry", "v2")] {
				lines[i] = fmt.Sprintf("\n  %s (%s): permission denied", p.Path, p.From)
			}
		}
		dir := "DIR"
		if around := storeAround(place.Path, stat); around != "" {
			dir = around
		}
		named := "CONFIG.yml"
		if strings.HasPrefix(command, "regctl events ") || strings.HasPrefix(command, "regctl token ") { // The argument of most of them is something else.
			named = "--config CONFIG.yml"
		}
		return config.Place{}, usagef("no registry found; looked in%s\nName it: %s --data %s, or %s %s", strings.Join(lines, ""), command, dir, command, named)
	}
	var err error
	place.Path, err = filepath.Abs(place.Path)
	return place, err
}

// storeAround returns the store that dir is in, "" if it is in none.
func storeAround(dir string, stat func(string) (fs.FileInfo, error)) string {
	const deepest = 4 // docker/registry/v2/repositories
	dir, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	for range deepest {
		dir = filepath.Dir(dir)
		if info, err := stat(filepath.Join(dir, "docker", "registry", "v2")); err == nil && info.IsDir() {
			return dir
		}
	}
	return ""
}

// cannotUpkeep gives an error of [serve.OpenUpkeep], or of what it opened, its
// exit status, and what to try next. Command is what was typed to work on place.
func (e *Env) cannotUpkeep(err error, place config.Place, command string) error {
	var held *file.HeldError
	locked := func(text string) error { return &ExitError{exitLocked, &hinted{err, text}} }
	switch {
	case errors.As(err, &held): // It may have been asked in vain until a deadline.
		return locked(err.Error() + heldHint(held, command))
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, serve.ErrForeignWriter):
		return locked(err.Error() + ". If it is stopped: " + command + " --offline. A regctl serve in its place need not be stopped")
	case errors.Is(err, serve.ErrRunning):
		return locked(err.Error() + "; try again when it is over")
	case errors.Is(err, serve.ErrStopping):
		return locked(err.Error() + ", which leaves the rest to the next run: " + command)
	case errors.Is(err, meta.ErrForeign):
		return &ExitError{exitLocked, err}
	case errors.Is(err, syscall.EROFS):
		return locked(err.Error() + "; mount it for writing: whoever works on a store locks it, and so does a dry run")
	case errors.Is(err, storage.ErrReadOnly), errors.Is(err, fs.ErrPermission):
		return locked(err.Error() + "; run it as who owns " + e.tilde(place.Path))
	case errors.Is(err, errors.ErrUnsupported):
		return &ExitError{exitFailed, &hinted{err, command + " works on Linux and macOS; run it where the store is"}}
	}
	return err
}

// heldHint is what to do about a process that has the store and cannot be
// asked.
func heldHint(held *file.HeldError, command string) string {
	if host, err := os.Hostname(); err == nil && held.Host != "" && held.Host != host {
		return "; run " + command + " there, where it can be asked"
	}
	return ", which does not answer; try again when it has started or ended"
}
