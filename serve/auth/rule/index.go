package rule

import (
	"net/netip"
	"strings"
)

// entry is one pattern of What of a rule.
type entry struct {
	rule             int
	head, tail       edge // Of repositories.
	tagHead, tagTail edge
	*parsed
	what *what
}

func newEntry(rule int, of *parsed, w *what) entry {
	e := entry{rule: rule, head: headEdge(w.repo.prefix), tail: tailEdge(w.repo.suffix), parsed: of, what: w}
	if w.tag != nil {
		e.tagHead, e.tagTail = headEdge(w.tag.prefix), tailEdge(w.tag.suffix)
	}
	return e
}

// bucket has the entries of one word of Who, in the order of the rules.
type bucket struct {
	all    []entry
	first  map[string][]entry // By the first part of the repository, where that is known.
	rest   []entry            // The others.
	groups bool               // There is ${user:N} in it.
}

// named is a bucket of those whose name is not known beforehand.
type named struct {
	name       *pattern
	head, tail edge
	bucket
}

// names are the buckets of users, groups or robots.
type names struct {
	exact    map[string]*bucket
	patterns []*named
}

// index finds the entries about somebody.
type index struct {
	anonymous, all        bucket
	users, groups, robots names
}

func (x *index) build(rules []*parsed) {
	for i, r := range rules {
		for _, who := range r.who {
			for j := range r.what {
				e := newEntry(i, r, &r.what[j])
				switch who.kind {
				case whoAnonymous:
					x.anonymous.add(e)
				case whoAll:
					x.all.add(e)
				case whoEveryone:
					x.anonymous.add(e)
					x.all.add(e)
				case whoUser:
					x.users.bucket(who.name).add(e)
				case whoGroup:
					x.groups.bucket(who.name).add(e)
				case whoRobot:
					x.robots.bucket(who.name).add(e)
				}
			}
		}
	}
}

// bucket is that of a word, made if it is new.
func (n *names) bucket(name *pattern) *bucket {
	if exact, ok := name.exact(); ok {
		b := n.exact[exact]
		if b == nil {
			b = &bucket{}
			if n.exact == nil {
				n.exact = map[string]*bucket{}
			}
			n.exact[exact] = b
		}
		return b
	}
	for _, p := range n.patterns {
		if p.name.source == name.source {
			return &p.bucket
		}
	}
	p := &named{name: name, head: headEdge(name.prefix), tail: tailEdge(name.suffix)}
	n.patterns = append(n.patterns, p)
	return &p.bucket
}

func (b *bucket) add(e entry) {
	b.all = append(b.all, e)
	b.groups = b.groups || e.what.vars() > 1
	first, ok := firstPart(e.what.repo)
	if !ok {
		b.rest = append(b.rest, e)
		return
	}
	if b.first == nil {
		b.first = map[string][]entry{}
	}
	b.first[first] = append(b.first[first], e)
}

// firstPart is the first part of all names that p matches, if there is only one.
func firstPart(p *pattern) (string, bool) {
	if exact, ok := p.exact(); ok {
		return partOf(exact), true
	}
	first, _, ok := strings.Cut(p.prefix, "/")
	return first, ok
}

func partOf(repo string) string {
	first, _, _ := strings.Cut(repo, "/")
	return first
}

// found is a bucket that somebody is in.
type found struct {
	*bucket
	groups []string // What the groups of the regular expression of Who matched.
}

// enough is how many buckets are found without memory of the heap.
const enough = 16

// of appends the buckets that s is in.
func (x *index) of(s *Subject, all []found) []found {
	if s.Kind == Anonymous {
		return append(all, found{&x.anonymous, nil})
	}
	all = append(all, found{&x.all, nil})
	if s.Kind == Robot {
		all = x.robots.of(s.Name, all)
	} else {
		all = x.users.of(s.Name, all)
	}
	if len(x.groups.exact) > 0 || len(x.groups.patterns) > 0 {
		for _, group := range s.Groups {
			all = x.groups.of(group, all)
		}
	}
	return all
}

