package rule

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// who is a parsed word of Who.
type who struct {
	kind whoKind
	name *pattern // Of a user, group or robot.
}

type whoKind uint8

const (
	whoAnonymous whoKind = iota
	whoAll
	whoEveryone
	whoUser
	whoGroup
	whoRobot
)

// what is a parsed pattern of What.
type what struct {
	repo, tag *pattern // The tag may be nil.
}

// actions is a set of actions: one bit each.
type actions uint8

const allActions = 1<<Pull | 1<<Push | 1<<Overwrite | 1<<Delete | 1<<List

// tagged are the actions that a pattern with a tag is about.
const taggedActions = 1<<Push | 1<<Overwrite | 1<<Delete

func (set actions) has(a Action) bool { return a <= List && set&(1<<a) != 0 }

// parsed is a rule that can be held against names.
type parsed struct {
	who     []who
	what    []what
	from    []netip.Prefix
	actions actions
	allow   bool
}

func parseWho(word string) (who, error) {
	switch word {
	case "anonymous":
		return who{kind: whoAnonymous}, nil
	case "all":
		return who{kind: whoAll}, nil
	case "everyone":
		return who{kind: whoEveryone}, nil
	}
	of, name, ok := strings.Cut(word, ":")
	kinds := map[string]whoKind{"user": whoUser, "group": whoGroup, "robot": whoRobot}
	k, known := kinds[of]
	switch {
	case !ok && known, ok && known && name == "":
		return who{}, fmt.Errorf("who: %s of what name? %s:NAME", of, of)
	case !ok && word != "":
		return who{}, fmt.Errorf("who: %q is nobody; there is anonymous, all (has logged in), everyone, user:%s, group:%s and robot:%s", word, word, word, word)
	case known && strings.TrimSpace(name) != name:
		return who{}, fmt.Errorf("who: %q has a space where a name begins or ends, and so is nobody; write %s:%s", word, of, strings.TrimSpace(name))
	case !known:
		return who{}, fmt.Errorf("who: %q is nobody; there is anonymous, all (has logged in), everyone, user:NAME, group:NAME and robot:NAME", word)
	}
	p, err := parsePattern(name, true)
	if err != nil {
		return who{}, fmt.Errorf("who: %w", err)
	}
	if p.vars > 0 {
		return who{}, fmt.Errorf("who: %q has a variable, which only what may have", word)
	}
	return who{k, p}, nil
}

// groups is how many groups the regular expression of w has.
func (w who) groups() int {
	if w.name == nil || w.name.re == nil {
		return 0
	}
	return w.name.re.NumSubexp()
}

func parseWhat(word string) (what, error) {
	repo, tag, tagged := cutTag(word)
	if repo == "" {
		return what{}, fmt.Errorf("what: %q names no repository; ** is all of them", word)
	}
	var w what
	var err error
	if w.repo, err = parsePattern(repo, false); err == nil {
		err = w.repo.check(repoBytes, "a repository has lower case letters, digits and . _ - / in its name")
	}
	if err == nil && tagged {
		if tag == "" {
			return what{}, fmt.Errorf("what: %q names no tag; without the colon it is all tags", word)
		}
		if w.tag, err = parsePattern(tag, false); err == nil {
			err = w.tag.check(tagBytes, "a tag has letters, digits and . _ - in its name")
		}
	}
	if err != nil {
		return what{}, fmt.Errorf("what: %q: %w", word, err)
	}
	return w, nil
}

