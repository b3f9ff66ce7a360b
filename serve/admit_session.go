package serve

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/auth"
	"github.com/regctl/regctl/serve/auth/rule"
	"github.com/regctl/regctl/serve/auth/token"
)

// Authenticate implements [Authenticator].
func (a *admission) Authenticate(ctx context.Context, r *http.Request) (*auth.Session, error) {
	t := a.terms.Load()
	values := r.Header["Authorization"]
	if len(values) > 1 { // Which one counts, others may see otherwise.
		return nil, &ChallengeError{Message: "there is more than one header Authorization"}
	}
	if len(values) == 0 || values[0] == "" {
		return t.nobody()
	}
	scheme, rest, _ := strings.Cut(values[0], " ")
	switch {
	case strings.EqualFold(scheme, "Bearer") && t.basic == "":
		return a.bearer(ctx, t, strings.TrimLeft(rest, " "))
	case strings.EqualFold(scheme, "Basic"):
		name, password, ok := parseBasic(rest)
		switch {
		case !ok:
			return nil, &ChallengeError{}
		case name == "" && password == "": // As podman sends it, who has no login.
			return t.nobody()
		}
		return a.login(ctx, name, password)
	}
	return nil, &ChallengeError{}
}

// nobody is the session of who does not say who they are. Where that gives no
// rights in any case, a login is asked for at once, as registry:2 does.
func (t *terms) nobody() (*auth.Session, error) {
	if t.basic != "" || t.elsewhere != nil {
		return nil, &ChallengeError{}
	}
	return &auth.Session{Ruled: true}, nil
}

// parseBasic reads the credentials of RFC 7617.
func parseBasic(encoded string) (name, password string, ok bool) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimLeft(encoded, " "))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(raw), ":")
}

// login is the session of who has this name and password.
// Errors: [*ChallengeError], [oci.TooManyRequests], [oci.Unavailable], those of
// ctx.
func (a *admission) login(ctx context.Context, name, password string) (*auth.Session, error) {
	who, err := a.ask(ctx, name, password)
	if err != nil {
		return nil, err
	}
	s := &auth.Session{Identity: who, Credential: "password", Ruled: true}
	if who.Kind == rule.Robot {
		s.Credential = "robot"
	}
	return s, nil
}

func (a *admission) ask(ctx context.Context, name, password string) (auth.Identity, error) {
	if name == "" {
		return auth.Identity{}, &ChallengeError{Err: auth.ErrDenied}
	}
	who, err := a.logins.Login(ctx, name, password, oci.CallerFrom(ctx).Addr)
	var throttled *auth.ThrottledError
	switch {
	case err == nil:
		return who, nil
	case errors.As(err, &throttled):
		return who, &oci.Error{Code: oci.TooManyRequests, Message: throttled.Error(), RetryAfter: throttled.After, Err: err}
	case errors.Is(err, auth.ErrBusy):
		return who, &oci.Error{Code: oci.TooManyRequests, Message: auth.ErrBusy.Error() + "; try again", RetryAfter: time.Second, Err: err}
	case errors.Is(err, auth.ErrUnavailable):
		return who, unavailable(err)
	case errors.Is(err, auth.ErrDenied), errors.Is(err, auth.ErrUnknown):
		e := &ChallengeError{Err: err}
		if a.terms.Load().basic == "" {
			e.Message = wrongLogin(name, password)
		}
		return who, e
	}
	return who, err
}

// wrongLogin is what somebody is told who has a wrong password. Logs have
// robots as "robot:NAME", which is no name to log in with: the colon ends it.
func wrongLogin(name, password string) string {
	name, isRobot := strings.CutPrefix(name+":"+password, "robot:")
	if name, secret, ok := strings.Cut(name, ":"); isRobot && ok && auth.IsRobotSecret(secret) {
		return "the name to log in with is " + strconv.Quote(name) + ", without robot:"
	}
	return auth.ErrDenied.Error()
}

