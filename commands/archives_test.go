package commands

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/regctl/regctl/client/layout"
	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/client/transfer"
)

// appContent is an image for two platforms with an SBOM and a signature of
// cosign's, and two tags more.
func appContent() ocitest.Content {
	image := ocitest.Manifests{
		"amd64": {Layers: "base app", Platform: "linux/amd64"},
		"arm64": {Layers: "base", Platform: "linux/arm64"},
		"multi": {Manifests: "amd64 arm64"},
		"sbom":  {Subject: "multi", ArtifactType: "application/spdx+json", Layers: "list"},
		"sig":   {ArtifactType: "application/vnd.dev.cosign", Layers: "list"},
	}
	ubuntu := ocitest.Repo{
		Blobs:     ocitest.Blobs{"base": "bytes of a layer"},
		Manifests: ocitest.Manifests{"u": {Layers: "base", Platform: "linux/amd64"}},
		Tags:      ocitest.Tags{"latest": "u"},
	}
	return ocitest.Content{
		"ubuntu": ubuntu, "library/ubuntu": ubuntu,
		"team/app": {
			Blobs:     ocitest.Blobs{"base": "bytes of a layer", "app": "more bytes", "list": "all there is in it"},
			Manifests: image,
			Tags:      ocitest.Tags{"1.0": "multi", "1.1": "multi", "dev": "arm64"},
		},
	}
}

// signed pushes the content, with the tag of cosign's that signs multi.
func signed(t *testing.T, reg oci.Registry) map[string]oci.Digest {
	t.Helper()
	digests := ocitest.Push(t, reg, appContent())
	m, err := reg.Manifest(t.Context(), "team/app", string(digests["sig"]))
	if err != nil {
		t.Fatal(err)
	}
	ocitest.PushManifest(t, reg, "team/app", string(m.Raw), sigTag(digests["multi"]))
	return digests
}

func sigTag(d oci.Digest) string { return strings.Replace(string(d), ":", "-", 1) + ".sig" }

// save runs regctl save with reg in place of every registry.
func save(t *testing.T, env *Env, reg oci.Registry, o saveOptions) error {
	t.Helper()
	o.Registry = "localhost:5000"
	o.Jobs = 2
	s, err := newSaver(env, &o)
	if err != nil {
		return err
	}
	s.open = func(target) (oci.Registry, error) { return reg, nil }
	return s.run(t.Context())
}

// load runs regctl load into reg.
func load(t *testing.T, env *Env, reg oci.Registry, o loadOptions) error {
	t.Helper()
	o.Registry = "localhost:5000"
	o.Jobs = 2
	l, err := newLoader(env, &o, func(target) (oci.Registry, error) { return reg, nil })
	if err != nil {
		return err
	}
	return l.run(t.Context())
}

func tagsOf(t *testing.T, reg oci.Registry, repo string) string {
	t.Helper()
	var tags []string
	for tag, err := range reg.Tags(t.Context(), repo, "") {
		if err != nil {
			t.Fatal(err)
		}
		tags = append(tags, tag)
	}
	return strings.Join(tags, " ")
}

func wantDigest(t *testing.T, reg oci.Registry, repo, ref string, want oci.Digest) {
	t.Helper()
	if got, err := reg.Resolve(t.Context(), repo, ref); err != nil || got.Digest != want {
		t.Errorf("%s:%s is %s, %v; want %s", repo, ref, got.Digest, err, want)
	}
}

