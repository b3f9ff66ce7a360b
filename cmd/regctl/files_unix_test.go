//go:build unix

package main_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/regctl/regctl/client/oci/ocitest"
)

var twoImages = ocitest.Content{"team/app": {
	Blobs:     ocitest.Blobs{"layer": "bytes of a layer"},
	Manifests: ocitest.Manifests{"m": {Layers: "layer"}, "n": {Layers: "layer", Platform: "linux/arm64"}},
	Tags:      ocitest.Tags{"one": "m", "two": "n"},
}}

// Under one umask the same pushes leave the same names with the same modes.
// (An umask that lets a group write is heeded by us alone: registry:2 makes
// the directories of blobs 0755.)
func TestFilesAsThoseOfRegistry2(t *testing.T) {
	t.Parallel()
	for _, umask := range []string{"022", "027", "077"} {
		t.Run(umask, func(t *testing.T) {
			t.Parallel()
			modes := map[string]map[string]fs.FileMode{}
			for name, command := range map[string]func(testing.TB, string) (*exec.Cmd, string){
				"regctl":          func(tb testing.TB, dir string) (*exec.Cmd, string) { return regctlCommand(tb, dir), "" },
				"docker-registry": dockerRegistryCommand,
			} {
				dir := filepath.Join(t.TempDir(), "registry") // Made by the server.
				cmd, addr := command(t, dir)
				s := start(t, underUmask(umask, cmd), addr)
				push(t, s, twoImages)
				s.end(t)
				modes[name] = modesOf(t, dir)
			}
			ours, theirs := modes["regctl"], modes["docker-registry"]
			if len(theirs) < 20 {
				t.Fatalf("registry:2 left %d names only", len(theirs))
			}
			for name, mode := range theirs {
				if ours[name] != mode {
					t.Errorf("%s: %v, want %v", name, ours[name], mode)
				}
				delete(ours, name)
			}
			if len(ours) > 0 {
				t.Errorf("only we leave %v", ours)
			}
		})
	}
}

func underUmask(umask string, cmd *exec.Cmd) *exec.Cmd {
	under := exec.Command("/bin/sh", append([]string{"-c", "umask " + umask + ` && exec "$@"`, "sh"}, cmd.Args...)...)
	under.Env = cmd.Env
	return under
}

// modesOf returns the modes of what is in a store but the uploads and what is
// ours alone, by name.
func modesOf(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()
	modes := map[string]fs.FileMode{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); name == ".regctl" || name == "_uploads" {
			return filepath.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		modes[name] = info.Mode()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return modes
}

// A directory that belongs to another user stays his, though we run as root:
// he can go on with a server of his own.
func TestFilesOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		missing(t, "only root can run servers for others")
	}
	const user = 4242
	dir := t.TempDir()
	own(t, dir, user)
	theirs := startDockerRegistryAs(t, dir, user)
	v := newWorld()
	v.put(t, theirs, twoImages)
	theirs.end(t)

	ours := startRegctl(t, dir)
	v.check(t, ours)
	repo := ocitest.Repo{
		Blobs: ocitest.Blobs{"layer": "another layer"}, Manifests: ocitest.Manifests{"o": {Layers: "layer"}},
		Tags: ocitest.Tags{"two": "o", "three": "o"},
	}
	v.put(t, ours, ocitest.Content{"team/app": repo, "new/repo": repo})
	pushBegun(t, ours, "and an upload")
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != user || st.Gid != user {
			t.Errorf("%s belongs to %v, want %d", path, st.Uid, user)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ours.contented(t)
	if err := ours.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}

	theirs = startDockerRegistryAs(t, dir, user)
	v.check(t, theirs)
	v.retag(t, theirs, "team/app", "three", "four")
	v.remove(t, theirs, "new/repo", v.tags["new/repo"]["two"])
	v.put(t, theirs, ocitest.Content{"new/repo": twoImages["team/app"]})
	v.check(t, theirs)
}

// own gives a directory and the way to it to a user.
func own(t *testing.T, dir string, user int) {
	t.Helper()
	if err := os.Chown(dir, user, user); err != nil {
		t.Fatal(err)
	}
	for up := filepath.Dir(dir); up != filepath.Dir(up) && strings.HasPrefix(up, os.TempDir()+"/"); up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func startDockerRegistryAs(t *testing.T, dir string, user uint32) *server {
	t.Helper()
	cmd, addr := dockerRegistryCommand(t, dir)
	config := cmd.Args[len(cmd.Args)-1]
	own(t, filepath.Dir(config), int(user))
	if err := os.Chmod(config, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	return start(t, cmd, addr)
}

// A server that may not write says so and keeps what is there.
func TestDirectoryThatIsNotOurs(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		missing(t, "only root can run servers for others")
	}
	dir := t.TempDir()
	s := startRegctl(t, dir)
	digests := push(t, s, twoImages)
	if err := s.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	own(t, dir, 0)
	own(t, filepath.Join(buildDir, "regctl"), 0)
	cmd := regctlCommand(t, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4242, Gid: 4242}}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), dir) {
		t.Errorf("serving what another owns: %v, %s", err, out)
	}
	s = startRegctl(t, dir)
	if got := speak(s).whole(t, "team/app", "one"); got != digests["m"] {
		t.Errorf("one is %s", got)
	}
}
