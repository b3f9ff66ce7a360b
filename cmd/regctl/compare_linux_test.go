package main_test

import "testing"

// docker too gets the answers it knows.
func TestAnswersToDockerAsRegistry2(t *testing.T) {
	t.Parallel()
	peer(t, "docker-registry")
	d := startDockerd(t)
	for _, login := range []bool{false, true} {
		compareSession(t, session{name: "docker", login: login, do: func(t *testing.T, host string) { dockerSession(t, d, host, login) }})
	}
}

func dockerSession(t *testing.T, d tool, host string, login bool) {
	ref := host + "/team/app:one"
	d.run(t, "import", layer(t, ref), ref)
	if login {
		d.fails(t, "push", ref)
		d.fails(t, "login", "-u", "alice", "-p", "wrong", host)
		d.run(t, "login", "-u", "alice", "-p", "secret", host)
	}
	d.run(t, "push", ref)
	d.run(t, "push", ref)
	d.run(t, "tag", ref, host+"/team/app:two")
	d.run(t, "push", "--all-tags", host+"/team/app")
	d.run(t, "tag", ref, host+"/other/app:two")
	d.run(t, "push", host+"/other/app:two")
	d.run(t, "rmi", ref, host+"/team/app:two", host+"/other/app:two")
	d.run(t, "pull", ref)
	d.run(t, "pull", ref)
	d.run(t, "pull", "--all-tags", host+"/team/app")
	d.run(t, "manifest", "inspect", "--insecure", ref)
	for _, missing := range []string{"/team/app:missing", "/no/such:one", "/team/app@sha256:0000000000000000000000000000000000000000000000000000000000000000"} {
		d.fails(t, "pull", host+missing)
	}
	if login {
		d.run(t, "logout", host)
	}
}
