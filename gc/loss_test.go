package gc

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// with adds data of 100 bytes each, 40 days old.
func (s *shop) with(ds ...oci.Digest) *shop {
	for _, d := range ds {
		s.data[d] = Datum{Digest: d, Size: 100, Touched: ago(40 * day)}
	}
	return s
}

// repo adds one with all links and bytes of what its manifests are and name.
func (s *shop) repo(r Repository) *shop {
	for i, m := range r.Manifests {
		r.Manifests[i].Content = m.Digest
		if m.Touched.IsZero() {
			r.Manifests[i].Touched = ago(40 * day)
		}
		s.with(m.Digest)
		for _, d := range m.Names {
			isManifest := slices.ContainsFunc(r.Manifests, func(m Manifest) bool { return m.Digest == d })
			isLinked := slices.ContainsFunc(r.Blobs, func(m Membership) bool { return m.Digest == d })
			if !isManifest && !isLinked {
				r.Blobs = append(r.Blobs, link(d))
				s.with(d)
			}
		}
	}
	s.repos[r.Name] = &r
	return s
}

func link(d oci.Digest) Membership {
	return Membership{Digest: d, Content: d, Touched: ago(40 * day)}
}

func tag(name string, i int) []Pointer { return []Pointer{{Tag: name, Digest: num(i)}} }

// manifest is one that names others by number.
func manifest(i int, names ...int) Manifest {
	m := Manifest{Digest: num(i)}
	for _, n := range names {
		m.Names = append(m.Names, num(n))
	}
	return m
}

func (m Manifest) about(subject int) Manifest {
	m.Subject = num(subject)
	return m
}

