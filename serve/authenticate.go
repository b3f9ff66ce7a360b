package serve

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/auth"
	"github.com/regctl/regctl/serve/auth/rule"
	"github.com/regctl/regctl/serve/auth/token"
)

// Authenticator tells who makes a request.
type Authenticator interface {
	// Authenticate returns who makes r, never nil: perhaps nobody in
	// particular. The caller in ctx says where it is from. It reads nothing of
	// the body.
	// Errors: [*ChallengeError] if r does not prove what it says, or nobody may
	// stay unnamed; [oci.TooManyRequests]; [oci.Unavailable]; those of ctx.
	Authenticate(ctx context.Context, r *http.Request) (*auth.Session, error)

	// Challenge is the header WWW-Authenticate that asks the caller in ctx for
	// proof that it has these rights. Code is empty or says what is wrong with
	// its token: [codeInvalid], [codeNarrow].
	Challenge(ctx context.Context, need []auth.Access, code string) string
}

// The codes of RFC 6750 that say what is wrong with a token.
const (
	codeInvalid = "invalid_token"
	codeNarrow  = "insufficient_scope"
)

// ChallengeError says that a request does not prove who makes it.
type ChallengeError struct {
	Code    string // What is wrong with its token; empty: it has none.
	Message string // For the client. Empty: a login is missing.
	Err     error  // Why, for the log; may be nil.
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

// asks tells whether a request is one that a login is asked for: all of the
// API, whatever is added to it. Only what says nothing of what is in the
// registry is free: a browser asks with OPTIONS before it may send a login.
func (q *request) asks() bool {
	switch q.form {
	case formNone, formRoot, formHealth, formReady, formToken:
		return false
	}
	return q.Method != http.MethodOptions
}

// authenticate returns a context with the session of the request, if logins are
// asked.
func (h *Handler) authenticate(ctx context.Context, q *request) (context.Context, error) {
	if h.o.Auth == nil || !q.asks() {
		return ctx, nil
	}
	s, err := h.o.Auth.Authenticate(ctx, q.Request)
	if err != nil {
		return ctx, err
	}
	if q.form == formPing && s.Credential == "" {
		// Clients log in by what this answers, and never later.
		return ctx, &ChallengeError{}
	}
	q.session = s
	if q.user = s.String(); q.user != "" {
		caller := oci.CallerFrom(ctx)
		caller.Name = q.user
		ctx = oci.WithCaller(ctx, caller)
	}
	return auth.WithSession(ctx, s), nil
}

// refuse is the one place that decides between status 401, with what a client
// needs to go on, and 403. Another error stays as it is.
func (h *Handler) refuse(ctx context.Context, w *response, q *request, err error) error {
	var challenge *ChallengeError
	var denied *auth.DeniedError
	if h.o.Auth == nil || !errors.As(err, &challenge) && !errors.As(err, &denied) {
		return err
	}
	if q.again = denied != nil || errors.Is(err, token.ErrExpired); challenge != nil {
		return h.challenge(ctx, w, q.need(), &oci.Error{Message: challenge.Message, Err: err}, challenge.Code)
	}
	s := auth.SessionFrom(ctx)
	q.denied = denied.Reason
	need := denied.Need
	if len(need) == 0 || !denied.Narrow { // What a push mounts is part of it.
		need = q.need()
	}
	switch {
	case denied.Narrow:
		return h.challenge(ctx, w, need, &oci.Error{Message: "the token is not for this: it must be for " + scopeOf(need), Err: err}, codeNarrow)
	case s != nil && s.Kind != rule.Anonymous:
		// Without a detail docker takes it for no more than a code: it tries again
		// for a minute, and says nothing but "denied".
		return &oci.Error{Code: oci.Denied, Message: denied.Error(), Detail: detailOf(q.need()), Err: err}
	}
	e := &oci.Error{Message: oci.Unauthorized.Error(), Err: err}
	if host := oci.CallerFrom(ctx).Host; host != "" {
		e.Message += "; log in first: docker login " + host
	}
	code := ""
	if s != nil && s.Scoped { // It has asked once already. Some clients go on for ever, if they are not told.
		code = codeNarrow
	}
	return h.challenge(ctx, w, need, e, code)
}

// challenge makes e a challenge for these rights.
func (h *Handler) challenge(ctx context.Context, w *response, need []auth.Access, e *oci.Error, code string) error {
	value := h.o.Auth.Challenge(ctx, need, code)
	if code != "" && e.Message != "" && strings.HasPrefix(value, "Bearer ") {
		// Docker says this to people, and the answer to a HEAD has no body.
		value += ",error_description=" + quoted(e.Message)
	}
	w.Header().Set("Www-Authenticate", value)
	e.Code, e.Detail = oci.Unauthorized, detailOf(need)
	return e
}

// need are the rights that a request is about, as in registry:2.
func (q *request) need() []auth.Access {
	repository := func(name string, actions ...string) auth.Access {
		return auth.Access{Type: "repository", Name: name, Actions: actions}
	}
	var need []auth.Access
	switch {
	case q.form == formCatalog:
		return []auth.Access{{Type: "registry", Name: "catalog", Actions: []string{"*"}}}
	case q.form == formDeletions:
		return []auth.Access{{Type: "registry", Name: "deletions", Actions: []string{"*"}}}
	case q.repo == "":
	case q.Method == http.MethodGet, q.Method == http.MethodHead:
		need = append(need, repository(q.repo, "pull"))
	case q.Method == http.MethodDelete:
		need = append(need, repository(q.repo, "delete"))
	default:
		need = append(need, repository(q.repo, "pull", "push"))
	}
	if q.kind == kindUploadStart {
		if from := q.URL.Query().Get("from"); from != "" {
			need = append(need, repository(from, "pull"))
		}
	}
	return need
}

// detailOf is what registry:2 tells of the rights that a request needs, in the
// detail of its answer to who has no login.
func detailOf(need []auth.Access) json.RawMessage {
	type right struct{ Type, Class, Name, Action string }
	var rights []right
	for _, a := range need {
		for _, action := range a.Actions {
			rights = append(rights, right{a.Type, a.Class, a.Name, action})
		}
	}
	raw, err := json.Marshal(rights)
	if err != nil { // Cannot happen: strings.
		return nil
	}
	return raw
}

// scopeOf writes rights as a scope.
func scopeOf(need []auth.Access) string {
	var b strings.Builder
	for i, a := range need {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(a.Type + ":" + a.Name + ":" + strings.Join(a.Actions, ","))
	}
	return b.String()
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
