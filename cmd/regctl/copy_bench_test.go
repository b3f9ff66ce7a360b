package main_test

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci/ocitest"
)

// copies are the programs that BenchmarkCopy compares: how each copies an
// image, and a whole repository; nil: it cannot.
func copies(tb testing.TB) map[string]func(from, to string, all bool) *exec.Cmd {
	tb.Helper()
	ours, crane, skopeo := newRegctl(tb), newTool(tb, "crane", "--insecure"), newTool(tb, "skopeo")
	command := func(p tool, args ...string) *exec.Cmd {
		cmd := exec.Command(p.path, append(slices.Clone(p.args), args...)...)
		cmd.Env = p.env
		return cmd
	}
	return map[string]func(from, to string, all bool) *exec.Cmd{
		"regctl": func(from, to string, all bool) *exec.Cmd {
			return command(ours, "cp", "-q", fmt.Sprintf("--all=%v", all), from, to)
		},
		"crane": func(from, to string, all bool) *exec.Cmd {
			return command(crane, "cp", fmt.Sprintf("--all-tags=%v", all), from, to)
		},
		"skopeo": func(from, to string, all bool) *exec.Cmd {
			if all { // It goes on below the repository's last name.
				return command(skopeo, "sync", "--src-tls-verify=false", "--dest-tls-verify=false", "--src", "docker", "--dest", "docker",
					from, strings.TrimSuffix(to, "/app"))
			}
			return command(skopeo, "copy", "--src-tls-verify=false", "--dest-tls-verify=false", "docker://"+from, "docker://"+to)
		},
	}
}

// copied is what is copied: 20 layers of 5 MB, and 300 small tags.
func copied() ocitest.Content {
	layers, tags := 20, 300
	if testing.Short() {
		layers, tags = 2, 20
	}
	large := ocitest.Repo{Blobs: ocitest.Blobs{}, Manifests: ocitest.Manifests{}, Tags: ocitest.Tags{"1": "m"}}
	var names []string
	for i := range layers {
		name := fmt.Sprint("l", i)
		large.Blobs[name] = string(random(uint64(i), 5<<20))
		names = append(names, name)
	}
	large.Manifests["m"] = ocitest.Manifest{Layers: strings.Join(names, " ")}
	small := ocitest.Repo{Blobs: ocitest.Blobs{"base": "shared"}, Manifests: ocitest.Manifests{}, Tags: ocitest.Tags{}}
	for i := range tags {
		name := fmt.Sprint("m", i)
		small.Blobs["l"+name] = string(random(uint64(1000+i), 1000))
		small.Manifests[name] = ocitest.Manifest{Layers: "base l" + name, Created: time.Unix(int64(i), 0).UTC().Format(time.RFC3339)}
		small.Tags[name] = name
	}
	return ocitest.Content{"large/app": large, "small/app": small}
}

// BenchmarkCopy copies between two registries, each time to an empty one, and
// then again. Compare programs by ratio, within one run; the requests are those
// of both sides.
func BenchmarkCopy(b *testing.B) {
	for _, to := range []string{"docker-registry", "regctl"} {
		src := startDockerRegistry(b, b.TempDir())
		push(b, src, copied())
		for _, what := range []struct {
			name, from, to string
			all            bool
		}{{"large", "large/app:1", "large/app:1", false}, {"tags", "small/app", "small/app", true}} {
			for _, name := range []string{"regctl", "crane", "skopeo"} {
				b.Run(to+"/"+what.name+"/"+name, func(b *testing.B) {
					program, sums := copies(b)[name], map[string]float64{}
					for b.Loop() {
						b.StopTimer()
						dst := servers[to](b, b.TempDir())
						from, front := startProxy(b, src.addr), startProxy(b, dst.addr)
						b.StartTimer()
						for _, step := range []string{"new", "again"} {
							from.requests.Store(0)
							front.requests.Store(0)
							took := timed(b, program(from.addr+"/"+what.from, front.addr+"/"+what.to, what.all))
							sums[step+"-s"] += took.Seconds()
							sums[step+"-requests"] += float64(from.requests.Load() + front.requests.Load())
						}
						b.StopTimer()
						dst.end(b)
						b.StartTimer()
					}
					for unit, sum := range sums {
						b.ReportMetric(sum/float64(b.N), unit)
					}
				})
			}
		}
		src.end(b)
	}
}

// timed runs a program that must succeed, and tells how long that took.
func timed(b *testing.B, cmd *exec.Cmd) time.Duration {
	b.Helper()
	begin := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return time.Since(begin)
}
