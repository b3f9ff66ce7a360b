package meta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage"
)

// ErrMissing says that something that is named is not there.
var ErrMissing = errors.New("missing")

// ErrDamaged marks what is there but says nothing: an empty link left by a
// power cut, a link that is no digest. It counts as absent, so that serving
// goes on and the next push heals it.
var ErrDamaged = errors.New("damaged")

// maxLink is more than any digest takes.
const maxLink = 1 << 10

// readLink returns the digest that a link holds.
func (m *Meta) readLink(ctx context.Context, key string) (oci.Digest, storage.Info, error) {
	data, info, err := storage.Get(ctx, m.backend, key, maxLink)
	if errors.Is(err, fs.ErrInvalid) { // A directory in its place.
		err = fmt.Errorf("link %s: %w: %w", key, ErrDamaged, err)
	}
	if err != nil {
		return "", info, err
	}
	d, err := oci.ParseDigest(strings.TrimSpace(string(data)))
	if err != nil {
		return "", info, fmt.Errorf("link %s: %w: %w", key, ErrDamaged, err)
	}
	return d, info, nil
}

// absent tells whether err means that there is nothing of use. Damage is
// reported once here, as nobody above hears of it.
func (m *Meta) absent(err error) bool {
	if errors.Is(err, ErrDamaged) || errors.Is(err, storage.ErrTooLarge) {
		m.log.Warn("passing over damage in the store; pushing again heals it", "error", err)
		return true
	}
	return errors.Is(err, fs.ErrNotExist)
}

// orAbsent takes what cannot be read for absent, where it will be written over.
func (m *Meta) orAbsent(load loader[Tag]) loader[Tag] {
	return func() (Tag, bool, error) {
		t, ok, err := load()
		if err != nil {
			m.log.Warn("writing over what cannot be read", "error", err)
		}
		return t, ok && err == nil, nil
	}
}

// readers is how many files are read at once to learn a whole repository.
const readers = 8

// readAll loads every key, and returns beside what is there the keys of which
// that could not be told. It fails only when ctx is done.
func readAll[K comparable, V any](ctx context.Context, log *slog.Logger, keys []K, load func(K) loader[V]) (map[K]V, []K, error) {
	var mu sync.Mutex
	found, unsure := make(map[K]V, len(keys)), []K(nil)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(readers)
	for _, k := range keys {
		group.Go(func() error {
			v, ok, err := load(k)()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				log.Warn("cannot read a part of a repository", "key", k, "error", err)
			}
			if ok && err == nil {
				found[k] = v
			} else {
				unsure = append(unsure, k)
			}
			return nil
		})
	}
	return found, unsure, group.Wait()
}

// removeLink removes a link durably, and the directory made for it.
func (m *Meta) removeLink(ctx context.Context, key string) error {
	if err := m.backend.Remove(ctx, key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := storage.Sync(ctx, m.backend, path.Dir(key)); err != nil {
		return err
	}
	m.removeEmpty(ctx, path.Dir(key))
	return nil
}

// removeEmpty removes a directory if it is empty. That it stays is no error.
func (m *Meta) removeEmpty(ctx context.Context, dir string) {
	err := m.backend.Remove(ctx, dir)
	if err != nil && !errors.Is(err, storage.ErrNotEmpty) && !errors.Is(err, fs.ErrNotExist) {
		m.log.Debug("an empty directory stays", "dir", dir, "error", err)
	}
}

// removeTree removes dir with all in it, one name at a time. A symbolic link
// goes, what it leads to stays: so a name is listed only once it could not be
// removed as it is.
func (m *Meta) removeTree(ctx context.Context, dir string) error {
	return m.removeAll(ctx, dir, func(string) bool { return false })
}

// removeSettled is removeTree that spares scratch, which another request may
// be about to commit, and the directories it is in.
func (m *Meta) removeSettled(ctx context.Context, dir string) error {
	err := m.removeAll(ctx, dir, storage.IsScratch)
	if errors.Is(err, storage.ErrNotEmpty) {
		return nil
	}
	return err
}

func (m *Meta) removeAll(ctx context.Context, key string, spare func(key string) bool) error {
	if spare(key) {
		return nil
	}
	switch err := m.backend.Remove(ctx, key); {
	case err == nil || errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, storage.ErrNotEmpty):
		return err
	}
	var stays error
	for e, err := range m.backend.List(ctx, key) {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			err = m.removeAll(ctx, path.Join(key, e.Name), spare)
		}
		if errors.Is(err, storage.ErrNotEmpty) {
			stays = err // The rest goes all the same.
		} else if err != nil {
			return err
		}
	}
	if stays != nil {
		return stays
	}
	if err := m.backend.Remove(ctx, key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// linked yields the digests by which the links under dir (…/<alg>/<hex>/link)
// are named. What is no digest is passed over.
func (m *Meta) linked(ctx context.Context, dir string, yield func(oci.Digest) error) error {
	for alg, err := range m.backend.List(ctx, dir) {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := oci.ParseAlgorithm(alg.Name); err != nil || !alg.Dir {
			continue
		}
		for hex, err := range m.backend.List(ctx, path.Join(dir, alg.Name)) {
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				return err
			}
			d, err := oci.ParseDigest(alg.Name + ":" + hex.Name)
			if err != nil || !hex.Dir {
				continue
			}
			if err := yield(d); err != nil {
				return err
			}
		}
	}
	return nil
}
