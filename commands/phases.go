package commands

import (
	"time"

	"github.com/schollz/progressbar/v3"
)

// wholeBar is how many steps the bar of phases has.
const wholeBar = 1000

// phase is a part of long work whose amount is known only once it begins.
type phase struct {
	name  string
	share int                // Of the bar; those of all phases make wholeBar.
	text  string             // What is under way in it.
	size  func(int64) string // How amounts are written, such as inThousands.
}

// phases tells how far work is that comes in phases, by one bar that never
// goes back, where stderr shows one. Elsewhere it tells nothing: the work says
// at its end what it did. It is used by one goroutine at a time.
type phases struct {
	env    *Env
	phases []phase
	shown  int
	last   time.Time // When it was told last.
	bar    *progressbar.ProgressBar
}

// newPhases begins to tell of phases in their order, unless quiet is wanted.
func newPhases(env *Env, quiet bool, all ...phase) *phases {
	p := &phases{env: env, phases: all, last: env.Now()}
	if env.Shows && !quiet {
		// How long it takes cannot be foretold from another phase.
		p.bar = progressbar.NewOptions(wholeBar,
			progressbar.OptionSetWriter(env.Stderr), progressbar.OptionSetWidth(20),
			progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false))
	}
	return p
}

// at says that so much of a phase is done. A total of 0 is not known.
func (p *phases) at(name string, done, total int64) {
	now := p.env.Now()
	if p.bar == nil || now.Sub(p.last) < barEvery {
		return
	}
	before := 0
	for _, ph := range p.phases {
		if ph.name != name {
			before += ph.share
			continue
		}
		p.last = now
		amount := ph.size(done)
		if total > 0 {
			done = min(done, total)
			amount = ph.size(done) + " of " + ph.size(total)
			before += int(float64(ph.share) * float64(done) / float64(total))
		}
		p.shown = max(p.shown, min(before, wholeBar))
		p.bar.Describe(ph.text + ", " + amount)
		_ = p.bar.Set(p.shown) // Talk that cannot be written is no reason to stop.
		return
	}
}

// end takes the bar away.
func (p *phases) end() {
	if p.bar != nil {
		_ = p.bar.Clear() // As above.
		p.bar = nil
	}
}
