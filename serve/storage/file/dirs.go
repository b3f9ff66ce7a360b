package file

import (
	"maps"
	"path"
	"strings"
	"sync"
)

// dirs knows which directories have a name that is not durable yet. Whoever
// commits into one must wait for the device, no matter who made it.
type dirs struct {
	off bool // Nobody will wait: remember nothing.

	mu   sync.Mutex
	last uint64
	made map[string]uint64 // By key; each making has a number of its own.
}

// mark is one making of a directory.
type mark struct {
	dir string
	n   uint64
}

// mkdir calls mkdir and remembers that it made dir. Nobody sees the new
// directory and asks pending before it is remembered.
func (d *dirs) mkdir(dir string, mkdir func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := mkdir(); err != nil {
		return err
	}
	d.remember(dir)
	return nil
}

func (d *dirs) remember(dir string) {
	if d.off {
		return
	}
	if d.made == nil {
		d.made = map[string]uint64{}
	}
	d.last++
	d.made[dir] = d.last
}

// pending returns dir and those above it that are not durable yet.
func (d *dirs) pending(dir string) []mark {
	d.mu.Lock()
	defer d.mu.Unlock()
	var marks []mark
	for ; dir != "." && len(d.made) > 0; dir = path.Dir(dir) {
		if n, ok := d.made[dir]; ok {
			marks = append(marks, mark{dir, n})
		}
	}
	return marks
}

// settle forgets m: it is durable, or gone. A directory that was made again
// meanwhile is another one and stays.
func (d *dirs) settle(m mark) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.made[m.dir] == m.n {
		delete(d.made, m.dir)
	}
}

// lookup returns the mark of dir, zero if dir is durable.
func (d *dirs) lookup(dir string) mark {
	d.mu.Lock()
	defer d.mu.Unlock()
	return mark{dir, d.made[dir]}
}

// rename calls rename. What was not durable below from is then not durable
// below to, nor is to itself if it is a directory.
func (d *dirs) rename(from, to string, isDir bool, rename func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := rename(); err != nil || !isDir {
		return err
	}
	moved := map[string]uint64{}
	for dir, n := range d.made {
		if dir == from || strings.HasPrefix(dir, from+"/") {
			moved[to+strings.TrimPrefix(dir, from)] = n
			delete(d.made, dir)
		}
	}
	maps.Copy(d.made, moved)
	d.remember(to)
	return nil
}
