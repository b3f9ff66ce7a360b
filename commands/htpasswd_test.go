package commands

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/regctl/regctl/serve/auth"
)

// typed answers the questions for passwords.
func (e testEnv) typed(passwords ...string) {
	e.Asks = true
	e.ReadPassword = func() (string, error) {
		if len(passwords) == 0 {
			return "", errors.New("nothing is typed any more")
		}
		p := passwords[0]
		passwords = passwords[1:]
		return p, nil
	}
}

func TestHtpasswdAsksTwice(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "auth", "htpasswd")
	env := newTestEnv(nil)
	env.typed("secret", "Secret")
	env.run(t, "htpasswd add --cost 4 "+file+" testuser", 2, "", "Password: \nAgain: \nthe two passwords differ; nothing was changed\n")
	if _, err := os.Stat(file); err == nil {
		t.Error("a file was made")
	}
	env.typed("secret", "secret")
	env.run(t, "htpasswd add --cost 4 "+file+" testuser", 0, "", "Password: \nAgain: \nadded testuser (bcrypt)\n")
	f, err := auth.ReadFile(file)
	if err != nil || !f.Matches("testuser", "secret") {
		t.Errorf("the password is another: %v", err)
	}
	env.typed("secret")
	env.run(t, "htpasswd verify "+file+" testuser", 0, "", "Password: \nthis is the password of testuser (bcrypt)\n")
	env.typed("guess")
	env.run(t, "htpasswd verify "+file+" testuser", 4, "", "Password: \nthis is not the password of testuser\n")
	env.typed()
	env.run(t, "htpasswd verify "+file+" testuser", 1, "", "Password: \nnothing is typed any more\n")
}

func TestHtpasswdLsOnATerminal(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "htpasswd")
	text := "alice:$apr1$saltsalt$LrttParrLPdxvgutaSXWJ0\nbob:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := newTestEnv(nil)
	env.Terminal = true
	env.run(t, "htpasswd ls "+file, 0, "USER   HASH\nalice  apr1\nbob    bcrypt\n",
		file+": line 1: alice has an MD5 hash, which registry:2 never lets in: regctl htpasswd add FILE alice makes it bcrypt\n")
}

func TestHtpasswdCompletesUsers(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(file, []byte("alice:x\nbob:y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for typed, want := range map[string]string{
		"rm " + file + " ": "alice\nbob\n:4\n", "rm " + file + " alice ": "alice\nbob\n:4\n", "verify " + file + " alice ": ":4\n",
		"add " + file + ".missing ": ":4\n", "add ": ":0\n",
	} {
		env := newTestEnv(nil)
		args := append([]string{"__completeNoDesc", "htpasswd"}, strings.Split(typed, " ")...)
		if status := Main(t.Context(), env.Env, args); status != 0 || env.stdout.String() != want {
			t.Errorf("%s: status %d, got %q, want %q", typed, status, env.stdout, want)
		}
	}
}
