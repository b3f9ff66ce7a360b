package prune

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/gc"
)

// TestEveryStep cuts the work short at every call, before it is made and
// after, and wants that the same again finishes it.
func TestEveryStep(t *testing.T) {
	t.Parallel()
	seeds(t, 10, func(t *testing.T, r *rand.Rand) {
		seed := r.Uint64()
		for n := 1; ; n++ {
			for _, late := range []bool{false, true} {
				if done := cutShort(t, seed, n, late); done {
					return
				}
			}
		}
	})
}

// cutShort prunes with the n-th call broken, then again without a fault. It
// tells when there is no n-th call.
func cutShort(t *testing.T, seed uint64, n int, late bool) bool {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	w := newWorld(t, r)
	policy, before := randomPolicy(r), w.tags(t)
	manifests, left := w.expect(victimsOf(plan(t, w.reg, policy, Options{})), before)
	dir := t.TempDir()
	broken := ocitest.Faulty(w.reg, ocitest.Fault{N: n, Err: oci.Unavailable, Late: late})
	err := prune(t, broken, policy, dir, "")
	w.pullsWhole(t, left, before)
	if err == nil {
		w.wants(t, manifests, left)
		return true
	}
	if !errors.Is(err, oci.Unavailable) {
		t.Fatalf("call %d: %v", n, err)
	}
	if err := prune(t, w.reg, policy, dir, "again"); err != nil {
		t.Fatalf("call %d: again: %v", n, err)
	}
	w.wants(t, manifests, left)
	if t.Failed() {
		t.Fatalf("call %d of %v, late %v", n, broken.Calls(), late)
	}
	return false
}

