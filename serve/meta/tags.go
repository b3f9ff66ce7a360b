package meta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage"
)

// readers is how many files are read at once to learn a whole repository.
const readers = 8

// Tag returns where a tag points, fs.ErrNotExist if there is none.
func (h *Repo) Tag(ctx context.Context, tag string) (Tag, error) {
	if err := h.exactCase(ctx); err != nil {
		return Tag{}, err
	}
	t, ok, err := h.r.tags.get(tag, h.tagLoader(ctx, tag))
	if err == nil && !ok {
		err = fs.ErrNotExist
	}
	return t, err
}

// MoveTag points a tag at d. With noOverwrite it fails with [ErrChanged] if
// the tag points elsewhere.
func (h *Repo) MoveTag(ctx context.Context, tag string, d oci.Digest, noOverwrite bool) error {
	if err := h.checkCase(ctx, tag); err != nil {
		return err
	}
	name := h.r.name
	return h.r.tags.change(tag, h.tagLoader(ctx, tag), func(old Tag, had bool) (Tag, bool, error) {
		if had && noOverwrite && old.Digest != d {
			return Tag{}, false, fmt.Errorf("%w: to %s", ErrChanged, old.Digest)
		}
		if err := h.m.point(ctx, tagLink(name, tag), tagIndexLink(name, tag, d), d); err != nil {
			return Tag{}, false, err
		}
		info, err := h.m.backend.Stat(ctx, tagLink(name, tag))
		return Tag{Digest: d, Moved: info.ModTime}, true, err
	})
}

// RemoveTag removes a tag, fs.ErrNotExist if there is none. If was is not
// empty and the tag points elsewhere it fails with [ErrChanged].
func (h *Repo) RemoveTag(ctx context.Context, tag string, was oci.Digest) error {
	if err := h.exactCase(ctx); err != nil {
		return err
	}
	err := h.r.tags.change(tag, h.tagLoader(ctx, tag), func(old Tag, had bool) (Tag, bool, error) {
		switch {
		case !had:
			return Tag{}, false, fs.ErrNotExist
		case was != "" && old.Digest != was:
			return Tag{}, false, fmt.Errorf("%w: to %s", ErrChanged, old.Digest)
		}
		if err := h.m.removeLink(ctx, tagLink(h.r.name, tag)); err != nil {
			return Tag{}, false, err
		}
		h.forgetHistory(ctx, tag)
		return Tag{}, false, nil
	})
	return err
}

// forgetHistory removes what is left of a tag that is gone already.
func (h *Repo) forgetHistory(ctx context.Context, tag string) {
	if err := h.m.removeTree(ctx, tagDir(h.r.name, tag)); err != nil {
		h.m.log.Debug("the history of a removed tag stays", "repo", h.r.name, "tag", tag, "error", err)
	}
}

// TagsOf returns the tags that point to d.
func (h *Repo) TagsOf(ctx context.Context, d oci.Digest) ([]string, error) {
	if err := h.loadTags(ctx); err != nil {
		return nil, err
	}
	var tags []string
	h.r.tags.each(func(tag string, t Tag) {
		if t.Digest == d {
			tags = append(tags, tag)
		}
	})
	return tags, nil
}

// Tags yields the tags of a repository that follow after, in bytewise order.
// The repository is not held while the caller works on a tag.
func (m *Meta) Tags(ctx context.Context, repo, after string) iter.Seq2[string, error] {
	const page = 1000
	return func(yield func(string, error) bool) {
		for {
			tags, err := m.tagPage(ctx, repo, after, page)
			if err != nil {
				yield("", err)
				return
			}
			for _, tag := range tags {
				if !yield(tag, nil) {
					return
				}
				after = tag
			}
			if len(tags) < page {
				return
			}
		}
	}
}

func (m *Meta) tagPage(ctx context.Context, repo, after string, n int) ([]string, error) {
	h := m.Open(repo)
	defer h.Close()
	if err := h.loadTags(ctx); err != nil {
		return nil, err
	}
	return h.r.tags.after(after, n), nil
}

func (h *Repo) tagLoader(ctx context.Context, tag string) loader[Tag] {
	return func() (Tag, bool, error) {
		d, info, err := h.m.readLink(ctx, tagLink(h.r.name, tag))
		if err != nil {
			if h.m.absent(err) {
				err = nil
			}
			return Tag{}, false, err
		}
		return Tag{Digest: d, Moved: info.ModTime}, true, nil
	}
}

// loadTags reads every tag of the repository.
func (h *Repo) loadTags(ctx context.Context) error {
	return h.r.tags.all(func() (map[string]Tag, error) {
		var mu sync.Mutex
		tags := map[string]Tag{}
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(readers)
		for e, err := range h.m.backend.List(ctx, tagsDir(h.r.name)) {
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				return nil, errors.Join(err, group.Wait())
			}
			if !e.Dir || oci.CheckTag(e.Name) != nil {
				continue
			}
			group.Go(func() error {
				t, ok, err := h.tagLoader(ctx, e.Name)()
				if err == nil && ok {
					mu.Lock()
					defer mu.Unlock()
					tags[e.Name] = t
				}
				return err
			})
		}
		return tags, group.Wait()
	})
}

// exactCase makes sure that no tag is looked up on a backend that takes
// "Latest" for "latest": there, all names are read, and memory answers.
func (h *Repo) exactCase(ctx context.Context) error {
	if !storage.FoldsCase(h.m.backend) {
		return nil
	}
	return h.loadTags(ctx)
}

// ErrCase says that a name differs from an existing one only in case, and the
// backend cannot hold both.
var ErrCase = errors.New("this storage does not tell upper from lower case")

func (h *Repo) checkCase(ctx context.Context, tag string) error {
	if err := h.exactCase(ctx); err != nil || !storage.FoldsCase(h.m.backend) {
		return err
	}
	var clash string
	h.r.tags.each(func(other string, _ Tag) {
		if other != tag && strings.EqualFold(other, tag) {
			clash = other
		}
	})
	if clash != "" {
		return fmt.Errorf("tag %s: %w, and there is %s", tag, ErrCase, clash)
	}
	return nil
}

// point writes the link of a tag after the one of its history, which may be
// there already. Both wait for the device at the same time.
func (m *Meta) point(ctx context.Context, current, history string, d oci.Digest) error {
	now, err := storage.Prepare(ctx, m.backend, current, []byte(d))
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.Go(now.Writer.Sync)
	group.Go(func() error {
		if got, _, err := m.readLink(ctx, history); err == nil && got == d {
			return nil
		}
		return storage.Put(ctx, m.backend, history, []byte(d))
	})
	if err := group.Wait(); err != nil {
		return errors.Join(err, now.Writer.Cancel())
	}
	return now.Writer.Commit(ctx, current)
}
