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

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage"
)

// The scans read the disk, never memory, and go on where something cannot be
// read: they say so and leave it to the caller what to keep for that.

// RepoName is a repository by its name.
type RepoName struct {
	Name string
	// Aliases are other names that lead to the same directory by a symbolic
	// link. What is changed by one name is changed by all of them.
	Aliases []string
}

// ScanRepos yields every directory that has _manifests, _layers or _uploads in
// it, in order of names, also through symbolic links. An error says what could
// not be listed, or that a directory holds links though no repository can be
// called that, or a symbolic link that leads nowhere: there may be more
// repositories then. So it does when blobs are there and no repositories
// directory.
func (m *Meta) ScanRepos(ctx context.Context) iter.Seq2[RepoName, error] {
	return func(yield func(RepoName, error) bool) {
		w := &walk{m: m, byReal: map[string]int{}}
		err := w.begin(ctx)
		for _, r := range w.sorted() {
			if !yield(r, nil) {
				return
			}
		}
		for _, e := range append(w.errs, err) {
			if e != nil && !yield(RepoName{}, e) {
				return
			}
		}
	}
}

// walk finds the directories of repositories.
type walk struct {
	m      *Meta
	dirs   []walked
	byReal map[string]int // Index in dirs of what is really in one place.
	errs   []error
	aside  []string // Keys of directories that were set aside.
	bare   []string // Keys of directories with nothing in them.
}

// walked is a directory of a repository.
type walked struct {
	RepoName
	real  string
	link  bool // It is a symbolic link.
	plain bool // It is none, nor is what it is in.
}

func (w *walk) begin(ctx context.Context) error {
	real, err := storage.Resolve(ctx, w.m.backend, repositories)
	if errors.Is(err, fs.ErrNotExist) {
		return w.unrooted(ctx)
	}
	if err != nil {
		return fmt.Errorf("find %s: %w", repositories, err)
	}
	switch info, err := w.m.backend.Stat(ctx, repositories); {
	case errors.Is(err, fs.ErrNotExist):
		return w.unrooted(ctx)
	case err != nil:
		return fmt.Errorf("find %s: %w", repositories, err)
	case !info.Dir:
		return noDir(repositories)
	}
	return w.visit(ctx, walked{real: real, plain: true})
}

// unrooted tells whether it is in order that there are no repositories.
func (w *walk) unrooted(ctx context.Context) error {
	for e, err := range w.m.backend.List(ctx, blobsDir) {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return fmt.Errorf("list %s: %w", blobsDir, err)
		case e.Dir:
			return fmt.Errorf("%w: there are blobs, but no %s", ErrMissing, repositories)
		}
	}
	return nil
}

// visit looks at a directory and those below it. The error is that of ctx.
func (w *walk) visit(ctx context.Context, at walked) error {
	key := path.Join(repositories, at.Name)
	isRepo, n := false, 0
	for e, err := range w.m.backend.List(ctx, key) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n++
		if err != nil {
			w.failed(key, err)
			continue
		}
		child := path.Join(key, e.Name)
		switch {
		case strings.HasPrefix(e.Name, "_"):
			isRepo = isRepo || slices.Contains(parts, e.Name)
			if err := w.part(ctx, at, e); err != nil {
				return err
			}
		case e.Link && !e.Dir:
			if err := w.m.followed(ctx, child); err != nil {
				w.errs = append(w.errs, err)
			}
		case !e.Dir || slices.Contains(junk, e.Name):
		default:
			if err := w.below(ctx, at, e); err != nil {
				return err
			}
		}
	}
	switch {
	case n > 0:
	case at.link:
		w.errs = append(w.errs, fmt.Errorf("%s is a symbolic link to a directory with nothing in it, as if something is not mounted", key))
	case at.plain && oci.CheckRepo(at.Name) == nil:
		w.bare = append(w.bare, key)
	}
	if isRepo {
		w.add(ctx, at)
	}
	return nil
}

