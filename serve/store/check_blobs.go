package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/meta"
)

// names looks at everything that a manifest names.
func (r *repoCheck) names(ctx context.Context, n *manifestNode) {
	for _, b := range n.graph.Blobs() {
		if b.Digest != "" {
			r.named(ctx, n, b)
		}
	}
	sparse := false
	for _, child := range n.graph.Manifests {
		_, isBlob := r.blobs[child.Digest]
		switch m := r.manifests[child.Digest]; {
		case m != nil && !leadsAstray(child.Digest, m.Content):
			r.size(ctx, n, child, m.Content)
		case m != nil: // Its own fault hurts this one as well.
		case isBlob:
			r.named(ctx, n, child)
		default:
			sparse = true
		}
	}
	if sparse {
		r.note(NoteChild, r.images(n.Digest)...)
	}
}

// named looks at a blob that a manifest names.
func (r *repoCheck) named(ctx context.Context, n *manifestNode, b oci.Descriptor) {
	link, linked := r.blobs[b.Digest]
	if !linked {
		r.unlinked(ctx, n, b)
		return
	}
	if leadsAstray(b.Digest, link.Content) {
		return // Told with the blob.
	}
	switch e := r.look(ctx, link.Content); {
	case e.state == dataGone:
		r.gone(ctx, n.Digest, b.Digest, link.Content, r.images(n.Digest))
	case e.state.usable():
		r.size(ctx, n, b, link.Content)
	default:
		r.addBad(link.Content, e, r.images(n.Digest)...)
	}
}

// size compares what a manifest says with what there is.
func (r *repoCheck) size(ctx context.Context, n *manifestNode, b oci.Descriptor, content oci.Digest) {
	e := r.look(ctx, content)
	if !e.state.usable() || e.size == b.Size {
		return
	}
	// What is too short, or too long, may be wrong, or have been replaced.
	if e = r.sure(ctx, content); e.state == dataWhole && e.size != b.Size {
		r.fault(finding{Fault: Fault{
			Kind: FaultSize, Digest: b.Digest, Action: "push an image that tells its size",
			What: fmt.Sprintf("it has %d bytes, and manifest %s says %d", e.size, n.Digest, b.Size),
		}}, r.images(n.Digest)...)
	}
	if e.state != dataGone && !e.state.usable() {
		r.addBad(content, e, r.images(n.Digest)...)
	}
}

// blob looks at the membership of a blob.
func (r *repoCheck) blob(ctx context.Context, b meta.BlobScan) {
	hurts := r.imagesOf(b.Digest)
	if b.Err != nil {
		r.blobLink(ctx, b, hurts)
		return
	}
	if !r.isOwn(ctx, b.Digest, b.Content) {
		r.astray(ctx, b.Digest, b.Content, mendBlob, hurts)
		return
	}
	switch e := r.look(ctx, b.Content); {
	case e.state == dataGone && !r.isNamed(b.Digest):
		r.note(NoteDead)
	case e.state != dataGone && !e.state.usable():
		r.addBad(b.Content, e, hurts...)
	}
}

func (r *repoCheck) isNamed(d oci.Digest) bool { return len(r.namers[d]) > 0 }

// blobLink notes the link of a blob that says nothing.
func (r *repoCheck) blobLink(ctx context.Context, b meta.BlobScan, hurts []string) {
	f := finding{Fault: Fault{Digest: b.Digest}}
	if !errors.Is(b.Err, meta.ErrDamaged) {
		f.Kind, f.What, f.Action = FaultUnread, b.Err.Error(), "look at the disk"
		r.fault(f, hurts...)
		return
	}
	if !r.still(ctx, b.Digest, func(h *meta.Repo) bool {
		_, err := h.LookBlob(ctx, b.Digest)
		return errors.Is(err, meta.ErrDamaged)
	}) {
		return
	}
	f.Kind, f.What, f.Action = FaultLink, "the link of the blob holds no digest, and its bytes are not there", "push it again"
	switch {
	case r.verified(ctx, b.Digest):
		f.mend, f.What, f.Action = mendBlob, "the link of the blob holds no digest", "write the link again"
	case !r.isNamed(b.Digest) && r.look(ctx, b.Digest).state == dataGone:
		r.note(NoteDead)
		return
	}
	r.fault(f, hurts...)
}

// astray notes a link that leads to what it does not name.
func (r *repoCheck) astray(ctx context.Context, d, content oci.Digest, m mend, hurts []string) {
	f := finding{Fault: Fault{Kind: FaultAstray, Digest: d, What: "its link leads to " + string(content), Action: "push it again"}}
	if m == mendBlob && r.verified(ctx, d) || m == mendManifest && r.isManifest(ctx, d) {
		f.mend, f.Action = m, "write the link again"
	}
	r.fault(f, hurts...)
}
