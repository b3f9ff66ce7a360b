package file

import (
	"context"
	"path/filepath"
)

// linker is what an [FS] is that has symbolic links.
type linker interface {
	// Real returns name without any symbolic link in it.
	Real(name string) (string, error)
}

// Real tells where a name really is, as filepath.EvalSymlinks does.
func (OS) Real(name string) (string, error) { return filepath.EvalSymlinks(name) }

// Resolve implements [storage.Resolver].
func (b *Backend) Resolve(_ context.Context, key string) (string, error) {
	if err := checkDir(key); err != nil {
		return "", err
	}
	name := b.path(key)
	if _, err := b.fs.Stat(name); err != nil { // Its errors tell what is missing.
		return "", missing(err)
	}
	if l, ok := b.fs.(linker); ok {
		real, err := l.Real(name)
		return real, missing(err)
	}
	return filepath.Clean(name), nil
}
