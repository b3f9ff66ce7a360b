package meta

import (
	"context"
	"slices"

	"github.com/regctl/regctl/client/oci"
)

// Manifests returns the manifests of the repository, in order; also those that
// cannot be read.
func (h *Repo) Manifests(ctx context.Context) ([]oci.Digest, error) {
	if err := h.loadManifests(ctx); err != nil {
		return nil, err
	}
	all := append(h.manifestsWhere(func(Manifest) bool { return true }), h.r.manifests.doubts()...)
	slices.Sort(all)
	return slices.Compact(all), nil
}
