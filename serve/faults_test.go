package serve

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/storage/file/filetest"
)

// writes are requests that need room, each with the code of its success. The
// repository holds an image with layer "layer", and so does lib.
func (s *server) writes(repo, content string) []func() answer {
	d := digest.FromString(content).String()
	at := func() string { return s.do("POST", "/v2/"+repo+"/blobs/uploads/", "").header.Get("Location") }
	return []func() answer{
		func() answer { return s.do("POST", "/v2/"+repo+"/blobs/uploads/", "") },
		func() answer { return s.do("POST", "/v2/"+repo+"/blobs/uploads/?digest="+d, content) },
		func() answer {
			if u := at(); u != "" {
				return s.do("PATCH", u, content)
			}
			return s.do("POST", "/v2/"+repo+"/blobs/uploads/", "")
		},
		func() answer {
			if u := at(); u != "" {
				return s.do("PUT", u+"?digest="+d, content)
			}
			return s.do("POST", "/v2/"+repo+"/blobs/uploads/", "")
		},
		func() answer {
			return s.do("POST", "/v2/"+repo+"/fork/blobs/uploads/?from=lib&mount="+digest.FromString("layer").String(), "")
		},
		func() answer { return s.do("PUT", "/v2/"+repo+"/manifests/more", manifestOf("{}", "layer")) },
		func() answer {
			return s.do("PUT", "/v2/"+repo+"/manifests/other", manifestOf("{}", "layer")+strings.Repeat(" ", 100))
		},
	}
}

func TestDiskFullAtAnyByte(t *testing.T) {
	t.Parallel()
	for room := int64(0); room < 1200; room += 7 {
		disk := filetest.NewDisk()
		r := newRig(t, disk)
		r.push("app", "v1", "layer")
		r.push("lib", "v1", "layer")
		full := 0
		for i, write := range r.writes("app", "new content that is somewhat longer") {
			before := r.files()
			disk.SetRoom(room)
			a := write()
			if a.status < 300 {
				continue
			}
			full++
			r.refuses(fmt.Sprintf("write %d with %d bytes left", i, room), a, oci.InsufficientStorage)
			switch i {
			case 2, 3: // They have begun an upload that may go on.
			case 5, 6: // The manifest is in, only its tag is missing.
				if i := slices.IndexFunc(r.files(), func(name string) bool { return strings.HasSuffix(name, ".tmp") }); i >= 0 {
					t.Errorf("write %d with %d bytes left: left over: %s", i, room, r.files()[i])
				}
			default:
				r.unchanged(fmt.Sprintf("write %d with %d bytes left", i, room), before)
			}
			r.pulls("app", "v1", "layer")
		}
		disk.SetRoom(filetest.Unlimited)
		for i, write := range r.writes("app", "new content that is somewhat longer") {
			if a := write(); a.status >= 300 {
				t.Errorf("write %d with room again: %d %s", i, a.status, a.body)
			}
		}
		if room == 0 && full != len(r.writes("", ""))-1 { // A file without a byte takes no room here.
			t.Errorf("%d writes were refused on a full disk", full)
		}
		if t.Failed() {
			return
		}
	}
}

func TestReadOnlyWhileServing(t *testing.T) {
	t.Parallel()
	disk := filetest.NewDisk()
	r := newRig(t, disk)
	image := r.push("app", "v1", "layer")
	r.push("lib", "v1", "layer")
	at := r.begin("app")
	before := r.files()
	disk.SetReadOnly(true)
	for i, write := range append(r.writes("app", "new"),
		func() answer { return r.do("PATCH", at, "new") },
		func() answer { return r.do("PUT", at+"?digest="+sha256abc, "abc") },
		func() answer { return r.do("DELETE", at, "") },
		func() answer { return r.do("DELETE", "/v2/app/manifests/v1", "") },
		func() answer { return r.do("DELETE", "/v2/app/manifests/"+image, "") },
		func() answer { return r.do("DELETE", "/v2/app", "") },
	) {
		r.refuses(fmt.Sprintf("write %d", i), write(), oci.Unavailable)
		r.pulls("app", "v1", "layer")
	}
	disk.SetReadOnly(false)
	r.unchanged("while it took no changes", before)
	r.want("the upload goes on", r.do("PUT", at+"?digest="+sha256abc, "abc"), 201)
	for i, write := range r.writes("app", "new") {
		if a := write(); a.status >= 300 {
			t.Errorf("write %d afterwards: %d %s", i, a.status, a.body)
		}
	}
	r.want("delete", r.do("DELETE", "/v2/app", ""), 202)
}

// A device that fails is no news for the client but for the log.
func TestDeviceErrors(t *testing.T) {
	t.Parallel()
	disk := filetest.NewDisk()
	broken := false
	disk.Before = func(c filetest.Call) error {
		if broken && c.Op == "fsync" {
			return errors.New("secret cause")
		}
		return nil
	}
	r := newRig(t, disk)
	r.push("app", "v1", "layer")
	before := r.files()
	broken = true
	n := r.lines()
	a := r.do("POST", "/v2/app/blobs/uploads/?digest="+sha256abc, "abc")
	r.refuses("push", a, oci.Unknown)
	r.lastAccess("push", n+1, 500)
	if strings.Contains(a.body, "secret") || strings.Count(r.log.String(), "secret cause") == 0 || strings.Count(r.log.String(), "\n") != 1 {
		t.Errorf("body %s, log %s", a.body, r.log)
	}
	r.unchanged("push", before)
	broken = false
	r.want("afterwards", r.do("POST", "/v2/app/blobs/uploads/?digest="+sha256abc, "abc"), 201)
}

