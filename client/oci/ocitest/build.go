package ocitest

import (
	"encoding/json"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
)

// NewImage returns an OCI image manifest.
func NewImage(config oci.Descriptor, layers ...oci.Descriptor) ocispec.Manifest {
	return ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: oci.MediaTypeManifest,
		Config:    config,
		Layers:    append([]oci.Descriptor{}, layers...),
	}
}

// NewIndex returns an OCI index.
func NewIndex(manifests ...oci.Descriptor) ocispec.Index {
	return ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: oci.MediaTypeIndex,
		Manifests: append([]oci.Descriptor{}, manifests...),
	}
}

// Describe returns the descriptor of data, by sha256.
func Describe(mediaType, data string) oci.Descriptor {
	return oci.Descriptor{MediaType: mediaType, Digest: digest.FromString(data), Size: int64(len(data))}
}

// Config returns the config of an image for a platform (as in linux/arm64/v8)
// that was built at a time in RFC 3339. Either may be empty.
func Config(onPlatform, created string) string {
	config := map[string]any{"rootfs": map[string]any{"type": "layers", "diff_ids": []string{}}}
	if created != "" {
		config["created"] = created
	}
	if p := platform(onPlatform); p != nil {
		config["os"], config["architecture"] = p.OS, p.Architecture
		if p.Variant != "" {
			config["variant"] = p.Variant
		}
	}
	data, _ := json.Marshal(config) // Strings only.
	return string(data)
}

func platform(s string) *oci.Platform {
	if s == "" {
		return nil
	}
	parts := append(strings.SplitN(s, "/", 3), "", "")
	return &oci.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
}

// plain returns d with nothing but media type, digest and size.
func plain(d oci.Descriptor) *oci.Descriptor {
	return &oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}
