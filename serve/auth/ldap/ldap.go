// Package ldap knows the users of an LDAP directory and their groups: OpenLDAP,
// 389, Active Directory, FreeIPA and others.
//
// A directory is asked seldom. Who was in is remembered for a minute, and asked
// about again before that is over, by nobody who waits for it; so is a wrong
// password, as directories lock users out of whom they hear too many.
package ldap

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	goldap "github.com/go-ldap/ldap/v3"
)

// Options say which directory it is and how users are found in it.
type Options struct {
	URL      string // ldap://, ldaps:// or ldapi://.
	StartTLS bool
	CA       string // A PEM file, read for every connection. Empty: the authorities of the system.

	// BindDN searches. Empty: anonymous, or the user itself where UserDN is
	// set. Its password is BindPassword, or what is in BindFile, which is read
	// for every connection.
	BindDN, BindPassword, BindFile string

	// UserDN is the DN of a user, with ${user}: nothing is searched. Else the
	// user is who UserFilter (default: (uid=${user})) finds under UserBase.
	UserDN, UserBase, UserFilter string

	// UserName is the attribute that is the name here. Default: the one that
	// UserFilter or UserDN compares with what was typed. Names are in lower
	// case here: for a directory either is the same.
	UserName string

	// Groups are what GroupFilter finds under GroupBase (default:
	// (|(member=${dn})(uniqueMember=${dn})(memberUid=${user}))); their name is
	// in GroupName (default: cn). GroupOf is the attribute of a user with the
	// DNs of more groups, of which those under GroupBase count, or all if that
	// is empty; default: memberOf, if GroupBase is empty.
	GroupBase, GroupFilter, GroupName, GroupOf string

	Timeout time.Duration // Of one question. Default: 5 seconds.

	Now func() time.Time // Default: time.Now.
	Log *slog.Logger     // Nil: nothing is logged.
}

const (
	defaultUserFilter  = "(uid=${user})"
	defaultGroupFilter = "(|(member=${dn})(uniqueMember=${dn})(memberUid=${user}))"
	defaultTimeout     = 5 * time.Second
)

// Directory is an LDAP directory. It is safe for concurrent use.
type Directory struct {
	users
	groups
	*memory
	link *link
}

// Open checks the options. The directory is asked when somebody logs in, so
// that one that is down keeps nothing from starting.
// Errors: options that make no sense; a CA or a password that cannot be read.
func Open(o Options) (*Directory, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	link, err := newLink(o)
	if err != nil {
		return nil, err
	}
	d := &Directory{link: link, memory: newMemory(o.Now)}
	if d.users, err = newUsers(o); err != nil {
		return nil, err
	}
	if d.groups, err = newGroups(o); err != nil {
		return nil, err
	}
	return d, nil
}

// Name implements [auth.Source].
func (d *Directory) Name() string { return "ldap" }

// Close ends the connections, when those who still ask have their answers.
func (d *Directory) Close() error {
	d.end()
	d.link.close()
	return nil
}

// users say how a user is found.
type users struct {
	dn, base, filter template
	name             string   // The attribute that is the name. Empty: one of names.
	names            []string // The attributes that are held against what was typed.
}

func newUsers(o Options) (users, error) {
	u := users{dn: template(o.UserDN), base: template(o.UserBase), filter: template(o.UserFilter), name: o.UserName}
	switch {
	case o.UserDN == "" && o.UserBase == "":
		return u, errors.New("nothing says where users are: set userbase, or userdn")
	case o.UserDN != "" && o.UserBase != "":
		return u, errors.New("set userbase to search users, or userdn, not both")
	case o.UserDN != "":
		if !u.dn.names(varUser) {
			return u, fmt.Errorf("userdn %q does not contain ${user}", o.UserDN)
		}
		if _, err := goldap.ParseDN(u.dn.asDN("user")); err != nil {
			return u, fmt.Errorf("userdn %q is no DN: %w", o.UserDN, err)
		}
		if u.filter == "" {
			u.filter = "(objectClass=*)"
		}
		u.names = u.dn.comparedInDN()
	default:
		if _, err := goldap.ParseDN(o.UserBase); err != nil {
			return u, fmt.Errorf("userbase %q is no DN: %w", o.UserBase, err)
		}
		if u.filter == "" {
			u.filter = defaultUserFilter
		}
		if !u.filter.names(varUser) {
			return u, fmt.Errorf("userfilter %q does not contain ${user}", o.UserFilter)
		}
		u.names = u.filter.compared()
	}
	if err := u.filter.check(); err != nil {
		return u, fmt.Errorf("userfilter: %w", err)
	}
	if u.name == "" && len(u.names) == 0 {
		return u, errors.New("it cannot be told which attribute is the name of a user: set username")
	}
	return u, nil
}

// attributes are what must be known of a user.
func (u users) attributes() []string {
	if u.name != "" {
		return []string{u.name}
	}
	return u.names
}

// groups say how the groups of a user are found.
type groups struct {
	groupBase string // Empty: they are not searched.
	under     *goldap.DN
	member    template
	groupName string
	of        string // Empty: no attribute of users is looked at.
}

func newGroups(o Options) (groups, error) {
	g := groups{groupBase: o.GroupBase, member: template(o.GroupFilter), groupName: o.GroupName, of: o.GroupOf}
	if g.groupName == "" {
		g.groupName = "cn"
	}
	if o.GroupBase == "" {
		if o.GroupFilter != "" && o.GroupFilter != defaultGroupFilter {
			return g, errors.New("groupfilter is of no use without groupbase")
		}
		if g.of == "" {
			g.of = "memberOf"
		}
		return g, nil
	}
	var err error
	if g.under, err = goldap.ParseDN(o.GroupBase); err != nil {
		return g, fmt.Errorf("groupbase %q is no DN: %w", o.GroupBase, err)
	}
	if g.member == "" {
		g.member = defaultGroupFilter
	}
	if !g.member.names(varUser) && !g.member.names(varDN) {
		return g, fmt.Errorf("groupfilter %q contains neither ${dn} nor ${user}", o.GroupFilter)
	}
	if err := g.member.check(); err != nil {
		return g, fmt.Errorf("groupfilter: %w", err)
	}
	return g, nil
}