// What is saved comes back: digests, tags, referrers and signatures.
func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	from, to, env := ocitest.NewRegistry(), ocitest.NewRegistry(), newTestEnv(nil)
	digests := signed(t, from)
	file := filepath.Join(t.TempDir(), "a.tar")
	if err := save(t, env.Env, from, saveOptions{What: []string{"team/app:1.0", "docker.io/ubuntu"}, File: file}); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("localhost:5000/team/app:1.0@%s\ndocker.io/ubuntu:latest@%s\n", digests["multi"], digests["u"])
	if got := env.stdout.String(); got != want {
		t.Errorf("stdout is\n%swant\n%s", got, want)
	}
	env.stdout.Reset()
	if err := load(t, env.Env, to, loadOptions{File: file, To: "localhost:5000/mirror"}); err != nil {
		t.Fatal(err)
	}
	want = fmt.Sprintf("localhost:5000/mirror/team/app:1.0@%s\nlocalhost:5000/mirror/ubuntu:latest@%s\n", digests["multi"], digests["u"])
	if got := env.stdout.String(); !strings.HasPrefix(got, want[:40]) || !strings.Contains(got, "mirror/ubuntu:latest@") {
		t.Errorf("stdout is\n%swant\n%s", got, want)
	}
	wantDigest(t, to, "mirror/team/app", "1.0", digests["multi"])
	wantDigest(t, to, "mirror/team/app", string(digests["arm64"]), digests["arm64"])
	wantDigest(t, to, "mirror/team/app", sigTag(digests["multi"]), digests["sig"])
	wantDigest(t, to, "mirror/ubuntu", "latest", digests["u"])
	for r, err := range to.Referrers(t.Context(), "mirror/team/app", digests["multi"], "") {
		if err != nil || r.Digest != digests["sbom"] {
			t.Errorf("referrer %s, %v", r.Digest, err)
		}
	}
	wantDigest(t, to, "mirror/team/app", string(digests["sbom"]), digests["sbom"])
	env.stderr.Reset()
	if err := load(t, env.Env, to, loadOptions{File: file, To: "localhost:5000/mirror"}); err != nil {
		t.Fatal(err)
	}
	if got := env.stderr.String(); !strings.Contains(got, ", 0 B in ") {
		t.Errorf("the second time: %s", got)
	}
}

func TestSaveAllOfARepository(t *testing.T) {
	t.Parallel()
	from, to, env := ocitest.NewRegistry(), ocitest.NewRegistry(), newTestEnv(nil)
	digests := signed(t, from)
	file := filepath.Join(t.TempDir(), "a.tar")
	o := saveOptions{What: []string{"team/app"}, All: true, Include: []string{"1.*"}, File: file, Referrers: transfer.ReferrersNever}
	if err := save(t, env.Env, from, o); err != nil {
		t.Fatal(err)
	}
	if err := load(t, env.Env, to, loadOptions{File: file}); err != nil {
		t.Fatal(err)
	}
	if got := tagsOf(t, to, "team/app"); got != "1.0 1.1" {
		t.Errorf("tags are %s", got)
	}
	if _, err := to.Resolve(t.Context(), "team/app", string(digests["sbom"])); !errors.Is(err, oci.ManifestUnknown) {
		t.Errorf("--no-referrers: %v", err)
	}
}

func TestSaveOnePlatformAndOneDigest(t *testing.T) {
	t.Parallel()
	from, to, env := ocitest.NewRegistry(), ocitest.NewRegistry(), newTestEnv(nil)
	digests := signed(t, from)
	file := filepath.Join(t.TempDir(), "a.tar")
	if err := save(t, env.Env, from, saveOptions{What: []string{"team/app:1.0"}, Platforms: []string{"linux/arm64"}, File: file}); err != nil {
		t.Fatal(err)
	}
	if err := load(t, env.Env, to, loadOptions{File: file}); err != nil {
		t.Fatal(err)
	}
	wantDigest(t, to, "team/app", "1.0", digests["arm64"])

	if err := save(t, env.Env, from, saveOptions{What: []string{"ubuntu@" + string(digests["u"])}, File: file}); err != nil {
		t.Fatal(err)
	}
	if err := load(t, env.Env, to, loadOptions{File: file}); err != nil {
		t.Fatal(err)
	}
	wantDigest(t, to, "ubuntu", string(digests["u"]), digests["u"])
	if got := tagsOf(t, to, "ubuntu"); got != "" {
		t.Errorf("tags are %s", got)
	}
}

