package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve/store"
)

const (
	// sizeAfter is when a server that has started counts what its store holds,
	// unless a collection did; sizeEvery is when it does again.
	sizeAfter = time.Minute
	sizeEvery = 24 * time.Hour
	// sizePause is how long a count rests now and then.
	sizePause = 20 * time.Millisecond
)

// upkeepMetrics are what is counted of collections, and the size of the store
// as it was seen last: to look for it costs too much for a scrape.
type upkeepMetrics struct {
	runs     *prometheus.CounterVec
	freed    prometheus.Counter
	removed  prometheus.Counter
	took     prometheus.Gauge
	ended    *prometheus.GaugeVec
	mu       sync.Mutex
	size     gc.Count
	measured time.Time // Zero: nobody has counted.
}

// The results of a collection.
const (
	runDone    = "done"
	runFrozen  = "frozen" // Something stays that could not be read or removed.
	runFailed  = "failed"
	runStopped = "stopped"
)

func (m *Metrics) addUpkeep() {
	u := &upkeepMetrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "regctl_gc_runs_total", Help: "Collections that ended, without dry runs. frozen: something stays that could not be read or removed.",
		}, []string{"result"}),
		freed:   prometheus.NewCounter(prometheus.CounterOpts{Name: "regctl_gc_freed_bytes_total", Help: "Bytes that collections freed."}),
		removed: prometheus.NewCounter(prometheus.CounterOpts{Name: "regctl_gc_removed_total", Help: "Files that collections removed."}),
		took:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "regctl_gc_last_duration_seconds", Help: "How long the last collection took."}),
		ended: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "regctl_gc_last_run_timestamp_seconds", Help: "When a collection last ended so.",
		}, []string{"result"}),
	}
	for _, result := range []string{runDone, runFrozen, runFailed, runStopped} {
		u.runs.WithLabelValues(result) // So that a rate has something to begin with.
	}
	m.registry.MustRegister(u.runs, u.freed, u.removed, u.took, u.ended)
	m.upkeep = u
}

// collected counts a collection that ended.
func (m *Metrics) collected(r gc.Report, dry bool, took time.Duration, at time.Time, err error) {
	if m == nil || errors.Is(err, store.ErrCollecting) {
		return
	}
	left := r.Before
	if !dry {
		left.N -= r.Removed[gc.KindData].N
		left.Bytes -= r.Removed[gc.KindData].Bytes
	}
	if err == nil && len(r.Doubts) == 0 {
		m.measured(left, at)
	}
	if dry {
		return
	}
	result := runDone
	switch {
	case errors.Is(err, ErrStopping), errors.Is(err, context.Canceled):
		result = runStopped
	case err != nil:
		result = runFailed
	case len(r.Frozen)+len(r.Doubts)+len(r.Failed) > 0:
		result = runFrozen
	}
	for _, c := range r.Removed {
		m.upkeep.freed.Add(float64(c.Bytes))
		m.upkeep.removed.Add(float64(c.N))
	}
	m.upkeep.runs.WithLabelValues(result).Inc()
	m.upkeep.took.Set(took.Seconds())
	m.upkeep.ended.WithLabelValues(result).Set(seconds(at))
}

// measured remembers what the store holds.
func (m *Metrics) measured(size gc.Count, at time.Time) {
	if m == nil {
		return
	}
	m.upkeep.mu.Lock()
	defer m.upkeep.mu.Unlock()
	m.upkeep.size, m.upkeep.measured = size, at
}

// age is how old the size is that is known; false: none is.
func (m *Metrics) age(now time.Time) (time.Duration, bool) {
	m.upkeep.mu.Lock()
	defer m.upkeep.mu.Unlock()
	return now.Sub(m.upkeep.measured), !m.upkeep.measured.IsZero()
}

// measure counts what the store holds while nobody else did for long, until
// ctx ends.
func (m *Metrics) measure(ctx context.Context, s *store.Store, c clock, log *slog.Logger) {
	for c.wait(ctx, sizeAfter) {
		if age, known := m.age(c.now()); known && age < sizeEvery {
			continue
		}
		size, err := s.Size(ctx, func() bool { return c.wait(ctx, sizePause) })
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			log.LogAttrs(ctx, slog.LevelDebug, "the size of the store is not known", slog.Any("error", err))
			if !c.wait(ctx, time.Hour) {
				return
			}
			continue
		}
		m.measured(size, c.now())
	}
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// until is until when the certificate of t is valid; false: there is none.
func until(t *tls.Config) (time.Time, bool) {
	if t == nil || t.GetCertificate == nil {
		return time.Time{}, false
	}
	pair, err := t.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil || pair == nil || pair.Leaf == nil {
		return time.Time{}, false
	}
	return pair.Leaf.NotAfter, true
}