// junk are directories that systems make everywhere. What is in them, old
// copies of repositories at worst, is no client's.
var junk = []string{"lost+found", ".snapshot", ".snapshots", ".zfs", "@eaDir", "#recycle", "#snapshot", ".Trash"}

// part looks at a name that begins with "_". What is neither a part of a
// repository nor of ours was one that somebody set aside, or a part of one, and
// may want back.
func (w *walk) part(ctx context.Context, at walked, e storage.Entry) error {
	name := path.Join(at.Name, e.Name)
	switch {
	case slices.Contains(parts, e.Name):
		if e.Link {
			w.errs = append(w.errs, shared(repoDir(name)))
		} else if !e.Dir {
			w.errs = append(w.errs, noDir(repoDir(name)))
		}
	case !e.Dir:
	case isAside(e.Name):
		w.aside = append(w.aside, repoDir(name))
	default:
		w.unnamed(ctx, name, partDirs(name)...)
		return w.below(ctx, at, e)
	}
	return nil
}

func (w *walk) below(ctx context.Context, at walked, e storage.Entry) error {
	child := walked{RepoName: RepoName{Name: path.Join(at.Name, e.Name)}, real: path.Join(at.real, e.Name), plain: at.plain}
	if e.Link {
		real, err := storage.Resolve(ctx, w.m.backend, path.Join(repositories, child.Name))
		if err != nil {
			w.failed(path.Join(repositories, child.Name), err)
			return nil
		}
		child.real, child.link, child.plain = real, true, false
	}
	return w.visit(ctx, child)
}

func (w *walk) failed(key string, err error) {
	if !errors.Is(err, fs.ErrNotExist) {
		w.errs = append(w.errs, fmt.Errorf("list %s: %w", key, err))
	}
}

// add notes a repository, or one more name for it.
func (w *walk) add(ctx context.Context, at walked) {
	if oci.CheckRepo(at.Name) != nil {
		w.unnamed(ctx, at.Name, revisionDir(at.Name), layerDir(at.Name))
		return
	}
	i, found := w.byReal[at.real]
	if !found {
		w.byReal[at.real] = len(w.dirs)
		w.dirs = append(w.dirs, at)
		return
	}
	r := &w.dirs[i]
	if at.plain && !r.plain {
		r.Aliases = append(r.Aliases, r.Name)
		r.Name, r.plain = at.Name, true
		return
	}
	r.Aliases = append(r.Aliases, at.Name)
}

// shared is why nothing goes when a directory of links is a symbolic link.
func shared(key string) error {
	return fmt.Errorf("%s is a symbolic link: other repositories may share what is in it", key)
}

// noDir is why nothing goes when there is a file instead of a directory of
// links: nobody knows what was in that.
func noDir(key string) error { return fmt.Errorf("%w: %s is no directory", ErrDamaged, key) }

// partDirs are where the links would be of a part of a repository.
func partDirs(name string) []string {
	return []string{path.Join(repoDir(name), "revisions"), repoDir(name)}
}

// unnamed looks at a repository that no client can ask for, where its links
// would be. If it holds any somebody set it aside, and may want it back.
func (w *walk) unnamed(ctx context.Context, name string, dirs ...string) {
	for _, dir := range dirs {
		has, err := w.m.hasLink(ctx, dir)
		if err != nil {
			w.failed(dir, err)
		}
		if has {
			w.errs = append(w.errs, fmt.Errorf("%s holds links, though no repository can be called that", repoDir(name)))
			return
		}
	}
}

func (w *walk) sorted() []RepoName {
	names := make([]RepoName, len(w.dirs))
	for i, d := range w.dirs {
		slices.Sort(d.Aliases)
		names[i] = d.RepoName
	}
	slices.SortFunc(names, func(a, b RepoName) int { return strings.Compare(a.Name, b.Name) })
	return names
}
