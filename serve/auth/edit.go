package auth

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
)

// Edit changes the htpasswd file at path: change gets what is in it, nothing if
// it is missing, and the result takes its place in one step, with the same
// owner and mode; a new file has mode 0600. Whoever reads the file meanwhile
// sees the one or the other, and edits wait for each other. If change returns
// an error, which is returned, or changes nothing, nothing is written.
//
// A line that is damaged stays as it is.
// Errors: those of change and of the file system.
func Edit(path string, change func(*File) error) error {
	path, err := followed(path)
	if err != nil {
		return err
	}
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer unlock()
	raw, info, err := readAll(path)
	if errors.Is(err, fs.ErrNotExist) {
		raw, info, err = nil, nil, nil
	}
	if err != nil {
		return err
	}
	f, _ := Parse(raw) // Damage is no reason not to edit the other lines.
	if err := change(f); err != nil {
		return err
	}
	after := f.Bytes()
	if info != nil && string(after) == string(raw) {
		return nil
	}
	return replace(path, after, info)
}

// followed is the file that path leads to: a link stays one.
func followed(path string) (string, error) {
	to, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return "", fmt.Errorf("%s is a link to what is not there", path)
		}
		return path, nil
	}
	return to, err
}

// replace writes raw to path, durably and in one step. Info is what was there;
// nil: nothing.
func replace(path string, raw []byte, info os.FileInfo) (err error) {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp") // With mode 0600.
	if err != nil {
		return err
	}
	defer func() {
		_ = tmp.Close()
		if err != nil {
			_ = os.Remove(tmp.Name())
		}
	}()
	if info != nil {
		if err := keepOwner(tmp, info); err != nil {
			return fmt.Errorf("keep the owner of %s: %w", path, err)
		}
		if err := tmp.Chmod(info.Mode().Perm()); err != nil {
			return fmt.Errorf("keep the mode of %s: %w", path, err)
		}
	}
	if _, err := tmp.Write(raw); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		if info == nil || !isMountpoint(err) {
			return err
		}
		_ = os.Remove(tmp.Name())
		return overwrite(path, raw)
	}
	return syncDir(dir)
}

// overwrite writes a file in place: one that is mounted by itself, as in
// "-v ./htpasswd:/auth/htpasswd", cannot be replaced.
func overwrite(path string, raw []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	return errors.Join(err, f.Sync(), f.Close())
}

// provide makes the file that is missing, as registry:2 does.
func provide(path string, cost int, log *slog.Logger) error {
	_, err := os.Stat(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	var secret [24]byte
	_, _ = rand.Read(secret[:]) // Never fails: see crypto/rand.
	password := base64.RawURLEncoding.EncodeToString(secret[:])
	encoded, err := Hash(password, cost)
	if err != nil {
		return err
	}
	made := false
	err = Edit(path, func(f *File) error {
		if made = len(f.lines) == 0; !made {
			return nil // Somebody was faster.
		}
		_, err := f.Set("docker", encoded)
		return err
	})
	if err == nil && made {
		log.Warn("htpasswd is missing, provisioning with default user: this password is told only now",
			slog.String("file", path), slog.String("user", "docker"), slog.String("password", password))
	}
	return err
}
