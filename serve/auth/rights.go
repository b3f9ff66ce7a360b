package auth

import (
	"context"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/auth/rule"
)

// The rights of tokens: distribution, "Token Scope Documentation". Those of
// the registry itself have the one action "*", which for a repository means
// every action.
const (
	typeRepository = "repository"
	typeRegistry   = "registry"
	nameCatalog    = "catalog"
	nameDeletions  = "deletions" // Ours.
	actionPull     = "pull"
	actionPush     = "push"
	actionDelete   = "delete"
	actionAny      = "*"
)

// Rules are the rules in force. They may change at any time. They are safe for
// concurrent use.
type Rules struct{ policy atomic.Pointer[rule.Policy] }

// NewRules returns Rules that begin with p. Nil denies everything.
func NewRules(p *rule.Policy) *Rules {
	r := &Rules{}
	r.policy.Store(p)
	return r
}

// Load returns the rules as they are now; nil denies everything.
func (r *Rules) Load() *rule.Policy { return r.policy.Load() }

// Store makes p the rules from now on.
func (r *Rules) Store(p *rule.Policy) { r.policy.Store(p) }

// Deletions tells of what is deleted what the caller of ctx may see: what it
// might have deleted itself. It reads the manifests only where it may pull.
// Errors: [*DeniedError].
func (r *Rules) Deletions(ctx context.Context) (sees func(repo, tag string) bool, reads func(repo string) bool, err error) {
	s := SessionFrom(ctx)
	if s == nil {
		return nil, nil, noSession()
	}
	p, addr := r.Load(), addrOf(ctx)
	if err := s.mayHave(p, addr, nameDeletions); err != nil {
		return nil, nil, err
	}
	sees = func(repo, tag string) bool { return s.decide(p, addr, repo, tag, rule.Delete).Allowed }
	reads = func(repo string) bool { return s.decide(p, addr, repo, "", rule.Pull).Allowed }
	return sees, reads, nil
}

// mayHave returns nil if s has a right of the registry itself, and its token is
// for it.
func (s *Session) mayHave(p *rule.Policy, addr netip.Addr, name string) error {
	need := Access{Type: typeRegistry, Name: name, Actions: []string{actionAny}}
	if !s.hasRegistry(p, addr, name) {
		return &DeniedError{Need: []Access{need}, Reason: "no rule allows it anywhere"}
	}
	if !s.holds(typeRegistry, name, actionAny) {
		return narrow(need)
	}
	return nil
}

// Decide tells whether s may do a to repo, and to tag there if it is not empty,
// from the address of the caller of ctx: what p decides, within the limit of
// who it is and the scope of the token.
func (s *Session) Decide(ctx context.Context, p *rule.Policy, repo, tag string, a rule.Action) rule.Decision {
	d := s.decide(p, addrOf(ctx), repo, tag, a)
	if d.Allowed && !s.covers(repo, a) {
		d.Allowed, d.Reason = false, "the token is not for it"
	}
	return d
}

// Grant returns the part of what was asked for that p gives s at addr: the
// scope of a token. What is about tags is decided when the token is used: who
// may delete some of them gets the right to delete.
func (s *Session) Grant(p *rule.Policy, addr netip.Addr, asked []Access) []Access {
	return s.grantAll(p, addr, asked, false)
}

// GrantElsewhere is [Session.Grant] for a registry elsewhere, which asks neither
// about tags nor about what is in its catalogue: who may push or delete some
// tags only gets no such right, nor who may see some repositories only.
func (s *Session) GrantElsewhere(p *rule.Policy, addr netip.Addr, asked []Access) []Access {
	return s.grantAll(p, addr, asked, true)
}

func (s *Session) grantAll(p *rule.Policy, addr netip.Addr, asked []Access, elsewhere bool) []Access {
	var granted []Access
	for _, a := range asked {
		a.Actions = s.grant(p, addr, a, elsewhere)
		if len(a.Actions) > 0 {
			granted = append(granted, a)
		}
	}
	return granted
}

// grant returns the actions of asked that s has.
func (s *Session) grant(p *rule.Policy, addr netip.Addr, asked Access, elsewhere bool) []string {
	if asked.Type == typeRegistry {
		a, known := registryRight(asked.Name)
		if !known || !slices.Contains(asked.Actions, actionAny) || !s.mayAnywhere(p, addr, a) || elsewhere && !s.everything(p, addr, a) {
			return nil
		}
		return []string{actionAny}
	}
	if asked.Type != typeRepository || oci.CheckRepo(asked.Name) != nil {
		return nil
	}
	var has []string
	all := slices.Contains(asked.Actions, actionAny)
	for _, r := range repositoryRights {
		if !all && !slices.Contains(asked.Actions, r.name) {
			continue
		}
		may := s.decide(p, addr, asked.Name, "", r.action).Allowed
		if s.tagMatters(p, addr, asked.Name, r.action) {
			may = !elsewhere && (may || r.action == rule.Delete)
		}
		if may {
			has = append(has, r.name)
		}
	}
	if all && len(has) == len(repositoryRights) {
		has = append(has, actionAny)
	}
	return has
}