// prune does what the command does with one repository.
func prune(t *testing.T, reg oci.Registry, policy gc.Policy, dir, again string) error {
	t.Helper()
	lefts, err := Leftovers(dir, "registry.test", false)
	if err != nil {
		t.Fatal(err)
	}
	if again == "" && len(lefts) > 0 {
		t.Fatalf("left over by nobody: %v", lefts)
	}
	o := Options{}
	for _, left := range lefts {
		o.Known = append(o.Known, left.Known[repo]...)
	}
	p, err := MakePlan(t.Context(), reg, repo, policy, o)
	if err != nil {
		return err
	}
	j, err := CreateJournal(dir, time.Date(2026, 11, 20, 3, 12, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	_, err = NewRun(reg, RunOptions{Registry: "registry.test", Record: j}).Execute(t.Context(), p)
	if err := j.Close(err == nil); err != nil {
		t.Fatal(err)
	}
	return err
}

// pullsWhole wants every tag that must stay to be there, with all below it.
func (w *world) pullsWhole(t *testing.T, left, before map[string]oci.Digest) {
	t.Helper()
	now, has := w.tags(t), w.has(t)
	var from []oci.Digest
	for tag, d := range left {
		if now[tag] != d {
			t.Errorf("%s points to %q, want %s", tag, now[tag], d)
		}
		if _, ok := gc.SubjectOf(tag); !ok {
			from = append(from, d)
		}
	}
	for d := range w.closure(from, before) {
		if !has[d] {
			t.Errorf("%s is gone and needed", d)
		}
	}
}

// digestOnly is a registry that deletes by digest only: docker's until 2.8,
// Harbor, GHCR, Nexus.
func digestOnly(reg oci.Registry) oci.Registry {
	f := &ocitest.Funcs{Registry: reg}
	f.OnDeleteTag = func(context.Context, string, string, oci.Digest) error {
		return oci.Errorf(oci.DigestInvalid, "provided digest did not match uploaded content")
	}
	return f
}

// TestDigestOnly wants everything gone that nothing else needs, and nothing
// more; tags that share a digest with one that stays are kept, with the reason.
func TestDigestOnly(t *testing.T) {
	t.Parallel()
	seeds(t, 80, func(t *testing.T, r *rand.Rand) {
		w := newWorld(t, r)
		before := w.tags(t)
		p := plan(t, w.reg, randomPolicy(r), Options{})
		manifests, left := w.expect(victimsOf(p), before)
		report := execute(t, digestOnly(w.reg), p, t.TempDir(), RunOptions{})
		now := w.tags(t)
		w.pullsWhole(t, left, before)
		for tag, d := range now {
			_, stays := left[tag]
			if !stays && !manifests[d] && !slices.ContainsFunc(report.Manifests, func(o Outcome) bool { return o.Reason != "" }) {
				t.Errorf("%s is still there, and nothing needs its manifest", tag)
			}
		}
		for _, o := range report.Tags {
			if _, still := now[o.Tag]; still == o.Deleted || !o.Deleted && o.Reason == "" {
				t.Errorf("%+v: still there %v", o, still)
			}
		}
	})
}

// TestOverwriteUntag wants the tags gone, too, without harm to their images.
func TestOverwriteUntag(t *testing.T) {
	t.Parallel()
	seeds(t, 100, func(t *testing.T, r *rand.Rand) {
		w := newWorld(t, r)
		before, had := w.tags(t), w.has(t)
		p := plan(t, w.reg, randomPolicy(r), Options{})
		manifests, left := w.expect(victimsOf(p), before)
		dir := t.TempDir()
		report := execute(t, digestOnly(w.reg), p, dir, RunOptions{OverwriteUntag: true})
		w.pullsWhole(t, left, before)
		if !slices.ContainsFunc(report.Manifests, func(o Outcome) bool { return o.Reason != "" }) {
			w.wants(t, manifests, left)
		}
		undo(t, w.reg, dir)
		w.wants(t, had, before)
	})
}

// killing deletes a manifest with every tag when one of its tags is deleted.
func killing(reg oci.Registry) oci.Registry {
	f := &ocitest.Funcs{Registry: reg}
	f.OnDeleteTag = func(ctx context.Context, repo, tag string, was oci.Digest) error {
		desc, err := reg.Resolve(ctx, repo, tag)
		if err != nil {
			return err
		}
		if was != "" && desc.Digest != was {
			return oci.TagMoved
		}
		return reg.DeleteManifest(ctx, repo, desc.Digest)
	}
	return f
}

// TestCanary wants a registry that kills manifests found out with the first
// that something needs, everything put back, and nothing done after it.
func TestCanary(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	ocitest.Push(t, reg, ocitest.Content{repo: {
		Blobs: ocitest.Blobs{"l": "l"},
		Manifests: ocitest.Manifests{
			"a": {Layers: "l"}, "b": {Layers: "l", Platform: "linux/arm64"},
		},
		Tags: ocitest.Tags{"v1": "a", "v2": "a", "v9": "a", "v3": "b", "v8": "b"},
	}})
	w := &world{reg: reg}
	before := w.tags(t)
	for _, how := range []string{"prune", "rm"} {
		p, err := MakePlan(t.Context(), reg, repo, gc.Policy{
			Ranked: true, By: gc.ByName, Now: time.Now(),
			Protected: func(t gc.Tagged) string { return map[string]string{"v9": "9", "v8": "8"}[t.Tag] },
		}, Options{})
		if how == "rm" {
			p, err = PlanUntag(t.Context(), reg, repo, "v1")
		}
		if err != nil {
			t.Fatal(err)
		}
		run := NewRun(killing(reg), RunOptions{Jobs: 4})
		_, err = run.Execute(t.Context(), p)
		var canary *CanaryError
		if !errors.As(err, &canary) || canary.Err != nil || !Fatal(err) {
			t.Fatalf("%s: %v", how, err)
		}
		if got := w.tags(t); !maps.Equal(got, before) {
			t.Errorf("%s: tags are %v, want %v", how, got, before)
		}
		if _, err := run.Execute(t.Context(), p); !errors.As(err, &canary) {
			t.Errorf("%s: again: %v", how, err)
		}
	}
}

// TestMoving moves a tag before every delete, and wants what it pointed to
// kept with all below it.
func TestMoving(t *testing.T) {
	t.Parallel()
	seeds(t, 80, func(t *testing.T, r *rand.Rand) {
		w := newWorld(t, r)
		before := w.tags(t)
		p := plan(t, w.reg, randomPolicy(r), Options{})
		_, left := w.expect(victimsOf(p), before)
		digests := slices.Sorted(maps.Keys(w.manifests))
		moved := map[string]oci.Digest{}
		f := &ocitest.Funcs{Registry: w.reg}
		f.OnDeleteTag = func(ctx context.Context, repo, tag string, was oci.Digest) error {
			to := digests[r.IntN(len(digests))]
			m, err := w.reg.Manifest(ctx, repo, string(to))
			if _, ok := gc.SubjectOf(tag); err == nil && !ok && r.IntN(2) == 0 {
				if _, err := w.reg.PutManifest(ctx, repo, oci.Put{Digest: to, Raw: m.Raw, Tags: []string{tag}}); err != nil {
					t.Error(err)
				}
				if to != was {
					moved[tag] = to
				}
			}
			return w.reg.DeleteTag(ctx, repo, tag, was)
		}
		report := execute(t, f, p, t.TempDir(), RunOptions{})
		for tag := range moved {
			// What came to point to something that goes at this very moment is
			// beyond help where a registry has no condition for it.
			delete(left, tag)
		}
		w.pullsWhole(t, left, before)
		for _, o := range report.Tags {
			if moved[o.Tag] != "" && o.Deleted {
				t.Errorf("%s was deleted although it had moved", o.Tag)
			}
		}
		has := w.has(t)
		for _, o := range report.Tags {
			if o.Reason == Moved && !has[o.Digest] && before[o.Tag] == o.Digest {
				t.Errorf("%s moved away from %s, which is gone", o.Tag, o.Digest)
			}
		}
	})
}

// TestCameSince wants kept what a tag, an index or a signature needs that came
// after the plan.
func TestCameSince(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		came ocitest.Manifests
		tags ocitest.Tags
	}{
		{"a tag", nil, ocitest.Tags{"new": "old"}},
		{"a tag of a child", nil, ocitest.Tags{"new": "child"}},
		{"an index", ocitest.Manifests{"more": {Manifests: "child"}}, ocitest.Tags{"new": "more"}},
		{"a referrer", ocitest.Manifests{"more": {Subject: "old", ArtifactType: "a/b"}}, ocitest.Tags{"new": "more"}},
	} {
		for _, wrap := range []func(oci.Registry) oci.Registry{func(r oci.Registry) oci.Registry { return r }, digestOnly} {
			reg := ocitest.NewRegistry()
			manifests := ocitest.Manifests{"child": {}, "old": {Manifests: "child"}, "kept": {Platform: "linux/arm64"}}
			content := ocitest.Repo{Manifests: manifests, Tags: ocitest.Tags{"v1": "old", "v2": "kept"}}
			digests := ocitest.Push(t, reg, ocitest.Content{repo: content})
			p := plan(t, reg, gc.Policy{Ranked: true, Keep: 1, By: gc.ByName, Now: time.Now()}, Options{})
			if len(p.Manifests) != 2 {
				t.Fatalf("%s: the plan is %+v", c.name, p.Manifests)
			}
			maps.Copy(manifests, c.came)
			ocitest.Push(t, reg, ocitest.Content{repo: {Manifests: manifests, Tags: c.tags}})
			execute(t, wrap(reg), p, t.TempDir(), RunOptions{})
			if _, err := reg.Resolve(t.Context(), repo, "new"); err != nil {
				t.Errorf("%s: new: %v", c.name, err)
			}
			if _, err := reg.Resolve(t.Context(), repo, string(digests["child"])); err != nil {
				t.Errorf("%s: child: %v", c.name, err)
			}
		}
	}
}

// TestDeletesOff wants a registry that refuses every delete found out.
func TestDeletesOff(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	ocitest.Push(t, reg, ocitest.Content{repo: {
		Manifests: ocitest.Manifests{"a": {}, "b": {Platform: "linux/arm64"}, "c": {Platform: "a/c"}, "d": {Platform: "a/d"}},
		Tags:      ocitest.Tags{"1": "a", "2": "b", "3": "c", "4": "d"},
	}})
	off := ocitest.Faulty(reg, ocitest.Fault{Method: "DeleteTag", Err: oci.Unsupported}, ocitest.Fault{Method: "DeleteManifest", Err: oci.Unsupported})
	policy := gc.Policy{Ranked: true, Keep: 1, By: gc.ByName, Now: time.Now()}
	run := NewRun(off, RunOptions{})
	if _, err := run.Execute(t.Context(), plan(t, off, policy, Options{})); !errors.Is(err, ErrDeletesOff) || !Fatal(err) || !run.Refused() {
		t.Errorf("got %v", err)
	}
	policy.Keep = 3
	run = NewRun(off, RunOptions{}) // Of one, it might be for the sake of an index.
	if _, err := run.Execute(t.Context(), plan(t, off, policy, Options{})); err != nil || !run.Refused() {
		t.Errorf("got %v", err)
	}
}

// TestNotRecorded wants nothing deleted that could not be recorded.
func TestNotRecorded(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	ocitest.Push(t, reg, ocitest.Content{repo: {
		Manifests: ocitest.Manifests{"a": {}, "b": {Platform: "linux/arm64"}}, Tags: ocitest.Tags{"1": "a", "2": "b"},
	}})
	p := plan(t, reg, gc.Policy{Ranked: true, Keep: 1, By: gc.ByName, Now: time.Now()}, Options{})
	j, err := CreateJournal(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := j.f.Close(); err != nil {
		t.Fatal(err)
	}
	calls := ocitest.Faulty(reg)
	if _, err := NewRun(calls, RunOptions{Record: j}).Execute(t.Context(), p); !errors.Is(err, ErrNotRecorded) {
		t.Errorf("got %v", err)
	}
	if i := slices.IndexFunc(calls.Calls(), func(c string) bool { return strings.HasPrefix(c, "Delete") }); i >= 0 {
		t.Errorf("calls are %v", calls.Calls())
	}
}

// TestFrozen wants a repository of which anything cannot be read left alone.
func TestFrozen(t *testing.T) {
	t.Parallel()
	content := ocitest.Content{repo: {
		Manifests: ocitest.Manifests{
			"a": {Platform: "linux/amd64"}, "b": {Platform: "linux/arm64"}, "old": {Manifests: "a"}, "new": {Manifests: "b"},
		},
		Tags: ocitest.Tags{"1": "old", "2": "new"},
	}}
	policy := gc.Policy{Ranked: true, Keep: 1, By: gc.ByName, Now: time.Now()}
	for _, fault := range []ocitest.Fault{
		{Method: "TagDetails", Err: oci.Unknown, After: 1}, {Method: "Manifest", N: 1, Err: oci.Unknown},
		{Method: "Manifest", N: 2, Err: oci.Unknown}, {Method: "Manifest", N: 3, Err: oci.Denied}, {Method: "Referrers", Err: oci.Unknown},
	} {
		reg := ocitest.NewRegistry()
		ocitest.Push(t, reg, content)
		if _, err := MakePlan(t.Context(), ocitest.Faulty(reg, fault), repo, policy, Options{}); !errors.Is(err, fault.Err) {
			t.Errorf("%+v: %v", fault, err)
		}
	}
	reg := ocitest.NewRegistry()
	ocitest.Push(t, reg, content)
	odd := &ocitest.Funcs{Registry: reg}
	odd.OnTagDetails = func(ctx context.Context, repo, after string) iter.Seq2[oci.TagDetail, error] {
		return func(yield func(oci.TagDetail, error) bool) {
			for d, err := range reg.TagDetails(ctx, repo, after) {
				if d.Tag == "2" {
					d.Manifest.MediaType = "application/vnd.example.future+json"
				}
				if !yield(d, err) {
					return
				}
			}
		}
	}
	if _, err := MakePlan(t.Context(), odd, repo, policy, Options{}); !errors.Is(err, oci.Unsupported) {
		t.Errorf("an unknown media type: %v", err)
	}
}

// TestScale prunes 1,000 repositories of 100 tags and counts requests.
func TestScale(t *testing.T) {
	t.Parallel()
	repos := 1000
	if testing.Short() {
		repos = 50
	}
	manifests, tags := ocitest.Manifests{}, ocitest.Tags{}
	for i := range 100 {
		name := fmt.Sprintf("1.%d", i)
		manifests[name] = ocitest.Manifest{Created: time.Unix(1700000000+int64(i), 0).UTC().Format(time.RFC3339)}
		tags[name] = name
	}
	reg := ocitest.NewRegistry()
	ocitest.Push(t, reg, ocitest.Content{repo: {Manifests: manifests, Tags: tags}})
	var requests atomic.Int64
	one := &ocitest.Funcs{Registry: reg} // Every repository is a copy of this one, and nothing is deleted.
	one.OnTagDetails = func(ctx context.Context, _, after string) iter.Seq2[oci.TagDetail, error] {
		requests.Add(1)
		return reg.TagDetails(ctx, repo, after)
	}
	one.OnManifest = func(ctx context.Context, _, ref string) (oci.Manifest, error) {
		requests.Add(1)
		return reg.Manifest(ctx, repo, ref)
	}
	for n := range repos {
		keep := 100
		p, err := MakePlan(t.Context(), one, fmt.Sprint("r", n), gc.Policy{Ranked: true, Keep: keep, Now: time.Now()}, Options{Jobs: 4})
		if err != nil || !p.Empty() {
			t.Fatal(p, err)
		}
	}
	if got := requests.Load(); got != int64(repos) {
		t.Errorf("%d requests for %d repositories of which nothing goes", got, repos)
	}
}

// TestCycle wants an index kept that refers to its own child: no order to
// delete the two is safe.
func TestCycle(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	digests := ocitest.Push(t, reg, ocitest.Content{repo: {
		Manifests: ocitest.Manifests{"child": {}, "index": {Manifests: "child", Subject: "child"}, "new": {Platform: "linux/arm64"}},
		Tags:      ocitest.Tags{"1": "child", "2": "new"},
	}})
	p := plan(t, reg, gc.Policy{Ranked: true, Keep: 1, By: gc.ByName, Now: time.Now()}, Options{})
	execute(t, reg, p, t.TempDir(), RunOptions{})
	for _, name := range []string{"child", "index"} {
		if _, err := reg.Resolve(t.Context(), repo, string(digests[name])); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := reg.Resolve(t.Context(), repo, "1"); !errors.Is(err, oci.ManifestUnknown) {
		t.Errorf("tag 1: %v", err)
	}
}
