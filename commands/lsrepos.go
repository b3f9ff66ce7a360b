package commands

import (
	"context"
	"errors"
	"iter"
	"math"
	"strconv"
	"sync"
	"time"

	"github.com/regctl/regctl/client/oci"
)

const sumsMost = 500 // A longer list is one of names.

// repoSum is what the tags of a repository come to.
type repoSum struct {
	tags   int
	size   int64     // Of the different manifests they point to.
	pushed time.Time // The latest.
	more   bool      // There are more tags, that were not looked at.
}

func newRepoSum(details []oci.TagDetail, more bool) *repoSum {
	s := &repoSum{tags: len(details), more: more}
	seen := map[oci.Digest]bool{}
	for _, d := range details {
		if !seen[d.Manifest.Digest] {
			seen[d.Manifest.Digest] = true
			s.size += d.Size
		}
		if d.Pushed.After(s.pushed) {
			s.pushed = d.Pushed
		}
	}
	return s
}

// cells are TAGS, SIZE and PUSHED; s is nil if they could not be had.
func (s *repoSum) cells(now time.Time) []string {
	switch {
	case s == nil:
		return []string{"?", "?", "?"}
	case s.tags == 0:
		return []string{"0", "0 B", "-"}
	}
	tags, size, pushed := strconv.Itoa(s.tags), humanSize(s.size), ago(now, s.pushed)
	if s.more {
		tags, size = tags+"+", "≥"+size
		if !s.pushed.IsZero() && now.Sub(s.pushed) >= time.Minute { // Nothing is later than just now.
			pushed = "≤" + pushed
		}
	}
	return []string{tags, size, pushed}
}

// summed adds to repositories what their tags come to, if there are not too
// many of them and the registry is one of ours.
func (l *lister) summed(ctx context.Context, repos iter.Seq2[lsItem, error]) iter.Seq2[lsItem, error] {
	return func(yield func(lsItem, error) bool) {
		next, stop := iter.Pull2(repos)
		defer stop()
		if l.wide {
			l.sumAll(ctx, next, yield)
			return
		}
		most := sumsMost + 1
		if l.o.Limit > 0 {
			most = min(most, l.o.Limit)
		}
		first, err := take(next, most)
		given := unsummed(first)
		switch {
		case len(first) > sumsMost:
			l.env.say("more than %d repositories, so names only; for tags and sizes: --include PATTERN or --limit N", sumsMost)
		case err == nil:
			given = l.sums(ctx, first)
		}
		for item, err := range given {
			if !yield(item, err) {
				return
			}
		}
		if err != nil {
			yield(lsItem{}, err)
			return
		}
		for {
			item, err, ok := next()
			if !ok || !yield(item, err) {
				return
			}
		}
	}
}

// sumAll adds up every repository, whatever it takes.
func (l *lister) sumAll(ctx context.Context, next func() (lsItem, error, bool), yield func(lsItem, error) bool) {
	all, err := take(next, math.MaxInt)
	if l.o.Limit > 0 && l.o.Sort == "" {
		all = all[:min(len(all), l.o.Limit)]
	}
	for item, err := range inOrder(ctx, l.o.Jobs, all, l.sum) {
		if err != nil && !yield(item, err) || !yield(item, nil) {
			return
		}
	}
	if err != nil {
		yield(lsItem{}, err)
	}
}

// take returns the first items that next has, at most n.
func take(next func() (lsItem, error, bool), n int) ([]lsItem, error) {
	var items []lsItem
	for len(items) < n {
		item, err, ok := next()
		if err != nil || !ok {
			return items, err
		}
		items = append(items, item)
	}
	return items, nil
}

func unsummed(repos []lsItem) iter.Seq2[lsItem, error] {
	return func(yield func(lsItem, error) bool) {
		for _, item := range repos {
			if !yield(item, nil) {
				return
			}
		}
	}
}

// sums asks about each of repos, unless the first answer tells that the
// registry is not one of ours. A repository that cannot be told of comes with
// its error, and then without.
func (l *lister) sums(ctx context.Context, repos []lsItem) iter.Seq2[lsItem, error] {
	return func(yield func(lsItem, error) bool) {
		if len(repos) == 0 {
			return
		}
		item, err := l.sum(ctx, repos[0])
		l.details = err == nil
		if !l.details && ctx.Err() == nil {
			unsummed(repos)(yield)
			return
		}
		if !yield(item, err) {
			return
		}
		for item, err := range inOrder(ctx, l.o.Jobs, repos[1:], l.sum) {
			if err != nil && !yield(item, err) || !yield(item, nil) {
				return
			}
		}
	}
}

// sum asks what the tags of a repository come to.
func (l *lister) sum(ctx context.Context, item lsItem) (lsItem, error) {
	details, more, err := l.firstDetails(ctx, item.Repo)
	if (l.details || l.wide) && (errors.Is(err, oci.NameUnknown) || errors.Is(err, oci.NotFound)) {
		err = nil // It is gone meanwhile: it has no tags.
	}
	if err == nil {
		item.sum = newRepoSum(details, more)
	}
	return item, err
}

// firstDetails describes the tags of a repository: a page of them by one
// request, or all if they are wanted whatever they cost.
func (l *lister) firstDetails(ctx context.Context, repo string) (details []oci.TagDetail, more bool, err error) {
	if reg, ok := l.reg.(firstPage); ok {
		details, more, err = reg.FirstTagDetails(ctx, repo)
		if err == nil && !more || !l.wide {
			return details, more, err
		}
	}
	details = nil
	for d, err := range l.reg.TagDetails(ctx, repo, "") {
		if err != nil {
			return nil, false, err
		}
		details = append(details, d)
	}
	return details, false, nil
}

// inOrder yields what ask makes of each of items, and asks for so
// many at the same time.
func inOrder(ctx context.Context, jobs int, items []lsItem, ask func(context.Context, lsItem) (lsItem, error)) iter.Seq2[lsItem, error] {
	type answer struct {
		item lsItem
		err  error
	}
	return func(yield func(lsItem, error) bool) {
		asking, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		queue := make(chan chan answer, jobs-1)
		running.Go(func() {
			defer close(queue)
			for _, item := range items {
				answered := make(chan answer, 1)
				select {
				case queue <- answered:
				case <-asking.Done():
					return
				}
				running.Go(func() {
					item, err := ask(asking, item)
					answered <- answer{item, err}
				})
			}
		})
		for answered := range queue {
			if a := <-answered; !yield(a.item, a.err) {
				return
			}
		}
		if err := ctx.Err(); err != nil {
			yield(lsItem{}, err)
		}
	}
}
