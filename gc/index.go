package gc

import (
	"math"
	"slices"
	"sort"
	"sync/atomic"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// index is all data of a store. A record of it is 48 bytes, 80 for a sha512:
// with what slices have to spare less than 64 MiB for a million blobs.
//
// It is filled by one goroutine, then sealed; from then on nothing comes into
// it or leaves it, and ranks are raised by many.
type index struct {
	short table[[32]byte]
	long  table[[64]byte]
}

// table has records by the first byte of their sum, so that it grows by small
// parts, none of which is copied whole often.
type table[S sum] struct{ parts [256][]record[S] }

type record[S sum] struct {
	state   state
	touched int64
	sum     S
}

// state is the size of data in its lower 56 bits, and its rank above them: one
// word, so that it is raised without a lock.
type state uint64

const (
	rankShift = 56
	maxSize   = 1<<rankShift - 1
)

func (s *state) load() (size int64, r rank) {
	v := atomic.LoadUint64((*uint64)(s))
	return int64(v & maxSize), rank(v >> rankShift)
}

// raise makes the rank at least r. A nil state is that of no data.
func (s *state) raise(r rank) {
	if s == nil {
		return
	}
	for p := (*uint64)(s); ; {
		v := atomic.LoadUint64(p)
		if rank(v>>rankShift) >= r || atomic.CompareAndSwapUint64(p, v, v&maxSize|uint64(r)<<rankShift) {
			return
		}
	}
}

// add takes what is no digest for nothing: it is never a candidate.
func (x *index) add(d Datum) {
	size := state(min(max(d.Size, 0), maxSize))
	var short [32]byte
	if decode(short[:], shortPrefix, d.Digest) {
		x.short.add(record[[32]byte]{state: size, touched: nanos(d.Touched), sum: short})
		return
	}
	var long [64]byte
	if decode(long[:], longPrefix, d.Digest) {
		x.long.add(record[[64]byte]{state: size, touched: nanos(d.Touched), sum: long})
	}
}

func (x *index) seal() {
	x.short.seal()
	x.long.seal()
}

// find returns the state of the data of d, nil if there is none.
func (x *index) find(d oci.Digest) *state {
	var short [32]byte
	if decode(short[:], shortPrefix, d) {
		return x.short.find(short)
	}
	var long [64]byte
	if decode(long[:], longPrefix, d) {
		return x.long.find(long)
	}
	return nil
}

// parts is how many parts an index has, see [index.each].
const parts = 2 * 256

// datum is a record, whichever table it is in.
type datum struct {
	prefix  string
	sum     []byte
	touched int64
	*state
}

func (d datum) digest() oci.Digest { return encode(d.prefix, d.sum) }

// each calls f with all data of a part in its order until f returns false.
func (x *index) each(part int, f func(datum) bool) {
	if part < parts/2 {
		records := x.short.parts[part]
		for i := range records {
			r := &records[i]
			if !f(datum{prefix: shortPrefix, sum: r.sum[:], touched: r.touched, state: &r.state}) {
				return
			}
		}
		return
	}
	records := x.long.parts[part-parts/2]
	for i := range records {
		r := &records[i]
		if !f(datum{prefix: longPrefix, sum: r.sum[:], touched: r.touched, state: &r.state}) {
			return
		}
	}
}

func (t *table[S]) add(r record[S]) {
	part := &t.parts[r.sum[0]]
	*part = append(*part, r)
}

// seal sorts, and makes one of what was listed several times: as young and as
// large as any of them.
func (t *table[S]) seal() {
	for i, part := range t.parts {
		slices.SortFunc(part, func(a, b record[S]) int { return compare(a.sum, b.sum) })
		n := 0
		for _, r := range part {
			if n > 0 && part[n-1].sum == r.sum {
				part[n-1].touched = max(part[n-1].touched, r.touched)
				part[n-1].state = max(part[n-1].state, r.state)
				continue
			}
			part[n] = r
			n++
		}
		t.parts[i] = part[:n]
	}
}

func (t *table[S]) find(s S) *state {
	part := t.parts[s[0]]
	// Records are not copied: their states change meanwhile.
	i, ok := sort.Find(len(part), func(i int) int { return compare(s, part[i].sum) })
	if !ok {
		return nil
	}
	return &part[i].state
}

// nanos is t in 8 bytes; what is beyond them is as old, or as young, as can be.
func nanos(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}

// ages tells what is young.
type ages struct{ now time.Time }

// young tells whether something is younger than limit. What is in the future
// is, whatever the limit.
func (a ages) young(touched int64, limit time.Duration) bool {
	return a.now.Sub(time.Unix(0, touched)) < limit || touched > nanos(a.now)
}
