//go:build unix

package serve

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// A registry with all that can be wrapped around a store is the same registry.
func TestContractOfAssembly(t *testing.T) {
	t.Parallel()
	client := &http.Client{Transport: down{}}
	c := configured(t, `
storage: {delete: {enabled: true}}
http: {debug: {addr: '127.0.0.1:0', prometheus: {enabled: true}}}
health: {storagedriver: {enabled: true}}
validation: {manifests: {indexes: {platforms: list, platformlist: [{architecture: none, os: none}]}}}
notifications: {events: {includereferences: true}, endpoints: [{name: dead, url: 'http://dead.test/'}]}
`)
	lacking := claims
	lacking.Others = map[string]string{"foreign layers may be missing": "the section validation wants their URLs"}
	ocitest.Run(t, func(t testing.TB) oci.Registry {
		a, err := Assemble(t.Context(), Parts{Config: c, Dir: t.TempDir(), Client: client})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- a.Serve(ctx) }()
		t.Cleanup(func() {
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
		return remote{"http://" + a.Addrs()[0].String()}
	}, lacking)
}

// down answers nothing.
type down struct{}

func (down) RoundTrip(*http.Request) (*http.Response, error) { return nil, errors.New("down") }
