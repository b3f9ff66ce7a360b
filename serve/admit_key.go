package serve

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"
)

const (
	// uploadKeyFile holds the key that binds uploads to those who began them.
	uploadKeyFile   = "uploads.key"
	uploadKeyLength = 32

	// keepAgain is how long after it could not be kept it is tried again.
	keepAgain = 10 * time.Minute
)

// uploadKey returns the key that binds uploads to those who began them. It
// outlives a restart, as uploads do; one that cannot be kept does not, which is
// logged.
// Errors: a file that cannot be read, or is none of ours.
func (a *Assembly) uploadKey(ctx context.Context, p Parts) ([]byte, error) {
	key := make([]byte, uploadKeyLength)
	_, _ = rand.Read(key) // Never fails: see crypto/rand.
	if a.locked == nil {
		return key, nil
	}
	path := a.locked.Path(uploadKeyFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := a.keepKey(key); err != nil {
			p.Log.Error("the key of uploads cannot be kept: until it is, what is being uploaded at a restart must begin again", slog.Any("error", err))
			a.inBackground(ctx, func(ctx context.Context) { a.keepKeyLate(ctx, key, p) })
		}
		return key, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the key of uploads: %w", err)
	}
	if len(raw) != hex.EncodedLen(uploadKeyLength) {
		err = hex.ErrLength
	} else {
		_, err = hex.Decode(key, raw)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: it is not the key that was written there; take it away for a new one", path)
	}
	return key, nil
}

// keepKeyLate writes the key once it can be, as when a full disk has room again.
func (a *Assembly) keepKeyLate(ctx context.Context, key []byte, p Parts) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.After(keepAgain):
		}
		if a.keepKey(key) == nil {
			p.Log.Info("the key of uploads is kept now")
			return
		}
	}
}

// keepKey writes the key, whole or not at all.
func (a *Assembly) keepKey(key []byte) (err error) {
	const temp = uploadKeyFile + ".new"
	path := a.locked.Path(temp)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(hex.EncodeToString(key))
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = a.locked.Give(temp)
	}
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return os.Rename(path, a.locked.Path(uploadKeyFile))
}
