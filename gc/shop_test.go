package gc

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
)

func clock() time.Time { return time.Date(2026, time.November, 20, 12, 0, 0, 0, time.UTC) }

func ago(d time.Duration) time.Time { return clock().Add(-d) }

// num makes a digest of a number: sha512 from 100 on.
func num(i int) oci.Digest {
	if i >= 100 {
		return oci.Digest(fmt.Sprintf("sha512:%0128x", i))
	}
	return oci.Digest(fmt.Sprintf("sha256:%02x%062x", i, i))
}

// shop is a store of a few maps: a Source and a Sweeper.
type shop struct {
	data   map[oci.Digest]Datum
	repos  map[string]*Repository
	litter []Litter

	// fault is asked at every step of a source, of which what tells the name,
	// and remove before every removal.
	fault  func(what string) error
	remove func(n int, i Item) error

	mu      sync.Mutex
	started *shop // What was there before the first removal.
	gone    []Item
	tried   int
	broken  []string // What must not be: see check.
	asked   map[string]int
}

func newShop() *shop {
	return &shop{data: map[oci.Digest]Datum{}, repos: map[string]*Repository{}, asked: map[string]int{}}
}

func (s *shop) clone() *shop {
	c := newShop()
	maps.Copy(c.data, s.data)
	c.litter = slices.Clone(s.litter)
	for name, r := range s.repos {
		c.repos[name] = cloneRepo(r)
	}
	return c
}

func cloneRepo(r *Repository) *Repository {
	c := *r
	c.Tags, c.Manifests, c.Blobs = slices.Clone(r.Tags), slices.Clone(r.Manifests), slices.Clone(r.Blobs)
	c.Unlinked, c.Tombs, c.Doubts = slices.Clone(r.Unlinked), slices.Clone(r.Tombs), slices.Clone(r.Doubts)
	return &c
}

func (s *shop) at(what string) error {
	s.mu.Lock()
	s.asked[what]++
	s.mu.Unlock()
	if s.fault == nil {
		return nil
	}
	return s.fault(what)
}

func (s *shop) Data(context.Context) iter.Seq2[Datum, error] {
	return func(yield func(Datum, error) bool) {
		if len(s.asked) > 0 {
			s.broken = append(s.broken, "something was asked before data")
		}
		for _, d := range slices.Backward(slices.Sorted(maps.Keys(s.data))) {
			if err := s.at("data " + string(d)); err != nil {
				if !yield(Datum{}, err) {
					return
				}
				continue
			}
			if !yield(s.data[d], nil) {
				return
			}
		}
	}
}

func (s *shop) Repos(context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, name := range slices.Sorted(maps.Keys(s.repos)) {
			if err := s.at("repos " + name); err != nil {
				if !yield("", err) {
					return
				}
				continue
			}
			for range 2 { // A source may say a thing twice.
				if !yield(name, nil) {
					return
				}
			}
		}
	}
}

func (s *shop) Repository(_ context.Context, name string) (*Repository, error) {
	if err := s.at("repository " + name); err != nil {
		return nil, err
	}
	return cloneRepo(s.repos[name]), nil
}

func (s *shop) Litter(context.Context) iter.Seq2[Litter, error] {
	return func(yield func(Litter, error) bool) {
		for _, l := range s.litter {
			if err := s.at("litter " + l.Key); err != nil {
				if !yield(Litter{}, err) {
					return
				}
				continue
			}
			if !yield(l, nil) {
				return
			}
		}
	}
}

func (s *shop) Remove(_ context.Context, i Item) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started == nil {
		s.started = s.clone()
	}
	n := s.tried
	s.tried++
	if s.remove != nil {
		if err := s.remove(n, i); err != nil && !errors.Is(err, ErrGone) {
			return err
		} else if err != nil {
			s.take(i)
			s.check(i)
			return err
		}
	}
	if !s.take(i) {
		s.broken = append(s.broken, fmt.Sprintf("%v is not there", i))
		return ErrGone
	}
	s.gone = append(s.gone, i)
	s.check(i)
	return nil
}

