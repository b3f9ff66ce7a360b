package serve

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/state"
)

// JournalStore is a registry that tells of itself what [WithJournal] takes
// down. A [store.Store] is one.
type JournalStore interface {
	oci.Registry

	// TagAt returns where a tag points, whether or not that is there.
	// Errors: [oci.ManifestUnknown].
	TagAt(ctx context.Context, repo, tag string) (oci.Digest, error)
	// TagsOf returns the tags that point to a manifest.
	TagsOf(ctx context.Context, repo string, d oci.Digest) ([]string, error)
	// ManifestsOf returns all manifests of a repository.
	ManifestsOf(ctx context.Context, repo string) ([]oci.Digest, error)
	// Restore makes a blob a member of a repository if its bytes are there.
	Restore(ctx context.Context, repo string, d oci.Digest) (bool, error)
}

// WithJournal returns reg with a record in st of everything that is deleted,
// durable before it goes, and of when manifests were last pulled. What cannot
// be recorded is not deleted, but for one reason: on a full disk it is, for
// that is what makes room; then log is told that it cannot be undone.
//
// A blob that a repository had until it was deleted, and whose bytes are still
// there, can be mounted by that repository from itself.
//
// Nil arguments: with no st reg is returned as it is, log discards, now is
// [time.Now].
func WithJournal(reg JournalStore, st *state.State, log *slog.Logger, now func() time.Time) oci.Registry {
	if st == nil {
		return reg
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if now == nil {
		now = time.Now
	}
	return &journal{JournalStore: reg, state: st, log: log, now: now}
}

// memory is what a journal is kept in: a [state.State].
type memory interface {
	Record(ctx context.Context, ds ...state.Deletion) error
	Forget(ctx context.Context, ids ...int64) error
	WasDeleted(ctx context.Context, repo, kind string, d oci.Digest) (bool, error)
	Pulled(repo string, d oci.Digest, at time.Time)
	LastPulled(ctx context.Context, repo string, digests ...oci.Digest) (map[oci.Digest]time.Time, error)
}

type journal struct {
	JournalStore
	state memory
	log   *slog.Logger
	now   func() time.Time
}

// deletion returns a record by the caller of ctx.
func (j *journal) deletion(ctx context.Context, kind, repo string, d oci.Digest) state.Deletion {
	c := oci.CallerFrom(ctx)
	return state.Deletion{At: j.now(), Run: c.Run, Kind: kind, Repo: repo, Digest: d, By: c.Name, Addr: c.Addr}
}

// record makes records durable. Then they may be deleted.
func (j *journal) record(ctx context.Context, ds []state.Deletion) error {
	err := j.state.Record(ctx, ds...)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, state.ErrFull):
		for _, d := range ds {
			j.log.LogAttrs(ctx, slog.LevelWarn, "the disk is full: a deletion is not recorded and cannot be undone",
				slog.String("kind", d.Kind), slog.String("repo", d.Repo), slog.String("tag", d.Tag), slog.String("digest", string(d.Digest)))
		}
		return nil
	}
	return &oci.Error{Code: oci.Unknown, Message: "the deletion cannot be recorded, so nothing is deleted; the server's log says why", Err: err}
}

// done forgets the records of a deletion that was refused. One that failed in
// any other way may have been half done: its records do no harm.
func (j *journal) done(ctx context.Context, ids []int64, err error) error {
	for _, refusal := range []oci.Code{oci.ManifestUnknown, oci.BlobUnknown, oci.NameUnknown, oci.TagMoved, oci.Unsupported, oci.Denied} {
		if !errors.Is(err, refusal) {
			continue
		}
		if err := j.state.Forget(ctx, ids...); err != nil {
			j.log.LogAttrs(ctx, slog.LevelWarn, "a record stays of what was not deleted", slog.Any("error", err))
		}
		break
	}
	return err
}

