//go:build unix

package file_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/regctl/regctl/serve/storage/file"
)

func TestLock(t *testing.T) {
	root := t.TempDir()
	l, err := file.Lock(t.Context(), root, 0, nil)
	ok(t, err)
	_, err = file.Lock(t.Context(), root, 0, nil)
	var held *file.HeldError
	host, _ := os.Hostname()
	if !errors.As(err, &held) || held.PID != os.Getpid() || held.Host != host {
		t.Errorf("second lock: %v", err)
	}
	if !strings.Contains(err.Error(), host) {
		t.Errorf("%v does not name the host", err)
	}
	ok(t, l.Unlock())
	l, err = file.Lock(t.Context(), root, 0, nil)
	ok(t, err)
	ok(t, l.Unlock())
}

// Who finds no room for a lock file has the directory alone locked.
func TestLockedDirectory(t *testing.T) {
	root := t.TempDir()
	dir, err := os.Open(root)
	ok(t, err)
	ok(t, syscall.Flock(int(dir.Fd()), syscall.LOCK_EX))
	var held *file.HeldError
	if _, err := file.Lock(t.Context(), root, 0, nil); !errors.As(err, &held) {
		t.Errorf("lock: %v", err)
	}
	ok(t, dir.Close())
	l, err := file.Lock(t.Context(), root, 0, nil)
	ok(t, err)
	ok(t, l.Unlock())
}

// A process that is about to be started has what was open here for a moment.
func TestLockWithACopy(t *testing.T) {
	root := t.TempDir()
	l, err := file.Lock(t.Context(), root, 0, nil)
	ok(t, err)
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("what is open is not to be seen here")
	}
	copies := 0
	for _, e := range open {
		if name, err := os.Readlink("/proc/self/fd/" + e.Name()); err != nil || name != root && !strings.HasPrefix(name, root+"/") {
			continue
		}
		fd, err := strconv.Atoi(e.Name())
		ok(t, err)
		fd, err = syscall.Dup(fd)
		ok(t, err)
		defer syscall.Close(fd)
		copies++
	}
	if copies < 2 {
		t.Errorf("%d files were open", copies)
	}
	ok(t, l.Unlock())
	l, err = file.Lock(t.Context(), root, 0, nil)
	ok(t, err)
	ok(t, l.Unlock())
}

func TestLockFile(t *testing.T) {
	root := t.TempDir()
	name := filepath.Join(root, file.Private, "lock")
	ok(t, os.Mkdir(filepath.Dir(name), 0o700))
	ok(t, os.WriteFile(name, []byte(strings.Repeat("what a longer one left ", 100)), 0o600))
	l, err := file.Lock(t.Context(), root, 0, nil)
	ok(t, err)
	defer l.Unlock()
	data, err := os.ReadFile(name)
	ok(t, err)
	var h struct {
		Host, Boot string
		PID        int
	}
	ok(t, json.Unmarshal(data, &h))
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if h.PID != os.Getpid() || h.Host == "" || err == nil && h.Boot != strings.TrimSpace(string(boot)) {
		t.Errorf("lock file has %s", data)
	}
}

