package client

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

// maxTokens bounds the tokens and logins that are kept for reuse.
const maxTokens = 512

// auth is what a registry wants to see before it does something, and what we
// have to show.
type auth struct {
	client *Client
	link   *link

	mu        sync.Mutex
	challenge challenge
	tokens    map[string]*grant // By scope.
	logins    map[string]login  // By repository.
	deletes   int               // Which of deleteActions this registry knows.
}

// login is who we are for a repository, and why we are not somebody better.
type login struct {
	authn.AuthConfig
	trouble error
}

// grant is a token and how long it lasts. Who holds turn may change it; hidden
// is guarded by the lock of auth.
type grant struct {
	turn   chan struct{}
	value  string
	ends   time.Time // When to get another.
	extra  string    // Scopes that the registry asked for besides.
	hidden bool      // The token server was not told who asks.
}

// deleteActions are the names that registries have for the right to delete:
// most of them, those that know no such right, quay.
func deleteActions() []string { return []string{"delete", "*", "pull,push"} }

// variants are the scopes to try for s, those that worked before first.
func (a *auth) variants(s scope) []scope {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s.actions != "delete" || a.challenge.scheme != "bearer" {
		return []scope{s}
	}
	actions := deleteActions()
	var all []scope
	for i := range actions {
		v := s
		v.actions = actions[(a.deletes+i)%len(actions)]
		all = append(all, v)
	}
	return all
}

// worked remembers under which name s was granted the right to delete.
func (a *auth) worked(s scope) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deletes = max(0, slices.Index(deleteActions(), s.actions))
}

// as returns who we are for repo, or for the registry if repo is empty.
func (a *auth) as(ctx context.Context, repo string) (login, error) {
	a.mu.Lock()
	l, known := a.logins[repo]
	a.mu.Unlock()
	if known {
		return l, nil
	}
	var resource authn.Resource = a.link.reg
	if repo != "" {
		resource = a.link.reg.Repo(strings.Split(repo, "/")...)
	}
	found, err := authn.Resolve(ctx, a.client.keychain, resource)
	if err != nil {
		return login{}, err
	}
	config, err := authn.Authorization(ctx, found)
	if err != nil {
		return login{}, err
	}
	l.AuthConfig = *config
	if broken, ok := found.(*BrokenLogin); ok {
		l.trouble = broken.Err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.logins) >= maxTokens {
		clear(a.logins)
	}
	a.logins[repo] = l
	return l, nil
}

// header is the value of Authorization for what s allows; empty: none. A
// token that is stale is replaced, and one that was just got is fresh.
func (a *auth) header(ctx context.Context, s scope, stale string) (value string, fresh bool, f *fault) {
	who, err := a.as(ctx, s.repo)
	if err != nil {
		return "", false, &fault{err: a.client.failed(err)}
	}
	a.mu.Lock()
	asked := a.challenge
	a.mu.Unlock()
	switch {
	case who.RegistryToken != "":
		return "Bearer " + who.RegistryToken, true, nil
	case asked.scheme == "bearer":
		return a.bearer(ctx, s, who, asked, stale)
	case who.Username != "" || who.Password != "":
		return "Basic " + basicOf(who.AuthConfig), true, nil
	case who.Auth != "":
		return "Basic " + who.Auth, true, nil
	}
	return "", false, nil
}

func basicOf(c authn.AuthConfig) string {
	return base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))
}

// bearer returns the token for s, which is fetched once for all who want it
// and again before it ends.
func (a *auth) bearer(ctx context.Context, s scope, who login, asked challenge, stale string) (value string, fresh bool, f *fault) {
	g := a.grant(s.String())
	select {
	case g.turn <- struct{}{}:
		defer func() { <-g.turn }()
	case <-ctx.Done():
		return "", false, &fault{err: a.client.failed(ctx.Err())}
	}
	value = "Bearer " + g.value
	if g.value != "" && value != stale && a.client.now().Before(g.ends) {
		return value, false, nil
	}
	g.value = ""
	t, f := a.link.exchange(ctx, who.AuthConfig, asked, strings.Fields(g.extra+" "+s.String()))
	if f != nil {
		return "", false, f
	}
	g.value, g.ends = t.value, t.ends
	a.mu.Lock()
	defer a.mu.Unlock()
	g.hidden = t.hidden
	return "Bearer " + g.value, true, nil
}

// grant returns what is kept for a scope.
func (a *auth) grant(scope string) *grant {
	a.mu.Lock()
	defer a.mu.Unlock()
	g := a.tokens[scope]
	if g == nil {
		if len(a.tokens) >= maxTokens {
			clear(a.tokens)
		}
		g = &grant{turn: make(chan struct{}, 1)}
		a.tokens[scope] = g
	}
	return g
}

// challenged learns from the answer to a request that was refused although it
// showed value, and returns what to show instead. There is nothing else to
// show if that is value again.
func (a *auth) challenged(ctx context.Context, s scope, value string, fresh bool, h http.Header) (string, *fault) {
	asked := challengeOf(h)
	if asked.scheme == "" {
		return value, nil
	}
	a.mu.Lock()
	if !a.challenge.sameServer(asked) {
		a.challenge = asked
		clear(a.tokens)
		fresh = false
	}
	a.mu.Unlock()
	if extra := asked.params["scope"]; asked.scheme == "bearer" && !covers(s.String(), extra) {
		g := a.grant(s.String())
		select {
		case g.turn <- struct{}{}:
			if g.extra != extra {
				g.extra, fresh = extra, false
			}
			<-g.turn
		case <-ctx.Done():
			return "", &fault{err: a.client.failed(ctx.Err())}
		}
	}
	if fresh {
		return value, nil
	}
	other, _, f := a.header(ctx, s, value)
	return other, f
}

// trouble is why we could not say who we are, if that is so.
func (a *auth) trouble(s scope) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l, ok := a.logins[s.repo]; ok && l.trouble != nil {
		return l.trouble
	}
	if g := a.tokens[s.String()]; g != nil && g.hidden {
		return errors.New("no login was sent to " + a.challenge.params["realm"] + ", since others could read it on the way")
	}
	return nil
}

// covers tells whether every right in wanted is one in had. Both are lists of
// scopes as token servers know them.
func covers(had, wanted string) bool {
	rights := map[string]string{}
	for _, s := range strings.Fields(had) {
		what, actions := splitScope(s)
		rights[what] = strings.Trim(rights[what]+","+actions, ",")
	}
	for _, s := range strings.Fields(wanted) {
		what, actions := splitScope(s)
		if rights[what] == "" {
			return false
		}
		mine := strings.Split(rights[what], ",")
		for _, action := range strings.Split(actions, ",") {
			if !slices.Contains(mine, action) {
				return false
			}
		}
	}
	return true
}

func splitScope(s string) (what, actions string) {
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		return s[:i], s[i+1:]
	}
	return s, ""
}
