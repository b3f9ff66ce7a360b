package oci_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

const (
	sumA = "sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
	sumB = "sha256:fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9"
	sumC = "sha256:baa5a0964d3320fbc0c6a922140453c8513ea24ab8fd0577034804a967248096"
)

// manifest fills @A, @B and @C with digests.
func manifest(s string) []byte {
	return []byte(strings.NewReplacer("@A", sumA, "@B", sumB, "@C", sumC).Replace(s))
}

const (
	image  = `{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"@A","size":1},"layers":[{"digest":"@B","size":2}]}`
	index  = `{"schemaVersion":2,"manifests":[{"digest":"@A","size":1},{"digest":"@B","size":2},{"digest":"@A","size":1}]}`
	signed = `{"schemaVersion":1,"signatures":[]}`
)

func TestParseManifestAccepts(t *testing.T) {
	typed := func(mediaType, s string) string { return strings.Replace(s, "{", `{"mediaType":"`+mediaType+`",`, 1) }
	for name, c := range map[string]struct{ declared, raw, want string }{
		"OCI image":               {oci.MediaTypeManifest, typed(oci.MediaTypeManifest, image), oci.MediaTypeManifest},
		"OCI image without type":  {oci.MediaTypeManifest, image, oci.MediaTypeManifest},
		"undeclared image":        {"", image, oci.MediaTypeManifest},
		"image as JSON":           {"application/json", image, oci.MediaTypeManifest},
		"declared with parameter": {oci.MediaTypeManifest + "; charset=utf-8", image, oci.MediaTypeManifest},
		"declared in upper case":  {strings.ToUpper(oci.MediaTypeManifest), image, oci.MediaTypeManifest},
		"Docker image":            {oci.MediaTypeDockerManifest, typed(oci.MediaTypeDockerManifest, image), oci.MediaTypeDockerManifest},
		"OCI index":               {oci.MediaTypeIndex, typed(oci.MediaTypeIndex, index), oci.MediaTypeIndex},
		"OCI index without type":  {"", index, oci.MediaTypeIndex},
		"Docker list":             {"", typed(oci.MediaTypeDockerList, index), oci.MediaTypeDockerList},
		"no layers":               {"", `{"schemaVersion":2,"config":{"digest":"@A","size":0}}`, oci.MediaTypeManifest},
		"empty index":             {"", `{"schemaVersion":2,"manifests":[]}`, oci.MediaTypeIndex},
		"annotations by case":     {"", strings.Replace(image, "{", `{"annotations":{"a":"1","A":"2"},`, 1), oci.MediaTypeManifest},
		"unknown fields":          {"", strings.Replace(image, "{", `{"x":[1.5,{}],`, 1), oci.MediaTypeManifest},
	} {
		g, err := oci.ParseManifest(c.declared, manifest(c.raw))
		if err != nil || g.MediaType != c.want {
			t.Errorf("%s: got %+v, %v, want type %s", name, g, err, c.want)
		}
		if got := oci.MediaTypeOf(manifest(c.raw)); got != c.want {
			t.Errorf("%s: MediaTypeOf is %q, want %q", name, got, c.want)
		}
	}
}

