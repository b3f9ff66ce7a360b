package meta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/regctl/regctl/serve/storage"
)

// touchedError is an [ErrChanged] of litter.
type touchedError struct{ key string }

func (e *touchedError) Error() string        { return e.key + " was touched meanwhile" }
func (e *touchedError) Is(target error) bool { return target == ErrChanged }

// RemoveLitter removes litter and the directories that this leaves empty,
// unless it was touched since l.Changed, or holds by now what it was without:
// an error for which errors.Is(err, [ErrChanged]) holds. fs.ErrNotExist: it is
// gone already. Nobody writes to an upload or commits scratch that is removed
// meanwhile: the caller knows that it is too old for that, or keeps others out.
// It is durable after [Meta.Settle].
func (m *Meta) RemoveLitter(ctx context.Context, l LitterScan) error {
	if storage.CheckKey(l.Key) != nil || !strings.HasPrefix(l.Key, root+"/") {
		return fmt.Errorf("remove litter %q: no key of the layout: %w", l.Key, fs.ErrInvalid)
	}
	switch _, changed, err := m.measureLitter(ctx, l); {
	case err != nil:
		return err
	case changed.After(l.Changed):
		return &touchedError{l.Key}
	}
	err := m.removeLitter(ctx, l)
	m.unsynced.freed(path.Dir(l.Key))
	if err != nil {
		return err
	}
	if l.Kind == LitterScratch { // The directory made for it.
		m.removeEmpty(ctx, path.Dir(l.Key))
	}
	m.removeAbove(ctx, path.Dir(l.Key))
	return nil
}

func (m *Meta) removeLitter(ctx context.Context, l LitterScan) error {
	repo, tag, isTag := cutTag(l.Key)
	switch {
	case l.Kind == LitterUpload && isUpload(l.Key):
		return m.removeTree(ctx, l.Key)
	case l.Kind == LitterScratch && storage.IsScratch(l.Key):
		return m.backend.Remove(ctx, l.Key)
	case l.Kind == LitterRemains && isAside(path.Base(l.Key)):
		return m.removeTree(ctx, l.Key)
	case l.Kind == LitterRemains && isTag:
		return m.removeTagDir(ctx, repo, tag)
	case l.Kind == LitterEmpty && l.Repo != "" && l.Key == repoDir(l.Repo):
		return m.removeEmptyRepo(ctx, l.Repo)
	case l.Kind == LitterEmpty:
		return m.removeDir(ctx, l.Key)
	}
	return fmt.Errorf("remove litter %s: it is no %s: %w", l.Key, l.Kind, fs.ErrInvalid)
}

// removeDir removes a directory with nothing in it.
func (m *Meta) removeDir(ctx context.Context, key string) error {
	info, err := m.backend.Stat(ctx, key)
	if err == nil && !info.Dir {
		err = fmt.Errorf("%s is no directory: %w", key, fs.ErrInvalid)
	}
	if err != nil {
		return err
	}
	return whole(m.backend.Remove(ctx, key), key)
}

// whole says of a directory that is not empty that it was touched.
func whole(err error, key string) error {
	if errors.Is(err, storage.ErrNotEmpty) {
		return &touchedError{key}
	}
	return err
}

// isUpload tells whether key is that of an upload, ours or of registry:2.
func isUpload(key string) bool {
	dir := path.Dir(key)
	return dir == uploadsDir || strings.HasPrefix(dir, repositories+"/") && path.Base(dir) == uploads
}

// cutTag takes the directory of a tag apart.
func cutTag(key string) (repo, tag string, ok bool) {
	dir, tag := path.Split(key)
	repo, ok = strings.CutSuffix(path.Clean(dir), "/"+manifests+"/tags")
	if !ok {
		return "", "", false
	}
	repo, ok = strings.CutPrefix(repo, repositories+"/")
	return repo, tag, ok
}

// removeTagDir removes what is left of a tag, unless it is one again.
func (m *Meta) removeTagDir(ctx context.Context, repo, tag string) error {
	h := m.Open(repo)
	defer h.Close()
	return h.r.tags.hold(tag, func() error {
		switch _, err := m.backend.Stat(ctx, tagLink(repo, tag)); {
		case err == nil:
			return &touchedError{tagDir(repo, tag)}
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		return whole(m.removeTree(ctx, tagDir(repo, tag)), tagDir(repo, tag))
	})
}

// removeEmptyRepo removes the directories of a repository that holds no file.
// Repositories below its name stay.
func (m *Meta) removeEmptyRepo(ctx context.Context, repo string) error {
	for _, part := range parts {
		if err := m.removeBare(ctx, path.Join(repoDir(repo), part)); err != nil {
			return err
		}
	}
	err := m.backend.Remove(ctx, repoDir(repo))
	if errors.Is(err, storage.ErrNotEmpty) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// removeBare removes a directory and those in it. A file is an [ErrChanged].
func (m *Meta) removeBare(ctx context.Context, dir string) error {
	for e, err := range m.backend.List(ctx, dir) {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return err
		case e.Link || !e.Dir:
			return &touchedError{path.Join(dir, e.Name)}
		}
		if err := m.removeBare(ctx, path.Join(dir, e.Name)); err != nil {
			return err
		}
	}
	if err := m.backend.Remove(ctx, dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return whole(err, dir)
	}
	return nil
}

// removeAbove removes dir and the directories above it as long as they are
// empty, but no part of a repository: registry:2 misses those.
func (m *Meta) removeAbove(ctx context.Context, dir string) {
	for path.Dir(dir) != root && strings.HasPrefix(dir, root+"/") && !strings.Contains(dir, "/_") {
		err := m.backend.Remove(ctx, dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
		dir = path.Dir(dir)
		m.unsynced.freed(dir)
	}
}
