package serve

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/regctl/regctl/gc"
)

// scheduleNap is how long a wait for the schedule is at most: a clock may be
// set, and a machine may sleep.
const scheduleNap = time.Minute

// clock is what times are told and waited for by.
type clock struct {
	now   func() time.Time
	after func(time.Duration) <-chan time.Time
}

// wait waits for d, and tells whether ctx has not ended before.
func (c clock) wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-c.after(d):
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// runSchedule collects whenever the rules of k say so, until ctx ends. What
// comes while a collection goes on is left out, as is what has come while
// nobody served, and what comes while the registry is read-only: who makes it
// so copies the store, or moves it, and nothing may change under that.
func runSchedule(ctx context.Context, k *keeper, c clock, log *slog.Logger) {
	for {
		due, over := k.due(ctx, c)
		switch {
		case over:
			return
		case !due:
			continue
		case k.readOnly != nil && k.readOnly.Load():
			log.LogAttrs(ctx, slog.LevelInfo, "a scheduled collection was left out", slog.String("why", "the registry is read-only"))
			continue
		}
		began := c.now()
		report, err := k.collect(ctx, CollectRequest{Options: gc.Options{Older: -1, Uploads: -1, Undo: -1}}, nil)
		if errors.Is(err, ErrRunning) {
			log.LogAttrs(ctx, slog.LevelInfo, "a scheduled collection was left out", slog.Any("why", err))
			continue
		}
		logCollection(ctx, log, "a scheduled collection", report, c.now().Sub(began), err)
	}
}

// due waits until a collection is. It is not if there are other rules before
// that; over says that there is nothing more to wait for.
func (k *keeper) due(ctx context.Context, c clock) (due, over bool) {
	rules := k.inForce()
	next := rules.Next(c.now())
	if next.IsZero() && k.ruled == nil {
		return false, true
	}
	if next.IsZero() {
		select {
		case <-k.ruled:
			return false, false
		case <-ctx.Done():
			return false, true
		}
	}
	for left := next.Sub(c.now()); left > 0; left = next.Sub(c.now()) {
		select {
		case <-c.after(min(left, scheduleNap)):
		case <-k.ruled:
			return false, false
		case <-ctx.Done():
			return false, true
		}
		if ctx.Err() != nil {
			return false, true
		}
		if sooner := rules.Next(c.now()); sooner.Before(next) { // The clock was set back.
			next = sooner
		}
	}
	return true, ctx.Err() != nil
}

// logCollection tells of a collection in one line.
func logCollection(ctx context.Context, log *slog.Logger, what string, r gc.Report, took time.Duration, err error) {
	var freed int64
	removed := 0
	for _, c := range r.Removed {
		freed += c.Bytes
		removed += c.N
	}
	level, text := slog.LevelInfo, what+" is done"
	attrs := []slog.Attr{
		slog.Int("removed", removed), slog.Int64("bytes", freed), slog.Int64("of", r.Before.Bytes), slog.Duration("took", took),
	}
	if n := len(r.Frozen); n > 0 {
		level = slog.LevelWarn
		attrs = append(attrs, slog.Int("frozen", n), slog.String("first", r.Frozen[0].Repo+": "+r.Frozen[0].Why))
	}
	if len(r.Doubts) > 0 {
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("doubt", r.Doubts[0]))
	}
	if n := len(r.Failed); n > 0 {
		level = slog.LevelWarn
		attrs = append(attrs, slog.Int("failed", n), slog.String("failure", r.Failed[0].Why))
	}
	switch {
	case errors.Is(err, ErrStopping), errors.Is(err, context.Canceled): // The next one does the rest.
		text = what + " was ended"
		attrs = append(attrs, slog.Any("why", err))
	case err != nil:
		level, text = slog.LevelError, what+" failed"
		attrs = append(attrs, slog.Any("error", err))
	}
	log.LogAttrs(ctx, level, text, attrs...)
}
