//go:build unix

package client

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

func store(t *testing.T, f *LoginFile, host string, login authn.AuthConfig) (where string) {
	t.Helper()
	where, err := f.Store(t.Context(), host, login)
	if err != nil {
		t.Fatal(err)
	}
	return where
}

func erase(t *testing.T, f *LoginFile, host string, want bool) {
	t.Helper()
	if found, err := f.Erase(t.Context(), host); err != nil || found != want {
		t.Errorf("erase %s: found %v, %v", host, found, err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestLoginIsFoundAgain: what was stored is found until it is erased, and
// nobody else may read it.
func TestLoginIsFoundAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "config.json")
	f := &LoginFile{Path: path}
	for host, login := range map[string]authn.AuthConfig{
		"a.lan:5000": {Username: "u", Password: "p:q"}, "docker.io": {Username: "hub", Password: "h"},
		"id.lan": {IdentityToken: "tok"}, "reg.lan": {RegistryToken: "rt"},
	} {
		if where := store(t, f, host, login); where != path {
			t.Errorf("%s is kept in %s", host, where)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if !strings.Contains(read(t, path), `"https://index.docker.io/v1/"`) {
		t.Error("docker does not find its login for Docker Hub")
	}
	wants := map[string]string{"a.lan:5000": "u:p:q", "docker.io": "hub:h", "id.lan": "identity tok", "reg.lan": "registry rt"}
	for host, want := range wants {
		if got := resolve(t, &Credentials{Files: []string{path}}, host); got != want {
			t.Errorf("%s: got %q, want %q", host, got, want)
		}
	}
	for host := range wants {
		erase(t, f, host, true)
		erase(t, f, host, false)
		if got := resolve(t, &Credentials{Files: []string{path}}, host); got != "anonymous" {
			t.Errorf("%s: got %q after it was erased", host, got)
		}
	}
}

// TestLoginLeavesTheRestAlone: what is not of the login stays as it was, in
// its order, and what cannot be parsed stays altogether.
func TestLoginLeavesTheRestAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	real, path := filepath.Join(dir, "real.json"), filepath.Join(dir, "config.json")
	const before = `{"zzz":{"b":1.50,"a":[1e3]},"auths":{"https://old.lan/v1/":{"auth":"b2xkOnA=","email":"x"},"b.lan":{"auth":"eDp5"}},"aaa":"<&>"}`
	if err := os.WriteFile(real, []byte(before), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real.json", path); err != nil {
		t.Fatal(err)
	}
	f := &LoginFile{Path: path}
	store(t, f, "a.lan", authn.AuthConfig{Username: "u", Password: "p"})
	erase(t, f, "b.lan", true)
	compact := strings.NewReplacer("\n", "", "\t", "", ": ", ":").Replace(read(t, real))
	want := strings.Replace(before, `"b.lan":{"auth":"eDp5"}`, `"a.lan":{"auth":"dTpw"}`, 1)
	if strings.NewReplacer(`\u003c`, "<", `\u0026`, "&", `\u003e`, ">").Replace(compact) != want {
		t.Errorf("got  %s\nwant %s", compact, want)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", info, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	erase(t, f, "old.lan", true)
	for _, broken := range []string{`{"auths":`, `[]`, `{"auths":[]}`, `{} x`} {
		if err := os.WriteFile(real, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Store(t.Context(), "a.lan", authn.AuthConfig{Username: "u"}); err == nil || !strings.HasSuffix(err.Error(), "; left as it is") {
			t.Errorf("%s: %v", broken, err)
		}
		if _, err := f.Erase(t.Context(), "a.lan"); err == nil {
			t.Errorf("%s was taken", broken)
		}
		if got := read(t, real); got != broken {
			t.Errorf("%s became %s", broken, got)
		}
	}
	if names, err := filepath.Glob(filepath.Join(dir, "*.tmp")); err != nil || len(names) > 0 {
		t.Errorf("left behind: %q, %v", names, err)
	}
}

// keeper is a helper that keeps one login in a file.
const keeper = `d=$(dirname "$0"); case $1 in
	store) cat >"$d/kept"; exit 0;;
	get) cat "$d/kept" 2>/dev/null || { echo credentials not found in native keychain; exit 1; };;
	erase) rm "$d/kept";;
esac`

func TestLoginByHelper(t *testing.T) {
	c, _ := logins(t, []string{`{"credsStore":"lost","credHelpers":{"a.lan":"keeps","b.lan":"hangs"}}`}, map[string]string{
		"keeps": keeper, "hangs": "exec cat /dev/zero >/dev/null",
	})
	path := c.Files[1]
	f := &LoginFile{Path: path, Timeout: 5 * time.Second}
	erase(t, f, "a.lan", false)
	if where := store(t, f, "a.lan", authn.AuthConfig{Username: "u", Password: "secret"}); where != "docker-credential-keeps" {
		t.Errorf("kept in %s", where)
	}
	if text := read(t, path); strings.Contains(text, "c2VjcmV0") || strings.Contains(text, "dTpz") || !strings.Contains(text, `"a.lan": {}`) {
		t.Errorf("the file has %s", text)
	}
	if got := resolve(t, c, "a.lan"); got != "u:secret" {
		t.Errorf("got %q", got)
	}
	erase(t, f, "a.lan", true)
	erase(t, f, "a.lan", false)
	if got := resolve(t, &Credentials{Files: c.Files}, "a.lan"); got != "anonymous" {
		t.Errorf("got %q after it was erased", got)
	}
	store(t, f, "a.lan", authn.AuthConfig{IdentityToken: "tok"})
	if got := resolve(t, &Credentials{Files: c.Files}, "a.lan"); got != "identity tok" {
		t.Errorf("got %q", got)
	}
	if _, err := f.Store(t.Context(), "a.lan", authn.AuthConfig{RegistryToken: "rt"}); err == nil {
		t.Error("a helper kept a token of a registry")
	}
	if _, err := f.Store(t.Context(), "c.lan", authn.AuthConfig{Username: "u"}); err == nil || err.Error() != "docker-credential-lost is not to be found" {
		t.Errorf("a missing helper: %v", err)
	}
	f.Timeout = 50 * time.Millisecond
	if _, err := f.Store(t.Context(), "b.lan", authn.AuthConfig{Username: "u"}); err == nil || !strings.Contains(err.Error(), "did not answer within 50ms") {
		t.Errorf("a helper that hangs: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.Erase(ctx, "b.lan"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func FuzzObject(f *testing.F) {
	f.Add(`{"a":1,"b":{"c":[null]},"a":2}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, text string) {
		var o, again object
		if o.UnmarshalJSON([]byte(text)) != nil {
			return
		}
		raw, err := o.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalJSON(raw); err != nil {
			t.Fatalf("%q became %s: %v", text, raw, err)
		}
		if a, b := o.keys(), again.keys(); len(a) != len(b) {
			t.Errorf("%q has keys %q, then %q", text, a, b)
		}
	})
}

// TestLoginWhileAHelperWorks: another login in the meantime is not lost.
func TestLoginWhileAHelperWorks(t *testing.T) {
	c, _ := logins(t, []string{`{"credsStore":"busy"}`}, map[string]string{
		"busy": `cat >/dev/null; echo '{"credsStore":"busy","auths":{"'$1'.lan":{"auth":"dTpw"},"a.lan":{}}}' >"$(dirname "$0")/0.json"; echo '{"ServerURL":"a.lan","Username":"u","Secret":"p"}'`,
	})
	path := c.Files[1]
	f := &LoginFile{Path: path}
	store(t, f, "a.lan", authn.AuthConfig{Username: "u", Password: "p"})
	if text := read(t, path); !strings.Contains(text, `"store.lan"`) || !strings.Contains(text, `"a.lan"`) {
		t.Errorf("after the login the file has %s", text)
	}
	erase(t, f, "a.lan", true)
	if text := read(t, path); !strings.Contains(text, `"erase.lan"`) || strings.Contains(text, `"a.lan"`) {
		t.Errorf("after the logout the file has %s", text)
	}
}
