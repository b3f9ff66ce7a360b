package event_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/event"
	"github.com/regctl/regctl/serve/state"
	"github.com/regctl/regctl/serve/storage/mem"
)

// gated is a registry that does nothing any more once its process is dead.
type gated struct {
	oci.Registry
	box *mortal
}

func (g gated) PutManifest(ctx context.Context, repo string, p oci.Put) (d oci.Descriptor, err error) {
	if dead := g.box.do(func() { d, err = g.Registry.PutManifest(ctx, repo, p) }); dead != nil {
		return d, dead
	}
	return d, err
}

// TestCrashWhileManyPushOneTag wants every push told that was acknowledged
// before a crash, though the tag has moved on since: what is in the layout does
// not tell it any more.
func TestCrashWhileManyPushOneTag(t *testing.T) {
	t.Parallel()
	b := mem.New()
	s := open(t, b)
	raw := imageOf(t, s, "app", "layer")
	h := &history{t: t, backend: b, hook: &hook{}}
	n := 0
	for round := range 6 {
		h.reopen()
		reg := event.Observe(gated{s, h.box}, event.New(t.Context(), h.box, s, to(h.hook)))
		var mu sync.Mutex
		var acked, want []string
		begun := n
		var workers sync.WaitGroup
		for range 4 {
			workers.Go(func() {
				for {
					mu.Lock()
					n++
					body := strings.Replace(raw, "{", "{"+strings.Repeat(" ", n), 1)
					mu.Unlock()
					if _, err := reg.PutManifest(t.Context(), "app", oci.Put{Raw: []byte(body), Tags: []string{"latest"}}); err != nil {
						return // It is dead.
					}
					mu.Lock()
					acked = append(acked, "push app:latest@"+shortOf(digest.FromString(body)))
					if len(acked) == 10+round { // At this moment.
						want = slices.Clone(acked)
						h.box.kill()
					}
					mu.Unlock()
				}
			})
		}
		workers.Wait()
		h.reopen()
		event.New(t.Context(), h.box, s, to(h.hook)) // The next process.
		told := inBox(t, h.box.State, "hook")
		for _, e := range want {
			if !slices.Contains(told, e) {
				t.Errorf("%s is acknowledged, and not told", e)
			}
		}
		if len(told) < len(want) || n-begun < len(want) {
			t.Errorf("%d told of %d, %d pushed", len(told), len(want), n-begun)
		}
		if err := h.box.KeepEndpoints(t.Context(), time.Unix(1<<33, 0)); err != nil {
			t.Fatal(err)
		}
		h.box.kill()
	}
}

// ending is an outbox that is being read when its server ends.
type ending struct {
	*state.State
	end func()
}

func (e ending) NextEvents(ctx context.Context, _ string, _ int) ([]state.Event, error) {
	e.end()
	return nil, ctx.Err()
}

// TestEndIsNoFault wants nothing logged of an outbox that was not read because
// the server ends.
func TestEndIsNoFault(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	o := to(&hook{})
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	ctx, cancel := context.WithCancel(t.Context())
	event.New(ctx, ending{openState(t), cancel}, open(t, mem.New()), o).Run(ctx)
	if log.Len() > 0 {
		t.Error(log.String())
	}
}
