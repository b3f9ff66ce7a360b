package main_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The benchmarks drive whole servers over loopback with one raw HTTP
// generator: ours, and docker-registry where it is installed. Compare by
// ratio, within one run. cpu-µs/op is what the server's process spent.

var servers = map[string]func(testing.TB, string) *server{
	"regctl":          func(tb testing.TB, dir string) *server { return startRegctl(tb, dir) },
	"docker-registry": startDockerRegistry,
}

// against runs a benchmark on every server, each on a directory of its own.
func against(b *testing.B, bench func(b *testing.B, s *server, c *generator)) {
	for _, name := range []string{"regctl", "docker-registry"} {
		b.Run(name, func(b *testing.B) {
			s := servers[name](b, b.TempDir())
			bench(b, s, newGenerator(s))
		})
	}
}

// measure calls op from n clients at once and reports the server's share.
func measure(b *testing.B, s *server, clients int, op func(i int64) error) {
	b.Helper()
	var next atomic.Int64
	begin := s.cpu(b)
	b.ResetTimer()
	errs := make(chan error, clients)
	for range clients {
		go func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(b.N) {
					errs <- nil
					return
				}
				if err := op(i); err != nil {
					errs <- err
					return
				}
			}
		}()
	}
	for range clients {
		if err := <-errs; err != nil {
			b.Error(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64((s.cpu(b)-begin)/time.Microsecond)/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
}

func BenchmarkManifestByTag(b *testing.B) {
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		b.Run(method, func(b *testing.B) {
			against(b, func(b *testing.B, s *server, c *generator) {
				c.pushImage(b, "bench/app", "latest", random(1, 100))
				measure(b, s, 8, func(int64) error {
					return c.do(method, "/v2/bench/app/manifests/latest", nil, http.StatusOK)
				})
			})
		})
	}
}

const blobSize = 10 << 20

func BenchmarkPullBlob10MiB(b *testing.B) {
	against(b, func(b *testing.B, s *server, c *generator) {
		d := c.pushBlob(b, "bench/app", random(1, blobSize))
		b.SetBytes(blobSize)
		measure(b, s, 2, func(int64) error {
			return c.do(http.MethodGet, "/v2/bench/app/blobs/"+d, nil, http.StatusOK)
		})
	})
}

func BenchmarkPushBlob10MiB(b *testing.B) {
	against(b, func(b *testing.B, s *server, c *generator) {
		content := random(1, blobSize)
		b.SetBytes(blobSize)
		measure(b, s, 2, func(i int64) error {
			body := append(fmt.Appendf(nil, "%16d", i), content[16:]...)
			_, err := c.push("bench/app", body)
			return err
		})
	})
}

// A small image is a config, a layer and a manifest with a tag.
func BenchmarkPushSmallImage(b *testing.B) {
	against(b, func(b *testing.B, s *server, c *generator) {
		measure(b, s, 4, func(i int64) error {
			return c.image(fmt.Sprintf("bench/app%d", i%4), fmt.Sprintf("v%d", i), random(uint64(i), 1000))
		})
	})
}

// Pages of 1,000 tags and of 1,000 repositories, at 100,000 of each (5,000 with
// -short: making them takes minutes). They are put on the disk as a push would
// have put them, before the server starts.
func BenchmarkPage(b *testing.B) {
	listed := 100_000
	if testing.Short() {
		listed = 5_000
	}
	dir := b.TempDir()
	seedLists(b, dir, listed)
	for _, list := range []string{"/v2/bench/app/tags/list", "/v2/_catalog"} {
		b.Run(filepath.Base(list), func(b *testing.B) {
			for _, name := range []string{"regctl", "docker-registry"} {
				b.Run(name, func(b *testing.B) {
					s := servers[name](b, dir)
					c := newGenerator(s)
					if err := c.do(http.MethodGet, list+"?n=1", nil, http.StatusOK); err != nil { // The first one reads the disk.
						b.Fatal(err)
					}
					measure(b, s, 1, func(i int64) error {
						return c.do(http.MethodGet, fmt.Sprintf("%s?n=1000&last=x%06d", list, i*997%int64(listed)), nil, http.StatusOK)
					})
				})
			}
		})
	}
}

// seedLists makes n tags of one repository and n repositories. Links are hard
// links to a few files, so that it takes seconds.
func seedLists(tb testing.TB, dir string, n int) {
	tb.Helper()
	s := startRegctl(tb, dir)
	c := newGenerator(s)
	c.pushImage(tb, "bench/app", "x", random(1, 100))
	if err := s.stop(syscall.SIGTERM); err != nil {
		tb.Fatal(err)
	}
	repos := filepath.Join(dir, "docker/registry/v2/repositories")
	app := filepath.Join(repos, "bench/app/_manifests")
	revision, err := filepath.Glob(filepath.Join(app, "revisions/sha256/*/link"))
	if err != nil || len(revision) != 1 {
		tb.Fatal(revision, err)
	}
	hex := filepath.Base(filepath.Dir(revision[0]))
	for i := range n {
		name := fmt.Sprintf("x%06d", i)
		link(tb, revision[0], filepath.Join(app, "tags", name, "current"))
		link(tb, revision[0], filepath.Join(repos, name, "_manifests/revisions/sha256", hex))
		link(tb, revision[0], filepath.Join(repos, name, "_layers/sha256", hex))
	}
}

// link makes dir with a hard link to file, which is called "link". File
// systems bound how many names a file has, so it is copied now and then.
func link(tb testing.TB, file, dir string) {
	tb.Helper()
	if err := os.MkdirAll(dir, 0o777); err != nil {
		tb.Fatal(err)
	}
	if os.Link(file, filepath.Join(dir, "link")) == nil {
		return
	}
	content, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "link"), content, 0o666)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// generator sends requests as cheaply as net/http can.