func (n *names) of(name string, all []found) []found {
	if b := n.exact[name]; b != nil {
		all = append(all, found{b, nil})
	}
	if len(n.patterns) == 0 {
		return all
	}
	begins, ends := head(name), tail(name)
	for _, p := range n.patterns {
		if !p.head.of(begins) || !p.tail.of(ends) || !p.name.match(name, nil) {
			continue
		}
		f := found{&p.bucket, nil}
		if p.groups && p.name.regexp {
			f.groups = p.name.re.FindStringSubmatch(name)[1:]
		}
		all = append(all, f)
	}
	return all
}

// on says whether e is about an action at all.
func (e *entry) on(a Action) bool {
	return e.actions.has(a) && (e.what.tag == nil || actions(taggedActions).has(a))
}

// at says whether e is about the address of s.
func (r *parsed) at(s *Subject) bool {
	return len(r.from) == 0 || within(r.from, s.Addr, r.allow)
}

// about says whether e is about an action of s, as far as tag and repository
// are left aside.
func (e *entry) about(s *Subject, a Action) bool { return e.on(a) && e.at(s) }

// within says whether addr is in one of the networks. An address that is not
// known is in all that are denied something, and in none that is allowed it.
func within(networks []netip.Prefix, addr netip.Addr, allow bool) bool {
	if !addr.IsValid() {
		return !allow
	}
	addr = addr.Unmap().WithZone("")
	for _, n := range networks {
		if n.Contains(addr) {
			return true
		}
	}
	return false
}

// matches says whether e is about what is asked, wherever it comes from.
// Without a tag that is blobs, and manifests by digest: one may push them who
// may push some tag, and may not delete them who may delete only some.
func (e *entry) matches(q *question, v *vars) bool {
	if !e.head.of(q.head) || !e.tail.of(q.tail) || q.tag != "" && (!e.tagHead.of(q.tagHead) || !e.tagTail.of(q.tagTail)) {
		return false
	}
	if !e.on(q.action) {
		return false
	}
	if t := e.what.tag; t != nil {
		if q.tag == "" {
			if !e.allow || q.action != Push {
				return false
			}
		} else if !t.match(q.tag, v) {
			return false
		}
	}
	return e.what.repo.match(q.repo, v)
}

// Decide says whether s may do a to a tag of a repository. The tag is empty if
// it is not about one: a rule with a tag in What then allows to push, and
// neither allows nor denies anything else.
func (p *Policy) Decide(s Subject, repo, tag string, a Action) Decision {
	if p == nil {
		return Decision{Reason: noRule}
	}
	var space [enough]found
	q, first := ask(repo, tag, a), partOf(repo)
	best := len(p.parsed)
	for _, f := range p.index.of(&s, space[:0]) {
		v := vars{s.Name, f.groups}
		for _, entries := range [2][]entry{f.rest, f.first[first]} {
			for i := range entries {
				e := &entries[i]
				if e.rule >= best {
					break
				}
				if e.matches(&q, &v) && e.at(&s) {
					best = e.rule
					break
				}
			}
		}
	}
	if best == len(p.parsed) {
		best = -1
	}
	return p.decision(best)
}

// TagMatters says whether the answer for s, repo and a may depend on the tag. If
// not, it is that without a tag.
func (p *Policy) TagMatters(s Subject, repo string, a Action) bool {
	if p == nil || !actions(taggedActions).has(a) {
		return false
	}
	var space [enough]found
	first := partOf(repo)
	any, tagged := len(p.parsed), len(p.parsed) // The first rule without a tag, and with one.
	for _, f := range p.index.of(&s, space[:0]) {
		v := vars{s.Name, f.groups}
		for _, entries := range [2][]entry{f.rest, f.first[first]} {
			for i := range entries {
				e := &entries[i]
				if e.rule >= any {
					break
				}
				if !e.about(&s, a) || !e.what.repo.match(repo, &v) {
					continue
				}
				if e.what.tag == nil {
					any = e.rule
					break
				}
				tagged = min(tagged, e.rule)
			}
		}
	}
	return tagged < any
}