// newDirRig serves a directory of this machine.
func newDirRig(t *testing.T, dir string) *rig {
	t.Helper()
	b, err := file.Open(dir, file.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{access: &logBuffer{}, log: &logBuffer{}}
	r.server = newServer(t, openStore(t, b), Options{Log: r.log.text(), Access: r.access.json()})
	return r
}

// litter puts things into a directory that no registry made.
func litter(t *testing.T, dir, outside string) {
	t.Helper()
	for _, name := range []string{"lost+found", ".snapshot", "@eaDir", "#recycle", "CON", "sha256"} {
		if err := os.MkdirAll(filepath.Join(dir, name, "deeper"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{".DS_Store", "x.tmp", "data.tmp", ".nfs000", "lost+found/file", "zz", "\xff\xfe", "a b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("junk"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]string{"loop": "loop", "broken": "nowhere", "up": "..", "away": outside} {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
}

func litterEverywhere(t *testing.T, root, outside string) {
	t.Helper()
	var dirs []string
	err := filepath.WalkDir(root, func(name string, e os.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			dirs = append(dirs, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		litter(t, dir, outside)
	}
}

func TestJunkInEveryDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := newDirRig(t, dir)
	image := first.push("team/app", "v1", "layer")
	first.push("team/app/below", "v1", "layer")
	at := first.begin("team/app")
	outside := t.TempDir()
	precious := filepath.Join(outside, "deep", "precious")
	if err := errors.Join(os.Mkdir(filepath.Dir(precious), 0o755), os.WriteFile(precious, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	litterEverywhere(t, filepath.Join(dir, "docker"), outside)

	r := newDirRig(t, dir)
	r.want("catalogue", r.do("GET", "/v2/_catalog", ""), 200)
	if a := r.do("GET", "/v2/_catalog", ""); a.body != `{"repositories":["team/app","team/app/below"]}`+"\n" {
		t.Errorf("catalogue %s", a.body)
	}
	if a := r.do("GET", "/v2/team/app/tags/list", ""); a.body != `{"name":"team/app","tags":["v1"]}`+"\n" {
		t.Errorf("tags %s", a.body)
	}
	r.want("details", r.do("GET", "/v2/team/app/_regctl/tags", ""), 200)
	r.want("referrers", r.do("GET", "/v2/team/app/referrers/"+image, ""), 200)
	r.pulls("team/app", "v1", "layer")
	r.push("team/app", "v2", "another layer")
	r.want("upload", r.do("PUT", at+"?digest="+sha256abc, "abc"), 201)
	r.want("delete blob", r.do("DELETE", "/v2/team/app/blobs/"+sha256abc, ""), 202)
	r.want("delete tag", r.do("DELETE", "/v2/team/app/manifests/v2", ""), 202)
	r.want("delete manifest", r.do("DELETE", "/v2/team/app/manifests/"+image, ""), 202)
	r.want("delete repository", r.do("DELETE", "/v2/team/app", ""), 202)
	r.refuses("gone", r.do("GET", "/v2/team/app/tags/list", ""), oci.NameUnknown)
	r.pulls("team/app/below", "v1", "layer")
	r.push("team/app", "v1", "layer")
	r.pulls("team/app", "v1", "layer")
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("what a symbolic link leads to was removed: %v", err)
	}
	if strings.Contains(r.log.String(), "level=ERROR") {
		t.Errorf("log:\n%s", r.log)
	}
}

// Links that a crash or a full disk left empty are no links; what is pushed
// again is whole.
func TestEmptyLinks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	newDirRig(t, dir).push("app", "v1", "layer")
	err := filepath.WalkDir(filepath.Join(dir, "docker"), func(name string, e os.DirEntry, err error) error {
		if err == nil && e.Name() == "link" {
			return os.Truncate(name, 0)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	r := newDirRig(t, dir)
	r.refuses("tag", r.do("GET", "/v2/app/manifests/v1", ""), oci.ManifestUnknown)
	r.refuses("blob", r.do("GET", "/v2/app/blobs/"+digest.FromString("layer").String(), ""), oci.BlobUnknown)
	if a := r.do("GET", "/v2/_catalog", ""); a.body != `{"repositories":[]}`+"\n" {
		t.Errorf("catalogue %s", a.body)
	}
	r.push("app", "v1", "layer")
	r.pulls("app", "v1", "layer")
}

func TestSymlinkedRepository(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	newDirRig(t, dir).push("team/app", "v1", "layer")
	team := filepath.Join(dir, "docker/registry/v2/repositories/team")
	if err := os.Rename(filepath.Join(team, "app"), filepath.Join(outside, "app")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "app"), filepath.Join(team, "app")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(outside, "app", "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := newDirRig(t, dir)
	if a := r.do("GET", "/v2/_catalog", ""); a.body != `{"repositories":["team/app"]}`+"\n" {
		t.Errorf("catalogue %s", a.body)
	}
	r.pulls("team/app", "v1", "layer")
	r.push("team/app", "v2", "layer two")
	r.pulls("team/app", "v2", "layer two")
	r.want("delete tag", r.do("DELETE", "/v2/team/app/manifests/v2", ""), 202)
	r.want("delete repository", r.do("DELETE", "/v2/team/app", ""), 202)
	r.refuses("gone", r.do("GET", "/v2/team/app/manifests/v1", ""), oci.ManifestUnknown)
	if _, err := os.Stat(filepath.Join(outside, "app", "precious")); err != nil {
		t.Error(err)
	}
	if left := filesBelow(t, file.OS{}, filepath.Join(outside, "app")); len(left) != 1 {
		t.Errorf("left outside: %q", left)
	}
	r.push("team/app", "v3", "layer three")
	r.pulls("team/app", "v3", "layer three")
}
