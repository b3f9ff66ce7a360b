package serve

import (
	"context"
	"slices"

	"github.com/regctl/regctl/serve/auth"
	"github.com/regctl/regctl/serve/state"
)

// GuardDeletions returns ds for callers who may not see everything: each sees
// what it might have deleted itself, by the rules as they are then. List
// returns an [*auth.DeniedError] to who may delete nothing.
func GuardDeletions(ds Deletions, rules *auth.Rules) Deletions { return &guardedDeletions{ds, rules} }

// guardedBatch is how many records are looked through at a time.
const guardedBatch = 1000

type guardedDeletions struct {
	all   Deletions
	rules *auth.Rules
}

// List implements [Deletions].
func (g *guardedDeletions) List(ctx context.Context, o state.ListOptions) ([]state.Deletion, error) {
	sees, reads, err := g.rules.Deletions(ctx)
	if err != nil {
		return nil, err
	}
	want := max(o.N, 1)
	o.N = max(want, guardedBatch) // Who sees little is not kept waiting.
	var all []state.Deletion
	for len(all) < want && (len(all) == 0 || !o.Raw) { // Manifests fill a page before.
		page, err := g.all.List(ctx, o)
		if err != nil {
			return nil, err
		}
		if len(page) == 0 {
			break
		}
		o.After = page[len(page)-1].ID
		all = append(all, slices.DeleteFunc(page, func(d state.Deletion) bool { return !sees(d.Repo, d.Tag) })...)
	}
	all = all[:min(len(all), want)]
	for i := range all {
		if len(all[i].Raw) > 0 && !reads(all[i].Repo) {
			all[i].Raw = nil
		}
	}
	return all, nil
}
