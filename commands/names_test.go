package commands

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/regctl/regctl/client/oci"
)

func TestParseTarget(t *testing.T) {
	t.Parallel()
	const digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for what, want := range map[string]target{
		"":                          {host: "def:5000"},
		"alpine":                    {host: "def:5000", repo: "alpine"},
		"team/app":                  {host: "def:5000", repo: "team/app"},
		"alpine:3.20":               {host: "def:5000", repo: "alpine", ref: "3.20"},
		"team/app:1":                {host: "def:5000", repo: "team/app", ref: "1"},
		"alpine@" + digest:          {host: "def:5000", repo: "alpine", ref: digest},
		"alpine:3@" + digest:        {host: "def:5000", repo: "alpine", ref: digest},
		"localhost":                 {host: "localhost"},
		"localhost/app":             {host: "localhost", repo: "app"},
		"localhost:5000":            {host: "localhost:5000"},
		"localhost:5000/app:1":      {host: "localhost:5000", repo: "app", ref: "1"},
		"myhost/":                   {host: "myhost"},
		"myhost:5000":               {host: "myhost:5000"},
		"myhost:5000/":              {host: "myhost:5000"},
		"reg.example.com":           {host: "reg.example.com"},
		"reg.example.com/a/b/c:x.y": {host: "reg.example.com", repo: "a/b/c", ref: "x.y"},
		"192.168.211.15:5000":       {host: "192.168.211.15:5000"},
		"[::1]:5000/app":            {host: "[::1]:5000", repo: "app"},
		"docker.io":                 {host: "docker.io"},
		"docker.io/alpine:3.20":     {host: "docker.io", repo: "library/alpine", ref: "3.20"},
		"docker.io/team/app":        {host: "docker.io", repo: "team/app"},
		"http://myhost":             {scheme: "http", host: "myhost"},
		"http://myhost/app":         {scheme: "http", host: "myhost", repo: "app"},
		"https://localhost:5000/":   {scheme: "https", host: "localhost:5000"},
		"oci:dir":                   {layout: "dir"},
		"oci:./a/b.c:3.20":          {layout: "./a/b.c", repo: "layout", ref: "3.20"},
		"oci:/srv/x@" + digest:      {layout: "/srv/x", repo: "layout", ref: digest},
		"oci:/srv/x:team/app":       {layout: "/srv/x", repo: "team/app"},
		"oci:/srv/x:app:1":          {layout: "/srv/x", repo: "app", ref: "1"},
		"oci:/srv/x:app@" + digest:  {layout: "/srv/x", repo: "app", ref: digest},
		`oci:C:\images:1`:           {layout: `C:\images`, repo: "layout", ref: "1"},
		"localhost/oci:1":           {host: "localhost", repo: "oci", ref: "1"},
	} {
		got, err := parseTarget(what, func() (string, error) { return "def:5000", nil })
		if err != nil || got != want {
			t.Errorf("%q: got %+v, %v, want %+v", what, got, err, want)
		}
		again, err := parseTarget(got.String(), func() (string, error) { return "", errors.New("asked") })
		if err != nil || again != want {
			t.Errorf("%q: %q is read as %+v, %v", what, got, again, err)
		}
	}
}

func TestParseTargetRefuses(t *testing.T) {
	t.Parallel()
	for what, status := range map[string]int{
		"UPPER": exitInvalid, "h:1/UPPER": exitInvalid, "h:1/a:" + "-x": exitInvalid, "a@sha256:1": exitInvalid, "a@x": exitInvalid, "a:1@x": exitInvalid,
		"h:1/a/": exitUsage, "a/b/": exitUsage, "h:1/:x": exitUsage, "http://": exitUsage, "/": exitUsage, "a:": exitUsage,
		"oci:": exitUsage, "oci::1": exitUsage, "oci:d:": exitUsage, "oci:d:-x": exitInvalid, "oci:d:A/b:1": exitInvalid, "oci:d@x": exitInvalid,
	} {
		got, err := parseTarget(what, func() (string, error) { return "def:5000", nil })
		if exitStatus(err) != status {
			t.Errorf("%q: got %+v, %v, want exit status %d", what, got, err, status)
		}
	}
}