type generator struct {
	base   string
	client *http.Client
}

func newGenerator(s *server) *generator {
	return &generator{base: "http://" + s.addr, client: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 16, DisableCompression: true, ReadBufferSize: 256 << 10, WriteBufferSize: 256 << 10,
	}}}
}

func (c *generator) do(method, path string, body []byte, want int) error {
	_, err := c.send(method, path, body, "", want)
	return err
}

// send returns the header Location.
func (c *generator) send(method, path string, body []byte, mediaType string, want int) (string, error) {
	if !strings.HasPrefix(path, "http") {
		path = c.base + path
	}
	req, err := http.NewRequest(method, path, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json")
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return "", err
	}
	if resp.StatusCode != want {
		return "", fmt.Errorf("%s %s: %s, want %d", method, path, resp.Status, want)
	}
	return resp.Header.Get("Location"), nil
}

// push pushes a blob as docker does: POST, PATCH, PUT.
func (c *generator) push(repo string, content []byte) (string, error) {
	d := fmt.Sprintf("sha256:%x", sha256.Sum256(content))
	at, err := c.send(http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil, "", http.StatusAccepted)
	if err != nil {
		return d, err
	}
	if at, err = c.send(http.MethodPatch, at, content, "application/octet-stream", http.StatusAccepted); err != nil {
		return d, err
	}
	sep := "?"
	if strings.Contains(at, "?") {
		sep = "&"
	}
	_, err = c.send(http.MethodPut, at+sep+"digest="+d, nil, "", http.StatusCreated)
	return d, err
}

func (c *generator) image(repo, tag string, content []byte) error {
	config, err := c.push(repo, fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","n":%q}`, tag))
	if err != nil {
		return err
	}
	layer, err := c.push(repo, content)
	if err != nil {
		return err
	}
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": map[string]any{"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 1},
		"layers": []any{map[string]any{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": len(content)}},
	})
	if err != nil {
		return err
	}
	_, err = c.send(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, manifest, "application/vnd.oci.image.manifest.v1+json", http.StatusCreated)
	return err
}

func (c *generator) pushBlob(tb testing.TB, repo string, content []byte) string {
	tb.Helper()
	d, err := c.push(repo, content)
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func (c *generator) pushImage(tb testing.TB, repo, tag string, content []byte) {
	tb.Helper()
	if err := c.image(repo, tag, content); err != nil {
		tb.Fatal(err)
	}
}

// random returns n bytes that depend on seed alone.
func random(seed uint64, n int) []byte {
	b := make([]byte, n)
	var key [32]byte
	key[0], key[1], key[2], key[3] = byte(seed), byte(seed>>8), byte(seed>>16), byte(seed>>24)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}
