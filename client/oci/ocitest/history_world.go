package ocitest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

// world is what histories are about: few enough names and contents that calls
// often meet.
type world struct {
	repos, tags []string
	blobs       []thing
	manifests   []thing
}

// thing is a blob or a manifest.
type thing struct {
	name   string
	raw    string
	digest oci.Digest
}

func newWorld() *world {
	w := &world{repos: []string{"a", "a-b", "a/b", "b"}, tags: []string{"1", "2", "latest"}}
	blob := func(name, raw string) oci.Descriptor {
		w.blobs = append(w.blobs, thing{name, raw, digest.FromString(raw)})
		d := Describe(imageLayer, raw)
		if name == "config" || name == "empty" {
			d.MediaType = imageConfig
		}
		return d
	}
	config, empty := blob("config", Config("linux/amd64", "2020-01-01T00:00:00Z")), blob("empty", "{}")
	layer1, layer2 := blob("layer1", "one"), blob("layer2", "two")
	blob("nothing", "")
	w.blobs = append(w.blobs, thing{"layer1 by sha512", "one", digest.SHA512.FromString("one")})
	long := oci.Descriptor{MediaType: imageLayer, Digest: digest.SHA512.FromString("one"), Size: 3}

	image1 := w.manifest("image1", NewImage(config, layer1))
	image2 := w.manifest("image2", NewImage(config, layer1, layer2, Describe(foreignLayer, "foreign")))
	w.manifest("image of sha512", NewImage(empty, long))
	index := w.manifest("index", NewIndex(image1, image2))
	w.manifest("outer index", NewIndex(index, Describe(oci.MediaTypeManifest, "missing")))
	w.manifest("index of a blob", NewIndex(layer2))
	artifact := NewImage(empty)
	artifact.Subject, artifact.ArtifactType = &image1, "application/example"
	artifact.Annotations = map[string]string{"key": "value"}
	signed := w.manifest("artifact on image1", artifact)
	onIndex := NewIndex(image1)
	onIndex.Subject = &index
	w.manifest("index on index", onIndex)
	onArtifact := NewImage(config)
	onArtifact.Subject = &signed
	w.manifest("image on artifact", onArtifact)
	w.manifest("schema 1", map[string]any{"schemaVersion": 1, "fsLayers": []string{}})
	image := w.manifests[0].raw
	w.manifests = append(w.manifests,
		thing{"image1 by sha512", image, digest.SHA512.FromString(image)},
		thing{"image1 by a wrong digest", image, digest.FromString("wrong")})
	return w
}

func (w *world) manifest(name string, of any) oci.Descriptor {
	raw, _ := json.Marshal(of) // Structs and maps of strings and numbers.
	t := thing{name, string(raw), digest.FromBytes(raw)}
	w.manifests = append(w.manifests, t)
	return oci.Descriptor{MediaType: oci.MediaTypeOf(raw), Digest: t.digest, Size: int64(len(raw))}
}

// step is one call with its arguments. Uploads are named by the slot that
// holds their handle, so that a step means the same whatever came before.
type step struct {
	kind           string
	repo, other    string
	tags           []string
	blob, manifest thing
	slot, into     int
	flag           bool
}

const slots = 3 // Handles of uploads that a history holds at most.

// kinds are what steps do, each as often as it should come.
func kinds() []string {
	var kinds []string
	for kind, weight := range map[string]int{
		"push": 12, "put": 16, "mount": 4, "stat blob": 3, "blob": 2, "manifest": 3, "resolve": 4,
		"delete tag": 4, "delete manifest": 5, "delete blob": 4, "delete repo": 1,
		"begin": 5, "find": 9, "write": 12, "commit": 4, "cancel": 2, "close": 6,
		"repos": 2, "tags": 3, "details": 2, "referrers": 3,
	} {
		for range weight {
			kinds = append(kinds, kind)
		}
	}
	slices.Sort(kinds) // The order of a map is not reproducible.
	return kinds
}

// randomSteps returns n steps, the same ones for the same seed.
func (w *world) randomSteps(seed uint64, n int) []step {
	r := rand.New(rand.NewPCG(seed, 0))
	pick := func(from []string) string { return from[r.IntN(len(from))] }
	kinds, steps := kinds(), make([]step, n)
	for i := range steps {
		steps[i] = step{
			kind: pick(kinds), repo: pick(w.repos), other: pick(append([]string{""}, w.repos...)),
			blob: w.blobs[r.IntN(len(w.blobs))], manifest: w.manifests[r.IntN(len(w.manifests))],
			slot: r.IntN(slots), into: r.IntN(slots), flag: r.IntN(2) == 0,
		}
		for range 1 + r.IntN(2) {
			steps[i].tags = append(steps[i].tags, pick(w.tags))
		}
	}
	return steps
}

// ref is the tag or the digest that a step asks for.
func (s step) ref() string {
	if s.flag {
		return s.tags[0]
	}
	return string(s.manifest.digest)
}

// was is the condition of a step that deletes a tag.
func (s step) was() oci.Digest {
	if s.flag {
		return s.manifest.digest
	}
	return ""
}

func (s step) String() string {
	switch s.kind {
	case "push", "stat blob", "blob", "delete blob":
		return fmt.Sprintf("%s %s %q", s.kind, s.repo, s.blob.name)
	case "mount":
		return fmt.Sprintf("mount %s %q from %q", s.repo, s.blob.name, s.other)
	case "put":
		return fmt.Sprintf("put %s %q tags %v, no overwrite: %v", s.repo, s.manifest.name, s.tags, s.flag)
	case "manifest", "resolve":
		if s.flag {
			return fmt.Sprintf("%s %s:%s", s.kind, s.repo, s.tags[0])
		}
		return fmt.Sprintf("%s %s %q", s.kind, s.repo, s.manifest.name)
	case "delete manifest", "referrers":
		return fmt.Sprintf("%s %s %q", s.kind, s.repo, s.manifest.name)
	case "delete tag":
		if s.flag {
			return fmt.Sprintf("delete tag %s:%s if it is %q", s.repo, s.tags[0], s.manifest.name)
		}
		return fmt.Sprintf("delete tag %s:%s", s.repo, s.tags[0])
	case "begin":
		return fmt.Sprintf("begin upload in %s as handle %d", s.repo, s.slot)
	case "find":
		if s.flag {
			return fmt.Sprintf("find the upload of handle %d as handle %d", s.slot, s.into)
		}
		return fmt.Sprintf("find the upload of handle %d in %s as handle %d", s.slot, s.repo, s.into)
	case "write", "commit":
		return fmt.Sprintf("%s %q by handle %d", s.kind, s.blob.name, s.slot)
	case "cancel", "close":
		return fmt.Sprintf("%s handle %d", s.kind, s.slot)
	case "repos":
		return fmt.Sprintf("repos after %q", s.other)
	case "tags", "details":
		return fmt.Sprintf("%s %s after %q", s.kind, s.repo, s.tags[0])
	}
	return s.kind + " " + s.repo
}
