package serve

import (
	"context"
	"net"

	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/storage"
)

// watch begins what tells how the registry is: health checks, and the debug
// address with the metrics, if the configuration asks for them.
func (a *Assembly) watch(ctx context.Context, p Parts, b storage.Backend) error {
	c := p.Config
	driver := "filesystem"
	if p.Dir == "" {
		driver = "inmemory"
	}
	a.health = newHealth(c.Health, driver, func(ctx context.Context) error { return lookAt(ctx, b) }, realOutside(), clock{p.Now, p.After}, p.Log)
	looking, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.health.run(looking)
	}()
	a.atEnd(func() {
		cancel()
		<-ended
	})
	if c.HTTP.Debug.Addr == "" {
		return nil
	}
	l, err := listenDebug(ctx, c.HTTP.Debug.Addr, p.Log)
	if err != nil {
		return err
	}
	a.debug = l.Addr()
	a.atEnd(startDebug(l, newDebugHandler(c.HTTP.Debug, a.metrics, a.health), p.Log))
	return nil
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
