package serve

import (
	"context"
	"sync/atomic"

	"github.com/regctl/regctl/client/oci"
)

// WithoutDeletes returns reg with every method of [oci.Deleter] answering
// [oci.Unsupported] and the line of configuration that changes it, as
// registry:2 does unless told otherwise.
func WithoutDeletes(reg oci.Registry) oci.Registry { return withoutDeletes{reg} }

// WithDeletes returns reg as it is while on is set, and else as
// [WithoutDeletes] has it.
func WithDeletes(reg oci.Registry, on *atomic.Bool) oci.Registry { return &withDeletes{reg, on} }

type withDeletes struct {
	oci.Registry
	on *atomic.Bool
}

func (w *withDeletes) deleter() oci.Deleter {
	if w.on.Load() {
		return w.Registry
	}
	return withoutDeletes{}
}

func (w *withDeletes) DeleteTag(ctx context.Context, repo, tag string, was oci.Digest) error {
	return w.deleter().DeleteTag(ctx, repo, tag, was)
}

func (w *withDeletes) DeleteManifest(ctx context.Context, repo string, d oci.Digest) error {
	return w.deleter().DeleteManifest(ctx, repo, d)
}

func (w *withDeletes) DeleteBlob(ctx context.Context, repo string, d oci.Digest) error {
	return w.deleter().DeleteBlob(ctx, repo, d)
}

func (w *withDeletes) DeleteRepo(ctx context.Context, repo string) error {
	return w.deleter().DeleteRepo(ctx, repo)
}

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
