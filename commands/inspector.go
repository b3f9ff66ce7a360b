package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/regctl/regctl/client/oci"
)

const (
	maxDepth     = 8   // Of indexes in indexes, and of referrers of referrers.
	maxReferrers = 500 // Of one manifest.
	maxConfig    = 8 << 20
)

// inspector finds out about one manifest of a repository, by no request more
// than what is asked for takes.
type inspector struct {
	reg  oci.Registry
	repo string
	jobs int // Requests at the same time, of each kind.
	warn func(error)
}

// firstPage is what our own registry can tell by one request.
type firstPage interface {
	MayTellFirst(ctx context.Context) bool
	FirstTagDetails(ctx context.Context, repo string) (details []oci.TagDetail, more bool, err error)
}

// manifest returns the manifest at ref; of an index that of a platform if one
// is wanted.
func (s *inspector) manifest(ctx context.Context, ref, platform string) (oci.Manifest, error) {
	m, err := s.reg.Manifest(ctx, s.repo, ref)
	if err != nil || platform == "" {
		return m, err
	}
	for range maxDepth {
		g, err := oci.ParseManifest(m.Descriptor.MediaType, m.Raw)
		if err != nil {
			return m, fmt.Errorf("%s: %w", ref, err)
		}
		if !g.IsIndex() {
			return m, s.checkPlatform(ctx, g, ref, platform)
		}
		child, err := choose(g.Manifests, ref, platform)
		if err != nil {
			return m, err
		}
		if m, err = s.reg.Manifest(ctx, s.repo, string(child)); err != nil {
			return m, err
		}
		if g, err = oci.ParseManifest(m.Descriptor.MediaType, m.Raw); err != nil || !g.IsIndex() {
			return m, err
		}
	}
	return m, oci.Errorf(oci.ManifestInvalid, "%s: indexes within indexes, more than %d", ref, maxDepth)
}

// choose finds the manifest of an index for a platform; os/arch is that of any
// variant if there is none without.
func choose(manifests []oci.Descriptor, ref, platform string) (oci.Digest, error) {
	var near oci.Digest
	var names []string
	for _, d := range manifests {
		name := platformName(d.Platform)
		switch {
		case name == platform:
			return d.Digest, nil
		case near == "" && strings.HasPrefix(name, platform+"/"):
			near = d.Digest
		}
		if name != "" {
			names = append(names, name)
		}
	}
	if near == "" {
		return "", oci.Errorf(oci.ManifestUnknown, "%s is not for %s; it is for %s", ref, platform, strings.Join(names, ", "))
	}
	return near, nil
}

// checkPlatform returns an error unless an image is for platform.
func (s *inspector) checkPlatform(ctx context.Context, g *oci.Graph, ref, platform string) error {
	c, err := s.image(ctx, g.Config)
	if err != nil {
		return err
	}
	name := platformName(&c.Platform)
	if name == platform || strings.HasPrefix(name, platform+"/") {
		return nil
	}
	return oci.Errorf(oci.ManifestUnknown, "%s is not for %s; it is for %s", ref, platform, name)
}

// config returns the config of an image, verified.
func (s *inspector) config(ctx context.Context, d oci.Descriptor) ([]byte, error) {
	if d.Digest == "" {
		return nil, oci.Errorf(oci.ManifestInvalid, "an index has no config; choose one of its images by --platform")
	}
	if d.Size > maxConfig {
		return nil, oci.Errorf(oci.ManifestTooLarge, "config %s has %d bytes", d.Digest, d.Size)
	}
	b, err := s.reg.Blob(ctx, s.repo, d.Digest)
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", d.Digest, err)
	}
	defer func() { _ = b.Close() }() // It was only read.
	raw, err := io.ReadAll(io.LimitReader(b, maxConfig))
	if err != nil {
		return nil, fmt.Errorf("config %s: %w", d.Digest, err)
	}
	if d.Digest.Algorithm().FromBytes(raw) != d.Digest {
		return nil, oci.Errorf(oci.DigestInvalid, "config %s has other bytes", d.Digest)
	}
	return raw, nil
}

// image reads the config of an image; that of an artifact tells nothing.
func (s *inspector) image(ctx context.Context, d oci.Descriptor) (*ocispec.Image, error) {
	if !isImageConfig(d.MediaType) {
		return &ocispec.Image{}, nil
	}
	raw, err := s.config(ctx, d)
	if err != nil {
		return nil, err
	}
	var image ocispec.Image
	if err := json.Unmarshal(raw, &image); err != nil {
		return nil, oci.Errorf(oci.ManifestInvalid, "config %s: %v", d.Digest, err)
	}
	return &image, nil
}

