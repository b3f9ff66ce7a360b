package oci

import (
	"encoding/json"
	"mime"
	"regexp"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxManifest is the size in bytes up to which manifests are taken: the least
// that the distribution specification asks of a registry.
const MaxManifest = 4 << 20

// Media types of manifests. Docker's are stored and served as they are.
const (
	MediaTypeManifest       = ocispec.MediaTypeImageManifest
	MediaTypeIndex          = ocispec.MediaTypeImageIndex
	MediaTypeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	MediaTypeDockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"

	mediaTypeSchema1       = "application/vnd.docker.distribution.manifest.v1+json"
	mediaTypeSchema1Signed = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// ManifestTypes lists the media types that a client should accept: everything
// a registry may hold, so that none converts an index into one of its children.
func ManifestTypes() []string {
	return []string{MediaTypeIndex, MediaTypeManifest, MediaTypeDockerList, MediaTypeDockerManifest}
}

// Manifest is a manifest with its bytes.
type Manifest struct {
	Descriptor Descriptor // MediaType, Digest and Size are set.
	Raw        []byte     // Not to be changed.
}

// Graph is what a manifest refers to and how it presents itself. An image has
// a config and layers, an index has manifests.
type Graph struct {
	MediaType    string
	ArtifactType string // As the referrers API tells it; may be empty.
	Annotations  map[string]string
	Config       Descriptor // Zero in an index.
	Layers       []Descriptor
	Manifests    []Descriptor
	Subject      *Descriptor
}

// IsIndex tells an index or manifest list from an image.
func (g *Graph) IsIndex() bool { return isIndexType(g.MediaType) }

// Blobs returns what must be a blob of the repository before the manifest is
// accepted: config and layers without those that are never pushed
// ("foreign", "nondistributable").
func (g *Graph) Blobs() []Descriptor {
	if g.IsIndex() {
		return nil
	}
	blobs := []Descriptor{g.Config}
	for _, l := range g.Layers {
		if !isForeign(l.MediaType) {
			blobs = append(blobs, l)
		}
	}
	return blobs
}

// Digests returns every digest that g names but its subject, in order, each
// once.
func (g *Graph) Digests() []Digest {
	var names []Digest
	for _, d := range append(append([]Descriptor{g.Config}, g.Layers...), g.Manifests...) {
		if d.Digest != "" && !slices.Contains(names, d.Digest) {
			names = append(names, d.Digest)
		}
	}
	return names
}

func isIndexType(t string) bool { return t == MediaTypeIndex || t == MediaTypeDockerList }

func isForeign(t string) bool {
	return t == "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" ||
		strings.HasPrefix(t, "application/vnd.oci.image.layer.nondistributable.")
}

// manifestJSON has the fields of images and indexes together: which of them a
// body has tells what it is.
type manifestJSON struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *Descriptor       `json:"config"`
	Layers        []Descriptor      `json:"layers"`
	Manifests     []Descriptor      `json:"manifests"`
	Subject       *Descriptor       `json:"subject"`
	Annotations   map[string]string `json:"annotations"`

	keys map[string]json.RawMessage
}

func decodeManifest(raw []byte) (*manifestJSON, error) {
	var m manifestJSON
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, Errorf(ManifestInvalid, "manifest is not a JSON object of the right form: %v", err)
	}
	if err := json.Unmarshal(raw, &m.keys); err != nil {
		return nil, Errorf(ManifestInvalid, "manifest is not a JSON object: %v", err)
	}
	return &m, nil
}

func (m *manifestJSON) has(key string) bool { _, ok := m.keys[key]; return ok }

// mediaType tells the type from the body alone, "" if it cannot be told.
func (m *manifestJSON) mediaType() string {
	switch {
	case m.SchemaVersion == 1 && m.has("signatures"):
		return mediaTypeSchema1Signed
	case m.SchemaVersion == 1:
		return mediaTypeSchema1
	case m.MediaType != "":
		return m.MediaType
	case m.has("manifests") && !m.has("config") && !m.has("layers"):
		return MediaTypeIndex
	case m.has("config") && !m.has("manifests"):
		return MediaTypeManifest
	}
	return ""
}

// MediaTypeOf tells the media type of a stored manifest from its body, as
// nothing in the layout of registry:2 records it. It is "" if the body does
// not tell.
func MediaTypeOf(raw []byte) string {
	m, err := decodeManifest(raw)
	if err != nil {
		return ""
	}
	return m.mediaType()
}

var anyDigest = regexp.MustCompile(`sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}`)

