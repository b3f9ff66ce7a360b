package file

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/regctl/regctl/serve/storage"
)

// commit is scratch on its way to a key.
type commit struct {
	*writer
	placing
	ended bool // It was no longer scratch to begin with.
}

// CommitAll implements [storage.BatchCommitter]. It waits for the device
// twice, however many writers there are: once for all files, then, when they
// are in place, once for all directories.
func (b *Backend) CommitAll(ctx context.Context, batch []storage.Pending) error {
	commits := make([]*commit, len(batch))
	var errs []error
	for i, p := range batch {
		w, ok := p.Writer.(*writer)
		if !ok || w.b != b {
			err := fmt.Errorf("commit %s: not a writer of this backend: %w", p.To, errors.ErrUnsupported)
			return errors.Join(err, cancelAll(batch))
		}
		commits[i] = &commit{w, placing{b: b, to: p.To}, w.file == nil}
		errs = append(errs, w.mayCommit(ctx, p.To))
	}
	err := errors.Join(errs...)
	if err == nil {
		err = b.commitAll(commits)
	}
	for _, c := range commits {
		c.tidy(err != nil)
	}
	return err
}

func cancelAll(batch []storage.Pending) error {
	var errs []error
	for _, p := range batch {
		errs = append(errs, p.Writer.Cancel())
	}
	return errors.Join(errs...)
}

func (b *Backend) commitAll(commits []*commit) error {
	err := atOnce(len(commits), func(i int) error { return commits[i].finish() })
	var dirs []string
	placed := 0
	for ; err == nil && placed < len(commits); placed++ {
		c := commits[placed]
		if err = c.place(c.key); err != nil {
			err = fmt.Errorf("commit %s: %w", c.to, err)
			break
		}
		dirs = append(dirs, path.Dir(c.to))
	}
	if err == nil {
		err = b.syncDirs(dirs)
	}
	if err != nil {
		for _, c := range slices.Backward(commits[:placed]) {
			err = errors.Join(err, c.undo())
		}
	}
	return err
}

// atOnce calls do with 0 to n-1 at the same time and returns the first error.
func atOnce(n int, do func(i int) error) error {
	if n == 1 {
		return do(0)
	}
	var group errgroup.Group
	for i := range n {
		group.Go(func() error { return do(i) })
	}
	return group.Wait()
}

func (w *writer) mayCommit(ctx context.Context, to string) error {
	if w.file == nil {
		return fmt.Errorf("commit %s: %w", to, errEnded)
	}
	if err := errors.Join(ctx.Err(), storage.CheckKey(to), w.err); err != nil {
		return fmt.Errorf("commit %s: %w", to, err)
	}
	return nil
}

// finish makes the file durable and closes it.
func (c *commit) finish() error {
	if err := c.Sync(); err != nil {
		return fmt.Errorf("commit %s: %w", c.to, err)
	}
	var err error
	if c.ours, err = c.file.Stat(); err != nil {
		return fmt.Errorf("commit %s: %w", c.to, err)
	}
	return c.end()
}

// tidy removes what is left of the scratch of a commit that failed.
func (c *commit) tidy(failed bool) {
	c.close()
	if failed && !c.ended {
		_ = c.end()     // There is an error already;
		_ = c.discard() // what stays is for the collector.
	}
}
