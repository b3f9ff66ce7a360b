package state

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// Event is something that one endpoint is to be told.
type Event struct {
	// ID grows with every event and is never used again.
	ID       int64
	At       time.Time
	Endpoint string // Name of the endpoint.
	Action   string // push, pull, mount or delete.
	Kind     string // Of what it is about: KindTag and so on.
	Repo     string
	Tag      string
	Digest   oci.Digest
	Body     []byte // As it is sent.
}

// The states of an event.
const (
	announced = 0 // It may happen, or may have happened.
	happened  = 1
	givenUp   = 2
)

// outbox is what is still to be written of events.
type outbox struct {
	queue sync.Mutex  // Guards what follows.
	next  *eventBatch // Takes the events that come in.
	marks []mark      // In order.
	seq   int64       // The last one; 0: not read yet.
}

// eventBatch is what one commit makes durable.
type eventBatch struct {
	events []*Event
	done   chan struct{}
	err    error
}

// mark is a change of an event that is written with the next commit.
type mark struct {
	id    int64
	seq   int64  // Of one that happened.
	event *Event // Not nil: one that nobody announced.
}

// Announce makes es durable before it returns, and sets their IDs. They are not
// sent before [State.Happened]. Concurrent calls share commits, and what was
// marked before this call is durable with it.
// Errors: as of [State.Record].
func (s *State) Announce(ctx context.Context, es []Event) error {
	if s == nil || len(es) == 0 {
		return nil
	}
	o := &s.outbox
	o.queue.Lock()
	b, first := o.next, o.next == nil
	if first {
		b = &eventBatch{done: make(chan struct{})}
		o.next = b
	}
	for i := range es {
		b.events = append(b.events, &es[i])
	}
	o.queue.Unlock()
	if first { // The others join while the batch before this one is written.
		s.writing.Lock()
		o.queue.Lock()
		o.next = nil
		o.queue.Unlock()
		b.err = s.writeMarks(ctx, "announce an event in", s.change, b.events)
		s.writing.Unlock()
		close(b.done)
	}
	<-b.done
	return b.err
}

// Happened lets what was announced be sent, after all that happened before. It
// is on disk with the next Announce, Ready or FlushEvents, whichever comes
// first, and found by who settles after a crash.
func (s *State) Happened(ids ...int64) {
	s.mark(func(o *outbox, id int64) mark { o.seq++; return mark{id: id, seq: o.seq} }, ids)
}

// Done forgets events: they were delivered, or did not happen. On disk that is
// as with Happened.
func (s *State) Done(ids ...int64) {
	s.mark(func(_ *outbox, id int64) mark { return mark{id: id} }, ids)
}

// Occurred adds events that happened and that nobody announced. On disk they
// are as with Happened; a crash before forgets them.
func (s *State) Occurred(es ...Event) {
	if s == nil {
		return
	}
	o := &s.outbox
	o.queue.Lock()
	defer o.queue.Unlock()
	for _, e := range es {
		o.seq++
		o.marks = append(o.marks, mark{seq: o.seq, event: &e})
	}
}

func (s *State) mark(of func(*outbox, int64) mark, ids []int64) {
	if s == nil {
		return
	}
	o := &s.outbox
	o.queue.Lock()
	defer o.queue.Unlock()
	for _, id := range ids {
		o.marks = append(o.marks, of(o, id))
	}
}

// WaitingEvents tells how many marks wait to be written.
func (s *State) WaitingEvents() int {
	if s == nil {
		return 0
	}
	s.outbox.queue.Lock()
	defer s.outbox.queue.Unlock()
	return len(s.outbox.marks)
}

// FlushEvents writes the marks that wait. It does not wait for the disk: the
// next durable commit, or Close, does. What cannot be written waits on.
// Errors: as of [State.Record].
func (s *State) FlushEvents(ctx context.Context) error {
	if s == nil {
		return nil
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	return s.flushEvents(ctx)
}

func (s *State) flushEvents(ctx context.Context) error {
	s.outbox.queue.Lock()
	none := len(s.outbox.marks) == 0
	s.outbox.queue.Unlock()
	if none {
		return nil
	}
	return s.writeMarks(ctx, "note what happened in", s.relaxed, nil)
}

// writeMarks writes the marks that wait, then events that are announced.
func (s *State) writeMarks(ctx context.Context, what string, change func(context.Context, string, func(*sql.Tx) error) error, es []*Event) error {
	o := &s.outbox
	o.queue.Lock()
	marks := o.marks
	o.marks = nil
	o.queue.Unlock()
	err := change(ctx, what, func(tx *sql.Tx) error {
		ctx := context.WithoutCancel(ctx)
		w := eventWriter{tx: tx}
		defer w.close()
		for _, m := range marks {
			if err := w.mark(ctx, m); err != nil {
				return err
			}
		}
		for _, e := range es {
			if err := w.add(ctx, e, announced, 0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		o.queue.Lock()
		o.marks = append(marks, o.marks...)
		o.queue.Unlock()
	}
	return err
}

// relaxed is change without waiting for the disk: a power cut may undo it, the
// end of the process does not. What is committed later is not durable before
// it.
func (s *State) relaxed(ctx context.Context, what string, f func(*sql.Tx) error) (err error) {
	ctx = context.WithoutCancel(ctx)
	db, err := s.writer(ctx)
	if err != nil {
		return err
	}
	c, err := db.Conn(ctx)
	if err != nil {
		return s.failed(what, err)
	}
	defer c.Close()
	if _, err := c.ExecContext(ctx, "PRAGMA synchronous = normal"); err != nil {
		return s.failed(what, err)
	}
	defer func() {
		_, again := c.ExecContext(ctx, "PRAGMA synchronous = full")
		err = errors.Join(err, s.failed(what, again))
	}()
	tx, err := c.BeginTx(ctx, nil)
	if err != nil {
		return s.failed(what, err)
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback() // The first error tells more.
		return s.failed(what, err)
	}
	return s.failed(what, tx.Commit())
}
