package meta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage"
)

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

// A Move is a tag on its way to a manifest. It ends with Commit or Cancel;
// after either, Cancel does nothing.
type Move struct {
	h   *Repo
	tag string
	to  oci.Digest
	now storage.Writer // The link of the tag, to be.

	ended bool
}

// PrepareMove gets ready to point a tag at d, which nobody sees yet. The error
// is [ErrCase] if the backend cannot tell the tag from another one.
func (h *Repo) PrepareMove(ctx context.Context, tag string, d oci.Digest) (*Move, error) {
	if err := h.checkCase(ctx, tag); err != nil {
		return nil, err
	}
	now, err := storage.Prepare(ctx, h.m.backend, tagLink(h.r.name, tag), []byte(d))
	if err != nil {
		h.tidyTag(ctx, tag)
		return nil, err
	}
	return &Move{h: h, tag: tag, to: d, now: now.Writer}, nil
}

// Commit points the tag at its manifest, durably. With noOverwrite it fails
// with [ErrChanged] if the tag points elsewhere.
func (v *Move) Commit(ctx context.Context, noOverwrite bool) error {
	h := v.h
	load := h.tagLoader(ctx, v.tag)
	if !noOverwrite {
		load = h.m.orAbsent(load) // Where the tag pointed does not matter.
	}
	v.ended = true
	return h.r.tags.change(v.tag, load, func(old Tag, had bool) (Tag, bool, error) {
		if had && noOverwrite && old.Digest != v.to {
			return Tag{}, false, errors.Join(fmt.Errorf("%w: to %s", ErrChanged, old.Digest), v.now.Cancel())
		}
		if err := v.commit(ctx); err != nil {
			if !had {
				h.forgetHistory(ctx, v.tag)
			}
			return Tag{}, false, err
		}
		info, err := h.m.backend.Stat(ctx, tagLink(h.r.name, v.tag))
		return Tag{Digest: v.to, Moved: info.ModTime}, true, err
	})
}

func (v *Move) commit(ctx context.Context) error {
	history, err := v.history(ctx)
	if err == nil {
		err = storage.CommitAll(ctx, v.h.m.backend, history...)
	}
	if err != nil {
		return errors.Join(err, v.now.Cancel())
	}
	return v.now.Commit(ctx, tagLink(v.h.r.name, v.tag))
}

// Cancel leaves the tag where it is, and no trace of one that is not there:
// registry:2 takes every directory for a tag.
func (v *Move) Cancel(ctx context.Context) error {
	err := v.now.Cancel()
	if !v.ended {
		v.ended = true
		v.h.tidyTag(ctx, v.tag)
	}
	return err
}

// tidyTag removes the directory of a tag that does not exist.
func (h *Repo) tidyTag(ctx context.Context, tag string) {
	_ = h.r.tags.change(tag, h.tagLoader(ctx, tag), func(old Tag, had bool) (Tag, bool, error) {
		if !had {
			h.forgetHistory(ctx, tag)
		}
		return old, had, nil
	})
}

// history returns the link that remembers where the tag ever pointed, unless
// it is there already. It is written before the tag moves.
func (v *Move) history(ctx context.Context) ([]storage.Pending, error) {
	key := tagIndexLink(v.h.r.name, v.tag, v.to)
	if got, _, err := v.h.m.readLink(ctx, key); err == nil && got == v.to {
		return nil, nil
	}
	p, err := storage.Prepare(ctx, v.h.m.backend, key, []byte(v.to))
	return []storage.Pending{p}, err
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
	if err := h.m.removeSettled(ctx, tagDir(h.r.name, tag)); err != nil {
		h.m.log.Debug("the history of a removed tag stays", "repo", h.r.name, "tag", tag, "error", err)
	}
}

// TagsOf returns the tags that point to d. A tag that cannot be read is an
// error: it may be one of them.
func (h *Repo) TagsOf(ctx context.Context, d oci.Digest) ([]string, error) {
	if err := h.loadTags(ctx); err != nil {
		return nil, err
	}
	for _, tag := range h.r.tags.doubts() {
		if _, err := h.Tag(ctx, tag); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
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

// loadTags reads every tag of the repository. One that cannot be read is
// reported and left out: it must not hide the others.
func (h *Repo) loadTags(ctx context.Context) error {
	return h.r.tags.all(func() (map[string]Tag, []string, error) {
		var names []string
		for e, err := range h.m.backend.List(ctx, tagsDir(h.r.name)) {
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				return nil, nil, err
			}
			if e.Dir && oci.CheckTag(e.Name) == nil {
				names = append(names, e.Name)
			}
		}
		return readAll(ctx, h.m.log, names, func(tag string) loader[Tag] { return h.tagLoader(ctx, tag) })
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
