package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve/store"
)

// Many push, pull and delete images that share blobs while collections go on
// back to back. No push fails, and whoever pulls an image that nobody deletes
// gets all of it. Time passes as pushes end, so that none takes longer than a
// lease, however slow the machine.
func TestSoak(t *testing.T) {
	t.Parallel()
	const pushers, pushes = 8, 60
	clock := newFakeTime()
	b := memAt(clock)
	s, err := store.New(t.Context(), b, store.Options{Now: clock.now})
	if err != nil {
		t.Fatal(err)
	}
	k := &soak{t: t, s: s, pace: newPace(clock, pushers)}
	k.ran.L = &k.mu
	ctx, stop := context.WithCancel(t.Context())
	var work, collector sync.WaitGroup
	collector.Go(func() { k.collect(ctx) })
	for n := range pushers {
		work.Go(func() { k.pushes(uint64(n), pushes) })
	}
	work.Wait()
	stop()
	collector.Wait()
	for repo, err := range s.Repos(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		for tag, err := range s.Tags(t.Context(), repo, "") {
			if err == nil {
				err = wholeImage(s, repo, tag)
			}
			if err != nil {
				t.Errorf("%s:%s: %v", repo, tag, err)
			}
		}
	}
	t.Logf("%d collections removed %d data", k.runs, k.removed)
	if k.removed == 0 {
		t.Error("no data was removed: this proves nothing")
	}
}

type soak struct {
	t    *testing.T
	s    *store.Store
	pace *pace

	mu            sync.Mutex
	ran           sync.Cond // A collection has ended.
	runs, removed int
	over          bool // There are no more.
}

// end notes what a collection did.
func (k *soak) end(removed int, over bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.runs, k.removed, k.over = k.runs+1, k.removed+removed, over
	k.ran.Broadcast()
}

// await waits for two collections to end, the second of which began meanwhile:
// however slow they are, they are about as many as there are for pushers.
func (k *soak) await() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for enough := k.runs + 2; k.runs < enough && !k.over; {
		k.ran.Wait()
	}
}

// soakLease is longer than a push may take: see pace.
const soakLease = 3 * time.Second

// pace lets a second pass whenever everybody has made one more step, and lets
// nobody get far ahead: so none of their steps takes more than two seconds.
type pace struct {
	clock *fakeTime
	mu    sync.Mutex
	moved sync.Cond
	steps []int
	least int
}

func newPace(clock *fakeTime, n int) *pace {
	p := &pace{clock: clock, steps: make([]int, n)}
	p.moved.L = &p.mu
	return p
}

// step ends n steps of one of them.
func (p *pace) step(who uint64, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.steps[who] += n
	if least := slices.Min(p.steps); least > p.least {
		p.clock.pass(time.Duration(least-p.least) * time.Second)
		p.least = least
		p.moved.Broadcast()
	}
	for n == 1 && p.steps[who] > p.least+1 {
		p.moved.Wait()
	}
}

func (k *soak) collect(ctx context.Context) {
	for ctx.Err() == nil {
		r, err := k.s.Collect(ctx, gc.Options{Untagged: true, Older: soakLease, Uploads: soakLease, Jobs: 1}, false)
		if err != nil && ctx.Err() == nil || len(r.Failed)+len(r.Doubts)+len(r.Frozen) > 0 {
			k.t.Errorf("%v, %+v", err, r)
			break
		}
		k.end(r.Removed[gc.KindData].N, false)
	}
	k.end(0, true)
}

func (k *soak) pushes(n uint64, times int) {
	r := rand.New(rand.NewPCG(n, 1))
	own := fmt.Sprint("own/", n)
	defer k.pace.step(n, 1<<20) // Nobody waits for one that is done.
	for i := range times {
		k.pace.step(n, 1)
		if i%20 == 19 {
			k.await()
		}
		repo := []string{"shared", own}[r.IntN(2)]
		tag := fmt.Sprintf("p%d-%d", n, r.IntN(3))
		d, err := k.push(r, repo, tag, fmt.Sprint(n, i))
		if err == nil {
			err = wholeImage(k.s, repo, string(d))
		}
		if err == nil && r.IntN(4) == 0 {
			err = k.s.DeleteTag(context.Background(), repo, tag, d)
		}
		if err == nil && repo == own && r.IntN(10) == 0 {
			err = k.s.DeleteRepo(context.Background(), repo)
		}
		if err != nil {
			k.t.Errorf("push %d of %d: %v", i, n, err)
			return
		}
	}
}

// push is what clients do: ask for each blob, mount it or push it.
func (k *soak) push(r *rand.Rand, repo, tag, id string) (oci.Digest, error) {
	ctx := context.Background()
	var digests []oci.Digest
	for _, content := range []string{"config " + id, fmt.Sprint("layer ", r.IntN(30)), fmt.Sprint("base ", r.IntN(3))} {
		d := digest.FromString(content)
		digests = append(digests, d)
		if _, err := k.s.StatBlob(ctx, repo, d); err == nil {
			continue
		} else if !errors.Is(err, oci.BlobUnknown) {
			return "", err
		}
		u, err := k.s.MountBlob(ctx, repo, "shared", d)
		if err != nil {
			return "", err
		}
		if u == nil {
			continue
		}
		if err := u.Cancel(ctx); err != nil {
			return "", err
		}
		if err := push(ctx, k.s, repo, content); err != nil {
			return "", err
		}
	}
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"digest":%q,"size":1},"layers":[{"digest":%q,"size":1},{"digest":%q,"size":1}]}`,
		oci.MediaTypeManifest, digests[0], digests[1], digests[2])
	d, err := k.s.PutManifest(ctx, repo, oci.Put{Raw: raw, Tags: []string{tag}})
	return d.Digest, err
}
