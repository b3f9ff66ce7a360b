package serve

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/auth"
	"github.com/regctl/regctl/serve/auth/token"
)

const (
	// shortestToken is for how long clients take a token to be that does not
	// say it.
	shortestToken = time.Minute
	usualToken    = 5 * time.Minute

	// longestForm is how much a client may send to get a token.
	longestForm = 128 << 10
)

// tokenRequest is what a client asks the token service for.
type tokenRequest struct {
	service, scope string
	name, password string // Empty: nobody.
	posted         bool   // By OAuth 2.
}

// tokenJSON is a token as clients get it. Some look for it under the one name,
// some under the other.
type tokenJSON struct {
	Token       string    `json:"token"`
	AccessToken string    `json:"access_token"`
	ExpiresIn   int       `json:"expires_in"`
	IssuedAt    time.Time `json:"issued_at"`
	Scope       *string   `json:"scope,omitempty"`
}

// tokenForQuery gives a token to who asks with GET: distribution, "Docker
// Registry v2 authentication via central service". Who does not log in gets
// one, too: with what everyone may do.
func (h *Handler) tokenForQuery(ctx context.Context, w *response, q *request) error {
	if h.o.tokens == nil {
		return errNoTokens
	}
	w.Header().Set("Cache-Control", "no-store")
	query, err := url.ParseQuery(q.URL.RawQuery)
	if err != nil {
		return h.tokenRefused(w, &tokenError{codeRequest, "the query cannot be read"})
	}
	t := tokenRequest{service: query.Get("service"), scope: strings.Join(query["scope"], " ")}
	if err := t.credentials(q.Request); err != nil {
		return h.tokenRefused(w, err)
	}
	return h.giveToken(ctx, w, q, t)
}

// tokenForForm gives a token to who asks with POST: distribution, "OAuth2 Token
// Authentication". Clients try it first, and with GET when it is refused.
func (h *Handler) tokenForForm(ctx context.Context, w *response, q *request) error {
	if h.o.tokens == nil {
		return errNoTokens
	}
	w.Header().Set("Cache-Control", "no-store")
	form, err := readForm(q)
	if err != nil {
		return h.tokenRefused(w, err)
	}
	t := tokenRequest{service: form.Get("service"), scope: strings.Join(form["scope"], " "), posted: true}
	switch grant := form.Get("grant_type"); grant {
	case "password":
		if form.Get("username") == "" {
			return h.tokenRefused(w, &tokenError{codeRequest, "the grant password needs a username"})
		}
	case "": // As regclient does it, which has no login.
	case "refresh_token":
		return h.tokenRefused(w, &tokenError{codeGrant, "this registry gives out no refresh tokens; log in with a name and a password"})
	default:
		return h.tokenRefused(w, &tokenError{codeGrant, "the grant is not known; there is password"})
	}
	if t.name, t.password = form.Get("username"), form.Get("password"); t.name == "" {
		if err := t.credentials(q.Request); err != nil {
			return h.tokenRefused(w, err)
		}
	}
	return h.giveToken(ctx, w, q, t)
}

// readForm reads what was posted.
func readForm(q *request) (url.Values, error) {
	kind, _, err := mime.ParseMediaType(q.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return nil, &tokenError{codeRequest, "a form is needed: Content-Type: application/x-www-form-urlencoded"}
	}
	raw, err := io.ReadAll(io.LimitReader(q.body, longestForm+1))
	switch {
	case err != nil:
		return nil, err
	case len(raw) > longestForm:
		return nil, &tokenError{codeRequest, "the form is too long"}
	}
	form, err := url.ParseQuery(string(raw))
	if err != nil {
		return nil, &tokenError{codeRequest, "the form cannot be read"}
	}
	return form, nil
}

// credentials takes those of the header Authorization, if there are any.
// Errors: [*ChallengeError] if there is another thing in it.
func (t *tokenRequest) credentials(r *http.Request) error {
	values := r.Header["Authorization"]
	if len(values) == 0 || len(values) == 1 && values[0] == "" {
		return nil
	}
	scheme, rest, _ := strings.Cut(values[0], " ")
	var ok bool
	t.name, t.password, ok = parseBasic(rest)
	if !ok || !strings.EqualFold(scheme, "Basic") || len(values) > 1 {
		return &ChallengeError{Message: "a token is given for a name and a password"}
	}
	return nil
}

