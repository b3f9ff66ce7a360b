package gc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/regctl/regctl/client/oci"
)

func TestReportHasNoNulls(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]Report{"zero": {}, "of nothing": collect(t, newShop(), options())} {
		text, err := json.Marshal(r)
		if err != nil || bytes.Contains(text, []byte("null")) || !bytes.Contains(text, []byte(`"failed":[]`)) {
			t.Errorf("%s: %s, %v", name, text, err)
		}
		if bytes.Contains(text, []byte("undoUntil")) || bytes.Contains(text, []byte("newest")) {
			t.Errorf("%s: times that are not: %s", name, text)
		}
	}
	s := newShop().with(num(1), num(2)).repo(Repository{Name: "a", Manifests: []Manifest{manifest(3, 30)}})
	s.fault = func(what string) error {
		if strings.HasPrefix(what, "repository") {
			return errors.New("no")
		}
		return nil
	}
	r := collect(t, s, options())
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(back, r) {
		t.Errorf("%+v\nbecame, %v\n%+v", r, err, back)
	}
}

func TestReportIsACopy(t *testing.T) {
	t.Parallel()
	p := plan(t, newShop().with(num(1)), options())
	r := p.Report()
	r.Removed[KindData] = Count{}
	if p.Report().Removed[KindData].N != 1 {
		t.Error("who changes a report changes the plan")
	}
}

func TestUndoUntil(t *testing.T) {
	t.Parallel()
	s := newShop().with(num(1), num(2), num(3))
	s.repos["a"] = &Repository{Name: "a", Tombs: []Manifest{
		{Digest: num(1), Touched: ago(3 * time.Hour)}, {Digest: num(2), Touched: ago(2 * time.Hour)}, {Digest: num(3), Touched: ago(30 * time.Hour)},
	}}
	r := collect(t, s, options())
	if !r.UndoUntil.Equal(clock().Add(22*time.Hour)) || r.Kept[KeptUndo].N != 2 || r.Removed[KindData].N != 1 {
		t.Errorf("%+v", r)
	}
	o := options()
	o.Now = clock().Add(22 * time.Hour)
	if r := collect(t, s, o); !r.UndoUntil.IsZero() || r.Removed[KindData].N != 2 {
		t.Errorf("when it is over: %+v", r)
	}
}

func TestNewest(t *testing.T) {
	t.Parallel()
	s := newShop().with(num(9))
	s.data[num(9)] = Datum{Digest: num(9), Touched: clock()}
	s.repos["a"] = &Repository{Name: "a", Manifests: []Manifest{{Digest: num(1), Touched: ago(3 * time.Hour)}}, Tombs: []Manifest{{Digest: num(1), Touched: clock()}}}
	s.repos["b"] = &Repository{Name: "b", Blobs: []Membership{{Digest: num(1), Touched: ago(3 * time.Hour)}}}
	for _, step := range []struct {
		add  func()
		want time.Time
		at   string
	}{
		{func() {}, ago(3 * time.Hour), "a@" + string(num(1))},
		{func() { s.litter = []Litter{{Kind: KindScratch, Key: "tmp", Touched: clock()}} }, ago(3 * time.Hour), "a@" + string(num(1))},
		{func() { s.repos["b"].Blobs[0].Touched = ago(2 * time.Hour) }, ago(2 * time.Hour), "b@" + string(num(1))},
		{func() { s.litter = []Litter{{Kind: KindUpload, Key: "up", Touched: ago(time.Hour)}} }, ago(time.Hour), "up"},
	} {
		step.add()
		o := options()
		o.Jobs = 3
		if r := plan(t, s, o).Report(); !r.Newest.Equal(step.want) || r.NewestAt != step.at {
			t.Errorf("%v at %s, want %v at %s", r.Newest, r.NewestAt, step.want, step.at)
		}
	}
}

func TestFailuresAreCapped(t *testing.T) {
	t.Parallel()
	s := newShop()
	for i := range 1200 {
		s.with(num(1000 + i))
	}
	s.remove = func(int, Item) error { return errors.New("no") }
	r := collect(t, s, options())
	if len(r.Failed) != 1000 || r.MoreFailed != 200 || r.Kept[KeptBusy].N != 1200 || len(r.Removed) != 0 {
		t.Errorf("%d listed, %d more, %v kept, %v removed", len(r.Failed), r.MoreFailed, r.Kept, r.Removed)
	}
	s.fault = func(what string) error { return errors.New(what) }
	if r := collect(t, s, options()); len(r.Doubts) != 1001 || r.Doubts[1000] != "and 200 more" {
		t.Errorf("%d doubts", len(r.Doubts))
	}
}

