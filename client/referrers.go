package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/url"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
)

// maxRounds is how often the index of referrers is written when others keep
// changing it.
const maxRounds = 5

// mostEncoded is how much of a digest the specification puts into the name of
// a tag.
const mostEncoded = 64

// maxReferrers is how many of one manifest are kept in memory.
const maxReferrers = 1 << 16

// Referrers lists the manifests whose subject is d, in order of their digests:
// by the referrers API, else from the index under the tag that stands in for
// it.
func (c *Client) Referrers(ctx context.Context, repo string, d oci.Digest, artifactType string) iter.Seq2[oci.Descriptor, error] {
	return func(yield func(oci.Descriptor, error) bool) {
		if err := checkDigest(repo, d); err != nil {
			yield(oci.Descriptor{}, err)
			return
		}
		all, err := c.referrers(ctx, repo, d, artifactType)
		slices.SortFunc(all, func(a, b oci.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
		all = slices.CompactFunc(all, func(a, b oci.Descriptor) bool { return a.Digest == b.Digest })
		for _, one := range all {
			if artifactType != "" && one.ArtifactType != artifactType {
				continue // Not every registry filters.
			}
			if !yield(one, nil) {
				return
			}
		}
		if err != nil {
			yield(oci.Descriptor{}, err)
		}
	}
}

// referrers returns what there is in any order.
func (c *Client) referrers(ctx context.Context, repo string, d oci.Digest, artifactType string) ([]oci.Descriptor, error) {
	if c.traits.get(&c.traits.referrers) != no {
		all, err := c.askReferrers(ctx, repo, d, artifactType)
		switch {
		case err == nil:
			c.traits.learn(&c.traits.referrers, true)
			return all, nil
		case !isAbsent(err):
			return nil, err
		case !errors.Is(err, oci.NameUnknown): // Else it may be this repository that is not there.
			c.traits.learn(&c.traits.referrers, false)
		}
	}
	m, err := c.Manifest(ctx, repo, referrersTag(d))
	if errors.Is(err, oci.ManifestUnknown) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return listedIn(m.Raw)
}

// ReferrersByTag tells that the registry is known to have no referrers API: a
// manifest without the tag that stands in for it has no referrers.
func (c *Client) ReferrersByTag() bool { return c.traits.get(&c.traits.referrers) == no }

// methodUnknown is what some registries say of what they do not have.
const methodUnknown = oci.Code("METHOD_UNKNOWN")

// isAbsent tells whether a registry has no idea of what it was asked.
func isAbsent(err error) bool {
	for _, code := range []oci.Code{oci.NotFound, oci.NameUnknown, oci.ManifestUnknown, oci.BlobUnknown, oci.Unsupported, methodUnknown} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// askReferrers asks the referrers API, page by page.
func (c *Client) askReferrers(ctx context.Context, repo string, d oci.Digest, artifactType string) (all []oci.Descriptor, err error) {
	l, err := c.connect(ctx)
	if err != nil {
		return nil, err
	}
	q := query{
		subject: c.subject(repo, string(d)), scope: scope{repo: repo, actions: "pull"}, key: "manifests",
		refused: func(err error) error { return err },
	}
	u := l.base().JoinPath("v2", repo, "referrers", string(d))
	if artifactType != "" {
		u.RawQuery = url.Values{"artifactType": {artifactType}}.Encode()
	}
	for next, more := u.String(), true; more && next != ""; {
		next, more = page(ctx, c, l, &q, next, decodeReferrer, func(one oci.Descriptor, pageErr error) bool {
			if err = pageErr; err == nil {
				all = append(all, one)
			}
			if err == nil && len(all) > maxReferrers {
				err = oci.Errorf(oci.Unknown, "%s has more than %d referrers", q.subject, maxReferrers)
			}
			return err == nil
		})
	}
	return all, err
}

func decodeReferrer(d *json.Decoder) (oci.Descriptor, error) {
	var one oci.Descriptor
	if err := d.Decode(&one); err != nil {
		return one, err
	}
	_, err := oci.ParseDigest(string(one.Digest))
	return one, err
}

// referrersTag stands in for the referrers API.
func referrersTag(d oci.Digest) string {
	tag := string(d.Algorithm()) + "-" + d.Encoded()
	return tag[:min(len(tag), len(d.Algorithm())+1+mostEncoded)]
}

func listedIn(raw []byte) ([]oci.Descriptor, error) {
	g, err := oci.ParseManifest("", raw)
	if err != nil || !g.IsIndex() {
		return nil, err
	}
	return g.Manifests, nil
}

// addReferrer lists a manifest under its subject, if it has one and the
// registry does not do so itself.
func (c *Client) addReferrer(ctx context.Context, repo string, desc oci.Descriptor, raw []byte) error {
	g, err := oci.ParseManifest("", raw)
	if err != nil || g.Subject == nil {
		return nil
	}
	if lists, err := c.listsReferrers(ctx, repo, g.Subject.Digest); lists || err != nil {
		return err
	}
	desc.ArtifactType, desc.Annotations = g.ArtifactType, g.Annotations
	return c.changeReferrers(ctx, repo, g.Subject.Digest, func(all []oci.Descriptor) []oci.Descriptor {
		if slices.ContainsFunc(all, func(one oci.Descriptor) bool { return one.Digest == desc.Digest }) {
			return all
		}
		return append(all, desc)
	})
}

// dropReferrer takes a manifest that was deleted off the list of its subject.
func (c *Client) dropReferrer(ctx context.Context, repo string, d, subject oci.Digest) error {
	return c.changeReferrers(ctx, repo, subject, func(all []oci.Descriptor) []oci.Descriptor {
		return slices.DeleteFunc(slices.Clone(all), func(one oci.Descriptor) bool { return one.Digest == d })
	})
}

// listsReferrers tells whether the registry has the referrers API.
func (c *Client) listsReferrers(ctx context.Context, repo string, d oci.Digest) (bool, error) {
	if known := c.traits.get(&c.traits.referrers); known != unknown {
		return known == yes, nil
	}
	_, err := c.askReferrers(ctx, repo, d, "")
	if err != nil && !isAbsent(err) {
		return false, err
	}
	c.traits.learn(&c.traits.referrers, err == nil)
	return err == nil, nil
}

// changeReferrers changes the index under the tag of a subject, and looks
// whether the change is still there afterwards: nothing keeps others from
// writing what they made of an older one. An index that cannot be read is left
// alone.
func (c *Client) changeReferrers(ctx context.Context, repo string, subject oci.Digest, change func([]oci.Descriptor) []oci.Descriptor) error {
	tag := referrersTag(subject)
	release, err := c.traits.turn(ctx, repo+":"+tag)
	if err != nil {
		return err
	}
	defer release()
	for range maxRounds {
		var all []oci.Descriptor
		m, err := c.getManifest(ctx, repo, tag)
		if err == nil {
			all, err = c.listed(repo, tag, m.Raw)
		}
		if err != nil && !errors.Is(err, oci.ManifestUnknown) {
			return err
		}
		changed := change(all)
		if len(changed) == len(all) {
			return nil
		}
		if err := c.putReferrers(ctx, repo, tag, changed); err != nil {
			return err
		}
	}
	return oci.Errorf(oci.Unavailable, "%s: others keep changing the list of referrers", c.subject(repo, tag))
}

// listed is what an index of referrers lists. Anything else under its tag is
// somebody's, and must stay.
func (c *Client) listed(repo, tag string, raw []byte) ([]oci.Descriptor, error) {
	g, err := oci.ParseManifest("", raw)
	if err == nil && !g.IsIndex() {
		err = oci.Errorf(oci.ManifestInvalid, "%s is no index, as the list of referrers is; it is left as it is", c.subject(repo, tag))
	}
	if err != nil {
		return nil, err
	}
	return g.Manifests, nil
}

func (c *Client) putReferrers(ctx context.Context, repo, tag string, all []oci.Descriptor) error {
	if all == nil {
		all = []oci.Descriptor{}
	}
	raw, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: oci.MediaTypeIndex, Manifests: all})
	if err != nil {
		return err
	}
	w := manifestPush{c: c, repo: repo, Put: oci.Put{Raw: raw}, desc: oci.Descriptor{MediaType: oci.MediaTypeIndex, Digest: digestOf(raw)}}
	_, err = w.put(ctx, tag, nil)
	return err
}

func digestOf(raw []byte) oci.Digest { return digest.FromBytes(raw) }
