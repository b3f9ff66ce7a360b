package event_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve/event"
	"github.com/regctl/regctl/serve/state"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/storage/storagetest"
)

// killed is an outbox of a process that dies: what happens after announcing is
// not noted.
type killed struct{ *state.State }

func (killed) Happened(...int64) {}
func (killed) Done(...int64)     {}

// a step is one change, and what must be told of it if it took effect.
type step struct {
	name string
	do   func(context.Context, oci.Registry) error
	// tells are the events, each with what must be there, or must not, for it
	// to be told.
	tells map[string]string
}

func shortOf(d oci.Digest) string { return fmt.Sprintf("%.14s", d) }

func steps(raw string) []step {
	d, layer, fresh := digest.FromString(raw), digest.FromString("layer"), digest.FromString("fresh")
	other := strings.Replace(raw, "{", "{ ", 1)
	return []step{
		{"push a blob", func(ctx context.Context, r oci.Registry) error {
			up, err := r.Upload(ctx, "app", "", oci.UploadOptions{})
			if err != nil {
				return err
			}
			defer up.Close()
			if _, err := up.Write([]byte("fresh")); err != nil {
				return err
			}
			_, err = up.Commit(ctx, fresh)
			return err
		}, map[string]string{"push app:@" + shortOf(fresh): "app blob " + string(fresh)}},
		{"push a manifest with tags", func(ctx context.Context, r oci.Registry) error {
			_, err := r.PutManifest(ctx, "app", oci.Put{Raw: []byte(other), Tags: []string{"one", "two"}})
			return err
		}, map[string]string{
			"push app:one@" + shortOf(digest.FromString(other)): "app one " + string(digest.FromString(other)),
			"push app:two@" + shortOf(digest.FromString(other)): "app two " + string(digest.FromString(other)),
		}},
		{"push a manifest", func(ctx context.Context, r oci.Registry) error {
			_, err := r.PutManifest(ctx, "app", oci.Put{Raw: []byte(other)})
			return err
		}, map[string]string{"push app:@" + shortOf(digest.FromString(other)): "app manifest " + string(digest.FromString(other))}},
		{"mount", func(ctx context.Context, r oci.Registry) error {
			_, err := r.MountBlob(ctx, "b", "app", layer)
			return err
		}, map[string]string{"mount b:@" + shortOf(layer): "b blob " + string(layer)}},
		{"delete a tag", func(ctx context.Context, r oci.Registry) error { return r.DeleteTag(ctx, "app", "one", "") },
			map[string]string{"delete app:one": "!app one " + string(d)}},
		{"delete a manifest", func(ctx context.Context, r oci.Registry) error { return r.DeleteManifest(ctx, "app", d) },
			map[string]string{"delete app:@" + shortOf(d): "!app manifest " + string(d), "delete app:one": "!app one " + string(d)}},
		{"delete a blob", func(ctx context.Context, r oci.Registry) error {
			return r.DeleteBlob(ctx, "app", digest.FromString("spare"))
		}, map[string]string{"delete app:@" + shortOf(digest.FromString("spare")): "!app blob " + string(digest.FromString("spare"))}},
		{"delete a repository", func(ctx context.Context, r oci.Registry) error { return r.DeleteRepo(ctx, "app") },
			map[string]string{"delete app": "!app repository"}},
	}
}

// holds tells whether it is so, as step.tells says it.
func holds(t testing.TB, l event.Layout, what string) bool {
	t.Helper()
	what, not := strings.CutPrefix(what, "!")
	fields := strings.Fields(what)
	repo := fields[0]
	var err error
	is := true
	switch fields[1] {
	case "blob":
		_, err = l.StatBlob(t.Context(), repo, oci.Digest(fields[2]))
	case "manifest":
		_, err = l.Resolve(t.Context(), repo, fields[2])
	case "repository":
		for _, err = range l.Tags(t.Context(), repo, "") {
			break
		}
	default:
		var at oci.Digest
		at, err = l.TagAt(t.Context(), repo, fields[1])
		is = string(at) == fields[2]
		if _, missing := l.Resolve(t.Context(), repo, fields[2]); err == nil && missing != nil && !not {
			is = false
		}
	}
	if err != nil && !errors.Is(err, oci.ManifestUnknown) && !errors.Is(err, oci.BlobUnknown) && !errors.Is(err, oci.NameUnknown) {
		t.Fatal(err)
	}
	return (is && err == nil) != not
}

