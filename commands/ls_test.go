package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// roundTrip is a network in a function.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// network is one on which every address leads to h, in plain HTTP.
func network(t *testing.T, h http.Handler) *http.Transport {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", server.Listener.Addr().String())
	}}
}

// TestFirstTenMinutes holds what a newcomer is told, word for word.
func TestFirstTenMinutes(t *testing.T) {
	t.Parallel()
	nobody := newTestEnv(roundTrip(func(*http.Request) (*http.Response, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}))
	nobody.run(t, "ls", 7, "", "localhost:5000: connection refused. Start one with regctl serve, or name one: regctl ls HOST\n")

	there := newTestEnv(network(t, newRegistry("myfirstimage:latest")))
	there.run(t, "ls", 0, "myfirstimage\n", "")
	there.run(t, "ls myfirstimage", 0, "latest\n", "")
	there.run(t, "ls -a", 0, "myfirstimage:latest\n", "")
	there.run(t, "ls 192.168.211.15:5000", 7, "",
		"192.168.211.15:5000 speaks plain HTTP. Try: regctl ls http://192.168.211.15:5000, or --insecure\n")
	there.run(t, "ls http://192.168.211.15:5000", 0, "myfirstimage\n", "")
	there.run(t, "ls 192.168.211.15:5000 --insecure", 0, "myfirstimage\n", "")
	there.run(t, "version", 0, "regctl 0.1.0 linux/amd64 (commit 1a2b3c4)\n", "")
	there.run(t, "ls –keep 10", 2, "", "\"–keep\" begins with an en dash; type --keep\n")
}

// ours answers as regctl serve does for the repository app.
func ours() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/v2/{$}", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Regctl-Extensions", "tags") })
	mux.HandleFunc("/v2/app/_regctl/tags", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"schema":"regctl.tags/v1","name":"app","tags":[
			{"tag":"1.0","digest":"sha256:%064d","size":31000000,"created":"2026-11-17T12:00:00Z","pushed":"2026-11-20T11:00:00Z","platforms":null},
			{"tag":"latest","digest":"sha256:%064d","size":999,"platforms":[]}]}`, 1, 2)
	})
	mux.Handle("/", newRegistry("app:1.0", "app:latest"))
	return mux
}

func TestLsOnATerminal(t *testing.T) {
	t.Parallel()
	mine := newTestEnv(network(t, ours()))
	mine.Terminal = true
	table := `TAG     DIGEST               SIZE   CREATED     PUSHED
1.0     sha256:000000000000  31 MB  3 days ago  1 hour ago
latest  sha256:000000000000  999 B  unknown     unknown
`
	mine.run(t, "ls app", 0, table, "")
	mine.run(t, "ls app --limit 1", 0, `TAG  DIGEST               SIZE   CREATED     PUSHED
