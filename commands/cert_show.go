package commands

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/serve/cert"
)

type certShowOptions struct {
	What   string
	Key    string
	Output string
}

const certShowHelp = `Show a certificate: whose it is, for which names, until when, and what is wrong
with it. It is that of a file, or the one that a server shows; of a server it is
said, too, whether this machine trusts it.

What no server can use makes the exit status 6.`

func newCertShow(env *Env, run func(context.Context, *Env, *certShowOptions) error) *cobra.Command {
	o := &certShowOptions{}
	cmd := &cobra.Command{
		Use:     "show FILE | HOST[:PORT]",
		Short:   "Show a certificate, and what is wrong with it",
		Long:    certShowHelp,
		Example: "  regctl cert show /certs/domain.crt --key /certs/domain.key\n  regctl cert show reg.lan:5000",
		Args:    exactlyOne("cert show FILE, or regctl cert show HOST:PORT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.What = args[0]
			return run(cmd.Context(), env, o)
		},
	}
	cmd.Flags().StringVar(&o.Key, "key", "", "look at its key, too, in `FILE`")
	addOutput(cmd, &o.Output)
	return cmd
}

// certInfo is what is told of a certificate.
type certInfo struct {
	Schema      string        `json:"schema"`
	Subject     string        `json:"subject"`
	Issuer      string        `json:"issuer"`
	Names       []string      `json:"names"`
	From        time.Time     `json:"from"`
	Until       time.Time     `json:"until"`
	Key         string        `json:"key"`
	Signature   string        `json:"signature"`
	CA          bool          `json:"ca"`
	Fingerprint string        `json:"fingerprint"`
	Chain       []string      `json:"chain"` // Whose certificates follow it.
	Problems    []certProblem `json:"problems"`
}

type certProblem struct {
	Level string `json:"level"` // error, warning or note.
	File  string `json:"file,omitempty"`
	Text  string `json:"text"`
	Try   string `json:"try,omitempty"`
}

func runCertShow(ctx context.Context, env *Env, o *certShowOptions) error {
	f, err := parseFormat(o.Output)
	if err != nil {
		return err
	}
	chain, live, err := certAt(ctx, o.What)
	if err != nil {
		return err
	}
	var problems []cert.Problem
	switch {
	case live:
		problems = append(untrusted(chain, o.What, env.Now()), cert.InspectChain(chain, "", env.Now())...)
	case chain[0].IsCA && len(chain[0].DNSNames)+len(chain[0].IPAddresses) == 0 && o.Key == "":
		problems = cert.InspectCAs(o.What, env.Now())
	default:
		problems = cert.Inspect(cert.Pair{Certificate: o.What, Key: o.Key}, env.Now())
	}
	if err := f.printOne(env.Stdout, newCertInfo(chain, problems), certSheet(env, chain, problems, o.What)); err != nil {
		return err
	}
	if slices.ContainsFunc(problems, func(p cert.Problem) bool { return p.Level == cert.Fault }) {
		return &ExitError{Status: exitInvalid}
	}
	return nil
}

func newCertInfo(chain []*x509.Certificate, problems []cert.Problem) certInfo {
	c := chain[0]
	info := certInfo{
		Schema: "regctl.cert/v1", Subject: c.Subject.String(), Issuer: c.Issuer.String(), Names: append([]string{}, cert.NamesOf(c)...),
		From: c.NotBefore, Until: c.NotAfter, Key: keyKind(c), Signature: c.SignatureAlgorithm.String(), CA: c.IsCA,
		Fingerprint: fingerprint(c), Chain: []string{}, Problems: []certProblem{},
	}
	for _, next := range chain[1:] {
		info.Chain = append(info.Chain, next.Subject.String())
	}
	for _, p := range problems {
		info.Problems = append(info.Problems, certProblem{p.Level.String(), p.File, p.Text, p.Try})
	}
	return info
}

// certSheet shows a certificate to people.
func certSheet(env *Env, chain []*x509.Certificate, problems []cert.Problem, file string) string {
	c := chain[0]
	b := &sheet{now: env.Now(), width: env.Width}
	b.field("Subject", c.Subject.String())
	issuer := c.Issuer.String()
	if string(c.RawIssuer) == string(c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
		issuer = "itself"
	}
	b.field("Signed by", issuer)
	names := strings.Join(cert.NamesOf(c), ", ")
	if names == "" && !c.IsCA {
		names = "none"
	}
	b.field("Names", names)
	b.field("Good", fmt.Sprintf("%s to %s (%d days left)", c.NotBefore.UTC().Format(time.DateOnly), c.NotAfter.UTC().Format(time.DateOnly),
		max(0, int(c.NotAfter.Sub(env.Now()).Hours()/24))))
	b.field("Key", keyKind(c))
	b.field("Fingerprint", fingerprint(c))
	for _, next := range chain[1:] {
		b.field("Then", next.Subject.String())
	}
	for i, p := range problems {
		if i == 0 {
			b.section("PROBLEMS")
		}
		if p.File == file {
			p.File = ""
		}
		fmt.Fprintf(&b.text, "%s: %s\n", p.Level, printable(p.String()))
	}
	return strings.TrimSuffix(b.text.String(), "\n")
}

func keyKind(c *x509.Certificate) string {
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA, %d bits", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Params().Name
	}
	return c.PublicKeyAlgorithm.String()
}

// hostPort is a host as a client writes it, with the port.
func hostPort(what string) string {
	what = strings.TrimSuffix(strings.TrimPrefix(what, "https://"), "/")
	if _, _, err := net.SplitHostPort(what); err == nil {
		return what
	}
	return net.JoinHostPort(strings.Trim(what, "[]"), strconv.Itoa(httpsPort))
}

// handshakes may take this long.
const handshakeTimeout = 15 * time.Second

// shown returns the certificates that a server shows, whatever they are worth.
func shown(ctx context.Context, addr string) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	var chain []*x509.Certificate
	d := &tls.Dialer{Config: &tls.Config{
		InsecureSkipVerify: true, // It is looked at, not trusted.
		VerifyConnection: func(s tls.ConnectionState) error {
			chain = s.PeerCertificates
			return nil
		},
	}}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err == nil {
		conn.Close()
	}
	var plain tls.RecordHeaderError
	switch {
	case len(chain) > 0: // Whatever came of it: it may want a certificate of the client.
		return chain, nil
	case errors.As(err, &plain):
		return nil, fmt.Errorf("%s does not speak TLS: it has no certificate", addr)
	case err == nil:
		return nil, fmt.Errorf("%s shows no certificate", addr)
	}
	return nil, &ExitError{exitUnreachable, fmt.Errorf("look at the certificate of %s: %w", addr, err)}
}

// untrusted says why this machine does not trust what a server shows.
func untrusted(chain []*x509.Certificate, what string, now time.Time) []cert.Problem {
	host, _, err := net.SplitHostPort(hostPort(what))
	if err != nil {
		return nil
	}
	others := x509.NewCertPool()
	for _, c := range chain[1:] {
		others.AddCert(c)
	}
	_, err = chain[0].Verify(x509.VerifyOptions{DNSName: host, Intermediates: others, CurrentTime: now})
	if err == nil {
		return nil
	}
	p := cert.Problem{Level: cert.Warning, Text: fmt.Sprintf("this system does not trust it: %v", err)}
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		p.Try = "regctl cert trust"
	}
	return []cert.Problem{p}
}
