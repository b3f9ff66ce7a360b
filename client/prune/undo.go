package prune

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/gc"
)

// UndoOptions of [Undo].
type UndoOptions struct {
	// Force puts a tag back over one that points elsewhere now.
	Force bool
	// DryRun only looks what there is to do.
	DryRun bool
	// Jobs is how much is put back at the same time; at least 1.
	Jobs int
}

// The states of an [Undone].
const (
	Restored = "restored"
	Already  = "there"    // It is where it was.
	Conflict = "conflict" // The tag points elsewhere now.
	Failed   = "failed"
)

// Undone is what became of a tag, or of a manifest without one, that was to be
// put back.
type Undone struct {
	Registry, Repo, Tag string
	Digest              oci.Digest
	State               string
	Now                 oci.Digest // Where the tag of a Conflict points.
	Err                 error      // Why it Failed.
}

// Undo puts back what a journal says was deleted: manifests after those they
// name, then their tags. It may be repeated. What cannot be put back, such as
// an image whose blobs are gone, is told and holds up nothing else.
// Errors: those of reading the journal, and of registries that cannot be spoken to.
func Undo(ctx context.Context, open func(registry string) (oci.Registry, error), journal io.ReaderAt, o UndoOptions) ([]Undone, error) {
	u := &undoing{o: o, open: open, journal: journal, images: map[place]*undoImage{}, raws: map[oci.Digest]undoRaw{}}
	if err := u.read(); err != nil {
		return nil, err
	}
	for _, level := range u.levels() {
		var g errgroup.Group
		g.SetLimit(max(1, o.Jobs))
		for _, i := range level {
			g.Go(func() error { return u.image(ctx, i) })
		}
		if err := g.Wait(); err != nil {
			return u.undone, err
		}
		if err := ctx.Err(); err != nil {
			return u.undone, err
		}
	}
	slices.SortFunc(u.undone, func(a, b Undone) int {
		return strings.Compare(a.Registry+"/"+a.Repo+":"+a.Tag+"@"+string(a.Digest), b.Registry+"/"+b.Repo+":"+b.Tag+"@"+string(b.Digest))
	})
	return u.undone, nil
}

// place is a manifest in a repository.
type place struct {
	registry, repo string
	digest         oci.Digest
}

type undoImage struct {
	place
	tags []string
	goes bool // Not only its tags.
}

// undoRaw is where a journal has a manifest, and what that names.
type undoRaw struct {
	offset, size int64
	children     []oci.Digest
}

type undoing struct {
	o       UndoOptions
	open    func(string) (oci.Registry, error)
	journal io.ReaderAt
	images  map[place]*undoImage
	raws    map[oci.Digest]undoRaw

	mu     sync.Mutex
	undone []Undone
	failed map[place]bool
}

// read goes through the journal and remembers where the manifests are, not
// their bytes.
func (u *undoing) read() error {
	u.failed = map[place]bool{}
	return readLines(io.NewSectionReader(u.journal, 0, math.MaxInt64), func(e Entry, offset, size int64) error {
		if _, err := oci.ParseDigest(string(e.Digest)); err != nil && e.Digest != "" {
			return err
		}
		at := place{e.Registry, e.Repo, e.Digest}
		i := u.images[at]
		if i == nil && (e.Kind == KindManifest || e.Kind == KindTag) {
			i = &undoImage{place: at}
			u.images[at] = i
		}
		switch {
		case e.Kind == KindManifest:
			i.goes = i.goes || e.Goes
			if e.Raw != nil {
				n := newNode(oci.Manifest{Raw: e.Raw})
				u.raws[e.Digest] = undoRaw{offset, size, n.children}
			}
		case e.Kind == KindTag && !slices.Contains(i.tags, e.Tag):
			i.tags = append(i.tags, e.Tag)
		case e.Kind == KindKept && i != nil && e.Tag != "":
			i.tags = slices.DeleteFunc(i.tags, func(tag string) bool { return tag == e.Tag })
		case e.Kind == KindKept && i != nil:
			i.goes = false
		}
		return nil
	})
}

// levels groups what is to be done so that what a manifest names is in groups
// before it.
func (u *undoing) levels() [][]*undoImage {
	depth := map[oci.Digest]int{}
	var of func(d oci.Digest) int
	of = func(d oci.Digest) int {
		n, ok := depth[d]
		if ok {
			return n
		}
		for _, c := range u.raws[d].children {
			if _, ok := u.raws[c]; ok {
				n = max(n, of(c)+1)
			}
		}
		depth[d] = n
		return n
	}
	var groups [][]*undoImage
	for _, i := range u.images {
		n := of(i.digest)
		for len(groups) <= n {
			groups = append(groups, nil)
		}
		groups[n] = append(groups[n], i)
	}
	return groups
}

