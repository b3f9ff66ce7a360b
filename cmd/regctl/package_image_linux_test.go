package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// image is the image that a release has, and how to run it.
type image struct {
	name  string
	store string // On this machine; /var/lib/registry in a container.

	// command runs a container as `docker run` does: entrypoint may be empty,
	// files lead from places in the container to files here.
	command func(t *testing.T, o containerOptions, args ...string) *exec.Cmd
}

type containerOptions struct {
	entrypoint string
	env        []string
	files      map[string]string
}

// TestImage builds the image and uses it as people use registry:2, with nothing
// but its name changed. Where no container can run, its programs run in its
// file system.
func TestImage(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		missing(t, "containers of root need root")
	}
	flags := []string{"--root", shortTempDir(t, unmountBelow), "--runroot", shortTempDir(t, unmountBelow), "--storage-driver", "vfs"}
	p := newTool(t, "podman", append(slices.Clone(flags), "--cgroup-manager", "cgroupfs", "--tmpdir", t.TempDir())...)
	b := newTool(t, "buildah", flags...)
	name := "localhost/regctl:" + runtime.GOARCH
	b.run(t, "bud", "--isolation", "chroot", "--build-arg", "TARGETPLATFORM=linux/"+runtime.GOARCH, "-t", name,
		"-f", "cmd/regctl/package/Dockerfile", imageContext(t))
	t.Cleanup(func() { p.run(t, "rm", "--all", "--force") })

	config := inspectImage(t, p, name)
	t.Run("chroot", func(t *testing.T) { useImage(t, chrooted(t, b, name, config)) })
	t.Run("podman", func(t *testing.T) {
		i := contained(t, p, name)
		if out, err := i.command(t, containerOptions{}, "--version").CombinedOutput(); err != nil {
			t.Skipf("no container runs here: %v: %s", err, out)
		}
		useImage(t, i)
	})
}

// testDockerImage builds the image with docker, and runs it, if it can here.
func testDockerImage(t *testing.T, d tool) {
	d.env = append(slices.Clone(d.env), "DOCKER_BUILDKIT=0") // The other one has to be installed.
	const name = "regctl-image"
	dir := imageContext(t)
	d.run(t, "build", "--build-arg", "TARGETPLATFORM=linux/"+runtime.GOARCH, "-t", name, "-f", filepath.Join(dir, "cmd/regctl/package/Dockerfile"), dir)
	inspectImage(t, d, name)
	cmd := exec.Command(d.path, "run", "--rm", "--network=none", "--entrypoint", "htpasswd", name, "-Bbn", "testuser", "testpassword")
	cmd.Env = d.env
	switch out, err := cmd.Output(); {
	case err != nil:
		t.Logf("no container of docker runs here: %v", err)
	case !strings.HasPrefix(string(out), "testuser:$2y$05$"):
		t.Errorf("htpasswd says %q", out)
	}
}

