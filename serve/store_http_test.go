package serve

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/storage/file/filetest"
	"github.com/regctl/regctl/serve/store"
)

// rig is a registry behind HTTP on a disk in memory that can be made to fail.
type rig struct {
	*server
	disk   *filetest.Disk
	access *logBuffer // One line a request.
	log    *logBuffer
}

// newRig serves what is on disk; nil is an empty one.
func newRig(t testing.TB, disk *filetest.Disk) *rig {
	t.Helper()
	if disk == nil {
		disk = filetest.NewDisk()
	}
	b, err := file.Open("/store", file.Options{FS: disk, Euid: func() int { return 1000 }})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{disk: disk, access: &logBuffer{}, log: &logBuffer{}}
	o := Options{Log: r.log.text(), Access: r.access.json()}
	r.server = newServer(t, openStore(t, b), o)
	return r
}

func openStore(t testing.TB, b storage.Backend) oci.Registry {
	t.Helper()
	st, err := store.New(t.Context(), b, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// files returns the names of all files of the store, sorted.
func (r *rig) files() []string { return filesBelow(r.t, r.disk, "/store/docker") }

func filesBelow(t testing.TB, tree file.Tree, dir string) []string {
	t.Helper()
	entries, err := tree.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		name := dir + "/" + e.Name()
		if e.IsDir() {
			names = append(names, filesBelow(t, tree, name)...)
		} else {
			names = append(names, name)
		}
	}
	return names
}

// unchanged fails the test if files were made or removed since before.
func (r *rig) unchanged(what string, before []string) {
	r.t.Helper()
	now := r.files()
	for _, name := range now {
		if !slices.Contains(before, name) {
			r.t.Errorf("%s: left over: %s", what, name)
		}
	}
	for _, name := range before {
		if !slices.Contains(now, name) {
			r.t.Errorf("%s: missing: %s", what, name)
		}
	}
}

// lastAccess waits for line n of the access log, which must be the last one,
// and wants its status.
func (r *rig) lastAccess(what string, n, status int) {
	r.t.Helper()
	eventually(r.t.(*testing.T), func() bool { return strings.Count(r.access.String(), "\n") >= n })
	lines := slices.Collect(strings.Lines(r.access.String()))
	var last struct{ Status int }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		r.t.Fatal(err)
	}
	if len(lines) != n || last.Status != status {
		r.t.Errorf("%s: %d lines in the access log, want %d; the last says %d, want %d", what, len(lines), n, last.Status, status)
	}
}

// lines is how many requests the access log has so far.
func (r *rig) lines() int { return strings.Count(r.access.String(), "\n") }

// refuses wants a code for an answer.
func (s *server) refuses(what string, a answer, code oci.Code) {
	s.t.Helper()
	if a.status != code.Status() || a.code() != code {
		s.t.Errorf("%s: %d %s, want %d %s", what, a.status, strings.TrimSpace(a.body), code.Status(), code)
	}
}

// push pushes an image of one layer and returns its digest.
func (s *server) push(repo, tag, layer string) string {
	s.t.Helper()
	raw := s.pushBlobs(repo, layer)
	a := s.do("PUT", "/v2/"+repo+"/manifests/"+tag, raw, "Content-Type", oci.MediaTypeManifest)
	s.want("push "+repo+":"+tag, a, 201)
	return a.header.Get("Docker-Content-Digest")
}

// pushBlobs pushes the blobs of an image and returns its manifest.
func (s *server) pushBlobs(repo, layer string) string {
	s.t.Helper()
	const config = "{}"
	for _, content := range []string{config, layer} {
		d := digest.FromString(content).String()
		s.want("push blob", s.do("POST", "/v2/"+repo+"/blobs/uploads/?digest="+d, content), 201)
	}
	return manifestOf(config, layer)
}

