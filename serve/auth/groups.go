package auth

import (
	"maps"
	"slices"
	"sync/atomic"
)

// Groups are the groups of the configuration, whatever sources their members
// are from. They may change at any time. It is safe for concurrent use; nil has
// no group.
type Groups struct {
	of atomic.Pointer[map[string][]string] // By member: sorted names of groups.
}

// NewGroups returns groups with these members; see [Groups.Set].
func NewGroups(members map[string][]string) *Groups {
	g := &Groups{}
	g.Set(members)
	return g
}

// Set makes these all the groups that there are: the names of users by the name
// of the group. A robot is a member as "robot:NAME".
func (g *Groups) Set(members map[string][]string) {
	of := map[string][]string{}
	for _, group := range slices.Sorted(maps.Keys(members)) {
		for _, name := range members[group] {
			if in := of[name]; !slices.Contains(in, group) {
				of[name] = append(in, group)
			}
		}
	}
	g.of.Store(&of)
}

// Join returns who with the groups of the configuration that it is in, and
// those that it had.
func (g *Groups) Join(who Identity) Identity {
	if g == nil || who.Name == "" {
		return who
	}
	more := (*g.of.Load())[who.String()]
	if len(more) == 0 {
		return who
	}
	if len(who.Groups) == 0 {
		who.Groups = more[:len(more):len(more)]
		return who
	}
	who.Groups = slices.Concat(who.Groups, more)
	slices.Sort(who.Groups)
	who.Groups = slices.Compact(who.Groups)
	return who
}
