package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve/meta"
	journal "github.com/regctl/regctl/serve/state"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/store"
)

// fakeTime is a time that only tests move.
type fakeTime struct {
	mu sync.Mutex
	t  time.Time
}

func newFakeTime() *fakeTime {
	return &fakeTime{t: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
}

func (f *fakeTime) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.t
}

func (f *fakeTime) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.t = f.t.Add(d)
}

func memAt(clock *fakeTime) *mem.Backend {
	b := mem.New()
	b.Now = clock.now
	return b
}

func openAt(t testing.TB, b storage.Backend, clock *fakeTime, since time.Time) *store.Store {
	t.Helper()
	s, err := store.New(t.Context(), b, store.Options{Now: clock.now, Since: since})
	if err != nil {
		t.Fatal(err)
	}
	collect(t, s.Repos(t.Context(), ""))
	return s
}

// aged is what the store holds when a run begins, all of it old. What no tag
// leads to may go.
var aged = ocitest.Content{
	"app": {
		Blobs: ocitest.Blobs{"base": "shared", "l1": "live", "l2": "garbage", "c1": "child 1", "c2": "child 2", "loose": "of no image"},
		Manifests: ocitest.Manifests{
			"live":     {Layers: "base l1", Platform: "linux/amd64"},
			"old":      {Layers: "base l2", Platform: "linux/386"},
			"child1":   {Layers: "base c1", Platform: "linux/arm64"},
			"child2":   {Layers: "c2", Platform: "linux/s390x"},
			"oldindex": {Manifests: "child1 child2"},
			"index":    {Manifests: "child1"},
			"oldsig":   {Subject: "old", Layers: "c2", ArtifactType: "application/sig"},
			"livesig":  {Subject: "live", Layers: "c1", ArtifactType: "application/sig"},
		},
		Tags: ocitest.Tags{"v1": "live", "multi": "index"},
	},
	"lib": {
		Blobs: ocitest.Blobs{"lb": "only in lib"},
		Manifests: ocitest.Manifests{
			"oldlib": {Layers: "lb", Platform: "linux/mips64le"},
		},
	},
}

// oldEnough is the age of what goes in these runs, and the lease.
const oldEnough = 10 * time.Minute

func ageOptions() gc.Options {
	return gc.Options{Untagged: true, Older: oldEnough, Uploads: oldEnough, Undo: oldEnough, Jobs: 1}
}

// race is a run of a collection and what a client does meanwhile.
type race struct {
	t     testing.TB
	clock *fakeTime
	b     *mem.Backend // Without steps.
	s     *store.Store
	at    map[string]oci.Digest
	kill  func() // Ends the process that runs.

	upload oci.Upload            // Open since long before the run.
	old    []byte                // The manifest "old".
	blobs  map[oci.Digest]string // What it names.

	mu      sync.Mutex
	told    map[string]error // "repo@digest" of what the client was told is there.
	deleted records
}

func (w *race) record(d journal.Deletion) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deleted.list = append(w.deleted.list, d)
}

// Deleted implements [store.Records].
func (w *race) Deleted(ctx context.Context, repo string, since time.Time) ([]journal.Deletion, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.deleted.Deleted(ctx, repo, since)
}

// DeletedRepos implements [store.Records].
func (w *race) DeletedRepos(ctx context.Context, since time.Time) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.deleted.DeletedRepos(ctx, since)
}

// head asks for a blob, as a client does to know what it need not push.
func (w *race) head(ctx context.Context, repo string, d oci.Digest) bool {
	_, err := w.s.StatBlob(ctx, repo, d)
	w.note(repo+" "+string(d), err)
	return err == nil
}

func (w *race) headManifest(ctx context.Context, repo string, d oci.Digest) bool {
	_, err := w.s.Resolve(ctx, repo, string(d))
	w.note(repo+"@"+string(d), err)
	return err == nil
}

func (w *race) note(what string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.told[what] = nil
	}
}

