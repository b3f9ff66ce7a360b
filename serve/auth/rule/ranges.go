package rule

import (
	"regexp/syntax"
	"slices"
	"strings"
)

// Range are the names from From up to, and without, To. An empty To is no end.
type Range struct{ From, To string }

// May says whether s may do a to anything at all, as far as that can be told
// without a name.
func (p *Policy) May(s Subject, a Action) bool {
	return len(p.Ranges(s, a)) > 0
}

// Ranges returns where the repositories are that s may do a to: each is in one
// of them, but not all that is there is one. They are in order, and apart.
func (p *Policy) Ranges(s Subject, a Action) []Range {
	if p == nil {
		return nil
	}
	var space [enough]found
	all := p.index.of(&s, space[:0])
	end := len(p.parsed)
	for _, f := range all {
		for i := range f.all {
			if e := &f.all[i]; !e.allow && e.what.tag == nil && e.what.repo.all() && e.about(&s, a) {
				end = min(end, e.rule) // Nothing after it matters.
				break
			}
		}
	}
	var ranges []Range
	for _, f := range all {
		v := vars{s.Name, f.groups}
		for i := range f.all {
			e := &f.all[i]
			if e.rule >= end {
				break
			}
			if !e.allow || !e.about(&s, a) {
				continue
			}
			if r, ok := e.what.repo.within(&v); ok {
				ranges = append(ranges, r)
			}
		}
	}
	return merge(ranges)
}

// Everything says whether s may do a to whatever there is, as far as p says
// something, and whether p denies it a part of that.
func (p *Policy) Everything(s Subject, a Action) (may, denied bool) {
	if p == nil {
		return false, true
	}
	var space [enough]found
	all, deny := len(p.parsed), len(p.parsed) // The first rule that allows all, and that denies something.
	for _, f := range p.index.of(&s, space[:0]) {
		for i := range f.all {
			switch e := &f.all[i]; {
			case !e.about(&s, a):
			case !e.allow:
				deny = min(deny, e.rule)
			case e.what.tag == nil && e.what.repo.all():
				all = min(all, e.rule)
			}
		}
	}
	return all < deny, deny < all
}

// within is the range of all that p matches, if it may match something.
func (p *pattern) within(v *vars) (Range, bool) {
	if p.regexp {
		if p.vars == 0 {
			return withPrefix(p.prefix), true
		}
		source, ok := p.expand(v)
		if !ok {
			return Range{}, false
		}
		re, err := syntax.Parse(source, syntax.Perl)
		if err != nil {
			return Range{}, false
		}
		return withPrefix(prefixOf(re)), true
	}
	var b strings.Builder
	exact := true
	for _, t := range p.tokens {
		if t.kind == some || t.kind == anything {
			exact = false
			continue // Further on there may be a variable that stands for nothing.
		}
		text := t.text
		if t.kind == variable {
			var ok bool
			if text, ok = v.text(t.n); !ok {
				return Range{}, false
			}
		}
		if exact {
			b.WriteString(text)
		}
	}
	if exact {
		return Range{b.String(), b.String() + "\x00"}, true
	}
	return withPrefix(b.String()), true
}

// withPrefix is the range of all names that begin with prefix.
func withPrefix(prefix string) Range {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			return Range{prefix, prefix[:i] + string([]byte{prefix[i] + 1})}
		}
	}
	return Range{prefix, ""}
}

// merge sorts ranges and makes one of those that overlap.
func merge(ranges []Range) []Range {
	slices.SortFunc(ranges, func(a, b Range) int { return strings.Compare(a.From, b.From) })
	var all []Range
	for _, r := range ranges {
		if len(all) == 0 {
			all = append(all, r)
			continue
		}
		last := &all[len(all)-1]
		switch {
		case last.To == "": // It holds all that comes.
		case r.From > last.To:
			all = append(all, r)
		case r.To == "":
			last.To = ""
		default:
			last.To = max(last.To, r.To)
		}
	}
	return all
}
