package layout

import (
	"encoding/json"
	"errors"
	"io/fs"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
)

const (
	dockerFile   = "manifest.json"
	dockerConfig = "application/vnd.docker.container.image.v1+json"
	dockerLayer  = "application/vnd.docker.image.rootfs.diff.tar"
	dockerGzip   = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// dockerImage is an element of manifest.json, as docker save and those that
// write for docker load have it.
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// loadDocker reads an archive of docker's own form.
func (a *Archive) loadDocker(t *tarball) error {
	raw, err := t.read(dockerFile, maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return invalid("no archive of images: it has neither %s nor %s, but %s", ocispec.ImageLayoutFile, dockerFile, t.some())
	}
	if err != nil {
		return err
	}
	var images []dockerImage
	if err := json.Unmarshal(raw, &images); err != nil {
		return invalid("%s is not of the right form: %v", dockerFile, err)
	}
	index := emptyIndex()
	for _, image := range images {
		desc, err := a.addDocker(t, image)
		if err != nil {
			return err
		}
		if len(image.RepoTags) == 0 {
			index.Manifests = append(index.Manifests, desc)
		}
		for _, name := range image.RepoTags {
			named := desc
			named.Annotations = map[string]string{annotationName: name}
			index.Manifests = append(index.Manifests, named)
		}
	}
	a.list = mustJSON(index)
	return nil
}

// addDocker makes the manifest of an image. A layer that is not compressed has
// the digest that the config tells of it, and is pushed as it is.
func (a *Archive) addDocker(t *tarball, image dockerImage) (oci.Descriptor, error) {
	raw, err := t.read(image.Config, maxConfig)
	if err != nil {
		return oci.Descriptor{}, missing(err)
	}
	var config ocispec.Image
	if err := json.Unmarshal(raw, &config); err != nil {
		return oci.Descriptor{}, invalid("%s is not of the right form: %v", image.Config, err)
	}
	if ids := config.RootFS.DiffIDs; len(ids) != len(image.Layers) {
		return oci.Descriptor{}, invalid("%s tells of %d layers, the archive has %d", image.Config, len(ids), len(image.Layers))
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: oci.MediaTypeDockerManifest,
		Config:    oci.Descriptor{MediaType: dockerConfig, Digest: digest.FromBytes(raw), Size: int64(len(raw))},
		Layers:    []oci.Descriptor{},
	}
	a.made[m.Config.Digest] = raw
	for i, name := range image.Layers {
		layer, err := a.addLayer(t, name, config.RootFS.DiffIDs[i])
		if err != nil {
			return oci.Descriptor{}, err
		}
		m.Layers = append(m.Layers, layer)
	}
	manifest := mustJSON(m)
	desc := oci.Descriptor{MediaType: m.MediaType, Digest: digest.FromBytes(manifest), Size: int64(len(manifest))}
	a.made[desc.Digest] = manifest
	return desc, nil
}

func missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return invalid("%s names what the archive does not have: %v", dockerFile, err)
	}
	return err
}

func (a *Archive) addLayer(t *tarball, name string, diffID oci.Digest) (oci.Descriptor, error) {
	p, err := t.find(name)
	if err != nil {
		return oci.Descriptor{}, missing(err)
	}
	layer := oci.Descriptor{MediaType: dockerLayer, Digest: diffID, Size: p.size}
	var magic [2]byte
	if n, _ := t.section(p).Read(magic[:]); isGzip(magic[:n]) { // As crane writes them.
		layer.MediaType = dockerGzip
		if layer.Digest, err = digest.FromReader(t.section(p)); err != nil {
			return oci.Descriptor{}, invalid("the archive is cut off in %s: %v", name, err)
		}
	}
	if err := checkDigest(layer.Digest); err != nil {
		return oci.Descriptor{}, err
	}
	a.parts[layer.Digest] = p
	return layer, nil
}

// preferred tells how well docker load is served by a child of an index.
func preferred(p *oci.Platform) int {
	switch {
	case p == nil || p.OS == "unknown":
		return 0
	case p.OS == "linux" && p.Architecture == "amd64":
		return 2
	}
	return 1
}
