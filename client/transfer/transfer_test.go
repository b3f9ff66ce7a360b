package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/client/transfer"
)

// app is an image for two platforms with an attestation in its index, an SBOM
// that refers to it, a signature of that, and one of each kind by tag.
func app() ocitest.Content {
	return ocitest.Content{"app": {
		Blobs: ocitest.Blobs{"base": "bytes of a layer", "amd": "more bytes", "arm": "yet more", "proof": "in-toto"},
		Manifests: ocitest.Manifests{
			"amd64":  {Layers: "base amd", Platform: "linux/amd64"},
			"arm64":  {Layers: "base arm", Platform: "linux/arm64"},
			"multi":  {Manifests: "amd64 arm64", Annotations: map[string]string{"a": "b"}},
			"sbom":   {Subject: "multi", ArtifactType: "application/spdx+json", Layers: "proof"},
			"signed": {Subject: "sbom", ArtifactType: "application/x.sig"},
			"child":  {Subject: "arm64", ArtifactType: "application/x.sig"},
			"cosign": {Layers: "proof"},
			"old":    {Layers: "base"},
		},
		Tags: ocitest.Tags{"1": "multi", "0": "old"},
	}}
}

// source returns a registry that holds app, with its digests.
func source(t testing.TB) (oci.Registry, map[string]oci.Digest) {
	t.Helper()
	reg := ocitest.NewRegistry()
	digests := ocitest.Push(t, reg, app())
	retag(t, reg, "app", digests["cosign"], cosignTag(digests["multi"]))
	return reg, digests
}

func cosignTag(d oci.Digest) string { return strings.Replace(string(d), ":", "-", 1) + ".sig" }

func retag(t testing.TB, reg oci.Registry, repo string, d oci.Digest, tag string) {
	t.Helper()
	m, err := reg.Manifest(t.Context(), repo, string(d))
	if err != nil {
		t.Fatal(err)
	}
	ocitest.PushManifest(t, reg, repo, string(m.Raw), tag)
}

