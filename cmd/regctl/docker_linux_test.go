package main_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

// TestDocker has one dockerd for all that is asked of docker here.
func TestDocker(t *testing.T) {
	t.Parallel()
	d := startDockerd(t)
	t.Run("image", func(t *testing.T) {
		s := startRegctl(t, t.TempDir())
		exercise(t, s, docker(d))
	})
	t.Run("login", func(t *testing.T) { testDockerLogin(t, d) })
	t.Run("mount", func(t *testing.T) { testDockerMounts(t, d) })
	t.Run("platforms", func(t *testing.T) { testDockerPlatforms(t, d) })
	t.Run("archive", func(t *testing.T) {
		s := startRegctl(t, t.TempDir())
		exchange(t, s, dockerArchives(d))
	})
	t.Run("minbase", func(t *testing.T) { testMinbase(t, d) })
	t.Run("build", func(t *testing.T) { testDockerImage(t, d) })
}

var pushed = regexp.MustCompile(`digest: (sha256:[0-9a-f]{64})`)

func docker(d tool) client {
	ids := map[string]string{}
	return client{
		push: func(t *testing.T, ref string) oci.Digest {
			ids[ref] = d.run(t, "import", "--change", `CMD ["/hello"]`, layer(t, ref), ref)
			return dockerPush(t, d, ref)
		},
		pull: func(t *testing.T, ref string) oci.Digest {
			d.run(t, "rmi", ref)
			d.run(t, "pull", ref)
			if id := d.run(t, "image", "inspect", "--format", "{{.Id}}", ref); id != ids[ref] {
				t.Errorf("docker pulled image %s, had pushed %s", id, ids[ref])
			}
			_, digest, _ := strings.Cut(d.run(t, "image", "inspect", "--format", "{{index .RepoDigests 0}}", ref), "@")
			return oci.Digest(digest)
		},
		tags: func(t *testing.T, repo string) []string {
			for ref := range ids {
				d.run(t, "rmi", ref)
			}
			d.run(t, "pull", "--all-tags", repo)
			return strings.Fields(d.run(t, "images", "--format", "{{.Tag}}", repo))
		},
	}
}

func dockerArchives(d tool) archives {
	return archives{
		write: func(t *testing.T, ref, file string) {
			d.run(t, "pull", ref)
			d.run(t, "save", "-o", file, ref)
			d.run(t, "rmi", ref)
		},
		read: func(t *testing.T, file, ref string) {
			if said := d.run(t, "load", "-i", file); !strings.Contains(said, ref) {
				t.Errorf("docker load says %s", said)
			}
			d.run(t, "rmi", ref)
		},
	}
}

func dockerPush(t *testing.T, d tool, ref string) oci.Digest {
	t.Helper()
	said := d.run(t, "push", ref)
	m := pushed.FindStringSubmatch(said)
	if m == nil {
		t.Fatalf("docker push says no digest: %s", said)
	}
	return oci.Digest(m[1])
}

// docker mounts what it knows to be in another repository of the registry.
func testDockerMounts(t *testing.T, d tool) {
	s := startRegctl(t, t.TempDir())
	from, to := s.addr+"/team/base:1", s.addr+"/other/app:1"
	d.run(t, "import", layer(t, from), from)
	want := dockerPush(t, d, from)
	before := len(s.log.String())
	d.run(t, "tag", from, to)
	if got := dockerPush(t, d, to); got != want {
		t.Errorf("pushed %s, then %s", want, got)
	}
	if got := speak(s).whole(t, "other/app", "1"); got != want {
		t.Errorf("arrived as %s, want %s", got, want)
	}
	s.end(t) // Its log is whole then.
	if log := s.log.String()[before:]; !strings.Contains(log, "method=POST path=/v2/other/app/blobs/uploads/ status=201") {
		t.Errorf("docker did not mount the layer:\n%s", log)
	}
	s.contented(t)
}

// An index that docker makes, of which docker and podman then pull one child.
// This docker imports for its own architecture only; the index says otherwise.
func testDockerPlatforms(t *testing.T, d tool) {
	s := startRegctl(t, t.TempDir())
	multi, arches := s.addr+"/team/app:multi", []string{"amd64", "arm64"}
	ids := map[string]string{}
	for _, arch := range arches {
		ref := s.addr + "/team/app:" + arch
		ids[arch] = strings.TrimPrefix(d.run(t, "import", layer(t, ref), ref), "sha256:")
		dockerPush(t, d, ref)
		d.run(t, "manifest", "create", "--insecure", "--amend", multi, ref)
		d.run(t, "manifest", "annotate", "--os", "linux", "--arch", arch, multi, ref)
	}
	want := oci.Digest(d.run(t, "manifest", "push", "--insecure", multi))
	if got := speak(s).whole(t, "team/app", "multi"); got != want {
		t.Errorf("arrived as %s, want %s", got, want)
	}
	p := newPodman(t)
	for _, arch := range arches {
		d.run(t, "pull", "--platform", "linux/"+arch, multi)
		if got := d.run(t, "image", "inspect", "--format", "{{.Id}}", multi); got != "sha256:"+ids[arch] {
			t.Errorf("docker asked for %s and pulled %s, want %s", arch, got, ids[arch])
		}
		p.run(t, "pull", "--tls-verify=false", "--arch", arch, multi)
		if got := p.run(t, "image", "inspect", "--format", "{{.Id}}", multi); got != ids[arch] {
			t.Errorf("podman asked for %s and pulled %s, want %s", arch, got, ids[arch])
		}
	}
	s.contented(t)
}