func TestSaveThroughAPipe(t *testing.T) {
	t.Parallel()
	from, to, env := ocitest.NewRegistry(), ocitest.NewRegistry(), newTestEnv(nil)
	digests := signed(t, from)
	if err := save(t, env.Env, from, saveOptions{What: []string{"ubuntu"}, Quiet: true}); err != nil {
		t.Fatal(err)
	}
	inside := newTestEnv(nil)
	inside.Stdin = bytes.NewReader(env.stdout.Bytes())
	if err := load(t, inside.Env, to, loadOptions{File: "-", Output: "json"}); err != nil {
		t.Fatal(err)
	}
	wantDigest(t, to, "ubuntu", "latest", digests["u"])
	if got := inside.stdout.String(); !strings.HasPrefix(got, `{"schema":"regctl.load/v1","registry":"localhost:5000","items":[`) ||
		!strings.Contains(got, `{"name":"localhost:5000/ubuntu:latest","digest":"`+string(digests["u"])+`"`) {
		t.Errorf("stdout is %s", got)
	}
	if env.stderr.Len() > 0 {
		t.Errorf("--quiet says %s", env.stderr)
	}
}

// A file is complete or as it was.
func TestSaveThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	reg, env, dir := ocitest.NewRegistry(), newTestEnv(nil), t.TempDir()
	digests := signed(t, reg)
	file := filepath.Join(dir, "a.tar")
	if err := os.WriteFile(file, []byte("before"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("disk on fire")
	failing := &ocitest.Funcs{Registry: reg, OnBlob: func(ctx context.Context, repo string, d oci.Digest) (oci.BlobReader, error) {
		if d == digests["app"] {
			return oci.BlobReader{}, broken
		}
		return reg.Blob(ctx, repo, d)
	}}
	if err := save(t, env.Env, failing, saveOptions{What: []string{"team/app:1.0"}, File: file}); !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
	if err := save(t, env.Env, reg, saveOptions{What: []string{"team/app:1.0", "team/none:1"}, File: file}); !errors.Is(err, oci.ManifestUnknown) {
		t.Errorf("error is %v", err)
	}
	left, err := os.ReadDir(dir)
	raw, _ := os.ReadFile(file)
	if err != nil || len(left) != 1 || string(raw) != "before" || env.stdout.Len() > 0 {
		t.Errorf("%v, %v, %q, stdout %s", left, err, raw, env.stdout)
	}
}

func TestSaveAndLoadRefuse(t *testing.T) {
	t.Parallel()
	env := newTestEnv(nil)
	terminal := newTestEnv(nil)
	terminal.Terminal = true
	reg := ocitest.NewRegistry()
	signed(t, reg)
	for says, err := range map[string]error{
		"does not go to a terminal":  save(t, terminal.Env, reg, saveOptions{What: []string{"ubuntu"}}),
		"stdout is for the archive":  save(t, env.Env, reg, saveOptions{What: []string{"ubuntu"}, Output: "json"}),
		"among the tags of --all":    save(t, env.Env, reg, saveOptions{What: []string{"ubuntu"}, Include: []string{"x"}}),
		"--all is for the tags":      save(t, env.Env, reg, saveOptions{What: []string{"ubuntu:v1"}, All: true}),
		"is a registry":              save(t, env.Env, reg, saveOptions{What: []string{"localhost:5000"}}),
		"OS/ARCHITECTURE":            save(t, env.Env, reg, saveOptions{What: []string{"ubuntu"}, Platforms: []string{"amd64"}}),
		"without a tag":              load(t, env.Env, reg, loadOptions{File: "x", To: "localhost:5000/a:1"}),
		"would be called localhost:": save(t, env.Env, differing(reg, t), saveOptions{What: []string{"ubuntu", "http://localhost:5000/ubuntu"}, File: filepath.Join(t.TempDir(), "a")}),
	} {
		var usage *UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), says) {
			t.Errorf("error is %v, want … %s …", err, says)
		}
	}
}

