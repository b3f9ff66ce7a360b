package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/state"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/store"
)

// foreignAge is the age up to which what somebody else wrote means that they
// may still be writing.
const foreignAge = time.Hour

// UpkeepParts are what [OpenUpkeep] needs.
type UpkeepParts struct {
	// Dir is the directory of the store, see [config.FindStore].
	Dir string
	// Config says what is not said in a request. A server that holds the store
	// goes by its own.
	Config *config.Config
	// Log takes what an operator must know. Nil: nothing is logged.
	Log *slog.Logger
	// Now is the clock, After the timer. Default: those of package time.
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
}

// OpenUpkeep opens the store in p.Dir for collecting and checking. If no
// server has it, it is locked and worked on here, until Close; a server of
// ours that has it is asked to work.
// Errors: [fs.ErrNotExist] if there is no such directory, [*file.HeldError] if
// another process has the store and cannot be asked, [meta.ErrForeign],
// [storage.ErrReadOnly], [errors.ErrUnsupported] where there are no local
// stores, and that of ctx.
func OpenUpkeep(ctx context.Context, p UpkeepParts) (Upkeep, error) {
	locked, held, err := p.lock(ctx)
	switch {
	case err != nil:
		return nil, err
	case held != nil:
		return dialControl(ctx, p.Dir, held)
	}
	l := &local{}
	l.atEnd(locked.Unlock)
	if err := l.open(ctx, p, locked); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// lock makes this process the owner of the store, and sets what p leaves out.
// If a server may have the store, held says so, and it is to be asked.
func (p *UpkeepParts) lock(ctx context.Context) (locked *file.Locked, held, err error) {
	if p.Now == nil {
		p.Now = time.Now
	}
	if p.Log == nil {
		p.Log = slog.New(slog.DiscardHandler)
	}
	if info, err := os.Stat(p.Dir); err != nil {
		return nil, nil, fmt.Errorf("open store: %w", err)
	} else if !info.IsDir() {
		return nil, nil, fmt.Errorf("open store: %s is not a directory", p.Dir)
	}
	locked, err = file.Lock(ctx, p.Dir, 0, p.After)
	if mayBeHeld(err) {
		return nil, err, nil
	}
	return locked, nil, err
}

// mayBeHeld tells whether a server may have the store that could not be locked:
// one has, or the store is read-only for this process, which says nothing of
// others.
func mayBeHeld(err error) bool {
	var held *file.HeldError
	return errors.As(err, &held) || errors.Is(err, syscall.EROFS)
}

// local works on a store in this process.
type local struct {
	keeper
	served time.Time      // Until when a server of ours wrote to the store.
	wrote  func() error   // Notes that what was written until now is ours.
	unread error          // Why the records of what was deleted cannot be read.
	ends   []func() error // Give back what was taken; the last one first.
}

func (l *local) open(ctx context.Context, p UpkeepParts, locked *file.Locked) (err error) {
	if l.served, err = locked.Served(); err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	l.wrote = func() error { return locked.Serving(0) }
	backend, err := file.Open(p.Dir, file.Options{NoSync: p.Config.Storage.NoSync})
	if err != nil {
		return err
	}
	background, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l.atEnd(func() error { cancel(); return nil })
	o := store.Options{Log: p.Log, Now: p.Now, NoCatalogue: true}
	if o.Records, err = l.openRecords(ctx, locked.Path(stateFile), p.Now); err != nil {
		return err
	}
	s, err := store.New(background, backend, o)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Dir, err)
	}
	l.keeper = keeper{store: s, rules: p.Config.GC, jobs: allJobs(), now: p.Now, approve: l.foreign}
	return nil
}

// openRecords opens the records of what was deleted. A store without any gets
// none. If they cannot be read, who asks is told: what they name stays, so
// nothing goes, but the store can be checked.
func (l *local) openRecords(ctx context.Context, name string, now func() time.Time) (store.Records, error) {
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	st, err := state.Open(ctx, name, now)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		l.unread = err
		return unreadRecords{err}, nil
	}
	l.atEnd(st.Close)
	return st, nil
}

// unreadRecords are records that cannot be read.
type unreadRecords struct{ err error }

// Deleted is why not.
func (r unreadRecords) Deleted(context.Context, string, time.Time) ([]state.Deletion, error) {
	return nil, r.err
}

// DeletedRepos is why not.
func (r unreadRecords) DeletedRepos(context.Context, time.Time) ([]string, error) { return nil, r.err }

// Collect works here.
func (l *local) Collect(ctx context.Context, r CollectRequest, progress func(gc.Progress)) (gc.Report, error) {
	report, err := l.collect(ctx, r, progress)
	if err == nil && r.Dry && !r.Offline {
		if err := l.foreign(report); err != nil {
			report.Doubts = append(slices.Clone(report.Doubts), err.Error())
		}
	}
	return report, err
}

// Check works here.
func (l *local) Check(ctx context.Context, o store.CheckOptions, progress func(store.CheckProgress)) (store.CheckReport, error) {
	report, err := l.check(ctx, o, progress)
	if report.Repaired > 0 {
		err = errors.Join(err, l.wrote()) // Those links are ours.
	}
	if l.unread != nil {
		noteUnread(&report, "the records of what was deleted: "+l.unread.Error())
	}
	return report, err
}

// noteUnread adds to r that something cannot be read that is no part of the
// layout, after what is corrupt.
func noteUnread(r *store.CheckReport, what string) {
	at := slices.IndexFunc(r.Faults, func(f store.Fault) bool { return f.Level != store.LevelCorrupt || f.Repaired })
	if at < 0 {
		at = len(r.Faults)
	}
	r.Faults = slices.Insert(r.Faults, at, store.Fault{Kind: store.FaultUnread, Level: store.LevelUnread, What: what, Hurts: []string{}})
	if r.Found == nil {
		r.Found = map[store.FaultKind]int{}
	}
	r.Found[store.FaultUnread]++
	r.Unread++
}

// Holder is this process.
func (l *local) Holder() Holder {
	host, _ := os.Hostname() // It is only shown.
	return Holder{PID: os.Getpid(), Host: host}
}

// Close gives the store back.
func (l *local) Close() error {
	var errs []error
	for _, end := range slices.Backward(l.ends) {
		errs = append(errs, end())
	}
	l.ends = nil
	return errors.Join(errs...)
}

func (l *local) atEnd(end func() error) { l.ends = append(l.ends, end) }

// foreign is [ErrForeignWriter] if something that is not ours wrote to the
// store lately. What is from the future is late.
func (l *local) foreign(r gc.Report) error {
	age := l.now().Sub(r.Newest)
	if r.Newest.IsZero() || age >= foreignAge || !r.Newest.After(l.served) {
		return nil
	}
	return fmt.Errorf("%w: %s changed %s ago, and no server of ours did that",
		ErrForeignWriter, r.NewestAt, max(age, 0).Round(time.Second))
}
