package token

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/regctl/regctl/serve/auth"
)

// TestTrustLongToken: a token for a thousand repositories is good, and not
// remembered: who may ask for some thousand of them fills no memory. One with a
// chain of certificates is, as any other.
func TestTrustLongToken(t *testing.T) {
	t.Parallel()
	clock, dir := newManual(), t.TempDir()
	k := openKeys(t, dir, clock)
	for _, c := range []struct{ rights, remembered int }{{1, 1}, {500, 0}} {
		trust, err := OpenTrust(TrustOptions{Issuer: "regctl", Service: "reg.example.com", RootCertBundle: filepath.Join(dir, caCertificate), Now: clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		said := alice(clock.Now())
		said.Access = nil
		for i := range c.rights {
			said.Access = append(said.Access, auth.Access{Type: "repository", Name: fmt.Sprintf("a/%d", i), Actions: []string{"pull"}})
		}
		raw := issueTo(t, k, said, false)
		for range 2 {
			if got, err := trust.Verify(raw); err != nil || len(got.Access) != c.rights {
				t.Errorf("%d rights: %v", c.rights, err)
			}
		}
		if n := trust.now.Load().verified.Len(); n != c.remembered {
			t.Errorf("%d rights: %d remembered, want %d", c.rights, n, c.remembered)
		}
	}
}