func TestFrozenSaysWhy(t *testing.T) {
	t.Parallel()
	s := newShop()
	s.repos["b"] = &Repository{Name: "b", Doubts: []Doubt{{What: "tag v1", Err: errors.New("it is empty")}, {What: "tag v2"}}}
	s.repos["a"] = &Repository{Name: "a", Doubts: []Doubt{{What: "the directory", AnyData: true}}}
	r := collect(t, s, options())
	if fmt.Sprint(r.Frozen) != "[{a the directory} {b tag v1: it is empty, and 1 more}]" || fmt.Sprint(r.Doubts) != "[repository a: the directory]" {
		t.Errorf("%v, %v", r.Frozen, r.Doubts)
	}
	if r, err := MakePlan(t.Context(), nothing{s}, options()); err != nil || len(r.Report().Doubts) != 2 {
		t.Errorf("a source that returns nothing: %v, %v", r.Report().Doubts, err)
	}
}

// nothing knows the names of repositories only.
type nothing struct{ *shop }

func (nothing) Repository(context.Context, string) (*Repository, error) { return nil, nil }

// TestApprove wants nothing removed that was not approved.
func TestApprove(t *testing.T) {
	t.Parallel()
	s := newShop().with(num(1))
	o := options()
	no := errors.New("no")
	o.Approve = func(r Report) error {
		if r.Removed[KindData].N != 1 {
			t.Errorf("asked for %v", r.Removed)
		}
		return no
	}
	if _, err := Collect(t.Context(), s, s, o, false); !errors.Is(err, no) || s.tried != 0 {
		t.Errorf("%v, %d tried", err, s.tried)
	}
	if r, err := Collect(t.Context(), s, s, o, true); err != nil || s.tried != 0 || r.Removed[KindData].N != 1 {
		t.Errorf("dry: %v, %d tried, %v", err, s.tried, r.Removed)
	}
}

// TestProgress wants it forwards, phase by phase, within its total, and whole.
func TestProgress(t *testing.T) {
	t.Parallel()
	for _, jobs := range []int{1, 4} {
		s := newShop()
		for i := range 2500 {
			s.with(num(1000 + i))
		}
		for i := range 30 {
			s.repo(Repository{Name: fmt.Sprint("r", i), Manifests: []Manifest{manifest(1, 2), manifest(2, 20, 21)}})
		}
		random := rand.New(rand.NewPCG(1, 1))
		s.remove = func(int, Item) error { return []error{nil, nil, ErrBusy}[random.IntN(3)] }
		o := options()
		o.Jobs = jobs
		var told []Progress
		inside := 0
		o.Progress = func(p Progress) {
			inside++ // A race if two call.
			told = append(told, p)
		}
		collect(t, s, o)
		var phases []Phase
		for i, p := range told {
			if p.Total > 0 && p.Done > p.Total {
				t.Errorf("%d of %d", p.Done, p.Total)
			}
			if i > 0 && told[i-1].Phase == p.Phase {
				if p.Done <= told[i-1].Done || p.Total != told[i-1].Total {
					t.Errorf("%v after %v", p, told[i-1])
				}
				continue
			}
			if i > 0 && told[i-1].Phase != PhaseList && told[i-1].Done != told[i-1].Total || p.Done != 0 {
				t.Errorf("%v after %v", p, told[max(i, 1)-1])
			}
			phases = append(phases, p.Phase)
		}
		if !slices.Equal(phases, []Phase{PhaseList, PhaseMark, PhaseSweep}) {
			t.Errorf("phases %v", phases)
		}
		if last := told[len(told)-1]; last.Done != last.Total || last.Total != 30*4+2504 || len(told) != inside || len(told) > 1500 {
			t.Errorf("%d told, the last %+v", len(told), last)
		}
	}
}

// crowd counts how many removals go on at once.
type crowd struct {
	mu        sync.Mutex
	now, most int
	wanted    int
	open      bool
	full      chan struct{}
}

