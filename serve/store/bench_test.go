package store_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/storage/mem"
)

func BenchmarkManifestByTag(b *testing.B) {
	s := open(b, mem.New())
	raw := imageOf(b, pushBlob(b, s, "team/app", "{}"), pushBlob(b, s, "team/app", "layer"))
	if _, err := s.PutManifest(b.Context(), "team/app", oci.Put{Tags: []string{"latest"}, Raw: raw}); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Manifest(b.Context(), "team/app", "latest"); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// A small image: config, layer and manifest with a new tag, on a real disk.
func BenchmarkPushSmallImage(b *testing.B) {
	disk, err := file.Open(b.TempDir(), file.Options{})
	if err != nil {
		b.Fatal(err)
	}
	s := open(b, disk)
	b.SetParallelism(2)
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			i := n.Add(1)
			repo := fmt.Sprintf("bench/app%d", i%4)
			raw := imageOf(b, pushBlob(b, s, repo, fmt.Sprintf(`{"n":%d}`, i)), pushBlob(b, s, repo, fmt.Sprint("layer", i)))
			if _, err := s.PutManifest(b.Context(), repo, oci.Put{Tags: []string{fmt.Sprint("v", i)}, Raw: raw}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
