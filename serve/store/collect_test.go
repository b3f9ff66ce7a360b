package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/store"
)

// history plays at random with a registry, and keeps its own account of what
// is in it. Only what was acknowledged counts.
type history struct {
	t     *testing.T
	r     *store.Store
	rand  *rand.Rand
	repos map[string]*account
	bytes map[oci.Digest]string // Of every blob and manifest there ever was.
	n     int
}

// account is what a repository holds.
type account struct {
	tags      map[string]oci.Digest
	manifests map[oci.Digest][]byte
	blobs     map[oci.Digest]bool
}

func newHistory(t *testing.T, r *store.Store, seed uint64) *history {
	return &history{
		t: t, r: r, rand: rand.New(rand.NewPCG(seed, 7)),
		repos: map[string]*account{}, bytes: map[oci.Digest]string{},
	}
}

func pick[T any](h *history, from []T) T { return from[h.rand.IntN(len(from))] }

func (h *history) repo() (string, *account) {
	name := pick(h, []string{"a", "a/b", "c", "d/e"})
	if h.repos[name] == nil {
		h.repos[name] = &account{tags: map[string]oci.Digest{}, manifests: map[oci.Digest][]byte{}, blobs: map[oci.Digest]bool{}}
	}
	return name, h.repos[name]
}

func (h *history) play(calls int) {
	for range calls {
		name, a := h.repo()
		switch h.rand.IntN(14) {
		case 0, 1, 2, 3:
			h.image(name, a, "")
		case 4, 5:
			h.index(name, a)
		case 6:
			if d := h.manifestOf(a); d != "" {
				h.image(name, a, d) // Of a subject that is there,
			} else {
				h.image(name, a, digest.FromString("no manifest")) // or is not.
			}
		case 7:
			h.retag(name, a)
		case 8:
			h.deleteTag(name, a)
		case 9:
			h.deleteManifest(name, a)
		case 10:
			h.blob(name, a) // Of no image.
		case 11:
			h.abandon(name)
		case 12:
			if h.rand.IntN(4) == 0 {
				h.deleteRepo(name)
			}
		case 13:
			h.deleteBlob(name, a)
		}
	}
}

// blob pushes or mounts one of few blobs, which many images share.
func (h *history) blob(repo string, a *account) oci.Digest {
	content := fmt.Sprint("blob ", h.rand.IntN(40))
	d := digest.FromString(content)
	h.bytes[d] = content
	if h.rand.IntN(3) == 0 {
		u, err := h.r.MountBlob(h.t.Context(), repo, "", d)
		h.must(err)
		if u == nil {
			a.blobs[d] = true
			return d
		}
		h.must(u.Cancel(h.t.Context()))
	}
	h.must(push(h.t.Context(), h.r, repo, content))
	a.blobs[d] = true
	return d
}

func (h *history) image(repo string, a *account, subject oci.Digest) {
	h.n++
	m := map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeManifest, "annotations": map[string]string{"n": fmt.Sprint(h.n)},
		"config": oci.Descriptor{MediaType: "application/vnd.oci.image.config.v1+json", Digest: h.blob(repo, a), Size: 1},
		"layers": []oci.Descriptor{{MediaType: "application/x", Digest: h.blob(repo, a), Size: 1}, {MediaType: "application/x", Digest: h.blob(repo, a), Size: 1}},
	}
	if subject != "" {
		m["subject"] = oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: subject, Size: 1}
	}
	h.put(repo, a, m)
}

// index names manifests that are in the repository, and sometimes one that is
// in another, or nowhere.
func (h *history) index(repo string, a *account) {
	list := []oci.Descriptor{}
	for range h.rand.IntN(3) {
		if d := h.manifestOf(a); d != "" {
			list = append(list, oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: d, Size: 1})
		}
	}
	if _, other := h.repo(); h.rand.IntN(3) == 0 {
		if d := h.manifestOf(other); d != "" {
			list = append(list, oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: d, Size: 1})
		}
	}
	h.n++
	h.put(repo, a, map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeIndex, "manifests": list, "annotations": map[string]string{"n": fmt.Sprint(h.n)},
	})
}

