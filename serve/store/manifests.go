package store

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage"
)

// Resolve implements [oci.Reader].
func (s *Store) Resolve(ctx context.Context, repo, ref string) (oci.Descriptor, error) {
	r, d, err := s.open(ctx, repo, ref)
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer r.Close()
	f, err := s.touchManifest(ctx, r, d)
	return describe(d, f), translate(err, oci.ManifestUnknown, repo+"@"+string(d))
}

// touchManifest looks for a manifest for who tells somebody that it is there.
// With the manifest all that it names stays: see collection.
func (s *Store) touchManifest(ctx context.Context, r *meta.Repo, d oci.Digest) (meta.Manifest, error) {
	for {
		epoch := s.leases.touch(r.Name(), d)
		f, err := r.Manifest(ctx, d)
		if err != nil || !s.leases.changed(epoch) {
			return f, err
		}
	}
}

// Manifest implements [oci.Reader].
func (s *Store) Manifest(ctx context.Context, repo, ref string) (oci.Manifest, error) {
	r, d, err := s.open(ctx, repo, ref)
	if err != nil {
		return oci.Manifest{}, err
	}
	defer r.Close()
	f, err := s.touchManifest(ctx, r, d)
	if err != nil {
		return oci.Manifest{}, translate(err, oci.ManifestUnknown, at(repo, d))
	}
	raw, err := s.body(ctx, f.Content)
	return oci.Manifest{Descriptor: describe(d, f), Raw: raw}, translate(err, oci.ManifestUnknown, at(repo, d))
}

// open opens a repository and finds the digest of ref in it, which need not
// be there. The caller closes the repository if there is no error.
func (s *Store) open(ctx context.Context, repo, ref string) (*meta.Repo, oci.Digest, error) {
	if err := oci.CheckRepo(repo); err != nil {
		return nil, "", err
	}
	if err := oci.CheckRef(ref); err != nil {
		return nil, "", err
	}
	r := s.meta.Open(repo)
	if oci.IsDigest(ref) {
		return r, oci.Digest(ref), nil
	}
	tag, err := r.Tag(ctx, ref)
	if err != nil {
		r.Close()
		return nil, "", translate(err, oci.ManifestUnknown, repo+":"+ref)
	}
	return r, tag.Digest, nil
}

func describe(d oci.Digest, f meta.Manifest) oci.Descriptor {
	return oci.Descriptor{MediaType: f.MediaType, Digest: d, Size: f.Size}
}

// body returns the bytes of a manifest of at least one repository.
func (s *Store) body(ctx context.Context, content oci.Digest) ([]byte, error) {
	if raw, ok := s.bodies.get(content); ok {
		return raw, nil
	}
	raw, _, err := storage.Get(ctx, s.backend, meta.BlobKey(content), oci.MaxManifest)
	if err == nil {
		s.bodies.add(content, raw)
	}
	return raw, err
}

// PutManifest implements [oci.Writer].
func (s *Store) PutManifest(ctx context.Context, repo string, p oci.Put) (oci.Descriptor, error) {
	d, g, err := checkPut(repo, p)
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer s.call()()
	defer s.blobs.Lock(string(d))()
	defer s.leases.pin(repo, tagsLease)() // Before the repository is opened: see removeRemains.
	r := s.meta.Open(repo)
	defer r.Close()
	names := slices.DeleteFunc(g.Digests(), func(n oci.Digest) bool { return n == d })
	defer r.Pin(d, names)()
	pins := s.pinPush(repo, d, names, g.Subject)
	defer pins.release()
	if err := s.checkBlobs(ctx, r, g, pins); err != nil {
		return oci.Descriptor{}, err
	}
	if err := s.mayMove(ctx, r, d, p); err != nil {
		return oci.Descriptor{}, err
	}
	ctx = context.WithoutCancel(ctx) // What is begun on disk is finished, whether the client waits or not.
	f := meta.Describe(d, p.Raw, g)
	if err := s.put(ctx, r, d, f, p); err != nil {
		return oci.Descriptor{}, err
	}
	return describe(d, f), nil
}

