package ocitest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/regctl/regctl/client/oci"
)

// History makes n random calls of two empty registries, one of which is
// usually [NewRegistry], and compares their answers: codes, digests, sizes,
// bytes and lists. The same seed makes the same calls. When the answers differ
// it looks for the fewest calls that still make them differ, prints these, and
// fails the test; for this both registries are opened again and again.
func History(t testing.TB, seed uint64, n int, want, got func(t testing.TB) oci.Registry) {
	t.Helper()
	h := history{t: t, world: newWorld(), want: want, got: got}
	if found := h.search(h.world.randomSteps(seed, n)); found != nil {
		t.Errorf("two registries differ (seed %d, shortened from %d calls):\n%s", seed, n, found)
	}
}

// history replays lists of steps on two registries.
type history struct {
	t         testing.TB
	world     *world
	want, got func(testing.TB) oci.Registry
}

// difference is where two registries answered differently.
type difference struct {
	steps     []step // The last one is where it was seen.
	want, got string
}

func (d *difference) String() string {
	var b strings.Builder
	for i, s := range d.steps {
		fmt.Fprintf(&b, "%3d  %s\n", i+1, s)
	}
	fmt.Fprintf(&b, "want %s\n got %s", d.want, d.got)
	return b.String()
}

// search returns the shortest difference it finds, or nil.
func (h history) search(steps []step) *difference {
	found := h.replay(steps)
	if found == nil {
		return nil
	}
	for size := len(found.steps) / 2; size > 0; size /= 2 {
		for i := 0; i+size <= len(found.steps); {
			if shorter := h.replay(slices.Concat(found.steps[:i], found.steps[i+size:])); shorter != nil {
				found = shorter
			} else {
				i += size
			}
		}
	}
	return found
}

// replay makes the steps one by one until the answers differ. What can be
// seen of the registries is compared now and then, and at the end.
func (h history) replay(steps []step) *difference {
	want, got := newPlayer(h.t, h.want(h.t)), newPlayer(h.t, h.got(h.t))
	defer want.close()
	defer got.close()
	for i, s := range steps {
		if a, b := want.play(s), got.play(s); a != b {
			return &difference{steps[:i+1], a, b}
		}
		if i%16 == 15 || i == len(steps)-1 {
			if a, b := firstDifference(want.state(h.world), got.state(h.world)); a != b {
				return &difference{steps[:i+1], "state: " + a, "state: " + b}
			}
		}
	}
	return nil
}

func firstDifference(a, b []string) (string, string) {
	for i := range a {
		if a[i] != b[i] {
			return a[i], b[i]
		}
	}
	return "", ""
}
