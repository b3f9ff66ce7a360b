package ocitest

import (
	"context"
	"iter"

	"github.com/regctl/regctl/client/oci"
)

// Funcs is a Registry some of whose methods are replaced: a field that is set
// is called in place of the method of its name, the others go to Registry.
type Funcs struct {
	oci.Registry

	OnResolve        func(ctx context.Context, repo, ref string) (oci.Descriptor, error)
	OnManifest       func(ctx context.Context, repo, ref string) (oci.Manifest, error)
	OnStatBlob       func(ctx context.Context, repo string, d oci.Digest) (oci.Descriptor, error)
	OnBlob           func(ctx context.Context, repo string, d oci.Digest) (oci.BlobReader, error)
	OnPutManifest    func(ctx context.Context, repo string, p oci.Put) (oci.Descriptor, error)
	OnMountBlob      func(ctx context.Context, repo, from string, d oci.Digest) (oci.Upload, error)
	OnUpload         func(ctx context.Context, repo, id string, o oci.UploadOptions) (oci.Upload, error)
	OnDeleteTag      func(ctx context.Context, repo, tag string, was oci.Digest) error
	OnDeleteManifest func(ctx context.Context, repo string, d oci.Digest) error
	OnDeleteBlob     func(ctx context.Context, repo string, d oci.Digest) error
	OnDeleteRepo     func(ctx context.Context, repo string) error
	OnRepos          func(ctx context.Context, after string) iter.Seq2[string, error]
	OnTags           func(ctx context.Context, repo, after string) iter.Seq2[string, error]
	OnTagDetails     func(ctx context.Context, repo, after string) iter.Seq2[oci.TagDetail, error]
	OnReferrers      func(ctx context.Context, repo string, d oci.Digest, artifactType string) iter.Seq2[oci.Descriptor, error]
}

// Resolve implements [oci.Reader].
func (f *Funcs) Resolve(ctx context.Context, repo, ref string) (oci.Descriptor, error) {
	if f.OnResolve != nil {
		return f.OnResolve(ctx, repo, ref)
	}
	return f.Registry.Resolve(ctx, repo, ref)
}

// Manifest implements [oci.Reader].
func (f *Funcs) Manifest(ctx context.Context, repo, ref string) (oci.Manifest, error) {
	if f.OnManifest != nil {
		return f.OnManifest(ctx, repo, ref)
	}
	return f.Registry.Manifest(ctx, repo, ref)
}

// StatBlob implements [oci.Reader].
func (f *Funcs) StatBlob(ctx context.Context, repo string, d oci.Digest) (oci.Descriptor, error) {
	if f.OnStatBlob != nil {
		return f.OnStatBlob(ctx, repo, d)
	}
	return f.Registry.StatBlob(ctx, repo, d)
}

// Blob implements [oci.Reader].
func (f *Funcs) Blob(ctx context.Context, repo string, d oci.Digest) (oci.BlobReader, error) {
	if f.OnBlob != nil {
		return f.OnBlob(ctx, repo, d)
	}
	return f.Registry.Blob(ctx, repo, d)
}

// PutManifest implements [oci.Writer].
func (f *Funcs) PutManifest(ctx context.Context, repo string, p oci.Put) (oci.Descriptor, error) {
	if f.OnPutManifest != nil {
		return f.OnPutManifest(ctx, repo, p)
	}
	return f.Registry.PutManifest(ctx, repo, p)
}

// MountBlob implements [oci.Writer].
func (f *Funcs) MountBlob(ctx context.Context, repo, from string, d oci.Digest) (oci.Upload, error) {
	if f.OnMountBlob != nil {
		return f.OnMountBlob(ctx, repo, from, d)
	}
	return f.Registry.MountBlob(ctx, repo, from, d)
}

// Upload implements [oci.Writer].
func (f *Funcs) Upload(ctx context.Context, repo, id string, o oci.UploadOptions) (oci.Upload, error) {
	if f.OnUpload != nil {
		return f.OnUpload(ctx, repo, id, o)
	}
	return f.Registry.Upload(ctx, repo, id, o)
}

// DeleteTag implements [oci.Deleter].
func (f *Funcs) DeleteTag(ctx context.Context, repo, tag string, was oci.Digest) error {
	if f.OnDeleteTag != nil {
		return f.OnDeleteTag(ctx, repo, tag, was)
	}
	return f.Registry.DeleteTag(ctx, repo, tag, was)
}

// DeleteManifest implements [oci.Deleter].
func (f *Funcs) DeleteManifest(ctx context.Context, repo string, d oci.Digest) error {
	if f.OnDeleteManifest != nil {
		return f.OnDeleteManifest(ctx, repo, d)
	}
	return f.Registry.DeleteManifest(ctx, repo, d)
}

// DeleteBlob implements [oci.Deleter].
func (f *Funcs) DeleteBlob(ctx context.Context, repo string, d oci.Digest) error {
	if f.OnDeleteBlob != nil {
		return f.OnDeleteBlob(ctx, repo, d)
	}
	return f.Registry.DeleteBlob(ctx, repo, d)
}

// DeleteRepo implements [oci.Deleter].
func (f *Funcs) DeleteRepo(ctx context.Context, repo string) error {
	if f.OnDeleteRepo != nil {
		return f.OnDeleteRepo(ctx, repo)
	}
	return f.Registry.DeleteRepo(ctx, repo)
}

// Repos implements [oci.Lister].
func (f *Funcs) Repos(ctx context.Context, after string) iter.Seq2[string, error] {
	if f.OnRepos != nil {
		return f.OnRepos(ctx, after)
	}
	return f.Registry.Repos(ctx, after)
}

// Tags implements [oci.Lister].
func (f *Funcs) Tags(ctx context.Context, repo, after string) iter.Seq2[string, error] {
	if f.OnTags != nil {
		return f.OnTags(ctx, repo, after)
	}
	return f.Registry.Tags(ctx, repo, after)
}

// TagDetails implements [oci.Lister].
func (f *Funcs) TagDetails(ctx context.Context, repo, after string) iter.Seq2[oci.TagDetail, error] {
	if f.OnTagDetails != nil {
		return f.OnTagDetails(ctx, repo, after)
	}
	return f.Registry.TagDetails(ctx, repo, after)
}

// Referrers implements [oci.Lister].
func (f *Funcs) Referrers(ctx context.Context, repo string, d oci.Digest, artifactType string) iter.Seq2[oci.Descriptor, error] {
	if f.OnReferrers != nil {
		return f.OnReferrers(ctx, repo, d, artifactType)
	}
	return f.Registry.Referrers(ctx, repo, d, artifactType)
}
