package commands

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// writeRules writes a config file with rules.
func writeRules(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yml")
	text = strings.ReplaceAll(text, "DIR", dir)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const teamRules = `version: 0.1
storage: {filesystem: {rootdirectory: DIR/data}}
auth: {htpasswd: {realm: x, path: DIR/htpasswd}}
groups:
  php: [alice, robot:bot]
  ops: [bob]
access:
  - {who: everyone, what: "**:v*", deny: [overwrite, delete], because: releases never change}
  - {who: group:php, what: php/**, may: pull, because: php people pull php images only}
  - {who: group:java, what: java/**, may: [pull, push, list]}
  - {who: group:ops, what: "**", may: all, from: 10.0.0.0/8}
  - {who: user:eve, what: "web:dev-*", may: [push, delete]}
`

func TestExplain(t *testing.T) {
	t.Parallel()
	file := writeRules(t, teamRules)
	const php = "rule 2 (config.yml:9): php people pull php images only"
	for _, c := range []struct {
		args   string
		status int
		stdout string
		talk   string // Part of it.
	}{
		{"alice php/app pull", 0, "allowed: " + php, ""},
		{"user:alice reg.lan:5000/php/app:1.0 pull", 0, "allowed: " + php, ""},
		{"alice php/app@sha256:" + strings.Repeat("a", 64) + " pull", 0, "allowed: " + php, ""},
		{"robot:bot php/app pull", 0, "allowed: " + php, "its scopes are not known"},
		{"alice php/app:1 push", 4, "denied: no rule allows it", ""},
		{"alice php/app:v1 overwrite", 4, "denied: rule 1 (config.yml:8): releases never change", ""},
		{"carol java/app push --group java", 0, "allowed: rule 3 (config.yml:10)", ""},
		{"carol java/app push", 4, "denied: no rule allows it", ""},
		{"bob any/thing:1 delete --from 10.1.2.3", 0, "allowed: rule 4 (config.yml:11)", ""},
		{"bob any/thing:1 delete --from 11.1.2.3", 4, "denied: no rule allows it", ""},
		{"bob any/thing:1 delete", 4, "denied: no rule allows it", "name one with --from"},
		{"eve web push", 0, "allowed: rule 5 (config.yml:12)", "this depends on the tag: web:TAG"},
		{"eve web delete", 4, "denied: no rule allows it", "this depends on the tag: web:TAG"},
		{"eve web:dev-1 delete", 0, "allowed: rule 5 (config.yml:12)", ""},
		{"anonymous php/app pull", 4, "denied: no rule allows it", ""},
		{"user:anonymous php/app pull --group php", 0, "allowed: " + php, ""},
	} {
		env := newTestEnv(nil)
		if status := Main(t.Context(), env.Env, append([]string{"acl", "explain", "--config", file}, strings.Fields(c.args)...)); status != c.status {
			t.Errorf("%s: exit status %d: %s", c.args, status, env.stderr)
		}
		if got := env.stdout.String(); got != c.stdout+"\n" {
			t.Errorf("%s: %s", c.args, got)
		}
		if !strings.Contains(env.stderr.String(), c.talk) {
			t.Errorf("%s: it says %s", c.args, env.stderr)
		}
	}
}

func TestExplainOnATerminal(t *testing.T) {
	t.Parallel()
	file := writeRules(t, teamRules)
	env := newTestEnv(nil)
	env.Terminal = true
	env.run(t, "acl explain alice java/app:v1 push --config "+file+" --from 10.0.0.1", 4, `rule 1 (config.yml:8): not about this action
rule 2 (config.yml:9): not about this action
rule 3 (config.yml:10): not about this caller
rule 4 (config.yml:11): not about this caller
rule 5 (config.yml:12): not about this caller
denied: no rule allows it
`, "")
	env.run(t, "acl explain bob web:x pull --config "+file+" --from 10.0.0.1", 0, `rule 1 (config.yml:8): not about this action
rule 2 (config.yml:9): not about this caller
rule 3 (config.yml:10): not about this caller
allowed: rule 4 (config.yml:11)
`, "")
}

func TestExplainJSON(t *testing.T) {
	t.Parallel()
	env := newTestEnv(nil)
	args := []string{"acl", "explain", "alice", "php/app:1", "pull", "-o", "json", "--config", writeRules(t, teamRules), "--from", "10.0.0.1"}
	if status := Main(t.Context(), env.Env, args); status != 0 {
		t.Fatal(status, env.stderr)
	}
	var got explanation
	if err := json.Unmarshal(env.stdout.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if !got.Allowed || got.Rule != 2 || got.Where != "config.yml:9" || got.Because != "php people pull php images only" ||
		got.Schema != "regctl.acl-explain/v1" || got.Who != "user:alice" || !slices.Equal(got.Groups, []string{"php"}) ||
		got.Repository != "php/app" || got.Tag != "1" || got.Action != "pull" || got.From != "10.0.0.1" ||
		!slices.Equal(got.Tried, []triedRule{{1, "config.yml:8", "this action"}}) {
		t.Errorf("it is %s", env.stdout)
	}
}

func TestExplainPresets(t *testing.T) {
	t.Parallel()
	htpasswd := "auth: {htpasswd: {realm: x, path: DIR/htpasswd}}\n"
	for _, c := range []struct {
		config, environ, args string
		status                int
		want                  string
	}{
		{"", "", "anonymous a push", 0, "allowed: rule 1: open: everyone may do everything\n"},
		{htpasswd, "", "anonymous a pull", 4, "denied: no rule allows it\n"},
		{htpasswd, "", "alice a pull", 0, "allowed: rule 1: private: who has logged in may do everything\n"},
		{htpasswd + "access: public-pull\n", "", "anonymous a pull", 0, "allowed: rule 1: public-pull: everyone may pull\n"},
		{htpasswd, "REGISTRY_ACCESS=public-pull", "alice a push", 0, "allowed: rule 2: public-pull: who has logged in may do everything\n"},
		{htpasswd, "REGISTRY_ACCESS=public-pull", "anonymous a list", 4, "denied: no rule allows it\n"},
	} {
		file := writeRules(t, "version: 0.1\nstorage: {filesystem: {rootdirectory: DIR/data}}\n"+c.config)
		env := newTestEnv(nil)
		if c.environ != "" {
			env.Environ = append(env.Environ, c.environ)
		}
		env.run(t, "acl explain "+c.args+" --config "+file, c.status, c.want, "")
	}
	env := newTestEnv(nil)
	env.run(t, "acl explain alice a push", 0, "allowed: rule 1: open: everyone may do everything\n",
		"no config file is named, and so everyone may do everything; name one: --config CONFIG.yml\n")
}

// TestExplainRobots is alone: a process that another test starts has the lock of
// the store, too, until it runs its program.
func TestExplainRobots(t *testing.T) {
	file := writeRules(t, "version: 0.1\nstorage: {filesystem: {rootdirectory: DIR/data}}\naccess:\n"+
		"  - {who: robot:*, what: secret/**, deny: all}\n  - {who: robot:*, what: php/**, may: all}\n  - {who: all, what: all/**, may: pull}\n  - {who: anonymous, what: open/**, may: pull}\n")
	env := newTestEnv(nil)
	if err := os.MkdirAll(filepath.Join(filepath.Dir(file), "data", "docker", "registry", "v2"), 0o700); err != nil {
		t.Fatal(err)
	}
	args := []string{"token", "create", "ci", "--config", file, "--scope", "php/app:pull,push", "--scope", "own/**:pull", "--scope", "secret/**:pull"}
	if status := Main(t.Context(), env.Env, args); status != 0 {
		t.Fatal(env.stderr)
	}
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"robot:ci php/app push", 0, "allowed: rule 2 (config.yml:5), and the scope php/app:pull,push of the robot"},
		{"robot:ci php/app delete", 4, "denied: no scope of the robot allows it, though this does: rule 2 (config.yml:5)"},
		{"robot:ci own/x pull", 0, "allowed: the scope own/**:pull of the robot, as no rule is about it"},
		{"robot:ci open/x pull -o go-template={{.rule}}:{{.reason}}", 0, "4:rule 4 (config.yml:7), without a login even"},
		{"robot:ci own/x push", 4, "denied: no rule is about it, and no scope of the robot allows it"},
		{"robot:ci secret/x pull", 4, "denied: rule 1 (config.yml:4)"},
		{"robot:ci all/x pull", 4, "denied: no scope of the robot allows it, though this does: rule 3 (config.yml:6)"},
	} {
		env.run(t, "acl explain --config "+file+" "+c.args, c.status, c.want+"\n", "")
	}
	env.run(t, "acl explain --config "+file+" robot:cd all/x pull", 0, "allowed: rule 3 (config.yml:6)\n",
		"its scopes are not known, and it may be allowed less: there is no such robot; see regctl token ls\n")
	if status := Main(t.Context(), env.Env, []string{"token", "revoke", "--config", file, "ci"}); status != 0 {
		t.Fatal(env.stderr)
	}
	env.run(t, "acl explain --config "+file+" robot:ci php/app pull", 0,
		"allowed: rule 2 (config.yml:5), and the scope php/app:pull,push of the robot\n", "robot:ci is revoked, and cannot log in\n")
}