// TestLoss has each way in which others lose data, or never free it.
func TestLoss(t *testing.T) {
	t.Parallel()
	unreadable := Doubt{What: "manifest", Err: errors.New("it does not parse"), Digests: []oci.Digest{num(1)}}
	longLayer := newShop().repo(Repository{Name: "a", Tags: tag("v1", 1), Manifests: []Manifest{manifest(1)}}).with(num(2))
	longLayer.repos["a"].Manifests[0].Names = []oci.Digest{num(200)}
	longLayer.repos["a"].Blobs = []Membership{{Digest: num(200), Content: num(2), Touched: ago(40 * day)}, link(num(2))}
	for name, test := range map[string]struct {
		s    *shop
		o    func(*Options)
		gone string // Numbers of the data that goes.
		link string // Links that go.
	}{
		"a layer under sha512 with its data under sha256": {s: longLayer},
		"children of a tagged index": {s: newShop().repo(Repository{
			Name: "a", Tags: tag("v1", 1), Manifests: []Manifest{manifest(1, 2, 3), manifest(2, 20), manifest(3, 30)},
		})},
		"an index within an index": {s: newShop().repo(Repository{
			Name: "a", Tags: tag("v1", 1), Manifests: []Manifest{manifest(1, 2), manifest(2, 3), manifest(3, 30)},
		})},
		"children of an index without a tag": {gone: "1 2 20 21", link: "manifest a 1, manifest a 2, link a 20, link a 21", s: newShop().repo(Repository{
			Name: "a", Manifests: []Manifest{manifest(2, 20, 21), manifest(1, 2)},
		})},
		"children of an index without a tag, which stays": {o: func(o *Options) { o.Untagged = false }, s: newShop().repo(Repository{
			Name: "a", Manifests: []Manifest{manifest(2, 20, 21), manifest(1, 2)},
		})},
		"a child with a tag of its own": {gone: "1", link: "manifest a 1", s: newShop().repo(Repository{
			Name: "a", Tags: tag("amd64", 2), Manifests: []Manifest{manifest(1, 2), manifest(2, 20)},
		})},
		"an index that is sparse in one repository": {s: newShop().
			repo(Repository{Name: "a", Tags: tag("v1", 1), Manifests: []Manifest{{Digest: num(1), Names: []oci.Digest{num(2)}}}, Blobs: nil}).
			repo(Repository{Name: "b", Tags: tag("v1", 1), Manifests: []Manifest{manifest(1, 2), manifest(2, 20)}})},
		"a tag of a manifest without a link": {s: newShop().with(num(1), num(10)).repo(Repository{
			Name: "a", Tags: tag("v1", 1), Unlinked: []Manifest{manifest(1, 10)}, Blobs: []Membership{link(num(10))},
		})},
		"children without a link, and theirs": {s: newShop().with(num(2), num(3), num(30)).repo(Repository{
			Name: "a", Tags: tag("v1", 1), Manifests: []Manifest{manifest(1, 2), manifest(4, 40)}, Unlinked: []Manifest{manifest(2, 3, 4), manifest(3, 30)},
		})},
		"children without a link of an index that goes": {gone: "1 2 20", link: "manifest a 1, link a 20", s: func() *shop {
			s := newShop().with(num(2), num(20)).repo(Repository{Name: "a", Manifests: []Manifest{manifest(1)}, Blobs: []Membership{link(num(20))}})
			s.repos["a"].Manifests[0].Names, s.repos["a"].Unlinked = []oci.Digest{num(2)}, []Manifest{manifest(2, 20)}
			return s
		}()},
		"referrers by subject alone": {s: newShop().repo(Repository{
			Name: "a", Tags: tag("v1", 1), Manifests: []Manifest{manifest(1, 10), manifest(3, 30).about(2), manifest(2, 20).about(1)},
		})},
		"referrers of a child": {s: newShop().repo(Repository{
			Name: "a", Tags: tag("v1", 1), Manifests: []Manifest{manifest(1, 2), manifest(2, 20), manifest(3, 30).about(2)},
		})},
		"referrers of what goes": {gone: "1 2 3 10 20 30", link: "manifest a 1, manifest a 2, manifest a 3, link a 30, link a 20, link a 10", s: newShop().repo(Repository{
			Name: "a", Manifests: []Manifest{manifest(3, 30).about(2), manifest(2, 20).about(1), manifest(1, 10)},
		})},
		"a manifest that cannot be read": {s: newShop().with(num(1), num(10), num(11)).repo(Repository{
			Name: "a", Blobs: []Membership{link(num(10)), link(num(11))}, Doubts: []Doubt{unreadable},
		})},
		"a dead link of what an earlier repository uses": {link: "link b 10", s: newShop().
			repo(Repository{Name: "a", Tags: tag("v1", 1), Manifests: []Manifest{manifest(1, 10)}}).
			repo(Repository{Name: "b", Blobs: []Membership{link(num(10))}})},
		"a dead link of what a later repository uses": {link: "link a 10", s: newShop().
			repo(Repository{Name: "b", Tags: tag("v1", 1), Manifests: []Manifest{manifest(1, 10)}}).
			repo(Repository{Name: "a", Blobs: []Membership{link(num(10))}})},
		"what is named and not linked": {s: func() *shop {
			s := newShop().repo(Repository{Name: "a", Tags: tag("v1", 1), Manifests: []Manifest{manifest(1, 10)}})
			s.repos["a"].Blobs = nil
			return s
		}()},
		"a tag by the content of a link": {s: func() *shop {
			s := newShop().repo(Repository{Name: "a", Tags: tag("v1", 2), Manifests: []Manifest{manifest(1, 10)}})
			s.repos["a"].Manifests[0].Content = num(2)
			return s.with(num(2))
		}()},
		"a signature that came before what it signs is young": {s: newShop().repo(Repository{
			Name: "a", Manifests: []Manifest{{Digest: num(1), Subject: num(9), Touched: ago(time.Minute), Names: []oci.Digest{num(10)}}},
		})},
		"an index that names its own subject has no order": {s: newShop().repo(Repository{
			Name: "a", Manifests: []Manifest{manifest(1, 10), manifest(2, 1, 20).about(1)},
		})},
		"deleted, with a child that was deleted too": {s: func() *shop {
			s := newShop().repo(Repository{Name: "a", Manifests: []Manifest{manifest(1, 2), manifest(2, 20), manifest(5, 50).about(1)}})
			r := s.repos["a"]
			r.Tombs, r.Manifests = slices.Clone(r.Manifests[:2]), r.Manifests[2:]
			r.Tombs[0].Touched, r.Tombs[1].Touched = ago(time.Hour), ago(2*time.Hour)
			return s
		}()},
		"deleted too long ago": {gone: "1 20", link: "link a 20", s: func() *shop {
			s := newShop().repo(Repository{Name: "a", Manifests: []Manifest{manifest(1, 20)}})
			r := s.repos["a"]
			r.Tombs, r.Manifests = r.Manifests, nil
			r.Tombs[0].Touched = ago(day)
			return s
		}()},
		"a young link": {s: newShop().with(num(1)).repo(Repository{
			Name: "a", Blobs: []Membership{{Digest: num(1), Content: num(1), Touched: ago(59 * time.Minute)}},
		})},
		"a link from the future": {o: func(o *Options) { o.Older = 0 }, s: newShop().with(num(1)).repo(Repository{
			Name: "a", Blobs: []Membership{{Digest: num(1), Content: num(1), Touched: clock().Add(time.Nanosecond)}},
		})},
		"a store without repositories": {gone: "1 2", s: newShop().with(num(1), num(2))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := options()
			if test.o != nil {
				test.o(&o)
			}
			want := decide(test.s, o).items()
			collect(t, test.s, o)
			var data, links []string
			for _, i := range test.s.gone {
				number := strings.TrimLeft(string(i.Digest[9:]), "0")
				if i.Kind == KindData {
					data = append(data, number)
				} else {
					links = append(links, fmt.Sprint(i.Kind, " ", i.Repo, " ", number))
				}
			}
			if got, want := numbers(data), test.gone; got != want {
				t.Errorf("data %s went, want %s", got, want)
			}
			if got := strings.Join(links, ", "); got != hexed(test.link) {
				t.Errorf("went %s, want %s", got, hexed(test.link))
			}
			if got := itemsOf(test.s.gone); got != want {
				t.Errorf("went\n%s\nthe rules say\n%s", got, want)
			}
		})
	}
}

