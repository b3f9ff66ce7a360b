package event

import (
	"context"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/state"
)

// delete deletes one thing, and what goes with it. What is not there is not
// announced: after a crash it would look deleted.
func (o *observer) delete(ctx context.Context, do func() error, gone ...draft) error {
	t := gone[0].target
	there, err := isThere(ctx, o.n.layout, state.Event{Kind: gone[0].kind, Repo: t.Repository, Tag: t.Tag, Digest: t.Digest})
	if err == nil && !there {
		return do() // It says so.
	}
	return o.n.change(ctx, o.n.rows(ctx, gone...), func() (bool, error) { return true, do() })
}

// DeleteTag implements [oci.Deleter].
func (o *observer) DeleteTag(ctx context.Context, repo, tag string, was oci.Digest) error {
	defer o.n.locks.lock(repo, ":"+tag)()
	gone := draft{ActionDelete, state.KindTag, Target{Repository: repo, Tag: tag}}
	return o.delete(ctx, func() error { return o.Registry.DeleteTag(ctx, repo, tag, was) }, gone)
}

// DeleteManifest implements [oci.Deleter]. Its tags go with it.
func (o *observer) DeleteManifest(ctx context.Context, repo string, d oci.Digest) error {
	defer o.n.locks.lock(repo)()
	tags, err := o.n.layout.TagsOf(ctx, repo, d)
	if err != nil {
		return err
	}
	gone := []draft{{ActionDelete, state.KindManifest, Target{Repository: repo, Digest: d}}}
	for _, tag := range tags {
		gone = append(gone, draft{ActionDelete, state.KindTag, Target{Repository: repo, Tag: tag}})
	}
	return o.delete(ctx, func() error { return o.Registry.DeleteManifest(ctx, repo, d) }, gone...)
}

// DeleteBlob implements [oci.Deleter].
func (o *observer) DeleteBlob(ctx context.Context, repo string, d oci.Digest) error {
	defer o.n.locks.lock(repo, string(d))()
	gone := draft{ActionDelete, state.KindBlob, Target{Repository: repo, Digest: d}}
	return o.delete(ctx, func() error { return o.Registry.DeleteBlob(ctx, repo, d) }, gone)
}

// DeleteRepo implements [oci.Deleter].
func (o *observer) DeleteRepo(ctx context.Context, repo string) error {
	defer o.n.locks.lock(repo)()
	gone := draft{ActionDelete, state.KindRepository, Target{Repository: repo}}
	return o.delete(ctx, func() error { return o.Registry.DeleteRepo(ctx, repo) }, gone)
}
