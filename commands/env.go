package commands

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/regctl/regctl/client"
)

// Env is all that commands know of the world around them.
type Env struct {
	Stdin  io.Reader
	Stdout io.Writer // Data.
	Stderr io.Writer // Talk.

	// Environ is the environment, as of [os.Environ].
	Environ []string
	// Home is the home directory; may be empty.
	Home string
	// Now tells the time, After is [time.After].
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
	// Terminal says that Stdout is a terminal, Width how many columns it has
	// (0: unknown).
	Terminal bool
	Width    int
	// Asks says that Stdin and Stderr are a terminal: somebody can be asked.
	// Shows says that Stderr is one: a progress bar can be shown.
	Asks, Shows bool
	// ReadPassword reads a line from the terminal without showing it. It is
	// called only if Asks is set.
	ReadPassword func() (string, error)
	// Transport carries requests to registries; nil: as the client does.
	Transport http.RoundTripper
	// Build is what `regctl version` tells.
	Build Build

	verbose bool // By --verbose.
}

// System returns the Env of this process.
func System(b Build) *Env {
	home, _ := os.UserHomeDir() // CI runs without one.
	env := &Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Environ: os.Environ(), Home: home, Now: time.Now, After: time.After, Build: b,
	}
	env.Shows = term.IsTerminal(int(os.Stderr.Fd())) && env.Getenv("CI") == ""
	env.Asks = env.Shows && term.IsTerminal(int(os.Stdin.Fd()))
	env.ReadPassword = func() (string, error) {
		raw, err := term.ReadPassword(int(os.Stdin.Fd()))
		return string(raw), err
	}
	if fd := int(os.Stdout.Fd()); term.IsTerminal(fd) {
		env.Terminal = true
		if width, _, err := term.GetSize(fd); err == nil {
			env.Width = width
		}
	}
	return env
}

// Getenv returns the value of an environment variable, or "". Of several the
// last one counts.
func (e *Env) Getenv(name string) string {
	for i := len(e.Environ) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(e.Environ[i], name+"="); ok {
			return value
		}
	}
	return ""
}

// configHome is where users keep configuration; "" if there is no such place.
func (e *Env) configHome() string {
	if dir := e.Getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return dir
	}
	if e.Home == "" {
		return ""
	}
	return filepath.Join(e.Home, ".config")
}

// stateHome is where we keep what must survive, such as records for undo;
// cacheHome where we keep what can be had again. Both are "" if there is no
// such place.
func (e *Env) stateHome() string { return e.xdg("XDG_STATE_HOME", ".local", "state") }

func (e *Env) cacheHome() string { return e.xdg("XDG_CACHE_HOME", ".cache") }

func (e *Env) xdg(variable string, below ...string) string {
	if dir := e.Getenv(variable); filepath.IsAbs(dir) {
		return filepath.Join(dir, "regctl")
	}
	if e.Home == "" {
		return ""
	}
	return filepath.Join(append(append([]string{e.Home}, below...), "regctl")...)
}

// credentials finds logins where docker and podman keep them, docker's first
// unless podman's variable names a file.
func (e *Env) credentials(warn func(error)) *client.Credentials {
	var files []string
	add := func(dir string, name ...string) {
		if dir != "" {
			files = append(files, filepath.Join(append([]string{dir}, name...)...))
		}
	}
	add(e.Getenv("REGISTRY_AUTH_FILE"))
	if dir := e.Getenv("DOCKER_CONFIG"); dir != "" {
		add(dir, "config.json")
	} else {
		add(e.Home, ".docker", "config.json")
	}
	add(e.Getenv("XDG_RUNTIME_DIR"), "containers", "auth.json")
	add(e.configHome(), "containers", "auth.json")
	return &client.Credentials{
		Files: files, Inline: e.Getenv("DOCKER_AUTH_CONFIG"), Environ: e.Environ, Warn: warn,
	}
}
