package meta

import (
	"cmp"
	"errors"
	"hash/maphash"
	"io/fs"
	"maps"
	"slices"
	"sync"
)

// facet remembers one kind of thing of one repository, as it is on disk: its
// tags, its blobs or its manifests. What it does not remember it reads; what
// is changed is changed on disk first. A key is read or changed on disk under
// its own lock, and all keys are read at once while no key is: so memory never
// differs from the disk when a call returns.
type facet[K cmp.Ordered, V any] struct {
	whole   sync.RWMutex // Shared while one key is read or changed on disk, alone while all are read.
	stripes [16]sync.Mutex
	seed    maphash.Seed

	mu       sync.Mutex
	known    map[K]V
	complete bool           // Every key on disk is in known or unsure.
	unsure   map[K]struct{} // While complete: keys that could not be read when all were.
	order    []K            // The keys of known in order, while complete.
	cost     int64
	costOf   func(K, V) int64
}

func newFacet[K cmp.Ordered, V any](costOf func(K, V) int64) *facet[K, V] {
	return &facet[K, V]{seed: maphash.MakeSeed(), known: map[K]V{}, costOf: costOf}
}

// loader reads the value of a key from disk; false: there is none.
type loader[V any] func() (V, bool, error)

// get returns the value of k, if it has one.
func (f *facet[K, V]) get(k K, load loader[V]) (V, bool, error) {
	if v, ok, sure := f.lookup(k); sure {
		return v, ok, nil
	}
	f.whole.RLock()
	defer f.whole.RUnlock()
	defer f.lock(k)()
	return f.fetch(k, load)
}

// change lets do change k on disk. do is told the value so far and returns
// the new one, or false if there is none any more. If do fails the disk is
// asked what is there now.
func (f *facet[K, V]) change(k K, load loader[V], do func(old V, had bool) (V, bool, error)) error {
	f.whole.RLock()
	defer f.whole.RUnlock()
	defer f.lock(k)()
	old, had, err := f.fetch(k, load)
	if err != nil {
		return err
	}
	v, keep, err := do(old, had)
	if err == nil {
		f.remember(k, v, keep)
		return nil
	}
	f.forget(k)
	_, _, _ = f.fetch(k, load) // If it cannot be read now, the next one to ask will try.
	return err
}

// hold calls do while k is neither read nor changed on disk by others.
func (f *facet[K, V]) hold(k K, do func() error) error {
	f.whole.RLock()
	defer f.whole.RUnlock()
	defer f.lock(k)()
	return do()
}

// drop lets remove take k from the disk, whatever it was: unlike change, it
// reads nothing. fs.ErrNotExist means that it was gone already.
func (f *facet[K, V]) drop(k K, remove func() error) error {
	return f.hold(k, func() error {
		err := remove()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			f.forget(k)
			return err
		}
		var none V
		f.remember(k, none, false)
		return err
	})
}

// fetch returns the value of k and remembers it. The caller holds k's lock.
func (f *facet[K, V]) fetch(k K, load loader[V]) (V, bool, error) {
	if v, ok, sure := f.lookup(k); sure {
		return v, ok, nil
	}
	v, ok, err := load()
	if err == nil && ok {
		f.remember(k, v, true)
	}
	return v, ok, err
}

// all makes sure that every key is known. load returns what it could read, and
// the keys that are there but could not be read, or not be made sense of: they
// are asked for again each time.
func (f *facet[K, V]) all(load func() (known map[K]V, unsure []K, err error)) error {
	if f.isComplete() {
		return nil
	}
	f.whole.Lock()
	defer f.whole.Unlock()
	if f.isComplete() {
		return nil
	}
	known, unsure, err := load()
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known, f.complete, f.cost, f.unsure = known, true, 0, map[K]struct{}{}
	for _, k := range unsure {
		f.unsure[k] = struct{}{}
	}
	f.order = slices.Sorted(maps.Keys(known))
	for k, v := range known {
		f.cost += f.costOf(k, v)
	}
	return nil
}

// after returns up to n keys that follow last in order; they are complete
// only once all has succeeded.
func (f *facet[K, V]) after(last K, n int) []K {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, found := slices.BinarySearch(f.order, last)
	if found {
		i++
	}
	return slices.Clone(f.order[i:min(i+n, len(f.order))])
}

// each calls yield for every known key, in no order.
func (f *facet[K, V]) each(yield func(K, V)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k, v := range f.known {
		yield(k, v)
	}
}

func (f *facet[K, V]) lookup(k K) (v V, ok, sure bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	v, ok = f.known[k]
	_, unsure := f.unsure[k]
	return v, ok, ok || f.complete && !unsure
}

// doubts returns the keys of which all could not tell what they are.
func (f *facet[K, V]) doubts() []K {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Keys(f.unsure))
}

// isEmpty tells whether it is known that there is no key at all.
func (f *facet[K, V]) isEmpty() (empty, sure bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.known) == 0, len(f.known) > 0 || f.complete && len(f.unsure) == 0
}

func (f *facet[K, V]) remember(k K, v V, keep bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.unsure, k)
	old, had := f.known[k]
	if had {
		f.cost -= f.costOf(k, old)
	}
	i, _ := slices.BinarySearch(f.order, k)
	switch {
	case keep:
		f.known[k] = v
		f.cost += f.costOf(k, v)
		if !had && f.complete {
			f.order = slices.Insert(f.order, i, k)
		}
	case had:
		delete(f.known, k)
		if f.complete {
			f.order = slices.Delete(f.order, i, i+1)
		}
	}
}

// forget makes k unknown, and with it the claim to know every key.
func (f *facet[K, V]) forget(k K) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if v, had := f.known[k]; had {
		f.cost -= f.costOf(k, v)
		delete(f.known, k)
	}
	f.complete, f.order, f.unsure = false, nil, nil
}

// reset forgets everything. Nobody else uses the facet meanwhile.
func (f *facet[K, V]) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known, f.complete, f.order, f.unsure, f.cost = map[K]V{}, false, nil, nil, 0
}

func (f *facet[K, V]) isComplete() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.complete
}

func (f *facet[K, V]) size() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cost
}

func (f *facet[K, V]) lock(k K) (unlock func()) {
	s := &f.stripes[maphash.Comparable(f.seed, k)%uint64(len(f.stripes))]
	s.Lock()
	return s.Unlock
}
