package commands

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

var update = flag.Bool("update", false, "write golden files anew")

const imageConfig = `{"os":"linux","architecture":"arm64","variant":"v8","created":"2026-11-18T12:00:00Z",
"config":{"Entrypoint":["/bin/app","two words"],"Cmd":["--serve"],"User":"app","WorkingDir":"/srv","Env":["A=1","B=2"],
"ExposedPorts":{"80/tcp":{}},"Labels":{"team":"a"}},
"history":[{"created_by":"/bin/sh -c #(nop) ADD file:1 in /"},{"created_by":"ENV A=1","empty_layer":true},{"created_by":"RUN make\u001b[31m"}],
"rootfs":{"type":"layers","diff_ids":[]}}`

// inspectContent is a repository with one of everything.
func inspectContent() ocitest.Content {
	return ocitest.Content{"team/app": {
		Blobs: ocitest.Blobs{
			"rootfs": strings.Repeat("b", 3000), "binary": strings.Repeat("a", 500), "spdx": strings.Repeat("s", 100),
			"config": imageConfig, "tgz": strings.Repeat("c", 70),
		},
		Manifests: ocitest.Manifests{
			"amd64":      {Layers: "rootfs", Platform: "linux/amd64", Created: "2026-11-17T12:00:00Z"},
			"arm64":      {Config: "config", Layers: "rootfs binary"},
			"multi":      {Manifests: "amd64 v7", Annotations: map[string]string{"org.opencontainers.image.created": "2026-11-19T12:00:00Z"}},
			"v7":         {Layers: "rootfs binary", Platform: "linux/arm/v7"},
			"sbom":       {Subject: "multi", ArtifactType: "application/spdx+json", Layers: "spdx"},
			"signature":  {Subject: "sbom", ArtifactType: "application/signature"},
			"provenance": {Layers: "spdx", Platform: "unknown/unknown"},
			"other":      {Layers: "binary", Platform: "linux/amd64"},
			"chart":      {ArtifactType: "application/vnd.cncf.helm", Layers: "tgz"},
		},
		Tags: ocitest.Tags{"1.0": "arm64", "latest": "multi", "2": "multi", "2.0": "multi", "other": "other", "chart": "chart"},
	}}
}

