package commands

import (
	"testing"

	"github.com/regctl/regctl/client/oci"
)

// TestHintForALogin: what our server tells users of docker is not told twice.
func TestHintForALogin(t *testing.T) {
	t.Parallel()
	at := target{host: "reg.lan:5000", repo: "app"}
	for said, want := range map[string]string{
		"authentication required; log in first: docker login reg.lan:5000":     "authentication required. Try: regctl login reg.lan:5000",
		"authentication required; log in first: docker login reg.lan:5000 (x)": "authentication required (x). Try: regctl login reg.lan:5000",
		"authentication required": "authentication required. Try: regctl login reg.lan:5000",
	} {
		if got := at.hint(&oci.Error{Code: oci.Unauthorized, Message: said}, "regctl ls", "app").Error(); got != want {
			t.Errorf("%q: got %q, want %q", said, got, want)
		}
	}
}
