package serve

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

// strange are names that no repository, tag, digest or upload can have, as
// they can stand in a path, and some that it can but nobody has.
func strange() []string {
	return []string{
		"..", "%2e%2e", "..%2f..", "%2e%2e%2f", ".", "a%00b", "%00", "a%0ab", "UPPER", "Ünï", "%c3%9c", "%ff%fe", "a%20b", "a+b", "a%2fb",
		"%2f", "~", "-", "_x", "_uploads", ".regctl", "a..b", "a%5cb", "%25", "%252e%252e", "sha256:", "sha256:..", "sha256:" + strings.Repeat("A", 64),
		"sha256:" + strings.Repeat("a", 63), "sha1:" + strings.Repeat("a", 40), "sha256:..%2f..%2f..", strings.Repeat("a", 300), strings.Repeat("a/", 200) + "a",
		"con", "nul.txt", "link", "data", "*", "?", "#", ";x=1", "{}", "%7b%7d",
	}
}

func TestStrangeNamesOnEveryEndpoint(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.push("app", "v1", "layer")
	before := r.files()
	n := r.lines()
	asked := 0
	for _, name := range strange() {
		for _, form := range []string{
			"/v2/%s/tags/list", "/v2/%s/manifests/v1", "/v2/app/manifests/%s", "/v2/app/%s/manifests/v1", "/v2/%s/blobs/" + sha256abc, "/v2/app/blobs/%s",
			"/v2/app/blobs/uploads/%s", "/v2/%s/blobs/uploads/none", "/v2/app/referrers/%s", "/v2/%s/referrers/" + sha256abc, "/v2/%s/_regctl/tags", "/v2/%s", "/%s",
		} {
			for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "POST", "OPTIONS", "get", "PROPFIND"} {
				if form == "/v2/%s/blobs/uploads/none" && method == "POST" {
					continue // Begins an upload where the name happens to be a good one.
				}
				a := r.raw(method, fmt.Sprintf(form, name))
				asked++
				// POST /v2/app/blobs/uploads/?… begins an upload.
				fine := a.status == 200 && method != "DELETE" || a.status == 204 && method == "OPTIONS" || a.status == 202 && method == "POST" && (name == "?" || name == "#")
				if !fine && (a.status < 400 || a.status >= 500) {
					t.Errorf("%s %s: %d %s", method, fmt.Sprintf(form, name), a.status, a.body)
				}
				if a.status >= 400 && method != "HEAD" && a.code() == oci.Unknown {
					t.Errorf("%s %s: %d without a code: %s", method, fmt.Sprintf(form, name), a.status, a.body)
				}
			}
		}
	}
	r.pulls("app", "v1", "layer")
	for _, name := range r.files() {
		if !strings.HasPrefix(name, "/store/docker/registry/v2/_uploads/") && !slices.Contains(before, name) {
			t.Errorf("made: %s", name)
		}
	}
	eventually(t, func() bool { return r.lines() >= n+asked+2 })
	if r.lines() != n+asked+2 {
		t.Errorf("%d lines for %d requests", r.lines()-n, asked+2)
	}
	if r.log.String() != "" {
		t.Errorf("log:\n%s", r.log)
	}
}

// raw sends a request line as it is.
func (r *rig) raw(method, target string) answer {
	r.t.Helper()
	c := dial(r.t.(*testing.T), r.addr)
	defer c.Close()
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", method, target)
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, target, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, target, err)
	}
	return answer{res.StatusCode, res.Header, string(body)}
}

// A thousand uploads of one blob at once: each is acknowledged, one is kept, others
// are answered meanwhile, and memory does not grow with the size of the blob.
func TestThousandUploadsOfOneBlob(t *testing.T) { // Not parallel: it watches the heap of the process.
	const uploads, size = 1000, 400_000
	dir := t.TempDir()
	r := newDirRig(t, dir)
	r.push("app", "v1", "layer")
	content := strings.Repeat("0123456789", size/10)
	d := digest.FromString(content).String()
	heap := watchHeap(t)
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: uploads}}
	defer client.CloseIdleConnections()
	statuses := make(chan error, uploads)
	var ready, group sync.WaitGroup
	ready.Add(uploads)
	for i := range uploads {
		group.Go(func() {
			q, err := http.NewRequestWithContext(t.Context(), "POST", fmt.Sprintf("%s/v2/app%d/blobs/uploads/?digest=%s", r.url, i%10, d),
				&together{Reader: strings.NewReader(content), at: size - 100, ready: &ready})
			if err == nil {
				q.ContentLength = int64(len(content))
				var res *http.Response
				if res, err = client.Do(q); err == nil {
					if res.StatusCode != 201 {
						err = fmt.Errorf("status %s", res.Status)
					}
					res.Body.Close()
				}
			}
			statuses <- err
		})
	}
	ready.Wait() // All are under way.
	for range 20 {
		r.pulls("app", "v1", "layer")
	}
	for range uploads {
		if err := <-statuses; err != nil {
			t.Fatal(err)
		}
	}
	group.Wait()
	most := heap()
	t.Logf("heap grew by up to %d MiB, %d KiB an upload", most>>20, most>>10/uploads)
	if most > uploads*512<<10 {
		t.Errorf("the heap grew by %d bytes", most)
	}
	r.pulls("app", "v1", "layer")
	for i := range 10 {
		if a := r.do("GET", fmt.Sprintf("/v2/app%d/blobs/%s", i, d), ""); a.body != content {
			t.Errorf("app%d: %d with %d bytes", i, a.status, len(a.body))
		}
	}
	hex := strings.TrimPrefix(d, "sha256:")
	entries, err := os.ReadDir(dir + "/docker/registry/v2/blobs/sha256/" + hex[:2] + "/" + hex)
	if err != nil || len(entries) != 1 {
		t.Errorf("on disk: %v, %v", entries, err)
	}
	if left, err := os.ReadDir(dir + "/docker/registry/v2/_uploads"); err == nil && len(left) > 0 {
		t.Errorf("left over: %d uploads", len(left))
	}
}

