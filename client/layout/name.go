package layout

import (
	"maps"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
)

// annotationName is where containerd, docker and buildx write whole references.
const annotationName = "io.containerd.image.name"

const hub = "docker.io"

// Name says what an entry of index.json is called.
type Name struct {
	Host string // Empty: not said.
	Repo string // Unnamed: not said. On Docker Hub without "library/".
	Tag  string // Empty: known by its digest only.
}

// String is the name as it is typed: [HOST/]REPO[:TAG].
func (n Name) String() string {
	s := n.Repo
	if n.Host != "" {
		s = n.Host + "/" + s
	}
	if n.Tag != "" {
		s += ":" + n.Tag
	}
	return s
}

// nameOf reads the name of an entry. What is no name by the grammar of
// registries leaves the entry to be known by its digest.
func nameOf(entry oci.Descriptor) Name {
	for _, key := range []string{annotationName, ocispec.AnnotationRefName} {
		s := entry.Annotations[key]
		if s == "" {
			continue
		}
		if n, ok := parseName(s); ok {
			return n
		}
	}
	return Name{Repo: Unnamed}
}

// parseName reads a tag, or [HOST/]REPO with :TAG or @DIGEST or both.
func parseName(s string) (Name, bool) {
	if !strings.ContainsAny(s, "/:@") {
		return Name{Repo: Unnamed, Tag: s}, oci.CheckTag(s) == nil
	}
	n := Name{Repo: s}
	n.Repo, _, _ = strings.Cut(n.Repo, "@")
	if first, rest, ok := strings.Cut(n.Repo, "/"); ok && isHost(first) {
		n.Host, n.Repo = first, rest
	}
	var tagged bool
	if n.Repo, n.Tag, tagged = strings.Cut(n.Repo, ":"); tagged && oci.CheckTag(n.Tag) != nil {
		return n, false
	}
	if n.Host == hub || n.Host == "index.docker.io" {
		n.Host = hub
		n.Repo = strings.TrimPrefix(n.Repo, "library/")
	}
	return n, oci.CheckRepo(n.Repo) == nil
}

// hubRepo is what Docker Hub calls a repository.
func hubRepo(repo string) string {
	if strings.Contains(repo, "/") {
		return repo
	}
	return "library/" + repo
}

// isHost tells the host of a reference from the first part of a repository, as
// docker does.
func isHost(first string) bool {
	return strings.ContainsAny(first, ".:") || first == "localhost"
}

// rename gives an entry of index.json the name REPO:TAG, or the one of an
// untagged manifest of repo. What else is said of it stays.
func rename(entry oci.Descriptor, repo, tag string) oci.Descriptor {
	entry.Annotations = maps.Clone(entry.Annotations)
	delete(entry.Annotations, annotationName)
	delete(entry.Annotations, ocispec.AnnotationRefName)
	if name := refName(repo, tag, entry.Digest); name != "" {
		if entry.Annotations == nil {
			entry.Annotations = map[string]string{}
		}
		entry.Annotations[ocispec.AnnotationRefName] = name
	}
	if len(entry.Annotations) == 0 {
		entry.Annotations = nil
	}
	return entry
}

// refName is what nameOf reads repo and tag from. Within the one repository of
// a layout it is what all tools expect.
func refName(repo, tag string, d oci.Digest) string {
	if repo == Unnamed {
		return tag
	}
	if first, _, ok := strings.Cut(repo, "/"); ok && isHost(first) {
		repo = "localhost/" + repo // Else the first part would be taken for a host.
	}
	if tag == "" {
		return repo + "@" + string(d)
	}
	return repo + ":" + tag
}

// blobName is the path of content in a layout.
func blobName(d oci.Digest) string {
	return ocispec.ImageBlobsDir + "/" + string(d.Algorithm()) + "/" + d.Encoded()
}

// blobDigest is the digest that a path in a layout is named for.
func blobDigest(path string) (oci.Digest, bool) {
	rest, ok := strings.CutPrefix(path, ocispec.ImageBlobsDir+"/")
	if !ok {
		return "", false
	}
	algorithm, hex, ok := strings.Cut(rest, "/")
	if !ok {
		return "", false
	}
	d, err := oci.ParseDigest(string(digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hex)))
	return d, err == nil
}