// imageContext is a directory as goreleaser makes it for a build of the image.
func imageContext(t *testing.T) string {
	t.Helper()
	bin, err := regctl()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "cmd/regctl/package"), os.DirFS("package")); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, "linux", runtime.GOARCH, "regctl")
	write(t, to, []byte(read(t, bin)))
	if err := os.Chmod(to, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

type imageConfig struct {
	Entrypoint, Cmd, Env  []string
	Volumes, ExposedPorts map[string]struct{}
	Labels                map[string]string
	User                  string
}

// inspectImage wants of the image what people know of registry:2.
func inspectImage(t *testing.T, p tool, name string) imageConfig {
	t.Helper()
	var images []struct{ Config imageConfig }
	if err := json.Unmarshal([]byte(p.run(t, "image", "inspect", name)), &images); err != nil || len(images) != 1 {
		t.Fatalf("%d images: %v", len(images), err)
	}
	c := images[0].Config
	_, volume := c.Volumes["/var/lib/registry"]
	_, port := c.ExposedPorts["5000/tcp"]
	if !volume || !port || c.User != "" || c.Labels["org.opencontainers.image.licenses"] != "Apache-2.0" {
		t.Errorf("the image has %+v", c)
	}
	return c
}

// contained runs containers in the network of this machine.
func contained(t *testing.T, p tool, name string) image {
	store := t.TempDir()
	return image{name: name, store: store, command: func(t *testing.T, o containerOptions, args ...string) *exec.Cmd {
		t.Helper()
		// Limits that everybody may have: podman would raise them.
		run := append(slices.Clone(p.args), "run", "--rm", "--network=host", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096",
			"-v", store+":/var/lib/registry")
		if o.entrypoint != "" {
			run = append(run, "--entrypoint", o.entrypoint)
		}
		for _, e := range o.env {
			run = append(run, "-e", e)
		}
		for to, from := range o.files {
			run = append(run, "-v", from+":"+to)
		}
		cmd := exec.Command(p.path, append(append(run, name), args...)...)
		cmd.Env = p.env
		return cmd
	}}
}

// chrooted runs what the image says in its file system.
func chrooted(t *testing.T, b tool, name string, c imageConfig) image {
	root := b.run(t, "mount", b.run(t, "from", name))
	store := filepath.Join(root, "var/lib/registry")
	if err := os.MkdirAll(store, 0o755); err != nil { // It is a volume.
		t.Fatal(err)
	}
	return image{name: name, store: store, command: func(t *testing.T, o containerOptions, args ...string) *exec.Cmd {
		t.Helper()
		for to, from := range o.files {
			write(t, filepath.Join(root, to), []byte(read(t, from)))
		}
		line := append(slices.Clone(c.Entrypoint), args...)
		switch {
		case o.entrypoint != "":
			line = append([]string{"/bin/" + o.entrypoint}, args...)
		case len(args) == 0:
			line = append(line, c.Cmd...)
		}
		return &exec.Cmd{
			Path: line[0], Args: line, Dir: "/", Env: append(slices.Clone(c.Env), o.env...),
			SysProcAttr: &syscall.SysProcAttr{Chroot: root},
		}
	}}
}

// serve runs a container until the test ends.
func (i image) serve(t *testing.T, addr string, o containerOptions, args ...string) *server {
	t.Helper()
	return start(t, i.command(t, o, args...), addr)
}

// say runs a container to its end and returns all that it says.
func (i image) say(t *testing.T, status int, o containerOptions, args ...string) string {
	t.Helper()
	cmd := i.command(t, o, args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != status {
		t.Fatalf("%s: exit status %d, want %d: %s", strings.Join(args, " "), got, status, out)
	}
	return string(out)
}

func useImage(t *testing.T, i image) {
	if out := i.say(t, 0, containerOptions{}, "--version"); !strings.HasPrefix(out, "registry github.com/regctl/regctl ") {
		t.Errorf("--version says %s", out)
	}
	if out := i.say(t, 0, containerOptions{}, "help"); !strings.Contains(out, "registry garbage-collect") {
		t.Errorf("help says %s", out)
	}
	if out := i.say(t, 2, containerOptions{}, "sh", "-c", "true"); !strings.Contains(out, "regctl sh") {
		t.Errorf("sh says %s", out)
	}
	login := regexp.MustCompile(`^testuser:\$2y\$05\$\S{53}\s*$`)
	for _, out := range []string{
		i.say(t, 0, containerOptions{entrypoint: "htpasswd"}, "-Bbn", "testuser", "testpassword"),
		i.say(t, 0, containerOptions{}, "htpasswd", "-Bbn", "testuser", "testpassword"),
	} {
		if !login.MatchString(out) {
			t.Errorf("htpasswd says %q", out)
		}
	}
	const owner = 12345 // Whose directory it is, theirs is what we write.
	if err := os.Chown(i.store, owner, owner); err != nil {
		t.Fatal(err)
	}
	v, doomed := newWorld(), oci.Digest("")
	t.Run("variables", func(t *testing.T) { doomed = v.useVariables(t, i) })
	t.Run("collect", func(t *testing.T) { v.collectInImage(t, i, doomed, owner) })
	t.Run("files", func(t *testing.T) { v.useFiles(t, i) })
}

// useVariables pushes and deletes, as with `docker run -e`, and returns the
// layer that nothing needs any more.
func (v *world) useVariables(t *testing.T, i image) (doomed oci.Digest) {
	addr := freeAddr(t)
	s := i.serve(t, addr, containerOptions{env: []string{"REGISTRY_HTTP_ADDR=" + addr, "REGISTRY_STORAGE_DELETE_ENABLED=true"}})
	pushed := v.put(t, s, ocitest.Content{"team/app": {
		Blobs:     ocitest.Blobs{"base": "of both", "doomed": "of one"},
		Manifests: ocitest.Manifests{"stays": {Layers: "base"}, "goes": {Layers: "base doomed"}},
		Tags:      ocitest.Tags{"latest": "stays", "old": "goes"},
	}})
	v.remove(t, s, "team/app", pushed["goes"])
	v.check(t, s)
	// Another container on the same directory asks this one.
	if out := i.say(t, 0, containerOptions{}, "garbage-collect", "-m", "-d", "/etc/docker/registry/config.yml"); !strings.Contains(out, "asked the server") {
		t.Errorf("garbage-collect says %s", out)
	}
	s.contented(t)
	s.end(t)
	return digest.FromString("of one")
}

// collectInImage is the recipe that stops the registry for it.
func (v *world) collectInImage(t *testing.T, i image, doomed oci.Digest, owner uint32) {
	if _, there := dataOf(t, i.store)[doomed]; !there {
		t.Fatal("the layer is gone already")
	}
	out := i.say(t, 0, containerOptions{}, "bin/registry", "garbage-collect", "--older", "0", "--undo", "0", "/etc/docker/registry/config.yml")
	if _, there := dataOf(t, i.store)[doomed]; there {
		t.Errorf("the layer is still there: %s", out)
	}
	err := filepath.WalkDir(i.store, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Sys().(*syscall.Stat_t).Uid != owner {
			err = fmt.Errorf("%s is not of who owns the directory of the registry", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// useFiles has a config file where one of the images of registry 2 and 3 has it.
func (v *world) useFiles(t *testing.T, i image) {
	for _, place := range []struct {
		file string
		args []string
	}{
		{"/etc/docker/registry/config.yml", nil},
		{"/etc/docker/registry/config.yml", []string{"/etc/docker/registry/config.yml"}},
		{"/conf/mine.yml", []string{"registry", "serve", "/conf/mine.yml"}},
		{"/etc/distribution/config.yml", []string{"serve", "/etc/distribution/config.yml"}},
		{"/etc/distribution/config.yml", nil},
	} {
		addr := freeAddr(t)
		file := filepath.Join(t.TempDir(), "config.yml")
		write(t, file, fmt.Appendf(nil, `version: 0.1
log: {accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: /var/lib/registry}
http:
  addr: %s
  headers: {X-Test: [%q]}
`, addr, place.file))
		s := i.serve(t, addr, containerOptions{files: map[string]string{place.file: file}}, place.args...)
		if got := speak(s).must(t, http.StatusOK, http.MethodGet, "/v2/").header.Get("X-Test"); got != place.file {
			t.Errorf("%s %s: it serves by %s", place.file, place.args, got)
		}
		v.check(t, s)
		s.end(t)
	}
}
