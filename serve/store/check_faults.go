package store

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/regctl/regctl/client/oci"
)

const (
	mostFaults = 10_000 // Listed in a report, of those that can be repaired and of the others.
	mostHurt   = 20     // Listed of a fault.
)

// checker is a check under way.
type checker struct {
	s        *Store
	o        CheckOptions
	data     dataTable
	progress checkProgress
	buffers  sync.Pool // Of *[]byte.

	files    int
	bytes    int64
	unlisted []error // What of the data could not be.

	mu       sync.Mutex
	counts   CheckReport // Of the repositories.
	newest   time.Time
	newestAt string
	findings map[findingKey]*finding
	repaired map[findingKey]*finding
}

func newChecker(s *Store, o CheckOptions) *checker {
	c := &checker{
		s: s, o: o, progress: checkProgress{show: o.Progress},
		data:     dataTable{known: map[oci.Digest]datum{}, reasons: map[oci.Digest]error{}},
		findings: map[findingKey]*finding{}, repaired: map[findingKey]*finding{},
	}
	c.buffers.New = func() any { buf := make([]byte, 1<<20); return &buf }
	return c
}

// seen notes when a link or bytes changed.
func (c *checker) seen(t time.Time, where string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t.After(c.newest) {
		c.newest, c.newestAt = t, where
	}
}

// finding is a fault, with what a repair has to know of it.
type finding struct {
	Fault
	mend  mend
	hurts map[string]struct{}
	in    oci.Digest // A manifest that names the blob that is to be linked.
}

type mend uint8

const (
	mendNothing mend = iota
	mendBlob         // Rewrite the link of a blob.
	mendManifest
	mendMember // Link a blob that a manifest names.
	mendData   // Set bytes aside.
)

// findingKey tells faults apart. What is wrong with bytes is one fault in all
// repositories.
type findingKey struct {
	kind   FaultKind
	repo   string
	tag    string
	digest oci.Digest
	mend   mend
}

func (f *finding) key() findingKey { return findingKey{f.Kind, f.Repo, f.Tag, f.Digest, f.mend} }

// add notes a fault, or that one hurts more than was known.
func (c *checker) add(f finding, hurts ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.findings[f.key()]
	if old == nil {
		f.hurts = map[string]struct{}{}
		f.Level = levelOf(f.Kind)
		f.CanRepair = f.mend != mendNothing
		old = &f
		c.findings[f.key()] = old
	}
	for _, image := range hurts {
		old.hurts[image] = struct{}{}
	}
}

func levelOf(k FaultKind) Level {
	switch k {
	case NoteAlias, NoteChild, NoteDead:
		return LevelNote
	case FaultUnread:
		return LevelUnread
	}
	return LevelCorrupt
}

// report says what was found and what was done so far.
func (c *checker) report() CheckReport {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.counts
	r.Data, r.Bytes, r.Read = c.files, c.bytes, c.data.read()
	r.Newest, r.NewestAt = c.newest, c.newestAt
	r.Found, r.Repaired = map[FaultKind]int{}, len(c.repaired)
	for _, f := range c.findings {
		r.Found[f.Kind]++
		switch f.Level {
		case LevelCorrupt:
			r.Corrupt++
		case LevelUnread:
			r.Unread++
		}
	}
	r.Faults = slices.Concat(listed(c.findings), listed(c.repaired))
	return r
}

// listed returns the faults in order, up to a number.
func listed(all map[findingKey]*finding) []Fault {
	sorted := slices.SortedFunc(maps.Values(all), func(a, b *finding) int {
		return cmp.Or(
			cmp.Compare(rank(a.Level), rank(b.Level)),
			strings.Compare(a.Repo, b.Repo), strings.Compare(a.Tag, b.Tag),
			strings.Compare(string(a.Digest), string(b.Digest)), strings.Compare(string(a.Kind), string(b.Kind)),
		)
	})
	faults := make([]Fault, 0, min(len(sorted), mostFaults))
	for _, f := range sorted[:min(len(sorted), mostFaults)] {
		hurts := slices.Sorted(maps.Keys(f.hurts))
		f.Hurts = slices.Clone(hurts[:min(len(hurts), mostHurt)])
		f.HurtsMore = len(hurts) - len(f.Hurts)
		if f.Hurts == nil {
			f.Hurts = []string{}
		}
		faults = append(faults, f.Fault)
	}
	return faults
}

func rank(l Level) int { return slices.Index([]Level{LevelCorrupt, LevelUnread, LevelNote}, l) }
