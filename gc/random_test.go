package gc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// code is where a random store comes from; what is after its end is zero.
type code []byte

func (c *code) below(n int) int {
	if len(*c) == 0 {
		return 0
	}
	b := (*c)[0]
	*c = (*c)[1:]
	return int(b) % n
}

func (c *code) chance(n int) bool { return c.below(n) == n-1 }

func (c *code) time() time.Time {
	return [...]time.Time{
		ago(40 * day), ago(2 * time.Hour), ago(30 * time.Hour), ago(time.Hour), ago(30 * time.Minute), ago(day), clock(),
		clock().Add(time.Minute), {},
	}[min(c.below(20), 11)*9/12]
}

const digests = 16 // Of which the last four are long.

func (c *code) digest(from int) oci.Digest {
	i := from + c.below(max(digests-from, 1))
	if i >= digests {
		return num(50)
	}
	return digestAt(i)
}

func digestAt(i int) oci.Digest {
	if i >= digests-4 {
		return num(100 + i)
	}
	return num(i + 1)
}

// store makes a store of a few digests, which all repositories share.
func (c *code) store() *shop {
	s := newShop()
	for i := range digests {
		if d := digestAt(i); !c.chance(8) {
			s.data[d] = Datum{Digest: d, Size: int64(1) << i, Touched: c.time()}
		}
	}
	circles := c.chance(6)
	for i := range 1 + c.below(3) {
		r := &Repository{Name: string(rune('a' + i))}
		s.repos[r.Name] = r
		c.repository(r, circles)
		if c.chance(12) {
			r.Doubts = append(r.Doubts, Doubt{
				What: "tag x", Err: errors.New("torn"), AnyData: c.chance(2), Digests: []oci.Digest{c.digest(0)},
			})
		}
	}
	for i := range c.below(4) {
		s.litter = append(s.litter, Litter{
			Kind: []Kind{KindEmpty, KindUpload, KindScratch, KindRemains}[c.below(4)],
			Repo: []string{"", "a", "b"}[c.below(3)], Key: fmt.Sprint("litter", i), Size: 1000, Touched: c.time(),
		})
	}
	return s
}

func (c *code) repository(r *Repository, circles bool) {
	for i := range digests {
		switch c.below(8) {
		case 0, 1, 2:
			r.Manifests = append(r.Manifests, c.manifest(i, circles))
		case 3, 4:
			r.Blobs = append(r.Blobs, Membership{Digest: digestAt(i), Content: c.content(i), Touched: c.time()})
		case 5:
			if c.chance(3) {
				m := c.manifest(i, circles)
				m.Touched = []time.Time{ago(2 * day), ago(2 * time.Hour), ago(time.Minute), clock().Add(time.Second)}[c.below(4)]
				r.Tombs = append(r.Tombs, m)
			}
		case 6:
			if c.chance(2) {
				m := c.manifest(i, circles)
				r.Unlinked = append(r.Unlinked, Manifest{Digest: m.Digest, Content: m.Digest, Names: m.Names})
			}
		}
	}
	for i := range c.below(4) {
		r.Tags = append(r.Tags, Pointer{Tag: fmt.Sprint("v", i), Digest: c.digest(0)})
	}
}

func (c *code) content(i int) oci.Digest {
	if c.chance(6) {
		return c.digest(0)
	}
	return digestAt(i)
}

// manifest names what has a higher number, as hashes see to; its content may
// not be what it is called.
func (c *code) manifest(i int, circles bool) Manifest {
	from := i + 1
	if circles {
		from = 0
	}
	m := Manifest{Digest: digestAt(i), Content: digestAt(i), Touched: c.time()}
	if c.chance(10) {
		m.Content = c.digest(from)
	}
	for range c.below(4) {
		m.Names = append(m.Names, c.digest(from))
	}
	if c.chance(4) {
		m.Subject = c.digest(from)
	}
	return m
}

func (c *code) options() Options {
	o := options()
	o.Untagged = !c.chance(4)
	o.Older = []time.Duration{0, 0, time.Hour, 365 * day}[c.below(4)]
	o.Uploads = []time.Duration{0, day}[c.below(2)]
	o.Undo = []time.Duration{0, day, time.Hour}[c.below(3)]
	return o
}

func randomCode(seed uint64) code {
	r := rand.New(rand.NewPCG(seed, 1))
	c := make(code, 600)
	for i := range c {
		c[i] = byte(r.Uint32())
	}
	return c
}

