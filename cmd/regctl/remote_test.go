package main_test

import (
	"testing"

	remote "github.com/regctl/regctl/client"
	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// The real registry 2.8 holds to the contract as far as it was built for it.
func TestDockerRegistryFromAfarIsARegistry(t *testing.T) {
	peer(t, "docker-registry")
	const (
		unlocked  = "it decides nothing about tags, so that of pushes at the same time several win"
		otherCode = "it refuses with another code"
		onlyBlobs = "it lists what has a blob"
		dead      = "the id of its uploads changes with every write; an older one ends them"
	)
	ocitest.Run(t, func(t testing.TB) oci.Registry {
		c, err := remote.New(startDockerRegistry(t, t.TempDir()).addr, remote.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}, ocitest.Exceptions{
		NoClaims:      "a handle on the other end of HTTP claims an upload for one request only",
		NoSHA512:      "it knows sha256 only",
		NoAnyMount:    "it mounts from a repository that is named",
		NoTagDelete:   "it deletes no tag without its manifest",
		NoProtection:  "it deletes whatever it is asked to",
		NoRepoDelete:  "only regctl serve deletes repositories",
		NoCatalogue:   onlyBlobs,
		NoOverwrite:   unlocked,
		NoSizeLimit:   otherCode,
		StrictIndexes: "it refuses an index of what is missing",
		Others: map[string]string{
			"manifests are no blobs and blobs are no manifests":              "it keeps manifests among its blobs",
			"foreign layers may be missing":                                  "it refuses those of OCI",
			"a manifest with a malformed digest in it is refused":            otherCode,
			"what is not a manifest is refused":                              otherCode,
			"DeleteManifest of an unknown manifest is MANIFEST_UNKNOWN":      "it fails at a digest by sha512",
			"a deletion and a push of one manifest leave no dangling tag":    "it deletes while it is pushed to, and the other way round",
			"an upload is found again by its id":                             dead,
			"a handle made before the upload grew is RANGE_INVALID":          dead,
			"a repository of untagged manifests has no tags":                 "it knows no repository without tags",
			"tag details tell manifest, size, time and platform of an image": "it does not tell when a tag was pushed",
			"names at the limit of the grammar are accepted":                 "it takes shorter ones",
		},
	})
}
