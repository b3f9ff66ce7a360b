package ocitest

import (
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

func refusalRequirements(x Exceptions) []requirement {
	return []requirement{
		{"a manifest that does not have its digest is DIGEST_INVALID", (*suite).refuseDigest, ""},
		{"a manifest of schema 1 is refused", (*suite).refuseSchema1, ""},
		{"what is image and index at once is refused", (*suite).refuseConfusion, x.LaxManifests},
		{"a media type that contradicts the body is refused", (*suite).refuseContradiction, x.LaxManifests},
		{"what is not a manifest is refused", (*suite).refuseGarbage, ""},
		{"a manifest with a malformed digest in it is refused", (*suite).refuseBadNames, x.LaxManifests},
		{"a manifest over the size limit is refused", (*suite).refuseLarge, x.NoSizeLimit},
		{"an image whose config or layer is missing is refused", (*suite).refuseMissing, ""},
		{"a blob of another repository is missing here", (*suite).refuseForeignBlob, ""},
	}
}

// refused fails the test unless a push is refused with the code and leaves
// nothing.
func (s *suite) refused(what string, code oci.Code, p oci.Put) {
	s.Helper()
	p.Tags = []string{"refused"}
	if _, err := s.PutManifest(s.Context(), repo, p); err == nil || oci.AsError(err).Code != code {
		s.Errorf("%s: error is %s, want %s", what, describe(err), code.Error())
	}
	s.lacksManifest(repo, "refused")
	s.lacksManifest(repo, string(digest.FromBytes(p.Raw)))
}

func (s *suite) refuseDigest() {
	raw := []byte(s.imageOf(repo, "1"))
	s.refused("sha256", oci.DigestInvalid, oci.Put{Digest: digest.FromString("else"), Raw: raw})
	s.refused("sha512", oci.DigestInvalid, oci.Put{Digest: digest.SHA512.FromString("else"), Raw: raw})
}

func (s *suite) refuseSchema1() {
	const (
		kind = "application/vnd.docker.distribution.manifest.v1+json"
		body = `"schemaVersion":1,"name":"team/app","tag":"v1","architecture":"amd64","fsLayers":[],"history":[]`
	)
	for _, mediaType := range []string{kind, "", "application/json"} {
		s.refused("unsigned as "+mediaType, oci.ManifestInvalid, oci.Put{MediaType: mediaType, Raw: []byte("{" + body + "}")})
	}
	signed := []byte("{" + body + `,"signatures":[{"header":{},"signature":"x","protected":"y"}]}`)
	s.refused("signed", oci.ManifestInvalid, oci.Put{MediaType: "application/vnd.docker.distribution.manifest.v1+prettyjws", Raw: signed})
}

func (s *suite) refuseConfusion() {
	image := s.imageOf(repo, "1")
	index := string(marshal(s, NewIndex()))
	for what, raw := range map[string]string{
		"image with manifests": strings.Replace(image, "{", `{"manifests":[],`, 1),
		"index with layers":    strings.Replace(index, "{", `{"layers":[],`, 1),
		"index with a config":  strings.Replace(index, "{", `{"config":{},`, 1),
	} {
		s.refused(what, oci.ManifestInvalid, oci.Put{Raw: []byte(raw)})
	}
	both := strings.Replace(strings.Replace(image, `"mediaType":"`+oci.MediaTypeManifest+`",`, "", 1), "{", `{"manifests":[],`, 1)
	s.refused("both, without a type", oci.ManifestInvalid, oci.Put{Raw: []byte(both)})
}

func (s *suite) refuseContradiction() {
	image, index := []byte(s.imageOf(repo, "1")), marshal(s, NewIndex())
	for _, mediaType := range []string{oci.MediaTypeIndex, oci.MediaTypeDockerManifest, oci.MediaTypeDockerList, "text/plain"} {
		s.refused("an image as "+mediaType, oci.ManifestInvalid, oci.Put{MediaType: mediaType, Raw: image})
	}
	for _, mediaType := range []string{oci.MediaTypeManifest, oci.MediaTypeDockerList} {
		s.refused("an index as "+mediaType, oci.ManifestInvalid, oci.Put{MediaType: mediaType, Raw: index})
	}
}

func (s *suite) refuseGarbage() {
	for _, raw := range []string{"", "x", "[]", "null", `"{}"`, "{}", `{"schemaVersion":2}`, `{"schemaVersion":2,"mediaType":"text/plain"}`} {
		s.refused(fmt.Sprintf("%q", raw), oci.ManifestInvalid, oci.Put{MediaType: oci.MediaTypeManifest, Raw: []byte(raw)})
	}
}

func (s *suite) refuseBadNames() {
	config := PushBlob(s, s.Registry, repo, "{}")
	for _, d := range []oci.Digest{"", "sha256:", "sha256:../../x", "md5:d41d8cd98f00b204e9800998ecf8427e"} {
		bad := oci.Descriptor{MediaType: imageLayer, Digest: d, Size: 1}
		s.refused("layer "+string(d), oci.ManifestInvalid, oci.Put{Raw: marshal(s, NewImage(config, bad))})
		s.refused("config "+string(d), oci.ManifestInvalid, oci.Put{Raw: marshal(s, NewImage(bad))})
		s.refused("child "+string(d), oci.ManifestInvalid, oci.Put{Raw: marshal(s, NewIndex(bad))})
		index := NewIndex()
		index.Subject = &bad
		s.refused("subject "+string(d), oci.ManifestInvalid, oci.Put{Raw: marshal(s, index)})
	}
}

func (s *suite) refuseLarge() {
	raw := s.imageOf(repo, "1")
	raw += strings.Repeat(" ", oci.MaxManifest+1-len(raw))
	s.refused("too large", oci.ManifestTooLarge, oci.Put{Raw: []byte(raw)})
}

func (s *suite) refuseMissing() {
	have, missing := PushBlob(s, s.Registry, repo, "{}"), Describe(imageLayer, "missing")
	s.refused("config", oci.ManifestBlobUnknown, oci.Put{Raw: []byte(imageRaw(s, missing, have))})
	s.refused("layer", oci.ManifestBlobUnknown, oci.Put{Raw: []byte(imageRaw(s, have, have, missing))})
}

func (s *suite) refuseForeignBlob() {
	config := PushBlob(s, s.Registry, repo, "{}")
	layer := PushBlob(s, s.Registry, other, "layer")
	s.refused("layer", oci.ManifestBlobUnknown, oci.Put{Raw: []byte(imageRaw(s, config, layer))})
	s.hasBlob(other, layer.Digest, "layer")
}
