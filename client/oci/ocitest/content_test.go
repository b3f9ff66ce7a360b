package ocitest_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

func TestPushMakesTheRegistryHoldTheContent(t *testing.T) {
	reg := ocitest.NewRegistry()
	digests := ocitest.Push(t, reg, ocitest.Content{"team/app": {
		Blobs: ocitest.Blobs{"base": "bytes of a layer", "app": "more bytes"},
		Manifests: ocitest.Manifests{
			"amd64": {Layers: "base app", Platform: "linux/amd64"},
			"arm64": {Layers: "base", Platform: "linux/arm64/v8"},
			"multi": {Manifests: "amd64 arm64"},
			"sbom":  {Subject: "multi", ArtifactType: "application/spdx+json"},
		},
		Tags: ocitest.Tags{"latest": "multi", "1": "multi"},
	}})

	m, err := reg.Manifest(t.Context(), "team/app", "latest")
	if err != nil {
		t.Fatal(err)
	}
	if m.Descriptor.Digest != digests["multi"] {
		t.Errorf("latest is %s, want %s", m.Descriptor.Digest, digests["multi"])
	}
	g, err := oci.ParseManifest("", m.Raw)
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Manifests) != 2 || g.Manifests[1].Digest != digests["arm64"] || g.Manifests[1].Platform.Variant != "v8" {
		t.Errorf("the index has %+v", g.Manifests)
	}
	if _, err := reg.StatBlob(t.Context(), "team/app", digests["app"]); err != nil {
		t.Error(err)
	}
	for d, err := range reg.Referrers(t.Context(), "team/app", digests["multi"], "") {
		if err != nil || d.Digest != digests["sbom"] || d.ArtifactType != "application/spdx+json" {
			t.Errorf("referrer %+v, %v", d, err)
		}
	}
}

func TestPushRefusesANameOfTwoThings(t *testing.T) {
	said := &fatal{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ocitest.Push(said, ocitest.NewRegistry(), ocitest.Content{"app": {
			Blobs: ocitest.Blobs{"sig": "bytes"}, Manifests: ocitest.Manifests{"sig": {Layers: "sig"}},
		}})
	}()
	<-done
	if want := `app: a blob and a manifest are both called "sig"`; said.text != want {
		t.Errorf("said %q, want %q", said.text, want)
	}
}

// fatal keeps what a helper ends a test with.
type fatal struct {
	testing.TB

	text string
}

func (f *fatal) Fatalf(format string, args ...any) {
	f.text = fmt.Sprintf(format, args...)
	runtime.Goexit()
}
