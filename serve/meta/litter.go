package meta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage"
)

// The kinds of litter.
const (
	LitterUpload  = "upload"  // An unfinished upload.
	LitterScratch = "scratch" // A file that a crash left before it was whole.
	LitterRemains = "remains" // What is left of a tag, or of a repository that was set aside.
	LitterEmpty   = "empty"   // Directories with nothing in them.
)

// LitterScan is something that no pull can reach.
type LitterScan struct {
	Kind    string
	Repo    string // "" if it is not known to belong to one.
	Key     string
	Size    int64
	Changed time.Time // The latest change of anything in it.
}

// ScanLitter yields litter: unfinished uploads, ours and those of registry:2;
// directories that were set aside; tag directories without a tag; scratch
// beside the links of tags; repositories with nothing in them; and in the
// directories that [Meta.ScanData] and [Meta.ScanRepo] found, since the last
// call, without what they are for: scratch, or nothing. So nothing is listed
// for it that holds what it should: scratch beside data, or beside the link of
// a manifest or a blob, stays until that is gone.
//
// An error says what could not be looked at.
func (m *Meta) ScanLitter(ctx context.Context) iter.Seq2[LitterScan, error] {
	return func(yield func(LitterScan, error) bool) {
		w := &walk{m: m, byReal: map[string]int{}}
		_ = w.begin(ctx) // What it cannot see is told by ScanRepos.
		s := &litterScan{m: m, yield: yield}
		s.uploads(ctx, w)
		for _, key := range w.aside {
			s.tree(ctx, LitterScan{Kind: LitterRemains, Key: key})
		}
		for _, key := range w.bare {
			s.tree(ctx, LitterScan{Kind: LitterEmpty, Key: key})
		}
		for _, r := range w.dirs {
			s.repo(ctx, r)
		}
		for _, t := range m.traces.take() {
			s.trace(ctx, t)
		}
		if err := ctx.Err(); err != nil && !s.ended {
			yield(LitterScan{}, err)
		}
	}
}

type litterScan struct {
	m     *Meta
	yield func(LitterScan, error) bool
	ended bool
}

func (s *litterScan) found(l LitterScan, err error) {
	if !s.ended {
		s.ended = !s.yield(l, err)
	}
}

// over tells whether there is no sense in going on.
func (s *litterScan) over(ctx context.Context) bool { return s.ended || ctx.Err() != nil }

func (s *litterScan) failed(err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, context.Canceled) {
		s.found(LitterScan{}, err)
	}
}

// tree yields l with what is in it.
func (s *litterScan) tree(ctx context.Context, l LitterScan) {
	if s.over(ctx) {
		return
	}
	var err error
	if l.Size, l.Changed, err = s.m.measureLitter(ctx, l); err != nil {
		s.failed(err)
		return
	}
	s.found(l, nil)
}

// measureLitter is measure of l.Key. Other repositories below the name of an
// empty one are no part of it; without its own parts it does not exist.
func (m *Meta) measureLitter(ctx context.Context, l LitterScan) (size int64, changed time.Time, err error) {
	if l.Repo == "" || l.Key != repoDir(l.Repo) {
		return m.measure(ctx, l.Key)
	}
	missing := 0
	for _, part := range parts {
		n, at, err := m.measure(ctx, path.Join(l.Key, part))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if missing++; missing == len(parts) {
				return 0, time.Time{}, err
			}
			continue
		case err != nil:
			return 0, time.Time{}, err
		}
		size += n
		if at.After(changed) {
			changed = at
		}
	}
	return size, changed, nil
}

// measure returns the size of all below key, and the latest change of any.
func (m *Meta) measure(ctx context.Context, key string) (int64, time.Time, error) {
	info, err := m.backend.Stat(ctx, key)
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("look at %s: %w", key, err)
	}
	size, changed := info.Size, info.ModTime
	if !info.Dir {
		return size, changed, nil
	}
	for e, err := range m.backend.List(ctx, key) {
		var n int64
		var at time.Time
		switch {
		case err != nil:
			err = fmt.Errorf("list %s: %w", key, err)
		case e.Link: // What it leads to is not in key.
		default:
			n, at, err = m.measure(ctx, path.Join(key, e.Name))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, time.Time{}, err
		}
		size += n
		if at.After(changed) {
			changed = at
		}
	}
	return size, changed, nil
}

