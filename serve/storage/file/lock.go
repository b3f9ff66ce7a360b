package file

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/regctl/regctl/serve/storage"
)

const lockPoll = 250 * time.Millisecond

// Locked is a held lock. It is given back by Unlock, or when the process ends.
type Locked struct {
	file  *os.File // Nil: there was no room for it.
	dir   *os.File // That of the store, for those that have no room for a file.
	root  string
	owner *ids // Whom new files are given to; nil: nobody.
}

// HeldError says that another process has the lock, as it told of itself.
type HeldError struct {
	Host string // Empty if it cannot be told.
	PID  int
}

func (e *HeldError) Error() string {
	if e.Host == "" {
		return "the store is in use by another process"
	}
	return fmt.Sprintf("the store is in use by process %d on host %s", e.PID, e.Host)
}

// holder is what the lock file says about who holds it.
type holder struct {
	Host string `json:"host"`
	Boot string `json:"boot,omitempty"` // Tells a process from another with its number before a reboot.
	PID  int    `json:"pid"`
}

// Lock makes this process the owner of the store in the directory root, which
// must be there. Another owner is waited for, asking again when after fires
// (time.After if nil), until the waits add up to wait; then the error is a
// [HeldError], which wait 0 gives at once. Lock before [Open], which counts on
// there being no other. Errors are storage.ErrReadOnly, errors.ErrUnsupported
// where there is no flock(2), and that of ctx.
//
// A full disk is to be served and cleaned up, though it may have no room for a
// lock file, or for the name of who does it. So the directory itself is locked
// as well, where the file system can do that.
func Lock(ctx context.Context, root string, wait time.Duration, after func(time.Duration) <-chan time.Time) (*Locked, error) {
	if after == nil {
		after = time.After
	}
	l := &Locked{root: root}
	err := l.take(ctx, wait, after)
	if err != nil {
		return nil, fmt.Errorf("lock store %s: %w", root, errors.Join(err, l.Unlock()))
	}
	return l, nil
}

func (l *Locked) take(ctx context.Context, wait time.Duration, after func(time.Duration) <-chan time.Time) (err error) {
	l.file, l.owner, err = openLock(l.root)
	full := errors.Is(refused(err), storage.ErrFull)
	if err != nil && !full {
		return refused(err)
	}
	if !full {
		if err := l.poll(ctx, l.file, wait, after); err != nil {
			return err
		}
	}
	if l.dir, err = os.Open(l.root); err == nil {
		err = l.poll(ctx, l.dir, wait, after)
	}
	var held *HeldError
	if err != nil && (full || errors.As(err, &held) || ctx.Err() != nil) {
		return err
	}
	if full {
		return nil
	}
	if err := refused(sign(l.file)); err != nil && !errors.Is(err, storage.ErrFull) {
		return err
	}
	return nil
}

// Unlock gives the lock back. The file stays: who waits has it open.
func (l *Locked) Unlock() error {
	var errs []error
	for _, f := range []*os.File{l.dir, l.file} {
		if f != nil {
			errs = append(errs, unlock(f), f.Close())
		}
	}
	return errors.Join(errs...)
}

func openLock(root string) (*os.File, *ids, error) {
	owner, err := heir(OS{}, root, os.Geteuid())
	if err != nil {
		return nil, nil, err
	}
	if err := makePrivate(OS{}, root, owner); err != nil {
		return nil, owner, err
	}
	in, err := openPrivate(root, owner)
	if err != nil {
		return nil, owner, err
	}
	defer in.Close()
	f, err := in.OpenFile("lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil || owner == nil {
		return f, owner, err
	}
	if err := f.Chown(owner.uid, owner.gid); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, owner, nil
}

// Path is that of our own file name beside the lock.
func (l *Locked) Path(name string) string { return path.Join(l.root, Private, name) }

// Give gives our own file name to whom the store belongs, and to nobody else:
// it is readable and writable by them alone.
func (l *Locked) Give(name string) error {
	in, err := openPrivate(l.root, l.owner)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := in.Chmod(name, 0o600); err != nil || l.owner == nil {
		return err
	}
	return in.Lchown(name, l.owner.uid, l.owner.gid)
}

// served is the file whose time of change says until when a server of ours
// wrote to the store. The lock is no good for it: who only looks takes it too.
const served = "served"

// Serving notes that what is written to the store from now on, for as long as
// ahead, is written by a server of ours. Before that is over it is to be
// called again; with 0, once nothing is written any more.
func (l *Locked) Serving(ahead time.Duration) error {
	in, err := openPrivate(l.root, l.owner)
	if err != nil {
		return refused(err)
	}
	defer in.Close()
	f, err := in.OpenFile(served, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return refused(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("\n"), 0); err != nil { // The time is that of the file system, as that of links is.
		return refused(err)
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if ahead > 0 {
		until := info.ModTime().Add(ahead)
		if err := in.Chtimes(served, until, until); err != nil {
			return refused(err)
		}
	}
	return l.Give(served)
}

// Served tells until when, at most, a server of ours wrote to the store; zero
// if none ever did.
func (l *Locked) Served() (time.Time, error) {
	info, err := os.Stat(l.Path(served))
	if errors.Is(err, fs.ErrNotExist) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

func (l *Locked) poll(ctx context.Context, f *os.File, wait time.Duration, after func(time.Duration) <-chan time.Time) error {
	for {
		ok, err := tryLock(f)
		if err != nil || ok {
			return err
		}
		if wait <= 0 {
			return held(l.Path("lock"))
		}
		step := min(wait, lockPoll)
		wait -= step
		select {
		case <-after(step):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), held(l.Path("lock")))
		}
	}
}

// held says who holds the lock. What cannot be read is not told.
func held(name string) *HeldError {
	var h holder
	data, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(data, &h)
	}
	if err != nil {
		return &HeldError{}
	}
	return &HeldError{Host: h.Host, PID: h.PID}
}

// sign writes who we are into the lock file.
func sign(f *os.File) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	h := holder{Host: host, PID: os.Getpid()}
	if boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		h.Boot = strings.TrimSpace(string(boot))
	}
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if _, err := f.WriteAt(data, 0); err != nil { // Over the old name, so that its room is not given away.
		return errors.Join(err, f.Truncate(0))
	}
	return f.Truncate(int64(len(data)))
}