// idsOf returns the numbers of those that were recorded.
func idsOf(ds []state.Deletion) []int64 {
	var ids []int64
	for _, d := range ds {
		if d.ID != 0 {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

// DeleteTag implements [oci.Deleter].
func (j *journal) DeleteTag(ctx context.Context, repo, tag string, was oci.Digest) error {
	if was != "" {
		if _, err := oci.ParseDigest(string(was)); err != nil {
			return err
		}
	}
	for {
		at, err := j.TagAt(ctx, repo, tag)
		if err != nil {
			return err
		}
		if was != "" && at != was {
			return oci.Errorf(oci.TagMoved, "%s:%s does not point to %s any more", repo, tag, was)
		}
		d := j.deletion(ctx, state.KindTag, repo, at)
		d.Tag = tag
		ds := []state.Deletion{d}
		if err := j.record(ctx, ds); err != nil {
			return err
		}
		err = j.done(ctx, idsOf(ds), j.JournalStore.DeleteTag(ctx, repo, tag, at))
		if was != "" || !errors.Is(err, oci.TagMoved) || ctx.Err() != nil {
			return err
		} // Somebody moved it between record and deletion.
	}
}

// DeleteManifest implements [oci.Deleter].
func (j *journal) DeleteManifest(ctx context.Context, repo string, d oci.Digest) error {
	tags, err := j.TagsOf(ctx, repo, d)
	if err != nil {
		return err
	}
	m, err := j.manifest(ctx, repo, d)
	if err != nil {
		return err
	}
	ds := []state.Deletion{m}
	for _, tag := range tags {
		t := j.deletion(ctx, state.KindTag, repo, d)
		t.Tag, t.MediaType = tag, m.MediaType
		ds = append(ds, t)
	}
	if err := j.record(ctx, ds); err != nil {
		return err
	}
	return j.done(ctx, idsOf(ds), j.JournalStore.DeleteManifest(ctx, repo, d))
}

// manifest returns the record of a manifest with its bytes. One that is damaged
// cannot be put back, and is deleted without.
func (j *journal) manifest(ctx context.Context, repo string, d oci.Digest) (state.Deletion, error) {
	r := j.deletion(ctx, state.KindManifest, repo, d)
	m, err := j.JournalStore.Manifest(ctx, repo, string(d))
	switch {
	case ctx.Err() != nil:
		return r, ctx.Err()
	case errors.Is(err, oci.ManifestUnknown), errors.Is(err, oci.NameInvalid), errors.Is(err, oci.DigestInvalid):
		return r, err
	case err != nil:
		j.log.LogAttrs(ctx, slog.LevelWarn, "a manifest that cannot be read is about to be deleted, and cannot be put back",
			slog.String("repo", repo), slog.String("digest", string(d)), slog.Any("error", err))
		return r, nil
	}
	r.MediaType, r.Raw = m.Descriptor.MediaType, m.Raw
	return r, nil
}

// DeleteBlob implements [oci.Deleter].
func (j *journal) DeleteBlob(ctx context.Context, repo string, d oci.Digest) error {
	if _, err := j.StatBlob(ctx, repo, d); err != nil {
		return err
	}
	ds := []state.Deletion{j.deletion(ctx, state.KindBlob, repo, d)}
	if err := j.record(ctx, ds); err != nil {
		return err
	}
	return j.done(ctx, idsOf(ds), j.JournalStore.DeleteBlob(ctx, repo, d))
}

// Manifest implements [oci.Reader]. It is a pull unless the caller only looks.
func (j *journal) Manifest(ctx context.Context, repo, ref string) (oci.Manifest, error) {
	m, err := j.JournalStore.Manifest(ctx, repo, ref)
	if err == nil && !oci.CallerFrom(ctx).Look {
		j.state.Pulled(repo, m.Descriptor.Digest, j.now())
	}
	return m, err
}

// MountBlob implements [oci.Writer]. A repository that mounts from itself wants
// back what it has lost.
func (j *journal) MountBlob(ctx context.Context, repo, from string, d oci.Digest) (oci.Upload, error) {
	if from == repo {
		had, err := j.state.WasDeleted(ctx, repo, state.KindBlob, d)
		if err != nil {
			j.log.LogAttrs(ctx, slog.LevelWarn, "cannot look whether a blob was deleted", slog.Any("error", err))
		}
		if had {
			if restored, err := j.Restore(ctx, repo, d); restored || err != nil {
				return nil, err
			}
		}
	}
	return j.JournalStore.MountBlob(ctx, repo, from, d)
}

// detailsAtOnce is for how many tags the pulls are asked at once.
const detailsAtOnce = 100

// TagDetails implements [oci.Lister].
func (j *journal) TagDetails(ctx context.Context, repo, after string) iter.Seq2[oci.TagDetail, error] {
	return func(yield func(oci.TagDetail, error) bool) {
		some := make([]oci.TagDetail, 0, detailsAtOnce)
		for d, err := range j.JournalStore.TagDetails(ctx, repo, after) {
			if err != nil {
				if j.yieldPulled(ctx, repo, some, yield) {
					yield(d, err)
				}
				return
			}
			if some = append(some, d); len(some) < detailsAtOnce {
				continue
			}
			if !j.yieldPulled(ctx, repo, some, yield) {
				return
			}
			some = some[:0]
		}
		j.yieldPulled(ctx, repo, some, yield)
	}
}

// yieldPulled adds when each was pulled. That it cannot be told is no reason to
// tell nothing.
func (j *journal) yieldPulled(ctx context.Context, repo string, some []oci.TagDetail, yield func(oci.TagDetail, error) bool) bool {
	if len(some) == 0 {
		return true
	}
	digests := make([]oci.Digest, len(some))
	for i, d := range some {
		digests[i] = d.Manifest.Digest
	}
	last, err := j.state.LastPulled(ctx, repo, digests...)
	if err != nil && ctx.Err() == nil {
		j.log.LogAttrs(ctx, slog.LevelWarn, "cannot tell when images were pulled", slog.Any("error", err))
	}
	for _, d := range some {
		d.Pulled = last[d.Manifest.Digest]
		if !yield(d, nil) {
			return false
		}
	}
	return true
}
