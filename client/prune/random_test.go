package prune

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/gc"
)

const repo = "team/app"

// world is a repository of a random shape, with the truth about it.
type world struct {
	reg       oci.Registry
	manifests map[oci.Digest]*oci.Graph
}

// newWorld makes images that share layers, indexes of images and of indexes,
// referrers of all of these, tags that share digests, and signatures under
// tags that are named after digests.
func newWorld(t *testing.T, r *rand.Rand) *world {
	for {
		if w := anyWorld(t, r); !w.cyclic(t) {
			return w
		}
	}
}

// cyclic tells that something is held by what it holds: an index that refers
// to its own child. Such stay, see TestCycle.
func (w *world) cyclic(t *testing.T) bool {
	tags := w.tags(t)
	for d := range w.manifests {
		if w.closure(w.below(d, tags), tags)[d] {
			return true
		}
	}
	return false
}

func anyWorld(t *testing.T, r *rand.Rand) *world {
	w := &world{reg: ocitest.NewRegistry(), manifests: map[oci.Digest]*oci.Graph{}}
	var made []oci.Descriptor
	pick := func() oci.Descriptor { return made[r.IntN(len(made))] }
	for n := range 4 + r.IntN(16) {
		var raw any
		layer := ocitest.PushBlob(t, w.reg, repo, fmt.Sprint("layer ", r.IntN(5)))
		layer.MediaType = "application/vnd.oci.image.layer.v1.tar"
		config := ocitest.PushBlob(t, w.reg, repo, fmt.Sprintf(`{"n":%d}`, n))
		config.MediaType = "application/vnd.oci.image.config.v1+json"
		image := ocitest.NewImage(config, layer)
		raw = image
		if len(made) > 0 {
			switch r.IntN(4) {
			case 0:
				subject := pick()
				image.Subject = &subject
				raw = image
			case 1, 2:
				index := ocitest.NewIndex(pick(), pick())
				index.Annotations = map[string]string{"n": fmt.Sprint(n)}
				if r.IntN(4) == 0 {
					subject := pick()
					index.Subject = &subject
				}
				raw = index
			}
		}
		text, err := json.Marshal(raw)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, ocitest.PushManifest(t, w.reg, repo, string(text), randomTags(r, made)...))
		g, err := oci.ParseManifest("", text)
		if err != nil {
			t.Fatal(err)
		}
		w.manifests[made[len(made)-1].Digest] = g
	}
	return w
}

func randomTags(r *rand.Rand, made []oci.Descriptor) []string {
	var tags []string
	for range r.IntN(3) {
		tags = append(tags, fmt.Sprintf("v%d", r.IntN(20)))
	}
	if len(made) > 0 && r.IntN(4) == 0 {
		tags = append(tags, follower(made[r.IntN(len(made))].Digest)+[]string{"", ".sig", ".att"}[r.IntN(3)])
	}
	return tags
}

func follower(d oci.Digest) string { return strings.Replace(string(d), ":", "-", 1) }

func (w *world) tags(t *testing.T) map[string]oci.Digest {
	t.Helper()
	_, where, err := listTags(t.Context(), w.reg, repo)
	if err != nil && !errors.Is(err, oci.NameUnknown) {
		t.Fatal(err)
	}
	return where
}

func (w *world) has(t *testing.T) map[oci.Digest]bool {
	t.Helper()
	has := map[oci.Digest]bool{}
	for d := range w.manifests {
		if _, err := w.reg.Resolve(t.Context(), repo, string(d)); err == nil {
			has[d] = true
		}
	}
	return has
}

// below returns what d holds, by the truth and the slow way.
func (w *world) below(d oci.Digest, tags map[string]oci.Digest) []oci.Digest {
	var found []oci.Digest
	for _, c := range w.manifests[d].Manifests {
		found = append(found, c.Digest)
	}
	for by, g := range w.manifests {
		if g.Subject != nil && g.Subject.Digest == d {
			found = append(found, by)
		}
	}
	for tag, to := range tags {
		if subject, ok := gc.SubjectOf(tag); ok && subject == d {
			found = append(found, to)
		}
	}
	return found
}

func (w *world) closure(from []oci.Digest, tags map[string]oci.Digest) map[oci.Digest]bool {
	seen := map[oci.Digest]bool{}
	for len(from) > 0 {
		d := from[0]
		from = from[1:]
		if !seen[d] {
			seen[d] = true
			from = append(from, w.below(d, tags)...)
		}
	}
	return seen
}

