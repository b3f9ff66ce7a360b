package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/regctl/regctl/client/oci"
)

// deletesOff is what to do about a registry:2 that deletes nothing.
const deletesOff = "deletes are off there; a registry:2 needs storage.delete.enabled: true in its config.yml, or REGISTRY_STORAGE_DELETE_ENABLED=true"

// DeleteTag removes a tag and nothing else. Regctl serve decides itself
// whether it still points to was; others are asked right before, and a push in
// that moment is lost.
// Errors: [oci.ManifestUnknown], [oci.TagMoved], [oci.Unsupported] (this
// registry deletes nothing, or no tags; the message says which).
func (c *Client) DeleteTag(ctx context.Context, repo, tag string, was oci.Digest) error {
	if err := oci.CheckRepo(repo); err != nil {
		return err
	}
	if err := oci.CheckTag(tag); err != nil {
		return err
	}
	r := c.deleteRequest(repo, "/manifests/"+tag, c.subject(repo, tag))
	if was != "" {
		if _, err := oci.ParseDigest(string(was)); err != nil {
			return err
		}
		ours, err := c.has(ctx, takesCondition)
		if err == nil && !ours {
			err = c.mustPoint(ctx, repo, tag, was)
		}
		if err != nil {
			return err
		}
		r.again = func() error { return c.mustPoint(ctx, repo, tag, was) }
		if ours {
			r.again = nil
			r.header = http.Header{"If-Match": {`"` + string(was) + `"`}}
		}
	}
	err := c.delete(ctx, r)
	if err == nil || errors.Is(err, oci.TagMoved) {
		return err
	}
	return c.explainTag(ctx, repo, tag, err)
}

// mustPoint fails unless tag points to was.
func (c *Client) mustPoint(ctx context.Context, repo, tag string, was oci.Digest) error {
	now, err := c.Resolve(ctx, repo, tag)
	if err == nil && now.Digest != was {
		err = oci.Errorf(oci.TagMoved, "%s is at %s now", c.subject(repo, tag), now.Digest)
	}
	return err
}

func (c *Client) deleteRequest(repo, path, subject string) request {
	return request{
		method: http.MethodDelete, path: "/v2/" + repo + path, subject: subject,
		scope:  scope{repo: repo, actions: "delete"},
		accept: []int{http.StatusAccepted, http.StatusOK, http.StatusNoContent},
	}
}

func (c *Client) delete(ctx context.Context, r request) error {
	resp, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// explainTag finds out what err, the answer to the deletion of a tag, means:
// registries without it have many ways to say so.
func (c *Client) explainTag(ctx context.Context, repo, tag string, err error) error {
	coded := oci.AsError(err)
	switch coded.Code {
	case oci.Unauthorized, oci.Denied, oci.TooManyRequests, oci.Unavailable, oci.InsufficientStorage:
		return err
	}
	if ours, hasErr := c.has(ctx, takesCondition); hasErr != nil || ours {
		return missing(err, oci.ManifestUnknown)
	}
	if _, still := c.Resolve(ctx, repo, tag); errors.Is(still, oci.ManifestUnknown) {
		return still
	}
	switch coded.Code {
	case oci.Unsupported:
		if c.deletesNothing(ctx, repo) {
			return c.unsupported(err, c.subject(repo, tag)+": "+deletesOff)
		}
	case oci.DigestInvalid, oci.TagInvalid, oci.ManifestInvalid, oci.NotFound, oci.ManifestUnknown, oci.NameUnknown, oci.Unknown:
	default:
		return err
	}
	return c.unsupported(err, fmt.Sprintf("%s: %s cannot delete a tag without its manifest (registry:2 can from 3.0 on)", c.subject(repo, tag), c.host))
}

func (c *Client) unsupported(err error, message string) error {
	return &oci.Error{Code: oci.Unsupported, Message: message, Err: err}
}

// deletesNothing tells a registry that deletes nothing at all from one that
// deletes no tags, by a deletion of what nobody has: a manifest without a byte.
func (c *Client) deletesNothing(ctx context.Context, repo string) bool {
	d := digestOf(nil)
	err := c.delete(ctx, c.deleteRequest(repo, "/manifests/"+string(d), c.subject(repo, string(d))))
	return errors.Is(err, oci.Unsupported)
}

// DeleteManifest removes a manifest and every tag that points to it. Where
// there is no referrers API, it is taken off the list of its subject.
// Errors: [oci.ManifestUnknown], [oci.Unsupported].
func (c *Client) DeleteManifest(ctx context.Context, repo string, d oci.Digest) error {
	if err := checkDigest(repo, d); err != nil {
		return err
	}
	subject, err := c.subjectOf(ctx, repo, d)
	if err != nil {
		return err
	}
	err = c.delete(ctx, c.deleteRequest(repo, "/manifests/"+string(d), c.subject(repo, string(d))))
	if err != nil {
		return c.explainDelete(ctx, missing(err, oci.ManifestUnknown), c.subject(repo, string(d)))
	}
	c.traits.forget(repo, d)
	if subject == "" {
		return nil
	}
	return c.dropReferrer(ctx, repo, d, subject)
}

// subjectOf returns the subject under which d is listed by hand; empty: none.
func (c *Client) subjectOf(ctx context.Context, repo string, d oci.Digest) (oci.Digest, error) {
	if ours, err := c.has(ctx, takesCondition); ours || err != nil {
		return "", err
	}
	if c.traits.get(&c.traits.referrers) == yes {
		return "", nil
	}
	raw, ok := c.cached(d)
	if !ok {
		m, err := c.getManifest(ctx, repo, string(d))
		if err != nil {
			return "", err
		}
		raw = m.Raw
	}
	g, err := oci.ParseManifest("", raw)
	if err != nil || g.Subject == nil {
		return "", nil
	}
	if lists, err := c.listsReferrers(ctx, repo, g.Subject.Digest); lists || err != nil {
		return "", err
	}
	return g.Subject.Digest, nil
}

// explainDelete says what to do about a registry:2 that deletes nothing. Ours
// says so itself.
func (c *Client) explainDelete(ctx context.Context, err error, subject string) error {
	if !errors.Is(err, oci.Unsupported) {
		return err
	}
	if ours, hasErr := c.has(ctx, takesCondition); ours || hasErr != nil {
		return err
	}
	return c.unsupported(err, subject+": "+deletesOff)
}

// DeleteBlob ends the membership of a blob in repo.
// Errors: [oci.BlobUnknown], [oci.Unsupported].
func (c *Client) DeleteBlob(ctx context.Context, repo string, d oci.Digest) error {
	if err := checkDigest(repo, d); err != nil {
		return err
	}
	err := c.delete(ctx, c.deleteRequest(repo, "/blobs/"+string(d), c.subject(repo, string(d))))
	return c.explainDelete(ctx, missing(err, oci.BlobUnknown), c.subject(repo, string(d)))
}

// DeleteRepo removes a repository. Only regctl serve can.
// Errors: [oci.NameUnknown], [oci.Unsupported].
func (c *Client) DeleteRepo(ctx context.Context, repo string) error {
	if err := oci.CheckRepo(repo); err != nil {
		return err
	}
	can, err := c.has(ctx, deletesRepos)
	if err != nil {
		return err
	}
	if !can {
		return oci.Errorf(oci.Unsupported, "%s cannot delete a whole repository; delete the manifests of %s", c.host, repo)
	}
	c.traits.forgetRepo(repo)
	return c.delete(ctx, c.deleteRequest(repo, "", c.host+"/"+repo))
}