// pushImage pushes an image as clients do: only the blobs that are not there.
func (w *race) pushImage(ctx context.Context, repo string, tags []string, contents ...string) error {
	var digests []oci.Digest
	for _, content := range contents {
		d := digest.FromString(content)
		digests = append(digests, d)
		if w.head(ctx, repo, d) {
			continue
		}
		if err := push(ctx, w.s, repo, content); err != nil {
			return err
		}
		w.note(repo+" "+string(d), nil)
	}
	return w.put(ctx, repo, imageNamed(digests[0], digests[1]), tags...)
}

func (w *race) put(ctx context.Context, repo string, raw []byte, tags ...string) error {
	d, err := w.s.PutManifest(ctx, repo, oci.Put{Raw: raw, Tags: tags})
	if err == nil {
		w.note(repo+"@"+string(d.Digest), nil)
	}
	return err
}

// lost checks that all is there that the client was told is there, with all
// that hangs on it.
func (w *race) lost(r oci.Registry) (err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for what := range w.told {
		repo, d, isManifest := strings.Cut(what, "@")
		if !isManifest {
			repo, d, _ = strings.Cut(what, " ")
		}
		if isManifest {
			err = errors.Join(err, wholeImage(r, repo, d))
		} else {
			err = errors.Join(err, hasBlob(r, repo, oci.Digest(d)))
		}
	}
	return err
}

// action is what a client does while a collection is under way. It is done
// again after the run if it was refused.
type action struct {
	name   string
	before func(ctx context.Context, w *race) error // Long before the run.
	late   func(ctx context.Context, w *race) error // Right before it.
	do     func(ctx context.Context, w *race) error
	goes   []string // "repo:tag" that it takes away.
	// sparse are tags of indexes whose children may have been missing.
	sparse []string
	// restarts says that there is another run in it.
	restarts bool
}

