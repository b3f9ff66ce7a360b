package auth

import (
	"context"

	"github.com/regctl/regctl/serve/auth/rule"
)

// Identity is who somebody is.
type Identity struct {
	Kind rule.Kind
	Name string // Of the user or robot. Empty if anonymous.

	// Groups are the names of groups that the user is in now.
	Groups []string

	// Source is what knows the user: "htpasswd", "ldap", "robots" or "token".
	Source string

	// ID tells a robot from one of the same name before it, and so it does for
	// users of a directory. Empty: there is no difference.
	ID string

	// Limit is what a robot may at most. It may that unless the rules deny it.
	// Nil: there is no limit.
	Limit *rule.Policy
}

// String is how logs and records name somebody: "alice", "robot:ci"; who is
// anonymous has no name.
func (i Identity) String() string {
	if i.Kind == rule.Robot {
		return "robot:" + i.Name
	}
	return i.Name
}

// Source knows users. It is safe for concurrent use.
type Source interface {
	// Name is the Source of its identities: "htpasswd".
	Name() string

	// Login returns who has this name and password.
	// Errors: [ErrUnknown] (another source may know the name), [ErrDenied],
	// [ErrBusy], [ErrUnavailable], those of ctx.
	Login(ctx context.Context, name, password string) (Identity, error)

	// Lookup returns who has this name, and this ID if it is not empty, as
	// things are now. It is fast: it is asked at every request with a token.
	// Errors: [ErrUnknown] (not any more), [ErrUnavailable], those of ctx.
	Lookup(ctx context.Context, name, id string) (Identity, error)
}

// Access is a right as tokens have it: distribution, "Token Scope
// Documentation".
type Access struct {
	Type    string   `json:"type"` // "repository" or "registry".
	Class   string   `json:"class,omitempty"`
	Name    string   `json:"name"`
	Actions []string `json:"actions"`
}

// Session is who makes a request, and how that is known.
type Session struct {
	Identity

	// Credential is "password", "robot", "token" or empty.
	Credential string

	// Scope is what the token of the request is for. The rights of the session
	// are these and what the rules allow. Nil: it is not limited.
	Scope []Access

	// Scoped says that the rights are those of Scope at most, even if it is
	// empty.
	Scoped bool

	// Ruled says that the rules are asked as well. It is false for tokens of a
	// token server elsewhere while there are no rules here.
	Ruled bool
}

type sessionKey struct{}

// WithSession returns a context that carries s.
func WithSession(ctx context.Context, s *Session) context.Context {
	return context.WithValue(ctx, sessionKey{}, s)
}

// SessionFrom returns the Session that ctx carries, or nil: nobody was asked
// who they are.
func SessionFrom(ctx context.Context) *Session {
	s, _ := ctx.Value(sessionKey{}).(*Session)
	return s
}
