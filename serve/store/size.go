package store

import (
	"context"
	"fmt"

	"github.com/regctl/regctl/gc"
)

// Size counts all data there is, with one file looked at a time. Pause is
// called now and then, so that others get at the disk; false ends the count.
// Errors: that of ctx, and what could not be listed.
func (s *Store) Size(ctx context.Context, pause func() bool) (gc.Count, error) {
	const pauseEvery = 512
	var sum gc.Count
	for d, err := range s.meta.ScanData(ctx, 1) {
		if err != nil {
			return gc.Count{}, fmt.Errorf("count data: %w", err)
		}
		sum.N++
		sum.Bytes += d.Size
		if sum.N%pauseEvery == 0 && !pause() {
			return gc.Count{}, context.Cause(ctx)
		}
	}
	return sum, ctx.Err()
}

// Uploads is how many uploads are being written to at this moment or may go on
// without reading their data again.
func (s *Store) Uploads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Leases is how much is known to have been touched: it stays in a collection
// for a while, whatever needs it.
func (s *Store) Leases() int {
	n := 0
	for i := range s.leases.shards {
		shard := &s.leases.shards[i]
		shard.mu.Lock()
		n += len(shard.touched)
		shard.mu.Unlock()
	}
	return n
}
