package layout

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/rogpeppe/go-internal/lockedfile"

	"github.com/regctl/regctl/client/oci"
)

// lock keeps other writers out, in this process and in others, until unlock is
// called. It waits for them: they hold it for a moment only.
func (d *Directory) lock() (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Join(d.dir, ownDir), 0o777); err != nil {
		return nil, err
	}
	return lockedfile.MutexAt(filepath.Join(d.dir, ownDir, "lock")).Lock()
}

// replace writes a file of the layout as a whole: after a crash it is the old
// one or the new one. The name has slashes.
func (d *Directory) replace(name string, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Join(d.dir, ownDir), "new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name()) // What is left of it harms nobody.
		}
	}()
	_, err = f.Write(data)
	err = errors.Join(err, readable(f), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return d.place(f.Name(), name)
}

// readable undoes that temporary files are for their owner only.
func readable(f *os.File) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	return f.Chmod(0o644)
}

// place moves a complete and synced file to its name in the layout, durably.
func (d *Directory) place(temp, name string) error {
	to := filepath.Join(d.dir, filepath.FromSlash(name))
	dir := filepath.Dir(to)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o777); err != nil {
			return err
		}
		if err := first(syncDir(filepath.Dir(dir)), syncDir(filepath.Dir(filepath.Dir(dir)))); err != nil {
			return err
		}
	}
	if err := os.Rename(temp, to); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes names of a directory durable, where the system can.
func syncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// remove takes content away. What is gone already is gone.
func (d *Directory) remove(of oci.Digest) error {
	if err := os.Remove(d.path(of)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	delete(d.known, of)
	return nil
}
