package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/serve/auth"
	"github.com/regctl/regctl/serve/auth/dockerauth"
)

type aclImportOptions struct {
	File     string
	Htpasswd string
	Service  string
}

const aclImportHelp = `Say the configuration of docker_auth in the words of this registry: its acl becomes
access:, the labels of its users become groups:, ldap_auth becomes auth.ldap:, which
go to stdout, for config.yml. Its users go into an htpasswd file, with --htpasswd;
who is in it already keeps the password there.

docker_auth stops at the first entry that matches, whatever is asked for; here the
first rule about an action decides. Where that differs there is a rule that denies
the rest.

What cannot be said exactly is left out, and named with its line: logins by others
than LDAP, rules in a database, labels that users of other sources have.

Exit status: 0 it means the same · 3 something is left out.`

const aclImportExamples = `  regctl acl import auth_config.yml
  regctl acl import auth_config.yml --htpasswd auth/htpasswd >>config.yml
  regctl acl import auth_config.yml --service 'Docker registry'`

func newACLImport(env *Env, run func(context.Context, *Env, *aclImportOptions) error) *cobra.Command {
	o := &aclImportOptions{}
	cmd := &cobra.Command{
		Use:     "import FILE",
		Short:   "Make rules of docker_auth's configuration",
		Long:    aclImportHelp,
		Example: aclImportExamples,
		Args:    exactlyOne("acl import auth_config.yml"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := noneEmpty(cmd.Flags(), "htpasswd", "service"); err != nil {
				return err
			}
			o.File = args[0]
			return run(cmd.Context(), env, o)
		},
		ValidArgsFunction: cobra.FixedCompletions([]cobra.Completion{"yml", "yaml"}, cobra.ShellCompDirectiveFilterFileExt),
	}
	cmd.Flags().StringVar(&o.Htpasswd, "htpasswd", "", "add the users to the htpasswd file `FILE`")
	cmd.Flags().StringVar(&o.Service, "service", "", "auth.token.service of the registry is `NAME`, for rules that match by it")
	return cmd
}

func runACLImport(_ context.Context, env *Env, o *aclImportOptions) error {
	raw, err := readLimited(env, o.File)
	if err != nil {
		return fileError(err)
	}
	r, err := dockerauth.Import(raw, dockerauth.Options{Name: filepath.Base(o.File), Service: o.Service})
	if err != nil {
		return &ExitError{exitInvalid, fmt.Errorf("%s: %w", o.File, err)}
	}
	text, err := r.Config(o.Htpasswd)
	if err != nil {
		return err
	}
	if o.Htpasswd != "" {
		if err := env.addUsers(o.Htpasswd, r.Users); err != nil {
			return htpasswdError(err)
		}
	} else if len(r.Users) > 0 {
		env.say("%s has %s; add --htpasswd FILE to have them in an htpasswd file", o.File, counted(len(r.Users), "user"))
	}
	if err := write(env.Stdout, text, nil); err != nil {
		return err
	}
	for _, n := range r.Notes {
		env.say("%s:%d: %s", o.File, n.Line, n.Text)
	}
	if !r.Exact() {
		return &ExitError{Status: exitSome}
	}
	return nil
}

// readLimited reads a file, or stdin as "-".
func readLimited(env *Env, name string) ([]byte, error) {
	const most = 16 << 20
	from := env.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		from = f
	}
	raw, err := io.ReadAll(io.LimitReader(from, most+1))
	if err == nil && len(raw) > most {
		err = fmt.Errorf("%s has more than %d bytes", name, most)
	}
	return raw, err
}

// fileError gives an error of a file that was named its exit status.
func fileError(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return &ExitError{exitNotFound, err}
	}
	return err
}

// addUsers adds those who are not in the file.
func (e *Env) addUsers(file string, users []dockerauth.User) error {
	if err := makeFolder(file); err != nil {
		return err
	}
	added, kept := 0, 0
	err := auth.Edit(file, func(f *auth.File) error {
		added, kept = 0, 0
		for _, u := range users {
			if _, there := kindOf(f, u.Name); there {
				kept++
				continue
			}
			if _, err := f.Set(u.Name, u.Hash); err != nil {
				return err
			}
			added++
		}
		return nil
	})
	if err != nil {
		return err
	}
	e.say("%s: added %s", file, counted(added, "user"))
	if kept > 0 {
		e.say("%s: %s in it already, whose passwords stay", file, counted(kept, "user"))
	}
	return nil
}
