package serve

import (
	"context"
	"io"
	"sync/atomic"

	"github.com/regctl/regctl/client/oci"
)

// WithReadOnly returns reg that, while on is set, answers whatever would change
// something with [oci.Unsupported], as registry:2 does; pulls go on. An upload
// that is under way when on is set takes no more and is not committed, but what
// arrived stays: it can go on once on is cleared.
func WithReadOnly(reg oci.Registry, on *atomic.Bool) oci.Registry { return &readOnly{reg, on} }

type readOnly struct {
	oci.Registry
	on *atomic.Bool
}

func (r *readOnly) refused() error {
	if !r.on.Load() {
		return nil
	}
	return oci.Errorf(oci.Unsupported,
		"the registry is read-only: storage.maintenance.readonly.enabled is true; pulls go on, pushes and deletes will again once it is false")
}

func (r *readOnly) PutManifest(ctx context.Context, repo string, p oci.Put) (oci.Descriptor, error) {
	if err := r.refused(); err != nil {
		return oci.Descriptor{}, err
	}
	return r.Registry.PutManifest(ctx, repo, p)
}

func (r *readOnly) MountBlob(ctx context.Context, repo, from string, d oci.Digest) (oci.Upload, error) {
	if err := r.refused(); err != nil {
		return nil, err
	}
	return r.wrap(r.Registry.MountBlob(ctx, repo, from, d))
}

// Upload tells how far an upload is even while nothing is taken.
func (r *readOnly) Upload(ctx context.Context, repo, id string, o oci.UploadOptions) (oci.Upload, error) {
	if err := r.refused(); err != nil && id == "" {
		return nil, err
	}
	return r.wrap(r.Registry.Upload(ctx, repo, id, o))
}

func (r *readOnly) wrap(up oci.Upload, err error) (oci.Upload, error) {
	if up == nil || err != nil {
		return nil, err
	}
	return &readOnlyUpload{up, r}, nil
}

func (r *readOnly) DeleteTag(ctx context.Context, repo, tag string, was oci.Digest) error {
	if err := r.refused(); err != nil {
		return err
	}
	return r.Registry.DeleteTag(ctx, repo, tag, was)
}

func (r *readOnly) DeleteManifest(ctx context.Context, repo string, d oci.Digest) error {
	if err := r.refused(); err != nil {
		return err
	}
	return r.Registry.DeleteManifest(ctx, repo, d)
}

func (r *readOnly) DeleteBlob(ctx context.Context, repo string, d oci.Digest) error {
	if err := r.refused(); err != nil {
		return err
	}
	return r.Registry.DeleteBlob(ctx, repo, d)
}

func (r *readOnly) DeleteRepo(ctx context.Context, repo string) error {
	if err := r.refused(); err != nil {
		return err
	}
	return r.Registry.DeleteRepo(ctx, repo)
}

// readOnlyUpload is an upload of a registry that may become read-only.
type readOnlyUpload struct {
	oci.Upload
	reg *readOnly
}

func (u *readOnlyUpload) Write(p []byte) (int, error) {
	if err := u.reg.refused(); err != nil {
		return 0, err
	}
	return u.Upload.Write(p)
}

func (u *readOnlyUpload) ReadFrom(from io.Reader) (int64, error) {
	if err := u.reg.refused(); err != nil {
		return 0, err
	}
	return u.Upload.ReadFrom(from)
}

func (u *readOnlyUpload) Commit(ctx context.Context, d oci.Digest) (oci.Descriptor, error) {
	if err := u.reg.refused(); err != nil {
		return oci.Descriptor{}, err
	}
	return u.Upload.Commit(ctx, d)
}

func (u *readOnlyUpload) Cancel(ctx context.Context) error {
	if err := u.reg.refused(); err != nil {
		return err
	}
	return u.Upload.Cancel(ctx)
}