func TestLockModes(t *testing.T) {
	root := t.TempDir()
	l, err := file.Lock(t.Context(), root, 0, nil)
	ok(t, err)
	defer l.Unlock()
	for name, want := range map[string]fs.FileMode{file.Private: 0o700, file.Private + "/lock": 0o600} {
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

// The second waits for the first, in steps that add up to what it may wait.
func TestLockWaits(t *testing.T) {
	root := t.TempDir()
	l, err := file.Lock(t.Context(), root, 0, nil)
	ok(t, err)
	var waited time.Duration
	wait := func(d time.Duration) <-chan time.Time {
		waited += d
		c := make(chan time.Time, 1)
		c <- time.Time{}
		return c
	}
	_, err = file.Lock(t.Context(), root, 30*time.Second, wait)
	var held *file.HeldError
	if !errors.As(err, &held) || waited != 30*time.Second {
		t.Errorf("waited %v: %v", waited, err)
	}
	n := 0
	l2, err := file.Lock(t.Context(), root, 30*time.Second, func(d time.Duration) <-chan time.Time {
		if n++; n == 3 {
			ok(t, l.Unlock())
		}
		return wait(d)
	})
	ok(t, err)
	if n != 3 {
		t.Errorf("waited %d times", n)
	}
	ok(t, l2.Unlock())
}

func TestLockCancelled(t *testing.T) {
	root := t.TempDir()
	l, err := file.Lock(t.Context(), root, 0, nil)
	ok(t, err)
	defer l.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	_, err = file.Lock(ctx, root, time.Hour, func(time.Duration) <-chan time.Time {
		cancel()
		return nil
	})
	var held *file.HeldError
	if !errors.Is(err, context.Canceled) || !errors.As(err, &held) {
		t.Errorf("got %v", err)
	}
}

// A lock file that tells nothing is still a lock.
func TestLockUnreadable(t *testing.T) {
	root := t.TempDir()
	l, err := file.Lock(t.Context(), root, 0, nil)
	ok(t, err)
	defer l.Unlock()
	ok(t, os.Truncate(filepath.Join(root, file.Private, "lock"), 0))
	_, err = file.Lock(t.Context(), root, 0, nil)
	var held *file.HeldError
	if !errors.As(err, &held) || *held != (file.HeldError{}) || !strings.Contains(err.Error(), "another process") {
		t.Errorf("got %v", err)
	}
}

func TestLockNoRoot(t *testing.T) {
	if _, err := file.Lock(t.Context(), filepath.Join(t.TempDir(), "missing"), 0, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// Until when a server wrote is told by the clock of the file system, so that it
// can be compared with what was written, and survives who only looks.
func TestServing(t *testing.T) {
	root := t.TempDir()
	l, err := file.Lock(t.Context(), root, 0, nil)
	ok(t, err)
	if at, err := l.Served(); err != nil || !at.IsZero() {
		t.Errorf("served until %s, %v", at, err)
	}
	mark := func(ahead time.Duration) time.Time {
		t.Helper()
		ok(t, l.Serving(ahead))
		at, err := l.Served()
		ok(t, err)
		return at
	}
	touched := func(name string) time.Time {
		t.Helper()
		name = filepath.Join(root, name)
		ok(t, os.WriteFile(name, []byte("x"), 0o600))
		info, err := os.Stat(name)
		ok(t, err)
		return info.ModTime()
	}
	before := touched("before")
	ahead := mark(time.Hour)
	if d := ahead.Sub(before); d < time.Hour || d > time.Hour+time.Minute {
		t.Errorf("an hour ahead is %s", d)
	}
	during := touched("during")
	end := mark(0)
	if end.Before(during) || end.Sub(during) > time.Minute {
		t.Errorf("written at %s, ended at %s", during, end)
	}
	ok(t, l.Unlock())
	l, err = file.Lock(t.Context(), root, 0, nil)
	ok(t, err)
	defer l.Unlock()
	if at, err := l.Served(); err != nil || !at.Equal(end) {
		t.Errorf("after another look: %s, %v; want %s", at, err, end)
	}
	info, err := os.Stat(l.Path("served"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// Our own files are for nobody else.
func TestGive(t *testing.T) {
	root := t.TempDir()
	l, err := file.Lock(t.Context(), root, 0, nil)
	ok(t, err)
	defer l.Unlock()
	if got, want := l.Path("x"), filepath.Join(root, file.Private, "x"); got != want {
		t.Errorf("path %s, want %s", got, want)
	}
	ok(t, os.WriteFile(l.Path("x"), nil, 0o666))
	ok(t, os.Chmod(l.Path("x"), 0o666))
	ok(t, l.Give("x"))
	if info, err := os.Stat(l.Path("x")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := l.Give("y"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	if os.Geteuid() != 0 {
		t.Skip("not root")
	}
	ok(t, l.Unlock())
	ok(t, os.Chown(root, 12345, 12346))
	l, err = file.Lock(t.Context(), root, 0, nil)
	ok(t, err)
	ok(t, l.Give("x"))
	ok(t, l.Serving(time.Minute))
	for _, name := range []string{"x", "served"} {
		info, err := os.Stat(l.Path(name))
		ok(t, err)
		if st, is := info.Sys().(*syscall.Stat_t); !is || st.Uid != 12345 || st.Gid != 12346 {
			t.Errorf("%s belongs to %+v", name, info.Sys())
		}
	}
}

// TestLinksOutOfAStore: whose store root locks does not get other files by it.
func TestLinksOutOfAStore(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may give files away")
	}
	const uid = 12345
	for _, link := range []string{file.Private + "/lock", file.Private + "/served", file.Private + "/state.db", file.Private} {
		t.Run(link, func(t *testing.T) {
			t.Parallel()
			root, other := t.TempDir(), t.TempDir()
			victim, to := filepath.Join(other, "lock"), filepath.Join(other, "lock")
			ok(t, os.WriteFile(victim, []byte("kept"), 0o644))
			if link == file.Private {
				to = other
			} else {
				ok(t, os.Mkdir(filepath.Join(root, file.Private), 0o700))
			}
			ok(t, os.Symlink(to, filepath.Join(root, link)))
			ok(t, os.Lchown(root, uid, uid))
			l, err := file.Lock(t.Context(), root, 0, time.After)
			if err == nil {
				err = errors.Join(l.Serving(time.Hour), l.Give("state.db"), l.Unlock())
			}
			if err == nil {
				t.Error("the link was followed")
			}
			info, err := os.Stat(victim)
			ok(t, err)
			data, err := os.ReadFile(victim)
			ok(t, err)
			if info.Sys().(*syscall.Stat_t).Uid != 0 || info.Mode().Perm() != 0o644 || string(data) != "kept" {
				t.Errorf("%v, %+v, %q", info.Mode(), info.Sys(), data)
			}
		})
	}
}