1.0  sha256:000000000000  31 MB  3 days ago  1 hour ago
`, "")
	mine.run(t, "ls -q app", 0, "1.0\nlatest\n", "")
	mine.run(t, "ls --plain app", 0, "1.0\nlatest\n", "")
	mine.run(t, "ls app -o jsonl", 0, "{\"repo\":\"app\",\"tag\":\"1.0\"}\n{\"repo\":\"app\",\"tag\":\"latest\"}\n", "")

	foreign := newTestEnv(network(t, newRegistry("app:1.0", "team/web:1")))
	foreign.Terminal = true
	foreign.run(t, "ls", 0, "REPOSITORY\napp\nteam/web\n", "")
	foreign.run(t, "ls app", 0, "TAG\n1.0\n", "")
	foreign.run(t, "ls -a", 0, "REPOSITORY  TAG\napp         1.0\nteam/web    1\n", "")
	foreign.run(t, "ls --full app", 0, "NAME\nlocalhost:5000/app:1.0\n", "")
	foreign.run(t, "ls nope", 5, "",
		"localhost:5000/nope: Unknown name. What is there: regctl ls localhost:5000\n")
	foreign.run(t, "ls --include nothing", 0, "", "nothing to list on localhost:5000\n")
}

// TestLsInterrupted: a signal ends a list with what was listed, and status 130.
func TestLsInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	env := newTestEnv(network(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "_catalog") {
			_, _ = fmt.Fprint(w, `{"repositories":["a",`)
			_ = http.NewResponseController(w).Flush()
			cancel()
			<-r.Context().Done()
		}
	})))
	if status := Main(ctx, env.Env, []string{"ls"}); status != exitInterrupted {
		t.Errorf("exit status %d", status)
	}
	if got := env.stderr.String(); got != "interrupted\n" {
		t.Errorf("stderr %q", got)
	}
}

// TestLsRetryAfter: the wait that a registry asks for is passed on.
func TestLsRetryAfter(t *testing.T) {
	t.Parallel()
	env := newTestEnv(network(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			w.Header().Set("Retry-After", "300") // Longer than we wait ourselves.
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})))
	env.run(t, "ls app", 7, "", "localhost:5000/app: 429 Too Many Requests. Try again in 5m0s\n")
}

// TestLsNames: what a registry calls a name cannot write anything else to a
// terminal.
func TestLsNames(t *testing.T) {
	t.Parallel()
	env := newTestEnv(network(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"repositories": []string{"a", "b\x1b[2J"}})
	})))
	env.run(t, "ls", 6, "a\n", "localhost:5000: the registry lists a name that is none: \"b\\x1b[2J\"\n")
}

// fakeNames is a registry of n repositories with as many tags each.
type fakeNames struct {
	repos, tags int
	asked       atomic.Int64 // Tags that were handed out.
	broken      string       // A repository that cannot be listed.
}

func (f *fakeNames) Repos(context.Context, string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for i := range f.repos {
			if !yield(fmt.Sprintf("repo%03d", i), nil) {
				return
			}
		}
	}
}

func (f *fakeNames) items(_ context.Context, repo string) iter.Seq2[lsItem, error] {
	return func(yield func(lsItem, error) bool) {
		if repo == f.broken {
			yield(lsItem{}, oci.Denied)
			return
		}
		for i := range f.tags {
			f.asked.Add(1)
			if !yield(lsItem{Repo: repo, Tag: fmt.Sprintf("v%d", i)}, nil) {
				return
			}
		}
	}
}

func TestAllTagsInOrder(t *testing.T) {
	t.Parallel()
	reg := &fakeNames{repos: 50, tags: 600, broken: "repo007"}
	var got []string
	var failed []string
	for item, err := range allTags(t.Context(), usualJobs, reg, func(repo string) bool { return repo == "repo003" }, reg.items) {
		if err != nil {
			failed = append(failed, item.Repo)
			continue
		}
		got = append(got, item.name())
	}
	var want []string
	for i := range 50 {
		for j := range 600 {
			if i != 3 && i != 7 {
				want = append(want, fmt.Sprintf("repo%03d:v%d", i, j))
			}
		}
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %d names, want %d in order", len(got), len(want))
	}
	if strings.Join(failed, " ") != "repo007" {
		t.Errorf("failed: %q", failed)
	}
}

// TestAllTagsBounded: however much there is, only what fits the channels is
// asked for before it is wanted, and an early end leaves nothing running.
func TestAllTagsBounded(t *testing.T) {
	t.Parallel()
	reg := &fakeNames{repos: 1000, tags: 100_000}
	for range allTags(t.Context(), usualJobs, reg, func(string) bool { return false }, reg.items) {
		break
	}
	asked := reg.asked.Load()
	if most := int64((usualJobs + 2) * (tagsAhead + 2)); asked > most {
		t.Errorf("%d tags were asked for, at most %d are wanted", asked, most)
	}
}

func TestAllTagsCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reg := &fakeNames{repos: 3, tags: 100_000}
	var last error
	for _, err := range allTags(ctx, usualJobs, reg, func(string) bool { return false }, reg.items) {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("ended with %v", last)
	}
}

// BenchmarkLsAll lists 100,000 tags over HTTP: it should take a second, and
// memory that does not grow with them.
func BenchmarkLsAll(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		names := make([]string, 1000)
		for i := range names {
			names[i] = fmt.Sprintf("name%d", i)
		}
		switch {
		case strings.HasSuffix(r.URL.Path, "_catalog"):
			_ = json.NewEncoder(w).Encode(map[string]any{"repositories": names[:100]})
		default:
			_ = json.NewEncoder(w).Encode(map[string]any{"tags": names})
		}
	}))
	defer server.Close()
	b.ReportAllocs()
	for b.Loop() {
		env := newTestEnv(nil)
		env.Stdout = &lineCounter{}
		if status := Main(b.Context(), env.Env, []string{"ls", "-a", server.Listener.Addr().String()}); status != 0 {
			b.Fatal(env.stderr)
		}
		if n := env.Stdout.(*lineCounter).lines; n != 100_000 {
			b.Fatalf("%d lines", n)
		}
	}
}

type lineCounter struct{ lines int }

func (c *lineCounter) Write(p []byte) (int, error) {
	c.lines += strings.Count(string(p), "\n")
	return len(p), nil
}

func TestAgo(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0: "just now", 59 * time.Second: "just now", time.Minute: "1 minute ago", 59 * time.Minute: "59 minutes ago",
		time.Hour: "1 hour ago", 47 * time.Hour: "1 day ago", 48 * time.Hour: "2 days ago", 31 * 24 * time.Hour: "1 month ago",
		800 * 24 * time.Hour: "2 years ago", -time.Second: "just now", -time.Hour: "in the future",
	} {
		if got := ago(now, now.Add(-d)); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
	if got := ago(now, time.Time{}); got != "unknown" {
		t.Errorf("got %q", got)
	}
}

func TestHumanSize(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 9949: "9.9 kB", 9950: "10 kB", 31_000_000: "31 MB",
		999_499: "999 kB", 999_500: "1.0 MB", 1_200_000_000: "1.2 GB", 1 << 62: "4.6 EB",
	} {
		if got := humanSize(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

// TestLongTable: past the rows that fix the widths a table goes on as it began.
func TestLongTable(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p := newPrinter(&out, format{}, "", "", []string{"A", "B"})
	for i := range tableRows + 2 {
		if err := p.add(nil, "", []string{fmt.Sprint(i), "x"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.end(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) != tableRows+4 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, i := range []int{0, 1, tableRows, tableRows + 1, tableRows + 2} {
		if strings.IndexAny(lines[i], "Bx") != len("999  ") && i <= tableRows {
			t.Errorf("line %d: %q", i, lines[i])
		}
	}
	if lines[tableRows+2] != "1001  x" {
		t.Errorf("last line: %q", lines[tableRows+2])
	}
}
