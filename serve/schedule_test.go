//go:build unix

package serve

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve/config"
)

// scheduled runs a schedule for a while, in a bubble whose clock begins at
// midnight of 2000-01-01 UTC, and returns when collections began, and the log.
func scheduled(t *testing.T, yaml string, run time.Duration, collect func(context.Context, int) (gc.Report, error)) (began []string, said string) {
	t.Helper()
	var log bytes.Buffer
	c, _, err := config.Parse("config.yml", []byte(yaml+"\nversion: 0.1"), nil)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := standIn{onCollect: func(ctx context.Context, o gc.Options, dry bool) (gc.Report, error) {
			at := time.Now().UTC().Format("02T15:04:05")
			began = append(began, fmt.Sprint(at, " ", o.Untagged, o.Older, o.Uploads, o.Undo, o.Jobs, dry))
			return collect(ctx, len(began))
		}}
		k := &keeper{store: s, rules: c.GC, jobs: 1, now: time.Now}
		u := startUpkeeping(t.Context(), nil, nil, k, clock{time.Now, time.After}, slog.New(slog.NewTextHandler(&log, nil)))
		time.Sleep(run)
		if !u.stop() {
			t.Error("it has not ended")
		}
	})
	return began, log.String()
}

func quickly(context.Context, int) (gc.Report, error) { return gc.Report{}, nil }

func TestSchedule(t *testing.T) {
	t.Parallel()
	freed := gc.Report{
		Before:  gc.Count{N: 9, Bytes: 100},
		Removed: map[gc.Kind]gc.Count{gc.KindManifest: {N: 2}, gc.KindData: {N: 3, Bytes: 60}},
	}
	tests := map[string]struct {
		yaml    string
		run     time.Duration
		collect func(context.Context, int) (gc.Report, error)
		began   string
		said    []string
	}{
		"none": {"", 1000 * time.Hour, quickly, "[]", nil},
		"daily, as configured": {
			`gc: {schedule: "TZ=UTC 0 3 * * *", untagged: true, older: 2h, uploads: 5h, undo: 2d}`, 49 * time.Hour,
			func(context.Context, int) (gc.Report, error) { return freed, nil },
			"[01T03:00:00 true 2h0m0s 5h0m0s 48h0m0s 1 false 02T03:00:00 true 2h0m0s 5h0m0s 48h0m0s 1 false]",
			[]string{`level=INFO msg="a scheduled collection is done" removed=5 bytes=60 of=100 took=0s`, `msg="a scheduled collection is done"`},
		},
		"what comes while one goes on is left out": {
			`gc: {schedule: "TZ=UTC @hourly"}`, 5*time.Hour + time.Minute,
			func(_ context.Context, n int) (gc.Report, error) {
				if n == 1 {
					time.Sleep(150 * time.Minute)
				}
				return gc.Report{}, nil
			},
			"[01T01:00:00 false 1h0m0s 24h0m0s 24h0m0s 1 false 01T04:00:00 false 1h0m0s 24h0m0s 24h0m0s 1 false 01T05:00:00 false 1h0m0s 24h0m0s 24h0m0s 1 false]",
			[]string{`took=2h30m0s`, `took=0s`, `took=0s`},
		},
		"an error ends no schedule": {
			`gc: {schedule: "@every 6h"}`, 13 * time.Hour,
			func(_ context.Context, n int) (gc.Report, error) { return gc.Report{}, fmt.Errorf("disk %d", n) },
			"[01T06:00:00 false 1h0m0s 24h0m0s 24h0m0s 1 false 01T12:00:00 false 1h0m0s 24h0m0s 24h0m0s 1 false]",
			[]string{`level=ERROR msg="a scheduled collection failed"`, `error="disk 2"`},
		},
		"what was in doubt is told": {
			`gc: {schedule: "@every 6h"}`, 7 * time.Hour,
			func(context.Context, int) (gc.Report, error) {
				return gc.Report{Frozen: []gc.Frozen{{Repo: "a", Why: "b"}}, Doubts: []string{"d"}, Failed: []gc.Failure{{Why: "w"}}}, nil
			},
			"[01T06:00:00 false 1h0m0s 24h0m0s 24h0m0s 1 false]",
			[]string{`level=WARN msg="a scheduled collection is done" removed=0 bytes=0 of=0 took=0s frozen=1 first="a: b" doubt=d failed=1 failure=w`},
		},
		"the end of the server ends it": {
			`gc: {schedule: "@every 6h"}`, 7 * time.Hour,
			func(ctx context.Context, _ int) (gc.Report, error) { <-ctx.Done(); return gc.Report{}, ctx.Err() },
			"[01T06:00:00 false 1h0m0s 24h0m0s 24h0m0s 1 false]",
			[]string{`level=INFO msg="a scheduled collection was ended" removed=0 bytes=0 of=0 took=1h0m0s why="the server is stopping"`},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began, said := scheduled(t, tt.yaml, tt.run, tt.collect)
			if fmt.Sprint(began) != tt.began {
				t.Errorf("began %v\nwant  %s", began, tt.began)
			}
			lines := strings.Split(strings.TrimSuffix(said, "\n"), "\n")
			if said == "" {
				lines = nil
			}
			if len(lines) != len(tt.said) {
				t.Fatalf("said %s", said)
			}
			for i, line := range lines {
				if !strings.Contains(line, tt.said[i]) {
					t.Errorf("said %s\nwant %s", line, tt.said[i])
				}
			}
		})
	}
}