func (h *history) put(repo string, a *account, m map[string]any) {
	raw, err := json.Marshal(m)
	h.must(err)
	h.putRaw(repo, a, raw)
}

func (h *history) putRaw(repo string, a *account, raw []byte) {
	p := oci.Put{Raw: raw}
	if h.rand.IntN(5) == 0 {
		p.Digest = digest.SHA512.FromBytes(raw)
	}
	if h.rand.IntN(2) == 0 {
		p.Tags = []string{fmt.Sprint("t", h.rand.IntN(6))}
	}
	d, err := h.r.PutManifest(h.t.Context(), repo, p)
	h.must(err)
	a.manifests[d.Digest] = raw
	h.bytes[d.Digest] = string(raw)
	for _, tag := range p.Tags {
		a.tags[tag] = d.Digest
	}
}

func (h *history) manifestOf(a *account) oci.Digest {
	if len(a.manifests) == 0 {
		return ""
	}
	return pick(h, slices.Sorted(maps.Keys(a.manifests)))
}

func (h *history) retag(repo string, a *account) {
	if d := h.manifestOf(a); d != "" {
		tag := fmt.Sprint("t", h.rand.IntN(6))
		_, err := h.r.PutManifest(h.t.Context(), repo, oci.Put{Digest: d, Raw: a.manifests[d], Tags: []string{tag}})
		if errors.Is(err, oci.ManifestBlobUnknown) {
			return // A collection took a part of it, as it may if it is garbage.
		}
		h.must(err)
		a.tags[tag] = d
	}
}

func (h *history) deleteTag(repo string, a *account) {
	tag := fmt.Sprint("t", h.rand.IntN(6))
	if err := h.r.DeleteTag(h.t.Context(), repo, tag, ""); !errors.Is(err, oci.ManifestUnknown) {
		h.must(err)
	}
	delete(a.tags, tag)
}

func (h *history) deleteManifest(repo string, a *account) {
	d := h.manifestOf(a)
	if d == "" {
		return
	}
	if err := h.r.DeleteManifest(h.t.Context(), repo, d); errors.Is(err, oci.Unsupported) {
		return // An index needs it.
	} else if err != nil {
		h.must(err)
	}
	delete(a.manifests, d)
	maps.DeleteFunc(a.tags, func(_ string, to oci.Digest) bool { return to == d })
}

func (h *history) deleteBlob(repo string, a *account) {
	if len(a.blobs) == 0 {
		return
	}
	d := pick(h, slices.Sorted(maps.Keys(a.blobs)))
	if err := h.r.DeleteBlob(h.t.Context(), repo, d); errors.Is(err, oci.Unsupported) {
		return
	} else if err != nil {
		h.must(err)
	}
	delete(a.blobs, d)
}

func (h *history) deleteRepo(repo string) {
	if err := h.r.DeleteRepo(h.t.Context(), repo); !errors.Is(err, oci.NameUnknown) {
		h.must(err)
	}
	delete(h.repos, repo)
}

func (h *history) abandon(repo string) {
	u, err := h.r.Upload(h.t.Context(), repo, "", oci.UploadOptions{})
	h.must(err)
	_, err = io.WriteString(u, "not all of it")
	h.must(errors.Join(err, u.Close()))
}

func (h *history) must(err error) {
	if err != nil {
		h.t.Helper()
		h.t.Fatal(err)
	}
}

// names is what a manifest says.
type names struct {
	Config    struct{ Digest oci.Digest }
	Layers    []struct{ Digest oci.Digest }
	Manifests []struct{ Digest oci.Digest }
	Subject   struct{ Digest oci.Digest }
}

// namesIn reads a manifest by itself.
func namesIn(raw []byte) (n names) {
	_ = json.Unmarshal(raw, &n)
	return n
}

