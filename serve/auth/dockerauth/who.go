package dockerauth

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// subject is who may do what an entry says, and where.
type subject struct {
	who, what []string // Without a what it is only about the catalogue.
	catalog   bool
	why       string // There is no what.
}

// placeholders finds the labels that the name of an entry speaks of.
func placeholders() *regexp.Regexp { return regexp.MustCompile(`\$\{labels:([^}]*)\}`) }

// subjects are who and what e is about.
func (im *importer) subjects(e *entry) ([]subject, error) {
	if e.name != nil && placeholders().MatchString(*e.name) {
		return im.byLabels(e)
	}
	who, err := im.who(e)
	if err != nil {
		return nil, err
	}
	return im.about(e, who, e.name)
}

// about is who with the repositories that name matches.
func (im *importer) about(e *entry, who []string, name *string) ([]subject, error) {
	if name == nil || everything(*name) {
		return []subject{{who: who, what: []string{"**"}, catalog: true}}, nil
	}
	s := subject{who: who, catalog: matches(*name, "catalog")}
	what, err := repository(*name, groupsOf(e.account))
	var nothing *never
	switch {
	case errors.As(err, &nothing):
		s.why = nothing.why
		return []subject{s}, nil
	case err != nil:
		return nil, err
	}
	s.what = []string{what}
	if !strings.Contains(what, "${") || !slices.Contains(who, "everyone") && !slices.Contains(who, "anonymous") {
		return []subject{s}, nil
	}
	// Who has no name has an empty one there, which is nothing here.
	if s.who = named(who); len(s.who) == 0 {
		s.what, s.why = nil, "who is anonymous has no name"
	}
	all := []subject{s}
	bare := strings.ReplaceAll(*name, "${account}", "")
	if what, err := repository(bare, 0); err == nil {
		all = append(all, subject{who: []string{"anonymous"}, what: []string{what}, catalog: matches(bare, "catalog")})
	}
	return all, nil
}

// named is who without those who have not logged in.
func named(who []string) []string {
	var left []string
	for _, w := range who {
		switch w {
		case "everyone":
			left = append(left, "all")
		case "anonymous":
		default:
			left = append(left, w)
		}
	}
	return left
}

// groupsOf is how many groups a regular expression has.
func groupsOf(p *string) int {
	if p == nil {
		return 0
	}
	source, ok := inRegexp(*p)
	re, err := regexp.Compile(source)
	if !ok || err != nil {
		return 0
	}
	return re.NumSubexp()
}

// repository is name as a pattern of repositories.
// Errors: [*never]; what rules cannot say.
func repository(name string, groups int) (string, error) {
	what, err := pattern("", name, groups)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(what, "/") && strings.HasSuffix(what, "/") && len(what) > 1 {
		// All of a name, or what it begins with, needs no regular expression.
		plain := regexp.MustCompile(`^/([a-z0-9][a-z0-9_/-]*)((\.\*)*)/$`).FindStringSubmatch(what)
		if plain == nil {
			return what, nil
		}
		if what = plain[1]; plain[2] != "" {
			what += "**"
		}
	}
	literal := regexp.MustCompile(`\$\{[^}]*\}|\*`).ReplaceAllString(what, "a")
	if !regexp.MustCompile(`^[a-z0-9._-]+(/[a-z0-9._-]+)*$`).MatchString(literal) {
		return "", &never{fmt.Sprintf("no repository can be called %q", name)}
	}
	return what, nil
}

// who are those whom e matches.
func (im *importer) who(e *entry) ([]string, error) {
	if e.account != nil && strings.Contains(*e.account, "${") {
		return nil, fmt.Errorf("the account %q has a variable", *e.account)
	}
	if len(e.labels) > 0 {
		return im.labelled(e)
	}
	switch p := e.account; {
	case p == nil, *p != "" && strings.Trim(*p, "*") == "":
		return []string{im.everyone()}, nil
	case *p == "" && !im.anonymous:
		return nil, &never{"who has no name gets no token"}
	case *p == "":
		return []string{"anonymous"}, nil
	case everything(*p):
		if matches(*p, "") {
			return []string{im.everyone()}, nil
		}
		return []string{"all"}, nil
	}
	name, err := pattern("", *e.account, 0)
	if err != nil {
		return nil, err
	}
	who := []string{"user:" + name}
	if matches(*e.account, "") && im.anonymous {
		who = append(who, "anonymous")
	}
	return who, nil
}

func (im *importer) everyone() string {
	if im.anonymous {
		return "everyone"
	}
	return "all"
}

