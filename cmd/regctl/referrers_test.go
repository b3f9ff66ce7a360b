package main_test

import (
	"slices"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// signed is an image for two platforms with an SBOM, a signature of one child
// and a signature of the SBOM.
var signed = ocitest.Content{"team/app": {
	Blobs: ocitest.Blobs{"base": "a layer of both", "one": "for one", "other": "for the other", "list": `{"spdx":1}`, "mark": "signature"},
	Manifests: ocitest.Manifests{
		"amd64":    {Layers: "base one", Platform: "linux/amd64"},
		"arm64":    {Layers: "base other", Platform: "linux/arm64/v8"},
		"multi":    {Manifests: "amd64 arm64"},
		"sbom":     {Subject: "multi", ArtifactType: "application/spdx+json", Layers: "list", Annotations: map[string]string{"by": "us"}},
		"sig":      {Subject: "amd64", ArtifactType: "application/vnd.example.signature", Layers: "mark"},
		"sig-sbom": {Subject: "sbom", ArtifactType: "application/vnd.example.signature", Layers: "mark"},
	},
	Tags: ocitest.Tags{"multi": "multi"},
}}

// pushSigned also signs in the older way: by a tag that holds the digest.
func pushSigned(t *testing.T, s *server) (digests map[string]oci.Digest, digestTag string) {
	t.Helper()
	digests = push(t, s, signed)
	digestTag = "sha256-" + digests["multi"].Encoded() + ".sig"
	if _, err := speak(s).PutManifest(t.Context(), "team/app", oci.Put{
		Raw: speak(s).must(t, 200, "GET", "/v2/team/app/manifests/"+string(digests["sig-sbom"])).body, Tags: []string{digestTag},
	}); err != nil {
		t.Fatal(err)
	}
	return digests, digestTag
}

// checkSigned reads the whole image at s, and who refers to what.
func checkSigned(t *testing.T, s *server, repo string, digests map[string]oci.Digest) {
	t.Helper()
	w := speak(s)
	if got := w.whole(t, repo, "multi"); got != digests["multi"] {
		t.Errorf("%s:multi is %s, want %s", repo, got, digests["multi"])
	}
	for of, by := range map[string][]oci.Digest{
		"multi": {digests["sbom"]}, "amd64": {digests["sig"]}, "sbom": {digests["sig-sbom"]}, "arm64": {}, "sig": {},
	} {
		if got := w.referrers(t, repo, digests[of]); !slices.Equal(got, by) {
			t.Errorf("referrers of %s in %s: %v, want %v", of, repo, got, by)
		}
		for _, d := range by {
			w.whole(t, repo, string(d))
		}
	}
}

// An image with all that refers to it is copied from one server to another,
// by clients that find the referrers themselves and by those that are told.
func TestCopyOfAnImageWithItsReferrers(t *testing.T) {
	t.Parallel()
	from, to := startRegctl(t, t.TempDir()), startRegctl(t, t.TempDir())
	digests, digestTag := pushSigned(t, from)
	checkSigned(t, from, "team/app", digests)
	attached := []oci.Digest{digests["sbom"], digests["sig"], digests["sig-sbom"]}

	t.Run("crane", func(t *testing.T) {
		p := newTool(t, "crane", "--insecure")
		p.run(t, "copy", from.addr+"/team/app:multi", to.addr+"/by/crane:multi")
		for _, d := range attached {
			p.run(t, "copy", from.addr+"/team/app@"+string(d), to.addr+"/by/crane@"+string(d))
		}
		checkSigned(t, to, "by/crane", digests)
	})
	t.Run("skopeo", func(t *testing.T) {
		p := newTool(t, "skopeo", "copy", "--all", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false")
		p.run(t, "docker://"+from.addr+"/team/app:multi", "docker://"+to.addr+"/by/skopeo:multi")
		for _, d := range attached {
			p.run(t, "docker://"+from.addr+"/team/app@"+string(d), "docker://"+to.addr+"/by/skopeo@"+string(d))
		}
		checkSigned(t, to, "by/skopeo", digests)
	})
	t.Run("regclient", func(t *testing.T) {
		p := newTool(t, "regclient", "--host", "reg="+from.addr+",tls=disabled", "--host", "reg="+to.addr+",tls=disabled")
		p.run(t, "image", "copy", "--referrers", "--digest-tags", from.addr+"/team/app:multi", to.addr+"/by/regclient:multi")
		checkSigned(t, to, "by/regclient", digests)
		wantNames(t, "tags", speak(to).tags(t, "by/regclient"), "multi", digestTag)
	})
	from.contented(t)
	to.contented(t)
}

// What regclient attaches, our referrers API lists, and regclient reads there.
func TestRegclientAttaches(t *testing.T) {
	t.Parallel()
	s := startRegctl(t, t.TempDir())
	digests := push(t, s, signed)
	p := newTool(t, "regclient", "--host", "reg="+s.addr+",tls=disabled")
	file := layer(t, "a note")
	p.run(t, "artifact", "put", "--subject", s.addr+"/team/app:multi", "--artifact-type", "application/vnd.example.note", "--file", file)
	said := p.run(t, "artifact", "list", "--filter-artifact-type", "application/vnd.example.note",
		"--format", "{{range .Descriptors}}{{.Digest}}{{end}}", s.addr+"/team/app:multi")
	want := slices.Sorted(slices.Values([]oci.Digest{digests["sbom"], oci.Digest(said)}))
	if got := speak(s).referrers(t, "team/app", digests["multi"]); !slices.Equal(got, want) {
		t.Errorf("referrers %v, want %v", got, want)
	}
	wantNames(t, "tags", speak(s).tags(t, "team/app"), "multi") // No fallback tag.
	s.contented(t)
}
