package client_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/regctl/regctl/client"
	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/store"
)

// dial is a client of what h serves.
func dial(t testing.TB, h http.Handler, o client.Options) *client.Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	c, err := client.New(server.Listener.Addr().String(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// ours is the HTTP API of regctl serve over an empty store in memory.
func ours(t testing.TB) http.Handler {
	t.Helper()
	st, err := store.New(t.Context(), mem.New(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return serve.NewHandler(st, serve.Options{})
}

func TestRegctlServeFromAfarIsARegistry(t *testing.T) {
	ocitest.Run(t, func(t testing.TB) oci.Registry { return dial(t, ours(t), client.Options{}) }, ocitest.Exceptions{
		NoClaims: "a handle on the other end of HTTP claims an upload for one request only",
	})
}

// The registry of go-containerregistry is what many others test with. It has no
// referrers API unless told to, so that referrers are kept by hand.
func TestOthersAreARegistryAsFarAsTheyGo(t *testing.T) {
	const (
		oneStore  = "its blobs are not those of a repository"
		unchecked = "it takes anything for a manifest"
		noStatus  = "it does not tell how far an upload got"
		noMount   = "it mounts nothing"
		dangling  = "it does not look for tags of what it deletes"
	)
	ocitest.Run(t, func(t testing.TB) oci.Registry {
		return dial(t, registry.New(registry.Logger(log.New(io.Discard, "", 0))), client.Options{})
	}, ocitest.Exceptions{
		NoClaims:      "a handle on the other end of HTTP claims an upload for one request only",
		NoSHA512:      "its manifests are addressed by sha256",
		NoAnyMount:    noMount,
		NoProtection:  "it deletes whatever it is asked to",
		NoRepoDelete:  "only regctl serve deletes repositories",
		NoSizeLimit:   unchecked,
		LaxManifests:  unchecked,
		StrictIndexes: "it refuses an index of what is missing",
		NoOverwrite:   "it decides nothing about tags, so that of pushes at the same time several win",
		Others: map[string]string{
			"a manifest of schema 1 is refused":                                   unchecked,
			"what is not a manifest is refused":                                   unchecked,
			"an image whose config or layer is missing is refused":                unchecked,
			"a blob of another repository is missing here":                        oneStore,
			"a blob of another repository is unknown here":                        oneStore,
			"an unknown blob is BLOB_UNKNOWN":                                     oneStore,
			"DeleteBlob ends the membership in one repository":                    oneStore,
			"DeleteBlob of an unknown blob is BLOB_UNKNOWN":                       oneStore,
			"a mounted blob is a member of both repositories":                     noMount,
			"a mount from a repository without the blob becomes an upload":        oneStore,
			"a blob may be mounted from the repository it is in":                  noMount,
			"many mounts of one blob all succeed":                                 noMount,
			"an upload is found again by its id":                                  noStatus,
			"an upload goes on where a broken reader left it":                     noStatus,
			"Commit ends the upload":                                              noStatus,
			"a handle that nobody wrote to claims nothing":                        noStatus,
			"a handle made before the upload grew is RANGE_INVALID":               noStatus,
			"an upload of another repository is unknown here":                     noStatus,
			"DeleteManifest removes the manifest and every tag that points to it": dangling,
			"a deleted manifest may be pushed again":                              dangling,
			"a subject may be deleted":                                            dangling,
			"a deletion and a push of one manifest leave no dangling tag":         dangling,
			"a repository leaves the catalogue with its last manifest":            "it lists what is empty",
			"tag details tell manifest, size, time and platform of an image":      "it does not tell when a tag was pushed",
		},
	})
}
