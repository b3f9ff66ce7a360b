package commands

import (
	"regexp"
	"strings"
)

// filter keeps names by --include and --exclude.
type filter struct {
	include, exclude []pattern
}

// pattern is a glob or a /regular expression/.
type pattern struct {
	re     *regexp.Regexp
	tagged bool // Says something about tags, too.
}

// newFilter compiles patterns. In a glob * matches within a part of a name, **
// matches across parts, ? one character and [a-z] one of those. /RE/ matches
// anywhere in the name.
func newFilter(include, exclude []string) (filter, error) {
	var f filter
	for _, side := range []struct {
		to   *[]pattern
		flag string
		from []string
	}{{&f.include, "--include", include}, {&f.exclude, "--exclude", exclude}} {
		for _, s := range side.from {
			p, err := newPattern(s)
			if err != nil {
				return filter{}, usagef("%s %q: %v", side.flag, s, err)
			}
			*side.to = append(*side.to, p)
		}
	}
	return f, nil
}

func newPattern(s string) (pattern, error) {
	if len(s) > 1 && s[0] == '/' && s[len(s)-1] == '/' {
		re, err := regexp.Compile(s[1 : len(s)-1])
		return pattern{re, true}, err
	}
	re, err := regexp.Compile(`\A` + globToRegexp(s) + `\z`)
	return pattern{re, strings.Contains(s, ":")}, err
}

func globToRegexp(glob string) string {
	var b strings.Builder
	for i := 0; i < len(glob); i++ {
		switch c := glob[i]; c {
		case '*':
			if strings.HasPrefix(glob[i:], "**") {
				i++
				b.WriteString(".*")
				continue
			}
			b.WriteString("[^/]*")
		case '?':
			b.WriteString("[^/]")
		case '[':
			end := strings.IndexByte(glob[i:], ']')
			if end < 2 {
				b.WriteString(`\[`)
				continue
			}
			class := strings.ReplaceAll(glob[i+1:i+end], `\`, `\\`)
			if class[0] == '!' {
				class = "^" + class[1:]
			}
			b.WriteString("[" + class + "]")
			i += end
		default:
			b.WriteString(regexp.QuoteMeta(glob[i : i+1]))
		}
	}
	return b.String()
}

// keeps tells whether a name of a list of plain names stays.
func (f filter) keeps(name string) bool {
	return matches(f.include, true, name, name) && !matches(f.exclude, false, name, name)
}

// keepsTag tells whether REPO:TAG of a list of those stays. A glob without a
// colon speaks of the repository alone.
func (f filter) keepsTag(repo, tag string) bool {
	full := repo + ":" + tag
	return matches(f.include, true, repo, full) && !matches(f.exclude, false, repo, full)
}

// skips tells that no tag of repo can stay.
func (f filter) skips(repo string) bool {
	for _, p := range f.exclude {
		if !p.tagged && p.re.MatchString(repo) {
			return true
		}
	}
	for _, p := range f.include {
		if p.tagged || p.re.MatchString(repo) {
			return false
		}
	}
	return len(f.include) > 0
}

func matches(patterns []pattern, none bool, repo, full string) bool {
	for _, p := range patterns {
		name := repo
		if p.tagged {
			name = full
		}
		if p.re.MatchString(name) {
			return true
		}
	}
	return len(patterns) == 0 && none
}
