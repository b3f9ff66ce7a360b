package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/client/transfer"
)

// everything copies both tags of app, in an order that does not change.
func everything(ctx context.Context, dst, src oci.Registry) error {
	items := []transfer.Item{item("app:1", "app:1,latest"), item("app:0", "other:0")}
	p, err := transfer.MakePlan(ctx, dst, src, items, transfer.Options{Jobs: 1})
	if err != nil {
		return err
	}
	r, err := p.Execute(ctx, nil)
	return errors.Join(err, r.Err())
}

// TestEveryStepFails fails each call of either side once: before it is made,
// and after it although it was. No tag ever points to something incomplete,
// and the same again finishes it.
func TestEveryStepFails(t *testing.T) {
	t.Parallel()
	for _, side := range []string{"source", "destination"} {
		for _, late := range []bool{false, true} {
			steps := 0
			for n := 1; failOnce(t, side, late, n); n++ {
				steps = n
			}
			if steps < 10 {
				t.Errorf("%s: only %d steps", side, steps)
			}
		}
	}
}

// failOnce is false if there was no n-th call.
func failOnce(t *testing.T, side string, late bool, n int) bool {
	t.Helper()
	src, digests := source(t)
	dst := ocitest.NewRegistry()
	down := oci.Errorf(oci.Unavailable, "call %d is down", n)
	fault := ocitest.Fault{N: n, Err: down, Late: late}
	var f *ocitest.FaultyRegistry
	var err error
	if side == "source" {
		f = ocitest.Faulty(src, fault)
		err = everything(t.Context(), dst, f)
	} else {
		f = ocitest.Faulty(dst, fault)
		err = everything(t.Context(), f, src)
	}
	if len(f.Calls()) < n {
		return false
	}
	if err != nil && (!errors.Is(err, oci.Unavailable) || !strings.Contains(err.Error(), side)) {
		t.Errorf("%s, call %d: error %v", side, n, err)
	}
	wantAllWhole(t, dst)
	if err := everything(t.Context(), dst, src); err != nil {
		t.Errorf("%s, call %d (%s): again: %v", side, n, f.Calls()[n-1], err)
	}
	wantAllWhole(t, dst)
	if digestOf(t, dst, "app", "latest") != digests["multi"] || digestOf(t, dst, "other", "0") != digests["old"] {
		t.Errorf("%s, call %d: a tag is wrong", side, n)
	}
	return true
}

// TestRandom copies whole repositories of random content to destinations that
// have a part of it: every tag, with all that it needs and that refers to it.
func TestRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		src, dst := ocitest.NewRegistry(), ocitest.NewRegistry()
		tags := randomTags(t, src, r)
		for range r.IntN(4) { // What an earlier run has left.
			tag := tags[r.IntN(len(tags))]
			copies(t, dst, src, transfer.Options{Referrers: transfer.ReferrersNever}, item("app:"+tag, "app:"+tag))
		}
		whole := transfer.Item{SrcRepo: "app", DstRepo: "app"}
		report := copies(t, dst, src, transfer.Options{Jobs: 1 + r.IntN(8), Referrers: transfer.ReferrersAlways}, whole)
		if len(report.Images) != len(tags) {
			t.Fatalf("seed %d: %d images of %d", seed, len(report.Images), len(tags))
		}
		for _, tag := range tags {
			wantSame(t, dst, src, tag)
		}
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		report = copies(t, dst, src, transfer.Options{}, whole)
		if report.Blobs+report.Manifests+report.Tags > 0 || report.Calls != 2 {
			t.Fatalf("seed %d: again: %+v", seed, report)
		}
	}
}

