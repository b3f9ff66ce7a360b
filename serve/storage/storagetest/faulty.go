package storagetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/regctl/regctl/serve/storage"
)

// ErrFault is what [FailAt] and [EveryStep] let changes fail with.
var ErrFault = errors.New("fault on purpose")

// Change is one step that changes what is stored.
type Change struct {
	N   int    // From 1, in the order of the calls.
	Op  string // Create, Write, WriterSync, Commit, Cancel, Rename, Remove or Sync.
	Key string // The scratch of a writer, the source of a Rename.
	To  string // Of a Commit or a Rename.
}

func (c Change) String() string {
	s := fmt.Sprintf("change %d: %s %s", c.N, c.Op, c.Key)
	if c.To != "" {
		s += " to " + c.To
	}
	return s
}

// Faulty is a backend whose changes can be made to fail, or to wait, one by
// one. It is as [storage.Syncer] and [storage.CaseFolder] what the backend is
// that it wraps. Make one with [NewFaulty].
type Faulty struct {
	storage.Backend
	before func(Change) error
	torn   bool

	mu     sync.Mutex
	n      int
	healed bool
}

// NewFaulty returns b with before called ahead of each change; nil lets all
// through. Where before returns an error, the change fails with it and does
// nothing, but that a failed Write has written half if torn, a failed Commit
// leaves no scratch, as the contract has it, and a failed Cancel leaves it.
// before may call b, and block.
func NewFaulty(b storage.Backend, torn bool, before func(Change) error) *Faulty {
	return &Faulty{Backend: b, before: before, torn: torn}
}

// FailAt fails the n-th change, and with onward all after it, as on a device
// that is gone.
func FailAt(n int, onward bool) func(Change) error {
	return func(c Change) error {
		if c.N == n || onward && c.N > n {
			return fmt.Errorf("%v: %w", c, ErrFault)
		}
		return nil
	}
}

// Changes returns how many changes were asked for so far.
func (f *Faulty) Changes() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.n
}

// Heal lets all further changes through, uncounted.
func (f *Faulty) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.healed = true
}

func (f *Faulty) change(op, key, to string) error {
	f.mu.Lock()
	if f.healed {
		f.mu.Unlock()
		return nil
	}
	f.n++
	c := Change{f.n, op, key, to}
	f.mu.Unlock()
	if f.before == nil {
		return nil
	}
	return f.before(c)
}

// Create implements [storage.Backend].
func (f *Faulty) Create(ctx context.Context, key string, off int64) (storage.Writer, error) {
	if err := f.change("Create", key, ""); err != nil {
		return nil, err
	}
	w, err := f.Backend.Create(ctx, key, off)
	if err != nil {
		return nil, err
	}
	return &faultyWriter{Writer: w, f: f, key: key}, nil
}

// Rename implements [storage.Backend].
func (f *Faulty) Rename(ctx context.Context, from, to string) error {
	if err := f.change("Rename", from, to); err != nil {
		return err
	}
	return f.Backend.Rename(ctx, from, to)
}

// Remove implements [storage.Backend].
func (f *Faulty) Remove(ctx context.Context, key string) error {
	if err := f.change("Remove", key, ""); err != nil {
		return err
	}
	return f.Backend.Remove(ctx, key)
}

// Sync implements [storage.Syncer].
func (f *Faulty) Sync(ctx context.Context, dir string) error {
	if _, ok := f.Backend.(storage.Syncer); !ok {
		return nil
	}
	if err := f.change("Sync", dir, ""); err != nil {
		return err
	}
	return storage.Sync(ctx, f.Backend, dir)
}

// FoldsCase implements [storage.CaseFolder].
func (f *Faulty) FoldsCase() bool { return storage.FoldsCase(f.Backend) }

type faultyWriter struct {
	storage.Writer
	f     *Faulty
	key   string
	err   error // Of a failed Write or Sync: such scratch is not committed.
	ended bool
}

func (w *faultyWriter) Write(p []byte) (int, error) {
	err := w.f.change("Write", w.key, "")
	if err == nil {
		return w.Writer.Write(p)
	}
	w.err = err
	if !w.f.torn {
		return 0, err
	}
	n, e := w.Writer.Write(p[:len(p)/2])
	return n, errors.Join(err, e)
}

func (w *faultyWriter) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{w}, r)
}

func (w *faultyWriter) Sync() error {
	if err := w.f.change("WriterSync", w.key, ""); err != nil {
		w.err = err
		return err
	}
	return w.Writer.Sync()
}

func (w *faultyWriter) Commit(ctx context.Context, to string) error {
	if w.ended {
		return w.Writer.Commit(ctx, to)
	}
	w.ended = true
	err := w.err
	if err == nil {
		err = w.f.change("Commit", w.key, to)
	}
	if err != nil {
		return errors.Join(err, w.Writer.Cancel())
	}
	return w.Writer.Commit(ctx, to)
}

func (w *faultyWriter) Close() error {
	w.ended = true
	return w.Writer.Close()
}

func (w *faultyWriter) Cancel() error {
	if w.ended {
		return nil
	}
	w.ended = true
	if err := w.f.change("Cancel", w.key, ""); err != nil {
		return errors.Join(err, w.Writer.Close())
	}
	return w.Writer.Cancel()
}

// maxSteps ends an EveryStep whose scenario never ends.
const maxSteps = 10_000

// EveryStep runs a scenario with its first change failing, then its second,
// and so on until it has no more: once with only that change failing, once
// with all from there on, and both with torn writes too. open returns a new
// backend with what the scenario begins with. try is the scenario; it returns
// its error, which is to be nil when nothing failed. check then looks at what
// is left, on the backend without faults; err is what try returned. A check
// must hold whether or not there was a fault: that what was acknowledged is
// there, whole, and that what is there is whole.
func EveryStep(t *testing.T, open func(t testing.TB) storage.Backend,
	try func(t testing.TB, b storage.Backend) error,
	check func(t testing.TB, b storage.Backend, err error),
) {
	t.Helper()
	for _, onward := range []bool{false, true} {
		for _, torn := range []bool{false, true} {
			t.Run(fmt.Sprintf("onward=%t,torn=%t", onward, torn), func(t *testing.T) {
				for n := 1; everyStep(t, n, onward, torn, open, try, check); n++ {
					if n == maxSteps {
						t.Fatalf("no end after %d steps", n)
					}
				}
			})
		}
	}
}

// everyStep runs the scenario with change n failing and tells whether there
// was one.
func everyStep(t *testing.T, n int, onward, torn bool, open func(t testing.TB) storage.Backend,
	try func(t testing.TB, b storage.Backend) error,
	check func(t testing.TB, b storage.Backend, err error),
) bool {
	b := open(t)
	f := NewFaulty(b, torn, FailAt(n, onward))
	err := try(t, f)
	f.Heal()
	failed := f.Changes() >= n
	if err != nil && !failed {
		t.Fatalf("fails without a fault: %v", err)
	}
	check(t, b, err)
	if t.Failed() {
		t.Fatalf("with change %d of %d failing, and error: %v", n, f.Changes(), err)
	}
	return failed
}
