package transfer

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/regctl/regctl/client/oci"
)

// counted is a registry whose calls are counted.
type counted struct {
	oci.Registry
	n atomic.Int64

	remote remote // Nil: it is at hand.
}

// remote is what a registry of which each answer is a request tells besides,
// so that none is made in vain.
type remote interface {
	// FirstTagDetails fails unless one request tells a page of tags with
	// their digests.
	FirstTagDetails(ctx context.Context, repo string) (details []oci.TagDetail, more bool, err error)
	// ReferrersByTag tells that referrers are kept under tags only.
	ReferrersByTag() bool
}

func count(reg oci.Registry) *counted {
	c := &counted{Registry: reg}
	c.remote, _ = reg.(remote)
	return c
}

// call counts a call, and returns the registry for it.
func (c *counted) call() oci.Registry {
	c.n.Add(1)
	return c.Registry
}

// same tells whether a and b are one registry.
func same(a, b oci.Registry) bool {
	v := reflect.ValueOf(a)
	return v.IsValid() && v.Comparable() && a == b
}

type viewKey struct {
	side Side
	repo string
}

// view is what is known of the tags of one repository.
type view struct {
	p    *planner
	reg  *counted // Nil: nothing is there.
	repo string

	mu      sync.Mutex
	tried   bool                      // It was listed, or that was given up.
	listed  bool                      // All tags are known.
	missing bool                      // The repository is not there.
	tags    map[string]oci.Descriptor // Zero: only the name is known.
	digests map[oci.Digest]bool
}

// view returns the one of a repository.
func (p *planner) view(side Side, repo string) *view {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := viewKey{side, repo}
	v := p.views[key]
	if v == nil {
		v = &view{p: p, reg: p.src, repo: repo}
		if side == Destination {
			v.reg = p.dst
		}
		p.views[key] = v
	}
	return v
}

// manyNames is how many tags are listed to know whether there are signatures
// before they are asked for one by one.
const manyNames = 2000

// list lists the tags, once: with their digests if details are wanted and the
// registry can tell, else up to most names (0: all).
func (v *view) list(ctx context.Context, details bool, most int) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.tried || v.reg == nil {
		v.missing = v.missing || v.reg == nil
		return nil
	}
	free, err := v.p.slot(ctx)
	if err != nil {
		return err
	}
	defer free()
	if details && v.listDetails(ctx) {
		v.tried, v.listed = true, true
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return v.listNames(ctx, most)
}

// listDetails tells whether the registry could tell all. If not, a listing of
// the names will show why.
func (v *view) listDetails(ctx context.Context) bool {
	tags, digests := map[string]oci.Descriptor{}, map[oci.Digest]bool{}
	add := func(t oci.TagDetail) {
		tags[t.Tag] = t.Manifest
		digests[t.Manifest.Digest] = t.Manifest.Digest != ""
	}
	after := ""
	if r := v.reg.remote; r != nil {
		v.reg.n.Add(1)
		page, more, err := r.FirstTagDetails(ctx, v.repo)
		if err != nil {
			return false
		}
		for _, t := range page {
			add(t)
			after = t.Tag
		}
		if !more {
			v.tags, v.digests = tags, digests
			return true
		}
	}
	for t, err := range v.reg.call().TagDetails(ctx, v.repo, after) {
		if err != nil {
			return false
		}
		add(t)
	}
	v.reg.pages(len(tags) - 1)
	v.tags, v.digests = tags, digests
	return true
}

// pages counts the requests for a list of so many but the first.
func (c *counted) pages(items int) {
	const page = 1000 // What clients ask for, and what many registries give at most.
	if c.remote != nil {
		c.n.Add(int64(items / page))
	}
}

func (v *view) listNames(ctx context.Context, most int) error {
	tags := map[string]oci.Descriptor{}
	for tag, err := range v.reg.call().Tags(ctx, v.repo, "") {
		switch {
		case errors.Is(err, oci.NameUnknown):
			v.tried, v.listed, v.missing = true, true, true
			return nil
		case err != nil:
			v.tried = isRefused(err)
			return err
		}
		if len(tags) == most && most > 0 {
			v.tried = true
			return nil
		}
		tags[tag] = oci.Descriptor{}
	}
	v.reg.pages(len(tags))
	v.tried, v.listed, v.tags = true, true, tags
	return nil
}

// isRefused tells that a list is not for us: some may push and pull only.
func isRefused(err error) bool {
	return errors.Is(err, oci.Unauthorized) || errors.Is(err, oci.Denied) || errors.Is(err, oci.Unsupported)
}

// resolve returns the manifest of a tag or digest: from the list if that told.
func (v *view) resolve(ctx context.Context, ref string) (oci.Descriptor, error) {
	v.mu.Lock()
	d, ok := v.tags[ref]
	absent := v.listed && !ok && !oci.IsDigest(ref) || v.missing || v.reg == nil
	v.mu.Unlock()
	switch {
	case d.Digest != "":
		return d, nil
	case absent:
		return oci.Descriptor{}, oci.Errorf(oci.ManifestUnknown, "%s has no %s", v.repo, ref)
	}
	free, err := v.p.slot(ctx)
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer free()
	return v.reg.call().Resolve(ctx, v.repo, ref)
}

// has tells whether a manifest is there.
func (v *view) has(ctx context.Context, d oci.Digest) (bool, error) {
	v.mu.Lock()
	known := v.digests[d]
	v.mu.Unlock()
	if known {
		return true, nil
	}
	_, err := v.resolve(ctx, string(d))
	if isMissing(err) {
		return false, nil
	}
	return err == nil, err
}

// isNew tells that the repository is known not to be there.
func (v *view) isNew() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.missing || v.reg == nil
}

// hasReferrers is false if there are none of d, as the list of tags shows.
func (v *view) hasReferrers(d oci.Digest) bool {
	if v.reg.remote == nil || !v.reg.remote.ReferrersByTag() {
		return true
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	_, kept := v.tags[referrersTag(d)]
	return kept || !v.listed
}

// referrersTag is where referrers of d are kept without the referrers API.
func referrersTag(d oci.Digest) string { return strings.Replace(string(d), ":", "-", 1) }

// companions returns the tags by which cosign ties things to d. Those that
// begin with its digest are all of them once the tags were listed; else the
// usual ones are asked for.
func (v *view) companions(ctx context.Context, d oci.Digest) ([]string, error) {
	if err := v.list(ctx, false, manyNames); err != nil && !isRefused(err) {
		return nil, err
	}
	prefix := referrersTag(d) + "."
	var found []string
	v.mu.Lock()
	listed := v.listed
	for tag := range v.tags {
		if strings.HasPrefix(tag, prefix) {
			found = append(found, tag)
		}
	}
	v.mu.Unlock()
	if listed {
		return found, nil
	}
	for _, suffix := range []string{"sig", "att", "sbom"} {
		_, err := v.resolve(ctx, prefix+suffix)
		if err != nil && !isMissing(err) {
			return nil, err
		}
		if err == nil {
			found = append(found, prefix+suffix)
		}
	}
	return found, nil
}
