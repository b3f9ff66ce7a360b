package main_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// shared is one image under two tags, and an index that shares a child with a
// tag of its own.
var shared = ocitest.Repo{
	Blobs: ocitest.Blobs{"base": "a layer", "arm": "another layer"},
	Manifests: ocitest.Manifests{
		"image": {Layers: "base", Platform: "linux/amd64"},
		"arm64": {Layers: "arm", Platform: "linux/arm64"},
		"multi": {Manifests: "image arm64"},
	},
	Tags: ocitest.Tags{"dev-1": "image", "1.0": "image", "multi": "multi"},
}

// TestOthersLoseWhatWeKeep: to remove one tag of two on the same image, others
// remove the image, and with it the other tag and a child of an index.
func TestOthersLoseWhatWeKeep(t *testing.T) {
	t.Parallel()
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, t.TempDir())
			w := speak(s)
			image := push(t, s, ocitest.Content{"by/others": shared, "by/us": shared})["image"]

			skopeo := newTool(t, "skopeo", "delete", "--tls-verify=false")
			if _, err := skopeo.try(t, "docker://"+s.addr+"/by/others:dev-1"); err == nil {
				if a, _ := w.call(http.MethodGet, "/v2/by/others/manifests/1.0", "", nil); a.status != http.StatusNotFound {
					t.Errorf("skopeo delete left the other tag: %d; then this test shows nothing", a.status)
				}
			} else if name == "docker-registry" { // Ours refuses to take a child from an index.
				t.Errorf("skopeo: %v", err)
			}

			out, err := newRegctl(t).try(t, "rm", s.addr+"/by/us:dev-1")
			left := w.wholeTags(t, "by/us")
			if left["1.0"] != image || left["multi"] == "" {
				t.Errorf("regctl rm of dev-1 left %v", left)
			}
			_, still := left["dev-1"]
			switch name {
			case "regctl":
				if err != nil || still {
					t.Errorf("dev-1 is still there: %v\n%s", err, out)
				}
			default: // It cannot delete a tag alone.
				if err == nil || !still || !strings.Contains(out, "dev-1 is kept: ") {
					t.Errorf("want a refusal that says why: %v\n%s", err, out)
				}
			}
		})
	}
}

// TestChildOfAnIndexIsKept: others delete a child by its digest and break the
// index; we name the index and refuse.
func TestChildOfAnIndexIsKept(t *testing.T) {
	t.Parallel()
	s := startDockerRegistry(t, t.TempDir())
	w := speak(s)
	digests := push(t, s, ocitest.Content{"by/others": shared, "by/us": shared})
	child := "@" + string(digests["arm64"])

	newTool(t, "crane", "delete", "--insecure").run(t, s.addr+"/by/others"+child)
	if a, _ := w.call(http.MethodGet, "/v2/by/others/manifests/"+child[1:], "", nil); a.status != http.StatusNotFound {
		t.Errorf("crane left the child: %d; then this test shows nothing", a.status)
	}

	out, err := newRegctl(t).try(t, "rm", s.addr+"/by/us"+child)
	if err == nil || !strings.Contains(out, "multi") {
		t.Errorf("want a refusal that names multi: %v\n%s", err, out)
	}
	if got := w.whole(t, "by/us", "multi"); got != oci.Digest(digests["multi"]) {
		t.Errorf("multi is at %s", got)
	}
}
