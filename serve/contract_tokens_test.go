//go:build unix

package serve

import (
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	away "github.com/regctl/regctl/client"
	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// alone is a keychain of one login.
type alone struct{ name, password string }

func (a alone) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &authn.Basic{Username: a.name, Password: a.password}, nil
}

// The whole way of a client: tokens for what it is about to do, and a store
// behind rules. Who may do everything notices neither.
func TestContractOfClientWithTokens(t *testing.T) {
	t.Parallel()
	lacking := claims
	lacking.NoAnyMount = "nobody may have what was not named"
	lacking.Others = map[string]string{"foreign layers may be missing": "the section validation wants their URLs"}
	ocitest.Run(t, func(t testing.TB) oci.Registry {
		s := adviseEmpty(t, "", `
storage: {delete: {enabled: true}}
validation: {manifests: {indexes: {platforms: none}}}`+advisedRules)
		c, err := away.New(s.addr, away.Options{Keychain: alone{"alice", passwordOf("alice")}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}, lacking)
}
