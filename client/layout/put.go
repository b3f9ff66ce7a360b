package layout

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
)

// PutManifest is that of [oci.Writer]. It is durable when it returns.
func (d *Directory) PutManifest(_ context.Context, repo string, p oci.Put) (oci.Descriptor, error) {
	n, err := checkPut(repo, p)
	if err != nil {
		return oci.Descriptor{}, err
	}
	err = d.change(repo, func(e *edit) error {
		if err := d.checkBlobs(repo, n.graph); err != nil {
			return err
		}
		for _, tag := range p.Tags {
			if err := e.setTag(tag, n.desc, p.Keeps(tag)); err != nil {
				return err
			}
		}
		if len(p.Tags) == 0 && !e.has(n.desc.Digest) {
			e.add(n.desc, "")
		}
		if err := d.replace(blobName(n.desc.Digest), p.Raw); err != nil {
			return fmt.Errorf("store manifest %s: %w", n.desc.Digest, err)
		}
		delete(d.known, n.desc.Digest) // It was stored now.
		return nil
	})
	return n.desc, err
}

// checkPut checks what can be told from the arguments alone.
func checkPut(repo string, p oci.Put) (*node, error) {
	errs := []error{oci.CheckRepo(repo)}
	if p.Digest != "" {
		errs = append(errs, checkDigest(p.Digest))
	}
	for _, tag := range p.Tags {
		errs = append(errs, oci.CheckTag(tag))
	}
	if err := first(errs...); err != nil {
		return nil, err
	}
	if len(p.Raw) > oci.MaxManifest {
		return nil, oci.Errorf(oci.ManifestTooLarge, "manifest of %d bytes, at most %d are allowed", len(p.Raw), oci.MaxManifest)
	}
	like := p.Digest
	if like == "" {
		like = "sha256:"
	}
	d := like.Algorithm().FromBytes(p.Raw)
	if p.Digest != "" && p.Digest != d {
		return nil, oci.Errorf(oci.DigestInvalid, "manifest has digest %s, not %s", d, p.Digest)
	}
	if _, err := oci.ParseManifest(p.MediaType, p.Raw); err != nil {
		return nil, err
	}
	return newNode(d, p.Raw), nil
}

// checkBlobs wants all that an image is made of.
func (d *Directory) checkBlobs(repo string, g *oci.Graph) error {
	for _, b := range g.Blobs() {
		size, ok, err := d.has(repo, b.Digest)
		switch {
		case err != nil:
			return err
		case !ok:
			return oci.Errorf(oci.ManifestBlobUnknown, "no blob %s in %s", b.Digest, repo)
		case size != b.Size && !d.pushed[repo][b.Digest]: // Ours were verified.
			return oci.Errorf(oci.ManifestBlobUnknown, "blob %s is damaged: it has %d bytes, the manifest says %d", b.Digest, size, b.Size)
		}
	}
	return nil
}

// edit is a change of the entries of one repository.
type edit struct {
	view    *view
	repo    string
	entries []oci.Descriptor // Of all repositories.
}

// change edits index.json under the lock. If the edit fails nothing changes.
func (d *Directory) change(repo string, do func(*edit) error) error {
	return d.changeThen(repo, do, func(*view) error { return nil })
}

// changeThen does something more, still under the lock, once index.json is as
// it shall be.
func (d *Directory) changeThen(repo string, do func(*edit) error, then func(*view) error) error {
	unlock, err := d.lock()
	if err != nil {
		return err
	}
	defer unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	v, err := d.view()
	if err != nil {
		return err
	}
	e := &edit{view: v, repo: repo, entries: slices.Clone(v.index.Manifests)}
	if err := do(e); err != nil {
		return err
	}
	d.tidy(e)
	if err := d.write(e); err != nil {
		return err
	}
	if v, err = d.view(); err != nil {
		return err
	}
	return then(v)
}

// write replaces index.json if it changes.
func (d *Directory) write(e *edit) error {
	index := e.view.index
	index.Manifests = e.entries
	if index.Manifests == nil {
		index.Manifests = []oci.Descriptor{}
	}
	raw := mustJSON(index)
	if bytes.Equal(raw, mustJSON(e.view.index)) {
		return nil
	}
	return d.replace(ocispec.ImageIndexFile, raw)
}

func (e *edit) mine(entry oci.Descriptor) bool { return nameOf(entry).Repo == e.repo }

// has tells whether an entry of the repository names d.
func (e *edit) has(d oci.Digest) bool {
	return slices.ContainsFunc(e.entries, func(entry oci.Descriptor) bool { return entry.Digest == d && e.mine(entry) })
}

func (e *edit) add(d oci.Descriptor, tag string) {
	e.entries = append(e.entries, rename(plain(d), e.repo, tag))
}

// setTag moves a tag. What it pointed to stays, without a name.
func (e *edit) setTag(tag string, to oci.Descriptor, noOverwrite bool) error {
	set := false
	for i, entry := range e.entries {
		if !e.mine(entry) || nameOf(entry).Tag != tag {
			continue
		}
		if entry.Digest == to.Digest {
			set = true
			continue
		}
		if noOverwrite {
			return oci.Errorf(oci.TagExists, "tag %s points to %s", tag, entry.Digest)
		}
		e.entries[i] = rename(entry, e.repo, "")
	}
	if !set {
		e.add(to, tag)
	}
	return nil
}

// tidy takes away entries without a tag that others of the repository lead to:
// to most tools every entry is an image of its own.
func (d *Directory) tidy(e *edit) {
	below := map[oci.Digest]bool{}
	for _, entry := range e.entries {
		if e.mine(entry) {
			if err := d.descend(entry.Digest, below); err != nil {
				return // In doubt all stay.
			}
		}
	}
	kept := map[oci.Digest]bool{}
	for _, entry := range e.entries {
		if e.mine(entry) && nameOf(entry).Tag != "" {
			kept[entry.Digest] = true
		}
	}
	e.entries = slices.DeleteFunc(e.entries, func(entry oci.Descriptor) bool {
		if !e.mine(entry) || nameOf(entry).Tag != "" {
			return false
		}
		if below[entry.Digest] || kept[entry.Digest] {
			return true
		}
		kept[entry.Digest] = true
		return false
	})
}

// descend gathers the manifests below d.
func (d *Directory) descend(from oci.Digest, below map[oci.Digest]bool) error {
	n, err := d.node(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, child := range n.children {
		if below[child.Digest] {
			continue
		}
		below[child.Digest] = true
		if err := d.descend(child.Digest, below); err != nil {
			return err
		}
	}
	return nil
}
