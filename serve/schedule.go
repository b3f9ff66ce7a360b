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
// nobody served.
func runSchedule(ctx context.Context, k *keeper, c clock, log *slog.Logger) {
	for {
		next := k.rules.Next(c.now())
		if next.IsZero() {
			return
		}
		for left := next.Sub(c.now()); left > 0; left = next.Sub(c.now()) {
			if !c.wait(ctx, min(left, scheduleNap)) {
				return
			}
			if sooner := k.rules.Next(c.now()); sooner.Before(next) { // The clock was set back.
				next = sooner
			}
		}
		if ctx.Err() != nil {
			return
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
