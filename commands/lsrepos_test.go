package commands

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// sums is a registry as regctl serve, whose repositories have given answers.
type sums struct {
	http.Handler
	answer func(w http.ResponseWriter, r *http.Request, repo string)

	mu    sync.Mutex
	asked []string // For the details of which repositories.
}

// newSums has repositories name00, name01, …; without an answer each has one tag.
func newSums(repos int, answer func(w http.ResponseWriter, r *http.Request, repo string)) *sums {
	var names []string
	for i := range repos {
		names = append(names, fmt.Sprintf("name%02d:1", i))
	}
	if answer == nil {
		answer = func(w http.ResponseWriter, _ *http.Request, _ string) { details(w, 1) }
	}
	return &sums{Handler: newRegistry(names...), answer: answer}
}

func (s *sums) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	repo, ok := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/v2/"), "/_regctl/tags")
	if !ok {
		s.Handler.ServeHTTP(w, r)
		return
	}
	s.mu.Lock()
	s.asked = append(s.asked, repo)
	s.mu.Unlock()
	s.answer(w, r, repo)
}

// details writes a tag of 31 MB for each of images, which are numbers.
func details(w http.ResponseWriter, images ...int) {
	var tags []string
	for i, image := range images {
		tags = append(tags, fmt.Sprintf(`{"tag":"v%d","digest":"sha256:%064d","size":31000000,"pushed":"2026-11-%02dT12:00:00Z"}`, i, image, 19-i))
	}
	_, _ = fmt.Fprintf(w, `{"schema":"regctl.tags/v1","name":"x","tags":[%s]}`, strings.Join(tags, ","))
}

// terminal is a terminal on which every address leads to s.
func (s *sums) terminal(t *testing.T) testEnv {
	env := newTestEnv(network(t, s))
	env.Terminal = true
	return env
}

// wantAsked wants to have been asked for these since the last time.
func (s *sums) wantAsked(t *testing.T, repos ...string) {
	t.Helper()
	slices.Sort(s.asked)
	if !slices.Equal(s.asked, repos) {
		t.Errorf("asked for %v, want %v", s.asked, repos)
	}
	s.asked = nil
}

func TestLsSums(t *testing.T) {
	t.Parallel()
	s := newSums(5, func(w http.ResponseWriter, _ *http.Request, repo string) {
		switch repo {
		case "name01": // Three tags of two images.
			details(w, 1, 2, 1)
		case "name02": // One of many pages.
			w.Header().Set("Link", `</v2/name02/_regctl/tags?n=2&last=v1>; rel="next"`)
			details(w, 1, 2)
		case "name03":
			details(w)
		case "name04": // It was removed a moment ago.
			w.WriteHeader(http.StatusNotFound)
		default:
			details(w, 1)
		}
	})
	env := s.terminal(t)
	env.run(t, "ls", 0, `REPOSITORY  TAGS  SIZE    PUSHED
name00      1     31 MB   1 day ago
name01      3     62 MB   1 day ago
name02      2+    ≥62 MB  ≤1 day ago
name03      0     0 B     -
name04      0     0 B     -
`, "")
	s.wantAsked(t, "name00", "name01", "name02", "name03", "name04")
	env.run(t, "ls --limit 1", 0, "REPOSITORY  TAGS  SIZE   PUSHED\nname00      1     31 MB  1 day ago\n", "")
	s.wantAsked(t, "name00")
	env.run(t, "ls --reverse --limit 1 --exclude name04", 0, "REPOSITORY  TAGS  SIZE  PUSHED\nname03      0     0 B   -\n", "")
	s.wantAsked(t, "name03")
	env.run(t, "ls --include nothing", 0, "", "nothing to list on localhost:5000\n")
	s.wantAsked(t)
}

