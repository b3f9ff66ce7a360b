package serve

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"

	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/storage"
)

// watch begins what tells how the registry is: health checks, and the debug
// address with the metrics, if the configuration asks for them.
func (a *Assembly) watch(ctx context.Context, p Parts, b storage.Backend, encrypted *tls.Config) error {
	c := p.Config
	at := clock{p.Now, p.After}
	o := realOutside()
	if p.Client != nil {
		o.client = p.Client
	}
	a.health = newHealth(c.Health, driverOf(p), func(ctx context.Context) error { return lookAt(ctx, b) }, o, at, p.Log)
	a.inBackground(ctx, a.health.run)
	if c.Storage.ReadOnly {
		p.Log.LogAttrs(ctx, slog.LevelWarn, "the registry is read-only, as storage.maintenance.readonly says: it takes no pushes, and collects only if asked to")
	}
	if c.HTTP.Debug.Addr == "" {
		return nil
	}
	l, err := listenDebug(ctx, c.HTTP.Debug.Addr, p.Log)
	if err != nil {
		return err
	}
	if a.metrics != nil {
		a.metrics.registry.MustRegister(&sources{
			metrics: a.metrics, store: a.store, live: a.live, health: a.health, notifier: a.notifier, tls: encrypted, version: p.Version,
		})
		a.inBackground(ctx, func(ctx context.Context) { a.metrics.measure(ctx, a.store, at, p.Log) })
	}
	a.debug = l.Addr()
	a.atEnd(startDebug(l, newDebugHandler(c.HTTP.Debug, a.metrics, a.health), p.Log))
	return nil
}

// inBackground runs something until a is closed.
func (a *Assembly) inBackground(ctx context.Context, run func(context.Context)) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // Requests are drained after ctx.
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		run(ctx)
	}()
	a.atEnd(func() {
		cancel()
		<-ended
	})
}

// driverOf is the name that registry:2 has for the storage.
func driverOf(p Parts) string {
	if p.Dir == "" {
		return "inmemory"
	}
	return "filesystem"
}

// lookAt fails if the storage does not answer, or its root is not there: a
// volume that is not mounted any more.
func lookAt(ctx context.Context, b storage.Backend) error {
	if _, err := b.Stat(ctx, "."); err != nil {
		return err
	}
	for _, err := range b.List(ctx, ".") {
		return err // One is enough to see that it can be read.
	}
	return nil
}

// wantedMetrics are those that can be scraped, if they can be.
func wantedMetrics(c *config.Config) *Metrics {
	if c.HTTP.Debug.Addr == "" || !c.HTTP.Debug.Prometheus {
		return nil
	}
	return NewMetrics()
}

// Debug is the address of http.debug, nil if there is none.
func (a *Assembly) Debug() net.Addr { return a.debug }
