package commands

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/serve/auth"
)

type htpasswdOptions struct {
	File          string
	Users         []string
	Cost          int
	PasswordStdin bool
	Output        string
}

const htpasswdHelp = `Keep the users of a registry in an htpasswd file: auth.htpasswd.path of its
config.yml.

Passwords are kept as bcrypt, which is all that registry:2 takes. regctl serve
takes $apr1$, $5$ and $6$ as well, so that files of Apache's htpasswd go on
working; {SHA}, DES and plain passwords let nobody in.

A change takes the place of the file in one step, with its owner and mode, and
all else that is in it stays. A server sees it at once; who is taken out is out
within a second. Into a container, mount the folder: of a file that is mounted by
itself it would go on seeing the old one.`

const htpasswdExamples = `  regctl htpasswd add auth/htpasswd testuser
  regctl htpasswd add auth/htpasswd ci --password-stdin <password.txt
  regctl htpasswd verify auth/htpasswd testuser
  regctl htpasswd rm auth/htpasswd testuser
  regctl htpasswd ls auth/htpasswd`

type htpasswdRun = func(context.Context, *Env, *htpasswdOptions) error

func newHtpasswd(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "htpasswd",
		Short:   "Keep the users of a registry",
		Long:    htpasswdHelp,
		Example: htpasswdExamples,
		GroupID: groupServe,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return usagef("htpasswd has no command %q; it has add, rm, verify and ls: regctl htpasswd add FILE USER", args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newHtpasswdAdd(env, runHtpasswdAdd),
		newHtpasswdRm(env, runHtpasswdRm),
		newHtpasswdVerify(env, runHtpasswdVerify),
		newHtpasswdLs(env, runHtpasswdLs),
	)
	return cmd
}

// newHtpasswdCommand is what the commands have in common: a file, then from
// least to most users.
func newHtpasswdCommand(env *Env, use string, least, most int, run htpasswdRun) (*cobra.Command, *htpasswdOptions) {
	o := &htpasswdOptions{}
	return &cobra.Command{
		Use: use,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 1+least || len(args) > 1+most {
				return usagef("usage: regctl htpasswd %s; see: %s --help", use, cmd.CommandPath())
			}
			o.File, o.Users = args[0], args[1:]
			return run(cmd.Context(), env, o)
		},
		ValidArgsFunction: completeUsers(most),
	}, o
}

