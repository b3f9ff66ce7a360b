package meta

import (
	"maps"
	"slices"
	"sync"
)

// maxTraces bounds how many directories are remembered between the scans; the
// rest is found in the next run.
const maxTraces = 100_000

// traces are directories that a scan found without what they were made for.
type traces struct {
	mu   sync.Mutex
	dirs map[string]string // The repository by directory, "" if none.
}

func (t *traces) add(repo, dir string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dirs == nil {
		t.dirs = map[string]string{}
	}
	if len(t.dirs) < maxTraces {
		t.dirs[dir] = repo
	}
}

// trace is one of the directories.
type trace struct{ repo, dir string }

// take returns all in order and forgets them.
func (t *traces) take() []trace {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []trace
	for _, dir := range slices.Sorted(maps.Keys(t.dirs)) {
		all = append(all, trace{t.dirs[dir], dir})
	}
	t.dirs = nil
	return all
}
