package commands

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/prune"
	"github.com/regctl/regctl/gc"
)

// pruneRule says what becomes of the repositories that match.
type pruneRule struct {
	repos    []pattern // Empty: all.
	tags     tagFilter
	policy   gc.Policy
	patterns []namedPattern
}

// namedPattern protects tags, and tells as what.
type namedPattern struct {
	text string
	pattern
}

// ruleFile is the file of --policy.
type ruleFile struct {
	Rules []ruleYAML `yaml:"rules"`
}

type ruleYAML struct {
	Repositories []string `yaml:"repositories"`
	Keep         count    `yaml:"keep"`
	Older        string   `yaml:"older"`
	By           string   `yaml:"by"`
	Include      []string `yaml:"include"`
	Exclude      []string `yaml:"exclude"`
	Protect      []string `yaml:"protect"` // Nil: latest.
}

// count is a number that was given or not.
type count struct {
	given bool
	n     int
}

// UnmarshalYAML reads a number.
func (c *count) UnmarshalYAML(node *yaml.Node) error {
	c.given = true
	return node.Decode(&c.n)
}

// pruneRules returns the rules that the flags or a file state.
func (o *pruneOptions) pruneRules(now time.Time) ([]pruneRule, error) {
	if o.Policy == "" {
		y := ruleYAML{
			Repositories: []string{"**"}, Keep: count{o.Ranked, o.Keep}, Older: o.Older, By: o.By,
			Include: o.Include, Exclude: o.Exclude,
		}
		if slices.Contains(o.Include, "latest") {
			y.Protect = []string{}
		}
		if !o.Ranked && o.Older == "" {
			return nil, usagef("prune needs --keep N, --older AGE, or both; to see what would go: regctl prune --keep 10 --dry-run")
		}
		r, err := y.rule(now, "--")
		return []pruneRule{r}, err
	}
	if o.Ranked || o.Older != "" || len(o.Include)+len(o.Exclude) > 0 || o.By != "time" {
		return nil, usagef("--policy has rules of its own: not with --keep, --older, --by, --include or --exclude")
	}
	return readRules(o.Policy, now)
}