// describe tells what m is. An image is told in detail, an index by what its
// images are; if there is but one besides attestations, that one in detail.
func (s *inspector) describe(ctx context.Context, m oci.Manifest) (*inspection, error) {
	v := &inspection{
		Repo: s.repo, Digest: m.Descriptor.Digest, MediaType: m.Descriptor.MediaType,
		Size: m.Descriptor.Size, Images: []imageInfo{}, Referrers: []referrerInfo{},
	}
	g, err := oci.ParseManifest(m.Descriptor.MediaType, m.Raw)
	if err != nil { // Signed schema 1 and what is yet to come: the bytes are to be had by --raw.
		s.warn(fmt.Errorf("%s: %w", m.Descriptor.Digest, err))
		return v, nil
	}
	v.Annotations, v.Created = g.Annotations, annotatedTime(g.Annotations)
	if g.Subject != nil {
		v.Subject = g.Subject.Digest
	}
	if !isImageConfig(g.Config.MediaType) {
		v.ArtifactType = g.ArtifactType
	}
	if v.Images, err = s.images(ctx, oci.Descriptor{}, m, g, 0); err != nil {
		return nil, err
	}
	if err := s.detail(ctx, v.Images); err != nil {
		return nil, err
	}
	blobs := map[oci.Digest]int64{m.Descriptor.Digest: m.Descriptor.Size}
	for _, i := range v.Images {
		maps.Copy(blobs, i.blobs)
		if v.Created.IsZero() || g.IsIndex() && i.Created.After(v.Created) {
			v.Created = i.Created
		}
	}
	v.Size = sum(blobs)
	return v, nil
}

// images lists what a manifest is or, as an index, has below it, in order.
func (s *inspector) images(ctx context.Context, named oci.Descriptor, m oci.Manifest, g *oci.Graph, depth int) ([]imageInfo, error) {
	if !g.IsIndex() {
		return []imageInfo{newImageInfo(named, m, g)}, nil
	}
	if depth >= maxDepth {
		return nil, oci.Errorf(oci.ManifestInvalid, "%s: indexes within indexes, more than %d", m.Descriptor.Digest, maxDepth)
	}
	below := make([][]imageInfo, len(g.Manifests))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(s.jobs)
	for n, child := range g.Manifests {
		group.Go(func() (err error) {
			below[n], err = s.child(ctx, child, depth+1)
			return err
		})
	}
	err := group.Wait()
	all := slices.Concat(below...)
	if len(all) > 0 { // The bytes of the index itself count once.
		all[0].blobs[m.Descriptor.Digest] = m.Descriptor.Size
	}
	return all, err
}

// child reads a manifest of an index. One that is not there is told as missing.
func (s *inspector) child(ctx context.Context, named oci.Descriptor, depth int) ([]imageInfo, error) {
	m, err := s.reg.Manifest(ctx, s.repo, string(named.Digest))
	if errors.Is(err, oci.ManifestUnknown) || errors.Is(err, oci.NotFound) {
		return []imageInfo{{
			Platform: platformName(named.Platform), Digest: named.Digest, MediaType: named.MediaType,
			Missing: true, Layers: []layerInfo{}, blobs: map[oci.Digest]int64{},
		}}, nil
	}
	if err != nil {
		return nil, err
	}
	g, err := oci.ParseManifest(m.Descriptor.MediaType, m.Raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", named.Digest, err)
	}
	return s.images(ctx, named, m, g, depth)
}

// detail reads the config of the only image of images.
func (s *inspector) detail(ctx context.Context, images []imageInfo) error {
	i := slices.IndexFunc(images, func(i imageInfo) bool { return i.isReal() })
	if i < 0 || slices.ContainsFunc(images[i+1:], func(i imageInfo) bool { return i.isReal() }) ||
		!isImageConfig(images[i].config.MediaType) {
		return nil
	}
	c, err := s.image(ctx, images[i].config)
	if err == nil {
		images[i].configured(c)
	}
	return err
}