// put stores a manifest, then moves the tags to it.
func (s *Store) put(ctx context.Context, r *meta.Repo, d oci.Digest, f meta.Manifest, p oci.Put) (err error) {
	var moves []*meta.Move
	defer func() {
		for _, v := range moves {
			err = errors.Join(err, v.Cancel(ctx)) // Nothing, if it was committed.
		}
	}()
	for _, tag := range p.Tags {
		v, err := r.PrepareMove(ctx, tag, d)
		if err != nil {
			return translate(err, oci.Unknown, "move tag "+r.Name()+":"+tag)
		}
		moves = append(moves, v)
	}
	if err := s.addManifest(ctx, r, d, f, p.Raw, moves); err != nil {
		return translate(err, oci.Unknown, "store manifest "+at(r.Name(), d))
	}
	for i, v := range moves {
		if err := v.Commit(ctx, p.Keeps(p.Tags[i])); err != nil {
			return tagExists(r.Name(), p.Tags[i], err)
		}
	}
	return nil
}

func tagExists(repo, tag string, err error) error {
	if errors.Is(err, meta.ErrChanged) {
		return &oci.Error{Code: oci.TagExists, Message: repo + ":" + tag + " exists and must not be overwritten", Err: err}
	}
	return translate(err, oci.Unknown, "move tag "+repo+":"+tag)
}

// checkPut checks everything that can be told from the request alone.
func checkPut(repo string, p oci.Put) (oci.Digest, *oci.Graph, error) {
	if err := oci.CheckRepo(repo); err != nil {
		return "", nil, err
	}
	for _, tag := range p.Tags {
		if err := oci.CheckTag(tag); err != nil {
			return "", nil, err
		}
	}
	if len(p.Raw) > oci.MaxManifest {
		return "", nil, oci.Errorf(oci.ManifestTooLarge, "manifest of %d bytes, at most %d are accepted", len(p.Raw), oci.MaxManifest)
	}
	d := p.Digest
	if d == "" {
		d = digest.FromBytes(p.Raw)
	} else if _, err := oci.ParseDigest(string(d)); err != nil {
		return "", nil, err
	}
	if got := d.Algorithm().FromBytes(p.Raw); got != d {
		return "", nil, oci.Errorf(oci.DigestInvalid, "the manifest received has digest %s, not %s", got, d)
	}
	g, err := oci.ParseManifest(p.MediaType, p.Raw)
	return d, g, err
}

// pins are all that a push holds.
type pins struct {
	leases   *leases
	releases []func()
}

func (p *pins) add(repo string, d oci.Digest) { p.releases = append(p.releases, p.leases.pin(repo, d)) }

func (p *pins) release() {
	for _, f := range p.releases {
		f()
	}
}

// pinPush pins a manifest, what it names and its subject.
func (s *Store) pinPush(repo string, d oci.Digest, names []oci.Digest, subject *oci.Descriptor) *pins {
	p := &pins{leases: s.leases}
	for _, n := range append([]oci.Digest{d}, names...) {
		p.add(repo, n)
		p.add("", n)
	}
	if subject != nil {
		p.add(repo, subject.Digest)
	}
	return p
}

// checkBlobs makes sure that all blobs of a manifest are members of the
// repository, bytes and all. Children of an index may be missing: it is sparse.
func (s *Store) checkBlobs(ctx context.Context, r *meta.Repo, g *oci.Graph, pins *pins) error {
	if s.sparse {
		return nil
	}
	for _, b := range g.Blobs() {
		content, _, err := s.touchMember(ctx, r, b.Digest)
		if err == nil {
			if content != b.Digest {
				pins.add("", content)
			}
			continue
		}
		if errors.Is(err, fs.ErrNotExist) {
			return oci.Errorf(oci.ManifestBlobUnknown, "the manifest names %s, which is not in %s; push it first", b.Digest, r.Name())
		}
		return translate(err, oci.Unknown, "look for "+at(r.Name(), b.Digest))
	}
	return nil
}

