package serve

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// lines writes the lines of an answer. The run never waits for the client:
// progress that it has no time for is left out.
type lines[P, R any] struct {
	w      http.ResponseWriter
	after  func(time.Duration) <-chan time.Time
	failed context.CancelFunc // Called when the client takes no more.

	mu     sync.Mutex
	latest *P            // Not written yet; nil: nothing.
	news   chan struct{} // Has something while latest may have.
	over   chan struct{} // Closed when the run has ended.
	writer sync.WaitGroup
}

func startLines[P, R any](w http.ResponseWriter, after func(time.Duration) <-chan time.Time, failed context.CancelFunc) *lines[P, R] {
	w.Header().Set("Content-Type", "application/jsonl")
	l := &lines[P, R]{w: w, after: after, failed: failed, news: make(chan struct{}, 1), over: make(chan struct{})}
	l.writer.Go(l.write)
	return l
}

func (l *lines[P, R]) progress(p P) {
	l.mu.Lock()
	l.latest = &p
	l.mu.Unlock()
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// write writes the latest progress, then waits a while, until the run is over.
func (l *lines[P, R]) write() {
	for {
		select {
		case <-l.over:
			return
		case <-l.news:
			l.flush()
		}
		select {
		case <-l.over:
			return
		case <-l.after(progressEvery):
		}
	}
}

func (l *lines[P, R]) flush() {
	l.mu.Lock()
	latest := l.latest
	l.latest = nil
	l.mu.Unlock()
	if latest != nil {
		l.line(controlLine[P, R]{Progress: latest})
	}
}

// end writes the last progress and what came of the run.
func (l *lines[P, R]) end(report R, err error) {
	close(l.over)
	l.writer.Wait()
	l.flush()
	last := controlLine[P, R]{Report: &report}
	if err != nil {
		last.Error = toControlError(err)
	}
	l.line(last)
}

func (l *lines[P, R]) line(line controlLine[P, R]) {
	c := http.NewResponseController(l.w)
	err := c.SetWriteDeadline(time.Now().Add(controlStall))
	if err == nil {
		err = json.NewEncoder(l.w).Encode(line)
	}
	if err == nil {
		err = c.Flush()
	}
	if err != nil {
		l.failed()
	}
}
