package oci

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
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
	seen := make(map[Digest]bool, 1+len(g.Layers)+len(g.Manifests))
	for _, list := range [][]Descriptor{{g.Config}, g.Layers, g.Manifests} {
		for _, d := range list {
			if d.Digest != "" && !seen[d.Digest] {
				seen[d.Digest] = true
				names = append(names, d.Digest)
			}
		}
	}
	return names
}

func isIndexType(t string) bool { return t == MediaTypeIndex || t == MediaTypeDockerList }

func isForeign(t string) bool {
	return t == "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" ||
		strings.HasPrefix(t, "application/vnd.oci.image.layer.nondistributable.")
}

// manifestJSON is a manifest taken apart only as far as it takes to tell what
// it is: a body of the greatest size may name a million things.
type manifestJSON struct {
	schemaVersion int
	declared      string            // The field mediaType.
	fields        map[string]string // Of those that are known, the JSON of the value.
	misspelled    string            // A field that some would take for a known one.
	text          string
}

// knownFields are those that tell what a manifest is, all together.
func knownFields() []string {
	return []string{"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations", "fsLayers", "signatures"}
}

func decodeManifest(raw []byte) (*manifestJSON, error) {
	if !json.Valid(raw) {
		return nil, notJSON(json.Unmarshal(raw, new(json.RawMessage)))
	}
	m := &manifestJSON{fields: map[string]string{}, text: string(raw)}
	known := knownFields()
	s := scanner{text: m.text}
	if !s.members(func(key, value string) {
		i := slices.IndexFunc(known, func(k string) bool { return strings.EqualFold(k, key) })
		switch {
		case i < 0:
		case known[i] == key:
			m.fields[key] = value
		default:
			m.misspelled = key
		}
	}) {
		return nil, Errorf(ManifestInvalid, "manifest is not a JSON object")
	}
	if err := m.decode("schemaVersion", &m.schemaVersion); err != nil {
		return nil, err
	}
	return m, m.decode("mediaType", &m.declared)
}

// decode reads the value of a field into v; a missing one leaves it alone.
func (m *manifestJSON) decode(field string, v any) error {
	value, ok := m.fields[field]
	if !ok {
		return nil
	}
	if err := json.Unmarshal([]byte(value), v); err != nil {
		return malformed(field, err)
	}
	return nil
}

// descriptor reads and checks the one under a field; nil if there is none.
func (m *manifestJSON) descriptor(field string) (*Descriptor, error) {
	var d *Descriptor
	if err := m.decode(field, &d); err != nil || d == nil {
		return nil, err
	}
	return d, checkDescriptor(field, d)
}

// descriptors reads the list under a field one by one, and ends at the first
// that is wrong.
func (m *manifestJSON) descriptors(field, what string) ([]Descriptor, error) {
	text := m.fields[field]
	d := json.NewDecoder(strings.NewReader(text))
	if open, err := d.Token(); err == io.EOF || err == nil && open == nil {
		return nil, nil
	} else if open != json.Delim('[') {
		return nil, Errorf(ManifestInvalid, "%s is not a list", field)
	}
	// With a digest in it, one has more than 80 bytes.
	list := make([]Descriptor, 0, min(strings.Count(text, "{"), len(text)/80+1))
	for d.More() {
		var one Descriptor
		if err := d.Decode(&one); err != nil {
			return nil, malformed(field, err)
		}
		if err := checkDescriptor(what, &one); err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, nil
}

func checkDescriptor(what string, d *Descriptor) error {
	if _, err := ParseDigest(string(d.Digest)); err != nil {
		return Errorf(ManifestInvalid, "%s: %v", what, err)
	}
	if d.Size < 0 {
		return Errorf(ManifestInvalid, "%s %s has size %d", what, d.Digest, d.Size)
	}
	return nil
}

func notJSON(err error) error {
	return Errorf(ManifestInvalid, "manifest is not JSON: %s", clip(err.Error()))
}

func malformed(field string, err error) error {
	return Errorf(ManifestInvalid, "%s is not of the right form: %s", field, clip(err.Error()))
}

func (m *manifestJSON) has(key string) bool { _, ok := m.fields[key]; return ok }

// mediaType tells the type from the body alone, "" if it cannot be told.
func (m *manifestJSON) mediaType() string {
	switch {
	case m.schemaVersion == 1 && m.has("signatures"):
		return mediaTypeSchema1Signed
	case m.schemaVersion == 1:
		return mediaTypeSchema1
	case m.declared != "":
		return m.declared
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

// DigestsIn returns everything in raw that looks like a digest, each once: more
// than a stored manifest of an unknown kind can name, never less.
func DigestsIn(raw []byte) []Digest {
	var found []Digest
	seen := map[Digest]bool{}
	for {
		i := bytes.Index(raw, []byte("sha"))
		if i < 0 {
			return found
		}
		raw = raw[i:]
		n := digestAt(raw)
		if d := raw[:n]; n > 0 && !seen[Digest(d)] {
			seen[Digest(d)] = true
			found = append(found, Digest(d))
		}
		raw = raw[max(n, 1):]
	}
}

// digestAt is how many bytes at the begin of raw look like a digest.
func digestAt(raw []byte) int {
	for _, a := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		name, n := string(a)+":", len(a)+1+2*a.Size()
		if len(raw) >= n && bytes.HasPrefix(raw, []byte(name)) && !bytes.ContainsFunc(raw[len(name):n], isNotHex) {
			return n
		}
	}
	return 0
}

func isNotHex(r rune) bool { return (r < '0' || r > '9') && (r < 'a' || r > 'f') }

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
	if err := checkKeys(m.text); err != nil {
		return nil, err
	}
	return m.graph(told)
}

func (m *manifestJSON) graph(told string) (*Graph, error) {
	g := &Graph{MediaType: told}
	config, err := m.descriptor("config")
	if err != nil {
		return nil, err
	}
	if g.Layers, err = m.descriptors("layers", "layer"); err != nil {
		return nil, err
	}
	if g.Manifests, err = m.descriptors("manifests", "manifest"); err != nil {
		return nil, err
	}
	if g.Subject, err = m.descriptor("subject"); err != nil {
		return nil, err
	}
	if err := m.decode("artifactType", &g.ArtifactType); err != nil {
		return nil, err
	}
	if err := m.decode("annotations", &g.Annotations); err != nil {
		return nil, err
	}
	if config != nil {
		g.Config = *config
		if g.ArtifactType == "" {
			g.ArtifactType = config.MediaType
		}
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
	if m.misspelled != "" {
		i := slices.IndexFunc(knownFields(), func(k string) bool { return strings.EqualFold(k, m.misspelled) })
		return Errorf(ManifestInvalid, "manifest has a field %q; it must be spelled %q", clip(m.misspelled), knownFields()[i])
	}
	switch {
	case m.schemaVersion != 2:
		return Errorf(ManifestInvalid, "schemaVersion is %d, it must be 2", m.schemaVersion)
	case isIndexType(told) && (m.has("config") || m.has("layers")):
		return Errorf(ManifestInvalid, "an index (%s) must not have config or layers", told)
	case !isIndexType(told) && m.has("manifests"):
		return Errorf(ManifestInvalid, "an image (%s) must not have manifests", told)
	case !isIndexType(told) && strings.TrimSpace(m.fields["config"]) == "null", !isIndexType(told) && !m.has("config"):
		return Errorf(ManifestInvalid, "an image (%s) must have a config", told)
	case m.has("fsLayers"):
		return Errorf(ManifestInvalid, "a schema 2 manifest must not have fsLayers")
	}
	return nil
}
