package commands

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/serve/cert"
)

type certTrustOptions struct {
	What        string
	Host        string
	Fingerprint string
	For         []string
	Write       bool
	Root        string
	Force       bool
}

const certTrustHelp = `Print the steps that make clients on this machine trust a CA, or take them with
--write. The CA is that of a file, or the one that a registry shows; since anybody
may stand between, that one needs the --fingerprint that the registry has told.

  --for docker      /etc/docker/certs.d/HOST:PORT/ca.crt, no restart; macOS: ~/.docker
  --for podman      /etc/containers/certs.d/HOST:PORT/ca.crt; skopeo and buildah, too
  --for containerd  /etc/containerd/certs.d/HOST:PORT/hosts.toml; nerdctl and ctr, too
  --for os          all programs, such as curl; docker and containerd need a restart

Port 443 is left out of the names, as clients leave it out. What the steps print
is for sh, and needs root. A file that is there with another content stays as it
is without --force.`

const certTrustExamples = `  regctl cert trust certs/ca.crt --host reg.lan:5000
  regctl cert trust reg.lan:5000 --fingerprint sha256:1f… --for docker --write`

func newCertTrust(env *Env, run func(context.Context, *Env, *certTrustOptions) error) *cobra.Command {
	o := &certTrustOptions{}
	cmd := &cobra.Command{
		Use:     "trust FILE --host HOST[:PORT] | HOST[:PORT] --fingerprint SHA256",
		Short:   "Make clients trust a certificate",
		Long:    certTrustHelp,
		Example: certTrustExamples,
		Args:    exactlyOne("cert trust FILE --host HOST:PORT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.What = args[0]
			return run(cmd.Context(), env, o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Host, "host", "", "clients call the registry `HOST[:PORT]`")
	flags.StringVar(&o.Fingerprint, "fingerprint", "", "of the CA that the registry shows: its `SHA256`")
	flags.StringSliceVar(&o.For, "for", []string{"docker", "podman", "containerd"}, "for these `CLIENTS`: docker, podman, containerd, os")
	flags.BoolVar(&o.Write, "write", false, "take the steps")
	flags.StringVar(&o.Root, "root", "", "the system is in `DIR`, and does not run")
	flags.BoolVarP(&o.Force, "force", "f", false, "replace files that are there")
	words := cobra.FixedCompletions([]cobra.Completion{"docker", "podman", "containerd", "os"}, cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc("for", words) // Neither can fail: the flags were added a moment ago.
	_ = cmd.MarkFlagDirname("root")
	return cmd
}

func runCertTrust(ctx context.Context, env *Env, o *certTrustOptions) error {
	chain, live, err := certAt(ctx, o.What)
	if err != nil {
		return err
	}
	host := o.Host
	switch {
	case live && host == "":
		host = strings.TrimSuffix(strings.TrimPrefix(o.What, "https://"), "/")
	case host == "":
		return usagef("what do clients call the registry? Try: regctl cert trust %s --host HOST:PORT", o.What)
	}
	if err := checkHost(host); err != nil {
		return err
	}
	ca, err := caToTrust(chain, o, live)
	if err != nil {
		return err
	}
	for _, p := range cert.InspectChain([]*x509.Certificate{ca}, o.What, env.Now()) {
		if p.Level == cert.Warning && !ca.IsCA {
			env.say("warning: %s", printable(p.String()))
		}
	}
	source := o.What
	if live {
		source = ""
	}
	anchor := trusted{
		host: strings.TrimSuffix(host, ":"+strconv.Itoa(httpsPort)), source: source, ca: encodeCert(ca),
		root: o.Root, goos: env.Build.OS, home: env.Home,
	}
	steps, err := anchor.steps(o.For)
	if err != nil {
		return err
	}
	if !o.Write {
		return write(env.Stdout, []byte(trustScript(steps)), nil)
	}
	for _, s := range steps {
		err := s.take(ctx, env, o)
		if errors.Is(err, fs.ErrPermission) {
			return &hinted{err, fmt.Sprintf("trust it, for %s: %v. Try: sudo regctl cert trust …", s.client, err)}
		}
		if err != nil {
			return fmt.Errorf("trust it, for %s: %w", s.client, err)
		}
	}
	return nil
}

// checkHost wants HOST or HOST:PORT; it becomes the name of a folder.
func checkHost(host string) error {
	name, port := host, "0"
	if h, p, err := net.SplitHostPort(host); err == nil {
		name, port = h, p
	}
	_, err := cert.ParseName(strings.Trim(name, "[]"))
	_, notNumber := strconv.ParseUint(port, 10, 16)
	if err != nil || notNumber != nil || strings.HasPrefix(name, "*") {
		return usagef("--host %q: it is HOST or HOST:PORT", host)
	}
	return nil
}

// caToTrust returns the certificate that vouches for the others.
func caToTrust(chain []*x509.Certificate, o *certTrustOptions, live bool) (*x509.Certificate, error) {
	ca := chain[len(chain)-1]
	if i := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return c.IsCA && bytes.Equal(c.RawIssuer, c.RawSubject) }); i >= 0 {
		ca = chain[i]
	}
	if !ca.IsCA && !bytes.Equal(ca.RawIssuer, ca.RawSubject) {
		return nil, &ExitError{exitInvalid, fmt.Errorf("%s: it is a certificate of %s; what clients must trust is the certificate of that CA", o.What, printable(ca.Issuer.String()))}
	}
	print := fingerprint(ca)
	given := strings.ToLower(strings.ReplaceAll(o.Fingerprint, ":", ""))
	switch {
	case given == "" && !live, given != "" && given == strings.ReplaceAll(print, ":", ""), given != "" && "sha256"+given == strings.ReplaceAll(print, ":", ""):
		return ca, nil
	case given == "":
		return nil, usagef("%s shows the CA %s. Is its fingerprint the one that the registry has told? Then: regctl cert trust %s --fingerprint %s",
			o.What, printable(ca.Subject.String()), o.What, print)
	}
	return nil, &ExitError{exitDenied, fmt.Errorf("%s: the fingerprint of its CA is %s, not the one that was given: this is another CA, or somebody is in between", o.What, print)}
}

func encodeCert(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// trustStep is what one client needs.
type trustStep struct {
	client string
	note   string
	files  []trustFile
	run    []string // A program with its arguments; may be empty.
}

// trustFile is to be there.
type trustFile struct {
	path    string
	content []byte
	source  string // It has the content, too; may be empty.
}

// trusted is a CA, for one registry.
type trusted struct {
	host   string // With the port, but for that of HTTPS.
	ca     []byte
	source string // The file that has it; may be empty.
	root   string // The system is there; empty: it is this one.
	goos   string
	home   string
}

func (t trusted) steps(clients []string) ([]trustStep, error) {
	var steps []trustStep
	for _, client := range clients {
		var s trustStep
		switch client {
		case "docker":
			s = t.docker()
		case "podman":
			s = trustStep{note: "and skopeo, buildah", files: []trustFile{t.file("/etc/containers/certs.d/" + t.host + "/ca.crt")}}
		case "containerd":
			s = t.containerd()
		case "os":
			var err error
			if s, err = t.system(); err != nil {
				return nil, err
			}
		default:
			return nil, usagef("--for %q: there is docker, podman, containerd and os", client)
		}
		s.client = client
		steps = append(steps, s)
	}
	return steps, nil
}

func (t trusted) file(path string) trustFile { return trustFile{path, t.ca, t.source} }

func (t trusted) docker() trustStep {
	if t.goos == "darwin" && t.home != "" { // It runs in a machine of its own, and takes this along.
		return trustStep{note: "Docker Desktop must be restarted", files: []trustFile{t.file(t.home + "/.docker/certs.d/" + t.host + "/ca.crt")}}
	}
	return trustStep{note: "nothing needs a restart", files: []trustFile{t.file(dockerFile(t.host))}}
}

func (t trusted) containerd() trustStep {
	dir := "/etc/containerd/certs.d/" + t.host
	toml := fmt.Sprintf("server = %[1]q\n\n[host.%[1]q]\n  ca = %[2]q\n", "https://"+t.host, dir+"/ca.crt")
	return trustStep{
		note:  `the registry plugin in /etc/containerd/config.toml must have config_path = "/etc/containerd/certs.d"; ctr needs --hosts-dir /etc/containerd/certs.d`,
		files: []trustFile{t.file(dir + "/ca.crt"), {dir + "/hosts.toml", []byte(toml), ""}},
	}
}

// system is for the store of the operating system, which is known by its
// folder.
func (t trusted) system() (trustStep, error) {
	name := "regctl-" + strings.NewReplacer(":", "-", "[", "", "]", "").Replace(t.host) + ".crt"
	const note = "docker and containerd must be restarted"
	var program []string
	switch t.goos {
	case "darwin":
		program = []string{"security", "add-trusted-cert", "-d", "-r", "trustRoot", "-k", "/Library/Keychains/System.keychain"}
	case "windows":
		program = []string{"certutil", "-addstore", "-f", "Root"}
	}
	if program != nil {
		if t.source == "" {
			return trustStep{}, usagef("here --for os needs a FILE: copy ca.crt from the registry")
		}
		return trustStep{note: note, run: append(program, t.source)}, nil
	}
	for _, known := range []struct {
		folder string
		run    []string
	}{
		{"/usr/local/share/ca-certificates", []string{"update-ca-certificates"}},              // Debian, Alpine.
		{"/etc/pki/ca-trust/source/anchors", []string{"update-ca-trust", "extract"}},          // Fedora, RHEL.
		{"/etc/ca-certificates/trust-source/anchors", []string{"update-ca-trust", "extract"}}, // Arch.
		{"/etc/pki/trust/anchors", []string{"update-ca-certificates"}},                        // SUSE.
	} {
		if info, err := os.Stat(filepath.Join(t.root, known.folder)); err == nil && info.IsDir() {
			return trustStep{note: note, files: []trustFile{t.file(known.folder + "/" + name)}, run: known.run}, nil
		}
	}
	return trustStep{}, errors.New("--for os: this system has no folder for CAs that is known; is the package ca-certificates installed?")
}

// trustScript is the steps as a shell takes them.
func trustScript(steps []trustStep) string {
	var b strings.Builder
	for i, s := range steps {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "# %s: %s\n", s.client, s.note)
		made := ""
		for _, f := range s.files {
			if dir := path.Dir(f.path); dir != made {
				fmt.Fprintf(&b, "mkdir -p %s\n", shellQuote(dir))
				made = dir
			}
			if f.source != "" {
				fmt.Fprintf(&b, "cp %s %s\n", shellQuote(f.source), shellQuote(f.path))
			} else {
				fmt.Fprintf(&b, "cat >%s <<'END'\n%sEND\n", shellQuote(f.path), f.content)
			}
		}
		if len(s.run) > 0 {
			words := make([]string, len(s.run))
			for i, w := range s.run {
				words[i] = shellQuote(w)
			}
			fmt.Fprintln(&b, strings.Join(words, " "))
		}
	}
	return b.String()
}

func shellQuote(s string) string {
	plain := func(r rune) bool {
		return strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:@%+=,", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// take takes the step on this machine.
func (s trustStep) take(ctx context.Context, env *Env, o *certTrustOptions) error {
	for _, f := range s.files {
		if err := f.write(env, o.Root, o.Force); err != nil {
			return err
		}
	}
	switch {
	case len(s.run) == 0:
	case o.Root != "":
		env.say("%s: to be run there: %s", s.client, strings.Join(s.run, " "))
	default:
		out, err := exec.CommandContext(ctx, s.run[0], s.run[1:]...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(s.run, " "), err, bytes.TrimSpace(out))
		}
	}
	if s.note != "" {
		env.say("%s: %s", s.client, s.note)
	}
	return nil
}

// write writes the file, unless it is there.
func (f trustFile) write(env *Env, root string, force bool) error {
	file := filepath.Join(root, f.path)
	was, err := os.ReadFile(file)
	switch {
	case err == nil && bytes.Equal(was, f.content):
		env.say("%s is there", file)
		return nil
	case err == nil && !force:
		return &ExitError{exitFailed, fmt.Errorf("%s is there, and says something else; --force replaces it", file)}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(file), ".regctl-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }() // It has gone if it was moved.
	_, err = temp.Write(f.content)
	if err := errors.Join(err, temp.Chmod(0o644), temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Rename(temp.Name(), file); err != nil {
		return err
	}
	env.say("wrote %s", file)
	return nil
}