// cutTag cuts a pattern into those of repository and tag, at the first colon
// that is neither in a regular expression nor in a variable.
func cutTag(s string) (repo, tag string, ok bool) {
	if strings.HasPrefix(s, "/") {
		repo, tag, ok = strings.Cut(s, "/:")
		if ok {
			repo += "/"
		}
		return repo, tag, ok
	}
	for i := 0; i < len(s); i++ {
		if strings.HasPrefix(s[i:], "${") {
			if end := strings.IndexByte(s[i:], '}'); end >= 0 {
				i += end
			}
		} else if s[i] == ':' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

const (
	lower     = "abcdefghijklmnopqrstuvwxyz0123456789._-"
	repoBytes = lower + "/"
	tagBytes  = lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
)

// check finds what no name can have, so that a rule with it would never match.
func (p *pattern) check(bytes, hint string) error {
	if p.regexp {
		return nil
	}
	for i, t := range p.tokens {
		if strange := strings.Trim(t.text, bytes); strange != "" {
			return fmt.Errorf("%s, not %q; patterns are * and **, or a /regular expression/ between slashes", hint, strange[:1])
		}
		if i == 0 && strings.HasPrefix(t.text, "/") || strings.Contains(t.text, "//") {
			return errors.New("an empty part between slashes matches nothing; a /regular expression/ ends with a slash")
		}
		if i == len(p.tokens)-1 && strings.HasSuffix(t.text, "/") {
			return errors.New("ends with a slash, and so matches nothing; all below it is **")
		}
	}
	return nil
}

func parseActions(words []string, field string) (actions, error) {
	var set actions
	for _, word := range words {
		if word == "all" {
			set |= allActions
			continue
		}
		a, ok := ParseAction(word)
		if !ok {
			return 0, fmt.Errorf("%s: there is no action %q; there is pull, push, overwrite, delete, list and all", field, word)
		}
		set |= 1 << a
	}
	if set.has(Push) {
		set |= 1 << Overwrite
	}
	return set, nil
}

// parse returns what a rule says, and all that is wrong with it.
func parse(r *Rule) (*parsed, []error) {
	p := &parsed{allow: len(r.May) > 0}
	var errs []error
	found := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	for _, word := range r.Who {
		w, err := parseWho(word)
		found(err)
		p.who = append(p.who, w)
	}
	for _, word := range r.What {
		w, err := parseWhat(word)
		found(err)
		p.what = append(p.what, w)
	}
	for _, network := range r.From {
		n, err := network4(network)
		found(err)
		p.from = append(p.from, n)
	}
	may, err := parseActions(r.May, "may")
	found(err)
	deny, err := parseActions(r.Deny, "deny")
	found(err)
	p.actions = may | deny
	if len(errs) == 0 {
		errs = p.check(r)
	}
	return p, errs
}

// network4 is n, as one of IPv4 if it is one of those within IPv6.
func network4(n netip.Prefix) (netip.Prefix, error) {
	if !n.IsValid() {
		return n, errors.New("from: no network, such as 10.0.0.0/8")
	}
	if n.Addr().Is4In6() {
		if n.Bits() < 96 {
			return n, fmt.Errorf("from: %s is more than IPv4; write 0.0.0.0/0 for all of that", n)
		}
		n = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
	}
	return n.Masked(), nil
}

// check finds what is wrong with the parts of a rule together.
func (p *parsed) check(r *Rule) []error {
	var errs []error
	add := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(p.who) == 0 {
		add("who is missing: anonymous, all (has logged in), everyone, user:NAME, group:NAME or robot:NAME")
	}
	if len(p.what) == 0 {
		add("what is missing: a repository, or ** for all of them")
	}
	if (len(r.May) > 0) == (len(r.Deny) > 0) {
		add("a rule has either may or deny: pull, push, overwrite, delete, list or all")
	}
	if len(errs) > 0 {
		return errs
	}
	groups, named := 0, false
	for _, w := range p.who {
		groups = max(groups, w.groups())
		named = named || w.kind != whoAnonymous
	}
	for i, w := range p.what {
		if w.tag != nil && p.actions&taggedActions == 0 {
			add("what: %q has a tag, but it is not tags that are pulled or listed: take %q, or push, overwrite or delete", r.What[i], withoutTag(r.What[i]))
		}
		vars := w.vars()
		switch {
		case vars > 0 && !named:
			add("what: %q has a variable, but who is anonymous has no name", r.What[i])
		case vars-1 > groups:
			add("what: %q has ${user:%d}, but no regular expression of who has so many groups: user:/team-(.*)/ has one", r.What[i], vars-1)
		}
	}
	return errs
}

func withoutTag(s string) string {
	repo, _, _ := cutTag(s)
	return repo
}

// vars is as that of a pattern.
func (w what) vars() int {
	n := w.repo.vars
	if w.tag != nil {
		n = max(n, w.tag.vars)
	}
	return n
}
