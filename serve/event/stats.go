package event

import (
	"maps"
	"time"
)

func (e *endpoint) change(f func(*Stats)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f(&e.stats)
}

func (e *endpoint) read() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.stats
	s.Statuses = maps.Clone(s.Statuses)
	return s
}

func (e *endpoint) pending() int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.stats.Pending
}

// failing tells how many attempts failed since the last one that did not.
func (e *endpoint) failing() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.failures
}

// succeeded counts a delivery, and tells how many attempts failed before.
func (e *endpoint) succeeded(status string, now time.Time) (was int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	was, e.failures = e.failures, 0
	e.stats.Pending = max(e.stats.Pending-1, 0) // It may have been dropped on its way.
	e.stats.Successes++
	e.stats.LastSuccess = now
	e.answered(status)
	return was
}

// failed counts an attempt, and tells how many failed in a row.
func (e *endpoint) failed(status string, err error, now time.Time) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failures++
	e.stats.LastFailure, e.stats.LastError = now, err.Error()
	if status == "" {
		e.stats.Errors++
	} else {
		e.stats.Failures++
		e.answered(status)
	}
	return e.failures
}

func (e *endpoint) answered(status string) {
	if e.stats.Statuses == nil {
		e.stats.Statuses = map[string]int64{}
	}
	e.stats.Statuses[status]++
}