// pushInspected pushes it, besides what docker buildx and cosign make: an
// index of an image and an attestation, and a signature tied by its tag.
func pushInspected(t *testing.T, reg oci.Registry) map[string]oci.Digest {
	t.Helper()
	digests := ocitest.Push(t, reg, inspectContent())
	describe := func(name string) oci.Descriptor {
		d, err := reg.Resolve(t.Context(), "team/app", string(digests[name]))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	image, attestation := describe("amd64"), describe("provenance")
	image.Platform = &oci.Platform{OS: "linux", Architecture: "amd64"}
	attestation.Platform = &oci.Platform{OS: "unknown", Architecture: "unknown"}
	attestation.Annotations = map[string]string{annotationKind: "attestation-manifest", annotationAttests: string(image.Digest)}
	raw, err := json.Marshal(ocitest.NewIndex(image, attestation))
	if err != nil {
		t.Fatal(err)
	}
	digests["buildkit"] = ocitest.PushManifest(t, reg, "team/app", string(raw), "buildkit").Digest
	signature, err := reg.Manifest(t.Context(), "team/app", "chart")
	if err != nil {
		t.Fatal(err)
	}
	ocitest.PushManifest(t, reg, "team/app", string(signature.Raw), strings.Replace(string(digests["buildkit"]), ":", "-", 1)+".sig")
	return digests
}

// far is a registry as ours is from afar: it tells of tags by one request.
type far struct{ *ocitest.FaultyRegistry }

func (f far) MayTellFirst(context.Context) bool { return true }

func (f far) FirstTagDetails(ctx context.Context, repo string) (details []oci.TagDetail, more bool, err error) {
	for d, err := range f.TagDetails(ctx, repo, "") {
		if err != nil {
			return nil, false, err
		}
		details = append(details, d)
	}
	return details, false, nil
}

// foreignRegistry cannot do that, as is known without a request.
type foreignRegistry struct{ far }

func (f foreignRegistry) MayTellFirst(context.Context) bool { return false }

// inspected is what `regctl inspect` writes.
func inspected(t *testing.T, reg oci.Registry, ref string, o inspectOptions) (stdout, stderr string, err error) {
	t.Helper()
	env := newTestEnv(nil)
	at := target{host: "localhost:5000", repo: "team/app", ref: ref}
	o.What = at.String()
	err = inspect(t.Context(), env.Env, reg, at, &o)
	return env.stdout.String(), env.stderr.String(), err
}

// TestInspectShows compares with testdata/inspect; go test -update writes
// them anew, to be read.
func TestInspectShows(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	digests := pushInspected(t, reg)
	for name, c := range map[string]struct {
		ref string
		o   inspectOptions
	}{
		"image":    {"1.0", inspectOptions{}},
		"index":    {"latest", inspectOptions{Shared: true}},
		"platform": {"latest", inspectOptions{Platform: "linux/amd64"}},
		"artifact": {"chart", inspectOptions{}},
		"buildkit": {"buildkit", inspectOptions{}},
		"signed":   {string(digests["buildkit"]), inspectOptions{}},
		"json":     {"buildkit", inspectOptions{Output: "json"}},
	} {
		got, talk, err := inspected(t, reg, c.ref, c.o)
		if err != nil || talk != "" {
			t.Errorf("%s: %v, %s", c.ref, err, talk)
		}
		golden(t, filepath.Join("testdata", "inspect", name+".txt"), got)
	}
}

// golden compares got with a file.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != strings.ReplaceAll(string(want), "\r\n", "\n") {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

func calls(f *ocitest.FaultyRegistry) map[string]int {
	n := map[string]int{}
	for _, call := range f.Calls() {
		method, _, _ := strings.Cut(call, " ")
		n[method]++
	}
	return n
}

// TestInspectAsksNoMoreThanNeeded counts requests: repositories have thousands
// of tags, and some registries count what is pulled.
func TestInspectAsksNoMoreThanNeeded(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	pushInspected(t, reg)
	for _, c := range []struct {
		ref  string
		o    inspectOptions
		ours bool
		want map[string]int
	}{
		{"1.0", inspectOptions{}, false, map[string]int{"Manifest": 1, "Blob": 1, "Referrers": 1}},
		{"1.0", inspectOptions{}, true, map[string]int{"Manifest": 1, "Blob": 1, "Referrers": 1, "TagDetails": 1}},
		{"1.0", inspectOptions{Tags: true}, false, map[string]int{"Manifest": 1, "Blob": 1, "Referrers": 1, "TagDetails": 1}},
		{"1.0", inspectOptions{Raw: true}, true, map[string]int{"Manifest": 1}},
		{"1.0", inspectOptions{Config: true}, true, map[string]int{"Manifest": 1, "Blob": 1}},
		{"latest", inspectOptions{Raw: true, Platform: "linux/arm"}, true, map[string]int{"Manifest": 2}},
		// An index: each of its images; two referrers, read and asked for theirs.
		{"latest", inspectOptions{}, false, map[string]int{"Manifest": 1 + 2 + 2, "Referrers": 1 + 2}},
		{"chart", inspectOptions{}, false, map[string]int{"Manifest": 1, "Referrers": 1}},
	} {
		counted := ocitest.Faulty(reg)
		var asked oci.Registry = foreignRegistry{far{counted}}
		if c.ours {
			asked = far{counted}
		}
		if _, talk, err := inspected(t, asked, c.ref, c.o); err != nil || talk != "" {
			t.Errorf("%s: %v, %s", c.ref, err, talk)
		}
		if got := calls(counted); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s %+v: %v, want %v", c.ref, c.o, got, c.want)
		}
	}
}

func TestInspectBytes(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	digests := pushInspected(t, reg)
	bytesOf := func(ref string) string {
		m, err := reg.Manifest(t.Context(), "team/app", ref)
		if err != nil {
			t.Fatal(err)
		}
		return string(m.Raw)
	}
	for _, c := range []struct {
		ref, want string
		o         inspectOptions
	}{
		{"1.0", imageConfig, inspectOptions{Config: true}},
		{"1.0", imageConfig, inspectOptions{Config: true, Platform: "linux/arm64"}},
		{"latest", bytesOf("latest"), inspectOptions{Raw: true}},
		{"latest", bytesOf(string(digests["v7"])), inspectOptions{Raw: true, Platform: "linux/arm"}},
		{"latest", bytesOf(string(digests["v7"])), inspectOptions{Raw: true, Platform: "linux/arm/v7"}},
	} {
		if got, _, err := inspected(t, reg, c.ref, c.o); err != nil || got != c.want {
			t.Errorf("%s: got %q, %v, want %q", c.ref, got, err, c.want)
		}
	}
}

