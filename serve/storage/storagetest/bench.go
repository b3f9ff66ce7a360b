package storagetest

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"github.com/regctl/regctl/serve/storage"
)

// Benchmark measures backends that open returns, empty ones: what a push, a
// pull and a catalogue ask of them.
func Benchmark(b *testing.B, open func(t testing.TB) storage.Backend) {
	b.Run("PutSmall", func(b *testing.B) { putSmall(b, open(b)) })
	b.Run("PutSmallParallel", func(b *testing.B) { putSmallParallel(b, open(b)) })
	b.Run("ReplaceSmall", func(b *testing.B) { replaceSmall(b, open(b)) })
	b.Run("Stream10MiB", func(b *testing.B) { stream(b, open(b), 10<<20) })
	b.Run("GetSmall", func(b *testing.B) { getSmall(b, open(b)) })
	b.Run("Stat", func(b *testing.B) { statSmall(b, open(b)) })
	b.Run("List1000", func(b *testing.B) { list1000(b, open(b)) })
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// putSmall commits a link, each into a directory of its own, as layers do.
func putSmall(b *testing.B, s storage.Backend) {
	data := make([]byte, 71)
	for i := 0; b.Loop(); i++ {
		must(b, storage.Put(b.Context(), s, fmt.Sprintf("repo/_layers/%d/link", i), data))
	}
}

func putSmallParallel(b *testing.B, s storage.Backend) {
	var n atomic.Int64
	data := make([]byte, 71)
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := storage.Put(b.Context(), s, fmt.Sprintf("repo/_layers/%d/link", n.Add(1)), data); err != nil {
				b.Error(err)
			}
		}
	})
}

// replaceSmall moves a tag.
func replaceSmall(b *testing.B, s storage.Backend) {
	data := make([]byte, 71)
	for b.Loop() {
		must(b, storage.Put(b.Context(), s, "repo/tags/latest/current/link", data))
	}
}

// stream uploads blobs and removes them again.
func stream(b *testing.B, s storage.Backend, size int) {
	data := make([]byte, size)
	b.SetBytes(int64(size))
	for b.Loop() {
		w, err := s.Create(b.Context(), "repo/_uploads/1/data", 0)
		must(b, err)
		// As from a connection: neither a ReaderFrom nor a WriterTo.
		_, err = w.ReadFrom(struct{ io.Reader }{bytes.NewReader(data)})
		must(b, err)
		must(b, w.Commit(b.Context(), "blobs/aa/data"))
		must(b, s.Remove(b.Context(), "blobs/aa/data"))
	}
}

func getSmall(b *testing.B, s storage.Backend) {
	must(b, storage.Put(b.Context(), s, "repo/tags/latest/current/link", make([]byte, 71)))
	for b.Loop() {
		_, _, err := storage.Get(b.Context(), s, "repo/tags/latest/current/link", 1024)
		must(b, err)
	}
}

func statSmall(b *testing.B, s storage.Backend) {
	must(b, storage.Put(b.Context(), s, "repo/tags/latest/current/link", make([]byte, 71)))
	for b.Loop() {
		_, err := s.Stat(b.Context(), "repo/tags/latest/current/link")
		must(b, err)
	}
}

func list1000(b *testing.B, s storage.Backend) {
	for i := range 1000 {
		w, err := s.Create(b.Context(), fmt.Sprintf("tags/%04d/link", i), 0)
		must(b, err)
		must(b, w.Close())
	}
	for b.Loop() {
		n := 0
		for _, err := range s.List(b.Context(), "tags") {
			must(b, err)
			n++
		}
		if n != 1000 {
			b.Fatalf("%d entries", n)
		}
	}
}