// TestEveryStepOfEveryChangeMayFail wants told what took effect, and nothing
// else: when the storage fails at a step, and when the process dies there.
func TestEveryStepOfEveryChangeMayFail(t *testing.T) {
	pattern := mem.New()
	raw := imageOf(t, open(t, pattern), "app", "layer")
	for _, dies := range []bool{false, true} {
		for _, c := range steps(raw) {
			t.Run(fmt.Sprintf("%s,dies=%t", c.name, dies), func(t *testing.T) {
				t.Parallel()
				box := openState(t) // One for all steps: to make one takes longer than a step.
				storagetest.EveryStep(t,
					func(t testing.TB) storage.Backend {
						b := mem.New()
						s := open(t, b)
						imageOf(t, s, "app", "layer")
						ocitest.PushBlob(t, s, "app", "spare")
						ocitest.PushManifest(t, s, "app", raw, "one")
						if err := box.KeepEndpoints(t.Context(), time.Unix(1<<33, 0)); err != nil {
							t.Fatal(err)
						}
						return b
					},
					func(t testing.TB, b storage.Backend) error {
						s := open(t, b)
						var outbox event.Outbox = box
						if dies {
							outbox = killed{box}
						}
						return c.do(t.Context(), event.Observe(s, event.New(t.Context(), outbox, s, to(&hook{}))))
					},
					func(t testing.TB, b storage.Backend, err error) {
						s := open(t, b)
						event.New(t.Context(), box, s, to(&hook{})) // The next process.
						told := inBox(t, box, "hook")
						if n := box.WaitingEvents(); n > 0 {
							t.Errorf("%d marks are left", n)
						}
						for tells, what := range c.tells {
							is := holds(t, s, what)
							if err == nil && !is {
								t.Errorf("acknowledged, but not so: %s", what)
							}
							if got := slices.Contains(told, tells); got != is {
								t.Errorf("%q is told: %t; %s is so: %t", tells, got, what, is)
							}
						}
						for _, e := range told {
							if _, ok := c.tells[e]; !ok {
								t.Errorf("%q is told", e)
							}
						}
					})
			})
		}
	}
}

// mortal is an outbox that can be cut off, as by a crash.
type mortal struct {
	*state.State
	mu   sync.RWMutex
	dead bool
}

var errDead = errors.New("dead")

// kill lets nothing through any more.
func (m *mortal) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
}

func (m *mortal) do(f func()) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.dead {
		return errDead
	}
	f()
	return nil
}

func (m *mortal) Announce(ctx context.Context, es []state.Event) (err error) {
	return errors.Join(m.do(func() { err = m.State.Announce(ctx, es) }), err)
}

func (m *mortal) FlushEvents(ctx context.Context) (err error) {
	return errors.Join(m.do(func() { err = m.State.FlushEvents(ctx) }), err)
}

func (m *mortal) NextEvents(ctx context.Context, endpoint string, n int) (es []state.Event, err error) {
	return es, errors.Join(m.do(func() { es, err = m.State.NextEvents(ctx, endpoint, n) }), err)
}

func (m *mortal) Happened(ids ...int64) { _ = m.do(func() { m.State.Happened(ids...) }) }
func (m *mortal) Done(ids ...int64)     { _ = m.do(func() { m.State.Done(ids...) }) }

// history is a registry that lives through crashes and faults, and what must be
// told of it.
type history struct {
	t       *testing.T
	random  *rand.Rand
	backend storage.Backend
	layout  event.Layout
	reg     oci.Registry
	hook    *hook
	box     *mortal
	dir     string
	stop    func()
	raws    []string
	want    []string
}

// reopen opens what the last process left on disk, which had no say in it.
func (h *history) reopen() {
	from := h.dir
	h.dir = h.t.TempDir()
	for _, name := range []string{"state.db", "state.db-wal"} {
		raw, err := os.ReadFile(filepath.Join(from, name))
		if from == "" || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(h.dir, name), raw, 0o600)
		}
		if err != nil {
			h.t.Fatal(err)
		}
	}
	st, err := state.Open(h.t.Context(), filepath.Join(h.dir, "state.db"), nil)
	if err != nil {
		h.t.Fatal(err)
	}
	h.box = &mortal{State: st}
	h.t.Cleanup(func() { _ = st.Close() })
}

// live begins a life, with what the last one left on disk.
func (h *history) live() {
	h.reopen()
	s := open(h.t, h.backend)
	h.layout = s
	var faults []ocitest.Fault
	for range 6 {
		methods := []string{"PutManifest", "Upload.Commit", "DeleteTag", "DeleteManifest", "MountBlob"}
		faults = append(faults, ocitest.Fault{
			Method: methods[h.random.IntN(len(methods))], N: 1 + h.random.IntN(12),
			Err: errors.New("input/output error"), Late: h.random.IntN(2) == 0,
		})
	}
	o := to(h.hook)
	o.Endpoints[0].Backoff = time.Millisecond
	n := event.New(h.t.Context(), h.box, s, o)
	h.reg = event.Observe(ocitest.Faulty(s, faults...), n)
	ctx, cancel := context.WithCancel(h.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.Run(ctx)
	}()
	h.stop = func() {
		cancel()
		<-ended
	}
}