// referrers lists what refers to d, and what refers to that.
func (s *inspector) referrers(ctx context.Context, d oci.Digest, depth int) ([]referrerInfo, error) {
	found := []referrerInfo{}
	for r, err := range s.reg.Referrers(ctx, s.repo, d, "") {
		if err != nil {
			return found, fmt.Errorf("what refers to %s: %w", d, err)
		}
		if len(found) == maxReferrers {
			s.warn(fmt.Errorf("%s: more than %d manifests refer to it", d, maxReferrers))
			break
		}
		found = append(found, referrerInfo{
			Digest: r.Digest, ArtifactType: r.ArtifactType, Size: r.Size,
			Created: annotatedTime(r.Annotations), Referrers: []referrerInfo{},
		})
	}
	if depth >= maxDepth {
		return found, nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(s.jobs)
	for n := range found {
		group.Go(func() error { return s.weigh(ctx, &found[n], depth) })
	}
	return found, group.Wait()
}

// weigh adds to a referrer the size of what it brings, and its own referrers.
func (s *inspector) weigh(ctx context.Context, r *referrerInfo, depth int) error {
	m, err := s.reg.Manifest(ctx, s.repo, string(r.Digest))
	if errors.Is(err, oci.ManifestUnknown) || errors.Is(err, oci.NotFound) {
		return nil // A list of referrers may be older than what it lists.
	}
	if err != nil {
		return err
	}
	if g, err := oci.ParseManifest(m.Descriptor.MediaType, m.Raw); err == nil {
		r.Size = newImageInfo(oci.Descriptor{}, m, g).Size
	}
	r.Referrers, err = s.referrers(ctx, r.Digest, depth+1)
	return err
}

// tags adds to v the other tags of its digest, and the tags by which cosign
// ties signatures to it. Our own registry and a directory tell for next to
// nothing; others only if all is set.
func (s *inspector) tags(ctx context.Context, v *inspection, all bool) error {
	first, remote := s.reg.(firstPage)
	if !remote || all {
		v.Tags = []string{}
		for d, err := range s.reg.TagDetails(ctx, s.repo, "") {
			if err != nil {
				return fmt.Errorf("the other tags of %s: %w", s.repo, err)
			}
			v.addTag(d)
		}
		return nil
	}
	if !first.MayTellFirst(ctx) {
		return nil
	}
	details, more, err := first.FirstTagDetails(ctx, s.repo)
	if err != nil {
		return nil //nolint:nilerr // It is not one of ours, or it does not want to tell; nobody asked.
	}
	v.Tags, v.MoreTags = []string{}, more
	for _, d := range details {
		v.addTag(d)
	}
	return nil
}

// addTag takes a tag of the repository to notice.
func (v *inspection) addTag(d oci.TagDetail) {
	algorithm, hex, _ := strings.Cut(string(v.Digest), ":")
	kind, tied := strings.CutPrefix(d.Tag, algorithm+"-"+hex+".")
	switch {
	case tied:
		v.Referrers = append(v.Referrers, referrerInfo{
			Digest: d.Manifest.Digest, Tag: d.Tag, ArtifactType: "cosign " + kind, Size: d.Size,
			Created: d.Created, Referrers: []referrerInfo{},
		})
	case d.Manifest.Digest == v.Digest && d.Tag != v.Tag:
		v.Tags = append(v.Tags, d.Tag)
	}
}

// shared finds out what of v other digests that have tags have, too. It reads
// the manifests of all of them.
func (s *inspector) shared(ctx context.Context, v *inspection) error {
	others := map[oci.Digest]bool{}
	for d, err := range s.reg.TagDetails(ctx, s.repo, "") {
		if err != nil {
			return fmt.Errorf("the other tags of %s: %w", s.repo, err)
		}
		if d.Manifest.Digest != v.Digest && d.Manifest.Digest != "" {
			others[d.Manifest.Digest] = true
		}
	}
	digests := slices.Sorted(maps.Keys(others))
	found := make([][]imageInfo, len(digests))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(s.jobs)
	for n, d := range digests {
		group.Go(func() (err error) {
			found[n], err = s.child(ctx, oci.Descriptor{Digest: d}, 0)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	theirs := map[oci.Digest]int64{}
	for _, i := range slices.Concat(found...) {
		maps.Copy(theirs, i.blobs)
	}
	ours := map[oci.Digest]int64{}
	for _, i := range v.Images {
		maps.Copy(ours, i.blobs)
	}
	v.Shared = &sharedInfo{Own: v.Size}
	for d, size := range ours {
		if _, ok := theirs[d]; ok {
			v.Shared.Others += size
			v.Shared.Own -= size
		}
	}
	return nil
}