func TestExplainWrong(t *testing.T) {
	t.Parallel()
	bad := writeRules(t, "version: 0.1\nstorage: {filesystem: {rootdirectory: DIR/data}}\naccess:\n  - {who: team, what: a, may: pull}\n")
	for _, c := range []struct{ args, want string }{
		{"", "usage: regctl acl explain WHO WHAT ACTION"},
		{"alice a", "usage: regctl acl explain WHO WHAT ACTION"},
		{"group:php a pull", "--group php"},
		{"all a pull", "name one of them"},
		{"team:x a pull", `"team:x" is nobody`},
		{"user: a pull", "is nobody"},
		{"alice a write", `no action "write"`},
		{"alice reg.lan/ pull", "is no repository"},
		{"alice oci:dir pull", "is no repository"},
		{"anonymous a pull --group x", "in no group"},
		{"alice a pull --from lan", "no address"},
		{"alice a pull --config=", "--config"},
		{"alice a pull --config " + bad, "config.yml:4"},
		{"alice a pull --config " + bad + ".missing", "no such file"},
		{"alice a pull -o xml", "json"},
	} {
		env := newTestEnv(nil)
		if status := Main(t.Context(), env.Env, append([]string{"acl", "explain"}, strings.Fields(c.args)...)); status != 2 || !strings.Contains(env.stderr.String(), c.want) {
			t.Errorf("%s: exit status %d, %s", c.args, status, env.stderr)
		}
	}
	env := newTestEnv(nil)
	if status := Main(t.Context(), env.Env, []string{"acl", "explian"}); status != 2 || !strings.Contains(env.stderr.String(), "it has explain") {
		t.Errorf("exit status %d, %s", status, env.stderr)
	}
}

func TestExplainCompletes(t *testing.T) {
	t.Parallel()
	for typed, want := range map[string]string{
		"": "anonymous\nuser:\nrobot:\n:6\n", "alice": ":4\n", "alice a": "pull\npush\noverwrite\ndelete\nlist\n:4\n", "alice a pull": ":4\n",
	} {
		env := newTestEnv(nil)
		args := append(append([]string{"__completeNoDesc", "acl", "explain"}, strings.Fields(typed)...), "")
		if status := Main(t.Context(), env.Env, args); status != 0 || env.stdout.String() != want {
			t.Errorf("%s: status %d, %q", typed, status, env.stdout)
		}
	}
}
