package meta

import (
	"slices"
	"sync"
)

// Locks is a family of read-write locks, one a key, that take memory only
// while they are held or waited for. The zero value is ready.
type Locks struct {
	mu   sync.Mutex
	held map[string]*keyLock
}

type keyLock struct {
	sync.RWMutex
	users int
}

// Lock takes key alone; it is given back by the function returned.
func (l *Locks) Lock(key string) (unlock func()) { return l.Hold([]string{key}, nil) }

// RLock shares key with others that share it.
func (l *Locks) RLock(key string) (unlock func()) { return l.Hold(nil, []string{key}) }

// Hold takes the keys of alone for itself and shares those of shared; a key
// in both is taken alone. Keys are taken in their order, so that those who
// hold several cannot wait for each other in a circle; for the same reason
// nobody calls Hold again while it holds something of the same family.
func (l *Locks) Hold(alone, shared []string) (release func()) {
	keys := slices.Concat(alone, shared)
	slices.Sort(keys)
	keys = slices.Compact(keys)
	undo := make([]func(), 0, len(keys))
	for _, key := range keys {
		k := l.use(key)
		if slices.Contains(alone, key) {
			k.Lock()
			undo = append(undo, func() { k.Unlock(); l.drop(key, k) })
		} else {
			k.RLock()
			undo = append(undo, func() { k.RUnlock(); l.drop(key, k) })
		}
	}
	return func() {
		for _, f := range slices.Backward(undo) {
			f()
		}
	}
}

func (l *Locks) use(key string) *keyLock {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = map[string]*keyLock{}
	}
	k := l.held[key]
	if k == nil {
		k = &keyLock{}
		l.held[key] = k
	}
	k.users++
	return k
}

func (l *Locks) drop(key string, k *keyLock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k.users--; k.users == 0 {
		delete(l.held, key)
	}
}