// DigestsIn returns everything in raw that looks like a digest, each once: more
// than a stored manifest of an unknown kind can name, never less.
func DigestsIn(raw []byte) []Digest {
	var found []Digest
	for _, d := range anyDigest.FindAll(raw, -1) {
		if !slices.Contains(found, Digest(d)) {
			found = append(found, Digest(d))
		}
	}
	return found
}

// ParseManifest reads a manifest that a client declares to be of mediaType
// ("" or "application/json": not said). It returns a [ManifestInvalid] error
// for a body that is not JSON, whose type cannot be told or contradicts what
// is declared, that is image and index at once (CVE-2021-41190) or could be
// read in two ways, that is Docker schema 1, or that names something by a
// malformed digest.
func ParseManifest(mediaType string, raw []byte) (*Graph, error) {
	m, err := decodeManifest(raw)
	if err != nil {
		return nil, err
	}
	told := m.mediaType()
	if err := m.checkType(told, mediaType); err != nil {
		return nil, err
	}
	if err := m.checkShape(told); err != nil {
		return nil, err
	}
	if err := checkKeys(raw); err != nil {
		return nil, err
	}
	g := &Graph{
		MediaType: told, ArtifactType: m.ArtifactType, Annotations: m.Annotations,
		Layers: m.Layers, Manifests: m.Manifests, Subject: m.Subject,
	}
	if m.Config != nil {
		g.Config = *m.Config
		if g.ArtifactType == "" {
			g.ArtifactType = m.Config.MediaType
		}
	}
	if err := g.checkDescriptors(); err != nil {
		return nil, err
	}
	return g, nil
}

func (m *manifestJSON) checkType(told, declared string) error {
	if t, _, err := mime.ParseMediaType(declared); err == nil {
		declared = t
	}
	switch told {
	case mediaTypeSchema1, mediaTypeSchema1Signed:
		return Errorf(ManifestInvalid, "Docker image manifest schema 1 is not accepted; push again with docker 1.10 or newer, or any current client")
	case MediaTypeManifest, MediaTypeIndex, MediaTypeDockerManifest, MediaTypeDockerList:
	case "":
		return Errorf(ManifestInvalid, "the type of the manifest cannot be told from its body: it has neither mediaType, nor config, nor manifests")
	default:
		return Errorf(ManifestInvalid, "manifests of type %q are not accepted; known are %s", clip(told), strings.Join(ManifestTypes(), ", "))
	}
	if declared != "" && declared != "application/json" && declared != told {
		return Errorf(ManifestInvalid, "Content-Type is %q, but the manifest is %q", clip(declared), told)
	}
	return nil
}

// checkShape refuses bodies that another reader could take for something else.
func (m *manifestJSON) checkShape(told string) error {
	for key := range m.keys {
		for _, known := range []string{"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject"} {
			if key != known && strings.EqualFold(key, known) {
				return Errorf(ManifestInvalid, "manifest has a field %q; it must be spelled %q", clip(key), known)
			}
		}
	}
	switch {
	case m.SchemaVersion != 2:
		return Errorf(ManifestInvalid, "schemaVersion is %d, it must be 2", m.SchemaVersion)
	case isIndexType(told) && (m.has("config") || m.has("layers")):
		return Errorf(ManifestInvalid, "an index (%s) must not have config or layers", told)
	case !isIndexType(told) && m.has("manifests"):
		return Errorf(ManifestInvalid, "an image (%s) must not have manifests", told)
	case !isIndexType(told) && m.Config == nil:
		return Errorf(ManifestInvalid, "an image (%s) must have a config", told)
	case m.has("fsLayers"):
		return Errorf(ManifestInvalid, "a schema 2 manifest must not have fsLayers")
	}
	return nil
}

func (g *Graph) checkDescriptors() error {
	check := func(what string, d Descriptor) error {
		if _, err := ParseDigest(string(d.Digest)); err != nil {
			return Errorf(ManifestInvalid, "%s: %v", what, err)
		}
		if d.Size < 0 {
			return Errorf(ManifestInvalid, "%s %s has size %d", what, d.Digest, d.Size)
		}
		return nil
	}
	if !g.IsIndex() {
		if err := check("config", g.Config); err != nil {
			return err
		}
	}
	for _, l := range g.Layers {
		if err := check("layer", l); err != nil {
			return err
		}
	}
	for _, c := range g.Manifests {
		if err := check("manifest", c); err != nil {
			return err
		}
	}
	if g.Subject != nil {
		return check("subject", *g.Subject)
	}
	return nil
}