func readRules(path string, now time.Time) ([]pruneRule, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, usagef("%v", err)
	}
	var file ruleFile
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	var wrong *yaml.TypeError
	switch err := d.Decode(&file); {
	case errors.As(err, &wrong):
		message := strings.NewReplacer(" in type commands.ruleYAML", "", " in type commands.ruleFile", "").Replace(wrong.Errors[0])
		return nil, usagef("%s: %s; a rule has repositories, keep, older, by, include, exclude and protect", path, message)
	case errors.Is(err, io.EOF), err == nil && len(file.Rules) == 0:
		return nil, usagef("%s: there are no rules", path)
	case err != nil:
		return nil, usagef("%s: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))
	case !errors.Is(d.Decode(new(yaml.Node)), io.EOF):
		return nil, usagef("%s: there is more than one document, and rules are in one", path)
	}
	if err := noNulls(path, text); err != nil {
		return nil, err
	}
	lines := ruleLines(text)
	var rules []pruneRule
	for i, y := range file.Rules {
		r, err := y.rule(now, "")
		if err == nil && len(y.Repositories) == 0 {
			err = usagef("no repositories; for all of them: [\"**\"]")
		}
		if err == nil && !y.Keep.given && y.Older == "" {
			err = usagef("neither keep nor older")
		}
		if err != nil {
			return nil, usagef("%s: line %d: %v", path, lines[i], err)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

// noNulls refuses fields of rules without a value: as if they were not there,
// they would let more go than was meant.
func noNulls(path string, text []byte) error {
	var nodes struct {
		Rules []map[string]yaml.Node `yaml:"rules"`
	}
	if err := yaml.Unmarshal(text, &nodes); err != nil {
		return usagef("%s: %v", path, err)
	}
	for _, rule := range nodes.Rules {
		for name, value := range rule {
			for _, n := range append([]*yaml.Node{&value}, value.Content...) {
				if n.Kind == yaml.ScalarNode && n.Value == "" || n.Tag == "!!null" {
					return usagef("%s: line %d: %s is empty", path, n.Line, name)
				}
			}
		}
	}
	return nil
}

// ruleLines tells in which line each rule begins.
func ruleLines(text []byte) []int {
	var nodes struct {
		Rules []yaml.Node `yaml:"rules"`
	}
	_ = yaml.Unmarshal(text, &nodes) // It was decoded before.
	lines := make([]int, len(nodes.Rules))
	for i, n := range nodes.Rules {
		lines[i] = n.Line
	}
	return lines
}

// rule checks what was written; dashes go before the names of flags.
func (y ruleYAML) rule(now time.Time, dashes string) (pruneRule, error) {
	r := pruneRule{policy: gc.Policy{Ranked: y.Keep.given, Keep: y.Keep.n, Now: now}}
	if y.Keep.n < 0 {
		return r, usagef("%skeep %d: a number from 0 up", dashes, y.Keep.n)
	}
	if y.Older != "" {
		age, err := parseAge(y.Older)
		if err != nil {
			return r, usagef("%solder %q: %v", dashes, y.Older, err)
		}
		r.policy.Aged, r.policy.Older = true, age
	}
	switch r.policy.By = gc.Order(y.By); r.policy.By {
	case "", gc.ByTime, gc.BySemver, gc.ByName:
	default:
		return r, usagef("%sby %q: there is time, semver and name", dashes, y.By)
	}
	for _, s := range y.Repositories {
		p, err := newPattern(s)
		if err != nil {
			return r, usagef("repositories: %q: %v", s, err)
		}
		r.repos = append(r.repos, p)
	}
	if y.Protect == nil {
		y.Protect = []string{"latest"}
	}
	for _, s := range y.Protect {
		p, err := newPattern(s)
		if err != nil {
			return r, usagef("protect: %q: %v", s, err)
		}
		r.patterns = append(r.patterns, namedPattern{s, p})
	}
	var err error
	r.tags, err = newTagFilter(y.Include, y.Exclude, dashes)
	return r, err
}

// parseAge reads a duration with days and weeks, too.
func parseAge(s string) (time.Duration, error) {
	const day = 24 * time.Hour
	for suffix, unit := range map[string]time.Duration{"d": day, "w": 7 * day} {
		if digits, ok := strings.CutSuffix(s, suffix); ok {
			n, err := strconv.ParseUint(digits, 10, 16)
			if err != nil || n > uint64(math.MaxInt64/unit) {
				return 0, errors.New("a time such as 12h, 30d or 2w")
			}
			return time.Duration(n) * unit, nil
		}
	}
	age, err := time.ParseDuration(s)
	if err != nil || age < 0 {
		return 0, errors.New("a time such as 12h, 30d or 2w")
	}
	return age, nil
}

// tagFilter chooses tags by --include and --exclude of prune.
type tagFilter struct{ include, exclude []pattern }

func newTagFilter(include, exclude []string, dashes string) (tagFilter, error) {
	var f tagFilter
	for _, s := range include {
		if strings.Contains(s, "/") && !strings.Contains(s, ":") && s[0] != '/' {
			return f, usagef("%sinclude %q chooses tags, and no tag has a slash; name repositories as arguments, or write '%s:*'", dashes, s, s)
		}
	}
	for _, side := range []struct {
		to   *[]pattern
		name string
		from []string
	}{{&f.include, "include", include}, {&f.exclude, "exclude", exclude}} {
		for _, s := range side.from {
			p, err := newPattern(s)
			if err != nil {
				return f, usagef("%s%s %q: %v", dashes, side.name, s, err)
			}
			*side.to = append(*side.to, p)
		}
	}
	return f, nil
}

// keeps tells whether the rule is about a tag. In doubt it is not: what to
// exclude may be the name of a tag, of a repository or of both.
func (f tagFilter) keeps(repo, tag string) bool {
	full := repo + ":" + tag
	for _, p := range f.exclude {
		if p.re.MatchString(tag) || p.re.MatchString(repo) || p.re.MatchString(full) {
			return false
		}
	}
	return len(f.include) == 0 || slices.ContainsFunc(f.include, func(p pattern) bool {
		return p.re.MatchString(tag) || p.re.MatchString(full)
	})
}

// of returns the policy for repo, with what is in use there.
func (r *pruneRule) of(repo string, used *inUse) gc.Policy {
	policy := r.policy
	policy.Considered = func(tag string) bool { return r.tags.keeps(repo, tag) }
	policy.Protected = func(t gc.Tagged) string {
		if used.has(repo, t.Tag) || used.has(repo, string(t.Digest)) {
			return prune.InUse
		}
		for _, p := range r.patterns {
			if p.re.MatchString(t.Tag) {
				return p.text
			}
		}
		return ""
	}
	return policy
}

// ruleOf finds the first rule that matches.
func ruleOf(rules []pruneRule, repo string) *pruneRule {
	for i := range rules {
		if slices.ContainsFunc(rules[i].repos, func(p pattern) bool { return p.re.MatchString(repo) }) {
			return &rules[i]
		}
	}
	return nil
}

// inUse are the images that --protect names.
type inUse struct {
	refs    map[string]map[string]bool // Tags and digests by repository.
	here    int
	others  int // References to other registries.
	example string
}

func (u *inUse) has(repo, ref string) bool {
	return u != nil && (u.refs[repo][ref] || u.refs[anyRepo][ref])
}

// anyRepo has digests that were named without a repository.
const anyRepo = ""

// digests of a repository that must stay.
func (u *inUse) digests(repo string) []oci.Digest {
	var found []oci.Digest
	if u == nil {
		return nil
	}
	for ref := range u.refs[repo] {
		if oci.IsDigest(ref) {
			found = append(found, oci.Digest(ref))
		}
	}
	slices.Sort(found)
	return found
}

// maxInUse is how long a line of --protect may be.
const maxInUse = 64 << 20

// readInUse reads references, one a line or with spaces between them. Bare
// names mean Docker Hub, as everywhere such lists come from, but protect a
// repository of that name here as well.
func readInUse(r io.Reader, what string, here target) (*inUse, error) {
	u := &inUse{refs: map[string]map[string]bool{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxInUse) // kubectl puts all of a cluster in one line.
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		for word := range strings.FieldsSeq(line) {
			if err := u.add(word, here); err != nil {
				return nil, usagef("%s: line %d: %v", what, n, err)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, usagef("%s: %v", what, err)
	}
	if u.here+u.others == 0 {
		return nil, usagef("%s names no image; if that is no mistake, leave --protect out", what)
	}
	return u, nil
}

func (u *inUse) add(word string, here target) error {
	if _, rest, ok := strings.Cut(word, "://"); ok {
		word = rest // As docker-pullable:// of Kubernetes.
	}
	if _, err := oci.ParseDigest(word); err == nil {
		u.others++ // Of an image known by nothing but its config, or by itself.
		u.protect(anyRepo, word)
		return nil
	}
	name, digest, pinned := strings.Cut(word, "@")
	if pinned {
		if _, err := oci.ParseDigest(digest); err != nil {
			return fmt.Errorf("%q: %w", word, err)
		}
	}
	var tag string
	t, err := parseTarget(name, func() (string, error) { return "docker.io", nil })
	if err != nil {
		return err
	}
	if tag = t.ref; tag == "" && digest == "" {
		tag = "latest"
	}
	bare := !beginsWithHost(name)
	if !sameHost(t.host, here.host) && !bare {
		u.others++
		u.example = t.host
		return nil
	}
	repos := []string{t.repo}
	if bare {
		repos = append(repos, strings.TrimPrefix(t.repo, "library/"))
	}
	u.here++
	for _, repo := range repos {
		for _, ref := range []string{tag, digest} {
			u.protect(repo, ref)
		}
	}
	return nil
}

func (u *inUse) protect(repo, ref string) {
	if ref == "" {
		return
	}
	if u.refs[repo] == nil {
		u.refs[repo] = map[string]bool{}
	}
	u.refs[repo][ref] = true
}

func sameHost(a, b string) bool {
	loop := strings.NewReplacer("127.0.0.1", "localhost", "[::1]", "localhost")
	a, b = withoutPort(loop.Replace(a)), withoutPort(loop.Replace(b))
	return strings.EqualFold(a, b) || isHub(a) && isHub(b)
}

// withoutPort drops a port that need not be said.
func withoutPort(host string) string {
	return strings.TrimSuffix(strings.TrimSuffix(host, ":443"), ":80")
}

// inUse reads what --protect names.
func (p *pruner) inUse(here target) error {
	o := p.o
	if o.Protect == "" {
		return nil
	}
	r, what := p.env.Stdin, "--protect -"
	if o.Protect != "-" {
		f, err := os.Open(o.Protect)
		if err != nil {
			return usagef("--protect: %v", err)
		}
		defer f.Close()
		r, what = f, "--protect "+o.Protect
	}
	used, err := readInUse(r, what, here)
	if err != nil {
		return err
	}
	if used.here == 0 && !o.Force {
		return usagef("%s protects nothing: none of its %d references is on %s, but such as %s; --force goes on without",
			what, used.others, here.host, used.example)
	}
	if used.others > 0 {
		p.talk(fmt.Sprintf("%d of %d references are to other registries than %s", used.others, used.here+used.others, here.host))
	}
	p.used = used
	return nil
}
