package transfer

import (
	"context"
	"errors"
	"sync"

	"github.com/regctl/regctl/client/oci"
)

// Kind tells events apart.
type Kind int

// The kinds of events.
const (
	Moved     Kind = iota // Bytes of a blob were sent; negative: they have to be sent again.
	BlobDone              // A blob is there. Bytes are those that had been there before.
	ImageDone             // An image is there, or has failed: see Image.
)

// Event is a step of the execution of a plan.
type Event struct {
	Kind  Kind
	Bytes int64
	Image *Image // Of ImageDone. Not to be kept.
}

// Observer is told of events, one at a time, from several goroutines. It
// should return soon.
type Observer func(Event)

// Report tells what the execution of a plan has done.
type Report struct {
	Images    []Image // Those of the plan, with what became of them.
	Failed    int     // How many of them have failed.
	Blobs     int     // That were sent or mounted, or had been there.
	Manifests int     // That were sent to be there.
	Tags      int     // That were moved.
	Moved     int64   // Bytes of blobs that were sent.
	There     int64   // Bytes of blobs that were mounted or had been there.
	Calls     int64   // Of both registries, planning included; see [Plan.Calls].
}

// Err returns the error of the first image that failed; nil if none did.
func (r *Report) Err() error {
	for i := range r.Images {
		if r.Images[i].Err != nil {
			return r.Images[i].Err
		}
	}
	return nil
}

// Execute does what the plan says, once; events may be nil. An image that
// fails does not keep others back: it is in the report with its error. The
// error of Execute is that of ctx, in which case what is there is whole, and
// the same again finishes it.
func (p *Plan) Execute(ctx context.Context, events Observer) (Report, error) {
	if p.dst == nil {
		return Report{}, errors.New("a plan without a destination cannot be executed")
	}
	e := newExecution(p, events)
	e.schedule()
	e.queue.run(ctx, p.o.jobs())
	r := e.report
	r.Images = p.Images
	for i := range r.Images {
		if r.Images[i].Err != nil {
			r.Failed++
		}
	}
	r.Calls = p.Calls()
	return r, ctx.Err()
}

// execution is one run of Execute.
type execution struct {
	*Plan
	queue queue
	puts  map[*node]*put

	mu      sync.Mutex // Of what follows, and of calls of events.
	events  Observer
	report  Report
	written map[oci.Digest]string // A repository that has the blob since this run.
	raws    map[*node][]byte      // Of manifests that were there.
}

// put is the task of sending a manifest.
type put struct {
	task *task
	tags []string // Moved by the same request.
}

func newExecution(p *Plan, events Observer) *execution {
	return &execution{
		Plan: p, events: events, puts: map[*node]*put{},
		written: map[oci.Digest]string{}, raws: map[*node][]byte{},
	}
}

// tell adds to the report, and passes an event on.
func (e *execution) tell(add func(*Report), ev *Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if add != nil {
		add(&e.report)
	}
	if ev != nil && e.events != nil {
		e.events(*ev)
	}
}

// schedule makes a task of everything, each after what it needs.
func (e *execution) schedule() {
	blobs := e.scheduleBlobs()
	for _, n := range e.nodes {
		w := &put{}
		w.task = e.queue.add(false, func(ctx context.Context) error { return e.put(ctx, n, w.tags) })
		e.puts[n] = w
		for _, b := range n.blobs {
			w.task.after(blobs[b])
		}
	}
	for n, w := range e.puts {
		for _, child := range n.children {
			w.task.after(e.putOf(child))
		}
		for _, r := range n.referrers {
			e.putOf(r).after(w.task)
		}
	}
	e.scheduleMarks()
}

// scheduleBlobs lets a blob that goes to several repositories go to one of
// them first: the others mount it.
func (e *execution) scheduleBlobs() map[*blobNode]*task {
	tasks := map[*blobNode]*task{}
	first := map[oci.Digest]*task{}
	for _, b := range e.blobs {
		t := e.queue.add(true, func(ctx context.Context) error { return e.blob(ctx, b) })
		tasks[b] = t
		if before := first[b.desc.Digest]; before != nil {
			t.later(before)
		} else {
			first[b.desc.Digest] = t
		}
	}
	return tasks
}

// putOf returns the task that sends n; nil if it is there.
func (e *execution) putOf(n *node) *task {
	if w := e.puts[n]; w != nil {
		return w.task
	}
	return nil
}

// scheduleMarks lets tags move last. That of a manifest to which nothing
// refers moves in the request that sends it.
func (e *execution) scheduleMarks() {
	companions := map[markKey]*task{}
	for _, m := range e.marks {
		w, tags := e.puts[m.node], m.tags
		if w != nil && w.tags == nil && !hasTied(m.node) {
			w.tags, tags = tags, nil
		}
		t := e.queue.add(false, func(ctx context.Context) error { return e.mark(ctx, m.node, tags) })
		if m.image >= 0 {
			t.done = func(err error) { e.imageDone(m.image, err) }
		} else {
			companions[markKey{m.node.dst, m.tags[0]}] = t
		}
		_ = reach(m.node, func(n *node) error { // It visits, and never fails.
			t.after(e.putOf(n))
			for _, c := range n.companions {
				if before := companions[markKey{n.dst, c.tag}]; c.move && before != t {
					t.after(before)
				}
			}
			return nil
		})
	}
}

// hasTied tells whether anything refers to n, or to what is below it.
func hasTied(n *node) bool {
	errTied := errors.New("tied")
	return reach(n, func(n *node) error {
		if len(n.referrers)+len(n.companions) > 0 {
			return errTied
		}
		return nil
	}) != nil
}

func (e *execution) imageDone(i int, err error) {
	m := &e.Images[i]
	if err != nil {
		m.State, m.Err = Failed, err
	}
	e.tell(nil, &Event{Kind: ImageDone, Image: m})
}

func (e *execution) put(ctx context.Context, n *node, tags []string) error {
	if err := e.putManifest(ctx, n, n.raw, tags); err != nil {
		return err
	}
	e.tell(func(r *Report) { r.Manifests++ }, nil)
	return nil
}

// mark moves tags by putting the same manifest again.
func (e *execution) mark(ctx context.Context, n *node, tags []string) error {
	if len(tags) == 0 {
		return nil
	}
	raw, err := e.raw(ctx, n)
	if err != nil {
		return err
	}
	return e.putManifest(ctx, n, raw, tags)
}

func (e *execution) putManifest(ctx context.Context, n *node, raw []byte, tags []string) error {
	p := oci.Put{Digest: n.desc.Digest, Tags: tags, MediaType: n.desc.MediaType, Raw: raw, NoOverwrite: e.o.NoOverwrite}
	if _, err := e.dst.call().PutManifest(ctx, n.dst, p); err != nil {
		return failed(Destination, "put manifest", n.dst, string(n.desc.Digest), err)
	}
	e.tell(func(r *Report) { r.Tags += len(tags) }, nil)
	return nil
}

// raw returns the bytes of a manifest: from the destination if it was there.
func (e *execution) raw(ctx context.Context, n *node) ([]byte, error) {
	if n.raw != nil {
		return n.raw, nil
	}
	e.mu.Lock()
	raw := e.raws[n]
	e.mu.Unlock()
	if raw != nil {
		return raw, nil
	}
	m, err := readManifest(ctx, e.dst, Destination, n.dst, string(n.desc.Digest))
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	e.raws[n] = m.Raw
	e.mu.Unlock()
	return m.Raw, nil
}
