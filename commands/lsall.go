package commands

import (
	"context"
	"errors"
	"iter"
	"sync"

	"github.com/regctl/regctl/client/oci"
)

const tagsAhead = 256 // Tags that wait of each repository.

// names is what allTags needs of a registry.
type names interface {
	Repos(ctx context.Context, after string) iter.Seq2[string, error]
}

// tagLister lists the tags of a repository.
type tagLister func(ctx context.Context, repo string) iter.Seq2[lsItem, error]

// repoTags are the tags of a repository while they come in. The error is valid
// once the channel is closed.
type repoTags struct {
	repo string
	tags chan lsItem
	err  error
}

// allTags lists every tag of every repository that skip does not name, in the
// order of the registry. It asks for so many repositories ahead of the one whose
// turn it is, and remembers no more of them than fits their channels. An item
// with an error and a repository says that this one could not be listed.
func allTags(ctx context.Context, ahead int, reg names, skip func(repo string) bool, tags tagLister) iter.Seq2[lsItem, error] {
	return func(yield func(lsItem, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		queue := make(chan *repoTags, ahead)
		running.Go(func() { enqueue(ctx, reg, skip, tags, queue, &running) })
		for r := range queue {
			for tag := range r.tags {
				if !yield(tag, nil) {
					return
				}
			}
			if r.err != nil && !yield(lsItem{Repo: r.repo}, r.err) {
				return
			}
		}
	}
}

// enqueue starts to list each repository as its turn comes near.
func enqueue(ctx context.Context, reg names, skip func(string) bool, tags tagLister, queue chan<- *repoTags, running *sync.WaitGroup) {
	defer close(queue)
	for repo, err := range reg.Repos(ctx, "") {
		if err == nil && skip(repo) {
			continue
		}
		r := &repoTags{repo: repo, tags: make(chan lsItem, tagsAhead), err: err}
		select {
		case queue <- r:
		case <-ctx.Done():
			return
		}
		if err != nil {
			close(r.tags)
			return
		}
		running.Go(func() { r.fill(ctx, tags(ctx, repo)) })
	}
}

// fill lists one repository. One that lost all its tags is still in the
// catalogue of some registries: it is empty.
func (r *repoTags) fill(ctx context.Context, tags iter.Seq2[lsItem, error]) {
	defer close(r.tags)
	for tag, err := range tags {
		if err != nil {
			if !errors.Is(err, oci.NameUnknown) && !errors.Is(err, oci.NotFound) {
				r.err = err
			}
			return
		}
		select {
		case r.tags <- tag:
		case <-ctx.Done():
			r.err = ctx.Err()
			return
		}
	}
}
