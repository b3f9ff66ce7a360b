package serve

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/auth"
	"github.com/regctl/regctl/serve/auth/ldap"
	"github.com/regctl/regctl/serve/auth/rule"
	"github.com/regctl/regctl/serve/auth/token"
	"github.com/regctl/regctl/serve/config"
)

// logins know who has a name and a password. [auth.Logins] do.
type logins interface {
	Login(ctx context.Context, name, password, addr string) (auth.Identity, error)
	Lookup(ctx context.Context, source, name, id string) (auth.Identity, error)
}

// verifier checks the tokens of a token server elsewhere. A [token.Trust] does.
type verifier interface {
	Verify(raw string) (token.Claims, error)
}

// admission is who may do what, as it is in force: it tells who makes a
// request, gives out tokens, and has the rules that what follows is held
// against. It is an [Authenticator].
type admission struct {
	logins  logins
	groups  *auth.Groups
	rules   *auth.Rules
	trust   verifier // Nil: tokens are ours.
	uploads []byte   // The key of the ids of uploads.
	log     *slog.Logger
	now     func() time.Time

	// open opens the keys that sign tokens, at the latest when they are needed.
	open func() (*token.Keys, error)

	terms atomic.Pointer[terms]
}

// terms are those of the configuration that can change while it runs.
type terms struct {
	basic     string // The challenge, if logins are asked as registry:2 does with an htpasswd file.
	ruled     bool   // The rules are asked about tokens from elsewhere, too.
	elsewhere *config.TokenAuth
	tokens    config.TokenService
	keys      *token.Keys // Nil: tokens are from elsewhere, or there are none.
}

// admits tells whether anybody is asked who they are.
func admits(c *config.Config) bool {
	if c.Auth.Htpasswd != nil || c.Auth.Token != nil || c.Auth.LDAP != nil {
		return true
	}
	return c.Access.On && c.Access.Preset != "open"
}

// termsOf reads the terms of c.
func termsOf(c *config.Config) *terms {
	t := &terms{ruled: c.Access.On, elsewhere: c.Auth.Token, tokens: c.Tokens}
	if t.tokens.Issuer == "" {
		t.tokens.Issuer = "regctl"
	}
	if t.tokens.Expiration < shortestToken {
		t.tokens.Expiration = usualToken
	}
	only := c.Auth.Token == nil && c.Auth.LDAP == nil && !c.Access.On && c.Tokens.Service == "" && len(c.Tokens.Services) == 0
	if c.Auth.Htpasswd != nil && only {
		t.basic = "Basic realm=" + quoted(c.Auth.Htpasswd.Realm)
	}
	return t
}

// policyOf compiles the rules of c: without any, who logs in may do everything.
func policyOf(c *config.Config) (*rule.Policy, error) {
	rules := c.Access.Rules
	if !c.Access.On || c.Access.Preset != "" {
		preset := c.Access.Preset
		if preset == "" {
			preset = "private"
		}
		rules, _ = rule.Preset(preset)
	}
	return rule.Compile(rules)
}

// take puts the rules, groups and tokens of c in force. Whoever is let in by
// what was in force before stays in for a request that has begun, and no
// longer.
// It must not be called concurrently.
// Errors: rules that make no sense, those of [token.OpenKeys]; all stays as it
// was.
func (a *admission) take(c *config.Config) error {
	policy, err := policyOf(c)
	if err != nil {
		return &ConfigError{"access", err}
	}
	next := termsOf(c)
	if before := a.terms.Load(); before != nil {
		next.keys = before.keys
	}
	if next.keys == nil && next.basic == "" && next.elsewhere == nil {
		if next.keys, err = a.open(); err != nil {
			return err
		}
	}
	a.groups.Set(c.Groups)
	a.rules.Store(policy)
	a.terms.Store(next)
	return nil
}

// openAdmission opens what the configuration says of logins and rules. Nil:
// nobody is asked.
// Errors: [*ConfigError], those of the file system.
func (a *Assembly) openAdmission(ctx context.Context, p Parts) (*admission, error) {
	if !admits(p.Config) {
		return nil, nil
	}
	sources, err := a.openSources(p)
	if err != nil {
		return nil, err
	}
	groups := auth.NewGroups(p.Config.Groups)
	ad := &admission{
		logins: auth.NewLogins(sources, auth.LoginOptions{Now: p.Now, Log: p.Log, Groups: groups}),
		groups: groups, rules: auth.NewRules(nil), log: p.Log, now: p.Now,
		open: func() (*token.Keys, error) { return a.openKeys(p) },
	}
	if err := ad.take(p.Config); err != nil {
		return nil, err
	}
	if p.Config.Auth.Token != nil {
		if ad.trust, err = openTrust(p); err != nil {
			return nil, &ConfigError{"auth.token", err}
		}
	}
	if ad.uploads, err = a.uploadKey(ctx, p); err != nil {
		return nil, err
	}
	return ad, nil
}

// openKeys opens the keys of tokens, which are kept beside the store.
func (a *Assembly) openKeys(p Parts) (*token.Keys, error) {
	o := token.Options{Now: p.Now, Log: p.Log}
	if a.locked == nil {
		return token.OpenKeys("", o)
	}
	o.Give = a.locked.Give
	return token.OpenKeys(a.locked.Path(""), o)
}

// openSources opens all that know users: a name that one of them knows is not
// asked of those that follow.
func (a *Assembly) openSources(p Parts) ([]auth.Source, error) {
	var sources []auth.Source
	if a.robots != nil {
		sources = append(sources, a.robots.source)
	}
	if c := p.Config.Auth.Htpasswd; c != nil {
		users, err := auth.OpenHtpasswd(c.Path, auth.Options{Log: p.Log, Now: p.Now})
		if err != nil {
			return nil, &ConfigError{"auth.htpasswd", err}
		}
		sources = append(sources, users)
	}
	if p.Config.Auth.LDAP != nil {
		directory, err := openDirectory(p)
		if err != nil {
			return nil, &ConfigError{"auth.ldap", err}
		}
		a.atEnd(func() { _ = directory.Close() })
		sources = append(sources, directory)
	}
	return sources, nil
}

func openDirectory(p Parts) (*ldap.Directory, error) {
	c := p.Config.Auth.LDAP
	return ldap.Open(ldap.Options{
		URL: c.URL, StartTLS: c.StartTLS, CA: c.CA, BindDN: c.BindDN, BindPassword: c.BindPassword, BindFile: c.BindFile,
		UserDN: c.UserDN, UserBase: c.UserBase, UserFilter: c.UserFilter, UserName: c.UserName,
		GroupBase: c.GroupBase, GroupFilter: c.GroupFilter, GroupName: c.GroupName, GroupOf: c.GroupOf,
		Timeout: c.Timeout, Now: p.Now, Log: p.Log,
	})
}

// guard keeps from reg what the rules deny.
func (a *admission) guard(reg oci.Registry, tagsOf func(context.Context, string, oci.Digest) ([]string, error)) oci.Registry {
	return auth.Guard(reg, a.rules, auth.GuardOptions{UploadKey: a.uploads, TagsOf: tagsOf, Log: a.log})
}

func openTrust(p Parts) (verifier, error) {
	c := p.Config.Auth.Token
	return token.OpenTrust(token.TrustOptions{
		Issuer: c.Issuer, Service: c.Service, RootCertBundle: c.RootCertBundle, JWKS: c.JWKS,
		Algorithms: c.SigningAlgorithms, Now: p.Now, Log: p.Log,
	})
}
