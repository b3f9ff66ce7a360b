package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/event"
	"github.com/regctl/regctl/serve/state"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/store"
)

// stateFile is what is remembered of a store, beside its lock.
const stateFile = "state.db"

// lockWait is how long a server that stops may take to let go of its store.
const lockWait = 30 * time.Second

// Parts are what [Assemble] makes a registry of.
type Parts struct {
	// Config is how it is to be.
	Config *config.Config

	// Dir is the directory of the store, see [config.FindStore]. It is made if
	// it is missing. Empty: the registry is kept in memory.
	Dir string

	// Log takes what an operator must know, Access one line a request. Nil:
	// nothing is logged.
	Log, Access *slog.Logger

	// Version is that of the program, for the metrics.
	Version string

	// Relog is told when the section log says something else, see
	// [Assembly.Reconfigure]. May be nil.
	Relog func(config.Log)

	// Certify makes the certificate that takes the place of http.tls, once the
	// store is ours. May be nil.
	Certify func() (config.TLS, error)

	// Now is the clock, After the timer. Default: those of package time.
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time

	// Client posts notifications and asks what health.http names. Nil: one with the defaults of net/http.
	Client *http.Client

	// Waiting is told if another process has the store, with an error that
	// says which, and gets up to limit to stop. May be nil.
	Waiting func(held error, limit time.Duration)
}

// Assembly is a registry that owns its store, has its addresses, and is about
// to answer. Serve or Close it.
type Assembly struct {
	listeners []net.Listener
	server    Server
	locked    *file.Locked    // Nil: the store is in memory.
	state     *state.State    // Nil: nothing is remembered.
	robots    *robots         // Nil: there are none.
	upkeep    *upkeeping      // Nil: there is none.
	notifier  *event.Notifier // Nil: nobody is told anything.
	store     *store.Store
	live      *live
	metrics   *Metrics // Nil: nothing is counted.
	health    *Health  // Nil: nothing is looked at.
	debug     net.Addr // Nil: there is none.
	ends      []func() // Give back what was taken; the last one first.
	busy      bool     // A request may still change the store.
}

// Assemble makes a registry of its parts: addresses, storage, store, what
// wraps it, HTTP. If it fails, nothing stays taken.
// Errors: [*AddrInUseError], [*ConfigError], [*file.HeldError] (another process has the
// store), [meta.ErrForeign] (another product has it), [storage.ErrReadOnly],
// those of [Listen], of the file system, and of ctx.
func Assemble(ctx context.Context, p Parts) (*Assembly, error) {
	if p.Now == nil {
		p.Now = time.Now
	}
	if p.After == nil {
		p.After = time.After
	}
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	a := &Assembly{live: newLive(p), metrics: wantedMetrics(p.Config)}
	if err := a.assemble(ctx, p); err != nil {
		a.Close()
		return nil, err
	}
	return a, nil
}

func (a *Assembly) assemble(ctx context.Context, p Parts) (err error) {
	c := p.Config
	encrypted, err := newTLS(c.HTTP.TLS, p.Now, p.Log)
	if err != nil {
		return err
	}
	if a.listeners, err = listen(ctx, c.HTTP.Network, c.HTTP.Addrs, p.Log); err != nil {
		return err
	}
	a.atEnd(func() { closeAll(a.listeners) })
	backend, err := a.openStorage(ctx, p)
	if err != nil {
		return err
	}
	if err := a.openState(ctx, p); err != nil {
		return err
	}
	if err := a.openAudit(p); err != nil {
		return err
	}
	if err := a.keepRobots(ctx, p); err != nil {
		return err
	}
	backend = a.metrics.storage(backend, driverOf(p), p.Now)
	reg, err := a.openRegistry(ctx, p, backend)
	if err != nil {
		return err
	}
	admission, err := a.openAdmission(ctx, p)
	if err != nil {
		return err
	}
	web := c.HTTP
	if p.Certify != nil {
		if web.TLS, encrypted, err = certify(p); err != nil {
			return err
		}
	}
	if err := a.watch(ctx, p, backend, encrypted); err != nil {
		return err
	}
	a.server = Server{Handler: a.newHandler(reg, admission, p), Log: p.Log, DrainTimeout: c.HTTP.DrainTimeout, TLS: encrypted, Protocols: protocols(web)}
	a.server.Now = p.Now
	return nil
}

// openStorage opens where the bytes are, and makes it ours.
func (a *Assembly) openStorage(ctx context.Context, p Parts) (storage.Backend, error) {
	if p.Dir == "" {
		return mem.New(), nil
	}
	if err := makeStore(p.Dir); err != nil {
		return nil, err
	}
	locked, err := lock(ctx, p)
	if err != nil {
		return nil, err
	}
	a.locked = locked
	a.keepLocked(locked)
	return file.Open(p.Dir, file.Options{NoSync: p.Config.Storage.NoSync})
}

// openState opens what is remembered that is in no layout. A registry in memory
// remembers nothing.
func (a *Assembly) openState(ctx context.Context, p Parts) (err error) {
	if a.locked == nil {
		return nil
	}
	if a.state, err = state.Open(ctx, a.locked.Path(stateFile), p.Now); err != nil {
		return err
	}
	a.atEnd(func() {
		if a.busy {
			return
		}
		if err := a.state.Close(); err != nil {
			p.Log.LogAttrs(ctx, slog.LevelError, "what was remembered may be lost", slog.Any("error", err))
		}
	})
	for _, name := range []string{stateFile, stateFile + "-wal"} {
		if err := a.locked.Give(name); err != nil && !errors.Is(err, fs.ErrNotExist) { // On a full disk there is none yet.
			return fmt.Errorf("open the state: %w", err)
		}
	}
	return nil
}