// randomTags fills the repository app.
func randomTags(t *testing.T, reg oci.Registry, r *rand.Rand) []string {
	t.Helper()
	repo := ocitest.Repo{Blobs: ocitest.Blobs{}, Manifests: ocitest.Manifests{}, Tags: ocitest.Tags{}}
	pick := func(prefix string, n int) string {
		var names []string
		for range 1 + r.IntN(3) {
			names = append(names, fmt.Sprint(prefix, r.IntN(n)))
		}
		slices.Sort(names)
		return strings.Join(slices.Compact(names), " ")
	}
	for i := range 8 {
		repo.Blobs[fmt.Sprint("blob", i)] = strings.Repeat(fmt.Sprint(i), 1+r.IntN(3000))
	}
	for i := range 8 {
		repo.Manifests[fmt.Sprint("image", i)] = ocitest.Manifest{Layers: pick("blob", 8), Platform: fmt.Sprintf("linux/cpu%d", i)}
	}
	for i := range 4 {
		repo.Manifests[fmt.Sprint("index", i)] = ocitest.Manifest{Manifests: pick("image", 8), Annotations: map[string]string{"n": fmt.Sprint(i)}}
	}
	for i, of := range []string{"image", "index", "index", "ref0-", "ref1-"} { // Referrers of referrers, too.
		of = strings.TrimSuffix(of, "-")
		if !strings.HasPrefix(of, "ref") {
			of = fmt.Sprint(of, r.IntN(4))
		}
		repo.Manifests[fmt.Sprint("ref", i)] = ocitest.Manifest{Subject: of, ArtifactType: fmt.Sprint("application/x", i), Layers: pick("blob", 8)}
	}
	var tags []string
	for i := range 1 + r.IntN(12) {
		tag := fmt.Sprint("t", i)
		repo.Tags[tag] = fmt.Sprint([]string{"image", "index"}[r.IntN(2)], r.IntN(4))
		tags = append(tags, tag)
	}
	ocitest.Push(t, reg, ocitest.Content{"app": repo})
	return tags
}

// wantSame wants a tag of dst to be that of src with all that belongs to it.
func wantSame(t *testing.T, dst, src oci.Registry, ref string) {
	t.Helper()
	d := digestOf(t, src, "app", ref)
	if got := digestOf(t, dst, "app", ref); got != d {
		t.Errorf("%s is %s, not %s", ref, got, d)
		return
	}
	wantWhole(t, dst, "app", ref)
	m, err := src.Manifest(t.Context(), "app", ref)
	if err != nil {
		t.Fatal(err)
	}
	g, err := oci.ParseManifest("", m.Raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range g.Manifests {
		wantSame(t, dst, src, string(child.Digest))
	}
	for referrer, err := range src.Referrers(t.Context(), "app", d, "") {
		if err != nil {
			t.Fatal(err)
		}
		wantSame(t, dst, src, string(referrer.Digest))
	}
}

// TestTagMoves: what was planned is copied although the tag moves meanwhile.
func TestTagMoves(t *testing.T) {
	t.Parallel()
	src, digests := source(t)
	dst := ocitest.NewRegistry()
	p := plan(t, dst, src, transfer.Options{}, item("app:1", "app:1"))
	retag(t, src, "app", digests["old"], "1")
	r, err := p.Execute(t.Context(), nil)
	if err := errors.Join(err, r.Err()); err != nil {
		t.Fatal(err)
	}
	if got := digestOf(t, dst, "app", "1"); got != digests["multi"] {
		t.Errorf("the tag is %s", got)
	}
	wantAllWhole(t, dst)
}

// TestBudgets states what a copy costs each side.
func TestBudgets(t *testing.T) {
	t.Parallel()
	src := ocitest.NewRegistry()
	content := ocitest.Repo{Blobs: ocitest.Blobs{"base": "shared"}, Manifests: ocitest.Manifests{}, Tags: ocitest.Tags{}}
	for i := range 20 {
		name := fmt.Sprint("m", i)
		content.Blobs["l"+name] = "layer of " + name
		content.Manifests[name] = ocitest.Manifest{Layers: "base l" + name}
		content.Tags[name] = name
	}
	ocitest.Push(t, src, ocitest.Content{"app": content})
	dst := ocitest.NewRegistry()
	whole := transfer.Item{SrcRepo: "app", DstRepo: "app"}
	for _, step := range []struct{ name, from, to string }{
		{"new", "Blob=22 Manifest=20 Referrers=20 TagDetails=1", "MountBlob=22 PutManifest=20 TagDetails=1 Tags=1"},
		{"again", "TagDetails=1", "TagDetails=1"},
	} {
		from, to := ocitest.Faulty(src), ocitest.Faulty(dst)
		copies(t, to, from, transfer.Options{}, whole)
		if got := calls(from); got != step.from {
			t.Errorf("%s: calls of the source: %s, want %s", step.name, got, step.from)
		}
		if got := calls(to); got != step.to {
			t.Errorf("%s: calls of the destination: %s, want %s", step.name, got, step.to)
		}
	}
}

// calls counts those of a registry, but those of an upload.
func calls(f *ocitest.FaultyRegistry) string {
	n := map[string]int{}
	for _, call := range f.Calls() {
		if method, _, _ := strings.Cut(call, " "); !strings.HasPrefix(method, "Upload.") {
			n[method]++
		}
	}
	var list []string
	for method, times := range n {
		list = append(list, fmt.Sprintf("%s=%d", method, times))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}
