// Package rule decides who may do what: an ordered list of rules, of which the
// first that matches who, what and action decides. If none does, the answer is
// no. It is pure: names in, a decision and its reason out.
package rule

import "net/netip"

// Action is what somebody wants to do.
type Action uint8

// The actions. Push is also to overwrite, unless a rule before denies that.
const (
	Pull      Action = iota // Read manifests, blobs, tags and referrers.
	Push                    // Store blobs, manifests, and tags that are new.
	Overwrite               // Move a tag that exists to another manifest.
	Delete                  // Take away tags, manifests, blobs and repositories.
	List                    // See a repository in the catalogue.
)

// Kind is a kind of caller.
type Kind uint8

// The kinds of callers. Anonymous is who has not logged in.
const (
	Anonymous Kind = iota
	User
	Robot
)

// Subject is who wants to do something.
type Subject struct {
	Kind   Kind
	Name   string     // Empty if anonymous.
	Groups []string   // Without a prefix.
	Addr   netip.Addr // Zero: not known.
}

// Rule is a rule as it is written down. All that it says must match; an empty
// list of From matches anything.
type Rule struct {
	// Who are "user:NAME", "group:NAME", "robot:NAME", "anonymous" (who has not
	// logged in), "all" (who has) or "everyone". In a NAME "*" is anything;
	// between slashes it is a regular expression, which must match all of it.
	Who []string

	// What are patterns of repositories, "REPOSITORY" or "REPOSITORY:TAG": "*"
	// is anything but a slash, "**" anything; between slashes it is a regular
	// expression, which must match all of it. ${user} is the name of the
	// caller, ${user:N} what the N-th group of the regular expression in Who
	// matched; if that is nothing, or has a slash in it, nothing matches. A
	// pattern with a tag is about push, overwrite and delete.
	What []string

	// From are the networks that the caller may be in. One whose address is not
	// known is in those of rules that deny, and in none of those that allow.
	From []netip.Prefix

	// May are the actions that are allowed, Deny those that are denied:
	// "pull", "push", "overwrite", "delete", "list" or "all". One of the two
	// is empty.
	May, Deny []string

	// Because says why, for people.
	Because string

	// Where it was said: "config.yml:12". May be empty.
	Where string
}

// Decision is an answer.
type Decision struct {
	Allowed bool
	// Rule is the number of the rule that decided, from 1; 0: none did.
	Rule int
	// Reason names what decided, for people: the rule with its number, where it
	// stands and why.
	Reason string
}
