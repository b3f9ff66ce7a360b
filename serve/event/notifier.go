package event

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/regctl/regctl/serve/state"
)

const (
	// flushEvery is how long a pull waits at most to be written.
	flushEvery = time.Second
	// maxWaiting is how many events wait at most to be written, until pulls are
	// dropped.
	maxWaiting = 1 << 13
	// maxUnwritten is how many changes wait in memory for a disk with room.
	maxUnwritten = 1 << 16
	// MaxPending is how many events wait at most for one endpoint. Beyond it
	// the oldest are dropped, pulls before all others.
	MaxPending = 200_000
	// dropAtOnce is how many are dropped in one go.
	dropAtOnce = 1000
	// purgeEvery is how often what was given up is looked through, deadKept for
	// how long it can be looked at.
	purgeEvery = time.Hour
	deadKept   = 30 * 24 * time.Hour
)

// Notifier tells endpoints what happens in a registry. It is safe for
// concurrent use.
type Notifier struct {
	o         Options
	outbox    Outbox
	layout    Layout
	endpoints []*endpoint
	instance  string
	locks     locks
	most      int64 // MaxPending.

	mu   sync.Mutex // Guards full.
	full bool       // The last event could not be written.
}

// endpoint is who is told, and what is known of it.
type endpoint struct {
	Endpoint
	wake chan struct{} // Has something when there may be something to do.
	kick chan struct{} // Has something when it is worth to try at once.

	mu       sync.Mutex // Guards what follows.
	stats    Stats
	failures int // In a row.
}

// New returns a Notifier and settles what an earlier process left in outbox by
// what layout tells: it must not change meanwhile. For events of endpoints
// that are no more see [Forget]. What cannot be done for want of room or because
// something cannot be read is logged, and is no error.
func New(ctx context.Context, outbox Outbox, layout Layout, o Options) *Notifier {
	o.defaults()
	n := &Notifier{o: o, outbox: outbox, layout: layout, instance: uuid.NewString(), most: MaxPending}
	names := make([]string, 0, len(o.Endpoints))
	for _, e := range o.Endpoints {
		names = append(names, e.Name)
		n.endpoints = append(n.endpoints, &endpoint{
			Endpoint: e, wake: make(chan struct{}, 1), kick: make(chan struct{}, 1),
			stats: Stats{Endpoint: e.Name, URL: shown(e.URL)},
		})
	}
	Forget(ctx, outbox, o.Log, o.Now(), names...)
	n.settleAll(ctx)
	counts, err := outbox.EventCounts(ctx)
	if err != nil {
		n.warn(ctx, "cannot count the notifications that wait", err)
	}
	for _, c := range counts {
		if e := n.endpoint(c.Endpoint); e != nil {
			e.stats.Pending, e.stats.Dead = int64(c.Pending), int64(c.Dead)
		}
	}
	return n
}

func (o *Options) defaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Client == nil {
		o.Client = &http.Client{}
	}
	if o.Client.CheckRedirect == nil {
		client := *o.Client
		client.CheckRedirect, o.Client = follow, &client
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.After == nil {
		o.After = time.After
	}
	if o.Random == nil {
		o.Random = rand.Float64
	}
	if o.NewID == nil {
		o.NewID = uuid.NewString
	}
	o.Endpoints = slices.Clone(o.Endpoints)
	for i := range o.Endpoints {
		e := &o.Endpoints[i]
		if e.Timeout <= 0 {
			e.Timeout = time.Second
		}
		if e.Threshold <= 0 {
			e.Threshold = 10
		}
		if e.Backoff <= 0 {
			e.Backoff = time.Second
		}
	}
}

// shown is what of a URL is no secret: webhooks have theirs in path or query.
func shown(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host}).String()
}

// endpoint returns the one of that name, or nil.
func (n *Notifier) endpoint(name string) *endpoint {
	for _, e := range n.endpoints {
		if e.Name == name {
			return e
		}
	}
	return nil
}

// Run delivers until ctx ends, then writes what waits.
func (n *Notifier) Run(ctx context.Context) {
	var loops sync.WaitGroup
	for _, e := range n.endpoints {
		loops.Go(func() { n.deliver(ctx, e) })
	}
	n.keep(ctx)
	loops.Wait()
	if err := n.outbox.FlushEvents(context.WithoutCancel(ctx)); err != nil {
		n.warn(ctx, "notifications may be lost, or delivered twice", err)
	}
}

// keep writes what waits, once a second, and keeps the outbox small.
func (n *Notifier) keep(ctx context.Context) {
	var purged time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.o.After(flushEvery):
		}
		if n.outbox.WaitingEvents() > 0 {
			n.wrote(ctx, n.outbox.FlushEvents(ctx))
		}
		for _, e := range n.endpoints {
			n.trim(ctx, e)
			if e.pending() > 0 {
				poke(e.wake)
			}
		}
		if now := n.o.Now(); now.Sub(purged) >= purgeEvery {
			purged = now
			n.purge(ctx)
		}
	}
}

func (n *Notifier) purge(ctx context.Context) {
	if err := n.outbox.PurgeEvents(ctx, n.o.Now().Add(-deadKept)); err != nil {
		n.warn(ctx, "notifications that were given up stay", err)
		return
	}
	counts, err := n.outbox.EventCounts(ctx)
	if err != nil {
		return
	}
	for _, e := range n.endpoints {
		dead := int64(0)
		if i := slices.IndexFunc(counts, func(c state.EventCount) bool { return c.Endpoint == e.Name }); i >= 0 {
			dead = int64(counts[i].Dead)
		}
		e.change(func(s *Stats) { s.Dead = dead })
	}
}

// trim drops the oldest events of an endpoint that has too many.
func (n *Notifier) trim(ctx context.Context, e *endpoint) {
	for over := e.pending() - n.most; over > 0; over = e.pending() - n.most {
		dropped, err := n.outbox.DropEvents(ctx, e.Name, int(min(over, dropAtOnce)))
		pulls := 0
		for _, d := range dropped {
			if d.Action == ActionPull {
				pulls++
				continue
			}
			n.lost(ctx, "too many notifications wait: one is dropped", d)
		}
		if pulls > 0 {
			n.o.Log.LogAttrs(ctx, slog.LevelWarn, "too many notifications wait: pulls are dropped",
				slog.String("endpoint", e.Name), slog.Int("count", pulls))
		}
		e.change(func(s *Stats) { s.Pending = max(s.Pending-int64(len(dropped)), 0); s.Dropped += int64(len(dropped)) })
		if err != nil || len(dropped) == 0 {
			if err != nil && ctx.Err() == nil {
				n.warn(ctx, "too many notifications wait, and cannot be dropped", err)
			}
			return
		}
	}
}

// Stats returns what is known of each endpoint, in the order of the options.
func (n *Notifier) Stats() []Stats {
	all := make([]Stats, 0, len(n.endpoints))
	for _, e := range n.endpoints {
		all = append(all, e.read())
	}
	return all
}

// poke puts something into a channel with room for one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (n *Notifier) warn(ctx context.Context, what string, err error) {
	n.o.Log.LogAttrs(ctx, slog.LevelWarn, what, slog.Any("error", err))
}

// lost names an event that is not told.
func (n *Notifier) lost(ctx context.Context, why string, e state.Event) {
	n.o.Log.LogAttrs(ctx, slog.LevelWarn, why, slog.String("endpoint", e.Endpoint), slog.String("action", e.Action),
		slog.String("repo", e.Repo), slog.String("tag", e.Tag), slog.String("digest", string(e.Digest)), slog.Time("at", e.At))
}
