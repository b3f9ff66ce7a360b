package commands

import (
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve"
)

// progressEnv is a world with a clock.
func progressEnv(shows bool) (testEnv, *time.Time) {
	env := newTestEnv(nil)
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	env.Now = func() time.Time { return now }
	env.Shows = shows
	return env, &now
}

// TestProgressLines: without a terminal there is a line every ten seconds.
func TestProgressLines(t *testing.T) {
	t.Parallel()
	env, now := progressEnv(false)
	p := newProgress(env.Env, false, 120e6, humanSize)
	for range 25 {
		*now = now.Add(time.Second)
		p.note("%d/4 blobs", 1)
		p.add(3e6)
	}
	p.done()
	p.add(1)
	const want = "27 MB of 120 MB, 1/4 blobs\n57 MB of 120 MB, 1/4 blobs\n"
	if got := env.stderr.String(); got != want {
		t.Errorf("said\n%s\nwant\n%s", got, want)
	}
}

// TestProgressQuiet: who wants no talk gets none, and neither does what is
// soon done.
func TestProgressQuiet(t *testing.T) {
	t.Parallel()
	for _, quiet := range []bool{true, false} {
		env, now := progressEnv(false)
		p := newProgress(env.Env, quiet, 100, humanSize)
		if quiet {
			*now = now.Add(time.Hour)
		}
		p.add(50)
		p.done()
		if got := env.stderr.String(); got != "" {
			t.Errorf("quiet=%v: %q", quiet, got)
		}
	}
}

// TestProgressBar: a bar never goes back nor past its total, although what it
// counts does, and is gone in the end.
func TestProgressBar(t *testing.T) {
	t.Parallel()
	env, now := progressEnv(true)
	p := newProgress(env.Env, false, 1000, humanSize)
	for _, n := range []int64{400, -300, 350, 200, 900, -100} {
		*now = now.Add(time.Second)
		p.note("3/4 blobs · app:1")
		p.add(n)
	}
	last := ""
	for _, m := range regexp.MustCompile(`(\d+)%`).FindAllStringSubmatch(env.stderr.String(), -1) {
		if len(m[1]) < len(last) || len(m[1]) == len(last) && m[1] < last {
			t.Errorf("%s%% after %s%%", m[1], last)
		}
		last = m[1]
	}
	if last != "100" {
		t.Errorf("ends at %s%%", last)
	}
	for _, want := range []string{"40%", "45%", "3/4 blobs · app:1, 400 B of 1.0 kB"} {
		if !strings.Contains(env.stderr.String(), want) {
			t.Errorf("%q was not shown in %q", want, env.stderr.String())
		}
	}
	p.done()
	if out := env.stderr.String(); strings.Contains(out, "\n") || !strings.HasSuffix(strings.TrimRight(out, " "), "\r") && !strings.HasSuffix(out, "\r") {
		t.Errorf("the bar stays: %q", out[max(0, len(out)-120):])
	}
}

// TestPruneProgress: a run that takes long tells how many repositories of how
// many it has looked at, and with -q it does not.
func TestPruneProgress(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"prune -keep 1 --dry-run", "prune -keep 1 --dry-run -q"} {
		reg := ocitest.NewRegistry()
		for _, repo := range []string{"a", "b", "c"} {
			if _, err := putImage(reg, repo, "1", repo, ""); err != nil {
				t.Fatal(err)
			}
		}
		server := httptest.NewServer(serve.NewHandler(reg, serve.Options{}))
		defer server.Close()
		env := pruneEnv(t)
		var ticks atomic.Int64
		env.Now = func() time.Time { return time.Now().Add(time.Duration(ticks.Add(1)) * lineEvery) }
		if got := Main(t.Context(), env.Env, append(strings.Fields(args), server.Listener.Addr().String())); got != exitDone {
			t.Fatalf("%s: status %d: %s", args, got, env.stderr)
		}
		if told, want := strings.Contains(env.stderr.String(), "3 of 3, repositories; 0 tags to delete\n"), !strings.HasSuffix(args, "-q"); told != want {
			t.Errorf("%s: %q", args, env.stderr)
		}
	}
}

func TestInThousands(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := inThousands(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