func unavailable(err error) error {
	return &oci.Error{Code: oci.Unavailable, Message: auth.ErrUnavailable.Error() + "; try again", RetryAfter: time.Second, Err: err}
}

// bearer is the session of who has a token. Who that is, its source is asked
// again: a token outlives nobody.
func (a *admission) bearer(ctx context.Context, t *terms, raw string) (*auth.Session, error) {
	if t.elsewhere != nil {
		return a.foreign(t, raw)
	}
	c, err := t.keys.Verify(raw)
	if err != nil {
		return nil, badToken(err)
	}
	if c.Audience != t.service(ctx) {
		return nil, badToken(errAudience)
	}
	s := &auth.Session{Credential: "token", Scope: c.Access, Scoped: true, Ruled: true}
	if c.Subject == "" {
		return s, nil
	}
	name, _ := strings.CutPrefix(c.Subject, "robot:")
	if c.Source != auth.SourceRobots {
		name = c.Subject
	}
	switch s.Identity, err = a.logins.Lookup(ctx, c.Source, name, c.SourceID); {
	case err == nil:
		return s, nil
	case errors.Is(err, auth.ErrUnknown):
		return nil, &ChallengeError{Code: codeInvalid, Message: "the login of the token is no more", Err: err}
	case errors.Is(err, auth.ErrUnavailable):
		return nil, unavailable(err)
	}
	return nil, err
}

var errAudience = errors.New("it is for another service")

// badToken says that a token is not good, and no more to who sent it than
// whether it was once.
func badToken(err error) *ChallengeError {
	e := &ChallengeError{Code: codeInvalid, Message: token.ErrInvalid.Error(), Err: err}
	if errors.Is(err, token.ErrExpired) {
		e.Message = token.ErrExpired.Error()
	}
	return e
}

// foreign is the session of who has a token of a token server elsewhere.
func (a *admission) foreign(t *terms, raw string) (*auth.Session, error) {
	c, err := a.trust.Verify(raw)
	if err != nil {
		return nil, badToken(err)
	}
	s := &auth.Session{Credential: "token", Scope: c.Access, Scoped: true, Ruled: t.ruled}
	if c.Subject != "" {
		s.Identity = a.groups.Join(auth.Identity{Kind: rule.User, Name: c.Subject, Source: "token"})
	}
	return s, nil
}

// Challenge implements [Authenticator].
func (a *admission) Challenge(ctx context.Context, need []auth.Access, code string) string {
	t := a.terms.Load()
	if t.basic != "" {
		return t.basic
	}
	var b strings.Builder
	b.WriteString("Bearer realm=" + quoted(t.realm(ctx)) + ",service=" + quoted(t.service(ctx)))
	if len(need) > 0 {
		b.WriteString(",scope=" + quoted(scopeOf(need)))
	}
	if code != "" {
		b.WriteString(",error=" + quoted(code))
	}
	return b.String()
}

// realm is where the caller in ctx gets its tokens: at the host that it asks
// anyway. Some clients go nowhere else.
func (t *terms) realm(ctx context.Context) string {
	base := oci.CallerFrom(ctx).Base
	if base == "" {
		base = "/"
	}
	switch c := t.elsewhere; {
	case c == nil:
		return base + "v2/_token"
	case c.AutoRedirect:
		u, err := url.Parse(base)
		if err != nil {
			return c.Realm
		}
		return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: c.AutoRedirectPath}).String()
	default:
		return c.Realm
	}
}

// service is what tokens for us are for: unless it is said, the host that the
// caller in ctx asks.
func (t *terms) service(ctx context.Context) string {
	switch {
	case t.elsewhere != nil:
		return t.elsewhere.Service
	case t.tokens.Service != "":
		return t.tokens.Service
	}
	base := oci.CallerFrom(ctx).Base
	if _, host, ok := strings.Cut(base, "://"); ok {
		host, _, _ = strings.Cut(host, "/")
		return host
	}
	return t.tokens.Issuer
}
