package commands

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	program := func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		defer stop()
		os.Exit(Run(ctx, System(NewBuild("v0.1.0", "1a2b3c4d5e6f")), os.Args))
	}
	// Called registry it would hide the command of scripts.
	testscript.Main(m, map[string]func(){programRegctl: program, "docker-registry": program, programHtpasswd: program})
}

// TestScripts runs testdata/script, which reads like a manual.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_CACHE_HOME", env.WorkDir+"/.cache") // There is no home, and root could make it.
			env.Setenv("GORACE", "atexit_sleep_ms=0")           // Else each command takes a second under the race detector.
			env.Values[servedKey{}] = served{}
			env.Values[receiverKey{}] = receivers{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"registry": scriptRegistry,
			"images":   scriptImages,
			"retag":    scriptRetag,
			"exits":    scriptExits,
			"expand":   scriptExpand,
			"serving":  scriptServing,
			"receiver": scriptReceiver,
		},
	})
}

// testEnv is a world without files, variables or a network.
type testEnv struct {
	*Env
	stdout, stderr *bytes.Buffer
}

func newTestEnv(transport http.RoundTripper, environ ...string) testEnv {
	var stdout, stderr bytes.Buffer
	return testEnv{&Env{
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Environ: environ,
		Now:       func() time.Time { return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) },
		After:     soon,
		Transport: transport,
		Build:     Build{Version: "0.1.0", Commit: "1a2b3c4d", OS: "linux", Arch: "amd64"},
	}, &stdout, &stderr}
}

// soon is a wait that is over, but for what a server does again and again.
func soon(d time.Duration) <-chan time.Time {
	if d >= time.Minute || d == reloadEvery {
		return nil
	}
	return atOnce()
}

// atOnce is a wait that is over.
func atOnce() <-chan time.Time {
	over := make(chan time.Time, 1)
	over <- time.Time{}
	return over
}

// run runs a command line and wants its status, output and talk.
func (e testEnv) run(t *testing.T, args string, status int, stdout, stderr string) {
	t.Helper()
	e.stdout.Reset()
	e.stderr.Reset()
	if got := Main(t.Context(), e.Env, strings.Fields(args)); got != status {
		t.Errorf("regctl %s: exit status %d, want %d", args, got, status)
	}
	if got := e.stdout.String(); got != stdout {
		t.Errorf("regctl %s: stdout\n%s\nwant\n%s", args, got, stdout)
	}
	if got := e.stderr.String(); got != stderr {
		t.Errorf("regctl %s: stderr\n%s\nwant\n%s", args, got, stderr)
	}
}
