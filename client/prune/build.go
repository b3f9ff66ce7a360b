package prune

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/gc"
)

// exactUpTo is how many images that stay are read for the sake of an exact
// number of bytes.
const exactUpTo = 32

// builder finds out what goes with the tags that go: it gathers everything
// that could go, and then takes out whatever can be reached from what stays.
type builder struct {
	*reader
	o         Options
	order     string
	details   []oci.TagDetail
	where     map[string]oci.Digest
	tagsOf    map[oci.Digest][]string
	decisions []gc.Decision

	victims   map[string]bool
	followers map[oci.Digest][]string     // Tags by the digest they are named after.
	may       map[oci.Digest]bool         // What could go.
	bySubject map[oci.Digest][]oci.Digest // Of what could go.
	stays     map[oci.Digest]bool
	sorted    []oci.Digest // What goes, each after its holders.
	holds     map[oci.Digest][]oci.Digest
}

// newBuilder lists the tags of repo. A tag that the registry cannot fully tell
// of is an error.
func newBuilder(ctx context.Context, reg oci.Registry, repo string, o Options) (*builder, error) {
	b := &builder{
		reader: newReader(reg, repo, o), o: o,
		tagsOf: map[oci.Digest][]string{}, victims: map[string]bool{}, followers: map[oci.Digest][]string{},
		may: map[oci.Digest]bool{}, stays: map[oci.Digest]bool{}, bySubject: map[oci.Digest][]oci.Digest{},
	}
	var err error
	if b.details, b.where, err = listTags(ctx, reg, repo); err != nil {
		return nil, err
	}
	for _, d := range b.details {
		b.tagsOf[d.Manifest.Digest] = append(b.tagsOf[d.Manifest.Digest], d.Tag)
		b.types[d.Manifest.Digest] = d.Manifest.MediaType
	}
	return b, nil
}

func listTags(ctx context.Context, reg oci.Registry, repo string) ([]oci.TagDetail, map[string]oci.Digest, error) {
	var details []oci.TagDetail
	where := map[string]oci.Digest{}
	for d, err := range reg.TagDetails(ctx, repo, "") {
		if err == nil {
			_, err = oci.ParseDigest(string(d.Manifest.Digest))
		}
		switch {
		case err != nil && d.Tag != "":
			return nil, nil, fmt.Errorf("%s:%s: %w", repo, d.Tag, err)
		case err != nil:
			return nil, nil, err
		case !known(d.Manifest.MediaType):
			return nil, nil, oci.Errorf(oci.Unsupported, "%s:%s is of type %q, and what it names is not known", repo, d.Tag, d.Manifest.MediaType)
		}
		was, twice := where[d.Tag]
		if twice && was != d.Manifest.Digest { // What would be known of one would be said of the other.
			return nil, nil, oci.Errorf(oci.TagMoved, "%s:%s moved while the tags were listed", repo, d.Tag)
		}
		if !twice {
			details = append(details, d)
		}
		where[d.Tag] = d.Manifest.Digest
	}
	return details, where, nil
}

// round is what divides every length at which registries cut their lists.
const round = 50

// notCut looks behind the end of a list that may have been cut without a word
// of where it goes on: what tags nobody has seen point to would not be kept.
func (b *builder) notCut(ctx context.Context) error {
	n := len(b.details)
	if n == 0 || n%round != 0 {
		return nil
	}
	for tag, err := range b.reg.Tags(ctx, b.repo, b.details[n-1].Tag) {
		if err != nil {
			return err
		}
		if _, known := b.where[tag]; !known {
			return oci.Errorf(oci.PaginationInvalid, "%s: the registry cuts its list of tags after %d and does not say that there are more, such as %s", b.repo, n, tag)
		}
	}
	return nil
}

func (b *builder) decide(decisions []gc.Decision) {
	b.decisions = decisions
	for _, d := range decisions {
		if d.Delete {
			b.victims[d.Tag] = true
			continue
		}
		if subject, ok := gc.SubjectOf(d.Tag); ok {
			b.followers[subject] = append(b.followers[subject], d.Tag)
		}
	}
}

