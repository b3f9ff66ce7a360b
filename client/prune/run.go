package prune

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/regctl/regctl/client/oci"
)

// ErrDeletesOff says that a registry deletes nothing at all.
var ErrDeletesOff = errors.New("this registry refuses deletes")

// CanaryError says that to delete a tag has deleted its manifest, which
// something else needed. Nothing more is deleted on this registry.
type CanaryError struct {
	Repo, Tag string
	Digest    oci.Digest
	Back      []string // Tags that were put back with the manifest.
	Err       error    // Why it could not be put back; nil: it was.
}

// Error says what happened, and what was done about it.
func (e *CanaryError) Error() string {
	what := fmt.Sprintf("this registry deletes a manifest when one of its tags is deleted: %s:%s took %s with it", e.Repo, e.Tag, e.Digest)
	if e.Err != nil {
		return what + ", and it could not be put back: " + e.Err.Error() + "; it is in the record: regctl undo"
	}
	return what + "; it was put back with " + strings.Join(e.Back, ", ") + ", and nothing else was deleted"
}

// Unwrap returns Err.
func (e *CanaryError) Unwrap() error { return e.Err }

// RunOptions of [NewRun].
type RunOptions struct {
	Registry string   // Its address, for the record.
	Record   Recorder // Nil: nothing is recorded.
	Cache    Cache    // May be nil.
	Jobs     int      // Deletes at the same time in one repository; at least 1.
	// OverwriteUntag removes a tag from a registry that cannot by pushing an
	// empty index over it, which is then deleted.
	OverwriteUntag bool
}

// Run executes plans on one registry. It is safe for concurrent use, for
// different repositories.
type Run struct {
	reg oci.Registry
	o   RunOptions

	canary   sync.Mutex
	mu       sync.Mutex
	proved   bool  // To delete a tag leaves its manifest alone.
	cannot   bool  // This registry cannot delete a tag.
	did      bool  // Something was deleted.
	stop     error // Nothing more may be deleted.
	refusals int   // Of manifests, without a delete of anything.
}

// NewRun returns a run that has not done anything yet.
func NewRun(reg oci.Registry, o RunOptions) *Run {
	if o.Record == nil {
		o.Record = Discard{}
	}
	o.Jobs = max(1, o.Jobs)
	return &Run{reg: reg, o: o}
}

// Outcome is what became of a tag, or of a manifest if Tag is empty.
type Outcome struct {
	Tag     string
	Digest  oci.Digest
	Deleted bool
	Reason  string // Why it stays.
	Err     error  // Why it could not be deleted.
}

// Report is what was done in one repository.
type Report struct {
	Tags      []Outcome
	Manifests []Outcome
	Bytes     int64 // Of the plan's, those of manifests that were deleted.
}

// Deleted counts tags that were deleted.
func (r *Report) Deleted() int {
	n := 0
	for _, t := range r.Tags {
		if t.Deleted {
			n++
		}
	}
	return n
}

// Execute does what the plan says, and no more: what changed since is kept,
// with all that belongs to it. It may be cut short between any two requests;
// a plan that is made then, with Options.Known from the record, goes on.
//
// The report is never nil. The error is why the repository was left unfinished;
// after one that is [Fatal] the run deletes nothing any more.
// Errors: [ErrDeletesOff], [ErrNotRecorded], [*CanaryError], those of the
// registry.
func (r *Run) Execute(ctx context.Context, p *Plan) (*Report, error) {
	e := r.execution(p)
	if p.Empty() {
		return e.report, nil
	}
	for _, step := range []func(context.Context) error{e.lookAgain, e.record, e.untagFirst, e.deleteAll, e.untagLast} {
		if err := step(ctx); err != nil {
			if Fatal(err) {
				r.halt(err)
			}
			return e.report, err
		}
	}
	return e.report, nil
}

func (r *Run) execution(p *Plan) *execution {
	e := &execution{
		Run: r, plan: p, report: &Report{}, reader: newReader(r.reg, p.Repo, Options{Cache: r.o.Cache, Jobs: r.o.Jobs}),
		needed: map[oci.Digest]bool{}, gone: map[oci.Digest]bool{}, raw: map[oci.Digest]oci.Manifest{},
		goes: map[oci.Digest]bool{}, tagGoes: map[string]bool{},
	}
	for _, m := range p.Manifests {
		e.goes[m.Digest] = true
	}
	for _, t := range p.Goes() {
		e.tagGoes[t.Tag] = true
	}
	return e
}

// halt makes every further delete fail.
func (r *Run) halt(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stop == nil {
		r.stop = err
	}
}

