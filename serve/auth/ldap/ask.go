package ldap

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	goldap "github.com/go-ldap/ldap/v3"

	"github.com/regctl/regctl/serve/auth"
	"github.com/regctl/regctl/serve/auth/rule"
)

// groupPage is how many groups are asked for at a time.
const groupPage = 500

// itself tells whether users are asked for by themselves: nobody else may.
func (d *Directory) itself() bool { return d.dn != "" && d.link.bindDN == "" }

// check asks the directory whether this is the password of that user.
// Errors: [auth.ErrUnknown], [auth.ErrDenied], [auth.ErrUnavailable].
func (d *Directory) check(typed, password string) (auth.Identity, error) {
	if d.itself() {
		return d.checkItself(typed, password)
	}
	var who auth.Identity
	err := d.link.with(true, func(c *conn) error {
		e, err := d.find(c, typed)
		if err != nil {
			return err
		}
		who, err = d.identity(c, e, typed)
		return err
	})
	if err != nil && !errors.Is(err, auth.ErrUnknown) {
		return who, d.unanswered(err)
	}
	dn := who.ID
	if err != nil { // To be unknown takes as long as to be wrong.
		dn = d.nobody(typed)
	}
	bound := d.link.with(false, func(c *conn) error { return c.Bind(dn, password) })
	if err != nil {
		return who, err
	}
	return who, d.refused(bound)
}

// checkItself asks as the user, on a connection of its own.
func (d *Directory) checkItself(typed, password string) (who auth.Identity, err error) {
	dn := d.dn.asDN(typed)
	err = d.link.with(false, func(c *conn) error {
		if err := c.Bind(dn, password); err != nil {
			return d.refused(err)
		}
		e, err := d.read(c, dn, d.filter.asFilter(typed, dn))
		if err != nil {
			return d.unanswered(err)
		}
		who, err = d.identity(c, e, typed)
		return d.unanswered(err)
	})
	return who, err
}

// nobody is a DN where nobody is.
func (d *Directory) nobody(typed string) string {
	if d.dn != "" {
		return d.dn.asDN(typed)
	}
	return "cn=nobody is here," + string(d.base)
}

// find returns the entry of who has typed this name.
// Errors: [auth.ErrUnknown]; those of the directory.
func (d *Directory) find(c *conn, typed string) (*goldap.Entry, error) {
	if d.dn != "" {
		dn := d.dn.asDN(typed)
		return d.read(c, dn, d.filter.asFilter(typed, dn))
	}
	return d.only(c, string(d.base), goldap.ScopeWholeSubtree, d.filter.asFilter(typed, ""))
}

// read returns the entry with a DN, if the filter takes it.
// Errors: [auth.ErrUnknown]; those of the directory.
func (d *Directory) read(c *conn, dn, filter string) (*goldap.Entry, error) {
	return d.only(c, dn, goldap.ScopeBaseObject, filter)
}

// only returns the only entry that is found.
func (d *Directory) only(c *conn, base string, scope int, filter string) (*goldap.Entry, error) {
	attributes := d.attributes()
	if d.of != "" {
		attributes = append(slices.Clone(attributes), d.of)
	}
	found, err := c.Search(goldap.NewSearchRequest(base, scope, goldap.NeverDerefAliases, 2, 0, false, filter, attributes, nil))
	switch {
	case goldap.IsErrorWithCode(err, goldap.LDAPResultNoSuchObject), goldap.IsErrorWithCode(err, goldap.LDAPResultInvalidDNSyntax):
		if scope != goldap.ScopeBaseObject { // Else everybody would seem to have typed a wrong password.
			d.link.say(slog.LevelError, "there is nothing at userbase, or the registry may not see it, so that nobody is found", slog.String("userbase", base))
		}
		return nil, auth.ErrUnknown
	case goldap.IsErrorWithCode(err, goldap.LDAPResultSizeLimitExceeded), err == nil && len(found.Entries) > 1:
		d.link.say(slog.LevelWarn, "more than one entry is of a name, so that nobody is", slog.String("filter", filter))
		return nil, auth.ErrUnknown
	case err != nil:
		return nil, err
	case len(found.Entries) == 0:
		return nil, auth.ErrUnknown
	}
	return found.Entries[0], nil
}

