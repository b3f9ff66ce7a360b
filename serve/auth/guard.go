package auth

import (
	"context"
	"crypto/rand"
	"errors"
	"hash/maphash"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/auth/rule"
)

// GuardOptions say how a guard works.
type GuardOptions struct {
	// UploadKey ties uploads to who began them. With the same one they go on
	// after a restart. It is a secret. Empty: a random one.
	UploadKey []byte

	// TagsOf returns the tags of a repository that point to a manifest, in a
	// quicker way than to look at all of them. May be nil.
	TagsOf func(ctx context.Context, repo string, d oci.Digest) ([]string, error)

	// Log takes denials and what decided them, of which most are how clients
	// begin: they are for debugging. Nil: nothing is logged.
	Log *slog.Logger
}

// Guard returns reg for callers who may not do everything: each call is decided
// by the [Session] of its context and the rules as they are then, before reg is
// asked, so that what is hidden cannot be told from what is absent. Without a
// session nothing is allowed. An upload belongs to who began it: for others
// there is none with its id. Of the catalogue everybody sees a part.
//
// Methods return a [*DeniedError] besides their own errors. One more,
// Permit(ctx, repo) error, tells whether the caller may push there at all.
func Guard(reg oci.Registry, rules *Rules, o GuardOptions) oci.Registry {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if len(o.UploadKey) == 0 {
		o.UploadKey = []byte(rand.Text())
	}
	return &guard{reg: reg, rules: rules, log: o.Log, tagsOf: o.TagsOf, ids: newUploadIDs(o.UploadKey), seed: maphash.MakeSeed()}
}

// guard has no embedded Registry: a method that is new must be decided upon.
type guard struct {
	reg   oci.Registry
	rules *Rules
	log   *slog.Logger
	ids   *uploadIDs

	tagsOf func(ctx context.Context, repo string, d oci.Digest) ([]string, error) // May be nil.

	// tags keep a repository from getting a tag while it is decided whether all
	// of them may go.
	tags [64]sync.RWMutex
	seed maphash.Seed
}

// asker is who makes a call, with the rules that it is decided by.
type asker struct {
	*Session
	guard  *guard
	policy *rule.Policy
	addr   netip.Addr
	caller oci.Caller
}

// asker returns who makes the call of ctx.
func (g *guard) asker(ctx context.Context) (*asker, error) {
	s := SessionFrom(ctx)
	if s == nil {
		return nil, noSession()
	}
	return &asker{s, g, g.rules.Load(), addrOf(ctx), oci.CallerFrom(ctx)}, nil
}

func noSession() error { return &DeniedError{Reason: "nobody was asked who makes the call"} }

// may returns the asker of ctx if it may do a to repo, and to tag there if it
// is not empty.
func (g *guard) may(ctx context.Context, repo, tag string, a rule.Action) (*asker, error) {
	c, err := g.asker(ctx)
	if err != nil {
		return nil, err
	}
	return c, c.may(ctx, repo, tag, a)
}

// may returns nil if c may do a to repo, and to tag there if it is not empty.
func (c *asker) may(ctx context.Context, repo, tag string, a rule.Action) error {
	d := c.decide(c.policy, c.addr, repo, tag, a)
	switch {
	case !d.Allowed:
		return c.deny(ctx, d, repo, tag, a)
	case !c.covers(repo, a):
		return narrow(c.needs(repo, a)...)
	}
	return nil
}

// Permit returns nil if the caller of ctx may push something to repo: who may
// not need not send it.
// Errors: [*DeniedError].
func (g *guard) Permit(ctx context.Context, repo string) error {
	_, err := g.may(ctx, repo, "", rule.Push)
	return err
}

// deny is the answer to who may not do a by decision d.
func (c *asker) deny(ctx context.Context, d rule.Decision, repo, tag string, a rule.Action) error {
	c.guard.log.LogAttrs(ctx, slog.LevelDebug, "denied", slog.String("request", c.caller.RequestID), slog.String("user", c.String()),
		slog.String("action", a.String()), slog.String("repo", repo), slog.String("tag", tag), slog.String("reason", d.Reason))
	tell := a != rule.Pull && c.decide(c.policy, c.addr, repo, "", rule.Pull).Allowed
	return &DeniedError{Need: c.needs(repo, a), Reason: d.Reason, Tell: tell}
}

