package main_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// newRegctl is regctl as a client, with a home of its own.
func newRegctl(tb testing.TB, args ...string) tool {
	tb.Helper()
	bin, err := regctl()
	if err != nil {
		tb.Fatal(err)
	}
	return tool{path: bin, args: args, env: []string{"HOME=" + tb.TempDir(), "PATH=" + os.Getenv("PATH")}}
}

// killedAt runs p and kills it when the n-th request reaches one of proxies.
// It tells whether p came to its end before that; then it must have succeeded.
func (p tool) killedAt(t *testing.T, n int64, proxies []*proxy, args ...string) (finished bool) {
	t.Helper()
	cmd := exec.Command(p.path, append(slices.Clone(p.args), args...)...)
	cmd.Env = p.env
	var said strings.Builder
	cmd.Stderr = &said
	var requests atomic.Int64
	kill := make(chan struct{})
	for _, proxy := range proxies {
		proxy.each(func(int64, *http.Request) {
			if requests.Add(1) == n {
				close(kill)
			}
		})
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, &said)
		}
		return true
	case <-kill:
	}
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	err := <-ended
	for _, proxy := range proxies {
		proxy.settle(t)
	}
	return err == nil
}

// try runs the program and returns all that it says, and how it ended.
func (p tool) try(t *testing.T, args ...string) (said string, err error) {
	t.Helper()
	cmd := exec.Command(p.path, append(slices.Clone(p.args), args...)...)
	cmd.Env = p.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// wholeTags reads every tag of repo with all below it, and returns where each
// points to.
func (w wire) wholeTags(t *testing.T, repo string) map[string]oci.Digest {
	t.Helper()
	found := map[string]oci.Digest{}
	for _, tag := range w.tags(t, repo) {
		found[tag] = w.whole(t, repo, tag)
	}
	return found
}

// pushKillContent pushes an image for two platforms that is signed in both ways, one
// that shares a layer with it, and one under two tags.
func pushKillContent(t *testing.T, s *server, repo string) map[string]oci.Digest {
	t.Helper()
	content := signed["team/app"]
	content.Manifests = maps.Clone(content.Manifests)
	content.Manifests["old"] = ocitest.Manifest{Layers: "base", Created: "2020-01-01T00:00:00Z"}
	content.Manifests["new"] = ocitest.Manifest{Layers: "one", Created: "2024-01-01T00:00:00Z"}
	content.Tags = ocitest.Tags{"multi": "multi", "old": "old", "older": "old", "latest": "new"}
	return push(t, s, ocitest.Content{repo: content})
}

// TestKilledCopy: whenever cp is killed, what the destination shows is whole,
// and the same command again finishes the job.
func TestKilledCopy(t *testing.T) {
	t.Parallel()
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			from, to := startRegctl(t, t.TempDir()), start(t, t.TempDir())
			pushKillContent(t, from, "team/app")
			want := speak(from).wholeTags(t, "team/app")
			proxies := []*proxy{startProxy(t, from.addr), startProxy(t, to.addr)}
			p := newRegctl(t)
			for n := int64(1); ; n++ {
				repo := fmt.Sprintf("copy/n%d", n)
				args := []string{"cp", "-q", "--all", proxies[0].addr + "/team/app", proxies[1].addr + "/" + repo}
				finished := p.killedAt(t, n, proxies, args...)
				for tag, d := range speak(to).wholeTags(t, repo) {
					if now, ok := want[tag]; ok && now != d { // Lists of referrers have tags, too.
						t.Errorf("killed at request %d: %s is at %s", n, tag, d)
					}
				}
				p.run(t, args...)
				for tag, d := range want {
					if got := speak(to).whole(t, repo, tag); got != d {
						t.Errorf("killed at request %d, then again: %s is at %s, want %s", n, tag, got, d)
					}
				}
				if finished {
					t.Logf("%d requests", n-1)
					return
				}
			}
		})
	}
}

// TestKilledLoad is the same for an archive.
func TestKilledLoad(t *testing.T) {
	t.Parallel()
	from, to := startRegctl(t, t.TempDir()), startRegctl(t, t.TempDir())
	digests := pushKillContent(t, from, "team/app")
	want := speak(from).wholeTags(t, "team/app")
	p, archive := newRegctl(t), filepath.Join(t.TempDir(), "images.tar")
	p.run(t, "save", "-q", "--all", from.addr+"/team/app", "-f", archive)
	proxies := []*proxy{startProxy(t, to.addr)}
	for n := int64(1); ; n++ {
		prefix := fmt.Sprintf("load/n%d", n)
		args := []string{"load", "-q", archive, "--to", proxies[0].addr + "/" + prefix}
		finished := p.killedAt(t, n, proxies, args...)
		repo := prefix + "/team/app"
		speak(to).wholeTags(t, repo)
		p.run(t, args...)
		for tag, d := range want {
			if got := speak(to).whole(t, repo, tag); got != d {
				t.Errorf("killed at request %d, then again: %s is at %s, want %s", n, tag, got, d)
			}
		}
		checkSigned(t, to, repo, digests)
		if finished {
			t.Logf("%d requests", n-1)
			return
		}
	}
}

// TestKilledPrune: whenever prune is killed, all that is left is whole, the
// same command again finishes the job, and undo brings back the whole of both.
func TestKilledPrune(t *testing.T) {
	t.Parallel()
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, t.TempDir())
			proxies := []*proxy{startProxy(t, s.addr)}
			for n := int64(1); ; n++ {
				repo := fmt.Sprintf("prune/n%d", n)
				pushKillContent(t, s, repo)
				w := speak(s)
				before := w.wholeTags(t, repo)
				p := newRegctl(t)
				args := []string{"prune", "-q", "--keep", "1", "--by", "name", proxies[0].addr + "/" + repo}
				finished := p.killedAt(t, n, proxies, args...)
				left := w.wholeTags(t, repo)
				p.run(t, args...)
				after := w.wholeTags(t, repo)
				if len(after) >= len(before) || len(after) == 0 {
					t.Fatalf("of %v there is %v", before, after)
				}
				for tag, d := range after {
					if before[tag] != d || left[tag] != d {
						t.Errorf("killed at request %d: %s is at %s", n, tag, d)
					}
				}
				for run := range strings.Lines(p.run(t, "undo", "--list")) {
					p.run(t, "undo", "-q", strings.Fields(run)[0])
				}
				for tag, d := range before {
					if got := w.whole(t, repo, tag); got != d {
						t.Errorf("killed at request %d, then undone: %s is at %s, want %s", n, tag, got, d)
					}
				}
				if finished {
					t.Logf("%d requests", n-1)
					return
				}
			}
		})
	}
}
