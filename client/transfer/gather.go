package transfer

// gathering collects what the images of a plan need, each once. Only what
// belongs to images that can be copied whole gets in.
type gathering struct {
	plan  *Plan
	blobs map[*blobNode]bool
	nodes map[*node]bool
	marks map[markKey]bool
}

// mark is a move of tags of a repository to a manifest: the last thing that
// happens to an image.
type mark struct {
	node *node
	tags []string
	// image is the one in the plan; -1: a companion of one.
	image int
}

type markKey struct{ repo, tag string }

// image takes in one image.
func (g *gathering) image(index int) {
	m := &g.plan.Images[index]
	if m.Err == nil && m.root != nil {
		m.Err = reach(m.root, func(n *node) error { return n.err })
	}
	if m.Err != nil {
		m.State = Failed
		return
	}
	if m.root == nil {
		return
	}
	m.Platforms, m.Manifest = m.root.platforms, m.root.desc
	before := len(g.plan.nodes) + len(g.plan.marks)
	g.node(m.root)
	g.state(m, len(g.plan.nodes)+len(g.plan.marks) > before)
	g.plan.marks = append(g.plan.marks, mark{m.root, m.move, index})
}

func (g *gathering) state(m *Image, more bool) {
	switch {
	case !m.root.there || more:
		m.State = Copy
	case len(m.move) > 0:
		m.State = Retag
	}
}

// node takes in a manifest with all below it before it, and what refers to it
// after it.
func (g *gathering) node(n *node) {
	if g.nodes[n] {
		return
	}
	g.nodes[n] = true
	for _, b := range n.blobs {
		if !g.blobs[b] {
			g.blobs[b] = true
			g.plan.blobs = append(g.plan.blobs, b)
		}
	}
	for _, child := range n.children {
		g.node(child)
	}
	if !n.there {
		g.plan.nodes = append(g.plan.nodes, n)
		g.plan.writes[n.dst] = false
	}
	for _, r := range n.referrers {
		g.node(r)
	}
	for _, c := range n.companions {
		g.node(c.node)
		key := markKey{n.dst, c.tag}
		if c.move && !g.marks[key] {
			g.marks[key] = true
			g.plan.marks = append(g.plan.marks, mark{c.node, []string{c.tag}, -1})
		}
	}
}

// reach calls visit for n and every node that can be reached from it, each
// once, until an error.
func reach(n *node, visit func(*node) error) error {
	seen := map[*node]bool{}
	var go1 func(*node) error
	go1 = func(n *node) error {
		if seen[n] {
			return nil
		}
		seen[n] = true
		if err := visit(n); err != nil {
			return err
		}
		for _, list := range [][]*node{n.children, n.referrers, companionNodes(n)} {
			for _, next := range list {
				if err := go1(next); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return go1(n)
}

func companionNodes(n *node) []*node {
	nodes := make([]*node, 0, len(n.companions))
	for _, c := range n.companions {
		nodes = append(nodes, c.node)
	}
	return nodes
}