func TestParseManifestRefuses(t *testing.T) {
	with := func(field, s string) string { return strings.Replace(s, "{", "{"+field+",", 1) }
	for name, c := range map[string]struct{ declared, raw string }{
		"nothing":                    {"", ``},
		"no JSON":                    {"", `{`},
		"two values":                 {"", image + image},
		"null":                       {"", `null`},
		"a list":                     {"", `[]`},
		"an empty object":            {oci.MediaTypeManifest, `{}`},
		"no telling field":           {oci.MediaTypeManifest, `{"schemaVersion":2}`},
		"schema 1":                   {"", `{"schemaVersion":1}`},
		"signed schema 1":            {"", signed},
		"schema 1 as schema 2":       {"", with(`"mediaType":"`+oci.MediaTypeManifest+`"`, signed)},
		"schema 3":                   {"", strings.Replace(image, `"schemaVersion":2`, `"schemaVersion":3`, 1)},
		"no schema":                  {"", strings.Replace(image, `"schemaVersion":2,`, ``, 1)},
		"unknown type":               {"", with(`"mediaType":"application/x"`, image)},
		"image declared as index":    {oci.MediaTypeIndex, image},
		"index declared as image":    {oci.MediaTypeManifest, index},
		"OCI declared as Docker":     {oci.MediaTypeDockerManifest, image},
		"image and index":            {"", with(`"manifests":[]`, image)},
		"image and null manifests":   {oci.MediaTypeManifest, with(`"mediaType":"`+oci.MediaTypeManifest+`","manifests":null`, image)},
		"index with a config":        {"", with(`"mediaType":"`+oci.MediaTypeIndex+`","config":{}`, index)},
		"index with layers":          {"", with(`"mediaType":"`+oci.MediaTypeIndex+`","layers":[]`, index)},
		"image without a config":     {"", `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeManifest + `","layers":[]}`},
		"image with a null config":   {"", `{"schemaVersion":2,"config":null}`},
		"image with fsLayers":        {"", with(`"fsLayers":[]`, image)},
		"misspelled manifests":       {"", with(`"Manifests":[]`, image)},
		"config twice":               {"", with(`"CONFIG":{}`, image)},
		"layers twice":               {"", `{"schemaVersion":2,"layers":[{"digest":"@C"}],"config":{"digest":"@A"},"layers":[{"digest":"@B"}]}`},
		"digest twice":               {"", `{"schemaVersion":2,"config":{"digest":"@A","digest":"@B"}}`},
		"digest twice but for case":  {"", `{"schemaVersion":2,"config":{"digest":"@A"},"layers":[{"digest":"@B","Digest":"@C"}]}`},
		"config twice but for ſ":     {"", with(`"ſubject":{"digest":"@B"},"subject":{"digest":"@C"}`, image)},
		"annotation twice":           {"", with(`"annotations":{"a":"1","a":"2"}`, image)},
		"bad config digest":          {"", `{"schemaVersion":2,"config":{"digest":"sha256:x"}}`},
		"no config digest":           {"", `{"schemaVersion":2,"config":{}}`},
		"bad layer digest":           {"", `{"schemaVersion":2,"config":{"digest":"@A"},"layers":[{"digest":"../x"}]}`},
		"bad child digest":           {"", `{"schemaVersion":2,"manifests":[{"digest":"md5:x"}]}`},
		"bad subject digest":         {"", with(`"subject":{"digest":"x"}`, image)},
		"empty subject":              {"", with(`"subject":{}`, index)},
		"negative size":              {"", `{"schemaVersion":2,"config":{"digest":"@A","size":-1}}`},
		"size that is no int64":      {"", `{"schemaVersion":2,"config":{"digest":"@A","size":1e30}}`},
		"layers that are no list":    {"", `{"schemaVersion":2,"config":{"digest":"@A"},"layers":{}}`},
		"media type that is a list":  {"", with(`"mediaType":[]`, image)},
		"annotations that are lists": {"", with(`"annotations":{"a":[]}`, image)},
	} {
		g, err := oci.ParseManifest(c.declared, manifest(c.raw))
		if !errors.Is(err, oci.ManifestInvalid) {
			t.Errorf("%s: got %+v, %v, want MANIFEST_INVALID", name, g, err)
		}
		if g != nil {
			t.Errorf("%s: a graph comes with the error", name)
		}
	}
}

func TestGraphOfAnImage(t *testing.T) {
	g, err := oci.ParseManifest("", manifest(`{"schemaVersion":2,
		"config":{"mediaType":"application/vnd.example","digest":"@A","size":1},
		"layers":[{"mediaType":"a","digest":"@B","size":2},{"mediaType":"a","digest":"@B","size":2},
			{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"@C","size":3}],
		"subject":{"digest":"@C","size":9},"annotations":{"k":"v"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if g.IsIndex() || g.ArtifactType != "application/vnd.example" || g.Annotations["k"] != "v" || g.Subject.Digest != sumC {
		t.Errorf("got %+v", g)
	}
	if got := g.Digests(); !slices.Equal(got, []oci.Digest{sumA, sumB, sumC}) {
		t.Errorf("digests are %v", got)
	}
	var blobs []oci.Digest
	for _, b := range g.Blobs() {
		blobs = append(blobs, b.Digest)
	}
	if want := []oci.Digest{sumA, sumB, sumB}; !slices.Equal(blobs, want) {
		t.Errorf("blobs are %v, want %v", blobs, want)
	}
}

func TestGraphOfAnIndex(t *testing.T) {
	g, err := oci.ParseManifest("", manifest(index))
	if err != nil {
		t.Fatal(err)
	}
	if !g.IsIndex() || g.ArtifactType != "" || len(g.Manifests) != 3 || g.Subject != nil {
		t.Errorf("got %+v", g)
	}
	if got := g.Digests(); !slices.Equal(got, []oci.Digest{sumA, sumB}) {
		t.Errorf("digests are %v", got)
	}
	if got := g.Blobs(); len(got) != 0 {
		t.Errorf("an index needs blobs %v", got)
	}
}

func TestMediaTypeOfWhatCannotBeTold(t *testing.T) {
	for _, raw := range []string{"", "x", "[]", "{}", `{"layers":[]}`, `{"config":{},"manifests":[]}`} {
		if got := oci.MediaTypeOf([]byte(raw)); got != "" {
			t.Errorf("%s is %q", raw, got)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	for _, s := range []string{image, index, signed, "", "null", `{"Config":1}`, `{"mediaType":"` + oci.MediaTypeIndex + `"}`} {
		f.Add("", manifest(s))
		f.Add(oci.MediaTypeManifest, manifest(s))
	}
	f.Fuzz(func(t *testing.T, mediaType string, raw []byte) {
		g, err := oci.ParseManifest(mediaType, raw)
		if err != nil {
			if !errors.Is(err, oci.ManifestInvalid) || g != nil || len(err.Error()) > 2000 {
				t.Errorf("graph %v, error %v", g, err)
			}
			return
		}
		if !slices.Contains(oci.ManifestTypes(), g.MediaType) || oci.MediaTypeOf(raw) != g.MediaType {
			t.Errorf("type is %q, told again %q", g.MediaType, oci.MediaTypeOf(raw))
		}
		named := g.Digests()
		if g.Subject != nil {
			named = append(named, g.Subject.Digest)
		}
		for _, b := range g.Blobs() {
			named = append(named, b.Digest)
		}
		for _, d := range named {
			if _, err := oci.ParseDigest(string(d)); err != nil {
				t.Errorf("accepted, but it names %q: %v", d, err)
			}
		}
		if again, err := oci.ParseManifest("", raw); err != nil || again.MediaType != g.MediaType {
			t.Errorf("accepted as %q, but undeclared: %v", mediaType, err)
		}
	})
}

func ExampleParseManifest() {
	g, err := oci.ParseManifest(oci.MediaTypeManifest, manifest(image))
	fmt.Println(g.IsIndex(), len(g.Layers), err)
	_, err = oci.ParseManifest(oci.MediaTypeIndex, manifest(image))
	fmt.Println(errors.Is(err, oci.ManifestInvalid))
	// Output:
	// false 1 <nil>
	// true
}

func ExampleGraph_Digests() {
	g, _ := oci.ParseManifest("", manifest(index))
	for _, d := range g.Digests() {
		fmt.Println(d == digest.FromString("foo"), d)
	}
	// Output:
	// true sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
	// false sha256:fcde2b2edba56bf408601fb721fe9b5c338d10ee429ea04fae5511b68fbf8fb9
}
