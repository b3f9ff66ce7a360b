//go:build unix

package client

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// logins writes files and helpers into a directory, and returns Credentials
// over the files in order and what they warn of.
func logins(t *testing.T, files []string, helpers map[string]string) (*Credentials, *[]error) {
	t.Helper()
	dir := t.TempDir()
	var warned []error
	c := &Credentials{Warn: func(err error) { warned = append(warned, err) }, Files: []string{filepath.Join(dir, "missing")}}
	for i, text := range files {
		path := filepath.Join(dir, fmt.Sprintf("%d.json", i))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.Files = append(c.Files, path)
	}
	for helper, script := range helpers {
		path := filepath.Join(dir, "docker-credential-"+helper)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if helpers != nil {
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	}
	return c, &warned
}

func basic(login string) string {
	return `"auth":"` + base64.StdEncoding.EncodeToString([]byte(login)) + `"`
}

// resolve returns the login for host as user:password, or what else it is.
func resolve(t *testing.T, c *Credentials, host string) string {
	t.Helper()
	reg, err := name.NewRegistry(host)
	if err != nil {
		t.Fatal(err)
	}
	return resolved(t, c, reg)
}

func resolved(t *testing.T, c *Credentials, r authn.Resource) string {
	t.Helper()
	auth, err := c.Resolve(r)
	if err != nil {
		t.Fatal(err)
	}
	if _, broken := auth.(*BrokenLogin); broken || auth == authn.Anonymous {
		return "anonymous"
	}
	a, err := authn.Authorization(t.Context(), auth)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case a.IdentityToken != "":
		return "identity " + a.IdentityToken
	case a.RegistryToken != "":
		return "registry " + a.RegistryToken
	}
	return a.Username + ":" + a.Password
}

