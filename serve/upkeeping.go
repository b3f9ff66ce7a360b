package serve

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/regctl/regctl/serve/state"
	"github.com/regctl/regctl/serve/storage/file"
)

const (
	// beat is how often a server notes that it has its store.
	beat = time.Minute
	// beatAhead is for how long one such note holds: what a server wrote that
	// was killed is its own.
	beatAhead = 2 * beat
	// purgeEvery is how often records of deletions go that are older than
	// recordsKept: a collection is over them mostly, and who asks for more gets
	// it in the configuration. As often the log tells of robots that end soon.
	purgeEvery  = 24 * time.Hour
	recordsKept = 30 * 24 * time.Hour
	// keepWait is how long a run may take to end that was cancelled.
	keepWait = 30 * time.Second
)

// upkeeping is what a server does for its store besides answering: it collects
// by schedule and when it is asked to, and notes that it is there.
type upkeeping struct {
	keeper  *keeper
	locked  *file.Locked // Nil: the store is in memory.
	state   *state.State // Nil: nothing is remembered.
	control *control     // Nil: nobody can ask.
	clock   clock
	log     *slog.Logger
	limit   time.Duration // What a cancelled run may take to end.
	cancel  context.CancelCauseFunc
	jobs    sync.WaitGroup
}

// startUpkeeping begins. Without locked there is nobody to ask for anything,
// nor a note to be made.
func startUpkeeping(ctx context.Context, locked *file.Locked, st *state.State, k *keeper, c clock, log *slog.Logger) *upkeeping {
	u := &upkeeping{keeper: k, locked: locked, state: st, clock: c, log: log, limit: keepWait}
	ctx, u.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	if locked != nil {
		u.serving(ctx, beatAhead)
		var err error
		if u.control, err = startControl(ctx, locked, k, c, log); err != nil {
			log.LogAttrs(ctx, slog.LevelWarn, "regctl gc and check cannot ask this server", slog.Any("error", err))
		}
	}
	u.jobs.Go(func() { u.beat(ctx) })
	u.jobs.Go(func() { runSchedule(ctx, k, c, log) })
	return u
}

// beat does what is to be done each minute.
func (u *upkeeping) beat(ctx context.Context) {
	purged := time.Time{}
	for u.clock.wait(ctx, beat) {
		if u.locked != nil {
			u.serving(ctx, beatAhead)
		}
		if err := u.state.Flush(ctx); err != nil {
			u.log.LogAttrs(ctx, slog.LevelWarn, "what was pulled lately is not noted", slog.Any("error", err))
		}
		if now := u.clock.now(); now.Sub(purged) >= purgeEvery {
			purged = now
			u.keeper.robots.remind(ctx)
			if err := u.state.Purge(ctx, now.Add(-max(recordsKept, u.keeper.inForce().Undo))); err != nil {
				u.log.LogAttrs(ctx, slog.LevelWarn, "old records of what was deleted stay", slog.Any("error", err))
			}
		}
	}
}

// serving notes that what is written from now on is ours, for so long.
func (u *upkeeping) serving(ctx context.Context, ahead time.Duration) {
	if err := u.locked.Serving(ahead); err != nil {
		u.log.LogAttrs(ctx, slog.LevelDebug, "cannot note that the store is served", slog.Any("error", err))
	}
}

// quit cancels what runs, and lets nothing begin. It does not wait.
func (u *upkeeping) quit() { u.cancel(ErrStopping) }

// stop ends it all, and tells whether all has ended: a run may hang in the
// storage. It is called once nothing else writes to the store.
func (u *upkeeping) stop() (ended bool) {
	u.quit()
	ended = u.keeper.shut(u.limit)
	if u.control != nil {
		u.control.stop()
	}
	if !ended {
		return false
	}
	u.jobs.Wait()
	return true
}

// leave notes that nothing is written any more.
func (u *upkeeping) leave() {
	if u.locked != nil {
		u.serving(context.Background(), 0)
	}
}