// enoughRefusals are those after which it cannot all be for the sake of an
// index that has no tag.
const enoughRefusals = 3

// refuse counts a delete that was refused by a registry that does not delete
// tags either, and tells whether it seems to delete nothing at all.
func (r *Run) refuse() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cannot && !r.did {
		r.refusals++
	}
	return r.refusals >= enoughRefusals
}

// Refused tells that the registry has refused every delete so far, and at
// least one.
func (r *Run) Refused() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.refusals > 0 && !r.did
}

func (r *Run) halted() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stop
}

func (r *Run) set(flag *bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*flag = true
}

func (r *Run) is(flag *bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return *flag
}

// execution is that of one plan.
type execution struct {
	*Run
	*reader
	plan   *Plan
	report *Report

	goes    map[oci.Digest]bool // Manifests that the plan deletes.
	tagGoes map[string]bool
	raw     map[oci.Digest]oci.Manifest // Of what loses tags and stays.
	state   sync.Mutex
	gone    map[oci.Digest]bool
	needed  map[oci.Digest]bool // By what came since the plan.
}

// lookAgain lists the tags anew if manifests go: nothing protects those from a
// tag or an index that came since the plan was made.
func (e *execution) lookAgain(ctx context.Context) error {
	if len(e.plan.Manifests) == 0 || !e.plan.whole {
		return nil
	}
	details, _, err := listTags(ctx, e.Run.reg, e.plan.Repo)
	if err != nil {
		return err
	}
	came := map[string]oci.Digest{}
	for _, d := range details {
		if e.plan.where[d.Tag] != d.Manifest.Digest {
			came[d.Tag] = d.Manifest.Digest
		}
	}
	return e.nowAt(ctx, came)
}

// record writes down all that the plan deletes, before the first delete, so
// that what is left of it can be found if this is the last thing that is done.
func (e *execution) record(ctx context.Context) error {
	var all []oci.Digest
	for _, m := range e.plan.Manifests {
		all = append(all, m.Digest)
	}
	seen := maps.Clone(e.goes)
	for _, t := range e.plan.Goes() {
		if !seen[t.Digest] {
			seen[t.Digest] = true
			all = append(all, t.Digest)
		}
	}
	for part := range slices.Chunk(all, batch) {
		if err := e.recordManifests(ctx, part); err != nil {
			return err
		}
	}
	var entries []Entry
	for _, t := range e.plan.Goes() {
		entries = append(entries, Entry{
			Kind: KindTag, Registry: e.o.Registry, Repo: e.plan.Repo, Tag: t.Tag, Digest: t.Digest, MediaType: t.MediaType,
		})
	}
	if len(entries) == 0 {
		return nil
	}
	return e.o.Record.Record(entries...)
}

func (e *execution) recordManifests(ctx context.Context, digests []oci.Digest) error {
	found := make([]oci.Manifest, len(digests))
	err := e.each(ctx, len(digests), func(ctx context.Context, i int) (err error) {
		found[i], err = e.manifest(ctx, digests[i])
		if isAbsent(err) {
			found[i], err = oci.Manifest{}, nil // Somebody was faster.
		}
		return err
	})
	if err != nil {
		return err
	}
	var entries []Entry
	for i, m := range found {
		if m.Raw == nil {
			continue
		}
		if !e.goes[digests[i]] || e.isNeeded(digests[i]) {
			e.raw[digests[i]] = m
		}
		entries = append(entries, Entry{
			Kind: KindManifest, Registry: e.o.Registry, Repo: e.plan.Repo, Digest: digests[i],
			MediaType: m.Descriptor.MediaType, Goes: e.goes[digests[i]], Raw: m.Raw,
		})
	}
	if len(entries) == 0 {
		return nil
	}
	return e.o.Record.Record(entries...)
}

// tag and manifest note what became of one, and record what stays against the
// plan.
func (e *execution) tag(o Outcome) error {
	e.state.Lock()
	e.report.Tags = append(e.report.Tags, o)
	e.state.Unlock()
	return e.stays(o)
}

func (e *execution) manifestIs(m Manifest, o Outcome) error {
	e.state.Lock()
	e.report.Manifests = append(e.report.Manifests, o)
	if o.Deleted {
		e.gone[m.Digest] = true
		e.report.Bytes += m.Bytes
	}
	e.state.Unlock()
	return e.stays(o)
}

func (e *execution) stays(o Outcome) error {
	if o.Deleted || o.Err != nil {
		return o.Err
	}
	return e.o.Record.Record(Entry{Kind: KindKept, Registry: e.o.Registry, Repo: e.plan.Repo, Tag: o.Tag, Digest: o.Digest})
}