// identity is who an entry is of. Typed is what led to it.
// Errors: [auth.ErrUnknown]; those of the directory.
func (d *Directory) identity(c *conn, e *goldap.Entry, typed string) (auth.Identity, error) {
	name := d.nameOf(e, typed)
	if !isName(name) {
		d.link.say(slog.LevelWarn, "an entry has no name that can be one here: see username",
			slog.String("dn", e.DN), slog.Any("attributes", d.attributes()))
		return auth.Identity{}, auth.ErrUnknown
	}
	who := auth.Identity{Kind: rule.User, Name: name, Source: d.Name(), ID: e.DN}
	if d.of != "" {
		who.Groups = d.named(e.GetEqualFoldAttributeValues(d.of))
	}
	if d.groupBase != "" {
		more, err := d.search(c, e, name)
		if err != nil {
			return who, err
		}
		who.Groups = append(who.Groups, more...)
	}
	slices.Sort(who.Groups)
	who.Groups = slices.Compact(who.Groups)
	return who, nil
}

// nameOf is the name of an entry, empty if it has none: the value that was
// typed, in whatever case, or else the first of the attribute that is the name.
func (d *Directory) nameOf(e *goldap.Entry, typed string) string {
	for _, attribute := range d.attributes() {
		for _, v := range e.GetEqualFoldAttributeValues(attribute) {
			if strings.EqualFold(v, typed) {
				return strings.ToLower(v)
			}
		}
	}
	return strings.ToLower(e.GetEqualFoldAttributeValue(d.name))
}

// named are the names of groups by their DNs.
func (d *Directory) named(dns []string) (names []string) {
	for _, text := range dns {
		dn, err := goldap.ParseDN(text)
		if err != nil || len(dn.RDNs) == 0 || d.under != nil && !d.under.AncestorOfFold(dn) {
			continue
		}
		first := dn.RDNs[0].Attributes
		at := max(0, slices.IndexFunc(first, func(a *goldap.AttributeTypeAndValue) bool { return strings.EqualFold(a.Type, d.groupName) }))
		names = append(names, first[at].Value)
	}
	return names
}

// search returns the groups that say that an entry is a member.
func (d *Directory) search(c *conn, e *goldap.Entry, name string) (names []string, err error) {
	filter := d.member.asFilter(name, e.DN)
	found, err := c.SearchWithPaging(goldap.NewSearchRequest(d.groupBase, goldap.ScopeWholeSubtree, goldap.NeverDerefAliases,
		0, 0, false, filter, []string{d.groupName}, nil), groupPage)
	if err != nil {
		return nil, fmt.Errorf("search groups under %s: %w", d.groupBase, err)
	}
	for _, g := range found.Entries {
		names = append(names, g.GetEqualFoldAttributeValues(d.groupName)...)
	}
	return names, nil
}

// refused says what an answer to a bind means.
// Errors: [auth.ErrUnknown], [auth.ErrDenied], [auth.ErrUnavailable].
func (d *Directory) refused(err error) error {
	var e *goldap.Error
	switch {
	case err == nil, errors.Is(err, auth.ErrUnavailable), !errors.As(err, &e), !answered(err):
		return err
	}
	switch e.ResultCode {
	case goldap.LDAPResultInvalidCredentials, goldap.LDAPResultInappropriateAuthentication, goldap.LDAPResultConstraintViolation,
		goldap.LDAPResultUnwillingToPerform, goldap.LDAPResultInsufficientAccessRights:
		return auth.ErrDenied // Wrong, locked, expired.
	case goldap.LDAPResultNoSuchObject, goldap.LDAPResultInvalidDNSyntax:
		return auth.ErrUnknown
	}
	return d.unanswered(err)
}

// unanswered is an error of which nothing can be said but that it happened.
func (d *Directory) unanswered(err error) error {
	if err == nil || errors.Is(err, auth.ErrUnknown) || errors.Is(err, auth.ErrUnavailable) || !answered(err) {
		return err
	}
	d.link.say(slog.LevelError, "the directory refuses what it is asked", slog.Any("error", err))
	return fmt.Errorf("%w: ask %s: %w", auth.ErrUnavailable, d.link, err)
}
