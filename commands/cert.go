package commands

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/serve/cert"
)

func newCert(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "cert",
		Short:   "Make, look at and trust certificates of registries",
		Long:    "Make, look at and trust certificates of registries.",
		GroupID: groupServe,
		Args:    knownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newCertMake(env, runCertMake),
		newCertRenew(env, runCertRenew),
		newCertShow(env, runCertShow),
		newCertTrust(env, runCertTrust),
	)
	return cmd
}

type certMakeOptions struct {
	Dir   string
	Names []string
	Force bool
}

const certMakeHelp = `Make a private CA, and a certificate of it for a registry.

It is for the names and addresses that are given, else for all those of this
machine. Clients must trust ca.crt ("regctl cert trust"); the registry gets
server.crt and server.key:

  http:
    tls:
      certificate: certs/server.crt
      key: certs/server.key

What is there already is kept as long as it is good: to do it again renews the
certificate only if it is for other names, or two thirds of its 397 days are
over. The CA stays for ten years. To have "regctl serve" do all that by itself:
regctl serve --tls self.`

func newCertMake(env *Env, run func(context.Context, *Env, *certMakeOptions) error) *cobra.Command {
	o := &certMakeOptions{}
	cmd := &cobra.Command{
		Use:               "make [NAME|IP]...",
		Short:             "Make a private CA and a certificate",
		Long:              certMakeHelp,
		Example:           "  regctl cert make reg.lan 192.168.211.15 --dir /srv/certs",
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Names = args
			return run(cmd.Context(), env, o)
		},
	}
	cmd.Flags().StringVar(&o.Dir, "dir", "certs", "keep the files in `DIR`")
	cmd.Flags().BoolVarP(&o.Force, "force", "f", false, "rename a server.crt of another CA to server.crt.old")
	_ = cmd.MarkFlagDirname("dir") // Cannot fail: the flag was added a moment ago.
	return cmd
}

func runCertMake(ctx context.Context, env *Env, o *certMakeOptions) error {
	names := o.Names
	if len(names) == 0 {
		names = validNames(machineNames(ctx))
	}
	for _, name := range names {
		if _, err := cert.ParseName(name); err != nil {
			return &UsageError{err.Error()}
		}
	}
	made, err := cert.Self(o.Dir, names, env.Now())
	var foreign *cert.ForeignError
	if errors.As(err, &foreign) && o.Force {
		if err := os.Rename(foreign.File, foreign.File+".old"); err != nil {
			return err
		}
		made, err = cert.Self(o.Dir, names, env.Now())
	}
	if errors.As(err, &foreign) {
		return &hinted{err, err.Error() + "; --force renames it, --dir DIR makes one elsewhere"}
	}
	if err != nil {
		return err
	}
	return env.tellMade(made)
}

// tellMade says what there is now, and writes the name of the certificate.
func (e *Env) tellMade(made cert.Made) error {
	if made.Kept != nil {
		return fmt.Errorf("the certificate for %s, which is good until %s, cannot be renewed: %w",
			strings.Join(made.Names, ", "), made.Until.UTC().Format(time.DateOnly), made.Kept)
	}
	switch {
	case made.NewCA:
		e.say("made a CA, %s: clients must trust it: regctl cert trust %s --host HOST:PORT", made.CA, made.CA)
	case made.RenewedCA:
		e.say("renewed the CA, %s, with the same key: copy it to clients before the old one ends", made.CA)
	}
	names := strings.Join(made.Names, ", ")
	if made.NewLeaf {
		e.say("made a certificate for %s, good until %s", names, made.Until.UTC().Format(time.DateOnly))
	} else {
		e.say("the certificate for %s is good until %s; it is renewed from %s on", names,
			made.Until.UTC().Format(time.DateOnly), made.Renew.UTC().Format(time.DateOnly))
	}
	return write(e.Stdout, []byte(made.Certificate+"\n"), nil)
}

type certRenewOptions struct {
	Dir   string
	Force bool
}

const certRenewHelp = `Renew a certificate that "regctl cert make" has made, for the same names and by
the same CA, so that clients need nothing. As long as two thirds of its life are
not over nothing is done: run it each day.

A registry that runs takes the new one by itself.`

func newCertRenew(env *Env, run func(context.Context, *Env, *certRenewOptions) error) *cobra.Command {
	o := &certRenewOptions{}
	cmd := &cobra.Command{
		Use:     "renew [DIR]",
		Short:   "Renew a certificate, if it is time",
		Example: "  regctl cert renew /srv/certs",
		Long:    certRenewHelp,
		Args:    atMost(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Dir = "certs"
			if len(args) > 0 {
				o.Dir = args[0]
			}
			return run(cmd.Context(), env, o)
		},
	}
	cmd.Flags().BoolVarP(&o.Force, "force", "f", false, "renew it now")
	return cmd
}

func runCertRenew(_ context.Context, env *Env, o *certRenewOptions) error {
	made, err := cert.Renew(o.Dir, o.Force, env.Now())
	if errors.Is(err, fs.ErrNotExist) {
		return &ExitError{exitNotFound, &hinted{err, err.Error() + ". Try: regctl cert make --dir " + o.Dir}}
	}
	if err != nil {
		return err
	}
	return env.tellMade(made)
}

// fingerprint tells a certificate from all others.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// fingerprintOf is that of the first certificate of a file.
func fingerprintOf(file string) (string, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	chain, err := cert.ParseChain(raw)
	if err != nil {
		return "", err
	}
	return fingerprint(chain[0]), nil
}

// certAt returns the certificates of a file, or those that a server shows.
func certAt(ctx context.Context, what string) (chain []*x509.Certificate, live bool, err error) {
	raw, err := os.ReadFile(what)
	if err == nil {
		chain, err = cert.ParseChain(raw)
		if err != nil {
			return nil, false, &ExitError{exitInvalid, &hinted{err, what + ": " + err.Error()}}
		}
		return chain, false, nil
	}
	if !errors.Is(err, fs.ErrNotExist) || filepath.IsAbs(what) || strings.ContainsAny(strings.TrimPrefix(what, "https://"), `/\`) {
		return nil, false, err
	}
	chain, err = shown(ctx, hostPort(what))
	return chain, true, err
}