func indexNamed(children ...oci.Digest) []byte {
	var list []string
	for _, c := range children {
		list = append(list, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1}`, oci.MediaTypeManifest, c))
	}
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, oci.MediaTypeIndex, strings.Join(list, ","))
}

func actions() []action {
	return slices.Concat(pushes(), blindPushes(), changes())
}

// promise notes a manifest that something was pushed for, if it is still there
// when that was acknowledged, as the disk says: nobody asked the registry.
func (w *race) promise(ctx context.Context, repo string, d oci.Digest) {
	key := "docker/registry/v2/repositories/" + repo + "/_manifests/revisions/sha256/" + d.Encoded() + "/link"
	_, err := w.b.Stat(ctx, key)
	w.note(repo+"@"+string(d), err)
}

// blindPushes are those that name what is there without asking for it.
func blindPushes() []action {
	return []action{
		{name: "push an index without asking for its child", do: func(ctx context.Context, w *race) error {
			err := w.putNamer(ctx, "app", indexNamed(w.at["child2"]), "new")
			if err == nil {
				w.promise(ctx, "app", w.at["child2"])
			}
			return err
		}, sparse: []string{"app:new"}},
		{name: "sign without asking for the subject", do: func(ctx context.Context, w *race) error {
			if err := push(ctx, w.s, "app", "signature"); err != nil {
				return err
			}
			err := w.putNamer(ctx, "app", signatureOf(w.at["old"]))
			if err == nil {
				w.promise(ctx, "app", w.at["old"])
			}
			return err
		}},
		{name: "push an old manifest to another repository", do: func(ctx context.Context, w *race) error {
			g, err := oci.ParseManifest("", w.old)
			if err != nil {
				return err
			}
			for _, b := range g.Blobs() {
				if err := push(ctx, w.s, "other", w.blobs[b.Digest]); err != nil {
					return err
				}
			}
			return w.put(ctx, "other", w.old, "new")
		}},
	}
}

// putNamer is put of what need not be whole: what it names may be missing.
func (w *race) putNamer(ctx context.Context, repo string, raw []byte, tags ...string) error {
	_, err := w.s.PutManifest(ctx, repo, oci.Put{Raw: raw, Tags: tags})
	return err
}

func signatureOf(d oci.Digest) []byte {
	return fmt.Appendf(nil,
		`{"schemaVersion":2,"mediaType":%q,"config":{"digest":%q,"size":1},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":1}}`,
		oci.MediaTypeManifest, digest.FromString("signature"), oci.MediaTypeManifest, d)
}

func pushes() []action {
	return []action{
		{name: "push an image of old blobs", do: func(ctx context.Context, w *race) error {
			return w.pushImage(ctx, "app", []string{"new"}, "garbage", "shared")
		}},
		{name: "push an image of a loose blob and a new one", do: func(ctx context.Context, w *race) error {
			return w.pushImage(ctx, "app", []string{"new"}, "new", "of no image")
		}},
		{name: "push an image without asking for its blobs", do: func(ctx context.Context, w *race) error {
			err := w.put(ctx, "app", imageNamed(digest.FromString("garbage"), digest.FromString("of no image")), "new")
			if errors.Is(err, oci.ManifestBlobUnknown) { // Its retry.
				return w.pushImage(ctx, "app", []string{"new"}, "garbage", "of no image")
			}
			return err
		}},
		{name: "mount an old blob and push", do: func(ctx context.Context, w *race) error {
			d := digest.FromString("only in lib")
			for _, from := range []string{"lib", ""} {
				u, err := w.s.MountBlob(ctx, "app", from, d)
				if err != nil {
					return err
				}
				if u == nil {
					w.note("app "+string(d), nil)
					continue
				}
				if err := u.Cancel(ctx); err != nil {
					return err
				}
			}
			return w.pushImage(ctx, "app", []string{"new"}, "only in lib", "garbage")
		}},
		{name: "mount an old blob", do: func(ctx context.Context, w *race) error {
			d := digest.FromString("only in lib")
			u, err := w.s.MountBlob(ctx, "app", "lib", d)
			switch {
			case err != nil:
				return err
			case u != nil:
				return u.Cancel(ctx)
			}
			w.note("app "+string(d), nil)
			return nil
		}},
		{name: "push an index of an old child", do: func(ctx context.Context, w *race) error {
			if w.headManifest(ctx, "app", w.at["child2"]) {
				return w.put(ctx, "app", indexNamed(w.at["child2"]), "new")
			}
			return w.pushImage(ctx, "app", []string{"new"}, "child 2", "garbage")
		}},
		{name: "push an index of an old index", do: func(ctx context.Context, w *race) error {
			if w.headManifest(ctx, "app", w.at["oldindex"]) {
				return w.put(ctx, "app", indexNamed(w.at["oldindex"]), "new")
			}
			return nil
		}},
		{name: "push a blob again", do: func(ctx context.Context, w *race) error {
			err := push(ctx, w.s, "app", "garbage")
			if err == nil {
				w.note("app "+string(digest.FromString("garbage")), nil)
			}
			return err
		}},
		{name: "push the same blobs to another repository", do: func(ctx context.Context, w *race) error {
			return w.pushImage(ctx, "other", []string{"new"}, "garbage", "only in lib")
		}},
		{name: "push an old manifest again", do: func(ctx context.Context, w *race) error {
			m, err := w.s.Manifest(ctx, "app", string(w.at["old"]))
			if errors.Is(err, oci.ManifestUnknown) {
				return w.pushImage(ctx, "app", []string{"new"}, "garbage", "shared")
			}
			if err != nil {
				return err
			}
			w.note("app@"+string(w.at["old"]), nil)
			return w.put(ctx, "app", m.Raw, "new")
		}},
		{name: "sign an old image", do: func(ctx context.Context, w *race) error {
			w.headManifest(ctx, "app", w.at["old"])
			if err := w.pushImage(ctx, "app", nil, "signature", "garbage"); err != nil {
				return err
			}
			return w.put(ctx, "app", signatureOf(w.at["old"]))
		}},
		{
			name: "end an upload that took longer than a lease",
			before: func(ctx context.Context, w *race) error {
				w.head(ctx, "app", digest.FromString("garbage"))
				w.headManifest(ctx, "app", w.at["oldindex"])
				var err error
				w.upload, err = w.s.Upload(ctx, "app", "", oci.UploadOptions{})
				return err
			},
			do: func(ctx context.Context, w *race) error {
				if w.upload != nil {
					if _, err := io.WriteString(w.upload, "a large layer"); err != nil {
						return err
					}
					if _, err := w.upload.Commit(ctx, digest.FromString("a large layer")); err != nil {
						return err
					}
					w.upload = nil
				}
				return errors.Join(
					w.put(ctx, "app", imageNamed(digest.FromString("garbage"), digest.FromString("a large layer")), "new"),
					w.put(ctx, "app", indexNamed(w.at["oldindex"]), "newindex"))
			},
		},
	}
}

func changes() []action {
	return []action{
		{
			name: "exchange what tags point to",
			do: func(ctx context.Context, w *race) error {
				live, err := w.s.Manifest(ctx, "app", string(w.at["live"]))
				if err != nil {
					return err
				}
				index, err := w.s.Manifest(ctx, "app", string(w.at["index"]))
				if err != nil {
					return err
				}
				return errors.Join(w.put(ctx, "app", index.Raw, "v1"), w.put(ctx, "app", live.Raw, "multi"))
			},
			goes: []string{"app:v1", "app:multi"},
		},
		{
			name: "give its tag to another and tag it anew",
			do: func(ctx context.Context, w *race) error {
				live, err := w.s.Manifest(ctx, "app", string(w.at["live"]))
				if err != nil {
					return err
				}
				if err := w.pushImage(ctx, "app", []string{"v1"}, "garbage", "shared"); err != nil {
					return err
				}
				return w.put(ctx, "app", live.Raw, "a")
			},
			goes: []string{"app:v1"},
		},
		{
			name: "delete a manifest and push it again",
			do: func(ctx context.Context, w *race) error {
				err := w.s.DeleteManifest(ctx, "app", w.at["live"])
				if err != nil && !errors.Is(err, oci.ManifestUnknown) {
					return err
				}
				return w.pushImage(ctx, "app", []string{"v1"}, "live", "shared")
			},
			goes: []string{"app:v1"},
		},
		{
			name: "delete an old manifest that can be brought back",
			do: func(ctx context.Context, w *race) error {
				w.record(journal.Deletion{At: w.clock.now(), Kind: journal.KindManifest, Repo: "app", Digest: w.at["old"], Raw: w.old})
				err := w.s.DeleteManifest(ctx, "app", w.at["old"])
				if errors.Is(err, oci.ManifestUnknown) {
					return nil
				}
				if err != nil {
					return err
				}
				for d := range w.blobs {
					w.note("app "+string(d), nil)
				}
				return nil
			},
		},
		{
			name: "delete a tag",
			do: func(ctx context.Context, w *race) error {
				err := w.s.DeleteTag(ctx, "app", "v1", "")
				if errors.Is(err, oci.ManifestUnknown) {
					return nil
				}
				return err
			},
			goes: []string{"app:v1"},
		},
		{
			name: "list referrers and pull them",
			do: func(ctx context.Context, w *race) error {
				for desc, err := range w.s.Referrers(ctx, "app", w.at["old"], "") {
					if err != nil {
						return err
					}
					w.note("app@"+string(desc.Digest), nil)
				}
				return nil
			},
		},
		{
			name: "delete a repository and push to it",
			do: func(ctx context.Context, w *race) error {
				err := w.s.DeleteRepo(ctx, "app")
				if err != nil && !errors.Is(err, oci.NameUnknown) {
					return err
				}
				return w.pushImage(ctx, "app", []string{"v1"}, "garbage", "shared")
			},
			goes: []string{"app:v1", "app:multi"},
		},
		{
			name:     "restart the server",
			restarts: true,
			late: func(ctx context.Context, w *race) error {
				w.head(ctx, "app", digest.FromString("garbage"))
				w.headManifest(ctx, "app", w.at["oldindex"])
				w.clock.pass(time.Minute)
				return nil
			},
			do: func(ctx context.Context, w *race) error {
				w.kill()
				w.s = openAt(w.t, w.b, w.clock, w.clock.now())
				if _, err := w.s.Collect(ctx, ageOptions(), false); err != nil {
					return err
				}
				if err := w.pushImage(ctx, "app", []string{"new"}, "garbage", "shared"); err != nil {
					return err
				}
				if w.headManifest(ctx, "app", w.at["oldindex"]) {
					return w.put(ctx, "app", indexNamed(w.at["oldindex"]), "newindex")
				}
				return nil
			},
		},
	}
}

// stepped is a backend that does something ahead of one of its calls.
type stepped struct {
	storage.Backend
	mu    sync.Mutex
	n, at int // Counted while at is not 0.
	do    func()
	dead  atomic.Bool // Its process is: nothing changes any more.
}

var errDead = errors.New("the process is dead")

func (s *stepped) step() error {
	s.mu.Lock()
	if s.at > 0 {
		s.n++
	}
	now := s.at > 0 && s.n == s.at
	s.mu.Unlock()
	if now {
		s.do()
	}
	if s.dead.Load() {
		return errDead
	}
	return nil
}

func (s *stepped) Stat(ctx context.Context, key string) (storage.Info, error) {
	_ = s.step()
	return s.Backend.Stat(ctx, key)
}

func (s *stepped) Open(ctx context.Context, key string) (io.ReadSeekCloser, storage.Info, error) {
	_ = s.step()
	return s.Backend.Open(ctx, key)
}

func (s *stepped) Create(ctx context.Context, key string, off int64) (storage.Writer, error) {
	if err := s.step(); err != nil {
		return nil, err
	}
	return s.Backend.Create(ctx, key, off)
}

func (s *stepped) List(ctx context.Context, dir string) iter.Seq2[storage.Entry, error] {
	_ = s.step()
	return s.Backend.List(ctx, dir)
}

func (s *stepped) Rename(ctx context.Context, from, to string) error {
	if err := s.step(); err != nil {
		return err
	}
	return s.Backend.Rename(ctx, from, to)
}

func (s *stepped) Remove(ctx context.Context, key string) error {
	if err := s.step(); err != nil {
		return err
	}
	return s.Backend.Remove(ctx, key)
}

// Whatever a client does at whatever step of a run, it is done or refused in a
// way that it can try again, and nothing is lost that it was told is there.
func TestEveryActionAtEveryStepOfACollection(t *testing.T) {
	from, stride := newModel(t), 1
	if raceDetector { // Each step takes many times as long.
		stride = 7
	}
	for _, a := range actions() {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			step := 1
			for ; collectRace(t, from, step, a) && !t.Failed(); step += stride {
			}
			if step < 100 {
				t.Errorf("only %d steps", step)
			}
		})
	}
}

