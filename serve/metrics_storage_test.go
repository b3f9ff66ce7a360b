//go:build unix

package serve

import (
	"os"
	"testing"
	"time"

	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/storage/storagetest"
)

// A storage that is measured is one, whatever it is made of.
func TestContractOfMeasuredStorage(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(testing.TB) storage.Backend{
		"mem": func(testing.TB) storage.Backend { return mem.New() },
		"file": func(t testing.TB) storage.Backend {
			b, err := file.Open(t.TempDir(), file.Options{NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storagetest.Run(t, func(t testing.TB) storage.Backend {
				return NewMetrics().storage(open(t), "filesystem", time.Now)
			})
		})
	}
}

// What is read is still a file, which the kernel can send.
func TestMeasuredFilesAreFiles(t *testing.T) {
	t.Parallel()
	b, err := file.Open(t.TempDir(), file.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	measured := NewMetrics().storage(b, "filesystem", time.Now)
	if err := storage.Put(t.Context(), measured, "a/b", []byte("abc")); err != nil {
		t.Fatal(err)
	}
	r, _, err := measured.Open(t.Context(), "a/b")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, ok := r.(*os.File); !ok {
		t.Errorf("it is a %T", r)
	}
	var none *Metrics
	if none.storage(b, "filesystem", time.Now) != storage.Backend(b) {
		t.Error("measured though nothing is counted")
	}
}