// narrow is the answer to who may, but not with this token.
func narrow(need ...Access) error {
	return &DeniedError{Need: need, Narrow: true, Reason: "the token is not for it"}
}

// needs are the rights that a token must have for a request that does a to
// repo, as registry:2 wants them.
func (c *asker) needs(repo string, a rule.Action) []Access {
	right := Access{Type: typeRepository, Name: repo}
	switch {
	case a == rule.List:
		right = Access{Type: typeRegistry, Name: nameCatalog, Actions: []string{actionAny}}
	case a == rule.Delete, a == rule.Pull && c.caller.Method == http.MethodDelete:
		right.Actions = []string{actionDelete}
	case a == rule.Pull:
		right.Actions = []string{actionPull}
	default:
		right.Actions = []string{actionPull, actionPush}
	}
	return []Access{right}
}

// tagLock is the lock of the tags of repo.
func (g *guard) tagLock(repo string) *sync.RWMutex {
	return &g.tags[maphash.String(g.seed, repo)%uint64(len(g.tags))]
}

// Resolve implements [oci.Reader].
func (g *guard) Resolve(ctx context.Context, repo, ref string) (oci.Descriptor, error) {
	c, err := g.asker(ctx)
	if err != nil {
		return oci.Descriptor{}, err
	}
	// To delete on a condition, a token for deleting will do.
	deletes := c.caller.Method == http.MethodDelete && c.covers(repo, rule.Delete)
	d := c.decide(c.policy, c.addr, repo, "", rule.Pull)
	if !d.Allowed {
		return oci.Descriptor{}, c.deny(ctx, d, repo, "", rule.Pull)
	}
	if !deletes && !c.covers(repo, rule.Pull) {
		return oci.Descriptor{}, c.tooNarrow(ctx, repo, ref)
	}
	return g.reg.Resolve(ctx, repo, ref)
}

// tooNarrow is the answer to who may look at ref, but not with this token. Who
// may not delete it anyway is told so: no other token would help.
func (c *asker) tooNarrow(ctx context.Context, repo, ref string) error {
	if c.caller.Method == http.MethodDelete {
		tag := ref
		if oci.IsDigest(ref) {
			tag = ""
		}
		if d := c.decide(c.policy, c.addr, repo, tag, rule.Delete); !d.Allowed {
			return c.deny(ctx, d, repo, tag, rule.Delete)
		}
	}
	return narrow(c.needs(repo, rule.Pull)...)
}

// Manifest implements [oci.Reader].
func (g *guard) Manifest(ctx context.Context, repo, ref string) (oci.Manifest, error) {
	if _, err := g.may(ctx, repo, "", rule.Pull); err != nil {
		return oci.Manifest{}, err
	}
	return g.reg.Manifest(ctx, repo, ref)
}

// StatBlob implements [oci.Reader].
func (g *guard) StatBlob(ctx context.Context, repo string, d oci.Digest) (oci.Descriptor, error) {
	if _, err := g.may(ctx, repo, "", rule.Pull); err != nil {
		return oci.Descriptor{}, err
	}
	return g.reg.StatBlob(ctx, repo, d)
}

// Blob implements [oci.Reader].
func (g *guard) Blob(ctx context.Context, repo string, d oci.Digest) (oci.BlobReader, error) {
	if _, err := g.may(ctx, repo, "", rule.Pull); err != nil {
		return oci.BlobReader{}, err
	}
	return g.reg.Blob(ctx, repo, d)
}

// PutManifest implements [oci.Writer]. A tag that the caller may not move is
// held where it is under its own lock.
func (g *guard) PutManifest(ctx context.Context, repo string, p oci.Put) (oci.Descriptor, error) {
	c, err := g.asker(ctx)
	if err != nil {
		return oci.Descriptor{}, err
	}
	if err := c.mayPut(ctx, repo, p.Tags); err != nil {
		return oci.Descriptor{}, err
	}
	fixed := map[string]rule.Decision{}
	for _, tag := range p.Tags {
		if d := c.decide(c.policy, c.addr, repo, tag, rule.Overwrite); !d.Allowed {
			fixed[tag] = d
			p.Fixed = append(slices.Clip(p.Fixed), tag)
		}
	}
	tags := g.tagLock(repo)
	tags.RLock()
	defer tags.RUnlock()
	put, err := g.reg.PutManifest(ctx, repo, p)
	if errors.Is(err, oci.TagExists) && !p.NoOverwrite && len(fixed) > 0 {
		tag := c.stuck(ctx, repo, p, fixed)
		return put, c.deny(ctx, fixed[tag], repo, tag, rule.Overwrite)
	}
	return put, err
}