// prepare makes a store that is old, with a client that has begun something.
func prepare(t testing.TB, from *model, a action) (*race, *stepped) {
	clock := newFakeTime()
	b := memAt(clock)
	w := &race{t: t, clock: clock, b: b, told: map[string]error{}, at: from.at, old: from.old, blobs: from.blobs}
	for key, data := range from.files {
		if err := storage.Put(t.Context(), b, key, data); err != nil {
			t.Fatal(err)
		}
	}
	clock.pass(time.Hour)
	steps := &stepped{Backend: b}
	s, err := store.New(t.Context(), steps, store.Options{Now: clock.now, Records: w})
	if err != nil {
		t.Fatal(err)
	}
	collect(t, s.Repos(t.Context(), ""))
	w.s = s
	if a.before != nil {
		if err := a.before(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	clock.pass(3 * time.Hour)
	if a.late != nil {
		if err := a.late(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	return w, steps
}

// model is aged on a backend, to be copied.
type model struct {
	at    map[string]oci.Digest
	files map[string][]byte
	old   []byte                // The manifest "old".
	blobs map[oci.Digest]string // What it names.
}

func newModel(t testing.TB) *model {
	b := mem.New()
	m := &model{at: ocitest.Push(t, open(t, b), aged), files: map[string][]byte{}, blobs: map[oci.Digest]string{}}
	m.read(t, b, "docker")
	m.old = m.files[meta.BlobKey(m.at["old"])]
	g, err := oci.ParseManifest("", m.old)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range g.Blobs() {
		m.blobs[d.Digest] = string(m.files[meta.BlobKey(d.Digest)])
	}
	return m
}

func (m *model) read(t testing.TB, b storage.Backend, dir string) {
	for e, err := range b.List(t.Context(), dir) {
		if err != nil {
			t.Fatal(err)
		}
		key := dir + "/" + e.Name
		if e.Dir {
			m.read(t, b, key)
			continue
		}
		if m.files[key], _, err = storage.Get(t.Context(), b, key, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
}

// collectRace lets the action begin ahead of a step of a run, and tells whether
// it had that many. Else it is done after the run.
func collectRace(t *testing.T, from *model, step int, a action) bool {
	w, steps := prepare(t, from, a)
	done := make(chan error, 1)
	begun := false
	steps.do = func() {
		begun = true
		go func() { done <- a.do(t.Context(), w) }()
		select { // Done, or waiting for a lock that the run holds.
		case err := <-done:
			done <- err
		case <-time.After(5 * time.Millisecond):
		}
		if !a.restarts {
			w.clock.pass(time.Hour) // The run takes longer than any lease.
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	w.kill = func() { steps.dead.Store(true); stop() }
	s := w.s
	steps.at = step
	report, err := s.Collect(ctx, ageOptions(), false)
	steps.mu.Lock()
	steps.at = 0
	steps.mu.Unlock()
	if err != nil && ctx.Err() == nil {
		t.Fatalf("step %d: the run fails: %v", step, err)
	}
	if len(report.Failed) > 0 && ctx.Err() == nil {
		t.Fatalf("step %d: some of the run failed: %+v", step, report.Failed)
	}
	if !begun {
		if removed(report) == 0 {
			t.Error("nothing was removed: this proves nothing")
		}
		done <- a.do(t.Context(), w)
	}
	err = <-done
	if err != nil && !refusal(err) {
		t.Errorf("step %d: %v", step, err)
	}
	checkRace(t, w, a, err)
	if t.Failed() {
		t.Logf("at step %d; the action returned %v; the run %+v", step, err, report)
	}
	return begun
}

func removed(r gc.Report) (n int) {
	for c := range maps.Values(r.Removed) {
		n += c.N
	}
	return n
}

// checkRace checks what is there after the run, after the action was tried
// again, for the next process, and after the next run.
func checkRace(t *testing.T, w *race, a action, err error) {
	t.Helper()
	if lost := w.lost(w.s); lost != nil {
		t.Errorf("lost in the run: %v", lost)
	}
	if err != nil {
		if again := a.do(t.Context(), w); again != nil {
			t.Errorf("fails again after %v: %v", err, again)
		}
	}
	next := openAt(t, w.b, w.clock, time.Time{})
	for _, r := range []oci.Registry{w.s, next} {
		checkTags(t, r, w.at, a.goes, a.sparse...)
		if lost := w.lost(r); lost != nil {
			t.Errorf("lost: %v", lost)
		}
	}
	if a, b := state(t, w.s), state(t, next); !slices.Equal(a, b) {
		t.Errorf("memory differs from the layout:\n%q\n%q", a, b)
	}
	w.clock.pass(time.Hour)
	if _, err := next.Collect(t.Context(), ageOptions(), false); err != nil {
		t.Errorf("the next run: %v", err)
	}
	checkTags(t, next, w.at, a.goes, a.sparse...)
	checkTidy(t, w.b)
}

// checkTags checks that every tag leads to an image that is all there, and
// that no tag of aged is missing but those in goes.
func checkTags(t *testing.T, r oci.Registry, at map[string]oci.Digest, goes []string, sparse ...string) {
	t.Helper()
	for repo, err := range r.Repos(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		for tag, err := range r.Tags(t.Context(), repo, "") {
			if err != nil {
				t.Fatal(err)
			}
			if err := wholeImage(r, repo, tag); err != nil && !slices.Contains(sparse, repo+":"+tag) {
				t.Errorf("%s:%s is not whole: %v", repo, tag, err)
			}
		}
	}
	for repo, content := range aged {
		for tag, name := range content.Tags {
			if slices.Contains(goes, repo+":"+tag) {
				continue
			}
			if err := points(r, repo, tag, at[name]); err != nil {
				t.Error(err)
			}
		}
	}
}
