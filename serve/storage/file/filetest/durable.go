package filetest

import (
	"bytes"
	"maps"
	"slices"
)

// op is what happened at once and is not durable yet: names that were set, or
// a write to a file.
type op struct {
	sets  []set // Of a rename: what it made, then what it took away.
	write *write
}

// set makes a name of a directory, or takes it away if node is nil.
type set struct {
	slot
	dirent
}

// slot is where a name stands.
type slot struct {
	dir    *inode
	folded string
}

// write is new data from off on. What was behind size is cut.
type write struct {
	node *inode
	off  int64
	data []byte
	size int64
}

func (s set) apply(st *state) {
	if s.node == nil {
		delete(st.names, s.folded)
		return
	}
	st.names[s.folded] = s.dirent
}

func (w *write) apply(st *state) {
	if short := w.size - int64(len(st.data)); short > 0 {
		st.data = append(st.data, make([]byte, short)...)
	}
	copy(st.data[w.off:w.size], w.data)
	st.data = st.data[:w.size]
}

// set gives dir a name. The caller holds mu, as for all below.
func (d *Disk) set(dir *inode, name string, n *inode) {
	d.note(op{sets: []set{{slot{dir, d.fold(name)}, dirent{name, n}}}})
}

// drop takes a name away.
func (d *Disk) drop(dir *inode, name string) {
	d.free(dir.child(d.fold(name)))
	d.note(op{sets: []set{{slot{dir, d.fold(name)}, dirent{}}}})
}

// move renames n at once: no power cut leaves it under neither name.
func (d *Disk) move(src *inode, from string, dst *inode, to string, n *inode) {
	made, taken := set{slot{dst, d.fold(to)}, dirent{to, n}}, set{slot: slot{src, d.fold(from)}}
	if made.slot == taken.slot { // Only the case changes.
		d.note(op{sets: []set{made}})
		return
	}
	d.free(dst.child(d.fold(to)))
	d.note(op{sets: []set{made, taken}})
}

// free gives the room of n back.
func (d *Disk) free(n *inode) {
	if d.room != Unlimited && n != nil {
		d.room += int64(len(n.data))
	}
}

// note does o and remembers that it is not durable.
func (d *Disk) note(o op) {
	d.apply([]op{o}, func(n *inode) *state { return &n.state })
	for _, s := range o.sets {
		s.dir.mod = d.Now()
	}
	d.log = append(d.log, o)
}

func (d *Disk) apply(ops []op, where func(*inode) *state) {
	for _, o := range ops {
		for _, s := range o.sets {
			s.apply(where(s.dir))
		}
		if o.write != nil {
			o.write.apply(where(o.write.node))
		}
	}
}

func (d *Disk) truncate(n *inode, size int64) {
	if d.room != Unlimited {
		d.room += int64(len(n.data)) - size
	}
	n.mod = d.Now()
	d.note(op{write: &write{node: n, off: size, size: size}})
}

// syncFile makes the data of n durable, or with lose forgets that it is not:
// after an fsync failed, the next one says that all is well.
func (d *Disk) syncFile(n *inode, lose bool) {
	if !lose {
		n.saved.data = bytes.Clone(n.data)
	}
	for i := range d.log {
		if w := d.log[i].write; w != nil && w.node == n {
			d.log[i].write = nil
		}
	}
	d.prune()
}

// syncNames makes the names in dir durable. A rename out of it is so as a
// whole.
func (d *Disk) syncNames(dir *inode) {
	last := map[slot]int{} // The last op that is now durable there.
	for i, o := range d.log {
		n := 0
		for j, s := range o.sets {
			if s.dir == dir {
				n = j + 1
			}
		}
		for _, s := range o.sets[:n] {
			s.apply(&s.dir.saved)
			last[s.slot] = i
		}
	}
	for i := range d.log {
		d.log[i].sets = slices.DeleteFunc(d.log[i].sets, func(s set) bool {
			at, done := last[s.slot]
			return done && i <= at
		})
	}
	d.prune()
}

// prune forgets ops of which nothing is left.
func (d *Disk) prune() {
	d.log = slices.DeleteFunc(d.log, func(o op) bool { return len(o.sets) == 0 && o.write == nil })
}

// PowerCut returns the disk as it is found after the power went: only what was
// fsynced is there. d goes on as it is.
func (d *Disk) PowerCut() *Disk {
	return d.PowerCutKeeping(func() bool { return false })
}

// PowerCutKeeping is [Disk.PowerCut] on a disk that had written some of what
// was not fsynced: those changes, asked for one by one in the order they were
// made, for which keep returns true.
func (d *Disk) PowerCutKeeping(keep func() bool) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	states := map[*inode]*state{}
	stateOf := func(n *inode) *state {
		if states[n] == nil {
			states[n] = &state{maps.Clone(n.saved.names), bytes.Clone(n.saved.data)}
		}
		return states[n]
	}
	for _, o := range d.log {
		if keep() {
			d.apply([]op{o}, stateOf)
		}
	}
	cut := NewDisk()
	cut.FoldCase, cut.Now, cut.devices = d.FoldCase, d.Now, d.devices
	cut.root = rebuild(d.root, stateOf, map[*inode]*inode{})
	return cut
}

// rebuild returns a copy of n and all below it, in the state of stateOf.
func rebuild(n *inode, stateOf func(*inode) *state, done map[*inode]*inode) *inode {
	if c := done[n]; c != nil {
		return c
	}
	st := stateOf(n)
	c := &inode{perm: n.perm, mod: n.mod, dev: n.dev, uid: n.uid, gid: n.gid}
	done[n] = c
	c.data, c.saved.data = st.data, bytes.Clone(st.data)
	if n.isDir() {
		c.names = map[string]dirent{}
		for folded, e := range st.names {
			c.names[folded] = dirent{e.name, rebuild(e.node, stateOf, done)}
		}
		c.saved.names = maps.Clone(c.names)
	}
	return c
}
