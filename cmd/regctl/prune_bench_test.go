package main_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// pruneTags is how many tags the repository of BenchmarkPrune has.
func pruneTags() int {
	if testing.Short() {
		return 100
	}
	return 1000
}

// BenchmarkPrune prunes a repository of many tags down to ten and undoes it:
// seconds and requests of a dry run with nothing in the cache, of another, of
// the real run and of undo, in the last round. Undone, every tag must be where
// it was.
func BenchmarkPrune(b *testing.B) {
	for _, name := range []string{"regctl", "docker-registry"} {
		b.Run(name, func(b *testing.B) {
			s := servers[name](b, b.TempDir())
			c, n := newGenerator(s), pruneTags()
			for i := range n {
				c.pushImage(b, "app", fmt.Sprintf("1.%d", i), fmt.Appendf(nil, "layer %d", i))
			}
			before := speak(s).heads(b, "app")
			front := startProxy(b, s.addr)
			for b.Loop() {
				p := newRegctl(b) // Which has nothing in its cache.
				step := func(what string, args ...string) {
					front.requests.Store(0)
					begin := time.Now()
					p.run(b, args...)
					b.ReportMetric(time.Since(begin).Seconds(), what+"-s")
					b.ReportMetric(float64(front.requests.Load()), what+"-requests")
				}
				prune := []string{"prune", "-q", "--keep", "10", "--by", "semver", front.addr + "/app"}
				step("dry", append(prune, "--dry-run")...)
				step("again", append(prune, "--dry-run")...)
				step("prune", prune...)
				if left := speak(s).tags(b, "app"); len(left) != 10 {
					b.Fatalf("left: %s", strings.Join(left, " "))
				}
				step("undo", "undo", "-q")
				if after := speak(s).heads(b, "app"); !maps.Equal(after, before) {
					b.Fatalf("undone there are %d tags of %d, or they are elsewhere", len(after), len(before))
				}
			}
		})
	}
}

// heads returns where each tag of repo points to.
func (w wire) heads(tb testing.TB, repo string) map[string]oci.Digest {
	tb.Helper()
	found := map[string]oci.Digest{}
	for _, tag := range w.tags(tb, repo) {
		found[tag] = oci.Digest(w.must(tb, 200, "HEAD", "/v2/"+repo+"/manifests/"+tag).header.Get("Docker-Content-Digest"))
	}
	return found
}
