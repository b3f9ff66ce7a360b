package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// TestValidationAsRegistry2: one section validation, the same manifests taken
// and refused. Where a URL is not allowed registry:2 says 500, and we 400.
func TestValidationAsRegistry2(t *testing.T) {
	t.Parallel()
	const foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	const nondistributable = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
	manifest := func(kind, layerType string, urls ...string) func(*testing.T, oci.Registry) []byte {
		return func(t *testing.T, reg oci.Registry) []byte {
			config, layer := ocitest.PushBlob(t, reg, "app", "{}"), ocitest.PushBlob(t, reg, "app", "layer")
			m := ocitest.NewImage(config, layer)
			m.MediaType, m.Layers[0].MediaType, m.Layers[0].URLs = kind, layerType, urls
			if kind == oci.MediaTypeDockerManifest {
				m.Config.MediaType = "application/vnd.docker.container.image.v1+json"
			}
			return marshaled(t, m)
		}
	}
	index := func(t *testing.T, _ oci.Registry) []byte {
		missing := ocitest.Describe(oci.MediaTypeManifest, "nobody has pushed this")
		missing.Platform = &oci.Platform{OS: "linux", Architecture: "amd64"}
		return marshaled(t, ocitest.NewIndex(missing))
	}
	allow := "validation: {manifests: {urls: {allow: ['^https://a\\.example/'], deny: ['secret']}}}"
	for name, c := range map[string]struct {
		validation, mediaType string
		make                  func(*testing.T, oci.Registry) []byte
		taken                 bool
	}{
		"nothing said":        {"", oci.MediaTypeDockerManifest, manifest(oci.MediaTypeDockerManifest, foreign, "https://a.example/x"), false},
		"nothing said, OCI":   {"", oci.MediaTypeManifest, manifest(oci.MediaTypeManifest, nondistributable, "https://a.example/x"), false},
		"no URL":              {allow, oci.MediaTypeDockerManifest, manifest(oci.MediaTypeDockerManifest, foreign), false},
		"allowed":             {allow, oci.MediaTypeDockerManifest, manifest(oci.MediaTypeDockerManifest, foreign, "https://a.example/x"), true},
		"allowed, OCI":        {allow, oci.MediaTypeManifest, manifest(oci.MediaTypeManifest, nondistributable, "https://a.example/x"), true},
		"not allowed":         {allow, oci.MediaTypeDockerManifest, manifest(oci.MediaTypeDockerManifest, foreign, "https://b.example/x"), false},
		"denied":              {allow, oci.MediaTypeManifest, manifest(oci.MediaTypeManifest, nondistributable, "https://a.example/secret"), false},
		"of an image layer":   {allow, oci.MediaTypeManifest, manifest(oci.MediaTypeManifest, ocispec.MediaTypeImageLayerGzip, "https://b.example/x"), false},
		"disabled":            {"validation: {disabled: true}", oci.MediaTypeDockerManifest, manifest(oci.MediaTypeDockerManifest, foreign, "https://b.example/x"), true},
		"index without image": {"", oci.MediaTypeIndex, index, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for who, s := range map[string]*server{"docker-registry": validatingRegistry2(t, c.validation), "regctl": validatingRegctl(t, c.validation)} {
				w := speak(s)
				a, err := w.call(http.MethodPut, "/v2/app/manifests/x", c.mediaType, c.make(t, w))
				if err != nil {
					t.Fatal(err)
				}
				if (a.status == http.StatusCreated) != c.taken || who == "regctl" && !c.taken && a.status != http.StatusBadRequest {
					t.Errorf("%s: status %d: %s", who, a.status, a.body)
				}
			}
		})
	}
}

func marshaled(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func validatingConfig(t *testing.T, dir, rest string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}}\n%s\n", dir, rest)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func validatingRegistry2(t *testing.T, validation string) *server {
	t.Helper()
	addr := freeAddr(t)
	config := validatingConfig(t, t.TempDir(), validation+fmt.Sprintf("\nhttp: {addr: %q}", addr))
	return start(t, exec.Command(peer(t, "docker-registry"), "serve", config), addr)
}

func validatingRegctl(t *testing.T, validation string) *server {
	t.Helper()
	dir := t.TempDir()
	return startRegctl(t, dir, validatingConfig(t, dir, validation))
}
