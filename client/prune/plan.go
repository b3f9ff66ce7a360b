// Package prune deletes from a registry, near or far, what a policy lets go,
// and nothing that anything else needs.
//
// Plan, then execute: a [Plan] is made from the whole graph of a repository
// and tells what goes, what stays and why; a [Run] executes exactly that,
// writes down each thing before it deletes it, and looks again right before.
// [Undo] puts back what was written down. Whatever cannot be read stops the
// work on its repository: in doubt everything stays.
package prune

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/gc"
)

// Cache remembers manifests between runs. What it returns is verified. It is
// safe for concurrent use.
type Cache interface {
	Get(d oci.Digest) ([]byte, bool)
	Put(d oci.Digest, raw []byte)
}

// Options of [MakePlan]. The zero value reads one manifest at a time, and
// none from a cache.
type Options struct {
	Cache Cache // May be nil.
	Jobs  int   // Manifests that are read at the same time.

	// Untagged lets tags go that are named after a digest which is not there
	// any more.
	Untagged bool
	// Known are manifests that once had a tag and go, too, unless something
	// needs them: no registry lists what has no tag.
	Known []oci.Digest
	// Needed are manifests that somebody uses: they stay, and so do tags that
	// lead to them.
	Needed []oci.Digest
}

// Reasons that a plan or a run gives besides those of [gc.Keep].
const (
	InUse        = "in-use"         // By one of Options.Needed.
	SubjectGoes  = "subject-goes"   // What the tag is named after goes.
	SubjectGone  = "subject-gone"   // It was not there any more.
	SharedDigest = "shared-digest:" // This registry cannot delete a tag alone; what else needs the manifest follows.
	Moved        = "moved"          // It changed since the plan was made.
	NeededAgain  = "needed-again"   // Something came since that needs it.
	HolderStays  = "holder-stays"   // What it belongs to was kept.
	NamedByIndex = "named-by-index" // The registry refuses: it knows an index that names it.
	TagStays     = "tag-stays"      // This registry deletes a digest and leaves its tags.
	Asked        = "asked"          // Somebody named it.
)

// Plan is what becomes of one repository.
type Plan struct {
	Repo  string
	Order string // What makes a tag newer: see [gc.OrderUsed].
	// Tags are all tags, those that go and those that stay.
	Tags []Tag
	// Manifests are those that go, each after all that hold it.
	Manifests []Manifest
	// Bytes are freed once the registry collects its garbage, as far as other
	// repositories do not need them. Exact says that all images that stay
	// were looked at; else some of the bytes may be theirs.
	Bytes int64
	Exact bool
	// Empties says that no tag stays but such as are named after a digest.
	Empties bool

	where map[string]oci.Digest // Of all tags.
	whole bool                  // where is all of them.
}

// Tag is a tag and what becomes of it.
type Tag struct {
	gc.Decision
	MediaType string
	Size      int64
	Platforms []oci.Platform
}

// Manifest is a manifest that goes.
type Manifest struct {
	oci.Descriptor
	Tags    []string     // That point to it. They go first.
	Holders []oci.Digest // Manifests that go first: indexes that name it, its subject.
	Bytes   int64        // Its share of Plan.Bytes.
}

// Goes returns the tags that go.
func (p *Plan) Goes() []Tag {
	return slices.DeleteFunc(slices.Clone(p.Tags), func(t Tag) bool { return !t.Delete })
}

// Forget drops the tags that stay, for plans that wait to be executed.
func (p *Plan) Forget() { p.Tags = slices.Clip(p.Goes()) }

// Empty tells that nothing goes.
func (p *Plan) Empty() bool {
	return len(p.Manifests) == 0 && !slices.ContainsFunc(p.Tags, func(t Tag) bool { return t.Delete })
}

// Fatal tells an error after which no other repository of the registry should
// be tried either.
func Fatal(err error) bool {
	var canary *CanaryError
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, oci.Unauthorized) || errors.Is(err, oci.Unavailable) || errors.Is(err, oci.TooManyRequests) ||
		errors.Is(err, ErrDeletesOff) || errors.Is(err, ErrNotRecorded) || errors.As(err, &canary)
}

