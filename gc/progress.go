package gc

import "sync"

// meter tells how far a run is, not more often than anybody could see.
type meter struct {
	mu   sync.Mutex
	f    func(Progress)
	p    Progress
	told int
}

func (m *meter) begin(phase Phase, total int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.p, m.told = Progress{Phase: phase, Total: total}, 0
	m.tell()
}

// unseen is how many steps of a phase without a total are not worth a word.
const unseen = 1000

func (m *meter) step() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.p.Done++
	every := unseen
	if m.p.Total > 0 {
		every = max(m.p.Total/unseen, 1)
	}
	if m.p.Done-m.told >= every || m.p.Done == m.p.Total {
		m.tell()
	}
}

// end tells of the steps that were not told of.
func (m *meter) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.told < m.p.Done {
		m.tell()
	}
}

func (m *meter) tell() {
	m.told = m.p.Done
	if m.f != nil {
		m.f(m.p)
	}
}
