package ocitest_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

func ExampleFaulty() {
	reg := ocitest.Faulty(ocitest.NewRegistry(), ocitest.Fault{Method: "PutManifest", N: 1, Err: oci.Unavailable})
	index := oci.Put{Tags: []string{"v1"}, Raw: []byte(`{"schemaVersion":2,"manifests":[]}`)}
	for range 2 {
		_, err := reg.PutManifest(context.Background(), "team/app", index)
		fmt.Println(errors.Is(err, oci.Unavailable), err)
	}
	fmt.Println(reg.Calls())
	// Output:
	// true service unavailable
	// false <nil>
	// [PutManifest team/app PutManifest team/app]
}

func ExampleNewRegistry() {
	reg := ocitest.NewRegistry()
	_, err := reg.Resolve(context.Background(), "team/app", "latest")
	fmt.Println(errors.Is(err, oci.ManifestUnknown), err)
	// Output: true no manifest latest
}
