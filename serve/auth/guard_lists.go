package auth

import (
	"context"
	"iter"
	"slices"
	"strings"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/auth/rule"
)

// Repos implements [oci.Lister]. It lists what the caller may see, and looks
// only where that can be.
func (g *guard) Repos(ctx context.Context, after string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		c, err := g.asker(ctx)
		if err == nil {
			err = c.mayHave(c.policy, c.addr, nameCatalog)
		}
		if err != nil {
			yield("", err)
			return
		}
		for _, r := range c.ranges() {
			if r.To != "" && after >= r.To {
				continue
			}
			if !c.repos(ctx, r, max(after, before(r.From)), yield) || r.To == "" {
				return
			}
			after = max(after, before(r.To)) // Ranges may overlap.
		}
	}
}

// repos yields the names of r that c may see, and tells whether to go on.
func (c *asker) repos(ctx context.Context, r rule.Range, after string, yield func(string, error) bool) bool {
	for name, err := range c.guard.reg.Repos(ctx, after) {
		if err != nil {
			yield("", err)
			return false
		}
		if r.To != "" && name >= r.To {
			break
		}
		if c.decide(c.policy, c.addr, name, "", rule.List).Allowed && !yield(name, nil) {
			return false
		}
	}
	return true
}

// ranges are where the repositories are that c may see, by their beginnings.
func (c *asker) ranges() []rule.Range {
	switch {
	case !c.ruled():
		return []rule.Range{{}}
	case c.Limit == nil:
		return c.policy.Ranges(c.subject(c.addr), rule.List)
	}
	all := append(c.Limit.Ranges(c.subject(c.addr), rule.List), c.policy.Ranges(anybody(c.addr), rule.List)...)
	slices.SortStableFunc(all, func(a, b rule.Range) int { return strings.Compare(a.From, b.From) })
	return all
}

// before is a string that sorts before from, with no name of a repository
// between the two: names are ASCII.
func before(from string) string {
	if from == "" {
		return ""
	}
	head, last := from[:len(from)-1], from[len(from)-1]
	if last == 0 {
		return head
	}
	return head + string([]byte{last - 1, 0xff})
}

// Tags implements [oci.Lister].
func (g *guard) Tags(ctx context.Context, repo, after string) iter.Seq2[string, error] {
	return allowed(g, ctx, repo, func() iter.Seq2[string, error] { return g.reg.Tags(ctx, repo, after) })
}

// TagDetails implements [oci.Lister].
func (g *guard) TagDetails(ctx context.Context, repo, after string) iter.Seq2[oci.TagDetail, error] {
	return allowed(g, ctx, repo, func() iter.Seq2[oci.TagDetail, error] { return g.reg.TagDetails(ctx, repo, after) })
}

// Referrers implements [oci.Lister].
func (g *guard) Referrers(ctx context.Context, repo string, d oci.Digest, artifactType string) iter.Seq2[oci.Descriptor, error] {
	return allowed(g, ctx, repo, func() iter.Seq2[oci.Descriptor, error] { return g.reg.Referrers(ctx, repo, d, artifactType) })
}

// allowed is a list of what is in repo, for who may pull there.
func allowed[T any](g *guard, ctx context.Context, repo string, list func() iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		if _, err := g.may(ctx, repo, "", rule.Pull); err != nil {
			var none T
			yield(none, err)
			return
		}
		list()(yield)
	}
}
