//go:build linux

package main_test

import (
	"bytes"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	large = flag.Bool("large", false, "BenchmarkCollect: also a store that is ten times larger")
	cold  = flag.Bool("cold", false, "BenchmarkCollect: drop what the system remembers of the disk before each run; as root")
)

// collectors are the programs that BenchmarkCollect compares.
func collectors(tb testing.TB) map[string]func(dir string) *exec.Cmd {
	tb.Helper()
	ours := newRegctl(tb)
	return map[string]func(dir string) *exec.Cmd{
		"regctl": func(dir string) *exec.Cmd {
			cmd := exec.Command(ours.path, "gc", "--data", dir, "--untagged", "--undo", "0", "-q")
			cmd.Env = ours.env
			return cmd
		},
		"docker-registry": func(dir string) *exec.Cmd {
			return exec.Command(peer(tb, "docker-registry"), "garbage-collect", "-m", theirConfig(tb, dir))
		},
	}
}

// spent is what a program took.
type spent struct {
	wall, cpu time.Duration
	rss       int64 // Bytes, at most. 0: not known.
}

func spend(tb testing.TB, cmd *exec.Cmd) spent {
	tb.Helper()
	if *cold {
		syscall.Sync()
		if err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	begin := time.Now()
	if err := cmd.Run(); err != nil {
		tb.Fatalf("%s: %v\n%s", cmd, err, &stderr)
	}
	s := spent{wall: time.Since(begin), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	// A process counts as at least as large as the one that started it.
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		tb.Fatal(err)
	}
	if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok && usage.Maxrss > own.Maxrss {
		s.rss = usage.Maxrss << 10
	}
	return s
}

// BenchmarkCollect collects the same generated store, one program after the
// other, each on a copy: seconds, processor time, and memory at most where it is
// more than the benchmark's own. Compare by ratio, within one run. Of many tags registry:2 takes minutes and more.
func BenchmarkCollect(b *testing.B) {
	both := []string{"regctl", "docker-registry"}
	for _, bench := range []struct {
		name  string
		shape shape
		by    []string
		skip  bool
	}{
		{"200x50", shape{repos: 200, images: 50, garbage: 0.3, orphans: 100}, both, testing.Short()},
		{"2000x50", shape{repos: 2000, images: 50, garbage: 0.3, orphans: 1000}, both, testing.Short() || !*large},
		{"2000tags", shape{tags: 2000, garbage: 0.3}, both, testing.Short()},
		{"20000tags", shape{tags: 20_000, garbage: 0.3}, both[:1], testing.Short()},
		{"3x5", shape{repos: 3, images: 5, garbage: 0.3, orphans: 5}, both, !testing.Short()},
	} {
		b.Run(bench.name, func(b *testing.B) {
			if bench.skip {
				b.Skip("with other flags")
			}
			if slices.Contains(bench.by, "docker-registry") {
				peer(b, "docker-registry")
			}
			of := b.TempDir()
			g := generate(b, of, bench.shape)
			garbage, _ := g.garbage()
			programs, sums := collectors(b), map[string]spent{}
			for b.Loop() {
				for _, name := range bench.by {
					dir := copyStore(b, of)
					syscall.Sync()
					s := spend(b, programs[name](dir))
					sum := sums[name]
					sums[name] = spent{sum.wall + s.wall, sum.cpu + s.cpu, max(sum.rss, s.rss)}
					if left := len(dataOf(b, dir)); left != len(g.data)-garbage {
						b.Errorf("%s left %d data of %d, of which %d are garbage", name, left, len(g.data), garbage)
					}
					_ = os.RemoveAll(dir)
				}
			}
			for name, sum := range sums {
				b.ReportMetric(sum.wall.Seconds()/float64(b.N), name+"-s")
				b.ReportMetric(sum.cpu.Seconds()/float64(b.N), name+"-cpu-s")
				if sum.rss > 0 {
					b.ReportMetric(float64(sum.rss)/(1<<20), name+"-MiB")
				}
			}
		})
	}
}

// BenchmarkWhileCollecting pulls and pushes, eight at a time, without a
// collection and with one that runs again and again: how long 99 of 100 take.
func BenchmarkWhileCollecting(b *testing.B) {
	sh := shape{repos: 40, images: 50, garbage: 0.3, seed: 5}
	if testing.Short() {
		sh.repos, sh.images = 4, 10
	}
	dir := b.TempDir()
	generate(b, dir, sh)
	s := startRegctl(b, dir)
	c := newGenerator(s)
	for i := range 8 {
		c.pushImage(b, "bench/app", fmt.Sprint("v", i), random(uint64(i), 1000))
	}
	layer := c.pushBlob(b, "bench/app", random(1, 100_000))
	for what, op := range map[string]func(i int64) error{
		"pull": func(i int64) error {
			if err := c.do(http.MethodGet, fmt.Sprintf("/v2/bench/app/manifests/v%d", i%8), nil, http.StatusOK); err != nil {
				return err
			}
			return c.do(http.MethodGet, "/v2/bench/app/blobs/"+layer, nil, http.StatusOK)
		},
		"push": func(i int64) error {
			return c.image(fmt.Sprintf("bench/app%d", i%8), "latest", random(uint64(i)+uint64(time.Now().UnixNano()), 1000))
		},
	} {
		for _, collecting := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/collecting=%v", what, collecting), func(b *testing.B) {
				end, runs := func() {}, 0
				if collecting {
					end = collectAgainAndAgain(b, dir, &runs)
				}
				took := make([]time.Duration, b.N)
				measure(b, s, 8, func(i int64) error {
					begin := time.Now()
					err := op(i)
					took[i] = time.Since(begin)
					return err
				})
				end()
				slices.Sort(took)
				b.ReportMetric(float64(took[b.N/2].Microseconds())/1000, "p50-ms")
				b.ReportMetric(float64(took[b.N*99/100].Microseconds())/1000, "p99-ms")
				b.ReportMetric(float64(runs), "collections")
			})
		}
	}
}

// collectAgainAndAgain asks for collections until end is called.
func collectAgainAndAgain(b *testing.B, dir string, runs *int) (end func()) {
	b.Helper()
	p, stop := newRegctl(b), make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			cmd := exec.Command(p.path, "gc", "--data", dir, "--untagged", "--older", "5s", "--undo", "0", "-q", "-o", "json")
			cmd.Env = p.env
			if out, err := cmd.Output(); err != nil {
				b.Errorf("gc: %v: %s", err, out)
				return
			}
			*runs++
		}
	})
	return func() {
		close(stop)
		done.Wait()
	}
}
