package main_test

import (
	"path/filepath"
	"testing"

	"github.com/regctl/regctl/client/oci"
)

// newArchiver is regctl save or regctl load.
func newArchiver(t *testing.T, verb string) tool {
	t.Helper()
	ls := newLs(t)
	ls.args = []string{verb}
	return ls
}

// archives are how a program writes an image to a file and reads it from one.
type archives struct {
	write func(t *testing.T, ref, file string)
	read  func(t *testing.T, file, ref string)
	same  bool // What it writes has the digest of the registry.
}

// What others write to a file, regctl load pushes; what regctl save writes,
// others read.
func TestArchivesOfOthers(t *testing.T) {
	t.Parallel()
	for name, newPeer := range map[string]func(*testing.T, *server) archives{
		"skopeo-oci":    func(t *testing.T, _ *server) archives { return skopeoArchives(t, "oci-archive:") },
		"skopeo-docker": func(t *testing.T, _ *server) archives { return skopeoArchives(t, "docker-archive:") },
		"podman-oci":    func(t *testing.T, _ *server) archives { return podmanArchives(t, "oci-archive") },
		"podman-docker": func(t *testing.T, _ *server) archives { return podmanArchives(t, "docker-archive") },
		"crane":         craneArchives,
		"regclient":     regclientArchives,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startRegctl(t, t.TempDir())
			exchange(t, s, newPeer(t, s))
		})
	}
}

// exchange sends an image from a registry to another through a file, both ways.
func exchange(t *testing.T, s *server, p archives) {
	t.Helper()
	ref := s.addr + "/team/app:one"
	want := skopeo(t, s).push(t, ref)
	w, dir := speak(s), t.TempDir()
	save, load := newArchiver(t, "save"), newArchiver(t, "load")

	theirs := filepath.Join(dir, "theirs.tar")
	p.write(t, ref, theirs)
	said := load.run(t, "-q", "-o", "go-template={{.name}}", "--to", s.addr+"/theirs", theirs, "team/app:one")
	if said != s.addr+"/theirs/team/app:one" {
		t.Errorf("regctl load says %q", said)
	}
	if got := w.whole(t, "theirs/team/app", "one"); p.same && got != want {
		t.Errorf("their archive holds %s, want %s", got, want)
	}

	ours := filepath.Join(dir, "ours.tar")
	save.run(t, "-q", ref, "-f", ours)
	p.read(t, ours, ref)
	load.run(t, "-q", "--to", s.addr+"/ours", ours)
	if got := w.whole(t, "ours/team/app", "one"); got != want {
		t.Errorf("our archive holds %s, want %s", got, want)
	}
	s.contented(t)
}

func skopeoArchives(t *testing.T, transport string) archives {
	p := newTool(t, "skopeo")
	return archives{
		write: func(t *testing.T, ref, file string) {
			p.run(t, "copy", "--src-tls-verify=false", "docker://"+ref, transport+file+":"+ref)
		},
		read: func(t *testing.T, file, ref string) {
			from := transport + file + ":" + ref
			if transport == "oci-archive:" {
				from = transport + file + ":one"
			}
			to := t.TempDir()
			p.run(t, "copy", from, "oci:"+to+":x")
			checkLayout(t, to)
		},
		same: transport == "oci-archive:",
	}
}

func podmanArchives(t *testing.T, format string) archives {
	p := newPodman(t)
	return archives{
		write: func(t *testing.T, ref, file string) {
			p.run(t, "pull", "--tls-verify=false", ref)
			p.run(t, "save", "--format", format, "-o", file, ref)
			p.run(t, "rmi", ref)
		},
		read: func(t *testing.T, file, ref string) {
			p.run(t, "load", "-i", file)
			p.run(t, "image", "inspect", ref)
		},
	}
}

func craneArchives(t *testing.T, s *server) archives {
	p := newTool(t, "crane", "--insecure")
	return archives{
		write: func(t *testing.T, ref, file string) { p.run(t, "pull", ref, file) },
		read: func(t *testing.T, file, _ string) {
			p.run(t, "push", file, s.addr+"/crane/app:one")
			p.run(t, "validate", "--remote", s.addr+"/crane/app:one")
		},
	}
}

func regclientArchives(t *testing.T, s *server) archives {
	p := newTool(t, "regclient", "--host", "reg="+s.addr+",tls=disabled")
	return archives{
		write: func(t *testing.T, ref, file string) { p.run(t, "image", "export", ref, file) },
		read: func(t *testing.T, file, ref string) {
			to := s.addr + "/regclient/app:one"
			p.run(t, "image", "import", to, file)
			if got, want := p.run(t, "image", "digest", to), p.run(t, "image", "digest", ref); got != want {
				t.Errorf("regclient read %s, want %s", got, want)
			}
		},
		same: true,
	}
}

// A layout that others wrote is a registry like any other.
func TestLayoutsOfOthers(t *testing.T) {
	t.Parallel()
	s := startRegctl(t, t.TempDir())
	ref := s.addr + "/team/app:one"
	want := skopeo(t, s).push(t, ref)
	for name, write := range map[string]func(t *testing.T, dir string) (layout string){
		"skopeo": func(t *testing.T, dir string) string {
			newTool(t, "skopeo").run(t, "copy", "--src-tls-verify=false", "docker://"+ref, "oci:"+dir+":one")
			return dir + ":one"
		},
		"crane": func(t *testing.T, dir string) string {
			newTool(t, "crane", "--insecure").run(t, "pull", "--format=oci", ref, dir)
			return dir + "@" + string(want)
		},
		"regclient": func(t *testing.T, dir string) string {
			newTool(t, "regclient", "--host", "reg="+s.addr+",tls=disabled").run(t, "image", "copy", ref, "ocidir://"+dir+":one")
			return dir + ":one"
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			layout := write(t, filepath.Join(t.TempDir(), "images"))
			file := filepath.Join(t.TempDir(), "a.tar")
			said := newArchiver(t, "save").run(t, "oci:"+layout, "-f", file, "-o", "go-template={{.digest}}")
			if oci.Digest(said) != want {
				t.Errorf("the layout holds %s, want %s", said, want)
			}
			to := filepath.Join(t.TempDir(), "ours")
			newArchiver(t, "load").run(t, "-q", file, "--to", "oci:"+to)
			if got := checkLayout(t, to); got != want {
				t.Errorf("our layout holds %s, want %s", got, want)
			}
		})
	}
}