// die ends a life, with or without a chance to write anything.
func (h *history) die(suddenly bool) {
	if suddenly {
		h.box.kill()
	}
	h.stop()
	if suddenly {
		return
	}
	if err := h.box.Close(); err != nil {
		h.t.Fatal(err)
	}
}

// do makes a change, and notes what must be told of it.
func (h *history) do(tells, what string, change func() error) {
	gone := strings.HasPrefix(what, "!") && holds(h.t, h.layout, what)
	err := change()
	switch {
	case gone: // Nothing was there, so nothing happens.
	case err == nil:
		h.want = append(h.want, tells)
	case strings.Contains(err.Error(), "input/output error") && holds(h.t, h.layout, what):
		h.want = append(h.want, tells)
	}
}

// tagIs says that a tag does not point to where it does.
func (h *history) tagIs(repo, tag string) string {
	at, err := h.layout.TagAt(h.t.Context(), repo, tag)
	if err != nil {
		at = "nothing"
	}
	return "!" + repo + " " + tag + " " + string(at)
}

func (h *history) step(n int) {
	ctx, repo := h.t.Context(), []string{"a", "b"}[h.random.IntN(2)]
	raw := h.raws[h.random.IntN(len(h.raws))]
	d, tag := digest.FromString(raw), []string{"1", "2", "3"}[h.random.IntN(3)]
	switch h.random.IntN(6) {
	case 0, 1:
		h.do("push "+repo+":"+tag+"@"+shortOf(d), repo+" "+tag+" "+string(d), func() error {
			_, err := h.reg.PutManifest(ctx, repo, oci.Put{Raw: []byte(raw), Tags: []string{tag}})
			return err
		})
	case 2:
		h.do("delete "+repo+":"+tag, h.tagIs(repo, tag), func() error { return h.reg.DeleteTag(ctx, repo, tag, "") })
	case 3:
		data := fmt.Sprintf("blob %d", n)
		b := digest.FromString(data)
		h.do("push "+repo+":@"+shortOf(b), repo+" blob "+string(b), func() error {
			up, err := h.reg.Upload(ctx, repo, "", oci.UploadOptions{})
			if err != nil {
				return err
			}
			defer up.Close()
			if _, err := up.Write([]byte(data)); err != nil {
				return err
			}
			_, err = up.Commit(ctx, b)
			return err
		})
	case 4:
		tags, err := h.layout.TagsOf(ctx, repo, d)
		if err != nil || len(tags) > 0 {
			return // Their order is another test's business.
		}
		h.do("delete "+repo+":@"+shortOf(d), "!"+repo+" manifest "+string(d), func() error { return h.reg.DeleteManifest(ctx, repo, d) })
	case 5:
		b := digest.FromString("layer 1")
		h.do("mount "+repo+":@"+shortOf(b), repo+" blob "+string(b), func() error {
			up, err := h.reg.MountBlob(ctx, repo, "a", b)
			if up != nil {
				return errors.Join(errors.New("not mounted"), up.Cancel(ctx))
			}
			return err
		})
	}
}

// TestHistory makes changes at random while storage, endpoint and process fail
// at random: all that took effect is told, in order, and nothing else.
func TestHistory(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			h := &history{t: t, random: rand.New(rand.NewPCG(seed, 1)), backend: mem.New(), hook: &hook{}}
			var fails sync.Mutex
			chance := rand.New(rand.NewPCG(seed, 2))
			h.hook.answer = func(*http.Request) (*http.Response, error) {
				fails.Lock()
				defer fails.Unlock()
				if chance.IntN(4) == 0 {
					return nil, errors.New("reset")
				}
				return status(200), nil
			}
			s := open(t, h.backend)
			for i := range 3 {
				for _, repo := range []string{"a", "b"} {
					raw := imageOf(t, s, repo, fmt.Sprintf("layer %d", i))
					if repo == "a" {
						h.raws = append(h.raws, raw)
					}
				}
			}
			h.live()
			for n := range 80 {
				h.step(n)
				if h.random.IntN(10) == 0 {
					h.die(h.random.IntN(4) > 0)
					h.live()
				}
			}
			for limit := time.After(30 * time.Second); len(h.hook.told()) < len(h.want); {
				select {
				case <-limit:
					t.Fatalf("told\n%s\nwant\n%s", strings.Join(h.hook.told(), "\n"), strings.Join(h.want, "\n"))
				case <-time.After(time.Millisecond):
				}
			}
			h.die(false)
			if got := h.hook.told(); !slices.Equal(got, h.want) {
				t.Errorf("told\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(h.want, "\n"))
			}
			kinds := map[string]int{}
			for _, e := range h.want {
				kinds[between(" "+e, " ", " ")]++
			}
			if len(kinds) < 3 {
				t.Errorf("only %v happened", slices.Sorted(maps.Keys(kinds)))
			}
		})
	}
}
