package layout_test

import (
	"path/filepath"
	"testing"

	"github.com/regctl/regctl/client/layout"
	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

func newDirectory(t testing.TB) *layout.Directory {
	t.Helper()
	d, err := layout.Create(filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDirectoryIsARegistry(t *testing.T) {
	t.Parallel()
	ocitest.Run(t, func(t testing.TB) oci.Registry { return newDirectory(t) })
}