// numbers are those of digests, in decimal.
func numbers(hex []string) string {
	var all []int
	for _, h := range hex {
		n, err := strconv.ParseInt(h, 16, 0)
		if err != nil {
			return err.Error()
		}
		all = append(all, int(n))
	}
	slices.Sort(all)
	return strings.Trim(fmt.Sprint(all), "[]")
}

// hexed writes the numbers of links as they end in a digest.
func hexed(links string) string {
	if links == "" {
		return ""
	}
	all := strings.Split(links, ", ")
	for i, l := range all {
		f := strings.Fields(l)
		n, err := strconv.Atoi(f[2])
		if err != nil {
			return err.Error()
		}
		all[i] = fmt.Sprintf("%s %s %x", f[0], f[1], n)
	}
	return strings.Join(all, ", ")
}

// TestBusyKeepsItsClosure lets the index of a dead image be touched in time:
// with it stay its child, the layers, their links and the signature.
func TestBusyKeepsItsClosure(t *testing.T) {
	t.Parallel()
	for _, fault := range []error{ErrBusy, errors.New("read-only file system")} {
		s := newShop().repo(Repository{
			Name: "a", Manifests: []Manifest{manifest(4, 40).about(2), manifest(2, 20), manifest(1, 2), manifest(6, 20, 60), manifest(5, 50)},
		})
		s.remove = func(_ int, i Item) error {
			if i.Digest == num(1) {
				return fault
			}
			return nil
		}
		r := collect(t, s, options())
		want := map[Kind]Count{KindManifest: {N: 2}, KindBlob: {N: 2}, KindData: {N: 4, Bytes: 400}}
		if fmt.Sprint(r.Removed) != fmt.Sprint(want) || r.Kept[KeptBusy] != (Count{N: 5, Bytes: 500}) {
			t.Errorf("%v: removed %v, kept %v", fault, r.Removed, r.Kept)
		}
		if failed := len(r.Failed) == 1 && r.Failed[0] == (Failure{Kind: KindManifest, Repo: "a", Digest: num(1), Why: fault.Error()}); failed != (fault != ErrBusy) {
			t.Errorf("%v: failures %v", fault, r.Failed)
		}
	}
}