// take removes i, and tells whether it was there as it was planned.
func (s *shop) take(i Item) bool {
	switch i.Kind {
	case KindManifest:
		f := s.repos[i.Repo]
		n := len(f.Manifests)
		f.Manifests = slices.DeleteFunc(f.Manifests, func(m Manifest) bool { return m.Digest == i.Digest && sameTime(m.Touched, i.Seen) })
		return len(f.Manifests) == n-1
	case KindBlob:
		f := s.repos[i.Repo]
		n := len(f.Blobs)
		f.Blobs = slices.DeleteFunc(f.Blobs, func(m Membership) bool { return m.Digest == i.Digest && sameTime(m.Touched, i.Seen) })
		return len(f.Blobs) == n-1
	case KindData:
		d, ok := s.data[i.Digest]
		delete(s.data, i.Digest)
		return ok && d.Size == i.Size && sameTime(d.Touched, i.Seen)
	}
	n := len(s.litter)
	s.litter = slices.DeleteFunc(s.litter, func(l Litter) bool {
		return l == Litter{Kind: i.Kind, Repo: i.Repo, Key: i.Key, Size: i.Size, Touched: i.Seen}
	})
	return len(s.litter) == n-1
}

// sameTime takes all that is very long ago for one time.
func sameTime(a, b time.Time) bool { return a.Equal(b) || a.Year() < 1700 && b.Year() < 1700 }

// check wants everything whole after every single removal: what a manifest
// that still has its link names, what refers to it, the data of every link,
// and what of it was there when the run began.
func (s *shop) check(after Item) {
	for name, was := range s.started.repos {
		is := s.repos[name]
		bad := func(format string, args ...any) {
			s.broken = append(s.broken, fmt.Sprintf("after %s %s %s: %s: ", after.Kind, after.Repo, short(after.Digest), name)+fmt.Sprintf(format, args...))
		}
		has := func(who string, d oci.Digest) {
			if _, ok := s.started.data[d]; ok {
				if _, ok := s.data[d]; !ok {
					bad("%s has lost the data %s", who, short(d))
				}
			}
		}
		wants := func(who string, d oci.Digest) {
			has(who, d)
			for _, m := range was.Manifests {
				if m.Digest != d && m.Content != d {
					continue
				}
				has(who, m.Content)
				if !slices.ContainsFunc(is.Manifests, func(o Manifest) bool { return o.Digest == m.Digest }) {
					bad("%s has lost the manifest %s", who, short(m.Digest))
				}
			}
			for _, m := range was.Blobs {
				if m.Digest != d && m.Content != d {
					continue
				}
				has(who, m.Content)
				if !slices.ContainsFunc(is.Blobs, func(o Membership) bool { return o.Digest == m.Digest }) {
					bad("%s has lost the link %s", who, short(m.Digest))
				}
			}
		}
		for _, m := range is.Manifests {
			who := "manifest " + short(m.Digest)
			has(who, m.Digest)
			has(who, m.Content)
			for _, d := range m.Names {
				wants(who, d)
			}
			for _, o := range was.Manifests {
				if o.Subject != "" && (o.Subject == m.Digest || o.Subject == m.Content) {
					has("subject "+short(m.Digest), o.Content)
					if !slices.ContainsFunc(is.Manifests, func(p Manifest) bool { return p.Digest == o.Digest }) {
						bad("subject %s has lost %s", short(m.Digest), short(o.Digest))
					}
				}
			}
		}
		for _, m := range is.Blobs {
			has("link", m.Digest)
			has("link", m.Content)
		}
		for _, t := range is.Tags {
			wants("tag "+t.Tag, t.Digest)
		}
	}
}

func short(d oci.Digest) string {
	algorithm, hex, _ := strings.Cut(string(d), ":")
	return strings.TrimPrefix(algorithm, "sha") + ":" + strings.Trim(hex, "0")
}

// keyOf names an item as [naive] does.
func keyOf(i Item) string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s%s", i.Kind, i.Repo, short(i.Digest), i.Key))
}

func itemsOf(items []Item) string {
	var keys []string
	for _, i := range items {
		keys = append(keys, keyOf(i))
	}
	slices.Sort(keys)
	return strings.Join(keys, "\n")
}

// plan makes a plan that must succeed.
func plan(t testing.TB, s *shop, o Options) *Plan {
	t.Helper()
	s.asked = map[string]int{}
	p, err := MakePlan(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// collect plans and executes, and wants both to tell the same.
func collect(t testing.TB, s *shop, o Options) Report {
	t.Helper()
	p := plan(t, s, o)
	r, err := p.Execute(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.broken) > 0 {
		t.Fatalf("%s", strings.Join(s.broken, "\n"))
	}
	return r
}

// options are those of the command, but for the time of an upload.
func options() Options {
	return Options{Untagged: true, Older: time.Hour, Uploads: day, Undo: day, Jobs: 1, Now: clock()}
}
