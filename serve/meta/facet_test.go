package meta

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

func sizeOne(string, int) int64 { return 1 }

func TestFacetReadsAKeyOnce(t *testing.T) {
	f := newFacet(sizeOne)
	reads := 0
	load := func() (int, bool, error) { reads++; return 7, true, nil }
	for range 3 {
		if v, ok, err := f.get("a", load); v != 7 || !ok || err != nil {
			t.Fatalf("got %d, %t, %v", v, ok, err)
		}
	}
	if reads != 1 {
		t.Errorf("the disk was read %d times, want once", reads)
	}
}

func TestFacetDoesNotRememberWhatIsAbsent(t *testing.T) {
	f := newFacet(sizeOne)
	for i := range 1000 {
		if _, ok, _ := f.get(fmt.Sprint(i), func() (int, bool, error) { return 0, false, nil }); ok {
			t.Fatal("found what is not there")
		}
	}
	if f.size() != 0 {
		t.Errorf("asking for what is not there costs %d, want nothing", f.size())
	}
}

func TestFacetThatKnowsAllAsksTheDiskNoMore(t *testing.T) {
	f := newFacet(sizeOne)
	if err := f.all(func() (map[string]int, []string, error) { return map[string]int{"b": 2, "a": 1}, nil, nil }); err != nil {
		t.Fatal(err)
	}
	fail := func() (int, bool, error) { return 0, false, errors.New("read") }
	if _, ok, err := f.get("c", fail); ok || err != nil {
		t.Errorf("got %t, %v; want absent without a look at the disk", ok, err)
	}
	if err := f.change("aa", fail, func(int, bool) (int, bool, error) { return 3, true, nil }); err != nil {
		t.Fatal(err)
	}
	if err := f.change("b", fail, func(int, bool) (int, bool, error) { return 0, false, nil }); err != nil {
		t.Fatal(err)
	}
	if got, want := f.after("", 9), []string{"a", "aa"}; !slices.Equal(got, want) {
		t.Errorf("order %q, want %q", got, want)
	}
	if got, want := f.after("a", 9), []string{"aa"}; !slices.Equal(got, want) {
		t.Errorf("after a: %q, want %q", got, want)
	}
	if f.size() != 2 {
		t.Errorf("cost %d, want 2", f.size())
	}
}

func TestFacetAsksTheDiskAfterAFailedChange(t *testing.T) {
	f := newFacet(sizeOne)
	disk := map[string]int{"a": 1}
	load := func() (int, bool, error) { v, ok := disk["a"]; return v, ok, nil }
	if err := f.all(func() (map[string]int, []string, error) { return map[string]int{"a": 1}, nil, nil }); err != nil {
		t.Fatal(err)
	}
	torn := errors.New("torn")
	err := f.change("a", load, func(int, bool) (int, bool, error) {
		disk["a"] = 2 // The change arrived, and then something failed.
		return 2, true, torn
	})
	if !errors.Is(err, torn) {
		t.Fatal(err)
	}
	if v, _, _ := f.get("a", load); v != 2 {
		t.Errorf("memory says %d, the disk 2", v)
	}
	if f.isComplete() {
		t.Error("still claims to know every key")
	}
}

// A reader that misses while a writer writes must not put the old value back.
func TestFacetNeverKeepsWhatWasOverwritten(t *testing.T) {
	for range 200 {
		f := newFacet(sizeOne)
		var disk atomic.Int64
		load := func() (int, bool, error) { return int(disk.Load()), true, nil }
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { _, _, _ = f.get("a", load) })
			wg.Go(func() {
				_ = f.all(func() (map[string]int, []string, error) { return map[string]int{"a": int(disk.Load())}, nil, nil })
			})
		}
		wg.Go(func() {
			_ = f.change("a", load, func(int, bool) (int, bool, error) { disk.Store(1); return 1, true, nil })
		})
		wg.Wait()
		if v, _, _ := f.get("a", load); v != 1 {
			t.Fatalf("memory says %d after 1 was written", v)
		}
	}
}

func TestLocksHoldInOneOrder(t *testing.T) {
	var l Locks
	var wg sync.WaitGroup
	inside := map[string]int{}
	var mu sync.Mutex
	enter := func(alone, shared []string) {
		defer l.Hold(alone, shared)()
		mu.Lock()
		for _, k := range alone {
			if inside[k]++; inside[k] != 1 {
				t.Errorf("%s is held alone by %d", k, inside[k])
			}
		}
		mu.Unlock()
		mu.Lock()
		for _, k := range alone {
			inside[k]--
		}
		mu.Unlock()
	}
	for range 500 {
		wg.Go(func() { enter([]string{"a"}, []string{"b", "c", "a"}) })
		wg.Go(func() { enter([]string{"b"}, []string{"c", "a"}) })
		wg.Go(func() { enter([]string{"c"}, []string{"a", "b"}) })
	}
	wg.Wait()
	if len(l.held) != 0 {
		t.Errorf("%d locks stay in memory", len(l.held))
	}
}

func TestFacetAsksAgainForWhatCouldNotBeRead(t *testing.T) {
	f := newFacet(sizeOne)
	if err := f.all(func() (map[string]int, []string, error) { return map[string]int{"a": 1}, []string{"b"}, nil }); err != nil {
		t.Fatal(err)
	}
	if got := f.doubts(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("doubts %q", got)
	}
	read := func() (int, bool, error) { return 2, true, nil } // It has been healed from elsewhere.
	if v, ok, err := f.get("b", read); v != 2 || !ok || err != nil {
		t.Errorf("got %d, %t, %v", v, ok, err)
	}
	if got := f.after("", 9); !slices.Equal(got, []string{"a", "b"}) || len(f.doubts()) != 0 {
		t.Errorf("order %q, doubts %q", got, f.doubts())
	}
}
