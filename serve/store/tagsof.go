package store

import (
	"context"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/meta"
)

// TagAt returns where a tag points, whether or not that is there.
// Errors: [oci.ManifestUnknown].
func (s *Store) TagAt(ctx context.Context, repo, tag string) (oci.Digest, error) {
	if err := oci.CheckRepo(repo); err != nil {
		return "", err
	}
	if err := oci.CheckTag(tag); err != nil {
		return "", err
	}
	r := s.meta.Open(repo)
	defer r.Close()
	t, err := r.Tag(ctx, tag)
	return t.Digest, translate(err, oci.ManifestUnknown, repo+":"+tag)
}

// TagsOf returns the tags of repo that point to d, in no order. There are none
// if it is not there.
func (s *Store) TagsOf(ctx context.Context, repo string, d oci.Digest) ([]string, error) {
	if err := checkRepoAndDigest(repo, d); err != nil {
		return nil, err
	}
	r := s.meta.Open(repo)
	defer r.Close()
	tags, err := r.TagsOf(ctx, d)
	return tags, translate(err, oci.Unknown, "list the tags of "+repo)
}

// ManifestsOf returns the digests of the manifests of repo in order, also of
// those that cannot be read.
func (s *Store) ManifestsOf(ctx context.Context, repo string) ([]oci.Digest, error) {
	if err := oci.CheckRepo(repo); err != nil {
		return nil, err
	}
	r := s.meta.Open(repo)
	defer r.Close()
	all, err := r.Manifests(ctx)
	return all, translate(err, oci.Unknown, "list the manifests of "+repo)
}

// Restore makes a blob a member of repo if its bytes are there. It asks for no
// other membership: the caller must know that it was a member.
// Errors: [oci.InsufficientStorage].
func (s *Store) Restore(ctx context.Context, repo string, d oci.Digest) (bool, error) {
	if err := checkRepoAndDigest(repo, d); err != nil {
		return false, err
	}
	defer s.call()()
	defer s.blobs.Lock(string(d))()
	defer s.leases.pin("", d)()
	defer s.leases.pin(repo, d)()
	if held, err := s.isMember(ctx, repo, d); err != nil || held {
		return held, translate(err, oci.Unknown, "restore "+at(repo, d))
	}
	if _, err := s.backend.Stat(ctx, meta.BlobKey(d)); err != nil {
		return false, translate(ignoreMissing(err), oci.Unknown, "restore "+at(repo, d))
	}
	r := s.meta.Open(repo)
	defer r.Close()
	if err := r.AddBlob(context.WithoutCancel(ctx), d, nil); err != nil {
		return false, translate(err, oci.Unknown, "restore "+at(repo, d))
	}
	return true, nil
}
