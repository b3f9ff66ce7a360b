package commands

import (
	"fmt"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

const (
	barEvery  = 100 * time.Millisecond
	lineEvery = 10 * time.Second
)

// progress tells how far something has come that may take long: by a bar where
// stderr shows one, else by a line every ten seconds. What takes less is not
// told there. It is safe for concurrent use.
type progress struct {
	env   *Env
	quiet bool
	total int64
	size  func(int64) string // How amounts are written, such as humanSize.

	mu    sync.Mutex
	at    int64 // May go back, when something has to be done again.
	shown int64 // Never goes back, nor past total.
	text  string
	last  time.Time // When it was told last.
	bar   *progressbar.ProgressBar
}

// newProgress begins to tell of so much in total, unless quiet is wanted.
func newProgress(env *Env, quiet bool, total int64, size func(int64) string) *progress {
	p := &progress{env: env, quiet: quiet || total <= 0, total: total, size: size, last: env.Now()}
	if env.Shows && !p.quiet {
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(env.Stderr), progressbar.OptionSetWidth(20),
			progressbar.OptionUseIECUnits(false), progressbar.OptionSetPredictTime(true),
			progressbar.OptionSetElapsedTime(false))
	}
	return p
}

// add says that so much more was done; less, if it is negative.
func (p *progress) add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at += n
	p.shown = max(p.shown, min(p.at, p.total))
	p.tell()
}

// note says what is under way.
func (p *progress) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = fmt.Sprintf(format, args...)
	p.tell()
}

// clear takes the bar away until there is more to tell, for a line of talk.
func (p *progress) clear() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Clear() // As in done.
	}
}

// done ends it, and takes the bar away.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quiet = true
	if p.bar != nil {
		_ = p.bar.Clear() // Talk that cannot be written is no reason to stop.
		p.bar = nil
	}
}

// tell tells if it is time.
func (p *progress) tell() {
	every := lineEvery
	if p.bar != nil {
		every = barEvery
	}
	now := p.env.Now()
	if p.quiet || now.Sub(p.last) < every {
		return
	}
	p.last = now
	amount := p.size(p.shown) + " of " + p.size(p.total)
	if p.bar == nil {
		p.env.say("%s, %s", amount, p.text)
		return
	}
	p.bar.Describe(p.text + ", " + amount)
	_ = p.bar.Set64(p.shown) // As above.
}
