package commands

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/serve/cert"
	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/storage/file"
)

// ownTLSOptions are the flags of serve for a certificate of its own making.
type ownTLSOptions struct {
	TLS      string
	TLSNames []string
}

const tlsSelf = "self"

func (o *ownTLSOptions) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.TLS, "tls", "", "`self`: serve HTTPS with a certificate of a private CA, which is made and renewed")
	cmd.Flags().StringArrayVar(&o.TLSNames, "tls-name", nil, "with --tls self: clients call this machine `NAME`, too (repeatable)")
	words := cobra.FixedCompletions([]cobra.Completion{tlsSelf}, cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc("tls", words) // Neither can fail: the flags were added a moment ago.
	_ = cmd.RegisterFlagCompletionFunc("tls-name", cobra.NoFileCompletions)
}

// ownTLS makes the certificate of a server, and keeps it good. Nil: there is
// none to be made.
type ownTLS struct {
	env   *Env
	log   *slog.Logger
	store string // Empty: it is in memory.
	dir   string
	names func(context.Context) []string

	made   []string // The names it was last made for.
	failed string   // What was last told to have failed.
	since  time.Time
}

// newOwnTLS reads the flags. The store may be "": it is in memory then.
func newOwnTLS(env *Env, o *ownTLSOptions, c *config.Config, store string, log *slog.Logger) (*ownTLS, error) {
	switch {
	case o.TLS == "" && len(o.TLSNames) == 0:
		env.warnOfTLS(c.HTTP.TLS)
		return nil, nil
	case o.TLS == "":
		return nil, usagef("--tls-name is for --tls self; add it")
	case o.TLS != tlsSelf:
		return nil, usagef("--tls %s: there is self; for a certificate that you have: --tls-cert FILE --tls-key FILE", o.TLS)
	case c.HTTP.TLS.Certificate != "":
		return nil, usagef("--tls self and the certificate %s are two certificates; drop one", c.HTTP.TLS.Certificate)
	}
	var asked []string
	for _, name := range o.TLSNames {
		parsed, err := cert.ParseName(name)
		if err != nil {
			return nil, usagef("--tls-name %v", err)
		}
		asked = append(asked, parsed)
	}
	if u, err := url.Parse(c.HTTP.Host); err == nil && u.Hostname() != "" {
		asked = append(asked, u.Hostname())
	}
	t := &ownTLS{env: env, log: log, store: store, dir: filepath.Join(store, file.Private, "tls")}
	t.names = func(ctx context.Context) []string {
		return validNames(append(slices.Clone(asked), machineNames(ctx)...))
	}
	if store == "" {
		data := env.xdg("XDG_DATA_HOME", ".local", "share")
		if data == "" {
			return nil, usagef("no place for the certificate: there is no home directory; set XDG_DATA_HOME")
		}
		t.dir = filepath.Join(data, "tls")
	}
	return t, nil
}

// warnOfTLS says what is wrong with certificates that clients may refuse. What
// no server can use is an error, and told later.
func (e *Env) warnOfTLS(c config.TLS) {
	if c.Certificate == "" {
		return
	}
	problems := cert.Inspect(cert.Pair{Certificate: c.Certificate, Key: c.Key}, e.Now())
	for _, name := range c.ClientCAs {
		problems = append(problems, cert.InspectCAs(name, e.Now())...)
	}
	for _, p := range problems {
		if p.Level == cert.Warning {
			e.say("warning: %s", p)
		}
	}
}

// certifier is for [serve.Parts].
func (t *ownTLS) certifier(ctx context.Context) func() (config.TLS, error) {
	if t == nil {
		return nil
	}
	return func() (config.TLS, error) {
		made, err := t.make(ctx)
		if made.Kept != nil {
			t.env.say("warning: the certificate is to be renewed, and cannot: %v", made.Kept)
		}
		return config.TLS{Certificate: made.Certificate, Key: made.Key}, err
	}
}

// shown is the configuration as it is in effect.
func (t *ownTLS) shown(c *config.Config) *config.Config {
	if t == nil {
		return c
	}
	own := *c
	own.HTTP.TLS.Certificate = filepath.Join(t.dir, "server.crt")
	return &own
}

