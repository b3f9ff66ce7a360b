package client

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/regctl/regctl/client/oci"
)

const (
	maxToken     = 1 << 20 // Of an answer, in bytes.
	usualLife    = time.Minute
	longestLife  = 24 * time.Hour
	tokenClient  = "regctl"
	notEncrypted = "http"
)

// token is what a token server gave.
type token struct {
	value  string
	ends   time.Time
	hidden bool // A login was withheld.
}

// exchange gets a token for scopes from the server that asked names.
func (l *link) exchange(ctx context.Context, who authn.AuthConfig, asked challenge, scopes []string) (token, *fault) {
	realm, err := l.base().Parse(asked.params["realm"])
	if err != nil || asked.params["realm"] == "" || realm.Host == "" || realm.Scheme != "https" && realm.Scheme != notEncrypted {
		return token{}, &fault{err: oci.Errorf(oci.Unauthorized, "%s wants a token from %q, which is no address", l.client.host, clip(asked.params["realm"]))}
	}
	hidden := false
	if who != (authn.AuthConfig{}) && realm.Scheme == notEncrypted && l.scheme != notEncrypted && !isLoopback(realm.Host) {
		who, hidden = authn.AuthConfig{}, true
	}
	want := url.Values{"scope": scopes}
	if service := asked.params["service"]; service != "" {
		want.Set("service", service)
	}
	var status int
	var raw []byte
	var head http.Header
	asks := []func(context.Context, *url.URL, url.Values, authn.AuthConfig) (*http.Request, error){askToken}
	if who.IdentityToken != "" {
		asks = append([]func(context.Context, *url.URL, url.Values, authn.AuthConfig) (*http.Request, error){renewToken}, asks...)
	}
	start := l.client.now()
	for _, ask := range asks {
		req, err := ask(ctx, realm, want, who)
		if err != nil {
			return token{}, &fault{err: l.client.failed(err)}
		}
		var f *fault
		if status, head, raw, f = l.fetch(req); f != nil {
			return token{}, f
		}
		if status != http.StatusNotFound && status != http.StatusMethodNotAllowed {
			break // Not every server knows the newer way.
		}
	}
	if status != http.StatusOK {
		return token{}, l.noToken(realm, status, head, raw)
	}
	t, err := parseToken(raw, head, start)
	if err != nil {
		return token{}, &fault{err: &oci.Error{Code: oci.Unknown, Message: realm.Host + ": the answer is no token: " + err.Error(), Err: err}}
	}
	t.hidden = hidden
	return t, nil
}

// askToken asks as every token server understands.
func askToken(ctx context.Context, realm *url.URL, want url.Values, who authn.AuthConfig) (*http.Request, error) {
	u := *realm
	q := u.Query()
	for key, values := range want {
		q[key] = values
	}
	named := who.Username != "" && who.Username != tokenUser
	if named {
		q.Set("account", who.Username)
	}
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	switch {
	case err != nil:
	case named || who.Password != "":
		req.Header.Set("Authorization", "Basic "+basicOf(who))
	case who.Auth != "":
		req.Header.Set("Authorization", "Basic "+who.Auth)
	}
	return req, err
}

// renewToken asks with an identity token, as OAuth2 has it.
func renewToken(ctx context.Context, realm *url.URL, want url.Values, who authn.AuthConfig) (*http.Request, error) {
	form := url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {who.IdentityToken}, "client_id": {tokenClient},
		"service": {want.Get("service")}, "scope": {strings.Join(want["scope"], " ")},
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(form.Encode()))
	if err == nil {
		req.GetBody = nil // It is not for anybody else that a redirect leads to.
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return req, err
}

// fetch returns the whole of a small answer.
func (l *link) fetch(req *http.Request) (status int, head http.Header, body []byte, f *fault) {
	req, done := l.client.impatient(req)
	defer done()
	resp, err := l.http.Do(req)
	if err != nil {
		return 0, nil, nil, l.client.broken(&request{method: req.Method}, late(req, err))
	}
	defer func() { _ = resp.Body.Close() }() // Read as far as we want it.
	if body, err = io.ReadAll(io.LimitReader(resp.Body, maxToken)); err != nil {
		err = late(req, err)
		return 0, nil, nil, l.client.broken(&request{method: req.Method}, err)
	}
	return resp.StatusCode, resp.Header, body, nil
}

// noToken is the fault for an answer of a token server that is no success.
func (l *link) noToken(realm *url.URL, status int, head http.Header, raw []byte) *fault {
	err := answered(status, head, raw, l.client.now())
	var plain struct {
		Details     string `json:"details"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(raw, &plain) == nil {
		err.Message = cmp.Or(clip(plain.Details), clip(plain.Description), err.Message)
	}
	if status == http.StatusBadRequest && strings.Contains(string(raw), "invalid_grant") {
		err.Code = oci.Unauthorized // The identity token is not valid any more.
	}
	err.Message = l.client.host + ": no token from " + realm.Host + ": " + cmp.Or(err.Message, err.Code.Error())
	return &fault{
		err: err, repeat: mayPass(status), after: err.RetryAfter,
		refused: status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusBadRequest,
	}
}

// parseToken reads the answer of a token server to what was asked at start.
func parseToken(raw []byte, head http.Header, start time.Time) (token, error) {
	var answer struct {
		Token    string      `json:"token"`
		Access   string      `json:"access_token"`
		Expires  json.Number `json:"expires_in"`
		IssuedAt string      `json:"issued_at"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return token{}, err
	}
	value := cmp.Or(answer.Token, answer.Access)
	if value == "" {
		return token{}, fmt.Errorf("there is none in it")
	}
	life := usualLife
	if s, err := answer.Expires.Float64(); err == nil && s > 0 {
		life = time.Duration(min(s, longestLife.Seconds()) * float64(time.Second))
	}
	issued, err := time.Parse(time.RFC3339, answer.IssuedAt)
	if said, dateErr := http.ParseTime(head.Get("Date")); err == nil && dateErr == nil {
		life -= min(max(said.Sub(issued), 0), life) // It is not new; both times are by the server's clock.
	}
	return token{value: value, ends: start.Add(life - min(life/4, 15*time.Second))}, nil
}

// clip shortens what a server says.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