// image puts one manifest back, with its tags.
func (u *undoing) image(ctx context.Context, i *undoImage) error {
	if !i.goes && len(i.tags) == 0 {
		return nil
	}
	reg, err := u.open(i.registry)
	if err != nil {
		return err
	}
	var absent []string
	for _, tag := range i.tags {
		free, err := u.look(ctx, reg, i, tag)
		if err != nil {
			return err
		}
		if free {
			absent = append(absent, tag)
		}
	}
	if len(absent) == 0 {
		_, err := reg.Resolve(ctx, i.repo, string(i.digest))
		switch {
		case err == nil && len(i.tags) > 0:
			return nil
		case err == nil:
			u.add(i, "", Undone{State: Already})
			return nil
		case !isAbsent(err):
			return u.fail(i, err, "")
		}
	}
	return u.put(ctx, reg, i, absent)
}

// look tells whether a tag is free to be put back.
func (u *undoing) look(ctx context.Context, reg oci.Registry, i *undoImage, tag string) (bool, error) {
	now, err := reg.Resolve(ctx, i.repo, tag)
	switch {
	case isAbsent(err):
		return true, nil
	case err != nil:
		return false, u.fail(i, err, tag)
	case now.Digest == i.digest:
		u.add(i, tag, Undone{State: Already})
		return false, nil
	case u.o.Force || u.isPartOf(ctx, reg, i, tag):
		return true, nil
	}
	u.add(i, tag, Undone{State: Conflict, Now: now.Digest})
	return false, nil
}

// isPartOf tells that a list of referrers under a tag has nothing that i does
// not have: it was made as they were put back.
func (u *undoing) isPartOf(ctx context.Context, reg oci.Registry, i *undoImage, tag string) bool {
	if _, ok := gc.SubjectOf(tag); !ok {
		return false
	}
	m, err := reg.Manifest(ctx, i.repo, tag)
	if err != nil {
		return false
	}
	g, err := oci.ParseManifest(m.Descriptor.MediaType, m.Raw)
	return err == nil && g.IsIndex() && !slices.ContainsFunc(g.Manifests, func(c oci.Descriptor) bool {
		return !slices.Contains(u.raws[i.digest].children, c.Digest)
	})
}

func (u *undoing) put(ctx context.Context, reg oci.Registry, i *undoImage, tags []string) error {
	for _, c := range u.raws[i.digest].children {
		if u.hasFailed(place{i.registry, i.repo, c}) {
			return u.fail(i, oci.Errorf(oci.ManifestBlobUnknown, "%s, which it names, is gone", c), tags...)
		}
	}
	raw, err := u.raw(i.digest)
	if err != nil {
		return u.fail(i, err, tags...)
	}
	if !u.o.DryRun {
		forced := u.o.Force || slices.ContainsFunc(tags, func(t string) bool { _, ok := gc.SubjectOf(t); return ok })
		_, err = reg.PutManifest(ctx, i.repo, oci.Put{
			Digest: i.digest, MediaType: oci.MediaTypeOf(raw), Raw: raw, Tags: tags, NoOverwrite: len(tags) > 0 && !forced,
		})
	}
	if err != nil {
		return u.fail(i, err, tags...)
	}
	for _, tag := range tags {
		u.add(i, tag, Undone{State: Restored})
	}
	if len(tags) == 0 {
		u.add(i, "", Undone{State: Restored})
	}
	return nil
}

// raw reads a manifest from the journal.
func (u *undoing) raw(d oci.Digest) ([]byte, error) {
	at, ok := u.raws[d]
	if !ok {
		return nil, fmt.Errorf("the journal has no manifest %s", d)
	}
	var raw []byte
	err := ReadJournal(io.NewSectionReader(u.journal, at.offset, at.size), func(e Entry) error {
		raw = e.Raw
		return nil
	})
	if err == nil && d.Algorithm().FromBytes(raw) != d {
		err = oci.Errorf(oci.DigestInvalid, "the journal has another manifest in place of %s", d)
	}
	return raw, err
}

// fail notes that tags could not be put back, and returns errors after which
// nothing else can.
func (u *undoing) fail(i *undoImage, err error, tags ...string) error {
	if Fatal(err) {
		return fmt.Errorf("%s@%s: %w", i.repo, i.digest, err)
	}
	u.mu.Lock()
	u.failed[i.place] = true
	u.mu.Unlock()
	if len(tags) == 0 {
		tags = []string{""}
	}
	for _, tag := range tags {
		u.add(i, tag, Undone{State: Failed, Err: err})
	}
	return nil
}

func (u *undoing) hasFailed(at place) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.failed[at]
}

func (u *undoing) add(i *undoImage, tag string, of Undone) {
	of.Registry, of.Repo, of.Tag, of.Digest = i.registry, i.repo, tag, i.digest
	u.mu.Lock()
	defer u.mu.Unlock()
	u.undone = append(u.undone, of)
}
