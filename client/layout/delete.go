package layout

import (
	"context"
	"slices"

	"github.com/regctl/regctl/client/oci"
)

// DeleteTag is that of [oci.Deleter].
func (d *Directory) DeleteTag(_ context.Context, repo, tag string, was oci.Digest) error {
	errs := []error{oci.CheckRepo(repo), oci.CheckTag(tag)}
	if was != "" {
		errs = append(errs, checkDigest(was))
	}
	if err := first(errs...); err != nil {
		return err
	}
	return d.change(repo, func(e *edit) error {
		m := e.view.repos[repo]
		if m == nil || m.tags[tag].Digest == "" {
			return oci.Errorf(oci.ManifestUnknown, "no tag %s in %s", tag, repo)
		}
		if at := m.tags[tag].Digest; was != "" && was != at {
			return oci.Errorf(oci.TagMoved, "tag %s points to %s", tag, at)
		}
		for i, entry := range e.entries {
			if e.mine(entry) && nameOf(entry).Tag == tag {
				e.entries[i] = rename(entry, repo, "")
			}
		}
		return nil
	})
}

// DeleteManifest is that of [oci.Deleter]. Its file goes, too, unless another
// repository has the manifest.
func (d *Directory) DeleteManifest(_ context.Context, repo string, of oci.Digest) error {
	if err := first(oci.CheckRepo(repo), checkDigest(of)); err != nil {
		return err
	}
	return d.removing(repo, func(e *edit) ([]oci.Digest, error) {
		m, err := d.close(e.view, repo)
		if err != nil {
			return nil, err
		}
		if m == nil || m.manifests[of] == nil {
			return nil, oci.Errorf(oci.ManifestUnknown, "no manifest %s in %s", of, repo)
		}
		for by, n := range m.manifests {
			if slices.ContainsFunc(n.children, func(c oci.Descriptor) bool { return c.Digest == of }) {
				return nil, oci.Errorf(oci.Unsupported, "index %s names %s", by, of)
			}
		}
		e.entries = slices.DeleteFunc(e.entries, func(entry oci.Descriptor) bool { return e.mine(entry) && entry.Digest == of })
		for _, child := range m.manifests[of].children {
			if m.manifests[child.Digest] != nil && !e.has(child.Digest) {
				e.add(child, "")
			}
		}
		return []oci.Digest{of}, nil
	})
}

// DeleteRepo is that of [oci.Deleter]. The files of what no other repository
// has go, too.
func (d *Directory) DeleteRepo(_ context.Context, repo string) error {
	if err := oci.CheckRepo(repo); err != nil {
		return err
	}
	return d.removing(repo, func(e *edit) ([]oci.Digest, error) {
		m, err := d.close(e.view, repo)
		if err != nil {
			return nil, err
		}
		if m == nil && len(d.pushed[repo]) == 0 {
			return nil, unknownRepo(repo)
		}
		var all []oci.Digest
		for of := range d.pushed[repo] {
			all = append(all, of)
		}
		if m != nil {
			for of := range m.manifests {
				all = append(all, of)
			}
			for of := range m.blobs {
				all = append(all, of)
			}
		}
		e.entries = slices.DeleteFunc(e.entries, e.mine)
		delete(d.pushed, repo)
		return all, d.uploads.end(d, repo)
	})
}

// removing edits index.json and then removes of what the edit returned the
// files that nobody needs any more.
func (d *Directory) removing(repo string, do func(*edit) ([]oci.Digest, error)) error {
	var gone []oci.Digest
	return d.changeThen(repo, func(e *edit) (err error) {
		gone, err = do(e)
		return err
	}, func(v *view) error {
		for _, of := range gone {
			u, err := d.users(v, of)
			if err != nil {
				return err
			}
			if u == (use{}) {
				if err := d.remove(of); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// DeleteBlob is that of [oci.Deleter]. The file goes, too, unless another
// repository has the blob.
func (d *Directory) DeleteBlob(_ context.Context, repo string, of oci.Digest) error {
	if err := first(oci.CheckRepo(repo), checkDigest(of)); err != nil {
		return err
	}
	return d.removing(repo, func(e *edit) ([]oci.Digest, error) {
		if _, ok, err := d.has(repo, of); err != nil {
			return nil, err
		} else if !ok {
			return nil, unknownBlob(repo, of)
		}
		if m, err := d.close(e.view, repo); err != nil {
			return nil, err
		} else if m != nil && m.blobs[of] {
			return nil, oci.Errorf(oci.Unsupported, "a manifest of %s names %s", repo, of)
		}
		delete(d.pushed[repo], of)
		return []oci.Digest{of}, nil
	})
}
