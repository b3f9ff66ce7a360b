package gc

import (
	"context"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// Options of [MakePlan]. They go over the wire: a server is asked with them.
type Options struct {
	// Untagged lets manifests go that no tag leads to; otherwise they stay.
	Untagged bool `json:"untagged,omitempty"`
	// Older is the age from which on anything may go.
	Older time.Duration `json:"older"`
	// Uploads is the age from which on unfinished uploads may go.
	Uploads time.Duration `json:"uploads"`
	// Undo is for how long what was deleted can be brought back.
	Undo time.Duration `json:"undo"`
	// Empty says that it is in order if there is data and no repository.
	Empty bool `json:"empty,omitempty"`
	// Jobs is how many repositories are read, or things removed, at once. At
	// least 1.
	Jobs int `json:"jobs"`

	Now      time.Time      `json:"-"` // What ages are told from.
	Progress func(Progress) `json:"-"` // Called by one goroutine at a time; may be nil.

	// Approve is called with the report of the plan before anything is
	// removed; an error ends the run, and is its error. May be nil.
	Approve func(Report) error `json:"-"`
}

// Progress tells how far a run is. Done never falls within a phase, and is at
// most Total unless that is 0: not known.
type Progress struct {
	Phase Phase `json:"phase"`
	Done  int   `json:"done"`
	Total int   `json:"total"`
}

// Phase is a part of a run.
type Phase string

// The phases, in their order.
const (
	PhaseList  Phase = "list"  // Data is listed; in files.
	PhaseMark  Phase = "mark"  // Repositories are read.
	PhaseSweep Phase = "sweep" // Things are removed.
)

// Count is a number of things and the bytes that go with them.
type Count struct {
	N     int   `json:"n"`
	Bytes int64 `json:"bytes"`
}

// Reason is why data stays that nothing living names.
type Reason string

// The reasons. What several are true of counts under the first. What was to
// go, but could not be removed, is busy.
const (
	KeptYoung    Reason = "young"    // Younger than Options.Older.
	KeptUntagged Reason = "untagged" // Only manifests without a tag need it.
	KeptUndo     Reason = "undo"     // What was deleted lately needs it.
	KeptFrozen   Reason = "frozen"   // Something in its repository could not be read.
	KeptBusy     Reason = "busy"     // It was touched while the run went on.
	KeptDoubt    Reason = "doubt"    // Something in the store could not be listed, or there is no safe order for it to go.
)

// Report says what a run did, or of a plan what it would do.
type Report struct {
	// Older is Options.Older, which a configuration may have decided.
	Older time.Duration `json:"older"`
	// Before is all data there was.
	Before Count `json:"before"`
	// Removed says by kind what went. Bytes are those of data and litter.
	Removed map[Kind]Count `json:"removed"`
	// Kept says why data stays that no tag leads to.
	Kept map[Reason]Count `json:"kept"`
	// UndoUntil is when the last of what KeptUndo keeps may go. Zero if none.
	UndoUntil time.Time `json:"undoUntil,omitzero"`
	// Frozen are the repositories of which nothing goes.
	Frozen []Frozen `json:"frozen"`
	// Doubts say why no data goes at all, and no link if it is repositories
	// that could not be read. Empty: they do.
	Doubts []string `json:"doubts"`
	// Failed are removals that failed, with what hangs on them kept. There are
	// at most 1000, and MoreFailed that are not listed.
	Failed     []Failure `json:"failed"`
	MoreFailed int       `json:"moreFailed,omitempty"`
	// Newest is the latest change of any link or upload that was seen, and
	// where it was. Zero if there is none.
	Newest   time.Time `json:"newest,omitzero"`
	NewestAt string    `json:"newestAt,omitempty"`
}

// Frozen is a repository that something in could not be read.
type Frozen struct {
	Repo string `json:"repo"`
	Why  string `json:"why"`
}

// Failure is a removal that failed.
type Failure struct {
	Kind   Kind       `json:"kind"`
	Repo   string     `json:"repo,omitempty"`
	Digest oci.Digest `json:"digest,omitempty"`
	Key    string     `json:"key,omitempty"`
	Why    string     `json:"why"`
}

// Collect makes a plan of src and, unless dry, executes it with s. Errors:
// those of [MakePlan], [Plan.Execute] and o.Approve.
func Collect(ctx context.Context, src Source, s Sweeper, o Options, dry bool) (Report, error) {
	p, err := MakePlan(ctx, src, o)
	if err != nil {
		return newReport(), err
	}
	if dry {
		return p.Report(), nil
	}
	if o.Approve != nil {
		if err := o.Approve(p.Report()); err != nil {
			return p.Report(), err
		}
	}
	return p.Execute(ctx, s)
}
