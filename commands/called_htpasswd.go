package commands

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/pflag"
)

// The exit statuses of Apache's htpasswd, by its manual.
const (
	apacheFile     = 1 // A file cannot be read or written.
	apacheSyntax   = 2 // Of the command line.
	apachePassword = 3 // Two that were typed are not the same, or it is not that of the user.
	apacheValue    = 5 // Too long.
	apacheUser     = 6 // A name with a colon, or that is not there.
)

const apacheUsage = `Usage:
  htpasswd -B [-c] [-b|-i] [-C COST] FILE USER [PASSWORD]
  htpasswd -B -n [-b|-i] [-C COST] USER [PASSWORD]
  htpasswd -v [-b|-i] FILE USER [PASSWORD]
  htpasswd -D FILE USER

 -B  bcrypt, which is all that a registry reads, and all that is written here
 -C  what a check of the password costs, 4 to 17 (default 5)
 -c  make the file, or make it anew
 -n  write the line to stdout instead
 -b  the password is the last argument, and in ps for all to see
 -i  the password is a line of stdin
 -v  is this the password of the user?
 -D  delete the user

This is regctl, as htpasswd of Apache; see also: regctl htpasswd --help`

// apacheOptions are what Apache's htpasswd was asked for.
type apacheOptions struct {
	Create, Print, Verify, Delete bool
	Batch, Stdin                  bool // Where the password is; else it is asked for.
	Bcrypt                        bool
	Cost                          int
	File, User, Password          string
}

// parseApache reads the command line of Apache's htpasswd.
func parseApache(args []string) (*apacheOptions, error) {
	usage := func(format string, args ...any) error {
		return apacheError(apacheSyntax, "%s\n%s", fmt.Sprintf(format, args...), apacheUsage)
	}
	var o apacheOptions
	var others [6]bool
	flags := pflag.NewFlagSet(programHtpasswd, pflag.ContinueOnError)
	flags.SetInterspersed(false) // A password may begin with a dash.
	flags.SetOutput(io.Discard)
	flags.BoolVarP(&o.Create, "create", "c", false, "")
	flags.BoolVarP(&o.Print, "print", "n", false, "")
	flags.BoolVarP(&o.Verify, "verify", "v", false, "")
	flags.BoolVarP(&o.Delete, "delete", "D", false, "")
	flags.BoolVarP(&o.Batch, "batch", "b", false, "")
	flags.BoolVarP(&o.Stdin, "stdin", "i", false, "")
	flags.BoolVarP(&o.Bcrypt, "bcrypt", "B", false, "")
	flags.IntVarP(&o.Cost, "cost", "C", defaultCost, "")
	flags.IntP("rounds", "r", 0, "")
	for i, name := range []string{"md5", "crypt", "sha1", "plain", "sha256", "sha512"} {
		flags.BoolVarP(&others[i], name, "mdsp25"[i:i+1], false, "")
	}
	if len(args) > 0 {
		if err := longDash(args[0]); err != nil {
			return nil, usage("%v", strings.ReplaceAll(err.Error(), "--", "-"))
		}
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, pflag.ErrHelp):
		return nil, usage("this is what there is")
	case err != nil:
		return nil, usage("%v", err)
	}
	for i, on := range others {
		if on {
			return nil, apacheError(apacheSyntax, "-%c makes passwords that no registry reads, so that all logins fail; use -B", "mdsp25"[i])
		}
	}
	if err := o.arguments(flags.Args()); err != nil {
		return nil, usage("%v", err)
	}
	return &o, o.check()
}

const defaultCost = 5 // Of Apache's htpasswd.

// arguments reads what follows the flags.
func (o *apacheOptions) arguments(args []string) error {
	var which []string
	for _, f := range []struct {
		on   bool
		name string
	}{{o.Create, "-c"}, {o.Print, "-n"}, {o.Verify, "-v"}, {o.Delete, "-D"}} {
		if f.on {
			which = append(which, f.name)
		}
	}
	if len(which) > 1 {
		return fmt.Errorf("%s do not go together", strings.Join(which, " and "))
	}
	if o.Batch && o.Stdin {
		return errors.New("-b and -i do not go together")
	}
	to := []*string{&o.File, &o.User, &o.Password}
	names := []string{"FILE", "USER", "PASSWORD"}
	if o.Print {
		to, names = to[1:], names[1:]
	}
	if !o.Batch || o.Delete && len(args) < len(to) {
		to, names = to[:len(to)-1], names[:len(names)-1]
	}
	if len(args) != len(to) {
		return fmt.Errorf("%d arguments, where it takes %d: %s", len(args), len(to), strings.Join(names, " "))
	}
	for i, arg := range args {
		*to[i] = arg
	}
	return nil
}

// check holds the values against what htpasswd files can hold.
func (o *apacheOptions) check() error {
	switch {
	case strings.ContainsAny(o.User, ":\r\n") || o.User == "":
		return apacheError(apacheUser, "%q is no name of a user: it must not be empty, nor have a colon in it", o.User)
	case o.Cost < 4 || o.Cost > 17:
		return apacheError(apachePassword, "-C %d is no cost of bcrypt, which goes from 4 to 17", o.Cost)
	}
	return nil
}

// runApache does what Apache's htpasswd does, but bcrypt is all that it writes.
func runApache(_ context.Context, env *Env, args []string) error {
	o, err := parseApache(args)
	if err != nil {
		return err
	}
	return apacheError(apacheFile, "not built yet: %s", o.User)
}

// apachePassword returns the password that was given, or asks for it.
func (e *Env) apachePassword(o *apacheOptions) (string, error) {
	switch {
	case o.Batch:
		return o.Password, nil
	case o.Stdin:
		line, err := bufio.NewReader(io.LimitReader(e.Stdin, 4096)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", apacheError(apacheFile, "read the password: %v", err)
		}
		return strings.TrimRight(line, "\r\n"), nil
	case !e.Asks:
		return "", apacheError(apacheSyntax, "there is no terminal to ask for the password; use -i, and write it to stdin")
	}
	if o.Verify {
		return e.askApache("Enter password: ")
	}
	first, err := e.askApache("New password: ")
	if err != nil {
		return "", err
	}
	again, err := e.askApache("Re-type new password: ")
	if err == nil && first != again {
		err = apacheError(apachePassword, "the passwords are not the same")
	}
	return first, err
}

func (e *Env) askApache(prompt string) (string, error) {
	if _, err := io.WriteString(e.Stderr, prompt); err != nil {
		return "", apacheError(apacheFile, "ask for the password: %v", err)
	}
	password, err := e.ReadPassword()
	e.say("")
	if err != nil {
		return "", apacheError(apacheFile, "read the password: %v", err)
	}
	return password, nil
}

// apacheError is an error with a status of Apache's htpasswd.
func apacheError(status int, format string, args ...any) error {
	return &ExitError{status, fmt.Errorf(programHtpasswd+": "+format, args...)}
}
