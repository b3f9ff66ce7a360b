package state

import (
	"path/filepath"
	"testing"
)

// BenchmarkOutbox is an event on its way: announced, delivered and forgotten.
// By-one is a server that has time, by-16 one under load.
func BenchmarkOutbox(b *testing.B) {
	for name, page := range map[string]int{"by-1": 1, "by-16": 16} {
		b.Run(name, func(b *testing.B) {
			s, err := Open(b.Context(), filepath.Join(b.TempDir(), "state.db"), nil)
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			body := make([]byte, 900)
			for n := 0; b.Loop(); n++ {
				es := []Event{{At: start, Endpoint: "a", Action: "push", Kind: KindTag, Repo: "app", Tag: "1", Digest: digestOf("1"), Body: body}}
				if err := s.Announce(b.Context(), es); err != nil {
					b.Fatal(err)
				}
				s.Happened(es[0].ID)
				if n%page > 0 {
					continue
				}
				told, err := s.NextEvents(b.Context(), "a", 64)
				if err != nil {
					b.Fatal(err)
				}
				for _, e := range told {
					s.Done(e.ID)
				}
			}
		})
	}
}
