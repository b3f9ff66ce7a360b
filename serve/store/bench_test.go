package store_test

import (
	"testing"

	"github.com/regctl/regctl/client/oci"
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
