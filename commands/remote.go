package commands

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/client"
	"github.com/regctl/regctl/client/oci"
)

// remoteOptions say which registry is meant and how to speak to it.
type remoteOptions struct {
	Registry string
	Insecure bool
}

func (o *remoteOptions) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.Registry, "registry", "r", "", "the `HOST` that bare names mean")
	cmd.Flags().BoolVar(&o.Insecure, "insecure", false, "accept any certificate, and plain HTTP")
}

// target parses the argument what of a command.
func (e *Env) target(what string, o *remoteOptions) (target, error) {
	return parseTarget(what, func() (string, error) { return e.registry(o.Registry) })
}

// registries opens what the arguments of one run of a command name, each
// registry once: source and destination on the same host share its tokens and
// limits, and are one [oci.Registry]. It is safe for concurrent use.
type registries struct {
	env  *Env
	o    *remoteOptions
	warn func(error) // Nil: nobody is told.

	mu     sync.Mutex
	opened map[string]*client.Client // By [target.address].
	told   map[string]bool           // Warnings that were given.
}

// registries returns an opener for one run of a command. Trouble with stored
// logins goes to warn, each once; warn may be nil.
func (e *Env) registries(o *remoteOptions, warn func(error)) *registries {
	return &registries{env: e, o: o, warn: warn, opened: map[string]*client.Client{}, told: map[string]bool{}}
}

// open returns the registry that t is in.
func (r *registries) open(t target) (oci.Registry, error) {
	c, err := r.remote(t)
	if err != nil {
		return nil, err
	}
	reg, ok := any(c).(oci.Registry)
	if !ok {
		return nil, oci.Errorf(oci.Unsupported, "%s can only be listed", t.host)
	}
	return reg, nil
}

// remote returns the registry of t as a client of a server.
func (r *registries) remote(t target) (*client.Client, error) {
	if t.layout != "" {
		return nil, usagef("oci:%s is a directory, and this is for registries behind HTTP", t.layout)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.opened[t.address()]; c != nil {
		return c, nil
	}
	wire := r.env.Transport
	if r.env.verbose {
		wire = &tracer{env: r.env, inner: client.Transport(wire, r.o.Insecure)}
	}
	c, err := client.New(t.address(), client.Options{
		Keychain: r.env.credentials(r.tell), Transport: wire, Insecure: r.o.Insecure,
		UserAgent: "regctl/" + r.env.Build.Version,
	})
	if err == nil {
		r.opened[t.address()] = c
	}
	return c, err
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
	return &hinted{err, err.Error() + next}
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
		return ". If you trust this server all the same: --insecure"
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
