package ocitest_test

import (
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

func TestReferenceRegistry(t *testing.T) {
	ocitest.Run(t, func(testing.TB) oci.Registry { return ocitest.NewRegistry() })
}
