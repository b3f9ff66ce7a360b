// Package transfer copies images between any two registries: a plan first,
// then exactly that plan.
//
// The one idea: a copy is a graph of blobs, manifests and tags in which each is
// sent only when all that it needs is there, so that nothing at the destination
// is ever half there, and what is there already is not sent again. The plan
// spans all images of a run, so a layer that many of them share moves once.
package transfer

import (
	"context"
	"errors"
	"fmt"

	"github.com/regctl/regctl/client/oci"
)

// Item is something to copy: an image, or every image of a repository.
type Item struct {
	SrcRepo string
	// SrcRef is a tag or a digest; empty: every tag of SrcRepo that Keep
	// wants, to the same tag of DstRepo.
	SrcRef  string
	DstRepo string
	// DstTags are moved to the image, in order. None: it can be had by digest.
	DstTags []string
	// Keep chooses among the tags of a repository; nil: all of them.
	Keep func(tag string) bool
}

// Referrers says which of the signatures, attestations and SBOMs of an image
// come along: what has it, or a manifest below it, as its subject, and what is
// tagged sha256-….sig and the like, as cosign does.
type Referrers int

// The choices.
const (
	// ReferrersCopied brings those of images that are copied in this run.
	ReferrersCopied Referrers = iota
	// ReferrersAlways also looks for new ones of images that are there.
	ReferrersAlways
	// ReferrersNever brings none.
	ReferrersNever
)

// Options of a copy. The zero value copies images whole.
type Options struct {
	// Platforms to copy of an index; none: all. One that matches a single
	// image gives that image, several give a new index of those with another
	// digest than the whole has.
	Platforms []oci.Platform
	Referrers Referrers
	// Jobs is how much is under way at the same time; 0: 4.
	Jobs int
	// NoOverwrite fails an image that a tag of the destination would be moved
	// away from another for, with [oci.TagExists].
	NoOverwrite bool
	// NewTags leaves out of whole repositories the tags that the destination
	// has.
	NewTags bool
	// Force looks below manifests that are there: for a destination that has
	// indexes without all they name.
	Force bool
}

func (o Options) jobs() int {
	if o.Jobs > 0 {
		return o.Jobs
	}
	return 4
}

// Side is one of the two registries.
type Side string

// The sides.
const (
	Source      Side = "source"
	Destination Side = "destination"
)

// Choosing is the Op of an [Error] for an image that is there, but not for the
// platforms that are asked for.
const Choosing = "choose platforms"

// Error says on which side a copy failed, and with what.
type Error struct {
	Side Side
	Repo string
	Ref  string // A tag or a digest; may be empty.
	Op   string // What was done, as in "read blob".
	Err  error
}

// Error tells all of it.
func (e *Error) Error() string {
	return fmt.Sprintf("%s %s: %s: %v", e.Side, name(e.Repo, e.Ref), e.Op, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// failed adds to err where it happened. That of an ended context stays as it
// is, and so does one that tells already.
func failed(side Side, op, repo, ref string, err error) error {
	var told *Error
	if err == nil || isEnded(err) || errors.As(err, &told) {
		return err
	}
	return &Error{Side: side, Repo: repo, Ref: ref, Op: op, Err: err}
}

func isEnded(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func isMissing(err error) bool {
	return errors.Is(err, oci.ManifestUnknown) || errors.Is(err, oci.NameUnknown) || errors.Is(err, oci.NotFound)
}

func name(repo, ref string) string {
	switch {
	case ref == "":
		return repo
	case oci.IsDigest(ref):
		return repo + "@" + ref
	}
	return repo + ":" + ref
}
