package gc

// order puts what is to go into levels: a manifest is in a later one than
// those that name it and than its subject, links of blobs are in the last.
//
// What is in a circle, or hangs on one, stays: whichever of it went first, the
// others could prove to be in use after that. An index that names its own
// subject makes one.
func (g *graph) order() {
	o := order{g: g, waits: make([]int32, len(g.things)+2*len(g.names)), level: make([]int32, len(g.things)+2*len(g.names))}
	manifests := 0
	for t := range g.things {
		if g.things[t].kind == KindManifest {
			manifests++
		}
	}
	if manifests > 0 {
		o.run()
	}
	for t := range g.things {
		if g.things[t].kind == KindManifest && o.waits[t] != done {
			g.keep(int32(t), inDoubt)
		}
	}
	g.follow(inDoubt)
	o.fill()
}

// done is in order.waits what waits for nothing more.
const done int32 = -1

// order sorts by counting for what each node has to wait. Its nodes are the
// things of g, then its names as that of things, then its names as subjects.
type order struct {
	g     *graph
	waits []int32
	level []int32
}

// after calls f with what comes after node v, and with whether it is on a
// later level.
func (o *order) after(v int32, f func(v, further int32)) {
	things, names := int32(len(o.g.things)), int32(len(o.g.names))
	switch {
	case v < things:
		t := &o.g.things[v]
		o.g.steps += int(t.last - t.first)
		for _, n := range o.g.edges[t.first:t.last] {
			f(things+n, 1)
		}
		if t.digest != none {
			f(things+names+t.digest, 1)
		}
		if t.content != none && t.content != t.digest {
			f(things+names+t.content, 1)
		}
	case v < things+names:
		o.g.knownBy(v-things, func(t int32) {
			if o.g.things[t].isManifest() {
				f(t, 0)
			}
		})
		f(v+names, 0)
	default:
		o.g.referring(v-things-names, func(t int32) { f(t, 0) })
	}
}

func (o *order) run() {
	for v := range o.waits {
		if o.takesPart(int32(v)) {
			o.after(int32(v), func(w, _ int32) { o.waits[w]++ })
		}
	}
	var queue []int32
	for v := range o.waits {
		if o.waits[v] == 0 && o.takesPart(int32(v)) {
			queue = append(queue, int32(v))
		}
	}
	for len(queue) > 0 {
		v := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		o.waits[v] = done
		o.after(v, func(w, further int32) {
			o.level[w] = max(o.level[w], o.level[v]+further)
			if o.waits[w]--; o.waits[w] == 0 {
				queue = append(queue, w)
			}
		})
	}
}

// takesPart is not true of links of blobs: they go after all manifests.
func (o *order) takesPart(v int32) bool {
	return int(v) >= len(o.g.things) || o.g.things[v].isManifest()
}

// fill makes the levels of what was not kept.
func (o *order) fill() {
	g := o.g
	last := int32(0)
	for t := range g.things {
		if g.things[t].kind == KindManifest {
			last = max(last, o.level[t]+1)
		}
	}
	levels := make([][]int32, last+1)
	for t := range g.things {
		if g.things[t].kept {
			continue
		}
		level := last
		if g.things[t].kind == KindManifest {
			level = o.level[t]
		}
		levels[level] = append(levels[level], int32(t))
	}
	for _, l := range levels {
		if len(l) > 0 {
			g.levels = append(g.levels, l)
		}
	}
}
