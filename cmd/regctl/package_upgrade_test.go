package main_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

// installation is what people have who run registry:2: a directory, a config
// file, variables, a file of logins. Nothing of it changes when they move.
type installation struct {
	dir, config, addr string
	env               []string
}

const loginOfTests = "user:secret"

func install(t *testing.T) installation {
	t.Helper()
	home := t.TempDir()
	i := installation{dir: t.TempDir(), config: filepath.Join(home, "config.yml"), addr: freeAddr(t)}
	logins := filepath.Join(home, "htpasswd")
	user, password, _ := strings.Cut(loginOfTests, ":")
	write(t, logins, []byte(tool{path: calledAs(t, "htpasswd")}.run(t, "-Bbn", user, password)+"\n"))
	write(t, i.config, fmt.Appendf(nil, `version: 0.1
log:
  level: error
  accesslog:
    disabled: true
  fields:
    service: registry
storage:
  cache:
    blobdescriptor: inmemory
  filesystem:
    rootdirectory: /nowhere
  maintenance:
    uploadpurging:
      enabled: true
      age: 168h
      interval: 24h
      dryrun: false
auth:
  htpasswd:
    realm: basic-realm
    path: %s
http:
  addr: :5000
  secret: of all of them
  relativeurls: true
  headers:
    X-Content-Type-Options: [nosniff]
health:
  storagedriver:
    enabled: true
    interval: 10s
    threshold: 3
`, logins))
	i.env = []string{
		"HOME=" + home, "PATH=" + os.Getenv("PATH"), "REGISTRY_HTTP_ADDR=" + i.addr,
		"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=" + i.dir, "REGISTRY_STORAGE_DELETE_ENABLED=true",
	}
	return i
}

// calledAs is our binary by another name.
func calledAs(t *testing.T, name string) string {
	t.Helper()
	bin, err := regctl()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), name)
	if err := os.Symlink(bin, link); err != nil {
		t.Fatal(err)
	}
	return link
}

// serve runs program as a service file of registry:2 does.
func (i installation) serve(t *testing.T, program string) *server {
	t.Helper()
	cmd := exec.Command(program, "serve", i.config)
	cmd.Env = i.env
	s := start(t, cmd, i.addr)
	speak(s).must(t, http.StatusUnauthorized, http.MethodGet, "/v2/")
	s.addr = loginOfTests + "@" + s.addr // As in a URL, which logs in.
	return s
}

// TestUpgradeAndBack moves from registry:2 to regctl, back, and once more. On
// each side every image is there, and goes on to change; what was deleted on one
// is deleted on the other; an upload that one side has begun and the other knows
// nothing of is told so, done again, and gone in the end.
func TestUpgradeAndBack(t *testing.T) {
	t.Parallel()
	theirs, ours := peer(t, "docker-registry"), calledAs(t, "registry")
	i, v := install(t), newWorld()

	s := i.serve(t, theirs)
	last := v.turn(t, s, 0, nil)
	v.check(t, s)
	begun := pushBegun(t, s, "begun at registry:2")
	s.end(t)
	uploads := filepath.Join(i.dir, "docker/registry/v2/repositories/team/app/_uploads")

	s = i.serve(t, ours)
	v.check(t, s)
	wantNoUpload(t, s, begun)
	pushWhole(t, s, "begun at registry:2")
	doomed := last["short"]
	last = v.turn(t, s, 1, last)
	v.untag(t, s, bothRepos[0], "v0")
	i.collect(t, ours, "--older", "0", "--undo", "0", "--uploads", "0")
	if _, there := dataOf(t, i.dir)[doomed]; there {
		t.Errorf("%s was deleted and collected, and is there", doomed)
	}
	if left, _ := os.ReadDir(uploads); len(left) > 0 {
		t.Errorf("uploads are left: %v", left)
	}
	v.check(t, s)
	mine := pushBegun(t, s, "begun at regctl")
	s.contented(t)
	s.end(t)

	s = i.serve(t, theirs)
	v.check(t, s)
	wantNoUpload(t, s, mine)
	pushWhole(t, s, "begun at regctl")
	last = v.turn(t, s, 2, last)
	v.check(t, s)
	s.end(t)
	i.collect(t, theirs)

	s = i.serve(t, ours)
	v.turn(t, s, 3, last)
	v.check(t, s)
	resume(t, s, mine, "begun at regctl", ", and ended there")
	s.contented(t)
	s.end(t)
	wantOnlyLayout(t, i.dir)
}

// collect runs the collector of a program by the same config file.
func (i installation) collect(t *testing.T, program string, args ...string) {
	t.Helper()
	tool{path: program, env: i.env}.run(t, append(append([]string{"garbage-collect"}, args...), i.config)...)
}

// wantNoUpload: who is told that an upload is unknown begins it again.
func wantNoUpload(t *testing.T, s *server, id string) {
	t.Helper()
	a := speak(s).must(t, http.StatusNotFound, http.MethodGet, "/v2/team/app/blobs/uploads/"+id)
	if !strings.Contains(string(a.body), string(oci.BlobUploadUnknown)) && !strings.Contains(string(a.body), string(oci.BlobUploadInvalid)) {
		t.Errorf("the upload of the other side is answered %s", a.body)
	}
}

// pushWhole pushes a blob, as a client does whose upload is unknown.
func pushWhole(t *testing.T, s *server, data string) {
	t.Helper()
	d := digest.FromString(data)
	pushUnder(t, s, []byte(data), d)
	if got := speak(s).must(t, http.StatusOK, http.MethodGet, "/v2/team/app/blobs/"+string(d)).body; string(got) != data {
		t.Errorf("%s is %q", d, got)
	}
}

// wantOnlyLayout: beside the directories of registry:2 there is nothing but our
// private one, and one for uploads, neither of which it looks at.
func wantOnlyLayout(t *testing.T, dir string) {
	t.Helper()
	for path, want := range map[string]string{"": ".regctl docker", "docker/registry/v2": "_uploads blobs repositories"} {
		entries, err := os.ReadDir(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("in %s/%s there is %s, want %s", dir, path, got, want)
		}
	}
}
