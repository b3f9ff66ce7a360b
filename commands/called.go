package commands

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// The programs that this one stands in for, by the name it is called by.
const (
	programRegctl   = "regctl"
	programRegistry = "registry" // Of registry:2, and docker-registry of Debian.
	programHtpasswd = "htpasswd" // Of Apache, and of older images of registry:2.
)

// Run runs the program that argv, which is as [os.Args], calls by its name, and
// returns the exit status: regctl, or what stands in for registry or htpasswd.
func Run(ctx context.Context, env *Env, argv []string) int {
	switch program, args := called(argv); program {
	case programRegistry:
		if err := knownToRegistry2(args); err != nil {
			return env.end(err)
		}
		return env.end(env.execute(ctx, newRegistry2(env), args))
	case programHtpasswd:
		return env.end(runApache(env, args))
	default:
		return Main(ctx, env, args)
	}
}

// called tells which program argv means, and with which arguments. As with the
// entry point of the image of registry:2, the name may be followed by that of a
// program, or by a config file to serve.
func called(argv []string) (program string, args []string) {
	if len(argv) == 0 {
		return programRegctl, nil
	}
	if program, args = programName(argv[0]), argv[1:]; program == "" {
		return programRegctl, args
	}
	if program != programRegistry || len(args) == 0 {
		return program, args
	}
	if inner := programName(args[0]); inner != "" {
		return inner, args[1:]
	}
	switch strings.ToLower(filepath.Ext(args[0])) {
	case ".yml", ".yaml":
		return program, append([]string{"serve"}, args...)
	}
	return program, args
}

// programName returns which program a path is, "" if none of these.
func programName(path string) string {
	base := filepath.Base(path)
	if ext := filepath.Ext(base); strings.EqualFold(ext, ".exe") {
		base = strings.TrimSuffix(base, ext)
	}
	switch base {
	case programRegctl, programRegistry, programHtpasswd:
		return base
	case "docker-registry", "entrypoint.sh": // Of Debian; of the image.
		return programRegistry
	}
	return ""
}

const registry2Help = `The command line of registry:2, in regctl. It takes the same config files and
variables, and the same directory:

  registry serve CONFIG.yml
  registry garbage-collect [-m] [-d] CONFIG.yml

CONFIG.yml may be named by $REGISTRY_CONFIGURATION_PATH instead. All else that
regctl does, it does when called by its own name: regctl help.

` + exitHelp

// newRegistry2 is the tree of commands of registry:2.
func newRegistry2(env *Env) *cobra.Command {
	root := &cobra.Command{
		Use:           programRegistry,
		Short:         "Host a registry, as registry:2 does",
		Long:          registry2Help,
		Version:       registry2Version(env.Build),
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.CompletionOptions.DisableDefaultCmd = true

	serve := newServe(env, runServe)
	serve.Use, serve.Example = "serve CONFIG.yml", "  registry serve /etc/docker/registry/config.yml"
	collect := newGC(env, runGC)
	collect.Use, collect.Aliases = "garbage-collect CONFIG.yml", nil
	for _, cmd := range []*cobra.Command{serve, collect} {
		cmd.GroupID = ""
		cmd.Args = env.oneConfig
	}
	root.AddCommand(serve, collect)
	return root
}

// registry2Version is the line of theirs: the program, where it comes from, and
// its version.
func registry2Version(b Build) string {
	version := b.Version
	if version != "" && isDigit(version[0]) {
		version = "v" + version
	}
	return "registry github.com/regctl/regctl " + version
}

// knownToRegistry2 refuses, whatever its flags, a command that registry:2 has
// not.
func knownToRegistry2(args []string) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return nil
	}
	switch args[0] {
	case "serve", "garbage-collect", "help":
		return nil
	}
	return usagef("registry has no command %q, only serve, garbage-collect and help; if it is one of regctl: regctl %s", args[0], args[0])
}

// oneConfig wants a config file, as registry:2 does: who calls by its name has
// one, and what is found without it may be another registry.
func (e *Env) oneConfig(cmd *cobra.Command, args []string) error {
	if err := atMost(1)(cmd, args); err != nil {
		return err
	}
	if len(args) > 0 || e.configPath("") != "" || cmd.Flags().Changed("data") || cmd.Flags().Changed("config") {
		return nil
	}
	return usagef("which configuration? %s CONFIG.yml, or $REGISTRY_CONFIGURATION_PATH; without one: regctl %s",
		cmd.CommandPath(), map[string]string{"serve": "serve", "garbage-collect": "gc"}[cmd.Name()])
}

// configFiles is the variable with places of config files, of which the first
// that is there counts if none is named. It is for images and packages, which
// know where theirs may be; see [filepath.SplitList].
const configFiles = "REGCTL_SERVE_CONFIG"

// configPath is the config file of the server: the one that is named, else that
// of the variable of registry:2, else that of ours. "" if there is none.
func (e *Env) configPath(named string) string {
	if named != "" {
		return named
	}
	if path := e.Getenv("REGISTRY_CONFIGURATION_PATH"); path != "" {
		return path
	}
	for _, path := range filepath.SplitList(e.Getenv(configFiles)) {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return path
		}
	}
	return ""
}
