package file_test

import (
	"os"
	"testing"

	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/storage/storagetest"
)

func open(t testing.TB, root string, o file.Options) *file.Backend {
	t.Helper()
	b, err := file.Open(root, o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadersAreFiles(t *testing.T) {
	b := open(t, t.TempDir(), file.Options{})
	if err := storage.Put(t.Context(), b, "a/b/c", []byte("data")); err != nil {
		t.Fatal(err)
	}
	r, info, err := b.Open(t.Context(), "a/b/c")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, ok := r.(*os.File); !ok {
		t.Errorf("reader is %T, which sendfile does not take", r)
	}
	if info.Size != 4 {
		t.Errorf("size %d, want 4", info.Size)
	}
}

func TestBackend(t *testing.T) {
	storagetest.Run(t, func(t testing.TB) storage.Backend { return open(t, t.TempDir(), file.Options{}) })
}