func manifestOf(config, layer string) string {
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}]}`,
		oci.MediaTypeManifest, digest.FromString(config), len(config), digest.FromString(layer), len(layer))
}

// pulls wants an image with its blobs, bytes and all.
func (s *server) pulls(repo, ref, layer string) {
	s.t.Helper()
	a := s.do("GET", "/v2/"+repo+"/manifests/"+ref, "")
	s.want("pull "+repo+":"+ref, a, 200)
	if want := manifestOf("{}", layer); a.body != want {
		s.t.Errorf("%s:%s is %s, want %s", repo, ref, a.body, want)
	}
	b := s.do("GET", "/v2/"+repo+"/blobs/"+digest.FromString(layer).String(), "")
	s.want("pull layer", b, 200)
	if b.body != layer {
		s.t.Errorf("the layer of %s:%s has %d bytes, want %d", repo, ref, len(b.body), len(layer))
	}
}

// begin starts an upload and returns its location.
func (s *server) begin(repo string) string {
	s.t.Helper()
	a := s.do("POST", "/v2/"+repo+"/blobs/uploads/", "")
	s.want("begin an upload", a, 202)
	return a.header.Get("Location")
}

func TestWrongDigestLeavesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.push("app", "v1", "layer")
	before := r.files()
	wrong := "?digest=" + digest.FromString("something else").String()
	raw := manifestOf("{}", "layer")
	for _, tt := range []struct{ name, method, path, body string }{
		{"at once", "POST", "/v2/app/blobs/uploads/" + wrong, "content"},
		{"of a new repository", "POST", "/v2/new/blobs/uploads/" + wrong, "content"},
		{"sha512", "POST", "/v2/app/blobs/uploads/?digest=" + digest.SHA512.FromString("other").String(), "content"},
		{"at the end", "PUT", r.begin("app") + wrong, "content"},
		{"empty", "PUT", r.begin("app") + wrong, ""},
		{"manifest", "PUT", "/v2/app/manifests/" + digest.FromString("x").String(), raw},
	} {
		n := r.lines()
		r.refuses(tt.name, r.do(tt.method, tt.path, tt.body), oci.DigestInvalid)
		r.lastAccess(tt.name, n+1, 400)
		if upload, _, ok := strings.Cut(tt.path, "?"); ok && tt.method == "PUT" {
			r.refuses("the upload has ended", r.do("GET", upload, ""), oci.BlobUploadUnknown)
		}
	}
	r.unchanged("after wrong digests", before)
	r.pulls("app", "v1", "layer")
	if r.log.String() != "" {
		t.Errorf("nothing of this is an operator's business:\n%s", r.log)
	}
}

// cutRequest sends a request of which only the first sent bytes of the body
// come, and goes away.
func (r *rig) cutRequest(method, path, body string, sent int) {
	r.t.Helper()
	n := r.lines()
	c := dial(r.t.(*testing.T), r.addr)
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body[:sent])
	if err := c.Close(); err != nil {
		r.t.Fatal(err)
	}
	r.lastAccess(fmt.Sprintf("%s cut at %d", method, sent), n+1, 499)
}

func TestClientGoneAfterAnyByte(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.push("app", "v1", "layer")
	const body = "some content"
	d := digest.FromString(body).String()
	r.want("leave its bytes", r.do("POST", "/v2/app/blobs/uploads/?digest="+d, body), 201)
	r.want("and nothing else", r.do("DELETE", "/v2/app/blobs/"+d, ""), 202)
	before := r.files()
	manifest := manifestOf("{}", "layer") + strings.Repeat(" ", 8)
	for k := range len(body) {
		r.cutRequest("POST", "/v2/app/blobs/uploads/?digest="+d, body, k)
		r.cutRequest("PUT", "/v2/app/manifests/v1", manifest, len(manifest)-1-k*len(manifest)/len(body))
		r.unchanged("nobody was told of these", before)

		for _, method := range []string{"PATCH", "PUT"} {
			at := r.begin("app")
			r.cutRequest(method, at+"?digest="+d, body, k)
			r.want("what came is kept", r.do("GET", at, ""), 204, "Range", fmt.Sprintf("0-%d", max(k-1, 0)))
			r.want("go on", r.do("PATCH", at, body[k:], "Content-Range", fmt.Sprintf("%d-%d", k, len(body)-1)), 202)
			r.want("finish", r.do("PUT", at+"?digest="+d, ""), 201)
			r.want("delete", r.do("DELETE", "/v2/app/blobs/"+d, ""), 202)
		}
	}
	r.pulls("app", "v1", "layer")
	if r.log.String() != "" {
		t.Errorf("nothing of this is an operator's business:\n%s", r.log)
	}
}

// Once a change on disk was begun it is finished, though the client that asked
// for it went away at any step.
func TestClientGoneAtAnyStep(t *testing.T) {
	t.Parallel()
	const layer = "layer"
	d := digest.FromString(layer).String()
	tests := []struct {
		name   string
		method string
		path   func(r *rig) string
		body   string
		done   func(r *rig)
	}{
		{"finish an upload", "PUT", func(r *rig) string {
			at := r.begin("app")
			r.want("patch", r.do("PATCH", at, layer), 202)
			return at + "?digest=" + d
		}, "", func(r *rig) { r.want("blob", r.do("GET", "/v2/app/blobs/"+d, ""), 200) }},
		{"push an image", "PUT", func(r *rig) string {
			r.pushBlobs("app", layer)
			return "/v2/app/manifests/v1"
		}, manifestOf("{}", layer), func(r *rig) { r.pulls("app", "v1", layer) }},
		{"mount", "POST", func(r *rig) string {
			r.pushBlobs("lib", layer)
			return "/v2/app/blobs/uploads/?from=lib&mount=" + d
		}, "", func(r *rig) { r.want("blob", r.do("HEAD", "/v2/app/blobs/"+d, ""), 200) }},
		{"delete", "DELETE", func(r *rig) string { return "/v2/app/manifests/" + r.push("app", "v1", layer) }, "",
			func(r *rig) { r.refuses("tag", r.do("GET", "/v2/app/manifests/v1", ""), oci.ManifestUnknown) }},
		{"delete a repository", "DELETE", func(r *rig) string { r.push("app", "v1", layer); return "/v2/app" }, "",
			func(r *rig) { r.refuses("tags", r.do("GET", "/v2/app/tags/list", ""), oci.NameUnknown) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for step := 1; ; step++ {
				if !goneAt(t, step, tt.method, tt.path, tt.body, tt.done) {
					if step < 4 {
						t.Errorf("only %d steps", step-1)
					}
					return
				}
			}
		})
	}
}

// goneAt makes a request whose client goes away at a step on disk. It returns
// false if there are fewer steps.
func goneAt(t *testing.T, step int, method string, path func(*rig) string, body string, done func(*rig)) bool {
	disk := filetest.NewDisk()
	var mu sync.Mutex
	left, leave := 0, func() {}
	disk.Before = func(filetest.Call) error {
		mu.Lock()
		defer mu.Unlock()
		if left--; left == 0 {
			leave()
		}
		return nil
	}
	r := newRig(t, disk)
	over := make(chan struct{}, 1) // The server has seen that the client is gone.
	addr := runServer(t, &Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		context.AfterFunc(q.Context(), func() { over <- struct{}{} })
		NewHandler(r.reg, Options{Access: r.access.json()}).ServeHTTP(w, q)
	})})
	target := path(r)
	n := r.lines()
	c := dial(t, addr)
	mu.Lock()
	left, leave = step, func() { c.Close(); <-over }
	mu.Unlock()
	fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", method, target, len(body), body)
	eventually(t, func() bool { return r.lines() > n })
	mu.Lock()
	defer mu.Unlock()
	if left > 0 {
		return false
	}
	left = -1
	mu.Unlock()
	done(r)
	mu.Lock()
	return true
}

func TestTwoWritersOnOneUpload(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	at := r.begin("app")
	d := digest.FromString("abcdef").String()
	c := dial(t, r.addr)
	fmt.Fprintf(c, "PATCH %s HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n40000\r\n%s\r\n", at, strings.Repeat("x", 0x40000))
	eventually(t, func() bool { return r.do("PATCH", at, "other").status == 409 })
	for _, method := range []string{"PATCH", "PUT", "DELETE"} {
		r.refuses(method, r.do(method, at+"?digest="+d, "other"), oci.UploadBusy)
	}
	r.want("others go on", r.do("POST", "/v2/app/blobs/uploads/?digest="+d, "abcdef"), 201)
	r.want("it can be looked at", r.do("GET", at, ""), 204)
	fmt.Fprintf(c, "3\r\nend\r\n0\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != 202 || !strings.HasSuffix(res.Header.Get("Range"), fmt.Sprint("-", 0x40000+2)) {
		t.Errorf("the first writer: %v, %v", res, err)
	}
	a := r.do("PATCH", at, "late", "Content-Range", "0-3")
	r.refuses("at the offset of before", a, oci.RangeInvalid)
	r.want("and is told where it stands", a, 416, "Range", fmt.Sprint("0-", 0x40000+2), "Location", at)
	r.want("cancel", r.do("DELETE", at, ""), 204)
	if i := slices.IndexFunc(r.files(), func(name string) bool { return strings.Contains(name, "/_uploads/") }); i >= 0 {
		t.Errorf("left over: %s", r.files()[i])
	}
}

func TestUploadGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	first := newRig(t, nil)
	const body = "a layer that takes two servers"
	d := digest.FromString(body).String()
	at := first.begin("app")
	first.cutRequest("PATCH", at, body, 7)
	untouched := first.begin("app")

	second := newRig(t, first.disk)
	second.want("state", second.do("GET", at, ""), 204, "Range", "0-6", "Location", at)
	second.refuses("begins elsewhere", second.do("PATCH", at, body, "Content-Range", fmt.Sprintf("0-%d", len(body)-1)), oci.RangeInvalid)
	second.want("go on", second.do("PATCH", at, body[7:], "Content-Range", fmt.Sprintf("7-%d", len(body)-1)), 202)
	second.want("finish", second.do("PUT", at+"?digest="+d, ""), 201)
	if a := second.do("GET", "/v2/app/blobs/"+d, ""); a.body != body {
		t.Errorf("%d %q", a.status, a.body)
	}
	second.want("one that never got a byte", second.do("DELETE", untouched, ""), 204)
	if i := slices.IndexFunc(second.files(), func(name string) bool { return strings.Contains(name, "/_uploads/") }); i >= 0 {
		t.Errorf("left over: %s", second.files()[i])
	}
}

// What a power cut leaves of an upload can be asked for, and gone on with or
// given up, but never becomes a blob that is not what its digest says.
func TestUploadAfterAPowerCut(t *testing.T) {
	t.Parallel()
	first := newRig(t, nil)
	const body = "0123456789"
	d := digest.FromString(body).String()
	at := first.begin("app")
	for i := range 5 {
		first.want("patch", first.do("PATCH", at, body[i:i+1]), 202)
	}
	for cut := range 64 {
		n := 0
		r := newRig(t, first.disk.PowerCutKeeping(func() bool { n++; return cut>>(n%6)&1 == 1 }))
		a := r.do("GET", at, "")
		if a.status == 404 {
			continue
		}
		var last int
		if _, err := fmt.Sscanf(a.header.Get("Range"), "0-%d", &last); err != nil || a.status != 204 {
			t.Fatalf("%d %v %v", a.status, a.header, err)
		}
		from := 0
		if last > 0 {
			from = last + 1
		}
		a = r.do("PUT", at+"?digest="+d, body[from:], "Content-Range", fmt.Sprintf("%d-%d", from, len(body)-1))
		got := r.do("GET", "/v2/app/blobs/"+d, "")
		switch {
		case a.status == 201 && got.body == body:
		case a.status >= 400 && got.status == 404:
		default:
			t.Errorf("cut %d: PUT from %d says %d %s, GET %d %q", cut, from, a.status, a.body, got.status, got.body)
		}
	}
}
