package layout_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/layout"
	"github.com/regctl/regctl/client/oci"
)

// TestAnUploadOfTwoProcesses: what another process added to an upload does not
// become a part of the blob, under a digest that is not its own.
func TestAnUploadOfTwoProcesses(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "images")
	one, err := layout.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, content := t.Context(), []byte("hello")
	up, err := one.Upload(ctx, "app", "", oci.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := again(t, dir).Upload(ctx, "app", up.ID(), oci.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = up.Write(content)
	_, otherErr := other.Write([]byte("bye"))
	if err = errors.Join(err, otherErr); err != nil {
		t.Fatal(err)
	}
	d := digest.FromBytes(content)
	if _, err := up.Commit(ctx, d); !errors.Is(err, oci.RangeInvalid) {
		t.Errorf("Commit: got %v", err)
	}
	if _, err := again(t, dir).StatBlob(ctx, "app", d); !errors.Is(err, oci.BlobUnknown) {
		t.Errorf("StatBlob: got %v", err)
	}
}