// labelled are those who have the labels of e: a group, or the users that the
// file names.
func (im *importer) labelled(e *entry) ([]string, error) {
	for label, p := range e.labels {
		if strings.Contains(p, "${") {
			return nil, fmt.Errorf("the label %s of %q has a variable", label, p)
		}
	}
	var users []string
	anonymous := false
	for _, u := range im.users {
		if e.account != nil && !matches(*e.account, u.name) || !u.has(e.labels) {
			continue
		}
		if u.name == "" {
			anonymous = im.anonymous
		} else {
			users = append(users, exactly("user:", u.name))
		}
	}
	one := len(e.labels) == 1 && (e.account == nil || everything(*e.account) || *e.account == "*")
	for label, p := range e.labels {
		known := im.out.LDAP != nil && im.out.LDAP.GroupsOf != "" && im.prefixes[label] == ""
		if im.elsewhere && (!one || !known) {
			im.inexact(e.line, "acl: who of the users of other sources has the label %s is not known here; put them into groups", label)
		}
		if one && (len(users) > 0 || im.elsewhere) {
			var err error
			if users, err = im.groupsWith(label, p, known); err != nil {
				return nil, err
			}
		}
	}
	if anonymous {
		users = append(users, "anonymous")
	}
	if len(users) == 0 {
		return nil, &never{"nobody has the label"}
	}
	return users, nil
}

// groupsWith are the groups of the values of a label that match p. If the values
// are not all known it is p itself.
func (im *importer) groupsWith(label, p string, unknown bool) ([]string, error) {
	if unknown {
		group, err := pattern(im.prefixes[label], p, 0)
		return []string{"group:" + group}, err
	}
	var groups []string
	for _, v := range im.values(label) {
		if word := exactly("group:", im.prefixes[label]+v); matches(p, v) && !slices.Contains(groups, word) {
			groups = append(groups, word)
		}
	}
	if len(groups) == 0 && !isPattern(p) { // Users of other sources may be put into it.
		groups = []string{"group:" + im.prefixes[label] + p}
	}
	slices.Sort(groups)
	return groups, nil
}

// has tells whether u has a value that matches for each of these labels.
func (u *user) has(labels map[string]string) bool {
	for label, p := range labels {
		if !slices.ContainsFunc(u.labels[label], func(v string) bool { return matches(p, v) }) {
			return false
		}
	}
	return true
}

// exactly names one user or group, whatever is in the name.
func exactly(kind, name string) string {
	if strings.ContainsAny(name, "*$") || strings.HasPrefix(name, "/") {
		return kind + "/" + regexp.QuoteMeta(name) + "/"
	}
	return kind + name
}

// byLabels puts the values of labels in the place of their names: of each user
// all combinations, as far as the file knows them.
func (im *importer) byLabels(e *entry) ([]subject, error) {
	labels := labelsIn(*e.name)
	if im.elsewhere {
		im.inexact(e.line, "acl: ${labels:%s} stands for the labels of users of this file only", labels[0])
	}
	who := map[string][]string{} // By name with the values in it.
	for _, u := range im.users {
		if e.account != nil && !matches(*e.account, u.name) || !u.has(e.labels) || u.name == "" && !im.anonymous {
			continue
		}
		for name, values := range u.expand(*e.name, labels) {
			word := exactly("user:", u.name)
			switch {
			case u.name == "":
				word = "anonymous"
			case len(labels) == 1 && e.account == nil && len(e.labels) == 0:
				word = exactly("group:", im.prefixes[labels[0]]+values[0])
			}
			if !slices.Contains(who[name], word) {
				who[name] = append(who[name], word)
			}
		}
	}
	var all []subject
	for _, name := range slices.Sorted(maps.Keys(who)) {
		some, err := im.about(e, who[name], &name)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	if len(all) == 0 {
		return nil, &never{"nobody has the label"}
	}
	return all, nil
}

// labelsIn are the labels that name speaks of, each once.
func labelsIn(name string) []string {
	var labels []string
	for _, found := range placeholders().FindAllStringSubmatch(name, -1) {
		if !slices.Contains(labels, found[1]) {
			labels = append(labels, found[1])
		}
	}
	return labels
}

// expand puts the labels of u into name; there is none where one is missing.
// The values are those of labels, in their order.
func (u *user) expand(name string, labels []string) map[string][]string {
	all := map[string][]string{name: nil}
	for _, label := range labels {
		next := map[string][]string{}
		for text, before := range all {
			for _, v := range u.labels[label] {
				next[strings.ReplaceAll(text, "${labels:"+label+"}", v)] = append(slices.Clone(before), v)
			}
		}
		all = next
	}
	return all
}

// nameGroups says how the groups are called that take the place of labels: by
// the value alone where that is clear.
func (im *importer) nameGroups(entries []*entry) {
	taken := map[string]bool{}
	single := im.out.LDAP != nil && im.out.LDAP.GroupsOf != ""
	for _, e := range entries {
		labels := slices.Sorted(maps.Keys(e.labels))
		if e.name != nil {
			labels = append(labels, labelsIn(*e.name)...)
		}
		for _, label := range labels {
			if _, done := im.prefixes[label]; done {
				continue
			}
			values := im.values(label)
			plain := slices.Contains([]string{"group", "groups", "team", "teams"}, label) && !single &&
				!slices.ContainsFunc(values, func(v string) bool { return taken[v] })
			if im.prefixes[label] = label + "="; plain {
				im.prefixes[label] = ""
				for _, v := range values {
					taken[v] = true
				}
				single = single || im.elsewhere
			}
		}
	}
}

// values are those that a label has.
func (im *importer) values(label string) []string {
	var all []string
	for _, u := range im.users {
		all = append(all, u.labels[label]...)
	}
	return all
}