func TestCredentialFiles(t *testing.T) {
	t.Parallel()
	c, warned := logins(t, []string{
		`{"auths":{"a.lan":{` + basic("u:p") + `},"https://b.lan/v1/":{` + basic("old:x") + `},"https://index.docker.io/v1/":{` + basic("hub:h") + `},
		  "id.lan":{"identitytoken":"tok"},"reg.lan":{"registrytoken":"rt"},"empty.lan":{}}}`,
		`{"auths":{"a.lan":{` + basic("second:x") + `},"c.lan:5000":{` + basic("third:y") + `},"empty.lan":{` + basic("late:z") + `}}}`,
	}, nil)
	c.Inline = `{"auths":{"inline.lan":{` + basic("in:line") + `}}}`
	for host, want := range map[string]string{
		"a.lan": "u:p", "b.lan": "old:x", "docker.io": "hub:h", "index.docker.io": "hub:h", "id.lan": "identity tok", "reg.lan": "registry rt",
		"c.lan:5000": "third:y", "c.lan": "anonymous", "empty.lan": "late:z", "inline.lan": "in:line", "other.lan": "anonymous",
	} {
		if got := resolve(t, c, host); got != want {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
	}
	if len(*warned) > 0 {
		t.Errorf("warned: %v", *warned)
	}
}

func TestCredentialHelpers(t *testing.T) {
	c, warned := logins(t, []string{
		`{"credsStore":"store","credHelpers":{"own.lan":"own","lost.lan":"lost"},"auths":{"broken.lan":{` + basic("file:f") + `}}}`,
		`{"auths":{"nowhere.lan":{` + basic("next:n") + `}}}`,
	}, map[string]string{
		"store": `read key; case $key in
			https://index.docker.io/v1/) echo '{"Username":"hub","Secret":"h"}';;
			token.lan) echo '{"Username":"<token>","Secret":"tok"}';;
			broken.lan) echo gone wrong; exit 1;;
			garbage.lan) echo garbage;;
			env.lan) echo "{\"Username\":\"$WHO\",\"Secret\":\"s\"}";;
			*) echo credentials not found in native keychain; exit 1;;
		esac`,
		"own": `echo '{"Username":"own","Secret":"o"}'`,
	})
	c.Environ = append(os.Environ(), "WHO=me")
	for host, want := range map[string]string{
		"docker.io": "hub:h", "token.lan": "identity tok", "own.lan": "own:o", "env.lan": "me:s",
		"nowhere.lan": "next:n", "other.lan": "anonymous",
	} {
		if got := resolve(t, c, host); got != want {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
	}
	if len(*warned) > 0 {
		t.Errorf("warned: %v", *warned)
	}
	for host, want := range map[string]string{"broken.lan": "file:f", "garbage.lan": "anonymous", "lost.lan": "anonymous"} {
		*warned = nil
		if got := resolve(t, c, host); got != want {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
		if len(*warned) != 1 || !strings.HasPrefix((*warned)[0].Error(), "docker-credential-") ||
			!strings.HasSuffix((*warned)[0].Error(), "; going on without a login") {
			t.Errorf("%s: warned %v", host, *warned)
		}
	}
}

// TestCredentialHelperHangs: a helper that waits for a window that nobody sees
// is given up.
func TestCredentialHelperHangs(t *testing.T) {
	c, warned := logins(t, []string{`{"credsStore":"hangs"}`}, map[string]string{"hangs": "exec cat /dev/zero >/dev/null"})
	c.Timeout = 50 * time.Millisecond
	if got := resolve(t, c, "a.lan"); got != "anonymous" {
		t.Errorf("got %q", got)
	}
	if len(*warned) != 1 || !strings.Contains((*warned)[0].Error(), "did not answer within 50ms") {
		t.Errorf("warned %v", *warned)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	reg, err := name.NewRegistry("a.lan")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.ResolveContext(ctx, reg); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

// TestCredentialHelperIsAskedAgain: if who asked first did not wait for the
// answer.
func TestCredentialHelperIsAskedAgain(t *testing.T) {
	c, warned := logins(t, []string{`{"credsStore":"own"}`}, map[string]string{"own": `echo '{"Username":"own","Secret":"o"}'`})
	reg, err := name.NewRegistry("a.lan")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.ResolveContext(ctx, reg); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if got := resolve(t, c, "a.lan"); got != "own:o" || len(*warned) > 0 {
		t.Errorf("got %q, warned %v", got, *warned)
	}
}

func TestCredentialFilesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	c, warned := logins(t, []string{`{"auths":`, `{"auths":{"a.lan":{"auth":"!"}}}`, `{"auths":{"a.lan":{` + basic("u:p") + `}}}`}, nil)
	c.Files = append(c.Files, t.TempDir())
	if got := resolve(t, c, "a.lan"); got != "u:p" {
		t.Errorf("got %q", got)
	}
	if len(*warned) != 3 {
		t.Errorf("warned %v", *warned)
	}
	c.Warn = nil
	if got := resolve(t, c, "b.lan"); got != "anonymous" {
		t.Errorf("got %q", got)
	}
}

// TestCredentialsOfARepository: the most particular login counts, and one for
// a namespace is for nothing else.
func TestCredentialsOfARepository(t *testing.T) {
	t.Parallel()
	c, _ := logins(t, []string{`{"auths":{"a.lan/team":{` + basic("team:t") + `},"a.lan/team/app":{` + basic("app:a") + `},"a.lan":{` + basic("all:l") + `},
		"b.lan/team":{` + basic("only:o") + `},"docker.io/library":{` + basic("lib:l") + `},"registry-1.docker.io":{` + basic("hub:h") + `}}}`}, nil)
	c.Logins = map[string]authn.AuthConfig{"given.lan": {Username: "given", Password: "g"}, "a.lan/given": {Username: "ours", Password: "o"}}
	for address, want := range map[string]string{
		"a.lan/team/app": "app:a", "a.lan/team/other": "team:t", "a.lan/team/app/x": "app:a", "a.lan/teams": "all:l", "a.lan/x/y": "all:l",
		"b.lan/team/x": "only:o", "b.lan/x": "anonymous", "docker.io/library/alpine": "lib:l", "docker.io/me/app": "hub:h",
		"given.lan/x": "given:g", "a.lan/given/x": "ours:o",
	} {
		repo, err := name.NewRepository(address)
		if err != nil {
			t.Fatal(err)
		}
		if got := resolved(t, c, repo); got != want {
			t.Errorf("%s: got %q, want %q", address, got, want)
		}
	}
	if got := resolve(t, c, "b.lan"); got != "anonymous" {
		t.Errorf("the login for a namespace is taken for b.lan: %q", got)
	}
}

// TestCredentialHelperIsAskedOnce: whoever wants to know, and whatever it says.
func TestCredentialHelperIsAskedOnce(t *testing.T) {
	c, warned := logins(t, []string{`{"credsStore":"counts"}`}, map[string]string{
		"counts": `read key; echo "$key" >>"$(dirname "$0")/asked"; echo gone wrong; exit 1`,
	})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if got := resolve(t, c, "a.lan"); got != "anonymous" {
				t.Errorf("got %q", got)
			}
		})
	}
	all.Wait()
	if got := read(t, filepath.Join(filepath.Dir(c.Files[1]), "asked")); got != "a.lan\n" || len(*warned) != 1 {
		t.Errorf("asked %q, warned %v", got, *warned)
	}
	reg, err := name.NewRegistry("a.lan")
	if err != nil {
		t.Fatal(err)
	}
	auth, err := c.Resolve(reg)
	if b, ok := auth.(*BrokenLogin); !ok || err != nil || !strings.Contains(b.Err.Error(), "gone wrong") {
		t.Errorf("got %v, %v", auth, err)
	}
}
