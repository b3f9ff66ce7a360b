package store_test

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file/filetest"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/storage/storagetest"
	"github.com/regctl/regctl/serve/store"
)

// later is the time of a store whose content is old.
func later() time.Time { return time.Now().Add(24 * time.Hour) }

func collectLater(t testing.TB, b storage.Backend) (*store.Store, gc.Report, error) {
	t.Helper()
	s, err := store.New(t.Context(), b, store.Options{Now: later})
	if err != nil {
		t.Fatal(err)
	}
	collect(t, s.Repos(t.Context(), ""))
	r, err := s.Collect(t.Context(), ageOptions(), false)
	return s, r, err
}

// litter adds what crashes leave.
func litter(t testing.TB, b storage.Backend) {
	t.Helper()
	s := open(t, b)
	u, err := s.Upload(t.Context(), "app", "", oci.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Write([]byte("a part")); err != nil {
		t.Fatal(err)
	}
	if err := u.Close(); err != nil {
		t.Fatal(err)
	}
	const repos = "docker/registry/v2/repositories/"
	for _, key := range []string{
		repos + "app/_manifests/tags/gone/current/link.1.tmp",
		repos + "app/_manifests/tags/v1/current/link.2.tmp",
		repos + "app/_uploads/6a1f0d7e-0000-4000-8000-000000000000/data",
		repos + "left/_manifests.X.deleted/revisions/link",
	} {
		if err := storage.Put(t.Context(), b, key, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
}

// survives checks that all is there that a tag of aged leads to.
func survives(t *testing.T, r oci.Registry, at map[string]oci.Digest) {
	t.Helper()
	checkTags(t, r, at, nil)
	for _, name := range []string{"livesig", "child1"} {
		if err := wholeImage(r, "app", string(at[name])); err != nil {
			t.Error(err)
		}
	}
}

// finished checks that the next run leaves what a run without faults does.
func finished(t *testing.T, b storage.Backend, at map[string]oci.Digest) {
	t.Helper()
	s, r, err := collectLater(t, b)
	if err != nil || len(r.Failed)+len(r.Doubts)+len(r.Frozen) > 0 {
		t.Errorf("the next run: %v, %+v", err, r)
	}
	survives(t, s, at)
	for _, name := range []string{"old", "oldindex", "oldsig", "oldlib", "l2", "loose", "lb"} {
		if _, err := b.Stat(t.Context(), meta.BlobKey(at[name])); err == nil {
			t.Errorf("the data of %s stays", name)
		}
	}
	checkTidy(t, b)
}

func TestEveryStepOfACollectionMayFail(t *testing.T) {
	t.Parallel()
	var at map[string]oci.Digest
	var s *store.Store
	storagetest.EveryStep(t,
		func(t testing.TB) storage.Backend {
			b := mem.New()
			at = ocitest.Push(t, open(t, b), aged)
			litter(t, b)
			return b
		},
		func(t testing.TB, b storage.Backend) (err error) {
			var r gc.Report
			s, r, err = collectLater(t, b)
			for _, f := range r.Failed {
				err = errors.Join(err, errors.New(f.Why))
			}
			return err
		},
		func(tb testing.TB, b storage.Backend, err error) {
			t := tb.(*testing.T)
			survives(t, s, at)
			survives(t, open(t, b), at)
			if a, b := state(t, s), state(t, open(t, b)); !slices.Equal(a, b) {
				t.Errorf("memory differs from the layout:\n%q\n%q", a, b)
			}
			finished(t, b, at)
		})
}

// The power is cut ahead of every call of a run that changes or syncs
// anything: what was removed may be back, but never what hangs on something
// without it.
func TestPowerCutInACollection(t *testing.T) {
	t.Parallel()
	disk := filetest.NewDisk()
	at := ocitest.Push(t, open(t, onDisk(t, disk)), aged)
	litter(t, onDisk(t, disk))
	s, err := store.New(t.Context(), onDisk(t, disk), store.Options{Now: later})
	if err != nil {
		t.Fatal(err)
	}
	collect(t, s.Repos(t.Context(), ""))
	var mu sync.Mutex
	chance := rand.New(rand.NewPCG(1, 2))
	var cuts []*filetest.Disk
	disk.Before = func(filetest.Call) error {
		mu.Lock()
		defer mu.Unlock()
		cuts = append(cuts, disk.PowerCut(), disk.PowerCutKeeping(func() bool { return chance.IntN(2) == 0 }))
		return nil
	}
	if _, err := s.Collect(t.Context(), ageOptions(), false); err != nil {
		t.Fatal(err)
	}
	disk.Before = nil
	for i, cut := range append(cuts, disk.PowerCut()) {
		if raceDetector && i%5 != 0 {
			continue
		}
		b := onDisk(t, cut)
		r := open(t, b)
		survives(t, r, at)
		for repo, manifests := range map[string][]string{"app": slices.Sorted(maps.Keys(aged["app"].Manifests)), "lib": {"oldlib"}} {
			for _, name := range manifests { // Even garbage is there as a whole.
				if _, err := r.Resolve(t.Context(), repo, string(at[name])); err != nil {
					continue
				}
				if err := wholeOrSparse(r, repo, at[name]); err != nil {
					t.Errorf("%s is there, but %v", name, err)
				}
			}
		}
		finished(t, b, at)
		if t.Failed() {
			t.Fatalf("power cut %d of %d", i, len(cuts))
		}
	}
	if len(cuts) < 100 {
		t.Errorf("only %d cuts", len(cuts))
	}
}
