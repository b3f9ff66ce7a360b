package gc

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// maxListed is how much a report lists of one sort.
const maxListed = 1000

func newReport() Report {
	return Report{
		Removed: map[Kind]Count{}, Kept: map[Reason]Count{},
		Frozen: []Frozen{}, Doubts: []string{}, Failed: []Failure{},
	}
}

// copied returns r with lists and maps of its own, none of them nil.
func (r Report) copied() Report {
	e := newReport()
	maps.Copy(e.Removed, r.Removed)
	maps.Copy(e.Kept, r.Kept)
	r.Removed, r.Kept = e.Removed, e.Kept
	r.Frozen = append(e.Frozen, r.Frozen...)
	r.Doubts = append(e.Doubts, r.Doubts...)
	r.Failed = append(e.Failed, r.Failed...)
	return r
}

// MarshalJSON writes lists and maps that are empty as such, never as null.
func (r Report) MarshalJSON() ([]byte, error) {
	type plain Report
	return json.Marshal(plain(r.copied()))
}

func (c Count) plus(bytes int64) Count { return Count{N: c.N + 1, Bytes: c.Bytes + bytes} }

func (r *Report) removed(k Kind, bytes int64) { r.Removed[k] = r.Removed[k].plus(bytes) }

// kept does not count what lives.
func (r *Report) kept(why rank, bytes int64) {
	if reason := why.reason(); reason != "" {
		r.Kept[reason] = r.Kept[reason].plus(bytes)
	}
}

func (r *Report) failed(f Failure) {
	if len(r.Failed) >= maxListed {
		r.MoreFailed++
		return
	}
	r.Failed = append(r.Failed, f)
}

// clip shortens a list of doubts to what is worth reading.
func clip(doubts []string) []string {
	if len(doubts) <= maxListed {
		return doubts
	}
	return append(slices.Clone(doubts[:maxListed]), fmt.Sprintf("and %d more", len(doubts)-maxListed))
}

// why tells what is doubtful of a repository, which has a doubt at least.
func why(doubts []Doubt) string {
	if more := len(doubts) - 1; more > 0 {
		return fmt.Sprintf("%s, and %d more", doubts[0], more)
	}
	return doubts[0].String()
}

// String says what could not be read, and why.
func (d Doubt) String() string {
	if d.Err == nil {
		return d.What
	}
	return fmt.Sprintf("%s: %v", d.What, d.Err)
}
