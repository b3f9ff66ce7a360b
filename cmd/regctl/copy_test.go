package main_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/regctl/regctl/client/oci/ocitest"
)

// requested collects what is asked of a registry, "METHOD KIND".
type requested struct {
	mu   sync.Mutex
	list map[string]int
}

func (r *requested) watch(p *proxy) {
	r.list = map[string]int{}
	p.each(func(_ int64, req *http.Request) {
		kind := "greeting"
		for _, k := range []string{"blobs", "manifests", "referrers", "tags"} {
			if strings.Contains(req.URL.Path, "/"+k) {
				kind = k
			}
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.list[req.Method+" "+kind]++
	})
}

func (r *requested) want(t *testing.T, what string, want map[string]int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if fmt.Sprint(r.list) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, r.list, want)
	}
}

// TestCopyRequests states what `regctl cp` asks of each side, with what is the
// same again: a request on each side for an image, and for a page of tags.
func TestCopyRequests(t *testing.T) {
	t.Parallel()
	src, dst := startRegctl(t, t.TempDir()), startRegctl(t, t.TempDir())
	content := ocitest.Repo{Blobs: ocitest.Blobs{}, Manifests: ocitest.Manifests{}, Tags: ocitest.Tags{}}
	const n = 30
	for i := range n {
		name := fmt.Sprint("m", i)
		content.Blobs["l"+name] = name
		content.Manifests[name] = ocitest.Manifest{Layers: "l" + name}
		content.Tags[name] = name
	}
	push(t, src, ocitest.Content{"app": content})
	from, to, p := startProxy(t, src.addr), startProxy(t, dst.addr), newRegctl(t)
	for _, step := range []struct {
		name     string
		args     []string
		from, to map[string]int
	}{
		{"an image", []string{"cp", from.addr + "/app:m0", to.addr + "/one"},
			map[string]int{"GET greeting": 1, "HEAD manifests": 1, "GET manifests": 1, "GET tags": 1, "GET referrers": 1, "GET blobs": 2},
			map[string]int{"GET greeting": 1, "HEAD manifests": 2, "POST blobs": 2, "PUT blobs": 2, "PUT manifests": 1}},
		{"again", []string{"cp", from.addr + "/app:m0", to.addr + "/one"},
			map[string]int{"GET greeting": 1, "HEAD manifests": 1},
			map[string]int{"GET greeting": 1, "HEAD manifests": 1}},
		{"all tags again", []string{"cp", "-a", from.addr + "/app", to.addr + "/app"}, nil, nil},
		{"all tags again", []string{"cp", "-a", from.addr + "/app", to.addr + "/app"},
			map[string]int{"GET greeting": 1, "GET tags": 1},
			map[string]int{"GET greeting": 1, "GET tags": 1}},
		{"a tag", []string{"tag", to.addr + "/app:m0", "a", "b", "c"},
			map[string]int{}, map[string]int{"GET greeting": 1, "GET manifests": 1, "PUT manifests": 1}},
	} {
		var asked, sent requested
		asked.watch(from)
		sent.watch(to)
		p.run(t, step.args...)
		if step.from != nil {
			asked.want(t, step.name+": source", step.from)
			sent.want(t, step.name+": destination", step.to)
		}
	}
	if got := speak(dst).tags(t, "app"); len(got) != n+3 {
		t.Errorf("tags: %q", got)
	}
}
