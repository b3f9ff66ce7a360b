package serve

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/event"
	"github.com/regctl/regctl/serve/store"
)

// CollectRequest is what a collection is asked. It goes over the wire.
type CollectRequest struct {
	// Options of the run. A negative duration is not said: the configuration
	// decides, see [config.GC]. Untagged manifests go if either says so. Jobs
	// below 1 is not said either: one in a server, else one per processor.
	gc.Options
	// Dry makes a plan and removes nothing.
	Dry bool `json:"dry,omitempty"`
	// Offline says that nobody writes to the store, whatever it looks like. A
	// server of ours that holds the store does not care.
	Offline bool `json:"offline,omitempty"`
}

// Upkeep collects and checks a store. Its methods may be called concurrently.
type Upkeep interface {
	// Collect removes what nothing needs. The report tells what was done even
	// if there is an error; progress is called by one goroutine at a time and
	// may be nil. Once ctx ends the rest stays, and the store is whole.
	// Errors: [ErrForeignWriter], [ErrRunning], [ErrStopping],
	// [storage.ErrReadOnly], that of ctx.
	Collect(ctx context.Context, r CollectRequest, progress func(gc.Progress)) (gc.Report, error)

	// Check reads all of the store. Errors are as of Collect; ErrForeignWriter
	// comes with a report of what would have been repaired.
	Check(ctx context.Context, o store.CheckOptions, progress func(store.CheckProgress)) (store.CheckReport, error)

	// Holder tells who works.
	Holder() Holder

	// Close lets go of the store. No other method may be called after it.
	Close() error
}

// Holder is the process that has a store.
type Holder struct {
	Remote bool // A server of ours; else this process.
	PID    int
	Host   string
}

// ErrForeignWriter says that something that takes no lock seems to write to
// the store, such as registry:2, whose pushes nobody but itself can see.
var ErrForeignWriter = errors.New("another server seems to write to the store")

// ErrRunning says that a collection or a check of the store is under way: they
// run one at a time.
var ErrRunning = errors.New("is running")

// ErrStopping says that the server stopped before the run was over. What is
// left is for the next one.
var ErrStopping = errors.New("the server is stopping")

// most is how many jobs are done at once if nobody says how many.
const most = 8

// keeper runs collections and checks of a store, one at a time.
type keeper struct {
	store stores
	rules config.GC // Once it is in use: inForce and setRules.
	jobs  int       // Done at once if not said.
	now   func() time.Time
	// notifier can be asked about, too. May be nil.
	notifier *event.Notifier
	// robots can be made and revoked. May be nil.
	robots *robots
	// approve looks at a plan before it is executed. May be nil.
	approve func(gc.Report) error
	// readOnly says that nothing is to be collected by schedule. May be nil.
	readOnly *atomic.Bool
	// metrics count collections. May be nil.
	metrics *Metrics
	// ruled is told when there are new rules. May be nil: there never are.
	ruled chan struct{}

	mu      sync.Mutex
	running string // What runs; "" if nothing does.
	since   time.Time
	idle    chan struct{} // Closed when what runs has ended.
	closed  bool
}

// stores is a [store.Store] as its keeper sees it.
type stores interface {
	Collect(ctx context.Context, o gc.Options, dry bool) (gc.Report, error)
	Check(ctx context.Context, o store.CheckOptions) (store.CheckReport, error)
}

// inForce are the rules as they are now.
func (k *keeper) inForce() config.GC {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.rules
}

// setRules puts others in force. What runs goes on by those it began with.
func (k *keeper) setRules(rules config.GC) {
	k.mu.Lock()
	k.rules = rules
	k.mu.Unlock()
	select {
	case k.ruled <- struct{}{}:
	default: // It was told already, and has not looked yet.
	}
}

// collect runs a collection as r and the configuration say.
func (k *keeper) collect(ctx context.Context, r CollectRequest, progress func(gc.Progress)) (gc.Report, error) {
	end, err := k.begin("a collection")
	if err != nil {
		return gc.Report{}, err
	}
	defer end()
	o := r.Options
	rules := k.inForce()
	o.Untagged = o.Untagged || rules.Untagged
	o.Older = said(o.Older, rules.Older)
	o.Uploads = said(o.Uploads, rules.Uploads)
	o.Undo = said(o.Undo, rules.Undo)
	if o.Jobs < 1 {
		o.Jobs = k.jobs
	}
	o.Now, o.Progress = k.now(), progress
	if !r.Offline {
		o.Approve = k.approve
	}
	report, err := k.store.Collect(ctx, o, r.Dry)
	report.Older = o.Older
	k.metrics.collected(report, r.Dry, k.now().Sub(o.Now), k.now(), ended(ctx, err))
	if errors.Is(err, store.ErrCollecting) {
		err = fmt.Errorf("a collection %w", ErrRunning)
	}
	return report, ended(ctx, err)
}

// check runs a check.
func (k *keeper) check(ctx context.Context, o store.CheckOptions, progress func(store.CheckProgress)) (store.CheckReport, error) {
	end, err := k.begin("a check")
	if err != nil {
		return store.CheckReport{}, err
	}
	defer end()
	if o.Jobs < 1 {
		o.Jobs = k.jobs
	}
	o.Progress = progress
	if k.approve != nil && !o.Offline {
		o.Approve = func(r store.CheckReport) error {
			return k.approve(gc.Report{Newest: r.Newest, NewestAt: r.NewestAt})
		}
	}
	report, err := k.store.Check(ctx, o)
	if err == nil && report.Unread == 0 {
		k.metrics.measured(gc.Count{N: report.Data, Bytes: report.Bytes}, k.now())
	}
	return report, ended(ctx, err)
}

// begin makes the caller the only one that runs, until it calls end.
func (k *keeper) begin(what string) (end func(), err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, ErrStopping
	}
	if k.running != "" {
		return nil, fmt.Errorf("%s %w since %s", k.running, ErrRunning, k.since.Format(time.DateTime))
	}
	k.running, k.since, k.idle = what, k.now(), make(chan struct{})
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.running = ""
		close(k.idle)
	}, nil
}

// shut lets nothing run any more, and tells whether what runs ends within
// limit. Its context is to be cancelled before.
func (k *keeper) shut(limit time.Duration) bool {
	k.mu.Lock()
	k.closed = true
	running, idle := k.running != "", k.idle
	k.mu.Unlock()
	if !running {
		return true
	}
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-idle:
		return true
	case <-late.C:
		return false
	}
}

// ended names what ended ctx, if that is why a run failed.
func ended(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		return err
	}
	return context.Cause(ctx)
}

// said is d unless that is not said.
func said(d, otherwise time.Duration) time.Duration {
	if d < 0 {
		return otherwise
	}
	return d
}

// allJobs is how many jobs are done at once where nobody else wants the
// machine.
func allJobs() int { return min(runtime.NumCPU(), most) }
