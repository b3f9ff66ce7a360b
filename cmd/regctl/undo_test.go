//go:build unix

package main_test

import (
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/regctl/regctl/client/oci/ocitest"
)

// TestUndoOthers: what another client has deleted from our server is put back
// by ours, with its index and after a restart; gc takes it only once it is told
// that nobody wants it back.
func TestUndoOthers(t *testing.T) {
	t.Parallel()
	crane := newTool(t, "crane", "--insecure")
	p, dir := newRegctl(t), t.TempDir()
	s := startRegctl(t, dir)
	at := push(t, s, ocitest.Content{"app": {
		Blobs: ocitest.Blobs{"amd": "layer for amd64", "arm": "layer for arm64"},
		Manifests: ocitest.Manifests{
			"amd64": {Layers: "amd", Platform: "linux/amd64"}, "arm64": {Layers: "arm", Platform: "linux/arm64"},
			"list": {Manifests: "amd64 arm64"},
		},
		Tags: ocitest.Tags{"1": "list", "latest": "list"},
	}})
	for _, name := range []string{"list", "amd64", "arm64"} {
		crane.run(t, "delete", s.addr+"/app@"+string(at[name]))
	}
	if err := s.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.run(t, "gc", "--data", dir, "--older", "0s", "--untagged", "--offline", "-q")
	s = startRegctl(t, dir)
	ids := strings.Fields(p.run(t, "undo", "--registry", s.addr, "--list"))
	if len(ids) == 0 {
		t.Fatal("nothing is recorded")
	}
	for i := range ids { // Two, if a minute was over in between; children first.
		p.run(t, "undo", "--registry", s.addr, ids[len(ids)-1-i])
	}
	for _, tag := range []string{"1", "latest"} {
		crane.run(t, "pull", "--format=oci", s.addr+"/app:"+tag, t.TempDir()) // With every byte.
	}
	crane.run(t, "delete", s.addr+"/app@"+string(at["list"]))
	p.run(t, "gc", "--data", dir, "--older", "0s", "--undo", "0s", "--untagged", "-q")
	speak(s).must(t, http.StatusNotFound, http.MethodGet, "/v2/app/manifests/"+string(at["amd64"]))
}
