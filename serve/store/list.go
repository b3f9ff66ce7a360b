package store

import (
	"context"
	"errors"
	"io/fs"
	"iter"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/meta"
)

// Repos implements [oci.Lister].
func (s *Store) Repos(ctx context.Context, after string) iter.Seq2[string, error] {
	return translated(s.meta.Repos(ctx, after), oci.Unknown, "list the repositories")
}

// Tags implements [oci.Lister].
func (s *Store) Tags(ctx context.Context, repo, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if err := s.exists(ctx, repo); err != nil {
			yield("", err)
			return
		}
		translated(s.meta.Tags(ctx, repo, after), oci.NameUnknown, repo)(yield)
	}
}

// Referrers implements [oci.Lister].
func (s *Store) Referrers(ctx context.Context, repo string, d oci.Digest, artifactType string) iter.Seq2[oci.Descriptor, error] {
	if err := checkRepoAndDigest(repo, d); err != nil {
		return failed[oci.Descriptor](err)
	}
	return func(yield func(oci.Descriptor, error) bool) {
		list, err := s.referrers(ctx, repo, d)
		if err != nil {
			yield(oci.Descriptor{}, translate(err, oci.Unknown, "list the referrers of "+at(repo, d)))
			return
		}
		for _, desc := range list {
			if artifactType != "" && desc.ArtifactType != artifactType {
				continue
			}
			if !yield(desc, nil) {
				return
			}
		}
	}
}

func (s *Store) referrers(ctx context.Context, repo string, d oci.Digest) ([]oci.Descriptor, error) {
	r := s.meta.Open(repo)
	defer r.Close()
	digests, err := r.Referrers(ctx, d)
	if err != nil {
		return nil, err
	}
	var list []oci.Descriptor
	for _, from := range digests {
		f, err := s.touchManifest(ctx, r, from)
		if errors.Is(err, fs.ErrNotExist) {
			continue // Removed meanwhile.
		}
		if err != nil {
			return nil, err
		}
		desc := describe(from, f)
		desc.ArtifactType, desc.Annotations = f.Artifact, f.Annotations
		if f.MoreAnnotations {
			desc.Annotations, err = s.annotations(ctx, f)
			if err != nil {
				return nil, err
			}
		}
		list = append(list, desc)
	}
	return list, nil
}

func (s *Store) annotations(ctx context.Context, f meta.Manifest) (map[string]string, error) {
	raw, err := s.body(ctx, f.Content)
	if err != nil {
		return nil, err
	}
	g, err := oci.ParseManifest("", raw)
	if err != nil {
		return nil, err
	}
	return g.Annotations, nil
}

func (s *Store) exists(ctx context.Context, repo string) error {
	if err := oci.CheckRepo(repo); err != nil {
		return err
	}
	r := s.meta.Open(repo)
	defer r.Close()
	ok, err := r.Exists(ctx)
	if err == nil && !ok {
		err = fs.ErrNotExist
	}
	return translate(err, oci.NameUnknown, repo)
}

func translated(names iter.Seq2[string, error], missing oci.Code, what string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for name, err := range names {
			if !yield(name, translate(err, missing, what)) {
				return
			}
		}
	}
}

func failed[T any](err error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		yield(none, err)
	}
}
