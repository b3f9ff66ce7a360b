package transfer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

// ParsePlatform reads OS/ARCHITECTURE[/VARIANT], as in linux/arm64/v8.
// Errors: [oci.ManifestUnknown] never; one of no code for another form.
func ParsePlatform(s string) (oci.Platform, error) {
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return oci.Platform{}, fmt.Errorf("platform %q: OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/arm64", s)
	}
	p := oci.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

// Matches tells whether what has is what was asked for. A variant that was not
// asked for may be any.
func Matches(asked, has oci.Platform) bool {
	return asked.OS == has.OS && asked.Architecture == has.Architecture &&
		(asked.Variant == "" || asked.Variant == has.Variant || isV8(asked) && isV8(has))
}

// isV8: of arm64, v8 goes without saying.
func isV8(p oci.Platform) bool {
	return p.Architecture == "arm64" && (p.Variant == "" || p.Variant == "v8")
}

func platformName(p oci.Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// runs tells whether an index means d to be run: attestations are not.
func runs(d oci.Descriptor) bool {
	return d.Annotations[attestationOf] == "" && (d.Platform == nil || d.Platform.OS != "unknown")
}

// attestationOf is the annotation of a manifest in an index that names the one
// that it attests; by buildkit.
const attestationOf = "vnd.docker.reference.digest"

// choose returns the manifest that has only the wanted platforms of whole.
func (p *planner) choose(ctx context.Context, repo string, whole oci.Manifest) (oci.Manifest, error) {
	g, err := oci.ParseManifest("", whole.Raw)
	if err != nil {
		return oci.Manifest{}, err
	}
	whole.Descriptor.MediaType = g.MediaType
	if !g.IsIndex() {
		return whole, p.checkPlatform(ctx, repo, g)
	}
	chosen, err := choosePlatforms(g.Manifests, p.o.Platforms)
	if err != nil {
		return oci.Manifest{}, err
	}
	if len(p.o.Platforms) == 1 && countRuns(chosen) == 1 {
		i := slices.IndexFunc(chosen, runs)
		return p.manifest(ctx, p.src, Source, repo, string(chosen[i].Digest))
	}
	return narrowed(whole, chosen)
}

func countRuns(list []oci.Descriptor) int {
	n := 0
	for _, d := range list {
		if runs(d) {
			n++
		}
	}
	return n
}

// choosePlatforms returns those of list that are for one of platforms, and
// their attestations, in order.
func choosePlatforms(list []oci.Descriptor, platforms []oci.Platform) ([]oci.Descriptor, error) {
	chosen := map[oci.Digest]bool{}
	var available []string
	matched := make([]bool, len(platforms))
	for _, d := range list {
		if d.Platform == nil || !runs(d) {
			continue
		}
		available = append(available, platformName(*d.Platform))
		for i, asked := range platforms {
			if Matches(asked, *d.Platform) {
				chosen[d.Digest], matched[i] = true, true
			}
		}
	}
	if i := slices.Index(matched, false); i >= 0 {
		return nil, oci.Errorf(oci.ManifestUnknown, "nothing for %s; there is %s", platformName(platforms[i]), strings.Join(available, ", "))
	}
	return slices.DeleteFunc(slices.Clone(list), func(d oci.Descriptor) bool {
		return !chosen[d.Digest] && !chosen[oci.Digest(d.Annotations[attestationOf])]
	}), nil
}

// narrowed returns an index that names only the chosen ones of whole, and is
// else the same.
func narrowed(whole oci.Manifest, chosen []oci.Descriptor) (oci.Manifest, error) {
	var fields map[string]json.RawMessage
	var list, kept []json.RawMessage
	if err := json.Unmarshal(whole.Raw, &fields); err != nil {
		return oci.Manifest{}, err
	}
	if err := json.Unmarshal(fields["manifests"], &list); err != nil {
		return oci.Manifest{}, err
	}
	for _, raw := range list {
		var d oci.Descriptor
		if err := json.Unmarshal(raw, &d); err != nil {
			return oci.Manifest{}, err
		}
		if slices.ContainsFunc(chosen, func(c oci.Descriptor) bool { return c.Digest == d.Digest }) {
			kept = append(kept, raw)
		}
	}
	if len(kept) == len(list) {
		return whole, nil
	}
	var err error
	if fields["manifests"], err = json.Marshal(kept); err != nil {
		return oci.Manifest{}, err
	}
	raw, err := json.Marshal(fields)
	if err != nil {
		return oci.Manifest{}, err
	}
	d := oci.Descriptor{MediaType: whole.Descriptor.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	return oci.Manifest{Descriptor: d, Raw: raw}, nil
}

// maxConfig is how much of a config is read for its platform.
const maxConfig = 8 << 20

// checkPlatform returns an error unless a single image is for all of the
// platforms that are asked for.
func (p *planner) checkPlatform(ctx context.Context, repo string, g *oci.Graph) error {
	free, err := p.slot(ctx)
	if err != nil {
		return err
	}
	defer free()
	b, err := p.src.call().Blob(ctx, repo, g.Config.Digest)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }() // It was only read.
	raw, err := io.ReadAll(io.LimitReader(b, maxConfig))
	if err != nil {
		return err
	}
	var is oci.Platform
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&is); err != nil {
		return oci.Errorf(oci.ManifestUnknown, "its config tells no platform")
	}
	for _, asked := range p.o.Platforms {
		if !Matches(asked, is) {
			return oci.Errorf(oci.ManifestUnknown, "nothing for %s; it is an image for %s only", platformName(asked), platformName(is))
		}
	}
	return nil
}