// late has data that comes when its repositories are read.
type late struct{ *shop }

func (l late) Repos(ctx context.Context) iter.Seq2[string, error] {
	l.with(num(7))
	return l.shop.Repos(ctx)
}

func TestWhatComesLaterIsNoCandidate(t *testing.T) {
	t.Parallel()
	s := newShop().with(num(1)).repo(Repository{Name: "a"})
	r, err := Collect(t.Context(), late{s}, s, options(), false)
	if err != nil || r.Before.N != 1 || len(s.data) != 1 || len(s.gone) != 1 {
		t.Errorf("%+v, %v: %v left", r, err, s.data)
	}
}

// TestLinear wants no more steps for each tag of many than for each of few,
// and for what is nested than there are names in it.
func TestLinear(t *testing.T) {
	t.Parallel()
	if few, many := stepsOf(t, tagged(2000)), stepsOf(t, tagged(20000)); many > 11*few {
		t.Errorf("%d steps for 2,000 tags, %d for 20,000", few, many)
	}
	nested := &Repository{Name: "a"}
	for i := range 60 { // 2^60 paths.
		for j := range 2 {
			nested.Manifests = append(nested.Manifests, manifest(2*i+j+1000, 2*i+1002, 2*i+1003).about(2*i+998))
			nested.Manifests[2*i+j].Content = nested.Manifests[2*i+j].Digest
		}
	}
	if n := stepsOf(t, nested); n > 60*2*12 {
		t.Errorf("%d steps for 120 indexes", n)
	}
	nested.Tags = []Pointer{{Tag: "v1", Digest: num(1000)}, {Tag: "v2", Digest: num(1001)}}
	if n := stepsOf(t, nested); n > 60*2*12 {
		t.Errorf("%d steps for 120 indexes with a tag", n)
	}
	star := &Repository{Name: "a"} // All links lead to the same, and name it.
	for i := range 1000 {
		star.Manifests = append(star.Manifests, Manifest{Digest: num(i + 1000), Content: num(500), Names: []oci.Digest{num(500)}, Subject: num(500)})
	}
	if n := stepsOf(t, star); n > 20000 {
		t.Errorf("%d steps for 1,000 names of the same", n)
	}
}

func stepsOf(t *testing.T, r *Repository) int64 {
	t.Helper()
	o := options()
	m := &marker{index: &index{}, o: o, ages: ages{o.Now}}
	m.mark(r)
	if m.steps.Load() == 0 {
		t.Error("nothing was counted")
	}
	return m.steps.Load()
}

// tagged has n tags, and half as many manifests without one, which share
// layers, and a signature for each.
func tagged(n int) *Repository {
	r := &Repository{Name: "a"}
	for i := range n + n/2 {
		m := manifest(1000+i, 200, 201, 1_000_000+i)
		m.Content = m.Digest
		s := manifest(2_000_000+i, 300).about(1000 + i)
		s.Content = s.Digest
		r.Manifests = append(r.Manifests, m, s)
		r.Blobs = append(r.Blobs, link(num(1_000_000+i)))
		if i < n {
			r.Tags = append(r.Tags, Pointer{Tag: fmt.Sprint("v", i), Digest: m.Digest})
		}
	}
	return r
}
