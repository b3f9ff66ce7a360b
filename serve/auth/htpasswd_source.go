package auth

import (
	"context"

	"github.com/regctl/regctl/serve/auth/rule"
)

// Name implements [Source].
func (h *Htpasswd) Name() string { return "htpasswd" }

// Knows tells whether a name is in the file, also of who may not log in.
func (h *Htpasswd) Knows(name string) bool { return h.source.users(h.now(), false).names[name] }

// Login implements [Source]. Who was not in the file a second ago is unknown at
// once, and no disk is waited for: see Again. Who is in it with a hash that lets
// nobody in is denied: another source is not asked.
func (h *Htpasswd) Login(ctx context.Context, name, password string) (Identity, error) {
	if !h.Knows(name) {
		return Identity{}, ErrUnknown
	}
	return h.Again(ctx, name, password)
}

// Again is Login for who is not known anywhere else: it looks at the file as it
// is now, and takes the time of a wrong password for who is not in it.
// Errors: [ErrDenied], [ErrBusy], those of ctx.
func (h *Htpasswd) Again(ctx context.Context, name, password string) (Identity, error) {
	if err := h.Verify(ctx, name, password); err != nil {
		return Identity{}, err
	}
	return h.identity(name), nil
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
