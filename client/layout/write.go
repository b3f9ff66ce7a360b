package layout

import (
	"archive/tar"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
)

// Content is what of one repository goes into an archive.
type Content struct {
	From      oci.Reader
	Repo      string           // Where From has it.
	Name      Name             // What the repository is called in the archive; Tag does not count.
	Tags      []Tag            // In the order that the archive shall have.
	Manifests []oci.Manifest   // Those of Tags, all that they need, and others.
	Blobs     []oci.Descriptor // Those of Manifests that exist.
}

// Tag is a tag with what it points to.
type Tag struct {
	Tag    string
	Digest oci.Digest
}

// WriteArchive writes a tar file with the contents, each blob once, straight
// from where it is. An OCI layout for those that read it, it has manifest.json
// for docker load, too, which knows no index: of one it gets the image for
// linux/amd64, or else the first. Manifests to which no tag leads are entries
// without one, as referrers are. The same contents give the same bytes.
//
// Each blob is verified while it passes by. A wrong one is
// [oci.DigestInvalid] or [oci.SizeInvalid], a tag of what Manifests lack
// [oci.ManifestUnknown]; what was written until then is no archive.
func WriteArchive(ctx context.Context, w io.Writer, contents ...Content) error {
	a := &archiver{tar: tar.NewWriter(w), nodes: map[oci.Digest]*node{}, written: map[oci.Digest]bool{}}
	for _, c := range contents {
		for _, m := range c.Manifests {
			a.nodes[m.Descriptor.Digest] = newNode(m.Descriptor.Digest, m.Raw)
		}
	}
	index, docker, err := a.lists(contents)
	if err != nil {
		return err
	}
	if err := first(
		a.file(ocispec.ImageLayoutFile, layoutFile()),
		a.file(ocispec.ImageIndexFile, mustJSON(index)),
		a.file(dockerFile, mustJSON(docker)),
	); err != nil {
		return err
	}
	for _, c := range contents {
		if err := a.content(ctx, c); err != nil {
			return err
		}
	}
	return a.tar.Close()
}

// archiver is one writing of an archive.
type archiver struct {
	tar     *tar.Writer
	nodes   map[oci.Digest]*node
	written map[oci.Digest]bool
}

// lists makes what index.json and manifest.json say.
func (a *archiver) lists(contents []Content) (ocispec.Index, []dockerImage, error) {
	index, docker := emptyIndex(), []dockerImage{}
	times := map[string]int{} // That a tag is there.
	for _, c := range contents {
		for _, t := range c.Tags {
			times[t.Tag]++
		}
	}
	for _, c := range contents {
		name := c.Name
		for _, t := range c.Tags {
			name.Tag = t.Tag
			n := a.nodes[t.Digest]
			if n == nil {
				return index, docker, oci.Errorf(oci.ManifestUnknown, "no manifest %s for %s", t.Digest, name)
			}
			index.Manifests = append(index.Manifests, entryFor(n, name, times[t.Tag] == 1))
			if image, ok := a.forDocker(n); ok {
				image.RepoTags = []string{dockerTag(name)}
				docker = append(docker, image)
			}
		}
		name.Tag = ""
		for _, n := range a.untagged(c) {
			index.Manifests = append(index.Manifests, entryFor(n, name, false))
		}
	}
	return index, docker, nil
}

// untagged returns the manifests of c to which neither a tag leads nor another
// manifest.
func (a *archiver) untagged(c Content) []*node {
	led := map[oci.Digest]bool{}
	for _, t := range c.Tags {
		led[t.Digest] = true
	}
	for _, m := range c.Manifests {
		for _, child := range a.nodes[m.Descriptor.Digest].children {
			led[child.Digest] = true
		}
	}
	var found []*node
	for _, m := range sorted(c.Manifests, manifestDigest) {
		if d := m.Descriptor.Digest; !led[d] {
			led[d] = true
			found = append(found, a.nodes[d])
		}
	}
	return found
}

// sorted returns list in the order of digests: it comes as it was found.
func sorted[T any](list []T, digest func(T) oci.Digest) []T {
	return slices.SortedStableFunc(slices.Values(list), func(a, b T) int { return cmp.Compare(digest(a), digest(b)) })
}

func manifestDigest(m oci.Manifest) oci.Digest { return m.Descriptor.Digest }

