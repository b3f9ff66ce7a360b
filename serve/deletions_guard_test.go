package serve

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/auth"
	"github.com/regctl/regctl/serve/auth/rule"
	"github.com/regctl/regctl/serve/state"
)

// deleted is a record of deletions in memory. A page with manifests has five.
type deleted struct {
	all   []state.Deletion
	pages int
}

func (d *deleted) List(_ context.Context, o state.ListOptions) ([]state.Deletion, error) {
	d.pages++
	n := max(o.N, 1)
	if o.Raw {
		n = min(n, 5)
	}
	i := slices.IndexFunc(d.all, func(d state.Deletion) bool { return d.ID > o.After })
	if i < 0 {
		return nil, nil
	}
	return slices.Clone(d.all[i:min(i+n, len(d.all))]), nil
}

// A page is full unless it is the last, however little of it all may be seen.
func TestGuardedDeletionsArePaged(t *testing.T) {
	t.Parallel()
	policy, err := rule.Compile([]rule.Rule{{Who: []string{"user:bob"}, What: []string{"bob/**"}, May: []string{"delete"}}})
	if err != nil {
		t.Fatal(err)
	}
	all := &deleted{}
	var want []int64
	for id := int64(1); id <= 5000; id++ {
		repo := "other/app"
		if id%700 == 0 || id > 4990 {
			repo, want = "bob/app", append(want, id)
		}
		all.all = append(all.all, state.Deletion{ID: id, Repo: repo, Tag: strconv.FormatInt(id, 10)})
	}
	guarded := GuardDeletions(all, auth.NewRules(policy))
	bob := auth.WithSession(t.Context(), &auth.Session{Identity: auth.Identity{Kind: rule.User, Name: "bob"}, Ruled: true})
	for _, o := range []state.ListOptions{{N: 1}, {N: 3}, {N: 7}, {N: 17}, {N: 18}, {N: 5000}, {N: 3, Raw: true}, {N: 100, Raw: true}, {}} {
		var got []int64
		for {
			page, err := guarded.List(bob, o)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range page {
				got = append(got, d.ID)
			}
			if len(page) > max(o.N, 1) {
				t.Fatalf("%+v: a page of %d", o, len(page))
			}
			if len(page) == 0 || len(page) < o.N && !o.Raw {
				break
			}
			o.After = page[len(page)-1].ID
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v: got %v, want %v", o, got, want)
		}
	}
	all.pages = 0
	if _, err := guarded.List(bob, state.ListOptions{N: 1}); err != nil || all.pages > 1 {
		t.Errorf("%d pages were read for one that stands on the first: %v", all.pages, err)
	}
	if _, err := guarded.List(t.Context(), state.ListOptions{}); !errors.Is(err, oci.Denied) {
		t.Errorf("without a session: %v", err)
	}
}
