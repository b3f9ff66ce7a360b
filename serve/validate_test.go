package serve

import (
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve/config"
)

// emptyIndex is complete.
const emptyIndex = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`

func patterns(list ...string) []*regexp.Regexp {
	var compiled []*regexp.Regexp
	for _, s := range list {
		compiled = append(compiled, regexp.MustCompile(s))
	}
	return compiled
}

func TestValidationOfURLs(t *testing.T) {
	t.Parallel()
	const (
		docker = oci.MediaTypeDockerManifest
		image  = oci.MediaTypeManifest
		layer  = ocispec.MediaTypeImageLayerGzip
	)
	none := config.Validation{URLs: true}
	allow := config.Validation{URLs: true, Allow: patterns("^https://a\\.example/", "^https://b\\.example/")}
	deny := config.Validation{URLs: true, Deny: patterns("^https?://www\\.")}
	both := config.Validation{URLs: true, Allow: patterns("example/"), Deny: patterns("^http:", "secret")}
	for _, c := range []struct {
		rules     config.Validation
		manifest  string
		layer     string
		urls      string // Separated by spaces.
		forbidden bool
	}{
		{config.Validation{}, docker, layerDockerForeign, "ftp://anywhere/", false},
		{none, docker, layerDockerForeign, "https://a.example/x", true},
		{none, docker, layerDockerForeign, "", true},
		{none, image, layerForeign, "https://a.example/x", true},
		{none, image, layerForeignGzip, "https://a.example/x", true},
		{none, image, layer, "https://a.example/x", true},
		{none, image, layer, "", false},
		{none, image, "application/x.other", "https://a.example/x", false},
		{none, image, layerDockerForeign, "https://a.example/x", false},
		{none, docker, layerForeign, "https://a.example/x", false},
		{none, docker, "application/vnd.docker.image.rootfs.diff.tar.gzip", "https://a.example/x", false},
		{allow, docker, layerDockerForeign, "https://a.example/x", false},
		{allow, docker, layerDockerForeign, "https://a.example/x https://b.example/x", false},
		{allow, docker, layerDockerForeign, "https://a.example/x https://c.example/x", true},
		{allow, docker, layerDockerForeign, "https://c.example/x https://a.example/x", true},
		{allow, docker, layerDockerForeign, "https://a.example/x#fragment", true},
		{allow, docker, layerDockerForeign, "", true},
		{allow, image, layerForeign, "https://b.example/", false},
		{deny, docker, layerDockerForeign, "https://a.example/x", false},
		{deny, docker, layerDockerForeign, "https://www.example/x", true},
		{deny, docker, layerDockerForeign, "ftp://a.example/x", true},
		{deny, docker, layerDockerForeign, "//a.example/x", true},
		{deny, docker, layerDockerForeign, "https://%zz/", true},
		{both, docker, layerDockerForeign, "https://a.example/x", false},
		{both, docker, layerDockerForeign, "http://a.example/x", true},
		{both, docker, layerDockerForeign, "https://a.example/secret", true},
		{both, docker, layerDockerForeign, "https://elsewhere/", true},
	} {
		base := ocitest.NewRegistry()
		m := ocitest.NewImage(ocitest.PushBlob(t, base, "app", "{}"), ocitest.PushBlob(t, base, "app", "layer"))
		m.MediaType, m.Layers[0].MediaType, m.Layers[0].URLs = c.manifest, c.layer, strings.Fields(c.urls)
		raw, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		_, err = WithValidation(base, c.rules).PutManifest(t.Context(), "app", oci.Put{Tags: []string{"x"}, MediaType: c.manifest, Raw: raw})
		if c.forbidden != errors.Is(err, oci.ManifestBlobUnknown) || !c.forbidden && err != nil {
			t.Errorf("%s of %s at %q: %v", c.layer, c.manifest, c.urls, err)
		}
		if want := `"` + string(m.Layers[0].Digest) + `"`; c.forbidden && string(oci.AsError(err).Detail) != want {
			t.Errorf("the detail is %s, want %s", oci.AsError(err).Detail, want)
		}
		if _, err := base.Resolve(t.Context(), "app", "x"); (err == nil) == c.forbidden {
			t.Errorf("%s of %s at %q: after that %v", c.layer, c.manifest, c.urls, err)
		}
	}
}

// TestValidationOfForeignLayers: one that is nowhere else must be here.
func TestValidationOfForeignLayers(t *testing.T) {
	t.Parallel()
	base := ocitest.NewRegistry()
	reg := WithValidation(base, config.Validation{URLs: true})
	missing := ocitest.Describe(layerForeign, "nobody has pushed this")
	m := ocitest.NewImage(ocitest.PushBlob(t, base, "app", "{}"), missing)
	m.MediaType = oci.MediaTypeManifest
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []error{oci.ManifestBlobUnknown, nil} {
		if _, err := reg.PutManifest(t.Context(), "app", oci.Put{Tags: []string{"x"}, Raw: raw}); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		ocitest.PushBlob(t, base, "app", "nobody has pushed this")
	}
}

func TestValidationOfIndexes(t *testing.T) {
	t.Parallel()
	amd64, arm64, s390x := oci.Platform{OS: "linux", Architecture: "amd64"}, oci.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, oci.Platform{OS: "linux", Architecture: "s390x"}
	list := config.Validation{Platforms: "list", PlatformList: []config.Platform{{Architecture: "amd64", OS: "linux"}, {Architecture: "arm64", OS: "linux"}}}
	for _, c := range []struct {
		name    string
		rules   config.Validation
		missing []*oci.Platform
		refused bool
	}{
		{"no rule", config.Validation{}, []*oci.Platform{&amd64}, false},
		{"none", config.Validation{URLs: true, Platforms: "none"}, []*oci.Platform{&amd64}, false},
		{"all, complete", config.Validation{Platforms: "all"}, nil, false},
		{"all", config.Validation{Platforms: "all"}, []*oci.Platform{&s390x}, true},
		{"all, no platform", config.Validation{Platforms: "all"}, []*oci.Platform{nil}, true},
		{"list", list, []*oci.Platform{&s390x, nil, {OS: "windows", Architecture: "amd64"}}, false},
		{"list, of it", list, []*oci.Platform{&s390x, &arm64}, true},
		{"list of nothing", config.Validation{Platforms: "list"}, []*oci.Platform{&s390x}, true},
	} {
		base := ocitest.NewRegistry()
		there := ocitest.PushManifest(t, base, "app", emptyIndex)
		there.Platform = &amd64
		index := ocitest.NewIndex(there)
		for i, p := range c.missing {
			d := ocitest.Describe(oci.MediaTypeManifest, c.name+string(rune('a'+i)))
			d.Platform = p
			index.Manifests = append(index.Manifests, d)
		}
		raw, err := json.Marshal(index)
		if err != nil {
			t.Fatal(err)
		}
		_, err = WithValidation(base, c.rules).PutManifest(t.Context(), "app", oci.Put{Tags: []string{"x"}, Raw: raw})
		if c.refused != errors.Is(err, oci.ManifestBlobUnknown) || !c.refused && err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if _, err := base.Resolve(t.Context(), "app", "x"); (err == nil) == c.refused {
			t.Errorf("%s: after that %v", c.name, err)
		}
	}
}

// TestValidationLeavesTheRest to the registry: what is no manifest, and what
// goes wrong.
func TestValidationLeavesTheRest(t *testing.T) {
	t.Parallel()
	all := config.Validation{URLs: true, Platforms: "all"}
	reg := WithValidation(ocitest.NewRegistry(), all)
	for _, c := range []struct {
		repo, raw string
		want      oci.Code
	}{
		{"app", "{", oci.ManifestInvalid}, {"UPPER", emptyIndex, oci.NameInvalid},
	} {
		if _, err := reg.PutManifest(t.Context(), c.repo, oci.Put{Tags: []string{"x"}, Raw: []byte(c.raw)}); !errors.Is(err, c.want) {
			t.Errorf("%s in %s: %v, want %v", c.raw, c.repo, err, c.want)
		}
	}
	broken := WithValidation(ocitest.Faulty(ocitest.NewRegistry(), ocitest.Fault{Method: "Resolve", Err: oci.Unavailable}), all)
	raw := strings.Replace(emptyIndex, "[]", `[{"mediaType":"`+oci.MediaTypeManifest+`","size":1,"digest":"sha256:`+strings.Repeat("0", 64)+`"}]`, 1)
	if _, err := broken.PutManifest(t.Context(), "app", oci.Put{Tags: []string{"x"}, Raw: []byte(raw)}); !errors.Is(err, oci.Unavailable) {
		t.Errorf("got %v", err)
	}
}
