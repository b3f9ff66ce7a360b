package meta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage"
)

// RepoScan is what a repository holds on disk, each part in order.
type RepoScan struct {
	Name      string
	Tags      []TagScan
	Manifests []ManifestScan
	Blobs     []BlobScan
	// Errs say what could not be listed, and what holds links but has a place
	// where none is looked for: there may be more of everything.
	Errs []error
}

// TagScan is a tag. Err says why it cannot be told where it points; the tag
// need not be one that a client could use.
type TagScan struct {
	Tag    string
	Digest oci.Digest
	Moved  time.Time
	Err    error
}

// ManifestScan is a manifest of a repository.
type ManifestScan struct {
	Digest  oci.Digest // By the path of its link.
	Content oci.Digest // What the link says: under which its bytes are kept.
	Linked  time.Time
	Written time.Time // When its bytes were.
	Size    int64
	// MediaType, Names (config, layers, children) and Subject are what it says.
	// If it cannot be parsed, Names is everything in it that looks like a digest.
	MediaType string
	Names     []oci.Digest
	Subject   oci.Digest
	// Err says why it cannot be told what it names: wraps [ErrDamaged] for a
	// link that is no digest, for bytes that are not those of Content, or are
	// no manifest; [ErrMissing] if its bytes are not there.
	Err error
}

// BlobScan is the membership of a blob. Whether its bytes are there is not
// looked at. Err says why it cannot be told which they are.
type BlobScan struct {
	Digest  oci.Digest // By the path of its link.
	Content oci.Digest // What the link says: under which its bytes are kept.
	Linked  time.Time
	Err     error
}

// ScanRepo reads one repository, jobs files at a time. Each part is a snapshot
// by itself. The error is that of ctx or of a name that is none; a repository
// that does not exist has nothing in it.
func (m *Meta) ScanRepo(ctx context.Context, name string, jobs int) (*RepoScan, error) {
	if err := oci.CheckRepo(name); err != nil {
		return nil, err
	}
	s := &repoScan{m: m, RepoScan: RepoScan{Name: name}}
	s.listTags(ctx)
	revisions := s.listLinks(ctx, revisionDir(name))
	blobs := s.listLinks(ctx, layerDir(name))
	s.Manifests, s.Blobs = make([]ManifestScan, len(revisions)), make([]BlobScan, len(blobs))
	var group errgroup.Group
	group.SetLimit(max(jobs, 1))
	for i := range s.Tags {
		group.Go(func() error { s.tag(ctx, &s.Tags[i]); return ctx.Err() })
	}
	for i, d := range revisions {
		group.Go(func() error { s.manifest(ctx, d, &s.Manifests[i]); return ctx.Err() })
	}
	for i, d := range blobs {
		group.Go(func() error { s.blob(ctx, d, &s.Blobs[i]); return ctx.Err() })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	s.dropAbsent()
	return &s.RepoScan, ctx.Err()
}

type repoScan struct {
	m *Meta
	RepoScan
}

func (s *repoScan) listTags(ctx context.Context) {
	for e, err := range s.m.backend.List(ctx, tagsDir(s.Name)) {
		switch {
		case err != nil:
			s.failed(tagsDir(s.Name), err)
			return
		case e.Dir:
			s.Tags = append(s.Tags, TagScan{Tag: e.Name})
		}
	}
}

func (s *repoScan) listLinks(ctx context.Context, dir string) []oci.Digest {
	var found []oci.Digest
	err := s.m.linked(ctx, dir, func(d oci.Digest) error {
		found = append(found, d)
		return ctx.Err()
	})
	s.failed(dir, err)
	return found
}

func (s *repoScan) failed(dir string, err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.Errs = append(s.Errs, fmt.Errorf("list %s: %w", dir, err))
	}
}

func (s *repoScan) tag(ctx context.Context, t *TagScan) {
	d, info, err := s.m.readLink(ctx, tagLink(s.Name, t.Tag))
	t.Digest, t.Moved, t.Err = d, info.ModTime, damage(err)
}

func (s *repoScan) blob(ctx context.Context, d oci.Digest, b *BlobScan) {
	content, info, err := s.m.readLink(ctx, layerLink(s.Name, d))
	*b = BlobScan{Digest: d, Content: content, Linked: info.ModTime, Err: damage(err)}
}

func (s *repoScan) manifest(ctx context.Context, d oci.Digest, out *ManifestScan) {
	content, info, err := s.m.readLink(ctx, revisionLink(s.Name, d))
	*out = ManifestScan{Digest: d, Content: content, Linked: info.ModTime, Err: damage(err)}
	if err != nil {
		return
	}
	raw, data, err := storage.Get(ctx, s.m.backend, BlobKey(content), oci.MaxManifest)
	out.Written, out.Size = data.ModTime, data.Size
	switch {
	case errors.Is(err, fs.ErrNotExist):
		out.Err = fmt.Errorf("bytes of manifest %s: %w", content, ErrMissing)
		return
	case err != nil:
		out.Err = damage(err)
		return
	}
	if g, err := oci.ParseManifest("", raw); err == nil {
		out.MediaType, out.Names = g.MediaType, g.Digests()
		if g.Subject != nil {
			out.Subject = g.Subject.Digest
		}
	} else {
		out.MediaType, out.Names = oci.MediaTypeOf(raw), oci.DigestsIn(raw)
		if out.MediaType == "" {
			out.Err = fmt.Errorf("manifest %s: %w: %w", content, ErrDamaged, err)
		}
	}
	if content.Algorithm().FromBytes(raw) != content {
		out.Err = fmt.Errorf("manifest %s: %w: its %d bytes are others", content, ErrDamaged, len(raw))
	}
}

// damage says of an error of reading what it means. fs.ErrNotExist stays.
func damage(err error) error {
	if errors.Is(err, storage.ErrTooLarge) || errors.Is(err, fs.ErrInvalid) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// dropAbsent drops what has a directory, but no link in it.
func (s *repoScan) dropAbsent() {
	gone := func(err error) bool { return errors.Is(err, fs.ErrNotExist) }
	s.Tags = slices.DeleteFunc(s.Tags, func(t TagScan) bool { return gone(t.Err) })
	s.Manifests = slices.DeleteFunc(s.Manifests, func(f ManifestScan) bool { return gone(f.Err) })
	s.Blobs = slices.DeleteFunc(s.Blobs, func(b BlobScan) bool { return gone(b.Err) })
}