// subjectsGone lets tags go that are named after what is not there.
func (b *builder) subjectsGone(ctx context.Context) error {
	for subject, tags := range b.followers {
		if len(b.tagsOf[subject]) > 0 {
			continue
		}
		there, err := b.exists(ctx, subject)
		if err != nil {
			return err
		}
		for _, tag := range tags {
			if !there {
				b.change(tag, true, SubjectGone)
			}
		}
	}
	return nil
}

func (b *builder) change(tag string, goes bool, reason string) {
	i := slices.IndexFunc(b.decisions, func(d gc.Decision) bool { return d.Tag == tag })
	b.decisions[i].Delete, b.decisions[i].Reason = goes, reason
	if goes {
		b.victims[tag] = true
	} else {
		delete(b.victims, tag)
	}
}

// follows tells whether a tag goes only if what it is named after does.
func (b *builder) follows(tag string) bool {
	_, ok := gc.SubjectOf(tag)
	return ok && !b.victims[tag]
}

func (b *builder) plan(ctx context.Context) (*Plan, error) {
	p := &Plan{Repo: b.repo, Order: b.order, Exact: true, where: b.where, whole: true}
	if len(b.victims) > 0 || len(b.o.Known) > 0 {
		for _, step := range []func(context.Context) error{b.gather, b.inUse, b.mark} {
			if err := step(ctx); err != nil {
				return nil, err
			}
		}
		b.sort()
		if p.Manifests = b.manifests(); len(p.Manifests) > 0 {
			if err := b.notCut(ctx); err != nil {
				return nil, err
			}
		}
		if err := b.weigh(ctx, p); err != nil {
			return nil, err
		}
	}
	p.Tags = b.tags()
	p.Empties = len(p.Tags) > 0 && !slices.ContainsFunc(p.Tags, func(t Tag) bool {
		_, follows := gc.SubjectOf(t.Tag)
		return !t.Delete && !follows
	})
	return p, nil
}

// gather finds everything that could go: what only victims point to, with
// children, referrers, and what is tagged after any of it.
func (b *builder) gather(ctx context.Context) error {
	var from []oci.Digest
	for _, tag := range slices.Sorted(maps.Keys(b.victims)) {
		from = append(from, b.where[tag])
	}
	from = slices.DeleteFunc(append(from, b.o.Known...), b.held)
	for len(from) > 0 {
		var next []oci.Digest
		from = slices.DeleteFunc(from, func(d oci.Digest) bool {
			twice := b.may[d]
			b.may[d] = true
			return twice
		})
		found := make([]*node, len(from))
		err := b.each(ctx, len(from), func(ctx context.Context, i int) error {
			n, err := b.read(ctx, from[i])
			if err != nil {
				return err
			}
			found[i] = n
			return b.referrersOf(ctx, n)
		})
		if err != nil {
			return err
		}
		for _, n := range found {
			if err := b.readable(n); err != nil {
				return err
			}
			next = append(append(next, b.below(n)...), b.tagged(b.followers[n.desc.Digest]...)...)
		}
		from = slices.DeleteFunc(next, b.held)
	}
	return nil
}

// readable refuses what may go and cannot be understood. That something
// untagged is not there is no fault.
func (b *builder) readable(n *node) error {
	if !n.missing && !known(n.desc.MediaType) {
		return oci.Errorf(oci.ManifestInvalid, "%s@%s cannot be understood", b.repo, n.desc.Digest)
	}
	return b.present(n)
}

// present refuses what a tag points to and is not there all the same: nobody
// knows what it names.
func (b *builder) present(n *node) error {
	if tags := b.tagsOf[n.desc.Digest]; n.missing && len(tags) > 0 {
		return oci.Errorf(oci.ManifestUnknown, "%s:%s points to %s, which is not there", b.repo, tags[0], n.desc.Digest)
	}
	return nil
}

