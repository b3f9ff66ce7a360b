package serve

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/auth"
)

// Authenticator tells who makes a request.
type Authenticator interface {
	// Authenticate returns the name of who makes r, never an empty one. It
	// reads nothing of the body.
	// Errors: [*ChallengeError] if r does not prove it, which becomes status
	// 401; [oci.TooManyRequests]; those of the context of r.
	Authenticate(r *http.Request) (name string, err error)
}

// ChallengeError says that a request does not prove who makes it, and how to.
type ChallengeError struct {
	Challenge string // The header WWW-Authenticate.
	Err       error  // Why, for the log; may be nil.
}

// Error says why, if that is known.
func (e *ChallengeError) Error() string {
	if e.Err == nil {
		return oci.Unauthorized.Error()
	}
	return oci.Unauthorized.Error() + ": " + e.Err.Error()
}

// Unwrap returns why.
func (e *ChallengeError) Unwrap() error { return e.Err }

// Is makes errors.Is(e, oci.Unauthorized) hold.
func (e *ChallengeError) Is(target error) bool { return target == error(oci.Unauthorized) }

// passwords checks names with passwords: an [auth.Htpasswd].
type passwords interface {
	Verify(ctx context.Context, user, password string) error
}

// openAuth opens what the configuration says of logins. Nil: nobody is asked.
func openAuth(p Parts) (Authenticator, error) {
	c := p.Config.Auth.Htpasswd
	if c == nil {
		return nil, nil
	}
	users, err := auth.OpenHtpasswd(c.Path, auth.Options{Log: p.Log, Now: p.Now})
	if err != nil {
		return nil, err
	}
	return newBasic(c.Realm, users), nil
}

// basic asks for a name and a password with every request.
type basic struct {
	users     passwords
	challenge string
}

// newBasic returns the Authenticator of the users of an htpasswd file.
func newBasic(realm string, users passwords) *basic {
	return &basic{users, "Basic realm=" + quoted(realm)}
}

// Authenticate implements [Authenticator].
func (b *basic) Authenticate(r *http.Request) (string, error) {
	user, password, ok := r.BasicAuth()
	if !ok || user == "" {
		return "", &ChallengeError{Challenge: b.challenge}
	}
	switch err := b.users.Verify(r.Context(), user, password); {
	case err == nil:
		return user, nil
	case errors.Is(err, auth.ErrBusy):
		return "", &oci.Error{Code: oci.TooManyRequests, Message: err.Error() + "; try again", RetryAfter: time.Second, Err: err}
	case errors.Is(err, auth.ErrDenied):
		return "", &ChallengeError{b.challenge, err}
	default:
		return "", err
	}
}

// quoted is a quoted-string of RFC 9110, 5.6.4. Nothing can end it, nor the
// header.
func quoted(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
		case r < ' ' || r == 0x7f:
			r = ' '
		}
		b.WriteRune(r)
	}
	b.WriteByte('"')
	return b.String()
}

// asks tells whether a request is one that a login is asked for: all of the
// API, whatever is added to it. Only what says nothing of what is in the
// registry is free.
func (q *request) asks() bool {
	switch q.form {
	case formNone, formRoot, formHealth, formReady:
		return false
	}
	return true
}

// authenticate returns a context whose caller has a name, if logins are asked.
func (h *Handler) authenticate(ctx context.Context, w *response, q *request) (context.Context, error) {
	if h.o.Auth == nil || !q.asks() {
		return ctx, nil
	}
	name, err := h.o.Auth.Authenticate(q.Request)
	var challenge *ChallengeError
	switch {
	case errors.As(err, &challenge):
		w.Header().Set("Www-Authenticate", challenge.Challenge)
		return ctx, &oci.Error{Code: oci.Unauthorized, Detail: q.access(), Err: err}
	case err != nil:
		return ctx, err
	}
	caller := oci.CallerFrom(ctx)
	caller.Name, q.user = name, name
	return oci.WithCaller(ctx, caller), nil
}

// access is what registry:2 tells of the rights that a request needs, in the
// detail of its answer to who has no login.
func (q *request) access() json.RawMessage {
	type right struct{ Type, Class, Name, Action string }
	var rights []right
	add := func(name string, actions ...string) {
		for _, action := range actions {
			rights = append(rights, right{"repository", "", name, action})
		}
	}
	switch {
	case q.kind == kindCatalog:
		rights = []right{{"registry", "", "catalog", "*"}}
	case q.repo == "":
	case q.Method == http.MethodGet, q.Method == http.MethodHead:
		add(q.repo, "pull")
	case q.Method == http.MethodDelete:
		add(q.repo, "delete")
	default:
		add(q.repo, "pull", "push")
	}
	if q.kind == kindUploadStart {
		if from := q.URL.Query().Get("from"); from != "" {
			add(from, "pull")
		}
	}
	raw, err := json.Marshal(rights)
	if err != nil { // Cannot happen: strings.
		return nil
	}
	return raw
}
