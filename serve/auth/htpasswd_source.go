package auth

import (
	"context"

	"github.com/regctl/regctl/serve/auth/rule"
)

// Name implements [Source].
func (h *Htpasswd) Name() string { return "htpasswd" }

// Login implements [Source]. A name that is not in the file is unknown at once:
// see Decoy.
func (h *Htpasswd) Login(ctx context.Context, name, password string) (Identity, error) {
	if _, ok := h.source.users(h.now(), false).hashes[name]; !ok {
		// It may have been put in this very moment.
		if _, ok := h.source.users(h.now(), true).hashes[name]; !ok {
			return Identity{}, ErrUnknown
		}
	}
	if err := h.Verify(ctx, name, password); err != nil {
		return Identity{}, err
	}
	return h.identity(name), nil
}

// Decoy takes the time of a wrong password.
// Errors: [ErrDenied], [ErrBusy], those of ctx.
func (h *Htpasswd) Decoy(ctx context.Context, password string) error {
	return h.Verify(ctx, "", password) // Nobody has no name.
}

// Lookup implements [Source]. A user who is taken out of the file is out within
// a second.
func (h *Htpasswd) Lookup(_ context.Context, name, _ string) (Identity, error) {
	if _, ok := h.source.users(h.now(), false).hashes[name]; !ok {
		return Identity{}, ErrUnknown
	}
	return h.identity(name), nil
}

func (h *Htpasswd) identity(name string) Identity {
	return Identity{Kind: rule.User, Name: name, Source: h.Name()}
}
