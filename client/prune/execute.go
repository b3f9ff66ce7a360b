package prune

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/gc"
)

// untagFirst removes the tags whose manifests stay, but for those that go with
// something else.
func (e *execution) untagFirst(ctx context.Context) error {
	return e.untag(ctx, func(t Tag) bool { return t.Reason != SubjectGoes })
}

// untagLast removes those, once it is known what is gone.
func (e *execution) untagLast(ctx context.Context) error {
	return e.untag(ctx, func(t Tag) bool { return t.Reason == SubjectGoes })
}

func (e *execution) untag(ctx context.Context, which func(Tag) bool) error {
	tags := slices.DeleteFunc(e.plan.Goes(), func(t Tag) bool { return e.goes[t.Digest] || !which(t) })
	return e.each(ctx, len(tags), func(ctx context.Context, i int) error {
		o, err := e.deleteTag(ctx, tags[i])
		if err != nil {
			return err
		}
		return e.tag(o)
	})
}

// deleteTag removes one tag and leaves its manifest alone. What it returns
// neither deleted nor with an error stays.
func (e *execution) deleteTag(ctx context.Context, t Tag) (Outcome, error) {
	o := Outcome{Tag: t.Tag, Digest: t.Digest}
	if subject, _ := gc.SubjectOf(t.Tag); t.Reason == SubjectGoes && !e.isGone(subject) {
		o.Reason = HolderStays
		return o, nil
	}
	if e.is(&e.cannot) {
		return e.cannotUntag(ctx, o)
	}
	err := e.deleteTagSafely(ctx, t)
	var canary *CanaryError
	switch {
	case errors.As(err, &canary):
		o.Err = err
	case err == nil, isAbsent(err):
		e.set(&e.did)
		o.Deleted = true
	case errors.Is(err, oci.TagMoved):
		o.Reason = Moved
		return o, e.follow(ctx, t.Tag)
	case errors.Is(err, oci.Unsupported), errors.Is(err, oci.DigestInvalid): // As docker's registry says it until 2.8.
		e.set(&e.cannot)
		return e.cannotUntag(ctx, o)
	default:
		o.Err = err
	}
	return o, nil
}

// cannotUntag answers for registries that delete by digest only.
func (e *execution) cannotUntag(ctx context.Context, o Outcome) (Outcome, error) {
	o.Reason = SharedDigest + e.sharer(o)
	if !e.o.OverwriteUntag || e.goes[o.Digest] && !e.isNeeded(o.Digest) {
		return o, nil
	}
	err := e.overwrite(ctx, o)
	switch {
	case errors.Is(err, oci.TagMoved):
		o.Reason = Moved
	case err != nil:
		o.Err = err
	default:
		e.set(&e.did)
		o.Deleted, o.Reason = true, ""
	}
	return o, nil
}

// sharer names a tag that needs the digest of o, or the digest.
func (e *execution) sharer(o Outcome) string {
	name := string(o.Digest)
	for tag, d := range e.plan.where {
		if d == o.Digest && !e.tagGoes[tag] && (name == string(o.Digest) || tag < name) {
			name = tag
		}
	}
	return name
}

// deleteTagSafely makes the first delete whose manifest is needed afterwards
// the only one until it is known that this registry leaves manifests alone.
func (e *execution) deleteTagSafely(ctx context.Context, t Tag) error {
	needed := !e.goes[t.Digest] || e.isNeeded(t.Digest)
	if !needed || e.is(&e.proved) {
		return e.deleteTagNow(ctx, t)
	}
	e.canary.Lock()
	defer e.canary.Unlock()
	if e.is(&e.proved) {
		return e.deleteTagNow(ctx, t)
	}
	before, err := e.names(ctx)
	if err != nil {
		return err
	}
	if err := e.halted(); err != nil {
		return err
	}
	deleted := e.Run.reg.DeleteTag(ctx, e.plan.Repo, t.Tag, t.Digest)
	if wasRefused(deleted) {
		return deleted
	}
	ctx = context.WithoutCancel(ctx) // A delete that did harm is repaired in any case, also one whose answer was lost.
	_, err = e.Run.reg.Resolve(ctx, e.plan.Repo, string(t.Digest))
	switch {
	case err == nil && deleted == nil:
		e.set(&e.proved)
		return nil
	case err == nil:
		return deleted
	case !isAbsent(err):
		return errors.Join(deleted, err)
	case isAbsent(deleted) && e.sharer(Outcome{Digest: t.Digest}) == string(t.Digest): // Somebody else deleted it all.
		return deleted
	}
	broken := e.repair(ctx, t, before)
	e.halt(broken)
	return broken
}