// What somebody has asked for goes on; the schedule is left out, not queued.
func TestScheduleBesideAnother(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	c, _, err := config.Parse("config.yml", []byte(`gc: {schedule: "@every 1h"}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		runs := 0
		s := standIn{onCollect: func(context.Context, gc.Options, bool) (gc.Report, error) {
			runs++
			time.Sleep(90 * time.Minute)
			return gc.Report{}, nil
		}}
		k := &keeper{store: s, rules: c.GC, jobs: 1, now: time.Now}
		u := startUpkeeping(t.Context(), nil, nil, k, clock{time.Now, time.After}, slog.New(slog.NewTextHandler(&log, nil)))
		if _, err := k.collect(t.Context(), unsaidRequest(), nil); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		if !u.stop() || runs != 1 {
			t.Errorf("%d runs", runs)
		}
		if _, err := k.collect(t.Context(), unsaidRequest(), nil); !errors.Is(err, ErrStopping) {
			t.Error(err)
		}
	})
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `level=INFO msg="a scheduled collection was left out" why="a collection is running since`) {
		t.Errorf("said %s", got)
	}
}

// setClock is a clock that is set by a test, and whose timers fire at once.
type setClock struct {
	at    time.Time
	waits []time.Duration
	set   map[int]time.Time // After so many waits.
	end   func()
	most  int
}

func (c *setClock) now() time.Time { return c.at }

func (c *setClock) after(d time.Duration) <-chan time.Time {
	c.waits = append(c.waits, d)
	c.at = c.at.Add(d)
	if to, ok := c.set[len(c.waits)]; ok {
		c.at = to
	}
	if len(c.waits) >= c.most {
		c.end()
	}
	fired := make(chan time.Time, 1)
	fired <- c.at
	return fired
}

// A clock that is set back by years does not put a collection off by years,
// and a machine that has slept collects once, for all it has slept through.
func TestScheduleClockIsSet(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	c := &setClock{
		at: time.Date(2038, 1, 1, 1, 0, 0, 0, time.UTC),
		set: map[int]time.Time{
			10: time.Date(2026, 1, 1, 23, 0, 0, 0, time.UTC),
			80: time.Date(2026, 1, 8, 12, 0, 0, 0, time.UTC),
		},
		end: cancel, most: 1000,
	}
	parsed, _, err := config.Parse("config.yml", []byte(`gc: {schedule: "TZ=UTC @daily"}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	var began []string
	s := standIn{onCollect: func(context.Context, gc.Options, bool) (gc.Report, error) {
		began = append(began, c.at.Format("2006-01-02T15:04"))
		return gc.Report{}, nil
	}}
	runSchedule(ctx, &keeper{store: s, rules: parsed.GC, jobs: 1, now: c.now}, clock{c.now, c.after}, slog.New(slog.DiscardHandler))
	if got := fmt.Sprint(began); got != "[2026-01-02T00:00 2026-01-08T12:00 2026-01-09T00:00]" {
		t.Errorf("began %s", got)
	}
}
