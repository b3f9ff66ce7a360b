package store

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage"
)

// readRepos reads all repositories and notes what is wrong with them, and with
// the data.
func (c *checker) readRepos(ctx context.Context) error {
	c.counts, c.findings = CheckReport{}, map[findingKey]*finding{}
	for _, err := range c.unlisted {
		c.add(finding{Fault: Fault{Kind: FaultUnread, What: "list bytes: " + err.Error()}})
	}
	var names []string
	for r, err := range c.s.meta.ScanRepos(ctx) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.add(finding{Fault: Fault{Kind: FaultUnread, Repo: r.Name, What: err.Error()}})
			continue
		}
		names = append(names, r.Name)
	}
	c.counts.Repositories = len(names)
	c.progress.tell(CheckRepos, 0, int64(len(names)))
	var group errgroup.Group
	group.SetLimit(c.o.Jobs)
	for _, name := range names {
		group.Go(func() error {
			defer c.progress.tell(CheckRepos, 1, 0)
			return c.readRepo(ctx, name)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	c.addData(ctx)
	return ctx.Err()
}

// addData notes bytes that are wrong and that no repository has asked for.
func (c *checker) addData(ctx context.Context) {
	for _, d := range c.data.bad() {
		c.addBad(d, c.look(ctx, d))
	}
}

// addBad notes what is wrong with bytes, and what it hurts.
func (c *checker) addBad(d oci.Digest, e datum, hurts ...string) {
	f := finding{Fault: Fault{Digest: d}}
	switch e.state {
	case dataWrong:
		f.Kind, f.What = FaultData, fmt.Sprintf("the %d bytes kept under it are others", e.size)
	case dataEmpty:
		f.Kind, f.What = FaultEmpty, "the file for its bytes is empty"
	case dataUnread:
		f.Kind, f.What, f.Action = FaultUnread, "its bytes cannot be read", "look at the disk"
		if err := c.data.reason(d); err != nil {
			f.What += ": " + err.Error()
		}
	default:
		return
	}
	if f.Kind != FaultUnread {
		f.mend, f.Action = mendData, "set the bytes aside, so that a push can bring the right ones"
	}
	c.add(f, hurts...)
}

// repoCheck is the check of one repository.
type repoCheck struct {
	*checker
	repo      string
	manifests map[oci.Digest]*manifestNode
	blobs     map[oci.Digest]meta.BlobScan
	namers    map[oci.Digest][]oci.Digest // The manifests that name a blob or a manifest.
	notes     map[FaultKind]*note
}

// manifestNode is a manifest, with what leads to it and what it leads to.
type manifestNode struct {
	meta.ManifestScan
	tags  []string
	graph *oci.Graph // Nil if it cannot be told.
}

// note is what is told once a repository.
type note struct {
	n     int
	hurts []string
}

func (c *checker) readRepo(ctx context.Context, name string) error {
	scan, err := c.s.meta.ScanRepo(ctx, name, c.o.Jobs)
	if err != nil {
		return err
	}
	r := &repoCheck{
		checker: c, repo: name, notes: map[FaultKind]*note{}, namers: map[oci.Digest][]oci.Digest{},
		manifests: make(map[oci.Digest]*manifestNode, len(scan.Manifests)),
		blobs:     make(map[oci.Digest]meta.BlobScan, len(scan.Blobs)),
	}
	c.count(scan)
	for _, err := range scan.Errs {
		r.fault(finding{Fault: Fault{Kind: FaultUnread, What: err.Error()}})
	}
	for _, b := range scan.Blobs {
		r.blobs[b.Digest] = b
	}
	for _, m := range scan.Manifests {
		r.manifests[m.Digest] = &manifestNode{ManifestScan: m}
		for _, d := range m.Names {
			r.namers[d] = append(r.namers[d], m.Digest)
		}
	}
	for _, t := range scan.Tags {
		if n := r.manifests[t.Digest]; n != nil {
			n.tags = append(n.tags, t.Tag)
		}
	}
	for _, t := range scan.Tags {
		r.tag(ctx, t)
	}
	if err := r.readManifests(ctx, scan.Manifests); err != nil {
		return err
	}
	for _, b := range scan.Blobs {
		r.blob(ctx, b)
	}
	r.addNotes()
	return ctx.Err()
}

func (c *checker) count(scan *meta.RepoScan) {
	for _, t := range scan.Tags {
		c.seen(t.Moved, scan.Name+":"+t.Tag)
	}
	for _, m := range scan.Manifests {
		c.seen(m.Linked, at(scan.Name, m.Digest))
	}
	for _, b := range scan.Blobs {
		c.seen(b.Linked, at(scan.Name, b.Digest))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Tags += len(scan.Tags)
	c.counts.Manifests += len(scan.Manifests)
	c.counts.Blobs += len(scan.Blobs)
}

func (r *repoCheck) fault(f finding, hurts ...string) {
	f.Repo = r.repo
	r.add(f, hurts...)
}

func (r *repoCheck) note(k FaultKind, hurts ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.notes[k] == nil {
		r.notes[k] = &note{}
	}
	r.notes[k].n++
	r.notes[k].hurts = append(r.notes[k].hurts, hurts...)
}

func (r *repoCheck) addNotes() {
	for k, n := range r.notes {
		what := ""
		switch k {
		case NoteChild:
			what = fmt.Sprintf("%s not all here: copied so, or lost to a collection of registry:2", counted(n.n, "index whose children are", "indexes whose children are"))
		case NoteAlias:
			what = fmt.Sprintf("%s under a digest of another algorithm, as registry:2 keeps what was pushed by sha512", counted(n.n, "blob", "blobs"))
		case NoteDead:
			what = fmt.Sprintf("%s without bytes that no manifest names, as a collection of registry:2 leaves them", counted(n.n, "link", "links"))
		}
		r.fault(finding{Fault: Fault{Kind: k, What: what}}, n.hurts...)
	}
}

func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// images returns what cannot be pulled whole without the manifest d: the tags
// that lead to it, and the manifests that do though no tag leads to them.
func (r *repoCheck) images(d oci.Digest) []string {
	seen := map[oci.Digest]bool{d: true}
	var names []string
	for queue := []oci.Digest{d}; len(queue) > 0; queue = queue[1:] {
		n := r.manifests[queue[0]]
		if n == nil {
			continue
		}
		for _, tag := range n.tags {
			names = append(names, r.repo+":"+tag)
		}
		parents := 0
		for _, p := range r.namers[queue[0]] {
			if parents++; !seen[p] {
				seen[p] = true
				queue = append(queue, p)
			}
		}
		if parents == 0 && len(n.tags) == 0 {
			names = append(names, at(r.repo, queue[0]))
		}
	}
	return names
}

// imagesOf is images for what the manifests name that name a blob.
func (r *repoCheck) imagesOf(blob oci.Digest) (names []string) {
	for _, m := range r.namers[blob] {
		names = append(names, r.images(m)...)
	}
	return names
}

func (r *repoCheck) tag(ctx context.Context, t meta.TagScan) {
	if oci.CheckTag(t.Tag) != nil {
		return // Nobody can ask for it.
	}
	f := Fault{Tag: t.Tag, Digest: t.Digest}
	hurt := r.repo + ":" + t.Tag
	switch {
	case errors.Is(t.Err, meta.ErrDamaged):
		if !r.still(ctx, "", func(h *meta.Repo) bool {
			_, err := h.LookTag(ctx, t.Tag)
			return errors.Is(err, meta.ErrDamaged)
		}) {
			return
		}
		f.Kind, f.What, f.Action = FaultLink, "the link of the tag holds no digest", "push the tag again, or remove it"
	case t.Err != nil:
		f.Kind, f.What, f.Action = FaultUnread, t.Err.Error(), "look at the disk"
	case r.manifests[t.Digest] == nil:
		if !r.dangles(ctx, t) {
			return
		}
		f.Kind, f.What, f.Action = FaultDangling, "the tag points to a manifest that is not in the repository", "push it again, or remove the tag"
	default:
		return
	}
	r.fault(finding{Fault: f}, hurt)
}

// readManifests reads what the manifests are, and looks at each.
func (r *repoCheck) readManifests(ctx context.Context, scans []meta.ManifestScan) error {
	var group errgroup.Group
	group.SetLimit(r.o.Jobs)
	for _, m := range scans {
		group.Go(func() error {
			r.manifest(ctx, r.manifests[m.Digest])
			return ctx.Err()
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, m := range scans {
		if n := r.manifests[m.Digest]; n.graph != nil {
			r.names(ctx, n)
			n.graph = nil // It takes memory.
		}
	}
	return nil
}

// manifest looks at the link and the bytes of a manifest.
func (r *repoCheck) manifest(ctx context.Context, n *manifestNode) {
	if n.Content == "" {
		r.manifestLink(ctx, n)
		return
	}
	if !r.isOwn(ctx, n.Digest, n.Content) {
		r.astray(ctx, n.Digest, n.Content, mendManifest, r.images(n.Digest))
		return
	}
	e := r.look(ctx, n.Content)
	if e.state == dataGone {
		r.gone(ctx, n.Digest, n.Digest, n.Content, r.images(n.Digest))
		return
	}
	if !e.state.usable() {
		r.addBad(n.Content, e, r.images(n.Digest)...)
		return
	}
	raw, _, err := storage.Get(ctx, r.s.backend, meta.BlobKey(n.Content), oci.MaxManifest)
	if err == nil && n.Content.Algorithm().FromBytes(raw) == n.Content {
		n.graph = r.graph(n, raw)
		return
	}
	// It went or was changed since, cannot be read, or is too large.
	switch e = r.examine(ctx, n.Content, true); {
	case e.state == dataGone:
		r.gone(ctx, n.Digest, n.Digest, n.Content, r.images(n.Digest))
	case e.state.usable():
		r.noManifest(n, fmt.Sprintf("its %d bytes are no manifest", e.size))
	default:
		r.addBad(n.Content, e, r.images(n.Digest)...)
	}
}

func (r *repoCheck) graph(n *manifestNode, raw []byte) *oci.Graph {
	g, err := oci.ParseManifest("", raw)
	if err == nil {
		return g
	}
	if oci.MediaTypeOf(raw) == "" {
		r.noManifest(n, err.Error())
	}
	return nil // Of an old kind: served as it is.
}

func (r *repoCheck) noManifest(n *manifestNode, why string) {
	r.fault(finding{Fault: Fault{Kind: FaultNoType, Digest: n.Digest, What: why}}, r.images(n.Digest)...)
}

// manifestLink notes the link of a manifest that says nothing.
func (r *repoCheck) manifestLink(ctx context.Context, n *manifestNode) {
	f := finding{Fault: Fault{Digest: n.Digest}}
	if !errors.Is(n.Err, meta.ErrDamaged) {
		f.Kind, f.What, f.Action = FaultUnread, fmt.Sprint(n.Err), "look at the disk"
		r.fault(f, r.images(n.Digest)...)
		return
	}
	if !r.still(ctx, n.Digest, func(h *meta.Repo) bool {
		_, err := h.LookManifest(ctx, n.Digest)
		return errors.Is(err, meta.ErrDamaged)
	}) {
		return
	}
	f.Kind, f.What, f.Action = FaultLink, "the link of the manifest holds no digest, and its bytes are not there", "push it again"
	if r.isManifest(ctx, n.Digest) {
		f.mend, f.What, f.Action = mendManifest, "the link of the manifest holds no digest", "write the link again"
	}
	r.fault(f, r.images(n.Digest)...)
}

// isOwn tells whether bytes kept under content may be those of d.
func (r *repoCheck) isOwn(ctx context.Context, d, content oci.Digest) bool {
	switch {
	case d == content:
		return true
	case leadsAstray(d, content):
		return false
	case r.look(ctx, content).state == dataGone:
		return true // Another fault says so.
	case !r.o.Fast && !r.isAlso(ctx, content, d):
		return false
	}
	r.note(NoteAlias)
	return true
}

// leadsAstray tells of a link, which says content, that it cannot be right.
func leadsAstray(d, content oci.Digest) bool {
	return content == "" || d != content && d.Algorithm() == content.Algorithm()
}
