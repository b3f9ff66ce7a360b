//go:build unix

package commands_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/commands"
	"github.com/regctl/regctl/serve/storage/file"
)

// serve runs `regctl serve` on a free port and returns how it ended and what
// it said. Whatever it waits for comes at once.
func serve(ctx context.Context, after func(), args ...string) (status int, said string) {
	var stderr bytes.Buffer
	env := &commands.Env{
		Stdout: &stderr, Stderr: &stderr, Now: time.Now,
		After: func(d time.Duration) <-chan time.Time {
			if d >= time.Minute { // What a running server does each minute.
				return nil
			}
			if after != nil {
				after()
			}
			c := make(chan time.Time)
			close(c)
			return c
		},
	}
	status = commands.Main(ctx, env, append([]string{"serve", "--addr", "127.0.0.1:0"}, args...))
	return status, stderr.String()
}

func held(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	locked, err := file.Lock(t.Context(), dir, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = locked.Unlock() })
	return dir
}

func TestServeHeldStore(t *testing.T) {
	t.Parallel()
	dir := held(t)
	status, said := serve(t.Context(), nil, "--data", dir)
	who := "in use by process " + strconv.Itoa(os.Getpid()) + " on host "
	if status != 9 || strings.Count(said, who) != 2 || !strings.Contains(said, "waiting up to 30s") {
		t.Errorf("exit status %d:\n%s", status, said)
	}
}

func TestServeInterruptedWhileItWaits(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	waits := 0
	status, said := serve(ctx, func() {
		if waits++; waits == 3 {
			stop()
		}
	}, "--data", held(t))
	if status != 130 {
		t.Errorf("exit status %d:\n%s", status, said)
	}
}

// A place where no store can be is not "unreachable".
func TestServeNoDirectory(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{name, filepath.Join(name, "below")} {
		if status, said := serve(t.Context(), nil, "--data", dir); status != 1 || !strings.Contains(said, "not a directory") {
			t.Errorf("exit status %d:\n%s", status, said)
		}
	}
}