// Of what was seen in part only bounds are told, where they say anything.
func TestRepoSumCells(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for want, s := range map[string]*repoSum{
		"? ? ?":                     nil,
		"0 0 B -":                   {},
		"1 5 B unknown":             {tags: 1, size: 5},
		"1000+ ≥5 B unknown":        {tags: 1000, size: 5, more: true},
		"1000+ ≥5 B just now":       {tags: 1000, size: 5, more: true, pushed: now},
		"1000+ ≥5 B ≤2 minutes ago": {tags: 1000, size: 5, more: true, pushed: now.Add(-2 * time.Minute)},
		"1000 5 B 2 minutes ago":    {tags: 1000, size: 5, pushed: now.Add(-2 * time.Minute)},
	} {
		if got := strings.Join(s.cells(now), " "); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// What is not a table is not asked for more than names.
func TestLsSumsOnlyForTables(t *testing.T) {
	t.Parallel()
	s := newSums(3, nil)
	env := s.terminal(t)
	for _, args := range []string{"ls --plain", "ls -q", "ls -o json", "ls -o jsonl", "ls -a", "ls --full"} {
		if status := Main(t.Context(), env.Env, strings.Fields(args)); status != 0 {
			t.Errorf("%s: exit status %d: %s", args, status, env.stderr)
		}
	}
	env.Terminal = false
	env.run(t, "ls", 0, "name00\nname01\nname02\n", "")
	s.wantAsked(t)
}

// Eight repositories are asked for at the same time, no more and no less, and
// told in order.
func TestLsSumsAhead(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	together, all := 0, make(chan struct{})
	s := newSums(1+2*usualJobs, func(w http.ResponseWriter, r *http.Request, repo string) {
		defer details(w, 1)
		if repo == "name00" {
			return
		}
		mu.Lock()
		if together++; together == usualJobs {
			close(all)
			together, all = 0, make(chan struct{})
			mu.Unlock()
			return
		}
		wait := all
		mu.Unlock()
		select {
		case <-wait:
		case <-r.Context().Done():
		}
	})
	env := s.terminal(t)
	if status := Main(t.Context(), env.Env, []string{"ls"}); status != 0 {
		t.Fatal(env.stderr)
	}
	var got []string
	for line := range strings.Lines(env.stdout.String()) {
		got = append(got, strings.Fields(line)[0])
	}
	if len(got) != 2+2*usualJobs || !slices.IsSorted(got[1:]) {
		t.Errorf("%q", got)
	}
}

func TestLsSumsForeign(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusForbidden, http.StatusInternalServerError, http.StatusOK} {
		s := newSums(3, func(w http.ResponseWriter, _ *http.Request, _ string) {
			w.WriteHeader(status)
			_, _ = fmt.Fprint(w, "<html>")
		})
		s.terminal(t).run(t, "ls", 0, "REPOSITORY\nname00\nname01\nname02\n", "")
		s.wantAsked(t, "name00")
	}
}

func TestLsSumsOfTooMany(t *testing.T) {
	t.Parallel()
	s := newSums(sumsMost+1, nil)
	env := s.terminal(t)
	if status := Main(t.Context(), env.Env, []string{"ls"}); status != 0 || strings.Count(env.stdout.String(), "\n") != sumsMost+2 ||
		!strings.HasPrefix(env.stdout.String(), "REPOSITORY\nname00\n") {
		t.Errorf("status %d: %s", status, env.stdout)
	}
	if got := env.stderr.String(); got != "more than 500 repositories, so names only; for tags and sizes: --include PATTERN or --limit N\n" {
		t.Error(got)
	}
	s.wantAsked(t)
	env.stderr.Reset()
	if status := Main(t.Context(), env.Env, []string{"ls", "--limit", "500"}); status != 0 || env.stderr.Len() > 0 || len(s.asked) != sumsMost {
		t.Errorf("status %d, %d asked: %s", status, len(s.asked), env.stderr)
	}
}

// A repository that cannot be told of is told, and the others are.
func TestLsSumsFail(t *testing.T) {
	t.Parallel()
	fails := func(status int) *sums {
		return newSums(3, func(w http.ResponseWriter, _ *http.Request, repo string) {
			if repo == "name01" {
				w.WriteHeader(status)
				return
			}
			details(w, 1)
		})
	}
	fails(http.StatusInternalServerError).terminal(t).run(t, "ls", 3, `REPOSITORY  TAGS  SIZE   PUSHED
name00      1     31 MB  1 day ago
name01      ?     ?      ?
name02      1     31 MB  1 day ago
`, "localhost:5000/name01: 500 Internal Server Error\n")
	fails(http.StatusServiceUnavailable).terminal(t).run(t, "ls", 7,
		"REPOSITORY  TAGS  SIZE   PUSHED\nname00      1     31 MB  1 day ago\n", "localhost:5000/name01: 503 Service Unavailable\n")
}

func TestLsSumsInterrupted(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"name00", "name10"} {
		ctx, cancel := context.WithCancel(t.Context())
		env := newSums(40, func(w http.ResponseWriter, r *http.Request, repo string) {
			if repo == at {
				cancel()
				<-r.Context().Done()
			}
			details(w, 1)
		}).terminal(t)
		if status := Main(ctx, env.Env, []string{"ls"}); status != exitInterrupted || env.stderr.String() != "interrupted\n" {
			t.Errorf("%s: exit status %d: %s", at, status, env.stderr)
		}
	}
}