// completeUsers completes a file, then its users.
func completeUsers(most int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) == 0 {
			return nil, cobra.ShellCompDirectiveDefault
		}
		if len(args) > most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		f, _ := auth.ReadFile(args[0]) // None if it cannot be read.
		if f == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []cobra.Completion
		for _, u := range f.Users() {
			names = append(names, u.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

func newHtpasswdAdd(env *Env, run htpasswdRun) *cobra.Command {
	cmd, o := newHtpasswdCommand(env, "add FILE USER", 1, 1, run)
	cmd.Short = "Add a user, or give one another password"
	cmd.Long = `Add a user to a file, which is made if it is missing, or give one another
password. It is asked for twice, on a terminal only.

The cost is that of bcrypt; one more doubles the time of a check. The default, 10,
takes some 50 ms, which a client costs a server at most once a minute; the 5 of
Apache's htpasswd makes a stolen file 32 times easier to search.`
	cmd.Flags().BoolVar(&o.PasswordStdin, "password-stdin", false, "read the password from stdin")
	cmd.Flags().IntVar(&o.Cost, "cost", auth.DefaultCost, fmt.Sprintf("hash with bcrypt at cost `N`, %d to %d", auth.MinCost, auth.MaxCost))
	return cmd
}

func runHtpasswdAdd(_ context.Context, env *Env, o *htpasswdOptions) error {
	user := o.Users[0]
	if err := auth.CheckUser(user); err != nil {
		return &ExitError{exitInvalid, err}
	}
	if o.Cost < auth.MinCost || o.Cost > auth.MaxCost {
		return usagef("--cost %d: it is between %d and %d", o.Cost, auth.MinCost, auth.MaxCost)
	}
	password, err := o.password(env, true)
	if err != nil {
		return err
	}
	encoded, err := auth.Hash(password, o.Cost)
	if errors.Is(err, auth.ErrPasswordTooLong) {
		return &ExitError{exitInvalid, err}
	}
	if err != nil {
		return err
	}
	if err := makeFolder(o.File); err != nil {
		return err
	}
	done := "added"
	err = auth.Edit(o.File, func(f *auth.File) error {
		had, err := f.Set(user, encoded)
		if had {
			done = "changed the password of"
		}
		return err
	})
	if err != nil {
		return htpasswdError(err)
	}
	env.say("%s %s (%s)", done, user, auth.Bcrypt)
	return nil
}

// makeFolder makes the folder of a file that may be new; not those above it.
func makeFolder(file string) error {
	if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// password reads the password from stdin, or asks for it.
func (o *htpasswdOptions) password(env *Env, twice bool) (string, error) {
	var password string
	var err error
	switch {
	case o.PasswordStdin:
		password, err = readPassword(bufio.NewReader(env.Stdin))
	case !env.Asks:
		return "", usagef("there is no terminal to ask for the password on; give it to --password-stdin")
	default:
		password, err = askPassword(env, "Password: ")
		if err != nil || !twice {
			break
		}
		var again string
		if again, err = askPassword(env, "Again: "); err == nil && again != password {
			return "", usagef("the two passwords differ; nothing was changed")
		}
	}
	switch {
	case err != nil:
		return "", err
	case password == "":
		return "", usagef("the password is empty")
	case strings.ContainsAny(password, "\r\n\x00"):
		return "", usagef("the password has more than one line")
	}
	return password, nil
}

func askPassword(env *Env, prompt string) (string, error) {
	_, _ = io.WriteString(env.Stderr, prompt)
	password, err := env.ReadPassword()
	_, _ = io.WriteString(env.Stderr, "\n")
	return password, err
}

func newHtpasswdRm(env *Env, run htpasswdRun) *cobra.Command {
	cmd, _ := newHtpasswdCommand(env, "rm FILE USER...", 1, 1<<16, run)
	cmd.Short = "Take users out"
	cmd.Long = `Take users out of a file. If one of them is not in it, nothing is changed.`
	return cmd
}

func runHtpasswdRm(_ context.Context, env *Env, o *htpasswdOptions) error {
	if _, err := os.Stat(o.File); err != nil {
		return htpasswdError(err) // Edit would make it.
	}
	err := auth.Edit(o.File, func(f *auth.File) error {
		for _, user := range o.Users {
			if !f.Remove(user) {
				return noUser(o.File, user)
			}
		}
		return nil
	})
	if err != nil {
		return htpasswdError(err)
	}
	env.say("removed %s", strings.Join(o.Users, ", "))
	return nil
}

func newHtpasswdVerify(env *Env, run htpasswdRun) *cobra.Command {
	cmd, o := newHtpasswdCommand(env, "verify FILE USER", 1, 1, run)
	cmd.Short = "Tell whether a password is right"
	cmd.Long = `Tell whether a password is that of a user, by the exit status: 0 it is, 4 it is
not, 5 there is no such user.`
	cmd.Flags().BoolVar(&o.PasswordStdin, "password-stdin", false, "read the password from stdin")
	return cmd
}

func runHtpasswdVerify(_ context.Context, env *Env, o *htpasswdOptions) error {
	user := o.Users[0]
	f, err := auth.ReadFile(o.File)
	if err != nil {
		return htpasswdError(err)
	}
	kind, ok := kindOf(f, user)
	if !ok {
		return noUser(o.File, user)
	}
	password, err := o.password(env, false)
	if err != nil {
		return err
	}
	if why := kind.Refused(); why != "" {
		return &ExitError{exitDenied, fmt.Errorf("%s cannot log in: %s", user, why)}
	}
	if !f.Matches(user, password) {
		return &ExitError{exitDenied, fmt.Errorf("this is not the password of %s", user)}
	}
	env.say("this is the password of %s (%s)", user, kind)
	return nil
}

func kindOf(f *auth.File, user string) (auth.Kind, bool) {
	for _, u := range f.Users() {
		if u.Name == user {
			return u.Kind, true
		}
	}
	return "", false
}

func newHtpasswdLs(env *Env, run htpasswdRun) *cobra.Command {
	cmd, o := newHtpasswdCommand(env, "ls FILE", 0, 0, run)
	cmd.Short = "List the users, and what is wrong with their passwords"
	cmd.Long = `List the users of a file; on a terminal, with -o and on stderr also how their
passwords are kept, and who cannot log in.`
	addOutput(cmd, &o.Output)
	return cmd
}

// htpasswdItem is a user, and its JSON form.
type htpasswdItem struct {
	User string    `json:"user"`
	Hash auth.Kind `json:"hash"`
	Line int       `json:"line"`
}

func runHtpasswdLs(_ context.Context, env *Env, o *htpasswdOptions) error {
	format, err := parseFormat(o.Output)
	if err != nil {
		return err
	}
	f, err := auth.ReadFile(o.File)
	if f == nil {
		return htpasswdError(err)
	}
	for _, p := range auth.Inspect(o.File) {
		env.say("%s: %s", o.File, p)
	}
	var columns []string
	if env.Terminal {
		columns = []string{"USER", "HASH"}
	}
	p := newPrinter(env.Stdout, format, "regctl.htpasswd/v1", "", columns)
	for _, u := range f.Users() {
		if err := p.add(htpasswdItem{u.Name, u.Kind, u.Line}, u.Name, []string{u.Name, string(u.Kind)}); err != nil {
			return err
		}
	}
	if err := p.end(); err != nil {
		return err
	}
	if err != nil {
		return &ExitError{Status: exitInvalid} // Said already: it is among the problems.
	}
	return nil
}

func noUser(file, user string) error {
	return &ExitError{exitNotFound, fmt.Errorf("%s: there is no user %s; see: regctl htpasswd ls %s", file, user, file)}
}

// htpasswdError gives an error of a file its exit status.
func htpasswdError(err error) error {
	var damage *auth.DamageError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &ExitError{exitNotFound, err}
	case errors.As(err, &damage):
		return &ExitError{exitInvalid, err}
	}
	return err
}
