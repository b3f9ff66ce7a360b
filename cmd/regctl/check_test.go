//go:build unix

package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve/store"
)

// checkStore runs check on a store, wants its exit status, and returns what it
// says of faults: kind, where, and what it hurts.
func checkStore(t *testing.T, dir string, status int, args ...string) (store.CheckReport, []string) {
	t.Helper()
	p := newRegctl(t)
	cmd := exec.Command(p.path, append([]string{"check", "--data", dir, "-o", "json"}, args...)...)
	cmd.Env = p.env
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	var r store.CheckReport
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := cmd.ProcessState.ExitCode(); got != status {
		t.Errorf("check %v: exit status %d, want %d: %s", args, got, status, out)
	}
	var lines []string
	for _, f := range r.Faults {
		lines = append(lines, fmt.Sprintf("%s %s%s %v repaired=%t", f.Kind, f.Repo, f.Tag, f.Hurts, f.Repaired))
	}
	slices.Sort(lines)
	return r, lines
}

func wantFaults(t *testing.T, when string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", when, got, want)
	}
}

// TestCheckTheirs: what docker-registry writes, deletes and collects is whole
// for us, what is mended is so for it, and a push to it heals the rest.
func TestCheckTheirs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	content := tagged(4)
	content["multi"] = ocitest.Repo{
		Blobs: ocitest.Blobs{"amd": "layer for amd64", "arm": "layer for arm64"},
		Manifests: ocitest.Manifests{
			"amd64": {Layers: "amd", Platform: "linux/amd64"}, "arm64": {Layers: "arm", Platform: "linux/arm64"},
			"list": {Manifests: "amd64 arm64"},
		},
		Tags: ocitest.Tags{"latest": "list"},
	}
	theirs := startDockerRegistry(t, dir)
	at := push(t, theirs, content)
	pushUnder(t, theirs, []byte("a blob of sha512"), digest.SHA512.FromString("a blob of sha512"))
	pushBegun(t, theirs, "a blob that is never ended")
	speak(theirs).must(t, http.StatusAccepted, http.MethodDelete, "/v2/other/manifests/"+string(at["other00"]))
	theirs.end(t)

	r, faults := checkStore(t, dir, 0)
	wantFaults(t, "pushed and deleted", faults, "other-digest team/app [] repaired=false")
	if r.Repositories != 4 || r.Tags != 12 || r.Manifests != 14 || r.Read != r.Bytes {
		t.Errorf("counted %+v", r)
	}
	theirCollect(t, dir, "-m") // The children of the index go with it: it does not look at them.
	_, faults = checkStore(t, dir, 0)
	wantFaults(t, "collected", faults,
		"dead-link multi [] repaired=false", "dead-link other [] repaired=false", "dead-link team/app [] repaired=false",
		"sparse-index multi [multi:latest] repaired=false")

	damage(t, dir, filepath.Join("repositories/team/app/_layers/sha256", at["base"].Encoded(), "link"), "")
	layer := at["layerteamappsub02"]
	damage(t, dir, dataKey(layer), string(random(3, 1000)))
	r, _ = checkStore(t, dir, 8, "--fast")
	if r.Corrupt != 2 {
		t.Errorf("%d faults found fast, want the empty link and the cut layer", r.Corrupt)
	}
	_, faults = checkStore(t, dir, 8, "--repair", "--offline")
	faults = slices.DeleteFunc(faults, func(s string) bool { return s[:5] == "dead-" || s[:7] == "sparse-" })
	wantFaults(t, "mended", faults,
		"damaged-link team/app [team/app:1.00 team/app:1.01 team/app:1.02 team/app:1.03] repaired=true",
		"missing-data  [team/app/sub:1.02] repaired=false",
		"wrong-bytes  [team/app/sub:1.02] repaired=true")

	theirs = startDockerRegistry(t, dir)
	w := speak(theirs)
	for i := range 4 {
		w.whole(t, "team/app", fmt.Sprintf("1.%02d", i))
	}
	w.must(t, http.StatusNotFound, http.MethodHead, "/v2/team/app/sub/blobs/"+string(layer)) // So docker pushes it.
	push(t, theirs, content)
	theirs.end(t)
	_, faults = checkStore(t, dir, 0)
	wantFaults(t, "pushed again", faults, "dead-link team/app [] repaired=false") // The one by sha512.
}

func dataKey(d oci.Digest) string {
	return filepath.Join("blobs", string(d.Algorithm()), d.Encoded()[:2], d.Encoded(), "data")
}

// damage writes over a file of a store.
func damage(t *testing.T, dir, name, data string) {
	t.Helper()
	name = filepath.Join(dir, storeRoot, name)
	if _, err := os.Stat(name); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(data), 0o666); err != nil {
		t.Fatal(err)
	}
}