// differs compares a run on s with the rules, and then all that must be true
// of any run; it returns what is wrong.
func differs(t testing.TB, s *shop, o Options) string {
	t.Helper()
	want := decide(s, o)
	wantItems, wantKept := want.items(), want.kept()
	p := plan(t, s, o)
	dry := p.Report()
	if !reflect.DeepEqual(dry, plan(t, s, o).Report()) {
		return "two plans differ"
	}
	r, err := p.Execute(t.Context(), s)
	if err != nil {
		return err.Error()
	}
	if got := itemsOf(s.gone); got != wantItems {
		return fmt.Sprintf("went:\n%s\nwant:\n%s", got, wantItems)
	}
	if len(s.broken) > 0 {
		return strings.Join(s.broken, "\n")
	}
	if !reflect.DeepEqual(r, dry) {
		return fmt.Sprintf("dry run\n%+v\nreal run\n%+v", dry, r)
	}
	if !maps.Equal(r.Kept, wantKept) {
		return fmt.Sprintf("kept %v, want %v", r.Kept, wantKept)
	}
	if len(r.Doubts) > 0 != want.doubt || r.Removed[KindData].N > 0 && want.doubt {
		return fmt.Sprintf("doubts %q, removed %v", r.Doubts, r.Removed)
	}
	if again := collect(t, s, o); len(again.Removed) > 0 {
		return fmt.Sprintf("a second run removes %v", again.Removed)
	}
	return ordered(s.gone, o.Jobs)
}

// ordered wants the kinds in their order.
func ordered(gone []Item, jobs int) string {
	kinds := []Kind{KindManifest, KindBlob, KindData, KindUpload, KindScratch, KindRemains, KindEmpty}
	last := map[string]int{}
	for _, i := range gone {
		at, repo := slices.Index(kinds, i.Kind), i.Repo
		if at >= 2 {
			repo = ""
		}
		if at < last[repo] || at >= 2 && at < last[""] {
			return fmt.Sprintf("%s after %s, %d at once", i.Kind, kinds[last[repo]], jobs)
		}
		if at < 2 && last[""] >= 2 {
			return "a link after data"
		}
		last[repo] = at
	}
	return ""
}

func TestAgainstTheRules(t *testing.T) {
	t.Parallel()
	kinds, reasons := map[Kind]int{}, map[Reason]int{}
	for seed := range uint64(400) {
		c := randomCode(seed)
		o := c.options()
		s := c.store()
		if seed%4 == 0 {
			o.Jobs = 4
		}
		r := plan(t, s, o).Report()
		for k, n := range r.Removed {
			kinds[k] += n.N
		}
		for k, n := range r.Kept {
			reasons[k] += n.N
		}
		if d := differs(t, s, o); d != "" {
			t.Fatalf("seed %d, %+v:\n%s", seed, o, d)
		}
	}
	if len(kinds) != 7 || len(reasons) != 5 {
		t.Errorf("the stores do not show all that may be: %v, %v", kinds, reasons)
	}
}

