package transfer_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/client/transfer"
)

// built is an index as buildkit makes it, for three platforms, with an
// attestation of two of them; its digests, that of the index as "index".
func built(t *testing.T) (oci.Registry, map[string]oci.Digest) {
	t.Helper()
	reg := ocitest.NewRegistry()
	digests := ocitest.Push(t, reg, ocitest.Content{"app": {
		Blobs: ocitest.Blobs{"amd": "a", "arm": "b", "v6": "c", "proof": "d"},
		Manifests: ocitest.Manifests{
			"amd64":   {Layers: "amd", Platform: "linux/amd64"},
			"arm64":   {Layers: "arm", Platform: "linux/arm64/v8"},
			"armv6":   {Layers: "v6", Platform: "linux/arm/v6"},
			"provedA": {Layers: "proof amd", Platform: "unknown/unknown"},
			"proved6": {Layers: "proof v6", Platform: "unknown/unknown"},
		},
		Tags: ocitest.Tags{"single": "amd64"},
	}})
	type entry map[string]any
	describe := func(name, os, arch, variant, of string) entry {
		d, err := reg.Resolve(t.Context(), "app", string(digests[name]))
		if err != nil {
			t.Fatal(err)
		}
		e := entry{"mediaType": d.MediaType, "digest": d.Digest, "size": d.Size,
			"platform": entry{"os": os, "architecture": arch, "variant": variant}, "x-kept": name}
		if of != "" {
			e["annotations"] = entry{"vnd.docker.reference.digest": digests[of], "vnd.docker.reference.type": "attestation-manifest"}
		}
		return e
	}
	raw, err := json.Marshal(entry{"schemaVersion": 2, "mediaType": oci.MediaTypeIndex, "annotations": entry{"who": "us"}, "manifests": []entry{
		describe("arm64", "linux", "arm64", "v8", ""), describe("amd64", "linux", "amd64", "", ""), describe("armv6", "linux", "arm", "v6", ""),
		describe("provedA", "unknown", "unknown", "", "amd64"), describe("proved6", "unknown", "unknown", "", "armv6"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	digests["index"] = ocitest.PushManifest(t, reg, "app", string(raw), "1").Digest
	return reg, digests
}

func platforms(t *testing.T, names string) []oci.Platform {
	t.Helper()
	var list []oci.Platform
	for name := range strings.SplitSeq(names, ",") {
		p, err := transfer.ParsePlatform(name)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

func TestPlatforms(t *testing.T) {
	t.Parallel()
	src, digests := built(t)
	for _, test := range []struct{ asked, want string }{
		{"linux/amd64,linux/arm64", "arm64 amd64 provedA"},
		{"linux/arm,linux/amd64", "amd64 armv6 provedA proved6"},
		{"linux/arm/v6,linux/amd64,linux/arm64/v8", ""}, // All of it.
	} {
		dst := ocitest.NewRegistry()
		r := copies(t, dst, src, transfer.Options{Platforms: platforms(t, test.asked)}, item("app:1", "app:1"))
		m, err := dst.Manifest(t.Context(), "app", "1")
		if err != nil {
			t.Fatal(err)
		}
		wantAllWhole(t, dst)
		if test.want == "" {
			if m.Descriptor.Digest != digests["index"] || r.Images[0].Whole != "" {
				t.Errorf("%s: not the same index", test.asked)
			}
			continue
		}
		var got []string
		g, err := oci.ParseManifest("", m.Raw)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range g.Manifests {
			for name, digest := range digests {
				if d.Digest == digest {
					got = append(got, name)
				}
			}
		}
		if strings.Join(got, " ") != test.want || g.Annotations["who"] != "us" || strings.Count(string(m.Raw), "x-kept") != len(got) {
			t.Errorf("%s: %q in %s", test.asked, got, m.Raw)
		}
		if r.Images[0].Whole != digests["index"] || r.Images[0].Platforms != 2 {
			t.Errorf("%s: image %+v", test.asked, r.Images[0])
		}
		again := copies(t, dst, src, transfer.Options{Platforms: platforms(t, test.asked)}, item("app:1", "app:1"))
		if again.Images[0].State != transfer.There {
			t.Errorf("%s again: %+v", test.asked, again.Images[0])
		}
	}
}

// TestOnePlatform gives the image itself.
func TestOnePlatform(t *testing.T) {
	t.Parallel()
	src, digests := built(t)
	dst := ocitest.NewRegistry()
	for _, tag := range []string{"1", "single"} {
		copies(t, dst, src, transfer.Options{Platforms: platforms(t, "linux/amd64")}, item("app:"+tag, "app:"+tag))
		if got := digestOf(t, dst, "app", tag); got != digests["amd64"] {
			t.Errorf("tag %s is %s", tag, got)
		}
	}
	if _, err := dst.Resolve(t.Context(), "app", string(digests["arm64"])); !errors.Is(err, oci.ManifestUnknown) {
		t.Errorf("the other platform: %v", err)
	}
}

func TestNoSuchPlatform(t *testing.T) {
	t.Parallel()
	src, _ := built(t)
	for tag, want := range map[string]string{
		"1":      "source app:1: choose platforms: nothing for linux/s390x; there is linux/arm64/v8, linux/amd64, linux/arm/v6",
		"single": "source app:single: choose platforms: nothing for linux/s390x; it is an image for linux/amd64 only",
	} {
		dst := ocitest.NewRegistry()
		p := plan(t, dst, src, transfer.Options{Platforms: platforms(t, "linux/amd64,linux/s390x")}, item("app:"+tag, "app:x"))
		if err := p.Err(); err == nil || err.Error() != want || !errors.Is(err, oci.ManifestUnknown) {
			t.Errorf("%s: error %v, want %s", tag, err, want)
		}
		if len(p.Blobs)+len(p.Manifests)+len(p.Tags) > 0 {
			t.Errorf("%s: there is something to do", tag)
		}
	}
}

func TestParsePlatform(t *testing.T) {
	t.Parallel()
	if p, err := transfer.ParsePlatform("linux/arm64/v8"); err != nil || p.OS+p.Architecture+p.Variant != "linuxarm64v8" {
		t.Errorf("%+v, %v", p, err)
	}
	for _, wrong := range []string{"", "linux", "linux/", "/amd64", "linux/arm/v7/x"} {
		if p, err := transfer.ParsePlatform(wrong); err == nil {
			t.Errorf("%q: %+v", wrong, p)
		}
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		asked, has string
		want       bool
	}{
		{"linux/amd64", "linux/amd64", true}, {"linux/amd64", "linux/arm64", false}, {"linux/amd64", "windows/amd64", false},
		{"linux/arm", "linux/arm/v7", true}, {"linux/arm/v7", "linux/arm", false}, {"linux/arm/v7", "linux/arm/v6", false},
		{"linux/arm64/v8", "linux/arm64", true}, {"linux/arm64", "linux/arm64/v8", true}, {"linux/arm64/v9", "linux/arm64", false},
	} {
		asked, has := platforms(t, test.asked)[0], platforms(t, test.has)[0]
		if got := transfer.Matches(asked, has); got != test.want {
			t.Errorf("%s of %s: %v", test.asked, test.has, got)
		}
	}
}

// TestWholeRepository leaves out what is not wanted.
func TestWholeRepository(t *testing.T) {
	t.Parallel()
	src, digests := source(t)
	retag(t, src, "app", digests["sbom"], strings.Replace(string(digests["multi"]), ":", "-", 1)) // As if by the tag schema.
	signature := cosignTag(digests["multi"])
	for _, test := range []struct {
		name    string
		options transfer.Options
		keep    func(string) bool
		want    []string
	}{
		{"all", transfer.Options{}, nil, []string{"0", "1", signature}},
		{"some", transfer.Options{}, func(tag string) bool { return tag == "1" }, []string{"1"}},
		{"bare", transfer.Options{Referrers: transfer.ReferrersNever}, nil, []string{"0", "1"}},
		{"new", transfer.Options{NewTags: true}, nil, []string{"1", signature}},
	} {
		dst := ocitest.NewRegistry()
		if test.options.NewTags {
			copies(t, dst, src, transfer.Options{}, item("app:0", "app:0"))
		}
		r := copies(t, dst, src, test.options, transfer.Item{SrcRepo: "app", DstRepo: "app", Keep: test.keep})
		var got []string
		for _, image := range r.Images {
			got = append(got, image.SrcRef)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
		wantAllWhole(t, dst)
	}
	_, err := transfer.MakePlan(t.Context(), nil, src, []transfer.Item{{SrcRepo: "none", DstRepo: "x"}}, transfer.Options{})
	if !errors.Is(err, oci.NameUnknown) {
		t.Errorf("no repository: %v", err)
	}
}