// living is stated as simply as can be: what tags lead to, and what that
// leads to, until nothing more comes; by the rule without untagged, all
// manifests. Named is all that they name, whether the repository has it or
// not: such data stays, and of a manifest what it names as well.
func (h *history) living(a *account, untagged bool) (manifests, blobs, named map[oci.Digest]bool) {
	manifests, blobs, named = map[oci.Digest]bool{}, map[oci.Digest]bool{}, map[oci.Digest]bool{}
	linked, unlinked := map[oci.Digest]names{}, map[oci.Digest]bool{}
	for d, raw := range a.manifests {
		linked[d] = namesIn(raw)
		manifests[d] = !untagged
	}
	for _, d := range a.tags {
		manifests[d] = true
	}
	for again := true; again; {
		again = false
		mark := func(set map[oci.Digest]bool, d oci.Digest) {
			again = again || !set[d]
			set[d] = true
		}
		follow := func(n names) {
			for _, c := range n.Manifests {
				named[c.Digest] = true
				if _, here := linked[c.Digest]; here {
					mark(manifests, c.Digest)
				} else {
					mark(unlinked, c.Digest)
				}
			}
			for _, l := range n.Layers {
				mark(blobs, l.Digest)
			}
			if n.Config.Digest != "" {
				mark(blobs, n.Config.Digest)
			}
		}
		for d, n := range linked {
			if s := n.Subject.Digest; s != "" && (manifests[s] || unlinked[s]) {
				mark(manifests, d)
			}
			if manifests[d] {
				follow(n)
			}
		}
		for d := range maps.Clone(unlinked) {
			follow(namesIn([]byte(h.bytes[d])))
		}
	}
	maps.DeleteFunc(manifests, func(_ oci.Digest, lives bool) bool { return !lives })
	maps.Copy(named, blobs)
	maps.DeleteFunc(blobs, func(d oci.Digest, _ bool) bool { return !a.blobs[d] })
	return manifests, blobs, named
}

// check compares what is there with what is to be there, in every repository
// and in the data.
func (h *history) check(r oci.Registry, b storage.Backend, untagged bool) {
	h.t.Helper()
	data := map[oci.Digest]bool{}
	for name, a := range h.repos {
		manifests, blobs, named := h.living(a, untagged)
		for d := range h.bytes {
			_, err := r.Resolve(h.t.Context(), name, string(d))
			if (err == nil) != manifests[d] {
				h.t.Errorf("manifest %s of %s: %v, it lives: %t", d, name, err, manifests[d])
			}
			_, err = r.StatBlob(h.t.Context(), name, d)
			if (err == nil) != blobs[d] {
				h.t.Errorf("blob %s of %s: %v, it lives: %t", d, name, err, blobs[d])
			}
			data[d] = data[d] || manifests[d] || named[d]
		}
		for tag, d := range a.tags {
			if err := points(r, name, tag, d); err != nil {
				h.t.Error(err)
			}
		}
		for d := range manifests {
			if err := wholeOrSparse(r, name, d); err != nil {
				h.t.Error(err)
			}
		}
	}
	for d := range h.bytes {
		if _, err := b.Stat(h.t.Context(), meta.BlobKey(d)); (err == nil) != data[d] {
			h.t.Errorf("data of %s: %v, it is needed: %t", d, err, data[d])
		}
	}
	if junk := leftovers(h.t, b, "docker"); len(junk) > 0 {
		h.t.Errorf("left behind: %q", junk)
	}
}

// wholeOrSparse is wholeImage but for children of an index that are not there.
func wholeOrSparse(r oci.Registry, repo string, d oci.Digest) error {
	m, err := r.Manifest(context.Background(), repo, string(d))
	if err != nil {
		return err
	}
	if got := d.Algorithm().FromBytes(m.Raw); got != d {
		return fmt.Errorf("the manifest %s has digest %s", d, got)
	}
	g, err := oci.ParseManifest("", m.Raw)
	if err != nil {
		return err
	}
	for _, b := range g.Blobs() {
		if err := hasBlob(r, repo, b.Digest); err != nil {
			return err
		}
	}
	return nil
}