func plan(t testing.TB, dst, src oci.Registry, o transfer.Options, items ...transfer.Item) *transfer.Plan {
	t.Helper()
	p, err := transfer.MakePlan(t.Context(), dst, src, items, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// copies makes a plan, executes it and wants no image to fail.
func copies(t testing.TB, dst, src oci.Registry, o transfer.Options, items ...transfer.Item) transfer.Report {
	t.Helper()
	r, err := plan(t, dst, src, o, items...).Execute(t.Context(), nil)
	if err := errors.Join(err, r.Err()); err != nil {
		t.Fatal(err)
	}
	return r
}

func item(from, to string) transfer.Item {
	srcRepo, ref, _ := strings.Cut(from, ":")
	dstRepo, tags, _ := strings.Cut(to, ":")
	return transfer.Item{SrcRepo: srcRepo, SrcRef: ref, DstRepo: dstRepo, DstTags: strings.Split(tags, ",")}
}

// wantWhole fails the test unless ref of repo is there with all that it needs.
func wantWhole(t testing.TB, reg oci.Registry, repo, ref string) {
	t.Helper()
	m, err := reg.Manifest(t.Context(), repo, ref)
	if err != nil {
		t.Errorf("%s:%s: %v", repo, ref, err)
		return
	}
	g, err := oci.ParseManifest("", m.Raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range g.Blobs() {
		if _, err := reg.StatBlob(t.Context(), repo, b.Digest); err != nil {
			t.Errorf("%s:%s: blob %s: %v", repo, ref, b.Digest, err)
		}
	}
	for _, child := range g.Manifests {
		wantWhole(t, reg, repo, string(child.Digest))
	}
}

// wantAllWhole fails the test if a tag of reg points to something incomplete.
func wantAllWhole(t testing.TB, reg oci.Registry) {
	t.Helper()
	for repo, err := range reg.Repos(context.WithoutCancel(t.Context()), "") {
		if err != nil {
			t.Fatal(err)
		}
		for tag, err := range reg.Tags(t.Context(), repo, "") {
			if err != nil {
				t.Fatal(err)
			}
			wantWhole(t, reg, repo, tag)
		}
	}
}

func digestOf(t testing.TB, reg oci.Registry, repo, ref string) oci.Digest {
	t.Helper()
	d, err := reg.Resolve(t.Context(), repo, ref)
	if err != nil {
		t.Errorf("%s:%s: %v", repo, ref, err)
	}
	return d.Digest
}

func TestCopy(t *testing.T) {
	t.Parallel()
	src, digests := source(t)
	dst := ocitest.NewRegistry()
	r := copies(t, dst, src, transfer.Options{}, item("app:1", "team/app:1,latest"))
	for _, tag := range []string{"1", "latest"} {
		if got := digestOf(t, dst, "team/app", tag); got != digests["multi"] {
			t.Errorf("tag %s is %s", tag, got)
		}
	}
	wantAllWhole(t, dst)
	for _, name := range []string{"sbom", "signed", "child", "cosign"} {
		wantWhole(t, dst, "team/app", string(digests[name]))
	}
	if got := digestOf(t, dst, "team/app", cosignTag(digests["multi"])); got != digests["cosign"] {
		t.Error("the signature by tag is missing")
	}
	if m := r.Images[0]; m.Platforms != 2 || m.State != transfer.Copy || m.Manifest.Digest != digests["multi"] {
		t.Errorf("image: %+v", m)
	}
	if r.Moved == 0 || r.There != 0 || r.Manifests != 7 || r.Tags != 3 {
		t.Errorf("report: %+v", r)
	}
}

// TestUnchanged: what is there costs two requests, and no reading.
func TestUnchanged(t *testing.T) {
	t.Parallel()
	src, _ := source(t)
	dst := ocitest.NewRegistry()
	copies(t, dst, src, transfer.Options{}, item("app:1", "app:1"))
	from, to := ocitest.Faulty(src), ocitest.Faulty(dst)
	r := copies(t, to, from, transfer.Options{}, item("app:1", "app:1"))
	if got := append(from.Calls(), to.Calls()...); !slices.Equal(got, []string{"Resolve app", "Resolve app"}) {
		t.Errorf("calls: %q", got)
	}
	if r.Images[0].State != transfer.There || r.Calls != 2 {
		t.Errorf("report: %+v", r)
	}
}

// TestRetag: a manifest that is there is not read from the source.
func TestRetag(t *testing.T) {
	t.Parallel()
	src, digests := source(t)
	dst := ocitest.NewRegistry()
	copies(t, dst, src, transfer.Options{}, item("app:1", "app:1"))
	from, to := ocitest.Faulty(src), ocitest.Faulty(dst)
	r := copies(t, to, from, transfer.Options{}, item("app:1", "app:2"))
	if got, want := from.Calls(), []string{"Resolve app"}; !slices.Equal(got, want) {
		t.Errorf("calls of the source: %q, want %q", got, want)
	}
	if got, want := to.Calls(), []string{"Resolve app", "Resolve app", "Manifest app", "PutManifest app"}; !slices.Equal(got, want) {
		t.Errorf("calls of the destination: %q, want %q", got, want)
	}
	if digestOf(t, dst, "app", "2") != digests["multi"] || r.Images[0].State != transfer.Retag {
		t.Errorf("report: %+v", r)
	}
}

// TestReferrers: new signatures of an image that is there come when asked for.
func TestReferrers(t *testing.T) {
	t.Parallel()
	src, digests := source(t)
	dst := ocitest.NewRegistry()
	copies(t, dst, src, transfer.Options{Referrers: transfer.ReferrersNever}, item("app:1", "app:1"))
	for _, name := range []string{"sbom", "cosign"} {
		if _, err := dst.Resolve(t.Context(), "app", string(digests[name])); !errors.Is(err, oci.ManifestUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
	copies(t, dst, src, transfer.Options{}, item("app:1", "app:1"))
	if _, err := dst.Resolve(t.Context(), "app", string(digests["sbom"])); !errors.Is(err, oci.ManifestUnknown) {
		t.Errorf("it was there, and yet: %v", err)
	}
	copies(t, dst, src, transfer.Options{Referrers: transfer.ReferrersAlways}, item("app:1", "app:1"))
	for _, name := range []string{"sbom", "signed", "child", "cosign"} {
		wantWhole(t, dst, "app", string(digests[name]))
	}
	r := copies(t, dst, src, transfer.Options{Referrers: transfer.ReferrersAlways}, item("app:1", "app:1"))
	if r.Manifests+r.Blobs+r.Tags != 0 || r.Images[0].State != transfer.There {
		t.Errorf("again: %+v", r)
	}
}

// TestSameRegistry: within one registry no bytes move.
func TestSameRegistry(t *testing.T) {
	t.Parallel()
	reg, digests := source(t)
	f := ocitest.Faulty(reg, ocitest.Fault{Method: "Blob", Err: errors.New("bytes moved")})
	r := copies(t, f, f, transfer.Options{}, item("app:1", "other:1"))
	if digestOf(t, reg, "other", "1") != digests["multi"] || r.Moved != 0 || r.There == 0 {
		t.Errorf("report: %+v", r)
	}
	wantAllWhole(t, reg)
}

// TestMountsWhatThisRunWrote: a blob for two repositories moves once.
func TestMountsWhatThisRunWrote(t *testing.T) {
	t.Parallel()
	src, _ := source(t)
	dst := ocitest.NewRegistry()
	f := ocitest.Faulty(src)
	p := plan(t, dst, f, transfer.Options{}, item("app:1", "a:1"), item("app:1", "b:1"))
	r, err := p.Execute(t.Context(), nil)
	if err := errors.Join(err, r.Err()); err != nil {
		t.Fatal(err)
	}
	reads := 0
	for _, call := range f.Calls() {
		if call == "Blob app" {
			reads++
		}
	}
	if 2*reads != r.Blobs || r.Moved != r.There {
		t.Errorf("%d reads; report: %+v", reads, r)
	}
	wantAllWhole(t, dst)
}

func TestNoOverwrite(t *testing.T) {
	t.Parallel()
	src, digests := source(t)
	dst := ocitest.NewRegistry()
	copies(t, dst, src, transfer.Options{}, item("app:0", "app:1"))
	p := plan(t, dst, src, transfer.Options{NoOverwrite: true}, item("app:1", "app:1"), item("app:1", "app:2"))
	r, err := p.Execute(t.Context(), nil)
	if err != nil || !errors.Is(r.Err(), oci.TagExists) || r.Failed != 1 {
		t.Errorf("%v, %+v", err, r)
	}
	if digestOf(t, dst, "app", "1") != digests["old"] || digestOf(t, dst, "app", "2") != digests["multi"] {
		t.Error("a tag is wrong")
	}
	if want := "destination app:1: tag: it points to " + string(digests["old"]); r.Err().Error() != want {
		t.Errorf("error %q, want %q", r.Err(), want)
	}
}

// TestByDigest copies without any tag.
func TestByDigest(t *testing.T) {
	t.Parallel()
	src, digests := source(t)
	dst := ocitest.NewRegistry()
	one := transfer.Item{SrcRepo: "app", SrcRef: string(digests["amd64"]), DstRepo: "app"}
	copies(t, dst, src, transfer.Options{}, one)
	wantWhole(t, dst, "app", string(digests["amd64"]))
	if r := copies(t, dst, src, transfer.Options{}, one); r.Images[0].State != transfer.There {
		t.Errorf("again: %+v", r)
	}
}

// TestPlanWithoutDestination tells all that there is to move.
func TestPlanWithoutDestination(t *testing.T) {
	t.Parallel()
	src, digests := source(t)
	p := plan(t, nil, src, transfer.Options{}, item("app:1", "x:1"))
	var names []string
	for _, m := range p.Manifests {
		for name, d := range digests {
			if d == m.Descriptor.Digest {
				names = append(names, name)
			}
		}
		if m.Descriptor.Size != int64(len(m.Raw)) {
			t.Errorf("size %d of %d bytes", m.Descriptor.Size, len(m.Raw))
		}
	}
	position := func(name string) int { return slices.Index(names, name) }
	for _, order := range []string{"amd64 multi", "arm64 multi", "multi sbom", "sbom signed", "arm64 child"} {
		first, second, _ := strings.Cut(order, " ")
		if position(first) < 0 || position(first) > position(second) {
			t.Errorf("%s: order is %q", order, names)
		}
	}
	var sum int64
	for i, b := range p.Blobs {
		sum += b.Descriptor.Size
		if i > 0 && b.Descriptor.Size > p.Blobs[i-1].Descriptor.Size {
			t.Error("a larger blob follows a smaller one")
		}
	}
	if len(p.Tags) != 2 || sum != p.Bytes || len(p.Manifests) != 7 {
		t.Errorf("%d tags, %d of %d bytes, %d manifests", len(p.Tags), sum, p.Bytes, len(p.Manifests))
	}
	if _, err := p.Execute(t.Context(), nil); err == nil {
		t.Error("executed")
	}
}

// TestResumesUpload: an upload that breaks off goes on where it was.
func TestResumesUpload(t *testing.T) {
	t.Parallel()
	src := ocitest.NewRegistry()
	ocitest.Push(t, src, ocitest.Content{"app": {
		Blobs:     ocitest.Blobs{"big": strings.Repeat("x", 100_000)},
		Manifests: ocitest.Manifests{"m": {Layers: "big"}},
		Tags:      ocitest.Tags{"1": "m"},
	}})
	dst := ocitest.NewRegistry()
	broken := oci.Errorf(oci.Unavailable, "broken")
	to := ocitest.Faulty(dst, ocitest.Fault{Method: "Upload.ReadFrom", N: 1, After: 60_000, Err: broken})
	var moved, back int64
	p := plan(t, to, src, transfer.Options{Jobs: 1}, item("app:1", "app:1"))
	r, err := p.Execute(t.Context(), func(e transfer.Event) {
		if e.Kind == transfer.Moved {
			moved += e.Bytes
			back = min(back, e.Bytes)
		}
	})
	if err := errors.Join(err, r.Err()); err != nil {
		t.Fatal(err)
	}
	if moved != p.Bytes || moved != r.Moved {
		t.Errorf("moved %d, report %d, plan %d", moved, r.Moved, p.Bytes)
	}
	if back < -50_000 {
		t.Errorf("went back by %d bytes", -back)
	}
	wantAllWhole(t, dst)
}

// TestOneFails: the others of a repository are copied, and the error says where.
func TestOneFails(t *testing.T) {
	t.Parallel()
	src, digests := source(t)
	dst := ocitest.NewRegistry()
	f := &ocitest.Funcs{Registry: src, OnManifest: func(ctx context.Context, repo, ref string) (oci.Manifest, error) {
		if ref == string(digests["arm64"]) {
			return oci.Manifest{}, oci.Errorf(oci.ManifestUnknown, "gone")
		}
		return src.Manifest(ctx, repo, ref)
	}}
	r, err := plan(t, dst, f, transfer.Options{}, transfer.Item{SrcRepo: "app", DstRepo: "app"}).Execute(t.Context(), nil)
	if err != nil || r.Failed != 1 {
		t.Fatalf("%v, %+v", err, r)
	}
	var at *transfer.Error
	if !errors.As(r.Err(), &at) || at.Side != transfer.Source || at.Ref != string(digests["arm64"]) || !errors.Is(at, oci.ManifestUnknown) {
		t.Errorf("error: %v", r.Err())
	}
	if got := digestOf(t, dst, "app", "0"); got != digests["old"] {
		t.Errorf("the other is %s", got)
	}
	if _, err := dst.Resolve(t.Context(), "app", "1"); !errors.Is(err, oci.ManifestUnknown) {
		t.Errorf("half of it: %v", err)
	}
}

func TestEnds(t *testing.T) {
	t.Parallel()
	src, _ := source(t)
	dst := ocitest.NewRegistry()
	ctx, cancel := context.WithCancel(t.Context())
	f := &ocitest.Funcs{Registry: src, OnBlob: func(ctx context.Context, repo string, d oci.Digest) (oci.BlobReader, error) {
		cancel()
		return oci.BlobReader{}, ctx.Err()
	}}
	p, err := transfer.MakePlan(ctx, dst, f, []transfer.Item{item("app:1", "app:1")}, transfer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Execute(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
	wantAllWhole(t, dst)
	if _, err := transfer.MakePlan(ctx, dst, src, []transfer.Item{item("app:1", "app:1")}, transfer.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("plan: %v", err)
	}
}

// TestVerifies: what a source says is verified, whatever the destination does.
func TestVerifies(t *testing.T) {
	t.Parallel()
	src, digests := source(t)
	f := &ocitest.Funcs{Registry: src, OnManifest: func(ctx context.Context, repo, ref string) (oci.Manifest, error) {
		m, err := src.Manifest(ctx, repo, ref)
		if ref == string(digests["amd64"]) {
			m.Raw = append(m.Raw, ' ')
		}
		return m, err
	}}
	p := plan(t, ocitest.NewRegistry(), f, transfer.Options{}, item("app:1", "app:1"))
	if !errors.Is(p.Err(), oci.DigestInvalid) {
		t.Errorf("error: %v", p.Err())
	}
	f = &ocitest.Funcs{Registry: src, OnBlob: func(ctx context.Context, repo string, d oci.Digest) (oci.BlobReader, error) {
		b, err := src.Blob(ctx, repo, d)
		b.ReadSeekCloser = lying{b.ReadSeekCloser}
		return b, err
	}}
	dst := ocitest.NewRegistry()
	r, err := plan(t, dst, f, transfer.Options{}, item("app:1", "app:1")).Execute(t.Context(), nil)
	if err != nil || !errors.Is(r.Err(), oci.DigestInvalid) {
		t.Errorf("error: %v, %v", err, r.Err())
	}
	wantAllWhole(t, dst)
}

type lying struct{ io.ReadSeekCloser }

func (l lying) Read(p []byte) (int, error) {
	n, err := l.ReadSeekCloser.Read(p)
	if n > 0 {
		p[0]++
	}
	return n, err
}

func Example() {
	fmt.Println(transfer.Matches(oci.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, oci.Platform{OS: "linux", Architecture: "arm64"}))
	// Output: true
}