func TestInspectRefuses(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	digests := pushInspected(t, reg)
	for _, c := range []struct {
		ref    string
		o      inspectOptions
		status int
		want   string
	}{
		{"nope", inspectOptions{}, exitNotFound, "What is there: regctl ls localhost:5000/team/app"},
		{"latest", inspectOptions{Platform: "linux/s390x"}, exitNotFound, "latest is not for linux/s390x; it is for linux/amd64, linux/arm/v7"},
		{"1.0", inspectOptions{Platform: "linux/amd64"}, exitNotFound, "1.0 is not for linux/amd64; it is for linux/arm64/v8"},
		{"latest", inspectOptions{Config: true}, exitInvalid, "choose one of its images by --platform"},
		{"1.0", inspectOptions{Output: "xml"}, exitUsage, `-o "xml"`},
	} {
		_, _, err := inspected(t, reg, c.ref, c.o)
		if exitStatus(err) != c.status || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: %v, want exit status %d and %q", c.ref, err, c.status, c.want)
		}
	}
	lying := &ocitest.Funcs{Registry: reg, OnBlob: func(context.Context, string, oci.Digest) (oci.BlobReader, error) {
		return oci.BlobReader{ReadSeekCloser: seekCloser{strings.NewReader(`{"os":"evil"}`)}}, nil
	}}
	if _, _, err := inspected(t, lying, "1.0", inspectOptions{}); exitStatus(err) != exitInvalid {
		t.Errorf("a config of other bytes: %v", err)
	}
	// What the image does not depend on is told, and the rest shown.
	deaf := ocitest.Faulty(reg, ocitest.Fault{Method: "Referrers", Err: oci.Errorf(oci.Denied, "no")})
	out, talk, err := inspected(t, deaf, "1.0", inspectOptions{})
	if exitStatus(err) != exitSome || !strings.Contains(out, string(digests["arm64"])) || !strings.Contains(talk, "what refers to") {
		t.Errorf("got %v, %s, %s", err, out, talk)
	}
}

type seekCloser struct{ io.ReadSeeker }

func (seekCloser) Close() error { return nil }

func TestInspectJSON(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	digests := pushInspected(t, reg)
	out, _, err := inspected(t, far{ocitest.Faulty(reg)}, "latest", inspectOptions{Output: "json"})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out, "null") {
		t.Errorf("null in %s", out)
	}
	var got inspection
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if got.Schema != "regctl.inspect/v1" || got.Digest != digests["multi"] || len(got.Images) != 2 ||
		got.Images[1].Platform != "linux/arm/v7" || !slices.Equal(got.Tags, []string{"2", "2.0"}) ||
		got.Referrers[0].Referrers[0].Digest != digests["signature"] {
		t.Errorf("got %s", out)
	}
	for d, err := range reg.TagDetails(t.Context(), "team/app", "1") {
		if err != nil {
			t.Fatal(err)
		}
		if d.Tag == "latest" && d.Size != got.Size {
			t.Errorf("size %d, and %d by ls", got.Size, d.Size)
		}
	}
	out, _, err = inspected(t, reg, "1.0", inspectOptions{Output: "go-template={{.digest}}"})
	if err != nil || out != string(digests["arm64"])+"\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

// TestInspectOverHTTP: a registry that has greeted us as a foreign one is not
// asked what only ours knows, and one of ours is.
func TestInspectOverHTTP(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		registry http.Handler
		asked    bool
	}{{newRegistry("team/app:1"), false}, {ours(), true}} {
		var paths []string
		env := newTestEnv(network(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			paths = append(paths, r.Method+" "+r.URL.Path)
			if c.asked {
				w.Header().Set("Regctl-Extensions", "tags")
			}
			c.registry.ServeHTTP(w, r)
		})))
		what := "team/app:1"
		if c.asked {
			what = "app:1.0"
		}
		if status := Main(t.Context(), env.Env, []string{"inspect", what, "-o", "json"}); status != 0 {
			t.Errorf("%s: exit status %d, %s", what, status, env.stderr)
		}
		if got := slices.Contains(paths, "GET /v2/app/_regctl/tags"); got != c.asked {
			t.Errorf("asked %q", paths)
		}
		if paths[0] != "GET /v2/" || len(paths) > 5 {
			t.Errorf("%d requests: %q", len(paths), paths)
		}
	}
}
