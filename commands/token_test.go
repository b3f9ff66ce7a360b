//go:build unix

package commands

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/serve"
	"github.com/regctl/regctl/serve/auth"
)

// robotEnv is a world with a store that no server has.
func robotEnv(t *testing.T) (env testEnv, dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "docker", "registry", "v2"), 0o700); err != nil {
		t.Fatal(err)
	}
	env = newTestEnv(nil)
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	env.Now = func() time.Time { now = now.Add(time.Second); return now }
	return env, dir
}

// token runs regctl token, and returns what it wrote to stdout.
func (e testEnv) token(t *testing.T, want int, dir string, args ...string) string {
	t.Helper()
	e.stdout.Reset()
	e.stderr.Reset()
	if status := Main(t.Context(), e.Env, append(append([]string{"token"}, args...), "--data", dir)); status != want {
		t.Fatalf("%s: exit status %d, want %d: %s", args, status, want, e.stderr)
	}
	return e.stdout.String()
}

func TestTokenTable(t *testing.T) {
	t.Parallel()
	env, dir := robotEnv(t)
	first := env.token(t, exitDone, dir, "create", "ci", "--scope", "php/**:pull,push", "--note", "GitLab")
	env.token(t, exitDone, dir, "create", "nodes", "--scope", "**:pull", "--scope", "a:push", "--expires", "never")
	env.token(t, exitDone, dir, "revoke", "ci")
	if second := env.token(t, exitDone, dir, "create", "ci", "--scope", "php/**:pull", "--expires", "12h"); second == first {
		t.Error("the secret is the same")
	}
	env.Terminal = true
	got := env.token(t, exitDone, dir, "ls")
	got = strings.ReplaceAll(got, time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC).Local().Format("2006-01-02 15"), "DATE TI")
	if want := []string{"NAME", "SCOPES", "CREATED", "EXPIRES", "USED", "STATE", "NOTE"}; !slices.Equal(strings.Fields(strings.Split(got, "\n")[0]), want) {
		t.Error(got)
	}
	lines := strings.Split(strings.TrimSpace(got), "\n")
	if len(lines) != 3 {
		t.Fatal(got)
	}
	for i, want := range []string{"ci php/**:pull just now DATE TI:00: never active", "nodes **:pull a:push just now never never active"} {
		line := strings.Join(strings.Fields(lines[i+1]), " ")
		if before, after, ok := strings.Cut(line, "TI:00:"); ok && len(after) > 2 {
			line = before + "TI:00:" + after[2:]
		}
		if line != want {
			t.Errorf("%q, want %q", line, want)
		}
	}
	if got := env.token(t, exitDone, dir, "ls", "--all"); strings.Count(got, "\n") != 4 || !strings.Contains(got, "revoked  GitLab\n") {
		t.Error(got)
	}
}

// unwritable is a pipe that nobody reads.
type unwritable struct{}

func (unwritable) Write([]byte) (int, error) { return 0, os.ErrClosed }

// TestTokenUnshown wants no robot left whose secret nobody has seen.
func TestTokenUnshown(t *testing.T) {
	t.Parallel()
	env, dir := robotEnv(t)
	stdout := env.Stdout
	env.Stdout = unwritable{}
	env.token(t, exitFailed, dir, "create", "ci", "--scope", "**:pull")
	if want := "nobody knows the secret of ci, so that it is revoked: file already closed\n"; env.stderr.String() != want {
		t.Errorf("%q, want %q", env.stderr, want)
	}
	env.Stdout = stdout
	if got := env.token(t, exitDone, dir, "ls", "-a", "-o", "go-template={{.name}} {{.state}}"); got != "ci revoked\n" {
		t.Error(got)
	}
}

// TestTokenSecret wants the secret in what is written to be that of the robot,
// in every format, and only its hash in the store.
func TestTokenSecret(t *testing.T) {
	t.Parallel()
	env, dir := robotEnv(t)
	secrets := map[string]string{
		"plain":    strings.TrimSpace(env.token(t, exitDone, dir, "create", "a", "--scope", "**:pull")),
		"template": strings.TrimSpace(env.token(t, exitDone, dir, "create", "b", "--scope", "**:pull", "-o", "go-template={{.secret}}")),
	}
	for format, secret := range secrets {
		if !strings.HasPrefix(secret, "regctl_") {
			t.Errorf("%s: %q", format, secret)
		}
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			raw, err := os.ReadFile(path)
			if strings.Contains(string(raw), secret) {
				t.Errorf("%s has the secret", path)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	raw := env.token(t, exitDone, dir, "create", "c", "--scope", "**:pull", "-o", "docker-config=https://registry.lan:5000/")
	_, password, _ := strings.Cut(raw, `"password": "`)
	password, _, _ = strings.Cut(password, `"`)
	want := "{\n  \"auths\": {\n    \"registry.lan:5000\": {\n      \"username\": \"c\",\n      \"password\": \"" + password + "\",\n      \"auth\": \""
	if !strings.HasPrefix(raw, want) || !strings.HasPrefix(password, "regctl_") {
		t.Error(raw)
	}
}

func TestTokenRequest(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 999, time.UTC)
	for expires, want := range map[string]time.Time{
		"never": {}, "90d": now.AddDate(0, 0, 90).Truncate(time.Second), "90m": now.Add(90 * time.Minute).Truncate(time.Second),
	} {
		o := tokenCreateOptions{Name: "ci", Scopes: []string{"**:pull"}, Expires: expires}
		if q, err := o.request(now); err != nil || !q.Expires.Equal(want) {
			t.Errorf("%s: %v, %v", expires, q.Expires, err)
		}
	}
	for expires, status := range map[string]int{"": exitUsage, "-1h": exitUsage, "0s": exitUsage, "Never": exitUsage} {
		o := tokenCreateOptions{Name: "ci", Scopes: []string{"**:pull"}, Expires: expires}
		if _, err := o.request(now); exitStatus(err) != status {
			t.Errorf("%q: %v", expires, err)
		}
	}
	o := tokenCreateOptions{Name: "ci", Scopes: []string{"**"}, Expires: never}
	if _, err := o.request(now); !errors.Is(err, auth.ErrScope) || exitStatus(err) != exitInvalid {
		t.Error(err)
	}
}

// TestTokenCells: a clock that goes wrong is no reason to hide anything.
func TestTokenCells(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	r := serve.Robot{Name: "ci", Scopes: []string{"a:pull", "b:push"}, Created: now.Add(-48 * time.Hour), Used: now.Add(-3 * time.Hour), State: serve.RobotActive}
	if got := strings.Join(robotCells(r, now), "|"); got != "ci|a:pull b:push|2 days ago|never|3 hours ago|active|" {
		t.Error(got)
	}
}

func TestCompleteRobots(t *testing.T) {
	t.Parallel()
	env, dir := robotEnv(t)
	for _, name := range []string{"a", "b", "c"} {
		env.token(t, exitDone, dir, "create", name, "--scope", "**:pull")
	}
	env.token(t, exitDone, dir, "revoke", "b")
	env.stdout.Reset()
	env.stderr.Reset()
	if got := env.completeRobots(t.Context(), &localOptions{Data: dir}, []string{"c"}); strings.Join(got, " ") != "a" {
		t.Error(got)
	}
	if got := env.completeRobots(t.Context(), &localOptions{Data: filepath.Join(dir, "none")}, nil); got != nil {
		t.Error(got)
	}
	if env.stdout.Len()+env.stderr.Len() > 0 {
		t.Errorf("%s%s", env.stdout, env.stderr)
	}
}
