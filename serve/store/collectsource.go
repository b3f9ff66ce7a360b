package store

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/state"
)

// Data implements [gc.Source].
func (c *collection) Data(ctx context.Context) iter.Seq2[gc.Datum, error] {
	return func(yield func(gc.Datum, error) bool) {
		for d, err := range c.s.meta.ScanData(ctx, c.o.Jobs) {
			if err != nil {
				if !yield(gc.Datum{}, err) {
					return
				}
				continue
			}
			c.noteYoung(d)
			if !yield(gc.Datum{Digest: d.Digest, Size: d.Size, Touched: c.touched("", d.Digest, d.Written)}, nil) {
				return
			}
		}
	}
}

// noteYoung notes data that was written lately: a link is as young as what it
// leads to, for a blob that is pushed again keeps its link. And of all data,
// when the last was written.
func (c *collection) noteYoung(d meta.DataScan) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.Written.After(c.newest) {
		c.newest = d.Written
	}
	if c.o.Now.Sub(d.Written) >= c.o.Older {
		return
	}
	c.young[maphash.String(c.s.leases.seed, string(d.Digest))] = d.Written
}

// written returns when data was written, if lately. Two of one hash stay both.
func (c *collection) written(d oci.Digest) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.young[maphash.String(c.s.leases.seed, string(d))]
}

// Repos implements [gc.Source]. Records are asked last: what is removed
// meanwhile was recorded before.
func (c *collection) Repos(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		known, missed := map[string]struct{}{}, false
		for r, err := range c.s.meta.ScanRepos(ctx) {
			if err == nil {
				known[r.Name] = struct{}{}
				for _, other := range r.Aliases {
					known[other] = struct{}{}
				}
				c.noteAliases(r)
			}
			missed = missed || err != nil
			if !yield(r.Name, err) {
				return
			}
		}
		deleted, err := c.recorded(ctx)
		if err == nil && len(known) == 0 && !missed {
			err = c.emptied(ctx)
		}
		if err != nil {
			yield("", err)
			return
		}
		for _, name := range deleted {
			if _, ok := known[name]; !ok && !yield(name, nil) {
				return
			}
		}
	}
}

// ErrEmptied says that repositories may have been lost, so that no data goes
// unless [gc.Options] say that it is in order.
var ErrEmptied = fmt.Errorf("%w: there are blobs, but no repository, and no record of a deletion of one since the last push", meta.ErrMissing)

// emptied tells whether it is in order that there is no repository: there is no
// data either, or the last thing that happened is that one was deleted, or
// somebody says so. Else its directory may not be mounted, or not be restored.
func (c *collection) emptied(ctx context.Context) error {
	c.mu.Lock()
	newest := c.newest
	c.mu.Unlock()
	if newest.IsZero() || c.o.Empty {
		return nil
	}
	if c.s.records == nil {
		return ErrEmptied
	}
	repos, err := c.s.records.DeletedRepos(ctx, newest)
	if err != nil {
		return fmt.Errorf("read what was deleted: %w", err)
	}
	for _, name := range repos {
		deleted, err := c.s.records.Deleted(ctx, name, newest)
		if err != nil {
			return fmt.Errorf("read what was deleted from %s: %w", name, err)
		}
		if slices.ContainsFunc(deleted, func(d state.Deletion) bool { return d.Kind == state.KindRepository }) {
			return nil
		}
	}
	return ErrEmptied
}

func (c *collection) noteAliases(r meta.RepoName) {
	if len(r.Aliases) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.aliases[r.Name] = r.Aliases
}

// Repository implements [gc.Source].
func (c *collection) Repository(ctx context.Context, name string) (*gc.Repository, error) {
	scan, err := c.s.meta.ScanRepo(ctx, name, c.o.Jobs)
	if err != nil {
		return nil, fmt.Errorf("read repository %s: %w", name, err)
	}
	r := &gc.Repository{Name: name}
	c.doubtAliases(r)
	for _, err := range scan.Errs {
		r.Doubts = append(r.Doubts, gc.Doubt{What: "repository " + name, Err: err, AnyData: true})
	}
	for _, t := range scan.Tags {
		if t.Err != nil {
			r.Doubts = append(r.Doubts, gc.Doubt{What: "tag " + t.Tag, Err: t.Err})
			continue
		}
		r.Tags = append(r.Tags, gc.Pointer{Tag: t.Tag, Digest: t.Digest})
	}
	for _, f := range scan.Manifests {
		if f.Err != nil {
			x := doubt("manifest", f.Digest, f.Content, f.Err)
			x.Digests = append(x.Digests, f.Names...)
			r.Doubts = append(r.Doubts, x)
			continue
		}
		r.Manifests = append(r.Manifests, gc.Manifest{
			Digest: f.Digest, Content: f.Content, Touched: c.touched(name, f.Digest, f.Linked, f.Written),
			Names: f.Names, Subject: f.Subject,
		})
	}
	for _, b := range scan.Blobs {
		if b.Err != nil {
			r.Doubts = append(r.Doubts, doubt("blob link", b.Digest, b.Content, b.Err))
			continue
		}
		r.Blobs = append(r.Blobs, gc.Membership{Digest: b.Digest, Content: b.Content, Touched: c.touched(name, b.Digest, b.Linked, c.written(b.Content))})
	}
	c.addTombs(ctx, r)
	c.addUnlinked(ctx, r, scan)
	return r, nil
}

func (c *collection) aliasesOf(name string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.aliases[name]
}

// doubtAliases freezes a repository that has several names: what is removed by
// one of them, memory still finds by the others.
func (c *collection) doubtAliases(r *gc.Repository) {
	if others := c.aliasesOf(r.Name); len(others) > 0 {
		r.Doubts = append(r.Doubts, gc.Doubt{
			What: "repository " + r.Name,
			Err:  errors.New("symbolic links lead to it from " + strings.Join(others, ", ")),
		})
	}
}

// doubt is about a link, or about what it leads to. A link that says nothing
// leads to what it is named after, but for those that registry:2 makes for
// another algorithm than its own.
func doubt(what string, d, content oci.Digest, err error) gc.Doubt {
	x := gc.Doubt{What: what + " " + string(d), Err: err, Digests: []oci.Digest{d}}
	switch {
	case content != "":
		x.Digests = append(x.Digests, content)
	case d.Algorithm() != digest.SHA256:
		x.AnyData = true
	}
	return x
}

// Litter implements [gc.Source].
func (c *collection) Litter(ctx context.Context) iter.Seq2[gc.Litter, error] {
	return func(yield func(gc.Litter, error) bool) {
		for l, err := range c.s.meta.ScanLitter(ctx) {
			if t, ok := c.s.leases.last("", uploadLease(l.Key)); ok && gc.Kind(l.Kind) == gc.KindUpload && t.After(l.Changed) {
				l.Changed = t // Somebody was told that it is there.
			}
			if !yield(gc.Litter{Kind: gc.Kind(l.Kind), Repo: l.Repo, Key: l.Key, Size: l.Size, Touched: l.Changed}, err) {
				return
			}
		}
	}
}
