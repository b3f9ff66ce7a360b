package commands

import (
	"cmp"
	"encoding/json"
	"iter"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"

	"github.com/regctl/regctl/client/layout"
	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/gc"
)

// lsItem is a line of the list.
type lsItem struct {
	Repo string
	Tag  string

	detail *oci.TagDetail // Of a tag. Nil: not known.
	sum    *repoSum       // Of a repository. Nil: not known.
}

// MarshalJSON is the item as -o json writes it. What nobody looked for is
// left out.
func (i lsItem) MarshalJSON() ([]byte, error) {
	out := struct {
		Repo      string     `json:"repo"`
		Tag       string     `json:"tag,omitempty"`
		Digest    oci.Digest `json:"digest,omitempty"`
		MediaType string     `json:"mediaType,omitempty"`
		Size      int64      `json:"size,omitempty"`
		Created   time.Time  `json:"created,omitzero"`
		Pushed    time.Time  `json:"pushed,omitzero"`
		Pulled    time.Time  `json:"pulled,omitzero"`
		Platforms []string   `json:"platforms,omitzero"`
		Tags      int        `json:"tags,omitempty"`
		More      bool       `json:"more,omitempty"` // There are more tags than were looked at.
	}{Repo: i.Repo, Tag: i.Tag}
	if d := i.detail; d != nil {
		out.Digest, out.MediaType, out.Size = d.Manifest.Digest, d.Manifest.MediaType, d.Size
		out.Created, out.Pushed, out.Pulled, out.Platforms = d.Created, d.Pushed, d.Pulled, platformNames(d)
	}
	if s := i.sum; s != nil {
		out.Tags, out.Size, out.Pushed, out.More = s.tags, s.size, s.pushed, s.more
	}
	return json.Marshal(out)
}

// platformNames is not nil.
func platformNames(d *oci.TagDetail) []string {
	names := []string{}
	for _, p := range d.Platforms {
		if name := platformName(&p); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// name is REPO or REPO:TAG; TAG in the repository of a directory that has no
// name.
func (i lsItem) name() string {
	switch {
	case i.Tag == "":
		return i.Repo
	case i.Repo == layout.Unnamed:
		return i.Tag
	}
	return i.Repo + ":" + i.Tag
}

// size and time are zero if they are not known.
func (i lsItem) size() int64 {
	switch {
	case i.detail != nil:
		return i.detail.Size
	case i.sum != nil:
		return i.sum.size
	}
	return 0
}

// time is that of the push where it is known, else that of the build.
func (i lsItem) time() time.Time {
	switch {
	case i.detail != nil && !i.detail.Pushed.IsZero():
		return i.detail.Pushed
	case i.detail != nil:
		return i.detail.Created
	case i.sum != nil:
		return i.sum.pushed
	}
	return time.Time{}
}

// cells of a tag are DIGEST, SIZE, CREATED and PUSHED, and PLATFORMS if long.
func tagCells(now time.Time, d *oci.TagDetail, long bool) []string {
	cells := []string{"?", "?", "?", "?", "?"}
	if d != nil && d.Manifest.Digest != "" {
		cells = []string{
			shortDigest(d.Manifest.Digest), humanSize(d.Size), ago(now, d.Created), ago(now, d.Pushed),
			cmp.Or(strings.Join(platformNames(d), ","), "-"),
		}
	}
	if !long {
		return cells[:4]
	}
	return cells
}

// shortDigest keeps enough of a digest to tell images apart.
func shortDigest(d oci.Digest) string {
	algorithm, hex, _ := strings.Cut(string(d), ":")
	return algorithm + ":" + hex[:min(12, len(hex))]
}

// The values of --sort.
const (
	sortName   = "name"
	sortSemver = "semver"
	sortTime   = "time"
	sortSize   = "size"
)

// sortings returns how two items are compared; nil for an order that is none.
func sortings(by string) func(a, b lsItem) int {
	byName := func(a, b lsItem) int {
		return cmp.Or(gc.NaturalCompare(a.Repo, b.Repo), gc.NaturalCompare(a.Tag, b.Tag), cmp.Compare(a.name(), b.name()))
	}
	switch by {
	case sortName:
		return byName
	case sortSemver:
		return func(a, b lsItem) int {
			return cmp.Or(semver.Compare(asVersion(b), asVersion(a)), byName(b, a))
		}
	case sortTime:
		return func(a, b lsItem) int { return cmp.Or(b.time().Compare(a.time()), byName(a, b)) }
	case sortSize:
		return func(a, b lsItem) int { return cmp.Or(cmp.Compare(b.size(), a.size()), byName(a, b)) }
	}
	return nil
}

// asVersion is a tag as semver reads it; what is no version is lower than any.
func asVersion(i lsItem) string { return "v" + strings.TrimPrefix(i.Tag, "v") }

// sorted gathers all items. Errors come first.
func sorted(items iter.Seq2[lsItem, error], compare func(a, b lsItem) int) iter.Seq2[lsItem, error] {
	return gathered(items, func(all []lsItem) { slices.SortStableFunc(all, compare) })
}

// reversed gathers all items. Errors come first.
func reversed(items iter.Seq2[lsItem, error]) iter.Seq2[lsItem, error] {
	return gathered(items, slices.Reverse[[]lsItem])
}

func gathered(items iter.Seq2[lsItem, error], arrange func([]lsItem)) iter.Seq2[lsItem, error] {
	return func(yield func(lsItem, error) bool) {
		var all []lsItem
		for item, err := range items {
			if err != nil && !yield(item, err) {
				return
			}
			if err == nil {
				all = append(all, item)
			}
		}
		arrange(all)
		for _, item := range all {
			if !yield(item, nil) {
				return
			}
		}
	}
}