// expect tells by the slow way what must be left once the victims are gone:
// what no victim leads to, and all that this leads to.
func (w *world) expect(victims map[string]bool, tags map[string]oci.Digest) (manifests map[oci.Digest]bool, left map[string]oci.Digest) {
	var from, roots []oci.Digest
	plain := map[oci.Digest]bool{}
	for tag, d := range tags {
		if _, ok := gc.SubjectOf(tag); !ok && !victims[tag] {
			plain[d] = true
			roots = append(roots, d)
		}
	}
	for tag := range victims {
		if !plain[tags[tag]] {
			from = append(from, tags[tag])
		}
	}
	// What stays for a tag of its own leads no further on the side of what goes.
	may := map[oci.Digest]bool{}
	for len(from) > 0 {
		d := from[0]
		from = from[1:]
		if !may[d] && !plain[d] {
			may[d] = true
			from = append(from, w.below(d, tags)...)
		}
	}
	for d := range w.manifests {
		if !may[d] {
			roots = append(roots, d)
		}
	}
	manifests = w.closure(roots, tags)
	left = map[string]oci.Digest{}
	for tag, d := range tags {
		subject, follows := gc.SubjectOf(tag)
		if !victims[tag] && (!follows || manifests[subject]) {
			left[tag] = d
		}
	}
	return manifests, left
}

// policy keeps some tags at random, always the same ones for a world.
func randomPolicy(r *rand.Rand) gc.Policy {
	return gc.Policy{Ranked: true, Keep: r.IntN(4), By: gc.ByName, Now: time.Now()}
}

func victimsOf(p *Plan) map[string]bool {
	victims := map[string]bool{}
	for _, t := range p.Goes() {
		if t.Reason != SubjectGoes {
			victims[t.Tag] = true
		}
	}
	return victims
}

func seeds(t *testing.T, n int, f func(t *testing.T, r *rand.Rand)) {
	for seed := range n {
		r := rand.New(rand.NewPCG(uint64(seed), 7))
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { f(t, r) }) {
			return
		}
	}
}

// TestRandom prunes random repositories and compares what is left with what
// the slow way says must be left; then it puts everything back.
func TestRandom(t *testing.T) {
	t.Parallel()
	seeds(t, 150, func(t *testing.T, r *rand.Rand) {
		w := newWorld(t, r)
		before, had := w.tags(t), w.has(t)
		p := plan(t, w.reg, randomPolicy(r), Options{Jobs: 3})
		manifests, left := w.expect(victimsOf(p), before)
		dir := t.TempDir()
		report := execute(t, w.reg, p, dir, RunOptions{Jobs: 3})
		w.wants(t, manifests, left)
		comparePlan(t, p, report)
		for range 2 {
			undo(t, w.reg, dir)
			w.wants(t, had, before)
		}
	})
}

func (w *world) wants(t *testing.T, manifests map[oci.Digest]bool, tags map[string]oci.Digest) {
	t.Helper()
	if got := w.tags(t); !maps.Equal(got, tags) {
		t.Errorf("tags are\n%v\nwant\n%v", got, tags)
	}
	got := w.has(t)
	for d := range w.manifests {
		if got[d] != manifests[d] {
			t.Errorf("%s: is there %v, want %v", d, got[d], manifests[d])
		}
	}
}

// comparePlan wants that all was done that the plan says, but what an index
// without a tag keeps alive.
func comparePlan(t *testing.T, p *Plan, r *Report) {
	t.Helper()
	var planned, done []string
	index := false
	for _, tag := range p.Goes() {
		planned = append(planned, tag.Tag)
	}
	for _, m := range p.Manifests {
		planned = append(planned, string(m.Digest))
	}
	for _, o := range slices.Concat(r.Tags, r.Manifests) {
		index = index || o.Reason == NamedByIndex
		if o.Deleted {
			done = append(done, o.Tag+string(o.Digest)[:len(o.Digest)*min(1, max(0, 1-len(o.Tag)))])
		}
	}
	slices.Sort(planned)
	slices.Sort(done)
	if !index && !slices.Equal(planned, done) {
		t.Errorf("planned\n%v\ndone\n%v", planned, done)
	}
}

func plan(t *testing.T, reg oci.Registry, policy gc.Policy, o Options) *Plan {
	t.Helper()
	p, err := MakePlan(t.Context(), reg, repo, policy, o)
	if errors.Is(err, oci.NameUnknown) {
		return &Plan{Repo: repo}
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func execute(t *testing.T, reg oci.Registry, p *Plan, dir string, o RunOptions) *Report {
	t.Helper()
	j, err := CreateJournal(dir, time.Date(2026, 11, 20, 3, 12, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	o.Registry, o.Record = "registry.test", j
	report, err := NewRun(reg, o).Execute(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(true); err != nil {
		t.Fatal(err)
	}
	return report
}

func undo(t *testing.T, reg oci.Registry, dir string) []Undone {
	t.Helper()
	var all []Undone
	ids, err := Journals(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		f, err := os.Open(filepath.Join(dir, id+journalSuffix))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		undone, err := Undo(t.Context(), func(string) (oci.Registry, error) { return reg, nil }, f, UndoOptions{Jobs: 2})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, undone...)
	}
	return all
}
