package ldap

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	goldap "github.com/go-ldap/ldap/v3"
)

const (
	varUser = "${user}"
	varDN   = "${dn}"
)

// template is a filter or a DN with variables. What takes their place can be no
// more than a value.
type template string

func (t template) names(variable string) bool { return strings.Contains(string(t), variable) }

// asFilter is the filter for a user.
func (t template) asFilter(user, dn string) string {
	return strings.NewReplacer(varUser, goldap.EscapeFilter(user), varDN, goldap.EscapeFilter(dn)).Replace(string(t))
}

// ofAny is the filter for whoever it may find.
func (t template) ofAny() string {
	s := regexp.MustCompile(`\([^()]*:=[^()]*\$\{user\}[^()]*\)`).ReplaceAllString(string(t), "(objectClass=*)")
	return strings.NewReplacer(varUser, "*", varDN, "*").Replace(s)
}

// asDN is the DN of a user.
func (t template) asDN(user string) string {
	return strings.ReplaceAll(string(t), varUser, goldap.EscapeDN(user))
}

// check returns what is wrong with a filter.
func (t template) check() error {
	for _, filter := range []string{t.asFilter("user", "cn=user"), t.ofAny()} {
		if _, err := goldap.CompileFilter(filter); err != nil {
			return fmt.Errorf("%q is no filter: %w", string(t), err)
		}
	}
	if at := strings.Index(strings.NewReplacer(varUser, "", varDN, "").Replace(string(t)), "${"); at >= 0 {
		return fmt.Errorf("%q: there are ${user} and ${dn}, and no other variable", string(t))
	}
	return nil
}

// compared are the attributes that a filter holds against the name.
func (t template) compared() []string {
	return captured(`\(\s*([A-Za-z][A-Za-z0-9-]*)\s*=\$\{user\}\)`, string(t))
}

// comparedInDN are those of a DN.
func (t template) comparedInDN() []string {
	return captured(`(?:^|[,+])\s*([A-Za-z][A-Za-z0-9-]*)\s*=\s*\$\{user\}\s*(?:$|[,+])`, string(t))
}

func captured(pattern, text string) (found []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		found = append(found, m[1])
	}
	return found
}

// longestName is how long a name may be.
const longestName = 256

// isName tells whether a name is one that may be asked for. What is not cannot
// be told from another by people, or stands for somebody else in logs and rules.
func isName(s string) bool {
	return s != "" && len(s) <= longestName && utf8.ValidString(s) && strings.TrimSpace(s) == s &&
		!strings.ContainsFunc(s, func(r rune) bool { return r == ':' || r == '/' || !unicode.IsPrint(r) })
}