func TestParseTargetDefault(t *testing.T) {
	t.Parallel()
	for registry, want := range map[string]target{
		"h:1":           {host: "h:1", repo: "a"},
		"http://h.lan/": {scheme: "http", host: "h.lan", repo: "a"},
		"https://h.lan": {scheme: "https", host: "h.lan", repo: "a"},
		"docker.io":     {host: "docker.io", repo: "library/a"},
	} {
		if got, err := parseTarget("a", func() (string, error) { return registry, nil }); err != nil || got != want {
			t.Errorf("%q: got %+v, %v, want %+v", registry, got, err, want)
		}
	}
	for _, registry := range []string{"h:1/team", "/", "http://"} {
		if got, err := parseTarget("a", func() (string, error) { return registry, nil }); exitStatus(err) != exitUsage {
			t.Errorf("%q: got %+v, %v", registry, got, err)
		}
	}
	broken := errors.New("broken")
	if _, err := parseTarget("a", func() (string, error) { return "", broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if _, err := parseTarget("h:1/a", func() (string, error) { return "", broken }); err != nil {
		t.Errorf("the default was asked for: %v", err)
	}
}

func TestRegistryPrecedence(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	file := filepath.Join(home, ".config", "regctl", "config.yaml")
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	env := newTestEnv(nil).Env
	env.Home = home
	want := func(flag, want string) {
		t.Helper()
		if got, err := env.registry(flag); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	want("", "localhost:5000")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	want("", "localhost:5000")
	write("registry: file:1\n")
	want("", "file:1")
	env.Environ = []string{"REGCTL_REGISTRY=first:1", "REGCTL_REGISTRY=env:1"}
	want("", "env:1")
	want("flag:1", "flag:1")
	env.Environ = []string{"XDG_CONFIG_HOME=relative", "REGCTL_REGISTRY="}
	want("", "file:1")
	write("registry: [")
	if _, err := env.registry(""); exitStatus(err) != exitUsage {
		t.Errorf("got %v", err)
	}
	env.Home = ""
	want("", "localhost:5000")
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"a", "h:1/a:b", "http://h/a@sha256:1", "[::1]:5/x", "docker.io/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, what string) {
		got, err := parseTarget(what, func() (string, error) { return "def:5000", nil })
		if err != nil {
			return
		}
		if got.host == "" || got.repo == "" && got.ref != "" {
			t.Errorf("%q: %+v", what, got)
		}
		if got.repo != "" && oci.CheckRepo(got.repo) != nil || got.ref != "" && oci.CheckRef(got.ref) != nil {
			t.Errorf("%q: %+v is not valid", what, got)
		}
	})
}

// TestShortImage: where only an image can be meant, debian:12 is one.
func TestShortImage(t *testing.T) {
	t.Parallel()
	env := newTestEnv(nil).Env
	for what, want := range map[string]target{
		"debian:12":        {host: "localhost:5000", repo: "debian", ref: "12"},
		"debian:12.1":      {host: "localhost:5000", repo: "debian", ref: "12.1"},
		"debian":           {host: "localhost:5000", repo: "debian"},
		"debian:12/x:1":    {host: "debian:12", repo: "x", ref: "1"},
		"localhost:12":     {host: "localhost:12"},
		"reg.lan:12":       {host: "reg.lan:12"},
		"http://debian:12": {scheme: "http", host: "debian:12"},
		"oci:12":           {layout: "12"},
	} {
		if got, err := env.imageTarget(what, &remoteOptions{}); err != nil || got != want {
			t.Errorf("%s: got %+v, %v", what, got, err)
		}
	}
	if got, err := env.target("debian:12", &remoteOptions{}); err != nil || got.repo != "" || got.host != "debian:12" {
		t.Errorf("of a registry: got %+v, %v", got, err)
	}
}