// wasRefused tells that an error says that a tag was not deleted.
func wasRefused(err error) bool {
	for _, code := range []oci.Code{oci.TagMoved, oci.Unsupported, oci.DigestInvalid, oci.Unauthorized, oci.Denied} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

func (e *execution) deleteTagNow(ctx context.Context, t Tag) error {
	if err := e.halted(); err != nil {
		return err
	}
	return e.Run.reg.DeleteTag(ctx, e.plan.Repo, t.Tag, t.Digest)
}

func (e *execution) names(ctx context.Context) ([]string, error) {
	var names []string
	for tag, err := range e.Run.reg.Tags(ctx, e.plan.Repo, "") {
		if err != nil && !errors.Is(err, oci.NameUnknown) {
			return nil, err
		}
		if err == nil {
			names = append(names, tag)
		}
	}
	return names, nil
}

// repair puts a manifest back with all the tags that went with it.
func (e *execution) repair(ctx context.Context, t Tag, before []string) *CanaryError {
	broken := &CanaryError{Repo: e.plan.Repo, Tag: t.Tag, Digest: t.Digest, Back: []string{t.Tag}}
	for _, tag := range before {
		_, err := e.Run.reg.Resolve(ctx, e.plan.Repo, tag)
		if tag != t.Tag && isAbsent(err) {
			broken.Back = append(broken.Back, tag)
		}
	}
	m, ok := e.raw[t.Digest]
	if !ok {
		broken.Err = oci.Errorf(oci.ManifestUnknown, "nothing is known of it")
		return broken
	}
	_, broken.Err = e.Run.reg.PutManifest(ctx, e.plan.Repo, oci.Put{
		Digest: t.Digest, MediaType: m.Descriptor.MediaType, Raw: m.Raw, Tags: broken.Back, NoOverwrite: true,
	})
	return broken
}

// deleteAll deletes the manifests that go: what holds others first, and only
// if it is gone the others.
func (e *execution) deleteAll(ctx context.Context) error {
	tags := map[oci.Digest][]Tag{}
	for _, t := range e.plan.Goes() {
		tags[t.Digest] = append(tags[t.Digest], t)
	}
	for _, level := range levels(e.plan.Manifests) {
		for part := range slices.Chunk(level, batch) {
			if err := e.lookForNew(ctx); err != nil {
				return err
			}
			err := e.each(ctx, len(part), func(ctx context.Context, i int) error {
				return e.delete(ctx, part[i], tags[part[i].Digest])
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// levels groups manifests so that the holders of each are in groups before.
func levels(list []Manifest) [][]Manifest {
	var groups [][]Manifest
	depth := map[oci.Digest]int{}
	for _, m := range list {
		n := 0
		for _, h := range m.Holders {
			n = max(n, depth[h]+1)
		}
		depth[m.Digest] = n
		if n == len(groups) {
			groups = append(groups, nil)
		}
		groups[n] = append(groups[n], m)
	}
	return groups
}

// delete removes the tags of a manifest, and then the manifest.
func (e *execution) delete(ctx context.Context, m Manifest, tags []Tag) error {
	left := len(m.Tags) - len(tags)
	for i, t := range tags {
		o, err := e.deleteTag(ctx, t)
		if err != nil {
			return err
		}
		if !o.Deleted && o.Err == nil && e.is(&e.cannot) && o.Reason != Moved && i == 0 {
			return e.deleteByDigest(ctx, m, tags)
		}
		if !o.Deleted {
			left++
		}
		if err := e.tag(o); err != nil {
			return err
		}
	}
	o := Outcome{Digest: m.Digest, Reason: e.whyNot(m)}
	if left > 0 && o.Reason == "" {
		o.Reason = Moved
	}
	if o.Reason == "" {
		o = e.deleteManifest(ctx, m)
	}
	return e.manifestIs(m, o)
}

// whyNot tells what came between a manifest and its end.
func (e *execution) whyNot(m Manifest) string {
	switch {
	case e.isNeeded(m.Digest):
		return NeededAgain
	case !slices.ContainsFunc(m.Holders, func(h oci.Digest) bool { return !e.isGone(h) }):
		return ""
	}
	return HolderStays
}

func (e *execution) isGone(d oci.Digest) bool {
	e.state.Lock()
	defer e.state.Unlock()
	return e.gone[d]
}

func (e *execution) deleteManifest(ctx context.Context, m Manifest) Outcome {
	o := Outcome{Digest: m.Digest}
	err := e.halted()
	if err == nil {
		err = e.Run.reg.DeleteManifest(ctx, e.plan.Repo, m.Digest)
	}
	switch {
	case err == nil, isAbsent(err):
		e.set(&e.did)
		o.Deleted = true
	case errors.Is(err, oci.Unsupported) && e.refuse():
		o.Err = fmt.Errorf("%w: %w", ErrDeletesOff, err)
	case errors.Is(err, oci.Unsupported):
		o.Reason = NamedByIndex
	default:
		o.Err = err
	}
	return o
}

// deleteByDigest deletes a manifest with all its tags at once, if they are all
// where the plan saw them.
func (e *execution) deleteByDigest(ctx context.Context, m Manifest, tags []Tag) error {
	reason, err := e.whyNot(m), error(nil)
	if reason == "" {
		if reason, err = e.moved(ctx, m); err != nil {
			return err
		}
	}
	o := Outcome{Digest: m.Digest, Reason: reason}
	if reason == "" {
		o = e.deleteManifest(ctx, m)
	}
	if o.Deleted {
		if o, err = e.tagsWent(ctx, m, o); err != nil {
			return err
		}
	}
	for _, t := range tags {
		of := o
		of.Tag = t.Tag
		if err := e.tag(of); err != nil {
			return err
		}
	}
	return e.manifestIs(m, o)
}

// moved tells whether one of the tags of m points elsewhere now.
func (e *execution) moved(ctx context.Context, m Manifest) (string, error) {
	for _, tag := range m.Tags {
		now, err := e.Run.reg.Resolve(ctx, e.plan.Repo, tag)
		switch {
		case isAbsent(err):
		case err != nil:
			return "", err
		case now.Digest != m.Digest:
			return Moved, nil
		}
	}
	return "", nil
}

// overwrite moves a tag to an empty index that nothing else has, and deletes
// that. If it cannot be deleted the tag is put back.
func (e *execution) overwrite(ctx context.Context, o Outcome) error {
	now, err := e.Run.reg.Resolve(ctx, e.plan.Repo, o.Tag)
	if err != nil {
		return err
	}
	if now.Digest != o.Digest {
		return oci.Errorf(oci.TagMoved, "%s:%s points to %s", e.plan.Repo, o.Tag, now.Digest)
	}
	raw, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{},
		Annotations: map[string]string{"io.regctl.untagged": e.plan.Repo + ":" + o.Tag + "@" + string(o.Digest)},
	})
	if err != nil {
		return err
	}
	if err := e.halted(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // From here on it is this or back.
	empty := digest.FromBytes(raw)
	desc, err := e.Run.reg.PutManifest(ctx, e.plan.Repo, oci.Put{MediaType: oci.MediaTypeIndex, Raw: raw, Tags: []string{o.Tag}})
	if err == nil {
		empty = desc.Digest
		err = e.Run.reg.DeleteManifest(ctx, e.plan.Repo, empty)
	}
	now, absent := e.Run.reg.Resolve(ctx, e.plan.Repo, o.Tag)
	switch {
	case err == nil && (absent != nil || now.Digest != empty):
		return nil
	case err == nil:
		err = oci.Errorf(oci.Unsupported, "%s:%s outlives what it points to", e.plan.Repo, o.Tag)
	case absent == nil && now.Digest != empty: // It never moved, or somebody else moved it.
		return err
	}
	m, ok := e.raw[o.Digest]
	if !ok {
		return err
	}
	_, back := e.Run.reg.PutManifest(ctx, e.plan.Repo, oci.Put{
		Digest: o.Digest, MediaType: m.Descriptor.MediaType, Raw: m.Raw, Tags: []string{o.Tag},
	})
	return errors.Join(err, back)
}