// differing says of a tag something else each time.
func differing(reg oci.Registry, t *testing.T) oci.Registry {
	n := 0
	return &ocitest.Funcs{Registry: reg, OnResolve: func(ctx context.Context, repo, ref string) (oci.Descriptor, error) {
		n++
		return ocitest.PushManifest(t, reg, repo, fmt.Sprintf(`{"schemaVersion":2,"manifests":[],"annotations":{"n":"%d"}}`, n)), nil
	}}
}

// layoutArchive is an archive with one empty index under each of the names.
func layoutArchive(t *testing.T, entries ...layout.Content) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "a.tar")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := layout.WriteArchive(t.Context(), f, entries...); err != nil {
		t.Fatal(err)
	}
	return file
}

func oneIndex(t *testing.T, n int, name layout.Name) layout.Content {
	t.Helper()
	reg := ocitest.NewRegistry()
	d := ocitest.PushManifest(t, reg, "x", fmt.Sprintf(`{"schemaVersion":2,"manifests":[],"annotations":{"n":"%d"}}`, n))
	m, err := reg.Manifest(t.Context(), "x", string(d.Digest))
	if err != nil {
		t.Fatal(err)
	}
	c := layout.Content{From: reg, Repo: "x", Name: name, Manifests: []oci.Manifest{m}}
	if name.Tag != "" {
		c.Tags = []layout.Tag{{Tag: name.Tag, Digest: d.Digest}}
	}
	return c
}

func TestLoadChooses(t *testing.T) {
	t.Parallel()
	named := layoutArchive(t, oneIndex(t, 1, layout.Name{Host: "docker.io", Repo: "alpine", Tag: "3"}), oneIndex(t, 2, layout.Name{Host: "q.io", Repo: "team/app", Tag: "1"}))
	clash := layoutArchive(t, oneIndex(t, 1, layout.Name{Host: "docker.io", Repo: "alpine", Tag: "3"}), oneIndex(t, 2, layout.Name{Host: "q.io", Repo: "alpine", Tag: "3"}))
	unnamed := layoutArchive(t, oneIndex(t, 1, layout.Name{Repo: layout.Unnamed}))
	tagged := layoutArchive(t, oneIndex(t, 1, layout.Name{Repo: layout.Unnamed, Tag: "v1"}), oneIndex(t, 2, layout.Name{Repo: layout.Unnamed, Tag: "v2"}))
	for _, c := range []struct{ file, image, want string }{
		{named, "", "alpine:3 team/app:1"}, {named, "alpine", "alpine:3"}, {named, "docker.io/alpine:3", "alpine:3"},
		{named, "q.io/team/app", "team/app:1"}, {named, "team/app:2", "! has no team/app:2; it has docker.io/alpine:3, q.io/team/app:1"},
		{clash, "", "! two images, and both would be alpine:3"}, {clash, "q.io/alpine:3", "alpine:3"},
		{unnamed, "", "! name it: regctl load"}, {unnamed, "new/name:5", "new/name:5"}, {unnamed, "app:5", "app:5"}, {unnamed, "h:1/app:5", "! without its host"}, {unnamed, "new/name", "new/name:latest"},
		{tagged, "new/name", "new/name:v1 new/name:v2"}, {tagged, "new/name:5", "! 2 images without a repository"},
	} {
		reg, env := ocitest.NewRegistry(), newTestEnv(nil)
		err := load(t, env.Env, reg, loadOptions{File: c.file, Image: c.image})
		if says, ok := strings.CutPrefix(c.want, "! "); ok {
			if err == nil || !strings.Contains(err.Error(), says) {
				t.Errorf("%q: error is %v, want … %s …", c.image, err, says)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.image, err)
		}
		var got []string
		for repo := range reg.Repos(t.Context(), "") {
			for tag := range strings.FieldsSeq(tagsOf(t, reg, repo)) {
				got = append(got, repo+":"+tag)
			}
		}
		if !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%q: %v, want %s", c.image, got, c.want)
		}
	}
}
