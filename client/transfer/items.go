package transfer

import (
	"context"
	"slices"
	"strings"

	"github.com/regctl/regctl/client/oci"
)

// manyTags of one repository make it worth while to list it.
const manyTags = 8

// images makes an image of every item, and of every tag of a whole repository.
func (p *planner) images(ctx context.Context, items []Item) ([]Image, error) {
	if err := p.lists(ctx, items); err != nil {
		return nil, err
	}
	var images []Image
	for _, item := range items {
		if item.SrcRef != "" {
			images = append(images, Image{
				SrcRepo: item.SrcRepo, SrcRef: item.SrcRef, DstRepo: item.DstRepo, Tags: item.DstTags,
			})
			continue
		}
		for _, tag := range p.chosenTags(item) {
			images = append(images, Image{
				SrcRepo: item.SrcRepo, SrcRef: tag, DstRepo: item.DstRepo, Tags: []string{tag},
			})
		}
	}
	return images, nil
}

// lists lists the repositories of which much is asked. The destination may
// refuse that to somebody who can push all the same.
func (p *planner) lists(ctx context.Context, items []Item) error {
	asked := map[viewKey]int{}
	for _, item := range items {
		n := max(1, len(item.DstTags))
		if item.SrcRef == "" {
			n = manyTags
		}
		asked[viewKey{Source, item.SrcRepo}] += n
		asked[viewKey{Destination, item.DstRepo}] += n
	}
	for _, side := range []Side{Source, Destination} {
		for key, n := range asked {
			if key.side != side || n < manyTags {
				continue
			}
			v := p.view(side, key.repo)
			err := v.list(ctx, true, 0)
			if side == Destination && !p.o.NewTags && isRefused(err) {
				continue // Then each tag is asked for.
			}
			if err != nil {
				return failed(side, "list tags", key.repo, "", err)
			}
			if side == Source && v.isNew() {
				return failed(side, "list tags", key.repo, "", oci.Errorf(oci.NameUnknown, "no such repository"))
			}
		}
	}
	return nil
}

// chosenTags are those of a whole repository, in order. An index of referrers
// kept under a tag is not among them: who writes a referrer keeps it.
func (p *planner) chosenTags(item Item) []string {
	src, dst := p.view(Source, item.SrcRepo), p.view(Destination, item.DstRepo)
	var tags []string
	for tag := range src.tags {
		_, there := dst.tags[tag]
		switch {
		case isReferrersTag(tag), p.o.Referrers == ReferrersNever && isCompanion(tag):
		case item.Keep != nil && !item.Keep(tag), p.o.NewTags && there:
		default:
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return tags
}

// isReferrersTag tells a tag of the referrers tag schema: sha256-….
func isReferrersTag(tag string) bool {
	_, err := oci.ParseDigest(strings.Replace(tag, "-", ":", 1))
	return err == nil
}

// isCompanion tells a tag that is there for another image: sha256-….sig.
func isCompanion(tag string) bool {
	digest, suffix, _ := strings.Cut(tag, ".")
	return suffix != "" && isReferrersTag(digest)
}