func (t *ownTLS) make(ctx context.Context) (cert.Made, error) {
	t.made = t.names(ctx)
	made, err := cert.Self(t.dir, t.made, t.env.Now())
	if err == nil && t.store != "" {
		err = inherit(t.store, t.dir)
	}
	return made, err
}

// renewals is how often it is looked whether a certificate is still good: so
// often because addresses of the machine come and go.
const renewals = 5 * time.Minute

// keep renews the certificate until ctx ends or it is told to stop. The server
// sees by itself that the file is another.
func (t *ownTLS) keep(ctx context.Context) (stop func()) {
	if t == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.env.After(renewals):
			}
			t.renew(ctx)
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

func (t *ownTLS) renew(ctx context.Context) {
	made, err := t.make(ctx)
	if err == nil {
		err = made.Kept
	}
	if err == nil {
		t.failed = ""
	}
	switch {
	case err != nil && t.failed == err.Error() && t.env.Now().Sub(t.since) < 24*time.Hour: // It is known.
	case err != nil:
		t.failed, t.since = err.Error(), t.env.Now()
		t.log.LogAttrs(ctx, slog.LevelError, "the certificate is to be renewed, and cannot", slog.Any("error", err))
	case made.RenewedCA:
		t.log.LogAttrs(ctx, slog.LevelWarn, "the CA has a new certificate of the same key; copy it to clients before the old one ends", slog.String("file", made.CA))
	case made.NewLeaf:
		t.log.LogAttrs(ctx, slog.LevelInfo, "the certificate has been renewed", slog.Time("until", made.Until))
	}
}

// greet says what clients need to trust the server at addrs.
func (t *ownTLS) greet(addrs []net.Addr) {
	if t == nil {
		return
	}
	ca := filepath.Join(t.dir, "ca.crt")
	host := t.hostFor(addrs)
	t.env.say("copy %s to %s on each client", t.env.tilde(ca), dockerFile(host))
	if print, err := fingerprintOf(ca); err == nil {
		t.env.say("or, there: regctl cert trust %s --fingerprint %s --write", host, print)
	}
}

// hostFor is what clients call the server: HOST:PORT, without a port if it is
// that of HTTPS.
func (t *ownTLS) hostFor(addrs []net.Addr) string {
	at, open := reachable(addrs)
	host, port, err := net.SplitHostPort(at)
	if err != nil { // A socket.
		return at
	}
	names := t.made
	switch {
	case !open:
		host = "localhost"
	case net.ParseIP(host) == nil || isLoopback(at): // All addresses.
		host = names[0]
		if i := slices.IndexFunc(names, func(n string) bool { return n != "localhost" && !strings.HasPrefix(n, "*") }); i >= 0 {
			host = names[i]
		}
	}
	if port == "443" {
		return host
	}
	return net.JoinHostPort(host, port)
}

// maxNames bounds what a certificate is for: some machines have thousands of
// addresses, as those of services.
const maxNames = 100

// machineNames are the names and addresses of this machine, as far as it knows.
func machineNames(ctx context.Context) []string {
	var names []string
	if host, err := os.Hostname(); err == nil {
		if full := fullName(ctx, host); full != "" {
			names = append(names, full)
		}
		names = append(names, host)
	}
	names = append(names, "localhost")
	addrs, err := net.InterfaceAddrs()
	if err != nil { // It has no network.
		return append(names, "127.0.0.1")
	}
	for _, a := range addrs {
		// Those of a link are useless without the name of an interface.
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() {
			names = append(names, n.IP.String())
		}
	}
	return names[:min(len(names), maxNames)]
}

// fullName is a host name with its domain, if it has one and that is known soon.
func fullName(ctx context.Context, host string) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	name, err := net.DefaultResolver.LookupCNAME(ctx, host)
	name = strings.TrimSuffix(name, ".")
	if err != nil || !strings.HasPrefix(name, host+".") {
		return ""
	}
	return name
}

// validNames drops what no certificate can be for.
func validNames(all []string) []string {
	var names []string
	for _, given := range all {
		if name, err := cert.ParseName(given); err == nil && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// dockerFile is where docker looks for the CA of a registry.
func dockerFile(host string) string {
	return fmt.Sprintf("/etc/docker/certs.d/%s/ca.crt", strings.TrimSuffix(host, ":"+strconv.Itoa(httpsPort)))
}

const httpsPort = 443
