package oci

import "context"

// Caller is on whose behalf a call is made. It travels in the context, so that
// wrappers of a [Registry] can decide and record by it.
type Caller struct {
	Name      string // Empty: anonymous.
	Addr      string // Address of the client, without a port where known.
	RequestID string
	UserAgent string
	Run       string // What groups the calls of one command. May be empty.
	Look      bool   // Who only looks: what is read is not used.
	Method    string // Of the HTTP request.
	Host      string // That the client asked for, as in the header Host.
	Base      string // Where the client sees the API: "https://reg.example.com/". May be empty.
}

type callerKey struct{}

// WithCaller returns a context that carries c.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom returns the Caller that ctx carries; without one it is anonymous.
func CallerFrom(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}
