package main_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/regctl/regctl/client/oci/ocitest"
)

// TestUnits has systemd look at the units of the packages, with the binary
// under test in the place where they have it.
func TestUnits(t *testing.T) {
	t.Parallel()
	analyze := peer(t, "systemd-analyze")
	bin, err := regctl()
	if err != nil {
		t.Fatal(err)
	}
	units, err := filepath.Glob("package/systemd/*")
	if err != nil || len(units) != 5 {
		t.Fatalf("units %v: %v", units, err)
	}
	dir, args := t.TempDir(), []string{"verify", "--man=no"}
	for _, unit := range units {
		text := strings.ReplaceAll(read(t, unit), "/usr/bin/regctl", bin)
		to := filepath.Join(dir, filepath.Base(unit))
		write(t, to, []byte(text))
		args = append(args, to)
	}
	// What it warns of is an error here.
	if out, err := exec.Command(analyze, args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
}

var commandOf = regexp.MustCompile(`(?m)^ExecStart=/usr/bin/(regctl .*)$`)

// TestUnitCommands runs what the units run, on a store of its own.
func TestUnitCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startShipped(t, "package/config.yml", dir)
	v := newWorld()
	v.put(t, s, ocitest.Content{"team/app": {
		Blobs: ocitest.Blobs{"a": "layer"}, Manifests: ocitest.Manifests{"m": {Layers: "a"}}, Tags: ocitest.Tags{"one": "m"},
	}})
	env := map[string]string{"REGCTL_PRUNE": ""}
	for line := range strings.Lines(read(t, "package/prune.env")) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			env[name] = value
		}
	}
	for _, unit := range []string{"regctl-prune.service", "regctl-gc.service"} {
		m := commandOf.FindStringSubmatch(read(t, "package/systemd/"+unit))
		if m == nil {
			t.Fatalf("%s runs nothing", unit)
		}
		line := os.Expand(m[1], func(name string) string { return env[name] })
		line = strings.ReplaceAll(line, "/etc/regctl/config.yml", "package/config.yml")
		p := newRegctl(t)
		p.env = append(p.env, "REGCTL_REGISTRY="+s.addr, "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="+dir)
		if said := p.run(t, strings.Fields(line)[1:]...); said != "" {
			t.Errorf("%s says %s", line, said)
		}
	}
	v.check(t, s)
	s.contented(t)
}

// TestShippedConfigs: a server starts with each config file that is shipped,
// has nothing to say against it, and does what it says.
func TestShippedConfigs(t *testing.T) {
	t.Parallel()
	for file, deletes := range map[string]int{
		"package/config.yml":                            http.StatusNotFound, // Of what is not there.
		"package/rootfs/etc/docker/registry/config.yml": http.StatusMethodNotAllowed,
	} {
		s := startShipped(t, file, t.TempDir())
		speak(s).must(t, deletes, http.MethodDelete, "/v2/a/manifests/sha256:"+strings.Repeat("0", 64))
		s.end(t)
		if said := s.log.String(); strings.Contains(said, "config.yml:") {
			t.Errorf("of %s it says %s", file, said)
		}
		s.contented(t)
	}
}

// startShipped serves dir by a config file that is shipped.
func startShipped(t *testing.T, file, dir string) *server {
	t.Helper()
	bin, err := regctl()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", file)
	cmd.Env = []string{"HOME=" + t.TempDir(), "REGISTRY_HTTP_ADDR=127.0.0.1:0", "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=" + dir}
	return start(t, cmd, "")
}

// TestCompose: the compose file asks for nothing that is not known.
func TestCompose(t *testing.T) {
	t.Parallel()
	var c struct {
		Services map[string]struct {
			Image, Restart string
			Ports, Volumes []string
			Environment    map[string]string
			Stop           string `yaml:"stop_grace_period"`
		}
	}
	d := yaml.NewDecoder(strings.NewReader(read(t, "package/compose.yaml")))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil {
		t.Fatal(err)
	}
	s := c.Services["registry"]
	if len(s.Ports) != 1 || s.Ports[0] != "5000:5000" || len(s.Volumes) != 1 || !strings.HasSuffix(s.Volumes[0], ":/var/lib/registry") {
		t.Fatalf("the service is %+v", s)
	}
	bin, err := regctl()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", "package/rootfs/etc/docker/registry/config.yml")
	cmd.Env = []string{"HOME=" + t.TempDir(), "REGISTRY_HTTP_ADDR=127.0.0.1:0", "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=" + t.TempDir()}
	for name, value := range s.Environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	server := start(t, cmd, "")
	speak(server).must(t, http.StatusNotFound, http.MethodDelete, "/v2/a/manifests/sha256:"+strings.Repeat("0", 64))
	server.end(t)
	if said := server.log.String(); strings.Contains(said, "REGISTRY_") {
		t.Errorf("of its variables it says %s", said)
	}
	server.contented(t)
}
