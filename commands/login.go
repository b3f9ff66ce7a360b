package commands

import (
	"bufio"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/client"
	"github.com/regctl/regctl/client/oci"
)

type loginOptions struct {
	remoteOptions
	Host          string
	User          string
	Password      string
	PasswordStdin bool
}

const loginHelp = `Save a login for a registry, once the registry has taken it.

It is kept where docker keeps it: with the helper that ~/.docker/config.json
names, else in that file ($DOCKER_CONFIG/config.json). docker, podman and all
others find it there. What is not given is asked for, on a terminal only.

Without a file, for CI: REGCTL_USERNAME with REGCTL_PASSWORD, or REGCTL_TOKEN,
for the default registry; REGCTL_AUTH_<HOST>=USER:PASSWORD for others, with HOST
in capitals and _ for what is neither letter nor digit.`

const loginExamples = `  regctl login registry.lan
  regctl login registry.lan -u ci --password-stdin <password.txt
  REGCTL_AUTH_REGISTRY_LAN_5000=ci:secret regctl ls registry.lan:5000`

func newLogin(env *Env, run func(context.Context, *Env, *loginOptions) error) *cobra.Command {
	o := &loginOptions{}
	cmd := &cobra.Command{
		Use:               "login [HOST]",
		Short:             "Save a login for a registry",
		Long:              loginHelp,
		Example:           loginExamples,
		GroupID:           groupOther,
		Args:              atMost(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.Host = args[0]
			}
			return run(cmd.Context(), env, o)
		},
	}
	flags := cmd.Flags()
	o.addWire(cmd)
	flags.StringVarP(&o.User, "username", "u", "", "log in as `USER`")
	flags.StringVarP(&o.Password, "password", "p", "", "by `PASSWORD`; others on this machine can see it: rather --password-stdin")
	flags.BoolVar(&o.PasswordStdin, "password-stdin", false, "read the password from stdin")
	return cmd
}

func runLogin(ctx context.Context, env *Env, o *loginOptions) error {
	t, err := env.host(o.Host)
	if err != nil {
		return err
	}
	login, err := o.ask(env, t)
	if err != nil {
		return err
	}
	file, err := env.loginFile()
	if err != nil {
		return err
	}
	options := env.clientOptions(&o.remoteOptions)
	options.Keychain, options.Warn = &client.Credentials{Logins: map[string]client.Login{t.host: *login}}, env.warn
	c, err := client.New(t.address(), options)
	if err != nil {
		return err
	}
	if err := c.Check(ctx); err != nil {
		if errors.Is(err, oci.Unauthorized) || errors.Is(err, oci.Denied) {
			return &hinted{err, t.host + " does not take this login: " + err.Error() + ". Nothing was saved"}
		}
		return t.hint(err, "regctl login", t.address())
	}
	where, err := file.Store(ctx, t.host, *login)
	if err != nil {
		return &hinted{err, "the login is right, but cannot be saved: " + err.Error()}
	}
	env.say("login succeeded; saved in %s", env.fromHome(where))
	return nil
}

// host is the registry that login and logout are about. A bare name is a host
// here, not a repository.
func (e *Env) host(typed string) (target, error) {
	if typed == "" {
		return e.target("", &remoteOptions{})
	}
	t, err := e.target(strings.TrimSuffix(typed, "/")+"/", &remoteOptions{})
	if err != nil || t.repo != "" || t.layout != "" {
		return t, usagef("%q is not the address of a registry: HOST or HOST:PORT", typed)
	}
	return t, nil
}

// ask completes the login that the flags give.
func (o *loginOptions) ask(env *Env, t target) (*client.Login, error) {
	if o.PasswordStdin && o.Password != "" {
		return nil, usagef("--password and --password-stdin are two passwords; give one")
	}
	login := &client.Login{Username: o.User, Password: o.Password}
	if o.Password != "" {
		env.say("others on this machine can see what --password says; rather: --password-stdin")
	}
	in := bufio.NewReader(env.Stdin)
	if login.Username == "" {
		if !env.Asks || o.PasswordStdin {
			return nil, usagef("who? regctl login %s -u USER --password-stdin", t.address())
		}
		_, _ = io.WriteString(env.Stderr, "Username for "+t.host+": ")
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, usagef("no username was given")
		}
		login.Username = strings.TrimSpace(line)
	}
	var err error
	switch {
	case o.PasswordStdin:
		login.Password, err = readPassword(in)
	case login.Password == "" && !env.Asks:
		return nil, usagef("there is no terminal to ask for the password on; give it to --password-stdin")
	case login.Password == "":
		_, _ = io.WriteString(env.Stderr, "Password: ")
		login.Password, err = env.ReadPassword()
		_, _ = io.WriteString(env.Stderr, "\n")
	}
	switch {
	case err != nil:
		return nil, err
	case login.Username == "" || login.Password == "":
		return nil, usagef("a login has a username and a password; one of them is empty")
	}
	return login, nil
}

// readPassword takes all there is, but for the end of the line.
func readPassword(r io.Reader) (string, error) {
	const most = 1 << 20
	raw, err := io.ReadAll(io.LimitReader(r, most))
	return strings.TrimRight(string(raw), "\r\n"), err
}

// fromHome writes a path in the home directory with ~.
func (e *Env) fromHome(path string) string {
	if e.Home == "" {
		return path
	}
	rest, ok := strings.CutPrefix(path, e.Home+string(filepath.Separator))
	if !ok {
		return path
	}
	return "~" + string(filepath.Separator) + rest
}