func (c *crowd) Remove(ctx context.Context, _ Item) error {
	c.mu.Lock()
	c.now++
	c.most = max(c.most, c.now)
	if c.now == c.wanted && !c.open {
		c.open = true
		close(c.full)
	}
	c.mu.Unlock()
	select { // Nobody leaves until as many are here as there are to be.
	case <-c.full:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now--
	return nil
}

// TestJobs wants as many removals at once as there are jobs, in one repository
// too, and not more.
func TestJobs(t *testing.T) {
	t.Parallel()
	one, many := newShop(), newShop()
	for i := range 20 {
		many.repo(Repository{Name: fmt.Sprint("r", i), Blobs: []Membership{link(num(1)), link(num(2)), link(num(3))}})
	}
	r := Repository{Name: "a"}
	for i := range 20 {
		r.Blobs = append(r.Blobs, link(num(i)))
	}
	one.repo(r)
	for name, s := range map[string]*shop{"one": one, "many": many} {
		o := options()
		o.Jobs = 3
		c := &crowd{wanted: o.Jobs, full: make(chan struct{})}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		if _, err := plan(t, s, o).Execute(ctx, c); err != nil || c.most != o.Jobs {
			t.Errorf("%s: %d at once, %v", name, c.most, err)
		}
		cancel()
	}
}

func TestIndex(t *testing.T) {
	t.Parallel()
	var x index
	for _, d := range []Datum{
		{Digest: num(3), Size: 3}, {Digest: num(1), Size: 1, Touched: ago(time.Hour)}, {Digest: num(1), Size: 1, Touched: clock()},
		{Digest: num(1), Size: 0, Touched: ago(2 * time.Hour)}, {Digest: num(100), Size: 1 << 60}, {Digest: num(101), Size: -1},
		{Digest: "sha256:" + oci.Digest(strings.Repeat("A", 64)), Size: 9}, {Digest: "md5:0", Size: 9}, {Digest: "", Size: 9}, {Digest: num(3)[:70], Size: 9},
	} {
		x.add(d)
	}
	x.seal()
	var all []string
	for part := range parts {
		x.each(part, func(d datum) bool {
			if d.state != x.find(d.digest()) {
				t.Errorf("%s is not found", d.digest())
			}
			size, _ := d.load()
			all = append(all, fmt.Sprintf("%s…%s %d %v", d.digest()[:9], d.digest()[len(d.digest())-2:], size, d.touched == nanos(clock())))
			return true
		})
	}
	if want := []string{"sha256:01…01 1 true", "sha256:03…03 3 false", "sha512:00…64 72057594037927935 false", "sha512:00…65 0 false"}; !slices.Equal(all, want) {
		t.Errorf("%q", all)
	}
	for _, d := range []oci.Digest{num(2), num(102), "", "sha256:", "sha256:" + oci.Digest(strings.Repeat("A", 64))} {
		if x.find(d) != nil {
			t.Errorf("%q was found", d)
		}
	}
	s := x.find(num(3))
	for _, r := range []rank{inDoubt, living, isYoung, unneeded} {
		s.raise(r)
	}
	if size, r := s.load(); size != 3 || r != living {
		t.Errorf("%d, %d", size, r)
	}
	(*state)(nil).raise(living)
}

func TestAges(t *testing.T) {
	t.Parallel()
	a := ages{clock()}
	for _, test := range []struct {
		at    time.Time
		limit time.Duration
		want  bool
	}{
		{ago(time.Hour), time.Hour, false}, {ago(time.Hour - 1), time.Hour, true}, {clock(), 0, false}, {clock().Add(1), 0, true},
		{clock().Add(time.Minute), -time.Hour, true}, {ago(time.Minute), -time.Hour, false},
		{time.Time{}, 365 * day, false}, {clock().AddDate(9000, 0, 0), 0, true},
	} {
		if got := a.young(nanos(test.at), test.limit); got != test.want {
			t.Errorf("%v, younger than %v: %v", test.at, test.limit, got)
		}
	}
}

// TestMemory wants what the documentation says of it.
func TestMemory(t *testing.T) {
	t.Parallel()
	if a, b := unsafe.Sizeof(record[[32]byte]{}), unsafe.Sizeof(record[[64]byte]{}); a != 48 || b != 80 {
		t.Errorf("records of %d and %d bytes", a, b)
	}
	const n = 200_000
	if got := bytesOf(indexOf(n)); got > n*64 {
		t.Errorf("%d bytes a blob", got/n)
	}
}

// indexOf has n random digests.
func indexOf(n int) *index {
	x, r := &index{}, rand.New(rand.NewPCG(1, 1))
	for range n {
		var s [32]byte
		for i := range s {
			s[i] = byte(r.Uint32())
		}
		x.short.add(record[[32]byte]{sum: s})
	}
	x.seal()
	return x
}

// bytesOf is what x has taken.
func bytesOf(x *index) int {
	n := int(unsafe.Sizeof(*x))
	for i := range x.short.parts {
		n += cap(x.short.parts[i]) * int(unsafe.Sizeof(record[[32]byte]{}))
	}
	return n
}

// BenchmarkIndex lists, sorts and finds a million blobs.
func BenchmarkIndex(b *testing.B) {
	const n = 1_000_000
	for b.Loop() {
		x := indexOf(n)
		for part := range parts {
			x.each(part, func(d datum) bool {
				x.find(d.digest()).raise(living)
				return true
			})
		}
		b.ReportMetric(float64(bytesOf(x))/n, "bytes/blob")
	}
}

// BenchmarkMark reads a repository of 20,000 tags.
func BenchmarkMark(b *testing.B) {
	r := tagged(20000)
	m := &marker{index: &index{}, o: options(), ages: ages{clock()}}
	for b.Loop() {
		m.mark(r)
	}
}
