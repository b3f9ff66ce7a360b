package client

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"strings"
	"sync"

	"github.com/regctl/regctl/client/oci"
)

// extensionsHeader of the answer to GET /v2/ lists what regctl serve does
// beyond the specification.
const extensionsHeader = "Regctl-Extensions"

// What a regctl serve may say of itself there.
const (
	listsDetails   = "tags"         // GET /v2/<name>/_regctl/tags.
	deletesRepos   = "repositories" // DELETE /v2/<name>.
	takesCondition = "conditions"   // If-Match on deletes, If-None-Match on pushes.
	keepsRecords   = "deletions"    // GET /v2/_regctl/deletions.
)

// trait is what is known of whether something is so.
type trait int

const (
	unknown trait = iota
	yes
	no
)

// traits are what was learned of a registry that the protocol leaves open.
type traits struct {
	mu         *sync.Mutex
	asked      bool // GET /v2/ was answered to somebody who may see it.
	extensions []string
	referrers  trait // It has the referrers API.
	chunk      int64 // The most that it takes in one PATCH; 0: anything.
	seen       map[string]bool
	falling    map[string]chan struct{} // Held by who changes the index under a tag of referrers.
}

// maxSeen bounds what is remembered of manifests that are there.
const maxSeen = 1 << 16

func newTraits() traits {
	return traits{mu: &sync.Mutex{}, seen: map[string]bool{}, falling: map[string]chan struct{}{}}
}

// greeted learns from the answer to GET /v2/.
func (t *traits) greeted(status int, h http.Header) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked = t.asked || status == http.StatusOK
	if said := h.Get(extensionsHeader); said != "" {
		t.asked = true
		t.extensions = strings.FieldsFunc(said, func(r rune) bool { return r == ',' || r == ' ' })
	}
}

// learn sets what is known to have been answered.
func (t *traits) learn(of *trait, is bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if *of = no; is {
		*of = yes
	}
}

func (t *traits) get(of *trait) trait {
	t.mu.Lock()
	defer t.mu.Unlock()
	return *of
}

// has tells whether the registry does something beyond the specification. One
// that greets nobody without a login is asked again with it.
func (c *Client) has(ctx context.Context, extension string) (bool, error) {
	if _, err := c.connect(ctx); err != nil {
		return false, err
	}
	c.traits.mu.Lock()
	asked := c.traits.asked
	c.traits.mu.Unlock()
	if !asked {
		resp, err := c.do(ctx, request{
			method: http.MethodGet, path: "/v2/", scope: scope{none: true}, subject: c.host,
			accept: []int{http.StatusOK, http.StatusUnauthorized, http.StatusForbidden},
		})
		head := http.Header{}
		switch {
		case err == nil:
			resp.Body.Close()
			head = resp.Header
		case !errors.Is(err, oci.Unauthorized) && !errors.Is(err, oci.Denied): // No token for a greeting: some have tokens for repositories only.
			return false, err
		}
		c.traits.greeted(http.StatusOK, head) // Asked again, it would not say more.
	}
	c.traits.mu.Lock()
	defer c.traits.mu.Unlock()
	for _, e := range c.traits.extensions {
		if e == extension {
			return true, nil
		}
	}
	return false, nil
}

// saw notes that a manifest is in repo.
func (t *traits) saw(repo string, d oci.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.seen) >= maxSeen {
		clear(t.seen)
	}
	t.seen[repo+"@"+string(d)] = true
}

func (t *traits) forget(repo string, d oci.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.seen, repo+"@"+string(d))
}

// forgetRepo notes that a repository is gone.
func (t *traits) forgetRepo(repo string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.seen, func(key string, _ bool) bool { return strings.HasPrefix(key, repo+"@") })
}

func (t *traits) sees(repo string, d oci.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen[repo+"@"+string(d)]
}

// limit is the most that goes into one PATCH; 0: there is none known.
func (t *traits) limit() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.chunk
}

func (t *traits) setLimit(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.chunk = n
}

// turn waits until nobody else of this process works on what key names.
func (t *traits) turn(ctx context.Context, key string) (release func(), err error) {
	t.mu.Lock()
	held, ok := t.falling[key]
	if !ok {
		held = make(chan struct{}, 1)
		t.falling[key] = held
	}
	t.mu.Unlock()
	select {
	case held <- struct{}{}:
		return func() { <-held }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
