package event

import (
	"slices"
	"sync"
)

// locks make those changes wait for each other of which one says, after a
// crash, whether the other happened: what is on disk of an event when the next
// of the same thing is announced is all that there is to know of it.
type locks struct {
	mu   sync.Mutex
	held map[string]*lock
}

type lock struct {
	sync.RWMutex
	users int
}

// lock locks things of a repository, or all of it if there are none. The caller
// unlocks.
func (l *locks) lock(repo string, things ...string) (unlock func()) {
	if len(things) == 0 {
		r := l.get(repo)
		r.Lock()
		return func() { r.Unlock(); l.put(repo) }
	}
	names := make([]string, 0, len(things))
	for _, thing := range things {
		names = append(names, repo+" "+thing)
	}
	slices.Sort(names) // Or two would wait for each other.
	names = slices.Compact(names)
	r := l.get(repo)
	r.RLock()
	held := make([]*lock, 0, len(names))
	for _, name := range names {
		k := l.get(name)
		k.Lock()
		held = append(held, k)
	}
	return func() {
		for i, k := range held {
			k.Unlock()
			l.put(names[i])
		}
		r.RUnlock()
		l.put(repo)
	}
}

func (l *locks) get(name string) *lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.held[name]
	if k == nil {
		k = &lock{}
		if l.held == nil {
			l.held = map[string]*lock{}
		}
		l.held[name] = k
	}
	k.users++
	return k
}

func (l *locks) put(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := l.held[name]; k.users == 1 {
		delete(l.held, name)
	} else {
		k.users--
	}
}