// uploads yields unfinished uploads of ours. Whose they are tells the hash of
// a name that is known.
func (s *litterScan) uploads(ctx context.Context, w *walk) {
	owners := map[string]string{}
	for _, r := range w.dirs {
		for _, name := range append(slices.Clone(r.Aliases), r.Name) {
			owners[uploadPrefix(name)] = name
		}
	}
	for e, err := range s.m.backend.List(ctx, uploadsDir) {
		if s.over(ctx) {
			return
		}
		if err != nil {
			s.failed(fmt.Errorf("list %s: %w", uploadsDir, err))
			continue
		}
		if prefix, _, ok := strings.Cut(e.Name, "-"); ok && !e.Dir {
			s.tree(ctx, LitterScan{Kind: LitterUpload, Repo: owners[prefix+"-"], Key: path.Join(uploadsDir, e.Name)})
		}
	}
}

// repo yields what is litter in a repository, or that there is nothing in it.
func (s *litterScan) repo(ctx context.Context, r walked) {
	if s.over(ctx) {
		return
	}
	name := r.Name
	has, err := s.m.holdsFile(ctx, name)
	if err != nil {
		s.failed(err)
		return
	}
	if !has {
		if r.plain {
			s.tree(ctx, LitterScan{Kind: LitterEmpty, Repo: name, Key: repoDir(name)})
		}
		return
	}
	for id, err := range s.m.dirsIn(ctx, uploadDir(name)) {
		s.failed(err)
		if err == nil {
			s.tree(ctx, LitterScan{Kind: LitterUpload, Repo: name, Key: path.Join(uploadDir(name), id)})
		}
	}
	for tag, err := range s.m.dirsIn(ctx, tagsDir(name)) {
		if s.over(ctx) {
			return
		}
		s.failed(err)
		if err == nil {
			s.tag(ctx, name, tag)
		}
	}
}

// holdsFile tells whether there is anything but directories in the parts of a
// repository.
func (m *Meta) holdsFile(ctx context.Context, repo string) (bool, error) {
	for _, part := range parts {
		if has, err := m.hasFile(ctx, path.Join(repoDir(repo), part)); err != nil || has {
			return has, err
		}
	}
	return false, nil
}

func (m *Meta) hasFile(ctx context.Context, dir string) (bool, error) {
	for e, err := range m.backend.List(ctx, dir) {
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("list %s: %w", dir, err)
		}
		if e.Link || !e.Dir {
			return true, nil
		}
		if has, err := m.hasFile(ctx, path.Join(dir, e.Name)); err != nil || has {
			return has, err
		}
	}
	return false, nil
}

// tag looks beside the link of a tag. Whatever goes on with a tag begins
// there: scratch elsewhere in its directory is there only if some is here.
func (s *litterScan) tag(ctx context.Context, repo, tag string) {
	link, scratch := false, false
	for e, err := range s.m.backend.List(ctx, path.Dir(tagLink(repo, tag))) {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.failed(fmt.Errorf("list %s: %w", path.Dir(tagLink(repo, tag)), err))
			return
		}
		link = link || e.Name == "link"
		scratch = scratch || err == nil && !e.Dir && storage.IsScratch(e.Name)
	}
	switch {
	case !link && oci.CheckTag(tag) == nil:
		s.tree(ctx, LitterScan{Kind: LitterRemains, Repo: repo, Key: tagDir(repo, tag)})
	case scratch:
		s.scratch(ctx, trace{repo, tagDir(repo, tag)})
	}
}

// scratch yields the scratch in a directory and below it, and tells whether
// there is anything at all.
func (s *litterScan) scratch(ctx context.Context, t trace) (empty bool) {
	empty = true
	for e, err := range s.m.backend.List(ctx, t.dir) {
		if s.over(ctx) {
			return false
		}
		if err != nil {
			s.failed(fmt.Errorf("list %s: %w", t.dir, err))
			return false
		}
		empty = false
		key := path.Join(t.dir, e.Name)
		switch {
		case e.Link:
		case e.Dir:
			s.scratch(ctx, trace{t.repo, key})
		case storage.IsScratch(e.Name):
			s.tree(ctx, LitterScan{Kind: LitterScratch, Repo: t.repo, Key: key})
		}
	}
	return empty
}

// trace looks at a directory that was without what it is for.
func (s *litterScan) trace(ctx context.Context, t trace) {
	if s.over(ctx) {
		return
	}
	if s.scratch(ctx, t) {
		s.tree(ctx, LitterScan{Kind: LitterEmpty, Repo: t.repo, Key: t.dir})
	}
}
