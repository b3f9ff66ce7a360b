package serve

import (
	"context"
	"net"
	"os"

	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/event"
	"github.com/regctl/regctl/serve/state"
	"github.com/regctl/regctl/serve/store"
)

// notify begins to tell the endpoints of the configuration what changes in s,
// and ends it before what is remembered is closed. Without endpoints there is
// no notifier. It is called before anything changes s.
func (a *Assembly) notify(ctx context.Context, p Parts, s *store.Store) error {
	c := p.Config.Notify
	if len(c.Endpoints) == 0 {
		event.Forget(ctx, a.state, p.Log, p.Now())
		return nil
	}
	outbox := a.state
	if outbox == nil { // The store is in memory, and so is what it has to tell.
		var err error
		if outbox, err = state.OpenMemory(ctx, p.Now); err != nil {
			return err
		}
		a.atEnd(func() { _ = outbox.Close() })
	}
	a.notifier = event.New(ctx, outbox, s, event.Options{
		Endpoints: eventEndpoints(c), IncludeReferences: c.IncludeReferences, Source: a.source(),
		Log: p.Log, Client: p.Client, Now: p.Now, After: p.After,
	})
	running, cancel := context.WithCancel(context.WithoutCancel(ctx)) // Requests are drained after ctx.
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.notifier.Run(running)
	}()
	a.atEnd(func() { cancel(); <-ended })
	return nil
}

func eventEndpoints(c config.Notify) []event.Endpoint {
	all := make([]event.Endpoint, 0, len(c.Endpoints))
	for _, e := range c.Endpoints {
		all = append(all, event.Endpoint{
			Name: e.Name, URL: e.URL, Headers: e.Headers, Timeout: e.Timeout, Threshold: e.Threshold, Backoff: e.Backoff,
			IgnoreMediaTypes: e.IgnoreMediaTypes, IgnoreActions: e.IgnoreActions,
		})
	}
	return all
}

// source is the name of this machine with the port of the server.
func (a *Assembly) source() string {
	host, err := os.Hostname()
	for _, addr := range a.Addrs() {
		_, port, split := net.SplitHostPort(addr.String())
		switch {
		case split != nil: // A socket has none.
		case err != nil:
			return addr.String()
		default:
			return net.JoinHostPort(host, port)
		}
	}
	return host
}

// Notifications tells of each endpoint what is known. There are none without
// endpoints.
func (a *Assembly) Notifications() []event.Stats {
	if a.notifier == nil {
		return nil
	}
	return a.notifier.Stats()
}