// held tells whether a tag that certainly stays points to d.
func (b *builder) held(d oci.Digest) bool {
	return slices.ContainsFunc(b.tagsOf[d], func(tag string) bool { return !b.victims[tag] && !b.follows(tag) })
}

// below returns what goes with n: children that are manifests, and referrers.
func (b *builder) below(n *node) []oci.Digest {
	children := slices.DeleteFunc(slices.Clone(n.children), func(d oci.Digest) bool { return slices.Contains(n.others, d) })
	return append(children, n.referrers...)
}

// tagged returns where tags point.
func (b *builder) tagged(tags ...string) []oci.Digest {
	var found []oci.Digest
	for _, tag := range tags {
		found = append(found, b.where[tag])
	}
	return found
}

// inUse keeps the tags that lead to what somebody uses.
func (b *builder) inUse(context.Context) error {
	if len(b.o.Needed) == 0 {
		return nil
	}
	known := map[oci.Digest]bool{}
	for _, d := range b.o.Needed {
		known[d] = true
	}
	for _, tag := range slices.Sorted(maps.Keys(b.victims)) {
		if b.leads(b.where[tag], known) {
			b.change(tag, false, gc.Protected+InUse)
		}
	}
	return nil
}

// leads tells whether from holds something that known says is in use, and
// remembers it there: indexes may name each other in very many ways.
func (b *builder) leads(from oci.Digest, known map[oci.Digest]bool) bool {
	if is, ok := known[from]; ok {
		return is
	}
	known[from] = false
	if n := b.nodes[from]; n != nil && b.may[from] {
		known[from] = slices.ContainsFunc(n.children, func(c oci.Digest) bool { return b.leads(c, known) })
	}
	return known[from]
}

// mark finds what stays: all that can be reached from a tag that stays or from
// what somebody uses, and what refers to something that stays or of which
// nothing is known but that it is there.
func (b *builder) mark(ctx context.Context) error {
	if len(b.may) == 0 {
		return nil
	}
	from := slices.Clone(b.o.Needed)
	for _, d := range b.details {
		subject, _ := gc.SubjectOf(d.Tag)
		if !b.victims[d.Tag] && (!b.follows(d.Tag) || !b.may[subject]) {
			from = append(from, d.Manifest.Digest)
		}
	}
	for _, d := range slices.Sorted(maps.Keys(b.may)) {
		subject := b.nodes[d].subject
		if subject == "" {
			continue
		}
		if b.may[subject] {
			b.bySubject[subject] = append(b.bySubject[subject], d)
			continue
		}
		there, err := b.exists(ctx, subject)
		if err != nil {
			return err
		}
		if there {
			from = append(from, d)
		}
	}
	return b.keep(ctx, from)
}

// keep marks from and what it holds. Images outside of what may go hold
// nothing, and are not read.
func (b *builder) keep(ctx context.Context, from []oci.Digest) error {
	for len(from) > 0 {
		from = slices.DeleteFunc(from, func(d oci.Digest) bool {
			twice := b.stays[d]
			b.stays[d] = true
			return twice || b.isImage(d)
		})
		found, err := b.readAll(ctx, from)
		if err != nil {
			return err
		}
		from = nil
		for _, n := range found {
			if err := b.present(n); err != nil {
				return err
			}
			from = append(from, n.children...)
			if d := n.desc.Digest; b.may[d] {
				from = append(append(from, b.referring(d)...), b.tagged(b.followers[d]...)...)
			}
		}
	}
	return nil
}

// isImage tells that d is an image, and none of those that may go.
func (b *builder) isImage(d oci.Digest) bool {
	t := b.types[d]
	return !b.may[d] && (t == oci.MediaTypeManifest || t == oci.MediaTypeDockerManifest)
}

// referring returns what may go and refers to d.
func (b *builder) referring(d oci.Digest) []oci.Digest {
	return append(slices.Clone(b.nodes[d].referrers), b.bySubject[d]...)
}