// A real system: docker imports and pushes it, podman and docker pull it.
func testMinbase(t *testing.T, d tool) {
	archive := minbase(t)
	diff := hashFile(t, archive)
	s := startRegctl(t, t.TempDir())
	w, ref := speak(s), s.addr+"/debian/minbase:latest"
	id := d.run(t, "import", "--change", `CMD ["/bin/bash"]`, archive, ref)
	pushed := dockerPush(t, d, ref)
	if got := w.whole(t, "debian/minbase", "latest"); got != pushed {
		t.Errorf("arrived as %s, docker pushed %s", got, pushed)
	}
	g, err := oci.ParseManifest("", w.must(t, http.StatusOK, http.MethodGet, "/v2/debian/minbase/manifests/latest").body)
	if err != nil || len(g.Layers) != 1 {
		t.Fatalf("%v, %d layers", err, len(g.Layers))
	}
	if got := unpackedDigest(t, s.url("/v2/debian/minbase/blobs/%s", g.Layers[0].Digest)); got != diff {
		t.Errorf("the layer unpacks to %s, imported was %s", got, diff)
	}

	p := newPodman(t)
	p.run(t, "pull", "--tls-verify=false", ref)
	d.run(t, "rmi", ref)
	d.run(t, "pull", ref)
	if got := d.run(t, "image", "inspect", "--format", "{{.Id}}", ref); got != id {
		t.Errorf("docker pulled %s, pushed %s", got, id)
	}
	for _, program := range []tool{d, p} {
		var layers []oci.Digest
		said := program.run(t, "image", "inspect", "--format", "{{json .RootFS.Layers}}", ref)
		if err := json.Unmarshal([]byte(said), &layers); err != nil || !slices.Equal(layers, []oci.Digest{diff}) {
			t.Errorf("%s has layers %s, want %s", program.path, said, diff)
		}
	}
	s.contented(t)
}

// unpackedDigest is the digest of what a blob of gzip unpacks to.
func unpackedDigest(t *testing.T, url string) oci.Digest {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	z, err := gzip.NewReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	d, err := digest.FromReader(z)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func hashFile(t *testing.T, file string) oci.Digest {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	d, err := digest.FromReader(f)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// minbase returns a tar archive of the smallest Debian, which is made once and
// kept in the cache of the user.
func minbase(t *testing.T) string {
	t.Helper()
	debootstrap := peer(t, "debootstrap")
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	release := read(t, "/etc/os-release")
	m := regexp.MustCompile(`(?m)^VERSION_CODENAME="?(\w+)`).FindStringSubmatch(release)
	if m == nil {
		t.Fatalf("which Debian is this? %s", release)
	}
	file := filepath.Join(cache, "regctl-test", "minbase-"+m[1]+".tar")
	if _, err := os.Stat(file); err == nil {
		return file
	}
	root := shortTempDir(t, unmountBelow)
	command(t, debootstrap, append([]string{"--variant=minbase", m[1], filepath.Join(root, "debian")}, mirrors(m[1])...)...)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	command(t, "tar", "--one-file-system", "-C", filepath.Join(root, "debian"), "--exclude=./dev/*", "--exclude=./proc/*",
		"--exclude=./sys/*", "--exclude=./var/cache/apt/archives/*.deb", "-cf", file+".new", ".")
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	return file
}

// mirrors returns where apt gets this release from; without apt debootstrap
// knows a mirror itself.
func mirrors(codename string) []string {
	out, err := exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Codename: "+codename).Output()
	if err != nil {
		return nil
	}
	return strings.Fields(string(out))[:min(1, len(strings.Fields(string(out))))]
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out[max(0, len(out)-2000):])
	}
}

// startDockerd returns a docker that has its daemon to itself.
func startDockerd(t *testing.T) tool {
	t.Helper()
	d, daemon := newTool(t, "docker"), peer(t, "dockerd")
	if os.Geteuid() != 0 {
		missing(t, "dockerd needs root")
	}
	dir := shortTempDir(t, unmountBelow)
	host := "unix://" + dir + "/sock"
	write(t, dir+"/daemon.json", []byte("{}"))
	s := launch(t, exec.Command(daemon, "--iptables=false", "--bridge=none", "--storage-driver=vfs", "--host", host,
		"--data-root", dir+"/data", "--exec-root", dir+"/exec", "--pidfile", dir+"/pid", "--config-file", dir+"/daemon.json"), func(string) {})
	t.Cleanup(func() {
		if err := s.stop(syscall.SIGTERM); err != nil {
			t.Errorf("dockerd ended: %v\n%s", err, s.log)
		}
	})
	d.env = append(d.env, "DOCKER_HOST="+host)
	s.await(t, func() error {
		cmd := exec.Command(d.path, "version")
		cmd.Env = d.env
		return cmd.Run()
	})
	return d
}

// unmountBelow unmounts everything in dir, last mount first: to remove what is
// mounted would be worse than to leave it.
func unmountBelow(dir string) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	var points []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			points = append(points, fields[4])
		}
	}
	for _, point := range slices.Backward(points) {
		if err := syscall.Unmount(point, 0); err != nil {
			return &os.PathError{Op: "unmount", Path: point, Err: err}
		}
	}
	return nil
}
