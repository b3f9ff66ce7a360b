package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// LoginOptions say how [Logins] work. The zero value works.
type LoginOptions struct {
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Log takes what an operator must know. Nil: nothing is logged.
	Log *slog.Logger
	// Groups are those of the configuration. Nil: there are none.
	Groups *Groups
}

// Logins asks several sources who somebody is, and keeps those who guess from
// asking too often. It is safe for concurrent use.
type Logins struct {
	sources  []Source
	groups   *Groups
	throttle *throttle
}

// NewLogins returns Logins that ask the sources in this order: the first that
// knows a name decides.
func NewLogins(sources []Source, o LoginOptions) *Logins {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Logins{sources: sources, groups: o.Groups, throttle: newThrottle(o.Now, o.Log)}
}

// Login returns who has this name and password. Addr is where the request is
// from, with or without a port; whoever guesses from there is made to wait.
// Errors: [ErrDenied], [ErrBusy], [*ThrottledError], [ErrUnavailable], those of
// ctx.
func (l *Logins) Login(ctx context.Context, name, password, addr string) (Identity, error) {
	done, err := l.throttle.enter(name, password, addr)
	if err != nil {
		return Identity{}, err
	}
	who, err := l.ask(ctx, name, password)
	done(err)
	if err != nil {
		return Identity{}, err
	}
	return l.groups.Join(who), nil
}

// asksAgain is a source that knows fewer names at first than in the end.
type asksAgain interface {
	// Again takes the same time for any name that the password is not of.
	// Errors: [ErrDenied], [ErrBusy], those of ctx.
	Again(ctx context.Context, name, password string) (Identity, error)
}

// ask asks the sources. Who has no login anywhere learns it as late as who has
// one and is wrong about the password.
func (l *Logins) ask(ctx context.Context, name, password string) (Identity, error) {
	if name == "" || strings.Contains(name, ":") { // "robot:ci" is somebody else.
		return askAgain(ctx, l.sources, "", password)
	}
	for i, s := range l.sources {
		who, err := s.Login(ctx, name, password)
		switch {
		case err == nil && !taken(l.sources[:i], who.Name):
			return who, nil
		case err == nil, errors.Is(err, ErrDenied):
			return askAgain(ctx, l.sources[:i], name, password)
		case !errors.Is(err, ErrUnknown):
			return Identity{}, fmt.Errorf("check a login in %s: %w", s.Name(), err)
		}
	}
	return askAgain(ctx, l.sources, name, password)
}

// knows is a source that tells of every name whether it is one of its own, also
// of who may not log in.
type knows interface{ Knows(name string) bool }

// taken tells whether a name is of one of these sources: who comes after them
// may have typed another one, and is not to be taken for it.
func taken(by []Source, name string) bool {
	return slices.ContainsFunc(by, func(s Source) bool {
		k, ok := s.(knows)
		return ok && k.Knows(name)
	})
}

// askAgain asks those that did not know a name.
func askAgain(ctx context.Context, sources []Source, name, password string) (Identity, error) {
	for _, s := range sources {
		again, ok := s.(asksAgain)
		if !ok {
			continue
		}
		if who, err := again.Again(ctx, name, password); !errors.Is(err, ErrDenied) {
			return who, err
		}
	}
	return Identity{}, ErrDenied
}

// Lookup returns who a source knows under a name, and an ID if that is not
// empty, as things are now. A name that a source before it knows as well is
// that one's.
// Errors: [ErrUnknown], [ErrUnavailable], those of ctx.
func (l *Logins) Lookup(ctx context.Context, source, name, id string) (Identity, error) {
	for i, s := range l.sources {
		if s.Name() != source {
			continue
		}
		if taken(l.sources[:i], name) {
			return Identity{}, ErrUnknown
		}
		who, err := s.Lookup(ctx, name, id)
		if err != nil {
			return Identity{}, fmt.Errorf("look a user up in %s: %w", source, err)
		}
		return l.groups.Join(who), nil
	}
	return Identity{}, ErrUnknown
}
