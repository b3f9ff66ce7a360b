package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/regctl/regctl/serve/storage"
)

// Rename implements [storage.Backend].
func (b *Backend) Rename(_ context.Context, from, to string) error {
	if err := errors.Join(storage.CheckKey(from), storage.CheckKey(to)); err != nil {
		return err
	}
	// Asked first, so that no directories are made for nothing.
	info, err := b.fs.Stat(b.path(from))
	if err != nil {
		return missing(err)
	}
	return b.inDir(path.Dir(to), func() error {
		return b.dirs.rename(from, to, info.IsDir(), func() error {
			return b.fs.Rename(b.path(from), b.path(to))
		})
	})
}

// Remove implements [storage.Backend].
func (b *Backend) Remove(_ context.Context, key string) error {
	if err := storage.CheckKey(key); err != nil {
		return err
	}
	return b.remove(key)
}

func (b *Backend) remove(key string) error {
	m := b.dirs.lookup(key)
	if err := b.fs.Remove(b.path(key)); err != nil {
		return notRemoved(err)
	}
	b.dirs.settle(m)
	return nil
}

// rmdir removes the directory dir if nothing is in it. It is tidiness only.
func (b *Backend) rmdir(dir string) {
	if dir != "." {
		_ = b.remove(dir)
	}
}

// Sync implements [storage.Syncer].
func (b *Backend) Sync(_ context.Context, dir string) error {
	if err := checkDir(dir); err != nil {
		return err
	}
	return b.syncDirs([]string{dir})
}

// syncDirs makes the names in all dirs durable, and dirs with all above them.
func (b *Backend) syncDirs(dirs []string) error {
	if b.noSync {
		return nil
	}
	var marks []mark
	sync := slices.Clone(dirs)
	for _, dir := range dirs {
		marks = append(marks, b.dirs.pending(dir)...)
	}
	for _, m := range marks {
		sync = append(sync, path.Dir(m.dir))
	}
	slices.Sort(sync)
	sync = slices.Compact(sync)
	if err := atOnce(len(sync), func(i int) error { return b.syncOne(sync[i]) }); err != nil {
		return err
	}
	for _, m := range marks {
		b.dirs.settle(m)
	}
	return nil
}

// syncOne makes the names in dir durable. A directory that is gone had its
// names taken out, or went elsewhere with them: the change is another's.
func (b *Backend) syncOne(dir string) error {
	err := missing(b.fs.SyncDir(b.path(dir)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return refused(err)
}

// inDir calls change, which makes a name in dir. While that finds dir gone,
// dir is made and change called again.
func (b *Backend) inDir(dir string, change func() error) error {
	var err error
	for range attempts {
		if err = change(); !errors.Is(err, fs.ErrNotExist) {
			return refused(err)
		}
		if err := b.makeDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return refused(err)
		}
	}
	return fmt.Errorf("gave up after %d attempts: %w", attempts, err)
}

// makeDir makes dir and what is missing above it. fs.ErrNotExist says that
// something above vanished meanwhile.
func (b *Backend) makeDir(dir string) error {
	if dir == "." {
		return nil
	}
	err := b.mkdir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := b.makeDir(path.Dir(dir)); err != nil {
			return err
		}
		err = b.mkdir(dir)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func (b *Backend) mkdir(dir string) error {
	if err := b.dirs.mkdir(dir, func() error { return b.fs.Mkdir(b.path(dir), dirPerm) }); err != nil {
		return err
	}
	return b.adopt(dir)
}

// adopt gives what was made under key to the owner of the root.
func (b *Backend) adopt(key string) error {
	if b.owner == nil {
		return nil
	}
	err := b.fs.Chown(b.path(key), b.owner.uid, b.owner.gid)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // Removed meanwhile, as empty directories are.
	}
	return err
}
