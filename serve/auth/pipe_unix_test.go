//go:build unix

package auth

import (
	"path/filepath"
	"syscall"
	"testing"
)

// TestPipe: a path that is none of a file is refused, and not waited for.
func TestPipe(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenHtpasswd(path, Options{}); err == nil {
		t.Error("a pipe is opened")
	}
	if got := Inspect(path); len(got) != 1 || !got[0].Fatal {
		t.Errorf("got %q", got)
	}
}
