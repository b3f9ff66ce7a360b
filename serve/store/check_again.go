package store

import (
	"context"
	"errors"
	"io/fs"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/meta"
)

// still tells whether fault holds while d, unless "", is neither pushed to nor
// removed from the repository, nor what is named removed. The repository is
// not removed meanwhile.
func (r *repoCheck) still(_ context.Context, d oci.Digest, fault func(*meta.Repo) bool, named ...oci.Digest) bool {
	h := r.s.meta.Open(r.repo)
	defer h.Close()
	if d != "" {
		defer h.Pin(d, named)()
	}
	return fault(h)
}

// dangles tells whether a tag still points to a manifest that is not there.
func (r *repoCheck) dangles(ctx context.Context, t meta.TagScan) bool {
	return r.still(ctx, t.Digest, func(h *meta.Repo) bool {
		if now, err := h.LookTag(ctx, t.Tag); err != nil || now != t.Digest {
			return false
		}
		_, err := h.LookManifest(ctx, t.Digest)
		return errors.Is(err, fs.ErrNotExist)
	})
}

// gone notes that there are no bytes for what the manifest m is or names, by
// d, unless they or m came or went meanwhile. A manifest is looked at again
// last: it goes before what it names does.
func (r *repoCheck) gone(ctx context.Context, m, d, content oci.Digest, hurts []string) {
	if !r.still(ctx, m, func(h *meta.Repo) bool {
		_, err := r.s.backend.Stat(ctx, meta.BlobKey(content))
		if !errors.Is(err, fs.ErrNotExist) {
			return false
		}
		_, err = h.LookManifest(ctx, m)
		return err == nil
	}, without(d, m)...) {
		return
	}
	r.add(finding{Fault: Fault{
		Kind: FaultMissing, Digest: content, What: "its bytes are not there", Action: "push it again",
	}}, hurts...)
}

func without(d, m oci.Digest) []oci.Digest {
	if d == m {
		return nil
	}
	return []oci.Digest{d}
}

// unlinked notes a blob that a manifest names and that is not in the
// repository.
func (r *repoCheck) unlinked(ctx context.Context, n *manifestNode, b oci.Descriptor) {
	if !r.still(ctx, n.Digest, func(h *meta.Repo) bool {
		if _, err := h.LookBlob(ctx, b.Digest); !errors.Is(err, fs.ErrNotExist) {
			return false
		}
		_, err := h.LookManifest(ctx, n.Digest)
		return err == nil
	}, b.Digest) {
		return
	}
	hurts := r.images(n.Digest)
	e := r.look(ctx, b.Digest)
	f := finding{Fault: Fault{
		Kind: FaultUnlinked, Digest: b.Digest, What: "manifest " + string(n.Digest) + " names it, and it is not in the repository",
		Action: "push it again",
	}}
	switch {
	case e.state == dataGone:
		r.gone(ctx, n.Digest, b.Digest, b.Digest, hurts)
		return
	case r.s.sparse:
		// Anybody may name what they cannot read: naming it must not grant it.
		f.Action = "push it again: this server takes manifests without what they name"
	case r.verified(ctx, b.Digest):
		f.mend, f.in, f.Action = mendMember, n.Digest, "link it"
	case e.state != dataUnread:
		r.addBad(b.Digest, r.look(ctx, b.Digest), hurts...)
	}
	r.fault(f, hurts...)
}