// giveToken answers with a token for what the caller may do of what it asks.
func (h *Handler) giveToken(ctx context.Context, w *response, q *request, t tokenRequest) error {
	q.tried = claimed(t.name, t.password)
	reply, s, err := h.o.tokens.token(ctx, t)
	if q.session = s; s != nil {
		q.user = s.String()
	}
	if err != nil {
		return h.tokenRefused(w, err)
	}
	raw, err := json.Marshal(reply)
	if err != nil {
		return err
	}
	return writeJSON(w, "application/json", raw)
}

// The codes of RFC 6749, 5.2.
const (
	codeRequest = "invalid_request"
	codeScope   = "invalid_scope"
	codeGrant   = "unsupported_grant_type"
)

// tokenError says that a token is asked for as it cannot be.
type tokenError struct{ code, text string }

// Error says why.
func (e *tokenError) Error() string { return e.code + ": " + e.text }

// errNoTokens says that whoever asks for a token is wrong here.
var errNoTokens = oci.Errorf(oci.NotFound, "this registry gives out no tokens")

// tokenRefused says that a login is wrong, or what is asked for: as RFC 6749,
// 5.2 has it, and as registries do. Here a name and a password are asked for.
func (h *Handler) tokenRefused(w *response, err error) error {
	var challenge *ChallengeError
	var wrong *tokenError
	switch {
	case errors.As(err, &challenge):
		w.Header().Set("Www-Authenticate", `Basic realm="regctl"`)
		return &oci.Error{Code: oci.Unauthorized, Message: challenge.Message, Err: challenge.Err}
	case !errors.As(err, &wrong):
		return err
	}
	raw, err := json.Marshal(map[string]any{
		"error": wrong.code, "error_description": wrong.text,
		"errors": []map[string]string{{"code": string(oci.Unsupported), "message": wrong.Error()}},
	})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	w.WriteHeader(http.StatusBadRequest)
	_, _ = w.Write(raw)
	return nil
}

// token returns a token for what the caller in ctx may do of what it asks, and
// who that is.
// Errors: [*ChallengeError] (a wrong password), [*tokenError],
// [oci.TooManyRequests], [oci.Unavailable], those of ctx.
func (a *admission) token(ctx context.Context, r tokenRequest) (reply tokenJSON, s *auth.Session, err error) {
	t := a.terms.Load()
	if t.elsewhere != nil || t.basic != "" {
		return reply, nil, errNoTokens
	}
	ours := t.service(ctx)
	if r.service == "" {
		r.service = ours
	}
	if r.service != ours && !slices.Contains(t.tokens.Services, r.service) {
		known := append([]string{ours}, t.tokens.Services...)
		return reply, nil, &tokenError{codeRequest, "the service is not known; those that are: " + strings.Join(known, ", ")}
	}
	asked, err := token.ParseScope(r.scope)
	if err != nil {
		return reply, nil, &tokenError{codeScope, err.Error()}
	}
	s = &auth.Session{Ruled: true}
	if r.name != "" || r.password != "" {
		if strings.Contains(r.name, ":") { // No other way can such a name come here.
			return reply, nil, &ChallengeError{Message: wrongLogin(r.name, r.password), Err: auth.ErrDenied}
		}
		if s, err = a.login(ctx, r.name, r.password); err != nil {
			return reply, nil, err
		}
	}
	addr, err := netip.ParseAddr(oci.CallerFrom(ctx).Addr)
	if err == nil {
		addr = addr.Unmap().WithZone("")
	}
	grant := s.Grant
	if r.service != ours {
		grant = s.GrantElsewhere
	}
	now := a.now()
	c := token.Claims{
		Issuer: t.tokens.Issuer, Subject: s.String(), Audience: r.service, IssuedAt: now, Expires: now.Add(t.tokens.Expiration),
		Access: grant(a.rules.Load(), addr, asked), Source: s.Source, SourceID: s.ID,
	}
	raw, err := t.keys.Issue(c, r.service == ours)
	if err != nil {
		return reply, s, err
	}
	reply = tokenJSON{Token: raw, AccessToken: raw, ExpiresIn: int(t.tokens.Expiration / time.Second), IssuedAt: now.UTC().Truncate(time.Second)}
	if r.posted {
		scope := scopeOf(c.Access)
		reply.Scope = &scope
	}
	return reply, s, nil
}
