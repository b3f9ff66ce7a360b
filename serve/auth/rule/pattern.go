package rule

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
	"sync/atomic"
)

// kind is a kind of token of a pattern.
type kind uint8

const (
	literal  kind = iota
	some          // Anything but a slash.
	anything      // Anything.
	variable      // ${user} or ${user:N}.
)

type token struct {
	kind kind
	text string // Of a literal.
	n    int    // Of a variable: which group; 0: the name of the caller.
}

// vars are what the variables of patterns stand for.
type vars struct {
	user   string
	groups []string // What groups of a regular expression matched, from 1.
}

// text is what variable n stands for. It is one part of a name, and never
// none: a name with a slash in it does not open what belongs to another.
func (v *vars) text(n int) (string, bool) {
	s := v.user
	if n > 0 {
		if n > len(v.groups) {
			return "", false
		}
		s = v.groups[n-1]
	}
	return s, s != "" && !strings.Contains(s, "/")
}

// pattern is what names are held against: a glob, or a regular expression.
type pattern struct {
	tokens []token // Of a regular expression: literals, not quoted, and variables.
	source string
	regexp bool
	vars   int // 0: there are none; n+1: the highest is ${user:n}.

	prefix, suffix string // What all names that match begin and end with.

	// re is the regular expression. Where there are variables it is the last
	// one asked about.
	re   *regexp.Regexp
	last atomic.Pointer[expanded]
}

type expanded struct {
	source string
	re     *regexp.Regexp
}

// parsePattern reads a glob, or a regular expression between slashes. stars
// says that one star is already anything.
func parsePattern(s string, stars bool) (*pattern, error) {
	if source, ok := betweenSlashes(s); ok {
		return parseRegexp(source)
	}
	p := &pattern{source: s}
	for rest := s; rest != ""; {
		if rest[0] == '*' {
			n := len(rest) - len(strings.TrimLeft(rest, "*"))
			k := some
			if n > 1 || stars {
				k = anything
			}
			p.tokens = append(p.tokens, token{kind: k})
			rest = rest[n:]
			continue
		}
		var t token
		var err error
		if t, rest, err = cutToken(rest, "*"); err != nil {
			return nil, err
		}
		p.add(t)
	}
	if len(p.tokens) > 0 {
		p.prefix, p.suffix = p.tokens[0].text, p.tokens[len(p.tokens)-1].text
	}
	return p, nil
}

func betweenSlashes(s string) (string, bool) {
	if len(s) < 2 || s[0] != '/' || s[len(s)-1] != '/' {
		return "", false
	}
	return s[1 : len(s)-1], true
}

// cutToken cuts a variable or a literal, which ends before any byte of ends, off s.
func cutToken(s, ends string) (token, string, error) {
	if !strings.HasPrefix(s, "${") {
		end := len(s)
		if i := strings.Index(s, "${"); i >= 0 {
			end = i
		}
		if i := strings.IndexAny(s[:end], ends); i >= 0 {
			end = i
		}
		return token{text: s[:end]}, s[end:], nil
	}
	name, rest, ok := strings.Cut(s[2:], "}")
	if !ok {
		return token{}, "", fmt.Errorf("${ without } in %q", s)
	}
	if name == "user" {
		return token{kind: variable}, rest, nil
	}
	number, ok := strings.CutPrefix(name, "user:")
	n, err := strconv.Atoi(number)
	if !ok || err != nil || n < 1 || n > maxGroups {
		return token{}, "", fmt.Errorf("unknown variable ${%s}; there is ${user}, and ${user:1} for what the first group of a regular expression of who matched", name)
	}
	return token{kind: variable, n: n}, rest, nil
}

const maxGroups = 99

func (p *pattern) add(t token) {
	if t.kind == variable {
		p.vars = max(p.vars, t.n+1)
	}
	p.tokens = append(p.tokens, t)
}

