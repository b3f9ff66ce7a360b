package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
)

var start = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return start }

func digestOf(s string) oci.Digest { return oci.Digest("sha256:" + strings.Repeat("0", 64-len(s)) + s) }

func open(t *testing.T, path string) *State {
	t.Helper()
	s, err := Open(t.Context(), path, clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func newPath(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "odd?name#%41", "state.db")
}

func openNew(t *testing.T) (*State, string) {
	t.Helper()
	path := newPath(t)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	return open(t, path), path
}

// TestRestart wants all that was recorded found again, in a file for its owner
// only, and nothing beside it that says otherwise.
func TestRestart(t *testing.T) {
	t.Parallel()
	s, path := openNew(t)
	want := Deletion{
		Run: "r1", Kind: KindManifest, Repo: "app", Digest: digestOf("1"), MediaType: oci.MediaTypeIndex,
		Raw: []byte("{}\x00"), By: "ann", Addr: "::1",
	}
	ds := []Deletion{want, {Kind: KindTag, Repo: "app", Tag: "1", Digest: digestOf("1"), At: start.Add(time.Hour)}}
	if err := s.Record(t.Context(), ds...); err != nil {
		t.Fatal(err)
	}
	if ds[0].ID == 0 || ds[1].ID <= ds[0].ID || !ds[0].At.Equal(start) {
		t.Errorf("ids %d, %d, at %s", ds[0].ID, ds[1].ID, ds[0].At)
	}
	s.Pulled("app", digestOf("1"), start)
	for _, name := range []string{path, path + "-wal"} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Record(t.Context(), want); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	s = open(t, path)
	got, err := s.Deleted(t.Context(), "app", start)
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	if _, err := os.Stat(path + "-shm"); err == nil {
		t.Error("there is a file of shared memory, for which a full disk has no room")
	}
	if g := got[0]; !bytes.Equal(g.Raw, want.Raw) || fmt.Sprint(g.Run, g.Kind, g.Repo, g.Tag, g.Digest, g.MediaType, g.By, g.Addr) !=
		fmt.Sprint(want.Run, want.Kind, want.Repo, want.Tag, want.Digest, want.MediaType, want.By, want.Addr) || !g.At.Equal(start) {
		t.Errorf("got %+v", g)
	}
	if got, err := s.Deleted(t.Context(), "app", start.Add(time.Minute)); err != nil || len(got) != 1 || got[0].Tag != "1" {
		t.Errorf("later: %+v, %v", got, err)
	}
	if repos, err := s.DeletedRepos(t.Context(), start.Add(time.Minute)); err != nil || len(repos) != 1 || repos[0] != "app" {
		t.Errorf("%v, %v", repos, err)
	}
	if last, err := s.LastPulled(t.Context(), "app"); err != nil || !last[digestOf("1")].Equal(start) {
		t.Errorf("%v, %v", last, err)
	}
}

// TestPages wants pages that meet, bounded by number and by bytes.
func TestPages(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	raw := bytes.Repeat([]byte("x"), maxRaw/2)
	for i := range 5 {
		if err := s.Record(t.Context(), Deletion{Kind: KindManifest, Repo: "app", Run: fmt.Sprint(i % 2), Raw: raw}); err != nil {
			t.Fatal(err)
		}
	}
	pages := func(o ListOptions) string {
		var all []string
		for {
			page, err := s.List(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				return strings.Join(all, " ")
			}
			var ids []string
			for _, d := range page {
				ids = append(ids, fmt.Sprint(d.ID))
				if (d.Raw != nil) != o.Raw {
					t.Errorf("%d has %d bytes", d.ID, len(d.Raw))
				}
			}
			all = append(all, strings.Join(ids, ","))
			o.After = page[len(page)-1].ID
		}
	}
	for _, c := range []struct {
		o    ListOptions
		want string
	}{
		{ListOptions{N: 2}, "1,2 3,4 5"},
		{ListOptions{N: 100, Raw: true}, "1,2,3 4,5"},
		{ListOptions{N: 100, Run: "1"}, "2,4"},
		{ListOptions{N: 100, Since: start.Add(1)}, ""},
		{ListOptions{N: 100, Since: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, ""},
		{ListOptions{N: 0, After: 3}, "4 5"},
	} {
		if got := pages(c.o); got != c.want {
			t.Errorf("%+v: %s, want %s", c.o, got, c.want)
		}
	}
}

// TestShared wants calls that come while a commit is under way to share the
// next one, and each to have its own records.
func TestShared(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	const calls = 40
	s.writing.Lock() // A commit is under way.
	var all sync.WaitGroup
	for i := range calls {
		all.Go(func() {
			d := []Deletion{{Kind: KindTag, Repo: "app", Tag: fmt.Sprint(i)}}
			if err := s.Record(t.Context(), d...); err != nil {
				t.Error(err)
			}
			if d[0].ID == 0 {
				t.Error("no ID")
			}
		})
	}
	waiting := func() int {
		s.queue.Lock()
		defer s.queue.Unlock()
		if s.next == nil {
			return 0
		}
		return len(s.next.records)
	}
	for waiting() < calls {
		runtime.Gosched() // Each of the calls arrives.
	}
	s.writing.Unlock()
	all.Wait()
	ds, err := s.List(t.Context(), ListOptions{N: 100})
	if err != nil || len(ds) != calls {
		t.Fatal(len(ds), err)
	}
	tags := map[string]bool{}
	for _, d := range ds {
		tags[d.Tag] = true
	}
	if len(tags) != calls {
		t.Errorf("%d of %d tags", len(tags), calls)
	}
}

// TestAllAtOnce mixes everything, for the race detector.
func TestAllAtOnce(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	var all sync.WaitGroup
	try := func(f func(i int) error) {
		all.Go(func() {
			for i := range 20 {
				if err := f(i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 4 {
		try(func(i int) error {
			return s.Record(t.Context(), Deletion{Kind: KindTag, Repo: "app", Tag: fmt.Sprint(i)})
		})
		try(func(int) error { _, err := s.Deleted(t.Context(), "app", time.Time{}); return err })
		try(func(i int) error { s.Pulled("app", digestOf(fmt.Sprint(i)), start); return s.Flush(t.Context()) })
		try(func(int) error { _, err := s.LastPulled(t.Context(), "app"); return err })
	}
	try(func(int) error { return s.Purge(t.Context(), time.Time{}) })
	all.Wait()
	if ds, err := s.List(t.Context(), ListOptions{N: 1000}); err != nil || len(ds) != 80 {
		t.Errorf("%d records, %v", len(ds), err)
	}
}

// TestCancelled wants a record that its caller no longer waits for to be
// written all the same: others may share the commit.
func TestCancelled(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Record(ctx, Deletion{Kind: KindTag, Repo: "app"}); err != nil {
		t.Error(err)
	}
	if _, err := s.Deleted(ctx, "app", time.Time{}); !errors.Is(err, context.Canceled) {
		t.Errorf("a reader does not end: %v", err)
	}
	if ds, err := s.Deleted(t.Context(), "app", time.Time{}); err != nil || len(ds) != 1 {
		t.Errorf("%v, %v", ds, err)
	}
}

// TestForget wants only that gone which is told, and no number used twice.
func TestForget(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	ds := []Deletion{{Kind: KindTag, Repo: "a"}, {Kind: KindTag, Repo: "b"}}
	if err := s.Record(t.Context(), ds...); err != nil {
		t.Fatal(err)
	}
	if err := s.Forget(t.Context(), ds[1].ID); err != nil {
		t.Fatal(err)
	}
	third := []Deletion{{Kind: KindTag, Repo: "c"}}
	if err := s.Record(t.Context(), third...); err != nil || third[0].ID <= ds[1].ID {
		t.Errorf("id %d after %d, %v", third[0].ID, ds[1].ID, err)
	}
	if repos, err := s.DeletedRepos(t.Context(), time.Time{}); err != nil || strings.Join(repos, " ") != "a c" {
		t.Errorf("%v, %v", repos, err)
	}
}

// TestPurge wants what is older gone, the rest kept, and the file smaller.
func TestPurge(t *testing.T) {
	t.Parallel()
	s, path := openNew(t)
	day := 24 * time.Hour
	raw := bytes.Repeat([]byte("x"), 4<<20)
	err := s.Record(t.Context(), Deletion{Kind: KindManifest, Repo: "old", At: start.Add(-91 * day), Raw: raw}, Deletion{Kind: KindTag, Repo: "new"})
	if err != nil {
		t.Fatal(err)
	}
	s.Pulled("old", digestOf("1"), start.Add(-pullsKept-91*day))
	s.Pulled("old", digestOf("2"), start.Add(-91*day))
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context(), start.Add(-90*day)); err != nil {
		t.Fatal(err)
	}
	if repos, err := s.DeletedRepos(t.Context(), time.Time{}); err != nil || len(repos) != 1 || repos[0] != "new" {
		t.Errorf("%v, %v", repos, err)
	}
	if last, err := s.LastPulled(t.Context(), "old"); err != nil || len(last) != 1 || last[digestOf("2")].IsZero() {
		t.Errorf("%v, %v", last, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > 1<<20 {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
}

// TestPulls wants the latest time of each told, flushed or not, of the digests
// that are asked for.
func TestPulls(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	s.Pulled("app", digestOf("1"), start.Add(time.Hour))
	s.Pulled("app", digestOf("2"), start)
	s.Pulled("other", digestOf("1"), start)
	if err := s.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Pulled("app", digestOf("1"), start)
	s.Pulled("app", digestOf("2"), start.Add(2*time.Hour))
	for range 2 {
		last, err := s.LastPulled(t.Context(), "app")
		if err != nil || len(last) != 2 || !last[digestOf("1")].Equal(start.Add(time.Hour)) || !last[digestOf("2")].Equal(start.Add(2*time.Hour)) {
			t.Errorf("%v, %v", last, err)
		}
		many := make([]oci.Digest, 0, 1000)
		for i := range 999 {
			many = append(many, digestOf(fmt.Sprintf("a%d", i)))
		}
		last, err = s.LastPulled(t.Context(), "app", append(many, digestOf("2"))...)
		if err != nil || len(last) != 1 || !last[digestOf("2")].Equal(start.Add(2*time.Hour)) {
			t.Errorf("of those asked for: %v, %v", last, err)
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.pulls.waiting) != 0 {
		t.Errorf("%d wait", len(s.pulls.waiting))
	}
}

// TestManyPulls wants memory bounded, and nothing lost, with more pulls than
// are kept there.
func TestManyPulls(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	const n = maxPulls + 10
	for i := range n {
		s.Pulled("app", digestOf(fmt.Sprintf("%x", i)), start)
		if len(s.pulls.waiting) > maxPulls {
			t.Fatalf("%d wait", len(s.pulls.waiting))
		}
	}
	if last, err := s.LastPulled(t.Context(), "app"); err != nil || len(last) != n {
		t.Errorf("%d of %d, %v", len(last), n, err)
	}
}

// TestNil wants a State that remembers nothing where there is none.
func TestNil(t *testing.T) {
	t.Parallel()
	var s *State
	s.Pulled("app", digestOf("1"), start)
	ds, err1 := s.List(t.Context(), ListOptions{N: 1})
	repos, err2 := s.DeletedRepos(t.Context(), time.Time{})
	of, err3 := s.Deleted(t.Context(), "app", time.Time{})
	last, err4 := s.LastPulled(t.Context(), "app")
	err := errors.Join(err1, err2, err3, err4, s.Record(t.Context(), Deletion{}), s.Forget(t.Context(), 1), s.Flush(t.Context()), s.Purge(t.Context(), start), s.Close())
	if err != nil || len(ds)+len(repos)+len(of)+len(last) > 0 {
		t.Error(err)
	}
}
