package prune

import (
	"context"
	"maps"
	"slices"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/gc"
)

const (
	batch   = 64 // How many manifests are recorded, or deleted, before what is next is looked at.
	fewStay = 32 // So many tags that stay are asked each time where they point.
)

func (e *execution) isNeeded(d oci.Digest) bool {
	e.state.Lock()
	defer e.state.Unlock()
	return e.needed[d]
}

// nowAt keeps what tags lead to that came or moved since the plan was made.
func (e *execution) nowAt(ctx context.Context, came map[string]oci.Digest) error {
	from := slices.Collect(maps.Values(came))
	if err := e.keepFor(ctx, slices.Collect(maps.Keys(came)), from); err != nil {
		return err
	}
	found, err := e.readAll(ctx, from)
	for _, n := range found {
		if err == nil && n.missing {
			return oci.Errorf(oci.ManifestUnknown, "%s@%s was tagged meanwhile and is not there", e.plan.Repo, n.desc.Digest)
		}
	}
	return err
}

// keepFor notes that all that can be reached from some digests is needed, and
// what tags are named after.
func (e *execution) keepFor(ctx context.Context, tags []string, from []oci.Digest) error {
	if err := e.spread(ctx, from); err != nil {
		return err
	}
	e.reader.mu.Lock()
	nodes := maps.Clone(e.nodes)
	e.reader.mu.Unlock()
	e.state.Lock()
	defer e.state.Unlock()
	for d, n := range nodes {
		e.needed[d] = true
		e.needed[n.subject] = true
	}
	for _, tag := range tags {
		if subject, ok := gc.SubjectOf(tag); ok {
			e.needed[subject] = true
		}
	}
	return nil
}

// follow keeps what a tag points to that has moved.
func (e *execution) follow(ctx context.Context, tag string) error {
	now, err := e.Run.reg.Resolve(ctx, e.plan.Repo, tag)
	if isAbsent(err) {
		return nil
	}
	if err != nil {
		return err
	}
	return e.keepFor(ctx, []string{tag}, []oci.Digest{now.Digest})
}

// lookForNew lists the names of the tags where there is much to delete, for
// much may be pushed in the meantime. Of many tags that stay none is asked
// where it points.
func (e *execution) lookForNew(ctx context.Context) error {
	if len(e.plan.Manifests) <= batch || !e.plan.whole {
		return nil
	}
	names, err := e.names(ctx)
	if err != nil {
		return err
	}
	few := len(e.plan.where)-len(e.tagGoes) <= fewStay
	names = slices.DeleteFunc(names, func(tag string) bool {
		_, known := e.plan.where[tag]
		return e.tagGoes[tag] || known && !few
	})
	at := make([]oci.Digest, len(names))
	err = e.each(ctx, len(names), func(ctx context.Context, i int) error {
		now, err := e.Run.reg.Resolve(ctx, e.plan.Repo, names[i])
		if isAbsent(err) {
			return nil
		}
		at[i] = now.Digest
		return err
	})
	if err != nil {
		return err
	}
	came := map[string]oci.Digest{}
	for i, tag := range names {
		if at[i] != "" && at[i] != e.plan.where[tag] {
			came[tag] = at[i]
		}
	}
	return e.nowAt(ctx, came)
}

// tagsWent looks whether a manifest that was deleted took its tags along. If
// one still leads to it, it is put back: nothing is gone, and what it names
// must not go either.
func (e *execution) tagsWent(ctx context.Context, m Manifest, o Outcome) (Outcome, error) {
	for _, tag := range m.Tags {
		now, err := e.Run.reg.Resolve(ctx, e.plan.Repo, tag)
		if isAbsent(err) || err == nil && now.Digest != m.Digest {
			continue
		}
		if err != nil {
			return o, err
		}
		ctx = context.WithoutCancel(ctx)
		still, err := e.Run.reg.Manifest(ctx, e.plan.Repo, tag)
		if err == nil && m.Digest.Algorithm().FromBytes(still.Raw) == m.Digest {
			_, err = e.Run.reg.PutManifest(ctx, e.plan.Repo, oci.Put{Digest: m.Digest, MediaType: still.Descriptor.MediaType, Raw: still.Raw})
		}
		return Outcome{Digest: m.Digest, Reason: TagStays}, err
	}
	return o, nil
}
