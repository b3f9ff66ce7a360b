package serve

import (
	"context"

	"github.com/regctl/regctl/client/oci"
)

// WithoutDeletes returns reg with every method of [oci.Deleter] answering
// [oci.Unsupported] and the line of configuration that changes it, as
// registry:2 does unless told otherwise.
func WithoutDeletes(reg oci.Registry) oci.Registry { return withoutDeletes{reg} }

type withoutDeletes struct{ oci.Registry }

func (withoutDeletes) DeleteTag(context.Context, string, string, oci.Digest) error {
	return deletesAreOff()
}

func (withoutDeletes) DeleteManifest(context.Context, string, oci.Digest) error {
	return deletesAreOff()
}

func (withoutDeletes) DeleteBlob(context.Context, string, oci.Digest) error { return deletesAreOff() }

func (withoutDeletes) DeleteRepo(context.Context, string) error { return deletesAreOff() }

func deletesAreOff() error {
	return oci.Errorf(oci.Unsupported,
		"deletes are off: set storage.delete.enabled: true (or REGISTRY_STORAGE_DELETE_ENABLED=true)")
}
