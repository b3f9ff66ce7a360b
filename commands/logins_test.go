package commands

import (
	"testing"

	"github.com/regctl/regctl/client"
)

func TestLogins(t *testing.T) {
	t.Parallel()
	plain := &client.Login{Username: "u", Password: "p:q"}
	for _, c := range []struct {
		environ []string
		o       remoteOptions
		host    string
		want    *client.Login
		status  int
	}{
		{nil, remoteOptions{}, "localhost:5000", nil, 0},
		{[]string{"REGCTL_USERNAME=u", "REGCTL_PASSWORD=p:q"}, remoteOptions{}, "localhost:5000", plain, 0},
		// A login goes to no other registry than the one it is for.
		{[]string{"REGCTL_USERNAME=u", "REGCTL_PASSWORD=p:q"}, remoteOptions{}, "evil.example", nil, 0},
		{[]string{"REGCTL_USERNAME=u", "REGCTL_PASSWORD=p:q", "REGCTL_REGISTRY=https://a.lan/"}, remoteOptions{}, "a.lan", plain, 0},
		{[]string{"REGCTL_USERNAME=u", "REGCTL_PASSWORD=p:q"}, remoteOptions{Registry: "b.lan"}, "b.lan", plain, 0},
		{[]string{"REGCTL_TOKEN=t"}, remoteOptions{}, "localhost:5000", &client.Login{RegistryToken: "t"}, 0},
		{[]string{"REGCTL_AUTH_MY_LAN_5000=u:p:q"}, remoteOptions{}, "my.lan:5000", plain, 0},
		{[]string{"REGCTL_AUTH_MY_LAN_5000=u:p:q"}, remoteOptions{}, "my.lan:5001", nil, 0},
		{[]string{"REGCTL_AUTH_MY_LAN=x:y"}, remoteOptions{Login: "u:p:q"}, "my.lan", plain, 0},
		{[]string{"REGCTL_USERNAME=u"}, remoteOptions{}, "localhost:5000", nil, exitUsage},
		{[]string{"REGCTL_PASSWORD=p"}, remoteOptions{}, "localhost:5000", nil, exitUsage},
		{[]string{"REGCTL_USERNAME=u", "REGCTL_PASSWORD=p", "REGCTL_TOKEN=t"}, remoteOptions{}, "x", nil, exitUsage},
		{[]string{"REGCTL_TOKEN=regctl_AAAAAAAAAAAAAAAAAAAAAAAAAA"}, remoteOptions{}, "x", nil, exitUsage}, // A robot has a password.
		{[]string{"REGCTL_AUTH_X=u"}, remoteOptions{}, "x", nil, exitUsage},
		{nil, remoteOptions{Login: "u"}, "x", nil, exitUsage},
	} {
		env := newTestEnv(nil, c.environ...)
		l, err := env.logins(&c.o)
		var got *client.Login
		if err == nil {
			got, err = l.of(c.host)
		}
		if exitStatus(err) != c.status || (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%q %+v for %s: got %+v, %v, want %+v", c.environ, c.o, c.host, got, err, c.want)
		}
	}
}

// TestLoginIsForOneRegistry: whom --login is for cannot be told of two.
func TestLoginIsForOneRegistry(t *testing.T) {
	t.Parallel()
	r := newTestEnv(nil).registries(&remoteOptions{Login: "u:p"}, nil)
	for range 2 {
		if _, err := r.remote(target{host: "a.lan"}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.remote(target{host: "b.lan"}); exitStatus(err) != exitUsage {
		t.Errorf("got %v", err)
	}
}

// TestRegistriesAreOpenedOnce: a copy within a registry is told by it.
func TestRegistriesAreOpenedOnce(t *testing.T) {
	t.Parallel()
	r := newTestEnv(nil).registries(&remoteOptions{}, nil)
	dir := target{layout: t.TempDir() + "/images"}
	if _, err := r.open(dir); exitStatus(err) != exitNotFound {
		t.Errorf("a directory that is not there: %v", err)
	}
	for _, at := range []target{{host: "a.lan", repo: "x"}, {host: "a.lan", repo: "y", ref: "1"}} {
		first, err := r.remote(target{host: "a.lan"})
		again, err2 := r.remote(at)
		if err != nil || err2 != nil || first != again {
			t.Errorf("%v is another: %v, %v", at, err, err2)
		}
	}
	first, err := r.create(dir)
	again, err2 := r.open(target{layout: dir.layout + "/../images/", ref: "1"})
	if err != nil || err2 != nil || first != again {
		t.Errorf("got %v, %v", err, err2)
	}
}
