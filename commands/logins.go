package commands

import (
	"errors"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/regctl/regctl/client"
	"github.com/regctl/regctl/serve/auth"
)

// logins are those that a command is given, rather than those that are kept.
type logins struct {
	getenv   func(string) string
	fallback string        // The default registry.
	plain    *client.Login // Of REGCTL_USERNAME and its like: for the default registry.
	flag     *client.Login // Of --login: for the one registry of the command.
	flagHost string        // Where it went.
}

// logins reads --login and the environment.
func (e *Env) logins(o *remoteOptions) (*logins, error) {
	l := &logins{getenv: e.Getenv}
	if o.Login != "" {
		login, err := parseLogin("--login", o.Login)
		if err != nil {
			return nil, err
		}
		l.flag = login
	}
	user, password, token := e.Getenv("REGCTL_USERNAME"), e.Getenv("REGCTL_PASSWORD"), e.Getenv("REGCTL_TOKEN")
	switch {
	case token != "" && (user != "" || password != ""):
		return nil, usagef("REGCTL_TOKEN is a login, and so are REGCTL_USERNAME and REGCTL_PASSWORD; unset one of them")
	case auth.IsRobotSecret(token):
		return nil, usagef("REGCTL_TOKEN is the secret of a robot, which is a password: put it in REGCTL_PASSWORD, and the name of the robot in REGCTL_USERNAME")
	case token != "":
		l.plain = &client.Login{RegistryToken: token}
	case user != "" && password != "":
		l.plain = &client.Login{Username: user, Password: password}
	case user != "":
		return nil, usagef("REGCTL_USERNAME is set, but REGCTL_PASSWORD is not")
	case password != "":
		return nil, usagef("REGCTL_PASSWORD is set, but REGCTL_USERNAME is not")
	}
	if l.plain == nil {
		return l, nil
	}
	registry, err := e.registry(o.Registry)
	if err != nil {
		return nil, err
	}
	_, l.fallback = cutScheme(strings.TrimSuffix(registry, "/"))
	return l, nil
}

// of returns the login for host, nil if there is none.
func (l *logins) of(host string) (*client.Login, error) {
	if l.flag != nil {
		if l.flagHost != "" && l.flagHost != host {
			return nil, usagef("--login is for one registry, and the command names %s and %s; try: regctl login %s", l.flagHost, host, host)
		}
		l.flagHost = host
		return l.flag, nil
	}
	name := loginVariable(host)
	if value := l.getenv(name); value != "" {
		return parseLogin(name, value)
	}
	if host == l.fallback {
		return l.plain, nil
	}
	return nil, nil
}

// loginVariable is where a login for host is looked for: of
// registry.lan:5000, REGCTL_AUTH_REGISTRY_LAN_5000.
func loginVariable(host string) string {
	return "REGCTL_AUTH_" + strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, host)
}

// parseLogin reads USER:PASSWORD. What is wrong with it is told without it.
func parseLogin(from, s string) (*client.Login, error) {
	user, password, ok := strings.Cut(s, ":")
	if !ok || user == "" || password == "" {
		return nil, usagef("%s: not of the form USER:PASSWORD", from)
	}
	return &client.Login{Username: user, Password: password}, nil
}

// certDirs are where docker and podman look for certificates of registries.
func (e *Env) certDirs() []string {
	var dirs []string
	if e.Home != "" {
		dirs = append(dirs, filepath.Join(e.Home, ".docker", "certs.d"))
	}
	if dir := e.configHome(); dir != "" {
		dirs = append(dirs, filepath.Join(dir, "containers", "certs.d"))
	}
	if runtime.GOOS == "windows" {
		return dirs
	}
	return append(dirs, "/etc/containers/certs.d", "/etc/docker/certs.d")
}

// loginFile is where docker keeps logins.
func (e *Env) loginFile() (*client.LoginFile, error) {
	dir := e.Getenv("DOCKER_CONFIG")
	if dir == "" && e.Home != "" {
		dir = filepath.Join(e.Home, ".docker")
	}
	if dir == "" {
		return nil, errors.New("no place to keep a login: neither HOME nor DOCKER_CONFIG is set; " +
			"without one: REGCTL_USERNAME and REGCTL_PASSWORD")
	}
	return &client.LoginFile{Path: filepath.Join(dir, "config.json"), Environ: e.Environ}, nil
}
