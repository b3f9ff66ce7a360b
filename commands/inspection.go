package commands

import (
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
)

// inspection is what `regctl inspect` tells of a manifest, and its JSON form.
type inspection struct {
	Schema       string            `json:"schema"`
	Registry     string            `json:"registry"`
	Repo         string            `json:"repo"`
	Tag          string            `json:"tag,omitempty"`
	Platform     string            `json:"platform,omitempty"` // Digest is not that of Tag, but of what Tag has for it.
	Digest       oci.Digest        `json:"digest"`
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Created      time.Time         `json:"created,omitzero"`
	Size         int64             `json:"size"` // Of all that a pull of every platform moves.
	Annotations  map[string]string `json:"annotations,omitempty"`
	Subject      oci.Digest        `json:"subject,omitempty"`
	Images       []imageInfo       `json:"images"` // Those of an index, or the one that it is.
	Referrers    []referrerInfo    `json:"referrers"`

	// Tags are the others of the same digest, and Shared what other tags of
	// the repository have of it. Missing where nobody looked.
	Tags     []string    `json:"tags,omitzero"`
	MoreTags bool        `json:"moreTags,omitempty"` // Not all tags were looked at.
	Shared   *sharedInfo `json:"shared,omitempty"`
}

// imageInfo is one image, artifact or attestation.
type imageInfo struct {
	Platform     string      `json:"platform,omitempty"`
	Digest       oci.Digest  `json:"digest"`
	MediaType    string      `json:"mediaType"`
	ArtifactType string      `json:"artifactType,omitempty"`
	Size         int64       `json:"size"` // Of manifest, config and layers.
	Created      time.Time   `json:"created,omitzero"`
	Attests      oci.Digest  `json:"attests,omitempty"` // The image that an attestation of BuildKit is about.
	Missing      bool        `json:"missing,omitempty"` // The index names it, the registry does not have it.
	Layers       []layerInfo `json:"layers"`

	// Config is that of an image that is told in detail.
	Config *ocispec.ImageConfig `json:"config,omitempty"`

	config oci.Descriptor // Where Config is read from.
	blobs  map[oci.Digest]int64
}

// layerInfo is a layer, or a step of the history that made none.
type layerInfo struct {
	Digest    oci.Digest `json:"digest,omitempty"`
	MediaType string     `json:"mediaType,omitempty"`
	Size      int64      `json:"size"`
	Title     string     `json:"title,omitempty"` // Of a file in an artifact, or the kind of an attestation.
	CreatedBy string     `json:"createdBy,omitempty"`
	Created   time.Time  `json:"created,omitzero"`
}

// referrerInfo is a manifest whose subject is the one above it.
type referrerInfo struct {
	Digest       oci.Digest     `json:"digest"`
	Tag          string         `json:"tag,omitempty"` // By which cosign ties it to its subject.
	ArtifactType string         `json:"artifactType,omitempty"`
	Size         int64          `json:"size"`
	Created      time.Time      `json:"created,omitzero"`
	Referrers    []referrerInfo `json:"referrers"`
}

// sharedInfo splits the size.
type sharedInfo struct {
	Own    int64 `json:"own"`    // Only this digest needs it.
	Others int64 `json:"others"` // Other tags of the repository have it, too.
}

const (
	annotationCreated   = ocispec.AnnotationCreated
	annotationTitle     = ocispec.AnnotationTitle
	annotationAttests   = "vnd.docker.reference.digest"
	annotationKind      = "vnd.docker.reference.type"
	annotationPredicate = "in-toto.io/predicate-type"
)

// newImageInfo describes a manifest; named is the descriptor by which an index
// names it.
func newImageInfo(named oci.Descriptor, m oci.Manifest, g *oci.Graph) imageInfo {
	i := imageInfo{
		Platform: platformName(named.Platform), Digest: m.Descriptor.Digest, MediaType: g.MediaType,
		Created: annotatedTime(g.Annotations, named.Annotations), Layers: []layerInfo{},
		config: g.Config, blobs: map[oci.Digest]int64{m.Descriptor.Digest: m.Descriptor.Size},
	}
	if !isImageConfig(g.Config.MediaType) {
		i.ArtifactType = g.ArtifactType
	}
	if named.Annotations[annotationKind] == "attestation-manifest" {
		i.Attests = oci.Digest(named.Annotations[annotationAttests])
	}
	for _, l := range g.Layers {
		title := l.Annotations[annotationTitle]
		if title == "" {
			title = l.Annotations[annotationPredicate]
		}
		i.Layers = append(i.Layers, layerInfo{Digest: l.Digest, MediaType: l.MediaType, Size: l.Size, Title: title})
	}
	for _, b := range g.Blobs() {
		i.blobs[b.Digest] = b.Size
	}
	i.Size = sum(i.blobs)
	return i
}

// configured adds what a config tells. Steps of the history are joined to the
// layers they made, in order.
func (i *imageInfo) configured(c *ocispec.Image) {
	if i.Platform == "" {
		i.Platform = platformName(&c.Platform)
	}
	if c.Created != nil && !c.Created.IsZero() {
		i.Created = c.Created.UTC()
	}
	i.Config = &c.Config
	var joined []layerInfo
	rest := i.Layers
	for _, step := range c.History {
		var l layerInfo
		if !step.EmptyLayer {
			if len(rest) == 0 { // The history tells of more than there is.
				continue
			}
			l, rest = rest[0], rest[1:]
		}
		l.CreatedBy = step.CreatedBy
		if step.Created != nil {
			l.Created = step.Created.UTC()
		}
		joined = append(joined, l)
	}
	i.Layers = append(joined, rest...)
}

// isReal tells an image or artifact from an attestation about one.
func (i *imageInfo) isReal() bool { return i.Attests == "" }

// platformName is os/arch, or os/arch/variant; "" if it is not known.
func platformName(p *oci.Platform) string {
	if p == nil || p.OS == "" || p.OS == "unknown" {
		return ""
	}
	name := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		name += "/" + p.Variant
	}
	return name
}

// annotatedTime is the first time that annotations tell; zero if none does.
func annotatedTime(all ...map[string]string) time.Time {
	for _, annotations := range all {
		if t, err := time.Parse(time.RFC3339, annotations[annotationCreated]); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

func isImageConfig(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == "application/vnd.docker.container.image.v1+json"
}

func sum(sizes map[oci.Digest]int64) int64 {
	var n int64
	for _, size := range sizes {
		n += size
	}
	return n
}
