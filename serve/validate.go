package serve

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"regexp"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/config"
)

// WithValidation returns reg with the section validation in force: it refuses
// manifests that the section does not allow, and takes all others as reg does.
// What must be there is looked for before the manifest is put; who deletes it
// at the same moment may be faster.
//
// A refusal is [oci.ManifestBlobUnknown] with the digest as its detail, which
// registry:2 says, too; where a URL is not allowed it does so with status 500.
func WithValidation(reg oci.Registry, v config.Validation) oci.Registry {
	if !v.URLs && v.Platforms != "all" && v.Platforms != "list" {
		return reg
	}
	return &validating{reg, v}
}

type validating struct {
	oci.Registry
	rules config.Validation
}

// PutManifest implements [oci.Writer].
func (v *validating) PutManifest(ctx context.Context, repo string, p oci.Put) (oci.Descriptor, error) {
	// What no manifest is, the registry refuses, with a reason of its own.
	if g, err := oci.ParseManifest(p.MediaType, p.Raw); err == nil && oci.CheckRepo(repo) == nil {
		if err := v.check(ctx, repo, g); err != nil {
			return oci.Descriptor{}, err
		}
	}
	return v.Registry.PutManifest(ctx, repo, p)
}

func (v *validating) check(ctx context.Context, repo string, g *oci.Graph) error {
	if g.IsIndex() {
		return v.checkImages(ctx, repo, g.Manifests)
	}
	if !v.rules.URLs {
		return nil
	}
	for _, l := range g.Layers {
		if err := v.checkLayer(ctx, repo, g, l); err != nil {
			return err
		}
	}
	return nil
}

// checkImages wants the images of an index that the rules name to be there. An
// image without a platform is of none of those in a list.
func (v *validating) checkImages(ctx context.Context, repo string, images []oci.Descriptor) error {
	if v.rules.Platforms != "all" && v.rules.Platforms != "list" {
		return nil
	}
	for _, d := range images {
		if !v.wanted(d.Platform) {
			continue
		}
		_, err := v.Resolve(ctx, repo, string(d.Digest))
		switch {
		case errors.Is(err, oci.ManifestUnknown), errors.Is(err, oci.NameUnknown):
			return blobUnknown(d.Digest, "the index names %s, which is not in %s; push it first, or set validation.manifests.indexes.platforms: none", d.Digest, repo)
		case err != nil:
			return err
		}
	}
	return nil
}

func (v *validating) wanted(p *ocispec.Platform) bool {
	if v.rules.Platforms == "all" || len(v.rules.PlatformList) == 0 {
		return true
	}
	if p == nil {
		return false
	}
	for _, w := range v.rules.PlatformList {
		if w.Architecture == p.Architecture && w.OS == p.OS {
			return true
		}
	}
	return false
}

const (
	layerDockerForeign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	layerForeign       = "application/vnd.oci.image.layer.nondistributable.v1.tar"
	layerForeignGzip   = layerForeign + "+gzip"
)

// checkLayer holds the URLs of a layer against the rules, if it is of a type
// whose URLs registry:2 looks at. Whether a layer that is pushed is there, is
// looked for by who stores the manifest.
func (v *validating) checkLayer(ctx context.Context, repo string, g *oci.Graph, l oci.Descriptor) error {
	docker := g.MediaType == oci.MediaTypeDockerManifest
	switch l.MediaType {
	case layerDockerForeign:
		if !docker {
			return nil
		}
		if len(l.URLs) == 0 {
			return blobUnknown(l.Digest, "the layer %s is foreign and has no URL", l.Digest)
		}
	case layerForeign, layerForeignGzip:
		if docker {
			return nil
		}
		if len(l.URLs) > 0 {
			break
		}
		_, err := v.StatBlob(ctx, repo, l.Digest)
		if errors.Is(err, oci.BlobUnknown) || errors.Is(err, oci.NameUnknown) {
			return blobUnknown(l.Digest, "the layer %s has no URL and is not in %s", l.Digest, repo)
		}
		return err
	case ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip:
		if docker {
			return nil
		}
	default:
		return nil
	}
	for _, u := range l.URLs {
		if !v.allowed(u) {
			return blobUnknown(l.Digest, "the layer %s has a URL that validation.manifests.urls does not allow: %s", l.Digest, clip(u, 256))
		}
	}
	return nil
}

// allowed tells whether a layer may have the URL u. Without any rule none may.
func (v *validating) allowed(u string) bool {
	parsed, err := url.Parse(u)
	if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Fragment != "" {
		return false
	}
	if len(v.rules.Allow) > 0 {
		return matchesAny(v.rules.Allow, u) && !matchesAny(v.rules.Deny, u)
	}
	return len(v.rules.Deny) > 0 && !matchesAny(v.rules.Deny, u)
}

func matchesAny(patterns []*regexp.Regexp, s string) bool {
	for _, p := range patterns {
		if p.MatchString(s) {
			return true
		}
	}
	return false
}

func blobUnknown(d oci.Digest, format string, args ...any) error {
	err := oci.Errorf(oci.ManifestBlobUnknown, format, args...)
	detail, _ := json.Marshal(d) // Cannot fail: a string.
	err.Detail = detail
	return err
}