// keepLocked holds the lock until a is closed, and beyond if a is busy then.
func (a *Assembly) keepLocked(l *file.Locked) {
	a.atEnd(func() {
		if !a.busy {
			_ = l.Unlock() // The end of the process does it, too.
		}
	})
}

// openRegistry opens the store in b, and wraps it as the configuration says.
func (a *Assembly) openRegistry(ctx context.Context, p Parts, b storage.Backend) (oci.Registry, error) {
	background, cancel := context.WithCancel(context.WithoutCancel(ctx)) // Requests are drained after ctx.
	a.atEnd(cancel)
	o := store.Options{Log: p.Log, SparseImages: p.Config.Validation.SparseImages, Since: p.Now(), Now: p.Now}
	if a.state != nil {
		o.Records = a.state
	}
	s, err := store.New(background, b, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Dir, err)
	}
	a.store = s
	if err := a.notify(ctx, p, s); err != nil {
		return nil, err
	}
	a.keepUp(ctx, p, s)
	reg := event.Observe(WithJournal(s, a.state, p.Log, p.Now), a.notifier)
	return WithReadOnly(WithDeletes(WithValidation(reg, p.Config.Validation), &a.live.deletes), &a.live.readOnly), nil
}

// keepUp begins the upkeep of s, and ends it before the store is let go of.
func (a *Assembly) keepUp(ctx context.Context, p Parts, s *store.Store) {
	k := &keeper{store: s, notifier: a.notifier, robots: a.robots, rules: p.Config.GC, jobs: 1, now: p.Now, readOnly: &a.live.readOnly, metrics: a.metrics, ruled: make(chan struct{}, 1)}
	a.live.keeper = k
	a.upkeep = startUpkeeping(ctx, a.locked, a.state, k, clock{p.Now, p.After}, p.Log)
	a.atEnd(func() {
		if ended := a.upkeep.stop(); !ended {
			a.busy = true
			p.Log.LogAttrs(ctx, slog.LevelError, "a collection has not ended though it was cancelled; the store stays locked until the process ends")
		}
		if !a.busy {
			a.upkeep.leave()
		}
	})
}

func (a *Assembly) newHandler(reg oci.Registry, admission *admission, p Parts) http.Handler {
	c := p.Config
	o := Options{
		Log: p.Log, Access: p.Access, Host: c.HTTP.Host, Headers: c.HTTP.Headers,
		MaxTags: c.Tags.MaxTags, MaxRepos: c.Catalog.MaxEntries, Now: p.Now, Metrics: a.metrics, Health: a.health,
	}
	o.audit = a.live.audit
	o.Prefix, o.RelativeURLs, o.TrustedProxies = c.HTTP.Prefix, c.HTTP.RelativeURLs, c.HTTP.TrustedProxies
	if a.state != nil {
		o.Deletions = a.state
	}
	if admission != nil {
		if o.Deletions != nil {
			o.Deletions = GuardDeletions(o.Deletions, admission.rules)
		}
		reg, o.Auth, o.tokens = admission.guard(reg, a.store.TagsOf), admission, admission
		a.live.admission = admission
	}
	a.live.handler = NewHandler(reg, o)
	return a.live.handler
}

// makeStore makes the directory of a store that may be new.
func makeStore(dir string) error {
	err := os.MkdirAll(dir, 0o777)
	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("cannot make the store: %w: %w", storage.ErrReadOnly, err)
	}
	return err
}

// lock takes the store, and waits for a server that is about to stop.
func lock(ctx context.Context, p Parts) (*file.Locked, error) {
	locked, err := file.Lock(ctx, p.Dir, 0, p.After)
	var held *file.HeldError
	if !errors.As(err, &held) {
		return locked, err
	}
	if p.Waiting != nil {
		p.Waiting(err, lockWait)
	}
	return file.Lock(ctx, p.Dir, lockWait, p.After)
}

// Addrs are the addresses it listens on, with the ports that were found for
// port 0.
func (a *Assembly) Addrs() []net.Addr {
	addrs := make([]net.Addr, len(a.listeners))
	for i, l := range a.listeners {
		addrs[i] = l.Addr()
	}
	return addrs
}

// Serve answers until ctx ends, see [Server.Serve]; then it closes a. If a
// request cannot be ended, which is logged, the store stays locked until the
// process ends.
func (a *Assembly) Serve(ctx context.Context) error {
	defer a.Close()
	if a.upkeep != nil {
		defer context.AfterFunc(ctx, a.upkeep.quit)()
	}
	ended, err := a.server.serve(ctx, a.listeners)
	if a.busy = !ended; a.busy && a.server.Log != nil {
		a.server.Log.LogAttrs(ctx, slog.LevelError, "a request has not ended though it was cut; the store stays locked until the process ends")
	}
	return err
}

// Close gives up the addresses and the store. It does nothing after Serve.
func (a *Assembly) Close() {
	for _, end := range slices.Backward(a.ends) {
		end()
	}
	a.ends = nil
}

func (a *Assembly) atEnd(end func()) { a.ends = append(a.ends, end) }
