package store

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/regctl/regctl/client/oci"
)

// bodies remembers the bytes of manifests by digest, up to a number of bytes.
// It says nothing about who may see them: membership is asked for first.
type bodies struct {
	mu   sync.Mutex
	room int64
	lru  *simplelru.LRU[oci.Digest, []byte]
}

func newBodies(room int64) *bodies {
	b := &bodies{room: room}
	// Bounded by bytes, not by entries; the size is positive, so there is no error.
	b.lru, _ = simplelru.NewLRU(1<<31-1, func(_ oci.Digest, raw []byte) { b.room += bodyCost(raw) })
	return b
}

func bodyCost(raw []byte) int64 { return int64(len(raw)) + 256 }

func (b *bodies) get(d oci.Digest) ([]byte, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lru.Get(d)
}

func (b *bodies) remove(d oci.Digest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lru.Remove(d)
}

func (b *bodies) add(d oci.Digest, raw []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lru.Remove(d)
	b.lru.Add(d, raw)
	for b.room -= bodyCost(raw); b.room < 0; {
		b.lru.RemoveOldest()
	}
}
