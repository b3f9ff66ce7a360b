package transfer

import (
	"context"
	"sync"
)

// task is something to do once others are done.
type task struct {
	run   func(context.Context) error
	done  func(error) // Called in any case, also for a task that is given up; may be nil.
	heavy bool

	waits int     // For so many others.
	needs []*task // That fail if this one does.
	turns []*task // That wait for this one, but do not need it.
	err   error
}

// after lets t wait for a task that it needs; nil is done already.
func (t *task) after(before *task) {
	if before != nil {
		before.needs = append(before.needs, t)
		t.waits++
	}
}

// later lets t wait for another.
func (t *task) later(before *task) {
	before.turns = append(before.turns, t)
	t.waits++
}

// queue runs tasks, some at the same time: first the light ones that are
// ready, then the heavy ones, each kind in the order in which they were ready.
type queue struct {
	tasks []*task

	mu           sync.Mutex
	wake         sync.Cond
	light, heavy []*task
	left         int // Tasks that are not done.
}

func (q *queue) add(heavy bool, run func(context.Context) error) *task {
	t := &task{run: run, heavy: heavy}
	q.tasks = append(q.tasks, t)
	return t
}

// run runs all tasks. Once ctx has ended, those that have not begun fail with
// its error.
func (q *queue) run(ctx context.Context, jobs int) {
	q.wake.L = &q.mu
	q.left = len(q.tasks)
	for _, t := range q.tasks {
		if t.waits == 0 {
			q.ready(t)
		}
	}
	var running sync.WaitGroup
	for range jobs {
		running.Go(func() {
			for t := q.next(); t != nil; t = q.next() {
				if t.err == nil {
					t.err = ctx.Err()
				}
				if t.err == nil {
					t.err = t.run(ctx)
				}
				if t.done != nil {
					t.done(t.err)
				}
				q.end(t)
			}
		})
	}
	running.Wait()
}

func (q *queue) ready(t *task) {
	if t.heavy {
		q.heavy = append(q.heavy, t)
	} else {
		q.light = append(q.light, t)
	}
}

// next waits for a task; nil: there are no more.
func (q *queue) next() *task {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.left > 0 && len(q.light)+len(q.heavy) == 0 {
		q.wake.Wait()
	}
	list := &q.light
	if len(q.light) == 0 {
		list = &q.heavy
	}
	if len(*list) == 0 {
		return nil
	}
	t := (*list)[0]
	*list = (*list)[1:]
	return t
}

// end lets others have their turn.
func (q *queue) end(t *task) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.left--
	for _, next := range t.needs {
		if next.err == nil {
			next.err = t.err
		}
	}
	for _, list := range [][]*task{t.needs, t.turns} {
		for _, next := range list {
			if next.waits--; next.waits == 0 {
				q.ready(next)
			}
		}
	}
	q.wake.Broadcast()
}