// MakePlan plans what the policy lets go of repo. If no tag goes, no manifest
// is read. Any error means that nothing may be deleted there.
// Errors: [oci.NameUnknown], and those of the registry for what cannot be
// read.
func MakePlan(ctx context.Context, reg oci.Registry, repo string, policy gc.Policy, o Options) (*Plan, error) {
	b, err := newBuilder(ctx, reg, repo, o)
	if err != nil {
		return nil, err
	}
	tagged := make([]gc.Tagged, len(b.details))
	for i, d := range b.details {
		tagged[i] = gc.Tagged{Tag: d.Tag, Digest: d.Manifest.Digest, Created: d.Created, Pushed: d.Pushed}
	}
	b.order = gc.OrderUsed(tagged, policy)
	b.decide(gc.Keep(tagged, policy))
	if o.Untagged {
		if err := b.subjectsGone(ctx); err != nil {
			return nil, err
		}
	}
	return b.plan(ctx)
}

// PlanAll plans to delete all of repo that can be found.
// Errors: as [MakePlan].
func PlanAll(ctx context.Context, reg oci.Registry, repo string, o Options) (*Plan, error) {
	b, err := newBuilder(ctx, reg, repo, o)
	if err != nil {
		return nil, err
	}
	var all []gc.Decision
	for _, d := range b.details {
		all = append(all, asked(d.Tag, d.Manifest.Digest))
	}
	b.decide(all)
	return b.plan(ctx)
}

// PlanUntag plans to remove tags of repo and nothing else.
// Errors: [oci.ManifestUnknown].
func PlanUntag(ctx context.Context, reg oci.Registry, repo string, tags ...string) (*Plan, error) {
	p := &Plan{Repo: repo, Exact: true, where: map[string]oci.Digest{}}
	for _, tag := range tags {
		desc, err := reg.Resolve(ctx, repo, tag)
		if err != nil {
			return nil, err
		}
		p.where[tag] = desc.Digest
		p.Tags = append(p.Tags, Tag{Decision: asked(tag, desc.Digest), MediaType: desc.MediaType, Size: desc.Size})
	}
	return p, nil
}

// PlanDigest plans to delete one manifest of repo with the tags that point to
// it, and returns what needs it: tags, indexes and its subject.
// Errors: [oci.ManifestUnknown].
func PlanDigest(ctx context.Context, reg oci.Registry, repo string, d oci.Digest, o Options) (p *Plan, needs []string, err error) {
	b, err := newBuilder(ctx, reg, repo, o)
	if err != nil {
		return nil, nil, err
	}
	there, err := b.exists(ctx, d) // A cache may know it although it is gone.
	if err != nil {
		return nil, nil, err
	}
	n, err := b.read(ctx, d)
	switch {
	case err != nil:
		return nil, nil, err
	case !there, n.missing:
		return nil, nil, fmt.Errorf("%s@%s: %w", repo, d, oci.ManifestUnknown)
	}
	if err := b.notCut(ctx); err != nil {
		return nil, nil, err
	}
	p = &Plan{Repo: repo, Exact: true, where: b.where, whole: true}
	m := Manifest{Descriptor: n.desc, Tags: b.tagsOf[d], Bytes: n.desc.Size}
	for _, tag := range m.Tags {
		needs = append(needs, "tag "+tag)
		p.Tags = append(p.Tags, Tag{Decision: asked(tag, d), MediaType: n.desc.MediaType, Size: n.desc.Size})
	}
	p.Manifests = []Manifest{m}
	more, err := b.holders(ctx, d, n)
	return p, append(needs, more...), err
}

// holders says which manifests need d, as far as tags lead to them.
func (b *builder) holders(ctx context.Context, d oci.Digest, n *node) ([]string, error) {
	var needs []string
	if err := b.spread(ctx, slices.Sorted(maps.Keys(b.tagsOf))); err != nil {
		return nil, err
	}
	for by, holder := range b.nodes {
		if err := b.present(holder); err != nil {
			return nil, err
		}
		if slices.Contains(holder.children, d) {
			needs = append(needs, "index "+string(by)+b.names(by))
		}
	}
	slices.Sort(needs)
	if n.subject != "" {
		there, err := b.exists(ctx, n.subject)
		if err != nil {
			return nil, err
		}
		if there {
			needs = append(needs, "subject "+string(n.subject)+b.names(n.subject))
		}
	}
	return needs, nil
}

// names tells the tags of d in brackets.
func (b *builder) names(d oci.Digest) string {
	if tags := b.tagsOf[d]; len(tags) > 0 {
		return " (" + strings.Join(tags, ", ") + ")"
	}
	return ""
}

func asked(tag string, d oci.Digest) gc.Decision {
	return gc.Decision{Tagged: gc.Tagged{Tag: tag, Digest: d}, Delete: true, Reason: Asked}
}