// repositoryRights are the actions of tokens with those of rules.
var repositoryRights = [...]struct {
	name   string
	action rule.Action
}{{actionPull, rule.Pull}, {actionPush, rule.Push}, {actionDelete, rule.Delete}}

// decide is what the rules and the limit say, whatever the token is for. A rule
// that matches a robot decides, and allows no more than its limit; if none
// does, the limit decides.
func (s *Session) decide(p *rule.Policy, addr netip.Addr, repo, tag string, a rule.Action) rule.Decision {
	if !s.ruled() {
		return rule.Decision{Allowed: true, Reason: "the token says so"}
	}
	who := s.subject(addr)
	d := p.Decide(who, repo, tag, a)
	if s.Limit == nil || d.Rule != 0 && !d.Allowed {
		return d
	}
	limit := s.Limit.Decide(who, repo, tag, a)
	if d.Allowed && limit.Allowed {
		return d
	}
	if !limit.Allowed {
		if open := p.Decide(anybody(addr), repo, tag, a); open.Allowed {
			return open
		}
		limit.Reason = "the scopes of " + s.String() + " do not allow it"
	}
	return limit
}

// anybody is who has not logged in.
func anybody(addr netip.Addr) rule.Subject { return rule.Subject{Addr: addr} }

// ruled tells whether the rules are asked. They are, if nothing else is.
func (s *Session) ruled() bool { return s.Ruled || !s.Scoped }

func (s *Session) subject(addr netip.Addr) rule.Subject {
	return rule.Subject{Kind: s.Kind, Name: s.Name, Groups: s.Groups, Addr: addr}
}

// mayAnywhere tells whether s may do a to anything.
func (s *Session) mayAnywhere(p *rule.Policy, addr netip.Addr, a rule.Action) bool {
	switch {
	case !s.ruled():
		return true
	case s.Limit == nil:
		return p.May(s.subject(addr), a)
	}
	return s.Limit.May(s.subject(addr), a) || p.May(anybody(addr), a)
}

// everything tells whether s may do a to whatever there is.
func (s *Session) everything(p *rule.Policy, addr netip.Addr, a rule.Action) bool {
	if !s.ruled() {
		return true
	}
	may, denied := p.Everything(s.subject(addr), a)
	if s.Limit != nil && !denied { // Where no rule decides, the limit does.
		may, _ = s.Limit.Everything(s.subject(addr), a)
	}
	return may
}

// tagMatters tells whether what s may do to repo depends on the tag.
func (s *Session) tagMatters(p *rule.Policy, addr netip.Addr, repo string, a rule.Action) bool {
	if !s.ruled() {
		return false
	}
	who := s.subject(addr)
	return p.TagMatters(who, repo, a) || s.Limit != nil && (s.Limit.TagMatters(who, repo, a) || p.TagMatters(anybody(addr), repo, a))
}

// hasRegistry tells whether s has a right of the registry itself, whatever the
// token is for: it may see the catalogue if it may see anything in it.
func (s *Session) hasRegistry(p *rule.Policy, addr netip.Addr, name string) bool {
	a, known := registryRight(name)
	return known && s.mayAnywhere(p, addr, a)
}

// registryRight is the action that a right of the registry itself is about.
func registryRight(name string) (rule.Action, bool) {
	switch name {
	case nameCatalog:
		return rule.List, true
	case nameDeletions:
		return rule.Delete, true
	}
	return 0, false
}

// covers tells whether the token of s, if it has one, is for a in repo.
func (s *Session) covers(repo string, a rule.Action) bool {
	if a == rule.List {
		return s.holds(typeRegistry, nameCatalog, actionAny)
	}
	return s.holds(typeRepository, repo, actionOf(a))
}

// holds tells whether the token of s, if it has one, has a right.
func (s *Session) holds(kind, name, action string) bool {
	if !s.Scoped && s.Scope == nil {
		return true
	}
	for _, a := range s.Scope {
		if a.Type == kind && a.Name == name && (slices.Contains(a.Actions, action) || slices.Contains(a.Actions, actionAny)) {
			return true
		}
	}
	return false
}

// actionOf is the action that a token must have for a in a repository.
func actionOf(a rule.Action) string {
	switch a {
	case rule.Pull:
		return actionPull
	case rule.Push, rule.Overwrite:
		return actionPush
	case rule.Delete:
		return actionDelete
	}
	return actionAny
}

// addrOf is the address of the caller of ctx, zero if it is not known.
func addrOf(ctx context.Context) netip.Addr {
	addr, _ := netip.ParseAddr(oci.CallerFrom(ctx).Addr) // With an error it is zero.
	return addr
}
