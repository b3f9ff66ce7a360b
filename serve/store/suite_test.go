package store_test

import (
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/storage/mem"
)

func TestContractInMemory(t *testing.T) {
	ocitest.Run(t, func(t testing.TB) oci.Registry { return open(t, mem.New()) })
}

func TestContractOnDisk(t *testing.T) {
	ocitest.Run(t, func(t testing.TB) oci.Registry {
		b, err := file.Open(t.TempDir(), file.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return open(t, b)
	})
}
