package store

import (
	"context"
	"errors"
	"io/fs"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage"
)

// searched bounds how many repositories are asked for a blob that is mounted
// from anywhere and was not seen lately.
const searched = 1000

// StatBlob implements [oci.Reader].
func (s *Store) StatBlob(ctx context.Context, repo string, d oci.Digest) (oci.Descriptor, error) {
	if err := checkRepoAndDigest(repo, d); err != nil {
		return oci.Descriptor{}, err
	}
	defer s.blobs.RLock(string(d))()
	r := s.meta.Open(repo)
	defer r.Close()
	_, info, err := s.touchMember(ctx, r, d)
	return oci.Descriptor{Digest: d, Size: info.Size}, translate(err, oci.BlobUnknown, at(repo, d))
}

// Blob implements [oci.Reader].
func (s *Store) Blob(ctx context.Context, repo string, d oci.Digest) (oci.BlobReader, error) {
	if err := checkRepoAndDigest(repo, d); err != nil {
		return oci.BlobReader{}, err
	}
	defer s.blobs.RLock(string(d))()
	r := s.meta.Open(repo)
	defer r.Close()
	for {
		epoch := s.leases.touch(repo, d)
		b, err := s.openMember(ctx, r, d)
		if err == nil && s.leases.changed(epoch) {
			err = b.Close()
			if err == nil {
				continue
			}
		}
		return b, translate(err, oci.BlobUnknown, at(repo, d))
	}
}

func (s *Store) openMember(ctx context.Context, r *meta.Repo, d oci.Digest) (oci.BlobReader, error) {
	content, err := r.Blob(ctx, d)
	if err != nil {
		return oci.BlobReader{}, err
	}
	s.leases.touch("", content)
	f, info, err := s.backend.Open(ctx, meta.BlobKey(content))
	if err != nil {
		return oci.BlobReader{}, err
	}
	if isTorn(content, info) {
		return oci.BlobReader{}, errors.Join(fs.ErrNotExist, f.Close())
	}
	return oci.BlobReader{
		ReadSeekCloser: f,
		Descriptor:     oci.Descriptor{Digest: d, Size: info.Size},
		ModTime:        info.ModTime,
	}, nil
}

// touchMember is statMember for who tells somebody that the blob is there.
func (s *Store) touchMember(ctx context.Context, r *meta.Repo, d oci.Digest) (oci.Digest, storage.Info, error) {
	for {
		epoch := s.leases.touch(r.Name(), d)
		content, err := r.Blob(ctx, d)
		if err != nil {
			return "", storage.Info{}, err
		}
		s.leases.touch("", content)
		content, info, err := s.statMember(ctx, r, d)
		if err != nil || !s.leases.changed(epoch) {
			return content, info, err
		}
	}
}

// statMember looks for a blob in a repository, its link and its bytes.
func (s *Store) statMember(ctx context.Context, r *meta.Repo, d oci.Digest) (oci.Digest, storage.Info, error) {
	content, err := r.Blob(ctx, d)
	if err != nil {
		return "", storage.Info{}, err
	}
	info, err := s.backend.Stat(ctx, meta.BlobKey(content))
	if err == nil && isTorn(content, info) {
		err = fs.ErrNotExist
	}
	return content, info, err
}

// isTorn tells whether the file of a blob is empty although the blob is not:
// registry:2 leaves such files when the power goes. The next push heals them.
func isTorn(d oci.Digest, info storage.Info) bool {
	return info.Size == 0 && d != d.Algorithm().FromBytes(nil)
}

// MountBlob implements [oci.Writer].
func (s *Store) MountBlob(ctx context.Context, repo, from string, d oci.Digest) (oci.Upload, error) {
	if err := checkRepoAndDigest(repo, d); err != nil {
		return nil, err
	}
	if from != "" {
		if err := oci.CheckRepo(from); err != nil {
			return nil, err
		}
	}
	mounted, err := s.mount(ctx, repo, from, d)
	if err != nil {
		return nil, translate(err, oci.Unknown, "mount "+at(repo, d))
	}
	if mounted {
		return nil, nil
	}
	return s.Upload(ctx, repo, "", oci.UploadOptions{Algorithm: d.Algorithm()})
}

// mount holds the digest from the look at the source until the link is made,
// so that the bytes stay. It opens one repository at a time: see meta.Open.
func (s *Store) mount(ctx context.Context, repo, from string, d oci.Digest) (bool, error) {
	if from == "" {
		var err error
		if from, err = s.findSource(ctx, repo, d); err != nil {
			return false, err
		}
	}
	defer s.call()()
	defer s.blobs.Lock(string(d))()
	defer s.leases.pin("", d)()
	defer s.leases.pin(repo, d)()
	if held, err := s.isMember(ctx, repo, d); err != nil || held {
		return held, err
	}
	if from == "" {
		return false, nil
	}
	defer s.leases.pin(from, d)()
	if held, err := s.isMember(ctx, from, d); err != nil || !held {
		return false, err
	}
	if _, err := s.backend.Stat(ctx, meta.BlobKey(d)); err != nil { // registry:2 may keep it under another digest.
		return false, ignoreMissing(err)
	}
	r := s.meta.Open(repo)
	defer r.Close()
	return true, r.AddBlob(context.WithoutCancel(ctx), d, nil)
}

// findSource returns a repository that a blob is probably a member of, "" if
// none is found. It holds nothing while it looks, and does not wait for the
// catalogue.
func (s *Store) findSource(ctx context.Context, but string, d oci.Digest) (string, error) {
	if _, err := s.backend.Stat(ctx, meta.BlobKey(d)); err != nil {
		return "", ignoreMissing(err)
	}
	if last, ok := s.seen.Get(d); ok && last != but {
		if held, err := s.isMember(ctx, last, d); err != nil || held {
			return last, err
		}
	}
	if !s.meta.Ready() {
		return "", nil
	}
	n := 0
	for name, err := range s.meta.Repos(ctx, "") {
		if n++; err != nil || n > searched {
			return "", err
		}
		if held, err := s.isMember(ctx, name, d); err != nil || held {
			return name, err
		}
	}
	return "", nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (s *Store) isMember(ctx context.Context, repo string, d oci.Digest) (bool, error) {
	r := s.meta.Open(repo)
	defer r.Close()
	_, _, err := s.statMember(ctx, r, d)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// DeleteBlob implements [oci.Deleter].
func (s *Store) DeleteBlob(ctx context.Context, repo string, d oci.Digest) error {
	if err := checkRepoAndDigest(repo, d); err != nil {
		return err
	}
	r := s.meta.Open(repo)
	defer r.Close()
	defer r.Pin(d, nil)()
	if _, err := r.Blob(ctx, d); err != nil {
		return translate(err, oci.BlobUnknown, at(repo, d))
	}
	if err := refuseNamed(ctx, r, d); err != nil {
		return err
	}
	return translate(r.RemoveBlob(context.WithoutCancel(ctx), d), oci.BlobUnknown, at(repo, d))
}