func FuzzPlan(f *testing.F) {
	for seed := range uint64(20) {
		f.Add([]byte(randomCode(seed)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := code(b)
		o := c.options()
		if d := differs(t, c.store(), o); d != "" {
			t.Fatal(d)
		}
	})
}

// TestEveryFault lets every single removal be busy, fail, find nothing or be
// the last one, and wants everything whole after each that follows.
func TestEveryFault(t *testing.T) {
	t.Parallel()
	for seed := range uint64(25) {
		c := randomCode(seed)
		o := c.options()
		s := c.store()
		n := 0
		for _, count := range plan(t, s, o).Report().Removed {
			n += count.N
		}
		for at := range n {
			for _, fault := range []error{ErrBusy, errors.New("disk on fire"), ErrGone} {
				faulty(t, seed, s.clone(), o, at, fault)
			}
			cancelled(t, seed, s.clone(), o, at)
		}
	}
}

func faulty(t *testing.T, seed uint64, s *shop, o Options, at int, fault error) {
	t.Helper()
	var hit Item
	s.remove = func(n int, i Item) error {
		if n != at {
			return nil
		}
		hit = i
		return fmt.Errorf("really: %w", fault)
	}
	p := plan(t, s, o)
	dry := p.Report()
	r, err := p.Execute(t.Context(), s)
	fail := func(format string, args ...any) {
		t.Fatalf("seed %d, %v at %d, %s: %s", seed, fault, at, keyOf(hit), fmt.Sprintf(format, args...))
	}
	if err != nil || len(s.broken) > 0 {
		fail("%v\n%s", err, strings.Join(s.broken, "\n"))
	}
	if len(r.Failed) != btoi(fault != ErrBusy && fault != ErrGone) || len(r.Failed) == 1 && r.Failed[0].Why != "really: disk on fire" {
		fail("failures: %v", r.Failed)
	}
	if fault != ErrGone && slices.ContainsFunc(s.gone, func(i Item) bool { return keyOf(i) == keyOf(hit) }) {
		fail("it went")
	}
	sum := r.Removed[KindData].N
	for _, c := range r.Kept {
		sum += c.N
	}
	want := dry.Removed[KindData].N
	for _, c := range dry.Kept {
		want += c.N
	}
	if sum != want || fault != ErrGone && hit.Kind == KindData && r.Kept[KeptBusy] != (Count{N: 1, Bytes: hit.Size}) {
		fail("%v removed and %v kept; planned were %v and %v", r.Removed, r.Kept, dry.Removed, dry.Kept)
	}
	s.remove = nil
	s.started = nil
	if collect(t, s, o); fault != ErrGone && itemsOf(s.gone) != decideItems(seed) {
		fail("the next run does not free the rest")
	}
}

func decideItems(seed uint64) string {
	c := randomCode(seed)
	o := c.options()
	return decide(c.store(), o).items()
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func cancelled(t *testing.T, seed uint64, s *shop, o Options, at int) {
	t.Helper()
	p := plan(t, s, o)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.remove = func(n int, _ Item) error {
		if n == at {
			cancel()
			return ctx.Err()
		}
		return nil
	}
	r, err := p.Execute(ctx, s)
	n := 0
	for _, c := range r.Removed {
		n += c.N
	}
	if !errors.Is(err, context.Canceled) || len(s.broken) > 0 || s.tried != at+1 || n != at || len(r.Failed) > 0 {
		t.Fatalf("seed %d, cancelled at %d: %v, %d tried, %d removed, %v, %q", seed, at, err, s.tried, n, r.Failed, s.broken)
	}
	s.remove, s.started = nil, nil
	if collect(t, s, o); itemsOf(s.gone) != decideItems(seed) {
		t.Fatalf("seed %d, cancelled at %d: the next run does not free the rest", seed, at)
	}
}

// TestManyFaults lets random removals be busy or fail, several at once.
func TestManyFaults(t *testing.T) {
	t.Parallel()
	for seed := range uint64(400) {
		c := randomCode(seed)
		o := c.options()
		o.Jobs = 1 + int(seed%3)
		s := c.store()
		random := rand.New(rand.NewPCG(seed, 2))
		s.remove = func(int, Item) error {
			return []error{nil, nil, nil, ErrBusy, errors.New("no"), ErrGone}[random.IntN(6)]
		}
		if _, err := plan(t, s, o).Execute(t.Context(), s); err != nil || len(s.broken) > 0 {
			t.Fatalf("seed %d: %v\n%s", seed, err, strings.Join(s.broken, "\n"))
		}
	}
}

// TestEveryDoubt lets every single question to a source fail, or be the last.
func TestEveryDoubt(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		c := randomCode(seed)
		o := c.options()
		s := c.store()
		plan(t, s, o)
		for _, what := range slices.Sorted(maps.Keys(s.asked)) {
			doubtful(t, seed, s.clone(), o, what)
			interrupted(t, s.clone(), o, what)
		}
	}
}

func doubtful(t *testing.T, seed uint64, s *shop, o Options, what string) {
	t.Helper()
	s.fault = func(w string) error {
		if w == what {
			return errors.New("not today")
		}
		return nil
	}
	known := s.clone()
	sort, name, _ := strings.Cut(what, " ")
	var unreadable []string
	switch sort {
	case "repos":
		delete(known.repos, name)
	case "repository":
		unreadable = append(unreadable, name)
	case "litter":
		known.litter = slices.DeleteFunc(known.litter, func(l Litter) bool { return l.Key == name })
	}
	want := decide(known, o, unreadable...)
	want.doubt = true
	if sort == "repos" {
		clear(want.goes)
	}
	wantItems := want.items()
	r := collect(t, s, o)
	if len(r.Doubts) == 0 || !strings.Contains(strings.Join(r.Doubts, "\n"), "not today") || r.Removed[KindData].N > 0 {
		t.Fatalf("seed %d, %s: doubts %q, removed %v", seed, what, r.Doubts, r.Removed)
	}
	if got := itemsOf(s.gone); got != wantItems {
		t.Fatalf("seed %d, %s: went\n%s\nwant\n%s", seed, what, got, wantItems)
	}
	if sort == "repository" && !slices.ContainsFunc(r.Frozen, func(f Frozen) bool { return f.Repo == name && f.Why == "not today" }) {
		t.Fatalf("seed %d, %s: frozen %v", seed, what, r.Frozen)
	}
}

func interrupted(t *testing.T, s *shop, o Options, what string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.fault = func(w string) error {
		if w == what {
			cancel()
		}
		return ctx.Err()
	}
	r, err := Collect(ctx, s, s, o, false)
	if !errors.Is(err, context.Canceled) || s.tried > 0 || len(r.Doubts) > 0 {
		t.Fatalf("%s: %v, %d tried, %v", what, err, s.tried, r)
	}
}
