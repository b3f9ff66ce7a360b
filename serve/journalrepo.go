package serve

import (
	"context"
	"errors"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/state"
)

const (
	// recordsAtOnce and bytesAtOnce bound what is in memory of the records of
	// a repository.
	recordsAtOnce = 500
	bytesAtOnce   = 4 << 20
)

// DeleteRepo implements [oci.Deleter]. Its manifests, tags and the blobs of its
// images have a record each: nothing else leads to them then.
func (j *journal) DeleteRepo(ctx context.Context, repo string) error {
	r := &repoRecords{j: j, repo: repo, blobs: map[oci.Digest]bool{}}
	if err := r.all(ctx); err != nil {
		return err
	}
	return j.done(ctx, r.ids, j.JournalStore.DeleteRepo(ctx, repo))
}

// repoRecords takes down what is in a repository, some of it at a time.
type repoRecords struct {
	j       *journal
	repo    string
	blobs   map[oci.Digest]bool // That have a record.
	waiting []state.Deletion
	bytes   int     // Of manifests that wait.
	ids     []int64 // Of what was recorded.
}

func (r *repoRecords) all(ctx context.Context) error {
	for _, err := range r.j.Tags(ctx, r.repo, "") { // Is it there?
		if err != nil {
			return err
		}
		break
	}
	manifests, err := r.j.ManifestsOf(ctx, r.repo)
	if err != nil {
		return err
	}
	if err := r.add(ctx, r.j.deletion(ctx, state.KindRepository, r.repo, "")); err != nil {
		return err
	}
	for _, d := range manifests {
		m, err := r.j.manifest(ctx, r.repo, d)
		if errors.Is(err, oci.ManifestUnknown) {
			continue // Of its own accord.
		}
		if err != nil {
			return err
		}
		if err := r.add(ctx, m); err != nil {
			return err
		}
		if err := r.addBlobs(ctx, m); err != nil {
			return err
		}
	}
	if err := r.addTags(ctx); err != nil {
		return err
	}
	return r.write(ctx)
}

func (r *repoRecords) addBlobs(ctx context.Context, m state.Deletion) error {
	for _, d := range blobsOf(m.Raw) {
		if r.blobs[d] {
			continue
		}
		r.blobs[d] = true
		if err := r.add(ctx, r.j.deletion(ctx, state.KindBlob, r.repo, d)); err != nil {
			return err
		}
	}
	return nil
}

// blobsOf returns the blobs that an image needs.
func blobsOf(raw []byte) []oci.Digest {
	g, err := oci.ParseManifest("", raw)
	if err != nil || g.IsIndex() {
		return nil
	}
	digests := []oci.Digest{g.Config.Digest}
	for _, l := range g.Layers {
		digests = append(digests, l.Digest)
	}
	return digests
}

func (r *repoRecords) addTags(ctx context.Context) error {
	for tag, err := range r.j.Tags(ctx, r.repo, "") {
		if err != nil {
			return err
		}
		at, err := r.j.TagAt(ctx, r.repo, tag)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			continue // It went meanwhile, or cannot be read.
		}
		t := r.j.deletion(ctx, state.KindTag, r.repo, at)
		t.Tag = tag
		if err := r.add(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func (r *repoRecords) add(ctx context.Context, d state.Deletion) error {
	r.waiting = append(r.waiting, d)
	if r.bytes += len(d.Raw); len(r.waiting) < recordsAtOnce && r.bytes < bytesAtOnce {
		return nil
	}
	return r.write(ctx)
}

func (r *repoRecords) write(ctx context.Context) error {
	if err := r.j.record(ctx, r.waiting); err != nil {
		return err
	}
	r.ids = append(r.ids, idsOf(r.waiting)...)
	clear(r.waiting)
	r.waiting, r.bytes = r.waiting[:0], 0
	return nil
}
