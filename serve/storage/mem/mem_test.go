package mem_test

import (
	"testing"
	"time"

	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/storage/storagetest"
)

func TestBackend(t *testing.T) {
	storagetest.Run(t, func(testing.TB) storage.Backend { return mem.New() })
}

// Commit keeps the time of the last write, as rename(2) does.
func TestTime(t *testing.T) {
	b, now := mem.New(), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b.Now = func() time.Time { return now }
	w, err := b.Create(t.Context(), "tmp", 0)
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	if _, err := w.Write([]byte("data")); err != nil {
		t.Fatal(err)
	}
	written := now
	now = now.Add(time.Hour)
	if err := w.Commit(t.Context(), "key"); err != nil {
		t.Fatal(err)
	}
	info, err := b.Stat(t.Context(), "key")
	if err != nil || !info.ModTime.Equal(written) {
		t.Errorf("time %v, want %v (%v)", info.ModTime, written, err)
	}
}

func BenchmarkBackend(b *testing.B) {
	storagetest.Benchmark(b, func(testing.TB) storage.Backend { return mem.New() })
}
