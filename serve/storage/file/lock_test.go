//go:build unix

package file_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
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
