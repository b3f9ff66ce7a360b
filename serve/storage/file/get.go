package file

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/regctl/regctl/serve/storage"
)

// quick is what an [FS] is that reads a small file in fewer steps than by
// opening it.
type quick interface {
	// ReadSmall returns what is in a file and what Stat says of it. What is no
	// file is fs.ErrInvalid; of one larger than most only the latter.
	ReadSmall(name string, most int64) ([]byte, storage.Info, error)
}

// Get implements [storage.Getter].
func (b *Backend) Get(ctx context.Context, key string, most int64) ([]byte, storage.Info, error) {
	q, ok := b.fs.(quick)
	if !ok {
		return storage.Get(ctx, struct{ storage.Backend }{b}, key, most)
	}
	if err := storage.CheckKey(key); err != nil {
		return nil, storage.Info{}, err
	}
	data, info, err := q.ReadSmall(b.path(key), most)
	if err != nil {
		return nil, info, missing(err)
	}
	if info.Size > most {
		return nil, info, fmt.Errorf("%s: %w: %d bytes, at most %d expected", key, storage.ErrTooLarge, info.Size, most)
	}
	return data, info, nil
}

func noFile(name string) error {
	return &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("is no file: %w", fs.ErrInvalid)}
}
