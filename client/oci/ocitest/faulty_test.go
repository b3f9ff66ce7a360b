package ocitest_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

const errBroken = brokenError("broken")

type brokenError string

func (e brokenError) Error() string { return string(e) }

func TestFaultyWithoutFaultsPassesTheSuite(t *testing.T) {
	ocitest.Run(t, func(testing.TB) oci.Registry { return ocitest.Faulty(ocitest.NewRegistry()) })
}

func TestFaultFailsTheCallItNames(t *testing.T) {
	ctx := t.Context()
	reg := ocitest.NewRegistry()
	ocitest.Push(t, reg, ocitest.Content{
		"a": {Manifests: ocitest.Manifests{"m": {}}, Tags: ocitest.Tags{"v1": "m", "v2": "m", "v3": "m"}},
		"b": {Manifests: ocitest.Manifests{"m": {}}, Tags: ocitest.Tags{"v1": "m"}},
	})
	f := ocitest.Faulty(reg,
		ocitest.Fault{Method: "Resolve", Repo: "a", N: 2, Err: oci.Unavailable},
		ocitest.Fault{Method: "DeleteTag", N: 1, Err: errBroken, Late: true},
		ocitest.Fault{Method: "Tags", After: 1, Err: errBroken},
	)
	for i, want := range []error{nil, oci.Unavailable, nil} {
		if _, err := f.Resolve(ctx, "b", "v1"); err != nil {
			t.Errorf("resolve in b: %v", err)
		}
		if _, err := f.Resolve(ctx, "a", "v1"); !errors.Is(err, want) {
			t.Errorf("call %d: error is %v, want %v", i+1, err, want)
		}
	}
	if err := f.DeleteTag(ctx, "a", "v1", ""); !errors.Is(err, errBroken) {
		t.Errorf("error is %v", err)
	}
	if err := f.DeleteTag(ctx, "a", "v1", ""); !errors.Is(err, oci.ManifestUnknown) {
		t.Errorf("the late fault did not make its call: %v", err)
	}
	var tags []string
	for tag, err := range f.Tags(ctx, "a", "") {
		if err != nil {
			tags = append(tags, err.Error())
			break
		}
		tags = append(tags, tag)
	}
	if want := []string{"v2", "broken"}; !slices.Equal(tags, want) {
		t.Errorf("tags are %v, want %v", tags, want)
	}
	want := []string{
		"Resolve b", "Resolve a", "Resolve b", "Resolve a", "Resolve b", "Resolve a",
		"DeleteTag a", "DeleteTag a", "Tags a",
	}
	if got := f.Calls(); !slices.Equal(got, want) {
		t.Errorf("calls are %q, want %q", got, want)
	}
}

func TestFaultBreaksReaders(t *testing.T) {
	f := ocitest.Faulty(ocitest.NewRegistry(),
		ocitest.Fault{Method: "Blob", N: 1, After: 3, Err: errBroken},
		ocitest.Fault{Method: "Upload.ReadFrom", N: 1, After: 4, Err: errBroken},
		ocitest.Fault{Method: "Upload.Commit", N: 1, Err: errBroken},
	)
	up, err := f.Upload(t.Context(), "a", "", oci.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	content := strings.NewReader("0123456789")
	if n, err := up.ReadFrom(content); n != 4 || !errors.Is(err, errBroken) {
		t.Errorf("read %d bytes, error %v; want 4 and the fault", n, err)
	}
	if n, err := up.ReadFrom(content); n != 6 || err != nil {
		t.Errorf("read %d bytes, error %v; want 6", n, err)
	}
	d := digest.FromString("0123456789")
	if _, err := up.Commit(t.Context(), d); !errors.Is(err, errBroken) {
		t.Errorf("commit: %v", err)
	}
	if _, err := up.Commit(t.Context(), d); err != nil {
		t.Errorf("commit: %v", err)
	}
	for _, want := range []string{"012", "0123456789"} {
		b, err := f.Blob(t.Context(), "a", d)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(b)
		if string(data) != want || (err != nil) != (want == "012") {
			t.Errorf("read %q, error %v; want %q", data, err, want)
		}
	}
}

func TestFuncsReplaceOneMethod(t *testing.T) {
	reg := ocitest.NewRegistry()
	ocitest.Push(t, reg, ocitest.Content{"a": {Manifests: ocitest.Manifests{"m": {}}, Tags: ocitest.Tags{"v1": "m"}}})
	f := &ocitest.Funcs{Registry: reg, OnManifest: func(context.Context, string, string) (oci.Manifest, error) {
		return oci.Manifest{}, errBroken
	}}
	if _, err := f.Manifest(t.Context(), "a", "v1"); !errors.Is(err, errBroken) {
		t.Errorf("error is %v", err)
	}
	if _, err := f.Resolve(t.Context(), "a", "v1"); err != nil {
		t.Error(err)
	}
	ocitest.Run(t, func(testing.TB) oci.Registry { return &ocitest.Funcs{Registry: ocitest.NewRegistry()} })
}
