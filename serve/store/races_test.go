package store_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/storage/storagetest"
	"github.com/regctl/regctl/serve/store"
)

// Another write begins at each step of a write. It either gets done in between
// or waits for a lock; afterwards everything is whole, memory is the layout,
// and what was acknowledged last is so.
func TestEveryWriteAtEveryStepOfAnother(t *testing.T) {
	for _, first := range writes() {
		for _, second := range writes() {
			t.Run(first.name+" while "+second.name, func(t *testing.T) {
				t.Parallel()
				for step := 1; raceAt(t, step, first, second) && !t.Failed(); step++ {
				}
			})
		}
	}
}

// raceAt begins second ahead of change step of first, and tells whether first
// had that many.
func raceAt(t *testing.T, step int, first, second write) bool {
	b := mem.New()
	at := ocitest.Push(t, open(t, b), base)
	var s *store.Store
	var once sync.Once
	done := make(chan error, 1)
	begun, n := false, 0
	var mu sync.Mutex
	before := func(storagetest.Change) error {
		mu.Lock()
		n++
		begin := n == step
		begun = begun || begin
		mu.Unlock()
		if begin {
			once.Do(func() {
				go func() { done <- second.do(t.Context(), s, at) }()
				select { // Done, or waiting for a lock that first holds.
				case err := <-done:
					done <- err
				case <-time.After(5 * time.Millisecond):
				}
			})
		}
		return nil
	}
	s = open(t, storagetest.NewFaulty(b, false, before))
	state(t, s)
	errFirst := first.do(t.Context(), s, at)
	mu.Lock()
	raced := begun
	mu.Unlock()
	if !raced {
		return false
	}
	errSecond := <-done
	for _, err := range []error{errFirst, errSecond} {
		if err != nil && !refusal(err) {
			t.Errorf("step %d: %v", step, err)
		}
	}
	goes := append(append([]string{}, first.goes...), second.goes...)
	checkWhole(t, s, at, goes)
	checkWhole(t, open(t, b), at, goes)
	checkTidy(t, b)
	return true
}

// refusal tells whether an error is an answer to what another request did,
// rather than a failure.
func refusal(err error) bool {
	for _, code := range []oci.Code{
		oci.ManifestUnknown, oci.BlobUnknown, oci.NameUnknown, oci.TagMoved,
		oci.ManifestBlobUnknown, oci.BlobUploadUnknown, oci.Unsupported,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	return errors.Is(err, errNotMounted)
}