// mayMove refuses early what the moves would refuse after the manifest is in.
func (s *Store) mayMove(ctx context.Context, r *meta.Repo, d oci.Digest, p oci.Put) error {
	for _, tag := range p.Tags {
		if !p.Keeps(tag) {
			continue
		}
		t, err := r.Tag(ctx, tag)
		switch {
		case err == nil && t.Digest != d:
			return tagExists(r.Name(), tag, meta.ErrChanged)
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return translate(err, oci.Unknown, "read tag "+tag)
		}
	}
	return nil
}

// addManifest stores and links a manifest. Its bytes are written unless they
// are there and right. The caller holds the digest.
func (s *Store) addManifest(ctx context.Context, r *meta.Repo, d oci.Digest, f meta.Manifest, raw []byte, moves []*meta.Move) error {
	var data storage.Writer
	old, _, err := storage.Get(ctx, s.backend, meta.BlobKey(d), oci.MaxManifest)
	if err != nil || !bytes.Equal(old, raw) {
		p, err := storage.Prepare(ctx, s.backend, meta.BlobKey(d), raw)
		if err != nil {
			return err
		}
		data = p.Writer
	}
	if err := r.AddManifest(ctx, d, f, data, moves...); err != nil {
		return err
	}
	s.bodies.add(d, raw)
	return nil
}

// DeleteTag implements [oci.Deleter].
func (s *Store) DeleteTag(ctx context.Context, repo, tag string, was oci.Digest) error {
	if err := oci.CheckRepo(repo); err != nil {
		return err
	}
	if err := oci.CheckTag(tag); err != nil {
		return err
	}
	if was != "" {
		if _, err := oci.ParseDigest(string(was)); err != nil {
			return err
		}
	}
	r := s.meta.Open(repo)
	defer r.Close()
	err := r.RemoveTag(context.WithoutCancel(ctx), tag, was)
	if errors.Is(err, meta.ErrChanged) {
		return &oci.Error{Code: oci.TagMoved, Message: repo + ":" + tag + " does not point to " + string(was) + " any more", Err: err}
	}
	return translate(err, oci.ManifestUnknown, repo+":"+tag)
}

// DeleteManifest implements [oci.Deleter].
func (s *Store) DeleteManifest(ctx context.Context, repo string, d oci.Digest) error {
	if err := checkRepoAndDigest(repo, d); err != nil {
		return err
	}
	r := s.meta.Open(repo)
	defer r.Close()
	defer r.Pin(d, nil)()
	if _, err := r.Manifest(ctx, d); err != nil {
		return translate(err, oci.ManifestUnknown, at(repo, d))
	}
	if err := refuseNamed(ctx, r, d); err != nil {
		return err
	}
	tags, err := r.TagsOf(ctx, d)
	if err != nil {
		return translate(err, oci.Unknown, "list the tags of "+repo)
	}
	ctx = context.WithoutCancel(ctx)
	for _, tag := range tags {
		err := r.RemoveTag(ctx, tag, d)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, meta.ErrChanged) {
			return translate(err, oci.Unknown, "remove tag "+repo+":"+tag)
		}
	}
	return translate(r.RemoveManifest(ctx, d), oci.ManifestUnknown, at(repo, d))
}

// refuseNamed returns an error if a manifest of the repository names d: what
// was accepted together stays together.
func refuseNamed(ctx context.Context, r *meta.Repo, d oci.Digest) error {
	namers, err := r.Namers(ctx, d)
	if err != nil {
		return translate(err, oci.Unknown, "read the manifests of "+r.Name())
	}
	if len(namers) > 0 {
		return oci.Errorf(oci.Unsupported, "%s is needed by manifest %s of %s; delete that first", d, namers[0], r.Name())
	}
	return nil
}

// DeleteRepo implements [oci.Deleter].
func (s *Store) DeleteRepo(ctx context.Context, repo string) error {
	if err := oci.CheckRepo(repo); err != nil {
		return err
	}
	found, err := s.meta.Remove(context.WithoutCancel(ctx), repo)
	if err == nil && !found {
		err = fs.ErrNotExist
	}
	s.dropSessions(repo)
	return translate(err, oci.NameUnknown, repo)
}
