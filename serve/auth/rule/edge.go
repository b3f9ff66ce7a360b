package rule

// edge is up to eight bytes that names must begin or end with: what most
// entries are passed by, for the price of comparing two numbers.
type edge struct{ bytes, mask uint64 }

func headEdge(s string) edge { return edge{head(s), mask(s)} }

func tailEdge(s string) edge { return edge{tail(s), mask(s)} }

// mask has a bit for each of the first eight bytes of s.
func mask(s string) uint64 {
	if len(s) >= 8 {
		return ^uint64(0)
	}
	return 1<<(8*len(s)) - 1
}

// head is the first eight bytes of s.
func head(s string) uint64 {
	var n uint64
	for i := range min(len(s), 8) {
		n |= uint64(s[i]) << (8 * i)
	}
	return n
}

// tail is the last eight bytes of s, from the last one on.
func tail(s string) uint64 {
	var n uint64
	for i := range min(len(s), 8) {
		n |= uint64(s[len(s)-1-i]) << (8 * i)
	}
	return n
}

// of says whether a name with this head, or tail, may be one.
func (e edge) of(n uint64) bool { return n&e.mask == e.bytes }

// question is what is asked about, with what it takes to pass over rules.
type question struct {
	repo, tag        string
	action           Action
	head, tail       uint64 // Of the repository.
	tagHead, tagTail uint64
}

func ask(repo, tag string, a Action) question {
	return question{repo, tag, a, head(repo), tail(repo), head(tag), tail(tag)}
}
