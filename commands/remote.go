package commands

import (
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/client"
	"github.com/regctl/regctl/client/layout"
	"github.com/regctl/regctl/client/oci"
)

// remoteOptions say which registry is meant and how to speak to it.
type remoteOptions struct {
	Registry  string
	Login     string
	Insecure  bool
	CAs       []string
	Cert, Key string
	Jobs      int // As in [client.Options].
}

func (o *remoteOptions) add(cmd *cobra.Command) {
	o.addWire(cmd)
	cmd.Flags().StringVarP(&o.Registry, "registry", "r", "", "the `HOST` that bare names mean")
	cmd.Flags().StringVar(&o.Login, "login", "", "log in as `USER:PASSWORD`, once; others here can see it")
	_ = cmd.RegisterFlagCompletionFunc("registry", cobra.NoFileCompletions) // The flag is there.
}

// addWire adds the flags that say how to speak to a registry.
func (o *remoteOptions) addWire(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&o.Insecure, "insecure", false, "accept any certificate, and plain HTTP")
	flags.StringArrayVar(&o.CAs, "ca", nil, "trust the authorities in `FILE`, too (PEM; repeatable)")
	flags.StringVar(&o.Cert, "cert", "", "show the certificate in `FILE` (PEM)")
	flags.StringVar(&o.Key, "key", "", "the key of --cert, if that `FILE` is another")
}

// target parses the argument what of a command.
func (e *Env) target(what string, o *remoteOptions) (target, error) {
	return parseTarget(what, func() (string, error) { return e.registry(o.Registry) })
}

// imageTarget is target for an argument that can only be an image.
func (e *Env) imageTarget(what string, o *remoteOptions) (target, error) {
	if isShortImage(what) {
		return parseBare(what, func() (string, error) { return e.registry(o.Registry) })
	}
	return e.target(what, o)
}

// registries opens what the arguments of one run of a command name, each
// registry once: source and destination on the same host share its tokens and
// limits, and are one [oci.Registry]. It is safe for concurrent use.
type registries struct {
	env  *Env
	o    *remoteOptions
	warn func(error) // Nil: nobody is told.

	mu      sync.Mutex
	logins  *logins
	remotes map[string]*client.Client    // By [target.address].
	layouts map[string]*layout.Directory // By the directory.
	told    map[string]bool              // Warnings that were given.
}

// registries returns an opener for one run of a command. Trouble with stored
// logins goes to warn, each once; warn may be nil.
func (e *Env) registries(o *remoteOptions, warn func(error)) *registries {
	return &registries{
		env: e, o: o, warn: warn, told: map[string]bool{},
		remotes: map[string]*client.Client{}, layouts: map[string]*layout.Directory{},
	}
}

// open returns the registry that t is in. A directory must be there.
func (r *registries) open(t target) (oci.Registry, error) {
	if t.layout != "" {
		return r.directory(t, layout.Open)
	}
	return asRegistry(r.remote(t))
}

// create is open, but that it makes a directory that is not there.
func (r *registries) create(t target) (oci.Registry, error) {
	if t.layout != "" {
		return r.directory(t, layout.Create)
	}
	return asRegistry(r.remote(t))
}