func blobOf(d oci.Descriptor) oci.Digest { return d.Digest }

// entryFor names a manifest as docker and buildx do. That the tag stands alone
// is what skopeo looks for; it must be the only one.
func entryFor(n *node, name Name, only bool) oci.Descriptor {
	entry := plain(n.desc)
	if n.graph.Subject != nil {
		entry.ArtifactType = n.graph.ArtifactType
	}
	if name.Host == "" {
		return rename(entry, name.Repo, name.Tag)
	}
	full := name
	if name.Host == hub {
		full.Repo = hubRepo(name.Repo)
	}
	switch {
	case name.Tag == "":
		entry.Annotations = map[string]string{ocispec.AnnotationRefName: full.String() + "@" + string(entry.Digest)}
	case only:
		entry.Annotations = map[string]string{annotationName: full.String(), ocispec.AnnotationRefName: name.Tag}
	default:
		entry.Annotations = map[string]string{annotationName: full.String(), ocispec.AnnotationRefName: full.String()}
	}
	return entry
}

// dockerTag is the name as docker lists it.
func dockerTag(n Name) string {
	if n.Host == hub {
		n.Host = ""
	}
	return n.String()
}

// forDocker describes an image to docker load. It is false for what docker
// cannot run.
func (a *archiver) forDocker(n *node) (dockerImage, bool) {
	if n.graph.IsIndex() {
		var best *node
		rank := 0
		for _, child := range n.children {
			if found := a.nodes[child.Digest]; found != nil && preferred(child.Platform) > rank {
				best, rank = found, preferred(child.Platform)
			}
		}
		return a.forDockerIf(best)
	}
	return a.forDockerIf(n)
}

func (a *archiver) forDockerIf(n *node) (dockerImage, bool) {
	if n == nil || n.graph.IsIndex() || n.graph.Subject != nil {
		return dockerImage{}, false
	}
	if t := n.graph.Config.MediaType; t != dockerConfig && t != ocispec.MediaTypeImageConfig {
		return dockerImage{}, false
	}
	image := dockerImage{Config: blobName(n.graph.Config.Digest), Layers: []string{}}
	for _, l := range n.graph.Layers {
		image.Layers = append(image.Layers, blobName(l.Digest))
	}
	return image, true
}

// content writes manifests and blobs that are not written yet.
func (a *archiver) content(ctx context.Context, c Content) error {
	for _, m := range sorted(c.Manifests, manifestDigest) {
		d := m.Descriptor.Digest
		if a.written[d] {
			continue
		}
		a.written[d] = true
		if err := a.file(blobName(d), m.Raw); err != nil {
			return err
		}
	}
	for _, b := range sorted(c.Blobs, blobOf) {
		if a.written[b.Digest] {
			continue
		}
		a.written[b.Digest] = true
		if err := a.blob(ctx, c, b); err != nil {
			return fmt.Errorf("blob %s of %s: %w", b.Digest, c.Repo, err)
		}
	}
	return nil
}

func (a *archiver) blob(ctx context.Context, c Content, b oci.Descriptor) error {
	r, err := c.From.Blob(ctx, c.Repo, b.Digest)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := a.head(blobName(b.Digest), b.Size); err != nil {
		return err
	}
	sum := b.Digest.Verifier()
	n, err := io.CopyBuffer(io.MultiWriter(a.tar, sum), until(ctx, r), make([]byte, 256<<10))
	switch {
	case errors.Is(err, tar.ErrWriteTooLong):
		return oci.Errorf(oci.SizeInvalid, "it has more than %d bytes", b.Size)
	case err != nil:
		return err
	case n != b.Size:
		return oci.Errorf(oci.SizeInvalid, "it has %d bytes, not %d", n, b.Size)
	case !sum.Verified():
		return oci.Errorf(oci.DigestInvalid, "its content has another digest")
	}
	return nil
}

// readerFunc is a function that reads.
type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// until reads r as long as ctx is not done.
func until(ctx context.Context, r io.Reader) io.Reader {
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return r.Read(p)
	})
}

func (a *archiver) file(name string, data []byte) error {
	if err := a.head(name, int64(len(data))); err != nil {
		return err
	}
	_, err := a.tar.Write(data)
	return err
}

// head writes the header of a file; every archive has the same time in it.
func (a *archiver) head(name string, size int64) error {
	return a.tar.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
	})
}
