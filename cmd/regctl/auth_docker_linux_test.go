package main_test

import "testing"

// testDockerLogin: docker login, and a push and a pull that need it.
func testDockerLogin(t *testing.T, d tool) {
	s := startWithLogins(t, loginUser+":"+loginPassword)
	ref := s.addr + "/team/app:one"
	d.run(t, "import", layer(t, ref), ref)
	exerciseLogin(t, s, loginClient{
		tool: d, denied: "no basic auth credentials",
		login: always("login", "-u", loginUser, "-p"), logout: always("logout"),
		push: always("push", ref),
		pull: func(t *testing.T) []string {
			d.run(t, "rmi", "-f", ref)
			return []string{"pull", ref}
		},
	})
}