// asRegistry keeps a nil Client from looking like a registry.
func asRegistry(c *client.Client, err error) (oci.Registry, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (r *registries) directory(t target, open func(string) (*layout.Directory, error)) (oci.Registry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	dir := filepath.Clean(t.layout)
	if d := r.layouts[dir]; d != nil {
		return d, nil
	}
	d, err := open(dir)
	if err != nil {
		return nil, err
	}
	r.layouts[dir] = d
	return d, nil
}

// remote returns the registry of t as a client of a server.
func (r *registries) remote(t target) (*client.Client, error) {
	if t.layout != "" {
		return nil, usagef("oci:%s is a directory, and this is for registries behind HTTP", t.layout)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.remotes[t.address()]; c != nil {
		return c, nil
	}
	if r.logins == nil {
		var err error
		if r.logins, err = r.env.logins(r.o); err != nil {
			return nil, err
		}
	}
	login, err := r.logins.of(t.host)
	if err != nil {
		return nil, err
	}
	keys := r.env.credentials(r.tell)
	if login != nil {
		keys.Logins = map[string]client.Login{t.host: *login}
	}
	o := r.env.clientOptions(r.o)
	o.Keychain, o.Warn, o.Jobs = keys, r.tell, r.o.Jobs
	c, err := client.New(t.address(), o)
	if err == nil {
		r.remotes[t.address()] = c
	}
	return c, err
}

const maxCache = 256 << 20 // Bytes of manifests and configs that are kept for the next run.

// clientOptions is how to speak to registries by o, but for logins.
func (e *Env) clientOptions(o *remoteOptions) client.Options {
	c := client.Options{
		Transport: e.Transport, Insecure: o.Insecure, CAs: o.CAs, Cert: o.Cert, Key: o.Key, CertDirs: e.certDirs(),
		UserAgent: "regctl/" + e.Build.Version, Now: e.Now, After: e.After,
	}
	if dir := e.cacheHome(); dir != "" {
		c.Cache = client.NewDirCache(filepath.Join(dir, "manifests"), maxCache, e.Now)
	}
	if e.verbose {
		c.Wrap = func(inner http.RoundTripper) http.RoundTripper { return &tracer{env: e, inner: inner} }
	}
	return c
}

// tell passes a warning on unless it was given before.
func (r *registries) tell(err error) {
	r.mu.Lock()
	told := r.told[err.Error()]
	r.told[err.Error()] = true
	r.mu.Unlock()
	if !told && r.warn != nil {
		r.warn(err)
	}
}

// open returns the registry of t for a command that speaks to one only.
// Trouble with stored logins goes to warn.
func (e *Env) open(t target, o *remoteOptions, warn func(error)) (*client.Client, error) {
	return e.registries(o, warn).remote(t)
}

// warn writes an error that does not stop anything.
func (e *Env) warn(err error) { e.say("%v", err) }

// tracer tells every request.
type tracer struct {
	env   *Env
	inner http.RoundTripper
}

func (t *tracer) RoundTrip(req *http.Request) (*http.Response, error) {
	start := t.env.Now()
	resp, err := t.inner.RoundTrip(req)
	took := t.env.Now().Sub(start).Round(time.Millisecond)
	if err != nil {
		t.env.say("%s %s %s: %v", req.Method, req.URL.Redacted(), took, err)
		return resp, err
	}
	t.env.say("%s %s %d %s", req.Method, req.URL.Redacted(), resp.StatusCode, took)
	return resp, nil
}

// hinted is an error with the one thing to try next.
type hinted struct {
	err     error
	message string
}

func (h *hinted) Error() string { return h.message }

func (h *hinted) Unwrap() error { return h.err }

// hint adds to err what to try next. The command is such as "regctl ls", what
// its argument as it was typed.
func (t target) hint(err error, command, what string) error {
	next := t.next(err, command, what)
	if next == "" {
		return err
	}
	return &hinted{err, said(err) + next}
}

// said is the text of err without what our server tells users of docker: here
// it is said in our words.
func said(err error) string {
	before, after, ok := strings.Cut(err.Error(), "; log in first: docker login ")
	if !ok {
		return before
	}
	if i := strings.IndexByte(after, ' '); i >= 0 {
		return before + after[i:]
	}
	return before
}

func (t target) next(err error, command, what string) string {
	var speaks *client.SpeaksError
	var coded *oci.Error
	errors.As(err, &coded)
	switch {
	case errors.As(err, &speaks):
		return ". Try: " + command + " " + t.inScheme(speaks.Plain, what)
	case errors.Is(err, oci.Unauthorized):
		return ". Try: regctl login " + t.host
	case errors.Is(err, oci.Denied):
		return ". Log in as somebody who may: regctl login " + t.host
	case errors.Is(err, oci.TooManyRequests) && coded != nil && coded.RetryAfter > 0:
		return ". Try again in " + coded.RetryAfter.String()
	case !errors.Is(err, oci.Unavailable):
		return ""
	}
	return t.unreachable(err, command)
}

// unreachable tells what to try when a registry was not reached.
func (t target) unreachable(err error, command string) string {
	text := err.Error()
	name, port, _ := strings.Cut(t.host, ":")
	switch {
	case strings.HasSuffix(text, ": connection refused") && t.host == defaultRegistry:
		return ". Start one with regctl serve, or name one: " + command + " HOST"
	case strings.HasSuffix(text, ": connection refused"):
		return ". Does the registry run, and is this its port?"
	case strings.HasSuffix(text, ": no such host") && !strings.ContainsAny(name, ".[") && port != "":
		return ". If " + name + " is a repository: " + command + " " + defaultRegistry + "/" + name
	case strings.Contains(text, "certificate"):
		return ". Or: --ca FILE; if you trust this server all the same: --insecure"
	}
	return ""
}

// inScheme spells the arguments that reach t over the other scheme.
func (t target) inScheme(plain bool, what string) string {
	scheme, alternative := "https://", ""
	if plain {
		scheme, alternative = "http://", ", or --insecure"
	}
	typed, what := cutScheme(what)
	if typed != "" || beginsWithHost(what) {
		return scheme + what + alternative
	}
	return strings.TrimSuffix("--registry "+scheme+t.host+" "+what, " ") + alternative
}