// together is a body that waits for all others before its last bytes.
type together struct {
	*strings.Reader
	at    int64
	ready *sync.WaitGroup
	once  sync.Once
}

func (b *together) Read(p []byte) (int, error) {
	if sent := b.Size() - int64(b.Len()); sent < b.at {
		return b.Reader.Read(p[:min(int64(len(p)), b.at-sent)])
	}
	b.once.Do(func() { b.ready.Done(); b.ready.Wait() })
	return b.Reader.Read(p)
}

// watchHeap returns a function that tells by how much the heap grew at most.
func watchHeap(t *testing.T) func() int64 {
	heap := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	runtime.GC()
	begin := heap()
	ctx, stop := context.WithCancel(t.Context())
	most := make(chan int64)
	go func() {
		var sum int64
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			sum = max(sum, heap()-begin)
			<-tick.C
		}
		most <- sum
	}()
	return func() int64 { stop(); return <-most }
}

func TestTwoPushesOfOneTag(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	raws := []string{r.pushBlobs("app", "one"), r.pushBlobs("app", "two")}
	for range 50 {
		var group sync.WaitGroup
		for _, raw := range raws {
			group.Go(func() { r.want("push", r.do("PUT", "/v2/app/manifests/v1", raw), 201) })
		}
		group.Wait()
		a := r.do("GET", "/v2/app/manifests/v1", "")
		if a.body != raws[0] && a.body != raws[1] {
			t.Fatalf("%d %s", a.status, a.body)
		}
		second := newRig(t, r.disk)
		if b := second.do("GET", "/v2/app/manifests/v1", ""); b.body != a.body {
			t.Fatalf("on disk is %s, remembered %s", b.body, a.body)
		}
	}
}

func TestDeleteAgainstPush(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	raw := r.pushBlobs("app", "layer")
	d := digest.FromString(raw).String()
	for range 200 {
		var group sync.WaitGroup
		var put, gone answer
		r.want("push", r.do("PUT", "/v2/app/manifests/v1", raw), 201)
		group.Go(func() { put = r.do("PUT", "/v2/app/manifests/v1", raw) })
		group.Go(func() { gone = r.do("DELETE", "/v2/app/manifests/"+d, "") })
		group.Wait()
		if put.status != 201 || gone.status != 202 {
			t.Fatalf("PUT %d %s, DELETE %d %s", put.status, put.body, gone.status, gone.body)
		}
		tag, manifest := r.do("GET", "/v2/app/manifests/v1", ""), r.do("GET", "/v2/app/manifests/"+d, "")
		if tag.status != manifest.status || tag.status != 200 && tag.status != 404 {
			t.Fatalf("tag %d, manifest %d", tag.status, manifest.status)
		}
	}
}

func TestManifestOfAByteTooMuch(t *testing.T) { // Not parallel: it watches the heap of the process.
	r := newRig(t, nil)
	r.push("app", "v1", "layer")
	before := r.files()
	raw := r.pushBlobs("app", "layer")
	most := raw + strings.Repeat(" ", oci.MaxManifest-len(raw))
	r.refuses("one byte more", r.do("PUT", "/v2/app/manifests/v1", most+" "), oci.ManifestTooLarge)
	r.refuses("of unknown length", r.doChunked("PUT", "/v2/app/manifests/v1", most+" "), oci.ManifestTooLarge)
	r.unchanged("refused", before)
	r.pulls("app", "v1", "layer")
	r.want("the most", r.do("PUT", "/v2/app/manifests/most", most), 201)

	// A length that is announced costs nothing: each of these would be 2 GiB.
	heap := watchHeap(t)
	for range 20 {
		c := dial(t, r.addr)
		fmt.Fprintf(c, "PUT /v2/app/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 1<<31)
		defer c.Close()
	}
	for _, path := range []string{"/v2/app/tags/list?n=2147483648", "/v2/app/_regctl/tags?n=2147483648", "/v2/app/tags/list?n=9223372036854775807"} {
		r.want(path, r.do("GET", path, ""), 200)
	}
	r.refuses("catalogue", r.do("GET", "/v2/_catalog?n=2147483648", ""), oci.PaginationInvalid)
	r.refuses("chunk", r.do("PATCH", r.begin("app"), "x", "Content-Range", fmt.Sprintf("0-%d", 1<<61)), oci.SizeInvalid)
	if most := heap(); most > 200<<20 { // Other tests run beside this one.
		t.Errorf("the heap grew by %d MiB", most>>20)
	}
}
