package gc

import (
	"context"
	"sync"
	"sync/atomic"
)

// parallel calls f for 0 to n-1, jobs at once and in order, until ctx is done.
func parallel(ctx context.Context, jobs, n int, f func(i int)) {
	if jobs = min(jobs, n); jobs <= 1 {
		for i := 0; i < n && ctx.Err() == nil; i++ {
			f(i)
		}
		return
	}
	var next atomic.Int64
	var group sync.WaitGroup
	for range jobs {
		group.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				f(i)
			}
		})
	}
	group.Wait()
}