// forget lets the account forget what a collection was to take.
func (h *history) forget(untagged bool) {
	for _, a := range h.repos {
		manifests, blobs, _ := h.living(a, untagged)
		maps.DeleteFunc(a.manifests, func(d oci.Digest, _ []byte) bool { return !manifests[d] })
		a.blobs = blobs
	}
}

// Whatever happened to a store, a collection takes all that nothing leads to
// and nothing else, does what it said it would, and leaves nothing to do.
func TestCollectionTakesWhatNothingLeadsTo(t *testing.T) {
	seeds := uint64(24)
	if raceDetector {
		seeds = 7
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			clock := newFakeTime()
			var b storage.Backend = memAt(clock)
			if seed%6 == 0 {
				clock = nil // Files have the time of the disk.
				disk, err := file.Open(t.TempDir(), file.Options{NoSync: true})
				if err != nil {
					t.Fatal(err)
				}
				b = disk
			}
			playAndCollect(t, b, clock, seed)
		})
	}
}

func playAndCollect(t *testing.T, b storage.Backend, clock *fakeTime, seed uint64) {
	o := store.Options{}
	wait := func() {}
	if clock != nil {
		o.Now = clock.now
		wait = func() { clock.pass(time.Second) }
	} else {
		o.Now = func() time.Time { return time.Now().Add(time.Second) }
	}
	s, err := store.New(t.Context(), b, o)
	if err != nil {
		t.Fatal(err)
	}
	collect(t, s.Repos(t.Context(), ""))
	h := newHistory(t, s, seed)
	for round := range 3 {
		h.play(80)
		wait()
		untagged := (seed+uint64(round))%2 == 0
		opts := gc.Options{Untagged: untagged, Jobs: 1 + int(seed%3)}
		by := s
		if seed%2 == 1 { // Offline.
			by, err = store.New(t.Context(), b, store.Options{Now: o.Now, NoCatalogue: true})
			if err != nil {
				t.Fatal(err)
			}
		}
		plan := mustCollect(t, by, opts, true)
		done := mustCollect(t, by, opts, false)
		if !reflect.DeepEqual(plan, done) {
			t.Errorf("planned %+v\ndone    %+v", plan, done)
		}
		if seed%2 == 1 {
			s = open(t, b)
			h.r = s
		}
		h.forget(untagged)
		h.check(s, b, untagged)
		h.check(open(t, b), b, untagged)
		wait()
		again := mustCollect(t, by, opts, false)
		delete(again.Removed, gc.KindEmpty) // The directories of what went.
		third := mustCollect(t, by, opts, false)
		if removed(again)+removed(third) > 0 {
			t.Errorf("a second run removes %+v, a third %+v", again.Removed, third.Removed)
		}
		wait()
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
}

func mustCollect(t testing.TB, s *store.Store, o gc.Options, dry bool) gc.Report {
	t.Helper()
	r, err := s.Collect(t.Context(), o, dry)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Failed)+len(r.Doubts)+len(r.Frozen) > 0 {
		t.Fatalf("%+v", r)
	}
	return r
}

func TestOneCollectionAtATime(t *testing.T) {
	t.Parallel()
	clock := newFakeTime()
	b := &stepped{Backend: memAt(clock)}
	s := openAt(t, b, clock, time.Time{})
	ocitest.Push(t, s, aged)
	b.at, b.do = 1, func() {
		if _, err := s.Collect(t.Context(), gc.Options{}, true); !errors.Is(err, store.ErrCollecting) {
			t.Errorf("a second one: %v, want ErrCollecting", err)
		}
	}
	if _, err := s.Collect(t.Context(), gc.Options{}, false); err != nil {
		t.Error(err)
	}
	if _, err := s.Collect(t.Context(), gc.Options{}, false); err != nil {
		t.Errorf("after the first: %v", err)
	}
}
