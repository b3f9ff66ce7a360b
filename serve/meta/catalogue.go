package meta

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/regctl/regctl/client/oci"
)

// catalogue holds the names of the repositories that have a manifest, in
// bytewise order. It is read once; changes made meanwhile win over what is
// read.
type catalogue struct {
	ready chan struct{} // Closed when the names are complete, or err says why not.

	mu      sync.Mutex
	names   []string
	err     error
	changes map[string]bool // While reading: what was added (true) or removed.
}

func newCatalogue() *catalogue {
	return &catalogue{ready: make(chan struct{}), changes: map[string]bool{}}
}

// set adds a name or takes it out.
func (c *catalogue) set(name string, present bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changes != nil {
		c.changes[name] = present
		return
	}
	i, found := slices.BinarySearch(c.names, name)
	switch {
	case present && !found:
		c.names = slices.Insert(c.names, i, name)
	case !present && found:
		c.names = slices.Delete(c.names, i, i+1)
	}
}

// has tells whether name is known to be there; it does not wait.
func (c *catalogue) has(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changes != nil {
		return c.changes[name]
	}
	_, found := slices.BinarySearch(c.names, name)
	return found
}

// fill reads the names from disk.
func (c *catalogue) fill(ctx context.Context, m *Meta) {
	found, err := m.walk(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(c.ready)
	for name, present := range c.changes {
		if present {
			found[name] = struct{}{}
		} else {
			delete(found, name)
		}
	}
	c.changes = nil
	c.names, c.err = slices.Sorted(maps.Keys(found)), err
}

// page returns up to n names that follow after. It waits for the first
// reading to end.
func (c *catalogue) page(ctx context.Context, after string, n int) ([]string, error) {
	select {
	case <-c.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	i, found := slices.BinarySearch(c.names, after)
	if found {
		i++
	}
	return slices.Clone(c.names[i:min(i+n, len(c.names))]), nil
}

// Ready tells whether the catalogue has been read; until then Repos waits.
func (m *Meta) Ready() bool {
	select {
	case <-m.catalogue.ready:
		return true
	default:
		return false
	}
}

// Repos yields the names of the repositories that have a manifest and follow
// after, in bytewise order of the full name.
func (m *Meta) Repos(ctx context.Context, after string) iter.Seq2[string, error] {
	const page = 1000
	return func(yield func(string, error) bool) {
		for {
			names, err := m.catalogue.page(ctx, after, page)
			if err != nil {
				yield("", err)
				return
			}
			for _, name := range names {
				if !yield(name, nil) {
					return
				}
				after = name
			}
			if len(names) < page {
				return
			}
		}
	}
}

// walk finds every repository that has a manifest. What cannot be read is
// reported and passed over: one bad directory must not hide the others.
func (m *Meta) walk(ctx context.Context) (map[string]struct{}, error) {
	var mu sync.Mutex
	found := map[string]struct{}{}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	var visit func(name string) error
	visit = func(name string) error {
		for e, err := range m.backend.List(ctx, path.Join(repositories, name)) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				m.unlisted(name, err)
				return nil
			}
			child := path.Join(name, e.Name)
			switch {
			case !e.Dir:
			case e.Name == manifests:
				if has, err := m.hasManifest(ctx, name); err != nil {
					m.unlisted(name, err)
				} else if has {
					mu.Lock()
					found[name] = struct{}{}
					mu.Unlock()
				}
			case strings.HasPrefix(e.Name, "_"):
				m.finishRemoval(ctx, child)
			case oci.CheckRepo(child) == nil:
				if !group.TryGo(func() error { return visit(child) }) {
					if err := visit(child); err != nil {
						return err
					}
				}
			}
		}
		return nil
	}
	group.Go(func() error { return visit("") })
	return found, group.Wait()
}

func (m *Meta) unlisted(name string, err error) {
	if !errors.Is(err, fs.ErrNotExist) {
		m.log.Warn("cannot list a directory of the store; what is in it is missing from the catalogue", "repo", name, "error", err)
	}
}

// finishRemoval removes what a crash left of a repository that was removed.
func (m *Meta) finishRemoval(ctx context.Context, dir string) {
	if !isAside(path.Base(dir)) {
		return
	}
	if err := m.removeTree(ctx, path.Join(repositories, dir)); err != nil {
		m.log.Warn("part of a removed repository stays", "dir", dir, "error", err)
	}
}

// hasManifest tells whether a repository has a manifest at all.
func (m *Meta) hasManifest(ctx context.Context, repo string) (bool, error) {
	return m.hasLink(ctx, revisionDir(repo))
}

// hasLink tells whether there is a link of use under dir. What cannot be read
// is an error only if there is no other.
func (m *Meta) hasLink(ctx context.Context, dir string) (bool, error) {
	errFound := errors.New("found")
	var failed error
	err := m.linked(ctx, dir, func(d oci.Digest) error {
		_, _, err := m.readLink(ctx, linkIn(dir, d))
		switch {
		case err == nil:
			return errFound
		case !m.absent(err):
			failed = err
		}
		return ctx.Err()
	})
	switch {
	case errors.Is(err, errFound):
		return true, nil
	case err != nil:
		return false, err
	}
	return false, failed
}