// mayPut returns nil if c may push to repo, and all of tags there.
func (c *asker) mayPut(ctx context.Context, repo string, tags []string) error {
	if len(tags) == 0 {
		return c.may(ctx, repo, "", rule.Push)
	}
	for _, tag := range tags {
		if err := c.may(ctx, repo, tag, rule.Push); err != nil {
			return err
		}
	}
	return nil
}

// stuck is the first tag of fixed that p would have moved.
func (c *asker) stuck(ctx context.Context, repo string, p oci.Put, fixed map[string]rule.Decision) string {
	first, d := "", p.Digest
	if d == "" {
		d = digest.FromBytes(p.Raw)
	}
	ctx = looking(ctx)
	for _, tag := range p.Tags {
		if _, ok := fixed[tag]; !ok {
			continue
		}
		if now, err := c.guard.reg.Resolve(ctx, repo, tag); err == nil && now.Digest != d {
			return tag
		}
		if first == "" {
			first = tag
		}
	}
	return first
}

// looking returns ctx for calls of the guard itself: nobody uses what is read.
func looking(ctx context.Context) context.Context {
	caller := oci.CallerFrom(ctx)
	caller.Look = true
	return oci.WithCaller(ctx, caller)
}

// DeleteTag implements [oci.Deleter].
func (g *guard) DeleteTag(ctx context.Context, repo, tag string, was oci.Digest) error {
	if _, err := g.may(ctx, repo, tag, rule.Delete); err != nil {
		return err
	}
	return g.reg.DeleteTag(ctx, repo, tag, was)
}

// DeleteManifest implements [oci.Deleter]. It is denied if one of the tags that
// would go may not be deleted.
func (g *guard) DeleteManifest(ctx context.Context, repo string, d oci.Digest) error {
	c, err := g.may(ctx, repo, "", rule.Delete)
	if err != nil {
		return err
	}
	if c.tagMatters(c.policy, c.addr, repo, rule.Delete) {
		tags := g.tagLock(repo)
		tags.Lock()
		defer tags.Unlock()
		if err := c.mayTake(ctx, repo, d); err != nil {
			return err
		}
	}
	return g.reg.DeleteManifest(ctx, repo, d)
}

// DeleteBlob implements [oci.Deleter].
func (g *guard) DeleteBlob(ctx context.Context, repo string, d oci.Digest) error {
	if _, err := g.may(ctx, repo, "", rule.Delete); err != nil {
		return err
	}
	return g.reg.DeleteBlob(ctx, repo, d)
}

// DeleteRepo implements [oci.Deleter]. It is denied if one of the tags may not
// be deleted.
func (g *guard) DeleteRepo(ctx context.Context, repo string) error {
	c, err := g.may(ctx, repo, "", rule.Delete)
	if err != nil {
		return err
	}
	if c.tagMatters(c.policy, c.addr, repo, rule.Delete) {
		tags := g.tagLock(repo)
		tags.Lock()
		defer tags.Unlock()
		if err := c.mayTake(ctx, repo, ""); err != nil {
			return err
		}
	}
	return g.reg.DeleteRepo(ctx, repo)
}

// mayTake returns nil if c may delete all tags of repo that point to d, or all
// if d is empty.
func (c *asker) mayTake(ctx context.Context, repo string, d oci.Digest) error {
	if d != "" && c.guard.tagsOf != nil {
		tags, err := c.guard.tagsOf(ctx, repo, d)
		for _, tag := range tags {
			if err == nil {
				err = c.may(ctx, repo, tag, rule.Delete)
			}
		}
		return err
	}
	for tag, err := range c.guard.reg.Tags(ctx, repo, "") {
		switch {
		case errors.Is(err, oci.NameUnknown):
			return nil // Then there is nothing to take, which the registry says in its own way.
		case err != nil:
			return err
		}
		denied := c.may(ctx, repo, tag, rule.Delete)
		if denied == nil {
			continue
		}
		if d == "" {
			return denied
		}
		now, err := c.guard.reg.Resolve(looking(ctx), repo, tag)
		switch {
		case errors.Is(err, oci.ManifestUnknown): // It is gone.
		case err != nil:
			return err
		case now.Digest == d:
			return denied
		}
	}
	return nil
}
