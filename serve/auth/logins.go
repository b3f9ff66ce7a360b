package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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

// decoyer is a source that can take as long as if it knew a name.
type decoyer interface {
	// Decoy returns when a wrong password would have been refused.
	// Errors: [ErrBusy], those of ctx.
	Decoy(ctx context.Context, password string) error
}

// ask asks the sources. Who has no login anywhere learns it as late as who has
// one and is wrong about the password.
func (l *Logins) ask(ctx context.Context, name, password string) (Identity, error) {
	sources := l.sources
	if name == "" || strings.Contains(name, ":") { // "robot:ci" is who has that name.
		sources = nil
	}
	for i, s := range sources {
		who, err := s.Login(ctx, name, password)
		if err == nil {
			return who, nil
		}
		if !errors.Is(err, ErrUnknown) {
			if errors.Is(err, ErrDenied) {
				return Identity{}, l.delay(ctx, l.sources[:i], password)
			}
			return Identity{}, fmt.Errorf("check a login in %s: %w", s.Name(), err)
		}
	}
	return Identity{}, l.delay(ctx, l.sources, password)
}

// delay takes the time of the sources that did not know a name.
// Errors: [ErrDenied], or why it could not.
func (l *Logins) delay(ctx context.Context, passed []Source, password string) error {
	for _, s := range passed {
		if d, ok := s.(decoyer); ok {
			if err := d.Decoy(ctx, password); err != nil && !errors.Is(err, ErrDenied) {
				return err
			}
		}
	}
	return ErrDenied
}

// Lookup returns who a source knows under a name, and an ID if that is not
// empty, as things are now.
// Errors: [ErrUnknown], [ErrUnavailable], those of ctx.
func (l *Logins) Lookup(ctx context.Context, source, name, id string) (Identity, error) {
	for _, s := range l.sources {
		if s.Name() != source {
			continue
		}
		who, err := s.Lookup(ctx, name, id)
		if err != nil {
			return Identity{}, fmt.Errorf("look a user up in %s: %w", source, err)
		}
		return l.groups.Join(who), nil
	}
	return Identity{}, ErrUnknown
}
