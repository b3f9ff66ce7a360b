package dockerauth

import (
	"fmt"
	"path"
	"regexp"
	"regexp/syntax"
	"strconv"
	"strings"
)

// inRegexp returns the regular expression between slashes, if p is one.
func inRegexp(p string) (string, bool) {
	if len(p) > 2 && p[0] == '/' && p[len(p)-1] == '/' {
		return p[1 : len(p)-1], true
	}
	return "", false
}

// matches is how docker_auth matches: a regular expression anywhere, a glob as
// a whole.
func matches(p, s string) bool {
	if re, ok := inRegexp(p); ok {
		matched, err := regexp.MatchString(re, s)
		return err == nil && matched
	}
	matched, err := path.Match(p, s)
	return err == nil && matched
}

// valid checks p as docker_auth does at its start: globs are not.
func valid(p string) error {
	if re, ok := inRegexp(p); ok {
		if _, err := regexp.Compile(re); err != nil {
			return fmt.Errorf("%q: %w", p, err)
		}
	}
	return nil
}

// everything tells whether p is one of the ways to write any name that is not
// empty.
func everything(p string) bool {
	switch p {
	case "/.+/", "/^.+$/", "/./", "/.*/", "/^.*$/", "/^/", "/^.*/", "/^.+/", "/(.+)/", "/(.*)/", "/^(.+)$/", "/^(.*)$/":
		return true
	}
	return false
}

// never says that a pattern matches no name that there can be.
type never struct{ why string }

func (e *never) Error() string { return e.why }

// variables of patterns: ${account}, ${account:1}.
func cutVariable(s string) (name, rest string, ok bool) {
	if !strings.HasPrefix(s, "${") {
		return "", s, false
	}
	return strings.Cut(s[2:], "}")
}

// pattern says p, with prefix before it, in the words of our rules. groups is
// how many groups the regular expression of the account has.
// Errors: [*never]; a variable that rules have not.
func pattern(prefix, p string, groups int) (string, error) {
	if re, ok := inRegexp(p); ok {
		return regular(prefix, re, groups)
	}
	var plain, quoted strings.Builder
	plain.WriteString(prefix)
	quoted.WriteString(regexp.QuoteMeta(prefix))
	simple := true
	literal := func(s string) {
		plain.WriteString(s)
		quoted.WriteString(regexp.QuoteMeta(s))
		simple = simple && !strings.Contains(s, "*")
	}
	if _, err := path.Match(p, ""); err != nil {
		return "", &never{fmt.Sprintf("the glob %q is broken, and matches nothing", p)}
	}
	for rest := p; rest != ""; {
		if name, after, ok := cutVariable(rest); ok {
			v, err := variable(name, groups)
			if err != nil {
				return "", err
			}
			plain.WriteString(v)
			quoted.WriteString(v)
			rest = after
			continue
		}
		switch c := rest[0]; c {
		case '*':
			rest = strings.TrimLeft(rest, "*")
			plain.WriteString("*")
			quoted.WriteString("[^/]*")
			continue
		case '?':
			simple = false
			quoted.WriteString("[^/]")
		case '[':
			end := classEnd(rest)
			simple = false
			quoted.WriteString(class(rest[:end]))
			rest = rest[end:]
			continue
		case '\\':
			literal(rest[1:2])
			rest = rest[2:]
			continue
		default:
			literal(rest[:1])
		}
		rest = rest[1:]
	}
	if simple {
		return plain.String(), nil
	}
	return "/" + quoted.String() + "/", nil
}

// classEnd is where the class that s begins with ends. It is a good one.
func classEnd(s string) int {
	i := 1
	if s[i] == '^' {
		i++
	}
	for first := true; first || s[i] != ']'; first = false {
		if s[i] == '\\' {
			i++
		}
		i++
	}
	return i + 1
}

// class is a class of a glob as one of a regular expression. What is negated
// matches no slash in either.
func class(s string) string {
	s = s[1 : len(s)-1]
	var b strings.Builder
	b.WriteByte('[')
	if strings.HasPrefix(s, "^") {
		b.WriteString("^/")
		s = s[1:]
	}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteString(regexp.QuoteMeta(s[i : i+1]))
		case s[i] == '-':
			b.WriteByte('-')
		case s[i] == '[' || s[i] == '^' || s[i] == '&' || s[i] == '~':
			b.WriteString("\\" + s[i:i+1])
		default:
			b.WriteByte(s[i])
		}
	}
	b.WriteByte(']')
	return b.String()
}

// variable is a variable of docker_auth as one of ours.
func variable(name string, groups int) (string, error) {
	if name == "account" {
		return "${user}", nil
	}
	if number, ok := strings.CutPrefix(name, "account:"); ok {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > groups {
			return "", &never{fmt.Sprintf("${%s} is no group of the regular expression of the account", name)}
		}
		return fmt.Sprintf("${user:%d}", n), nil
	}
	return "", fmt.Errorf("there is no ${%s} in rules", name)
}

// regular is a regular expression that need not match all, as one that does.
func regular(prefix, re string, groups int) (string, error) {
	var b strings.Builder
	sample := re
	for rest := re; rest != ""; {
		name, after, ok := cutVariable(rest)
		if !ok {
			next := strings.Index(rest[1:], "${") + 1
			if next == 0 {
				next = len(rest)
			}
			b.WriteString(rest[:next])
			rest = rest[next:]
			continue
		}
		v, err := variable(name, groups)
		if err != nil {
			return "", err
		}
		sample = strings.Replace(sample, "${"+name+"}", "a", 1)
		b.WriteString(v)
		rest = after
	}
	re = b.String()
	begins, ends := anchors(sample)
	if alternatives(sample) {
		re, begins, ends = "(?:"+re+")", false, false
	}
	if begins {
		re = re[1:]
	} else {
		re = ".*?" + re
	}
	if ends {
		re = re[:len(re)-1]
	} else {
		re += ".*"
	}
	return "/" + regexp.QuoteMeta(prefix) + re + "/", nil
}

// anchors tells whether all that re, which has no alternatives, matches begins
// and ends where the text does, by a ^ and a $ that can be taken off.
func anchors(re string) (begins, ends bool) {
	parsed, err := syntax.Parse(re, syntax.Perl)
	if err != nil || parsed.Op != syntax.OpConcat {
		return false, false
	}
	first, last := parsed.Sub[0], parsed.Sub[len(parsed.Sub)-1]
	return first.Op == syntax.OpBeginText && re[0] == '^', last.Op == syntax.OpEndText && strings.HasSuffix(re, "$")
}

// alternatives tells whether re has a | outside of its parentheses, or may have.
func alternatives(re string) bool {
	if strings.Contains(re, `\Q`) {
		return true
	}
	depth, inClass := 0, false
	for i := 0; i < len(re); i++ {
		switch c := re[i]; {
		case c == '\\':
			i++
		case inClass:
			inClass = c != ']' || strings.HasSuffix(re[:i], "[") || strings.HasSuffix(re[:i], "[^")
		case c == '[':
			inClass = true
		case c == '(':
			depth++
		case c == ')':
			depth--
		case c == '|' && depth == 0:
			return true
		}
	}
	return false
}
