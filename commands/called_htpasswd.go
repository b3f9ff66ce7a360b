package commands

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/regctl/regctl/serve/auth"
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

 -B  bcrypt, which is all that registry:2 reads, and all that is written here
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
			return nil, apacheError(apacheSyntax, "-%c makes passwords that registry:2 does not read, so that all its logins fail; use -B", "mdsp25"[i])
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
	if err := auth.CheckUser(o.User); err != nil {
		return apacheError(apacheUser, "%v", err)
	}
	if o.Cost < auth.MinCost || o.Cost > auth.MaxCost {
		return apacheError(apachePassword, "-C %d is no cost of bcrypt, which goes from %d to %d", o.Cost, auth.MinCost, auth.MaxCost)
	}
	return nil
}

// runApache does what Apache's htpasswd does, but bcrypt is all that it writes.
func runApache(env *Env, args []string) error {
	o, err := parseApache(args)
	if err != nil {
		return err
	}
	if o.Delete {
		return env.apacheDelete(o)
	}
	password, err := env.apachePassword(o)
	if err != nil {
		return err
	}
	if o.Verify {
		return env.apacheVerify(o, password)
	}
	encoded, err := auth.Hash(password, o.Cost)
	if err != nil {
		return apacheError(apacheValue, "%v", err)
	}
	if !o.Bcrypt {
		env.say("htpasswd: this is bcrypt, which is all that registry:2 reads; Apache's own needs -B for it")
	}
	if o.Print {
		_, err := fmt.Fprintf(env.Stdout, "%s:%s\n\n", o.User, encoded)
		return err
	}
	return env.apacheSet(o, encoded)
}

func (e *Env) apacheDelete(o *apacheOptions) error {
	gone := false
	err := apacheEdit(o, func(f *auth.File) error {
		gone = f.Remove(o.User)
		return nil
	})
	switch {
	case err != nil:
		return err
	case gone:
		e.say("Deleting password for user %s", o.User)
	default:
		e.say("User %s not found", o.User)
	}
	return nil
}

func (e *Env) apacheVerify(o *apacheOptions, password string) error {
	f, err := auth.ReadFile(o.File)
	if f == nil {
		return apacheError(apacheFile, "%v", err)
	}
	if !slices.ContainsFunc(f.Users(), func(u auth.User) bool { return u.Name == o.User }) {
		return apacheError(apacheUser, "User %s not found", o.User)
	}
	if !f.Matches(o.User, password) {
		return apacheError(apachePassword, "password verification failed")
	}
	e.say("Password for user %s correct.", o.User)
	return nil
}

func (e *Env) apacheSet(o *apacheOptions, encoded string) error {
	had, lost := false, 0
	err := apacheEdit(o, func(f *auth.File) (err error) {
		if o.Create {
			lost = len(f.Users())
			fresh, _ := auth.Parse(nil) // Nothing is not damaged.
			*f = *fresh
		}
		had, err = f.Set(o.User, encoded)
		return err
	})
	if err != nil {
		return err
	}
	if lost > 0 {
		e.say("htpasswd: -c made %s anew, without the users that it had: %d", o.File, lost)
	}
	if had {
		e.say("Updating password for user %s", o.User)
	} else {
		e.say("Adding password for user %s", o.User)
	}
	return nil
}

// apacheEdit edits a file that is there, or that -c makes: with the mode that
// Apache's gives, as who made it with sudo has a server of another user read it.
func apacheEdit(o *apacheOptions, change func(*auth.File) error) error {
	if o.Create {
		f, err := os.OpenFile(o.File, os.O_WRONLY|os.O_CREATE, 0o644)
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return apacheError(apacheFile, "%v", err)
		}
	} else if _, err := os.Stat(o.File); err != nil {
		hint := ""
		if errors.Is(err, fs.ErrNotExist) {
			hint = "; use -c to create it"
		}
		return apacheError(apacheFile, "cannot modify file %s: %v%s", o.File, err, hint)
	}
	if err := auth.Edit(o.File, change); err != nil {
		return apacheError(apacheFile, "%v", err)
	}
	return nil
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