func parseRegexp(source string) (*pattern, error) {
	p := &pattern{source: "/" + source + "/", regexp: true}
	for rest := source; rest != ""; {
		var t token
		var err error
		if t, rest, err = cutToken(rest, ""); err != nil {
			return nil, err
		}
		p.add(t)
	}
	sample, _ := p.expand(&vars{user: "a", groups: strings.Split(strings.Repeat("a", maxGroups), "")})
	parsed, err := syntax.Parse(sample, syntax.Perl) // By itself, so that it cannot leave the parentheses below.
	if err != nil {
		return nil, fmt.Errorf("regular expression /%s/: %w", source, err)
	}
	re, err := anchored(sample)
	if err != nil {
		return nil, fmt.Errorf("regular expression /%s/: %w", source, err)
	}
	if p.vars == 0 {
		p.re = re
		p.prefix = prefixOf(parsed)
	}
	return p, nil
}

func anchored(source string) (*regexp.Regexp, error) {
	return regexp.Compile(`\A(?:` + source + `)\z`)
}

// prefixOf is what all that re matches begins with.
func prefixOf(re *syntax.Regexp) string {
	switch re.Op {
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase == 0 {
			return string(re.Rune)
		}
	case syntax.OpCapture:
		return prefixOf(re.Sub[0])
	case syntax.OpConcat:
		for _, sub := range re.Sub {
			if sub.Op != syntax.OpBeginText {
				return prefixOf(sub)
			}
		}
	}
	return ""
}

// expand puts values in the place of the variables of a regular expression.
func (p *pattern) expand(v *vars) (string, bool) {
	var b strings.Builder
	for _, t := range p.tokens {
		if t.kind != variable {
			b.WriteString(t.text)
			continue
		}
		s, ok := v.text(t.n)
		if !ok {
			return "", false
		}
		b.WriteString("(?:" + regexp.QuoteMeta(s) + ")")
	}
	return b.String(), true
}

// match says whether all of name is what p says.
func (p *pattern) match(name string, v *vars) bool {
	if !strings.HasPrefix(name, p.prefix) || !strings.HasSuffix(name, p.suffix) {
		return false
	}
	if p.regexp {
		re := p.compiled(v)
		return re != nil && re.MatchString(name)
	}
	return p.glob(name, v)
}

// compiled is the regular expression for v, or nil.
func (p *pattern) compiled(v *vars) *regexp.Regexp {
	if p.re != nil {
		return p.re
	}
	source, ok := p.expand(v)
	if !ok {
		return nil
	}
	if last := p.last.Load(); last != nil && last.source == source {
		return last.re
	}
	re, err := anchored(source)
	if err != nil { // A name that is too long for a regular expression, if anything.
		return nil
	}
	p.last.Store(&expanded{source, re})
	return re
}

// mark is where a glob goes on if what came after a star did not match.
type mark struct{ token, at int }

// glob steps back to the last star only, and then to the last pair of stars:
// what is before it matched as early as it could, which leaves most for the rest.
func (p *pattern) glob(name string, v *vars) bool {
	t, at := 0, 0
	star, stars := mark{token: -1}, mark{token: -1}
	for {
		ok := false
		if t == len(p.tokens) {
			if at == len(name) {
				return true
			}
		} else {
			switch tok := &p.tokens[t]; tok.kind {
			case literal, variable:
				text := tok.text
				if tok.kind == variable {
					if text, ok = v.text(tok.n); !ok {
						return false
					}
				}
				if ok = strings.HasPrefix(name[at:], text); ok {
					at += len(text)
				}
			case some:
				star, ok = mark{t + 1, at}, true
			case anything:
				if t == len(p.tokens)-1 {
					return true
				}
				star, stars, ok = mark{token: -1}, mark{t + 1, at}, true
			}
		}
		switch {
		case ok:
			t++
		case star.token >= 0 && star.at < len(name) && name[star.at] != '/':
			star.at++
			t, at = star.token, star.at
		case stars.token >= 0 && stars.at < len(name):
			stars.at++
			star.token = -1
			t, at = stars.token, stars.at
		default:
			return false
		}
	}
}

// all says that p matches every name.
func (p *pattern) all() bool {
	return !p.regexp && len(p.tokens) == 1 && p.tokens[0].kind == anything
}

// exact is the only name that p matches, if there is only one for all callers.
func (p *pattern) exact() (string, bool) {
	if p.regexp || len(p.tokens) != 1 || p.tokens[0].kind != literal {
		return "", false
	}
	return p.tokens[0].text, true
}
