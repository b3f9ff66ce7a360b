package commands

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestCompletionScripts compares the scripts in the tree with what regctl
// writes; go generate ./commands makes them anew.
func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	for shell, file := range map[string]string{
		"bash": "regctl.bash", "zsh": "_regctl", "fish": "regctl.fish", "powershell": "regctl.ps1",
	} {
		env := newTestEnv(nil)
		if status := Main(t.Context(), env.Env, []string{"completion", shell}); status != 0 {
			t.Fatal(env.stderr)
		}
		have, err := os.ReadFile(filepath.Join("..", "completions", file))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(bytes.ReplaceAll(have, []byte("\r\n"), []byte("\n")), env.stdout.Bytes()) {
			t.Errorf("completions/%s is old: go generate ./commands", file)
		}
	}
}

func TestCompleteNames(t *testing.T) {
	t.Parallel()
	const done, stay = cobra.ShellCompDirectiveNoFileComp, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	env := newTestEnv(network(t, newRegistry("team/app:1.0", "team/app:1.1", "team/app:latest", "ubuntu:1")))
	for _, c := range []struct {
		typed     string
		tags      bool
		want      []string
		directive cobra.ShellCompDirective
	}{
		{"", false, []string{"localhost:5000/", "team/app", "ubuntu"}, stay},
		{"loc", false, []string{"localhost:5000/"}, stay},
		{"u", false, []string{"ubuntu"}, done},
		{"u", true, []string{"ubuntu"}, stay},
		{"team/", false, []string{"team/app"}, done},
		{"other.lan:5000/", false, nil, done}, // Plain HTTP where HTTPS is meant.
		{"http://other.lan/u", false, []string{"http://other.lan/ubuntu"}, done},
		{"127.0.0.1:9/te", false, []string{"127.0.0.1:9/team/app"}, done},
		{"team/app:", false, nil, done},
		{"team/app:", true, []string{"team/app:1.0", "team/app:1.1", "team/app:latest"}, done},
		{"team/app:1", true, []string{"team/app:1.0", "team/app:1.1"}, done},
		{"localhost:9/team/app:l", true, []string{"localhost:9/team/app:latest"}, done},
		{"nope:", true, nil, done},
		{"UPPER:", true, nil, stay},
	} {
		got, directive := env.complete(t.Context(), &remoteOptions{}, c.typed, c.tags)
		if !slices.Equal(got, c.want) || directive != c.directive {
			t.Errorf("%q (tags %v): got %q %d, want %q %d", c.typed, c.tags, got, directive, c.want, c.directive)
		}
	}
	if env.stdout.Len() > 0 || env.stderr.Len() > 0 {
		t.Errorf("something was said: %s%s", env.stdout, env.stderr)
	}
}

// TestCompleteEveryArgument: as many as the command takes, with tags where it
// takes images.
func TestCompleteEveryArgument(t *testing.T) {
	t.Parallel()
	env := newTestEnv(network(t, newRegistry("app:1", "app:2")))
	for typed, want := range map[string]string{
		"inspect app:":   "app:1\napp:2\n:4\n",
		"inspect app:1 ": ":4\n",
		"rm app:1 app:":  "app:1\napp:2\n:4\n",
		"ls a":           "app\n:4\n",
		"ls app a":       ":4\n",
		"ls --sort s":    "name\nsemver\ntime\nsize\n:4\n",
	} {
		env.stdout.Reset()
		args := append([]string{"__completeNoDesc"}, strings.Split(typed, " ")...)
		if status := Main(t.Context(), env.Env, args); status != 0 || env.stdout.String() != want {
			t.Errorf("%s: exit status %d, got %q, want %q", typed, status, env.stdout, want)
		}
	}
}

// TestCompleteInTime: a registry that does not answer is not waited for.
func TestCompleteInTime(t *testing.T) {
	t.Parallel()
	env := newTestEnv(roundTrip(func(r *http.Request) (*http.Response, error) {
		if _, ok := r.Context().Deadline(); !ok {
			t.Error("a request without a deadline")
		}
		<-r.Context().Done()
		return nil, r.Context().Err()
	}))
	cmd := &cobra.Command{}
	ctx, cancel := context.WithCancel(t.Context())
	cmd.SetContext(ctx)
	cancel()
	if got, _ := completeNames(env.Env, &remoteOptions{}, false)(cmd, nil, "u"); got != nil {
		t.Errorf("got %q", got)
	}
}
