package commands

import (
	"context"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestDoubleDashes(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"ls -limit 7":                   "ls --limit 7",
		"ls -limit=7":                   "ls --limit=7",
		"-verbose ls -limit 7 -reverse": "--verbose ls --limit 7 --reverse",
		"ls -all":                       "ls --all",
		"ls -aq":                        "ls -aq",
		"ls -ojson":                     "ls -ojson",
		"ls -o json":                    "ls -o json",
		"ls -aqo -limit":                "ls -aqo -limit",
		"ls --include -limit":           "ls --include -limit",
		"ls --include=x -limit 7":       "ls --include=x --limit 7",
		"ls -r -all":                    "ls -r -all",
		"ls -rHOST -all":                "ls -rHOST --all",
		"ls -- -limit":                  "ls -- -limit",
		"ls --exclude -- -limit 7":      "ls --exclude -- --limit 7",
		"ls a -limit 7":                 "ls a --limit 7",
		"ls version -limit 7":           "ls version --limit 7",
		"ls -help":                      "ls --help",
		"ls -h":                         "ls -h",
		"-version":                      "--version",
		"ls -keep 10":                   "ls --keep 10",
		"ls -zzz":                       "ls --zzz",
		"ls -z":                         "ls -z",
		"ls -5":                         "ls -5",
		"ls -":                          "ls -",
		"serve -addr :5000 -data /x":    "serve --addr :5000 --data /x",
		"ls -limit -1":                  "ls --limit -1",
		"__complete ls -limit 7 -incl":  "__complete ls --limit 7 -incl",
		"__complete ls –":               "__complete ls –",
		"__completeNoDesc ls -o ":       "__completeNoDesc ls -o",
		"__complete":                    "__complete",
		"ls -include –x":                "ls --include –x",
		"ls -o=json -v":                 "ls -o=json -v",
		"completion bash -verbose":      "completion bash --verbose",
	} {
		got, err := doubleDashes(newRoot(newTestEnv(nil).Env), strings.Fields(args))
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, %v, want %q", args, strings.Join(got, " "), err, want)
		}
	}
}

// TestEveryFlag gives every flag of every command with one dash and with two,
// with its value after a blank and after "=".
func TestEveryFlag(t *testing.T) {
	t.Parallel()
	count := 0
	for _, path := range commandPaths(newRoot(newTestEnv(nil).Env)) {
		for _, f := range flagsOf(t, path) {
			count++
			value := map[string]string{"bool": "true", "int": "7", "WHICH": "never"}[f.Value.Type()]
			if value == "" {
				value = "-x" // Even one that looks like a flag.
			}
			forms := [][]string{{"-" + f.Name + "=" + value}, {"--" + f.Name + "=" + value}}
			if f.NoOptDefVal != "" {
				forms = append(forms, []string{"-" + f.Name}, []string{"--" + f.Name})
			} else {
				forms = append(forms, []string{"-" + f.Name, value}, []string{"--" + f.Name, value})
			}
			for _, form := range forms {
				if got := parsed(t, append(path[:len(path):len(path)], form...), f.Name); strings.Trim(got, "[]") != value {
					t.Errorf("regctl %s %s: got %q", strings.Join(path, " "), strings.Join(form, " "), got)
				}
			}
		}
	}
	if count < 20 {
		t.Errorf("only %d flags were found", count)
	}
}

// commandPaths lists the words that lead to every command.
func commandPaths(cmd *cobra.Command) [][]string {
	paths := [][]string{strings.Fields(cmd.CommandPath())[1:]}
	for _, sub := range cmd.Commands() {
		paths = append(paths, commandPaths(sub)...)
	}
	return paths
}

func find(t *testing.T, root *cobra.Command, path []string) *cobra.Command {
	t.Helper()
	cmd, _, err := root.Find(path)
	if err != nil {
		t.Fatal(err)
	}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	return cmd
}

func flagsOf(t *testing.T, path []string) []*pflag.Flag {
	t.Helper()
	var flags []*pflag.Flag
	cmd := find(t, newRoot(newTestEnv(nil).Env), path)
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) { flags = append(flags, f) })
	cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) { flags = append(flags, f) })
	return flags
}

// parsed is the value of a flag after the command line args.
func parsed(t *testing.T, args []string, name string) string {
	t.Helper()
	root := newRoot(newTestEnv(nil).Env)
	args, err := doubleDashes(root, args)
	if err != nil {
		t.Fatal(err)
	}
	cmd, rest, err := root.Find(args)
	if err != nil {
		t.Fatal(err)
	}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return cmd.Flag(name).Value.String()
}

// runWith runs cmd under a root of its own, as the real one is built.
func runWith(t *testing.T, env *Env, cmd *cobra.Command, args string) error {
	t.Helper()
	root := newRoot(env)
	for _, c := range root.Commands() {
		if c.Name() == cmd.Name() {
			root.RemoveCommand(c)
		}
	}
	root.AddCommand(cmd)
	typed, err := doubleDashes(root, strings.Fields(args))
	if err != nil {
		return err
	}
	root.SetArgs(typed)
	return root.ExecuteContext(t.Context())
}

func TestLsOptions(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]lsOptions{
		"ls":                               {},
		"ls team/app":                      {What: "team/app"},
		"ls -a -q --full":                  {All: true, Quiet: true, Full: true},
		"ls -all -quiet -full h:5/":        {All: true, Quiet: true, Full: true, What: "h:5/"},
		"ls -include a,b -include c":       {Include: []string{"a,b", "c"}},
		"ls -exclude /x/ -reverse":         {Exclude: []string{"/x/"}, Reverse: true},
		"ls -limit 5 -o yaml":              {Limit: 5, Output: "yaml"},
		"ls -r h:5 --insecure --plain x":   {remoteOptions: remoteOptions{Registry: "h:5", Insecure: true}, Plain: true, What: "x"},
		"ls -host h:5":                     {remoteOptions: remoteOptions{Registry: "h:5"}},
		"ls -registry=h:5 -output=json -a": {remoteOptions: remoteOptions{Registry: "h:5"}, Output: "json", All: true},
	} {
		want.Jobs = usualJobs
		var got *lsOptions
		env := newTestEnv(nil).Env
		cmd := newLs(env, func(_ context.Context, _ *Env, o *lsOptions) error { got = o; return nil })
		if err := runWith(t, env, cmd, args); err != nil || !reflect.DeepEqual(got, &want) {
			t.Errorf("%s: got %+v, %v, want %+v", args, got, err, want)
		}
	}
}

func TestServeOptions(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]serveOptions{
		"serve":                            {},
		"serve config.yml":                 {Config: "config.yml"},
		"serve -addr :5000 --addr [::1]:1": {Addrs: []string{":5000", "[::1]:1"}},
		"serve --data=/srv x.yml":          {Data: "/srv", Config: "x.yml"},
	} {
		var got *serveOptions
		env := newTestEnv(nil).Env
		cmd := newServe(env, func(_ context.Context, _ *Env, o *serveOptions) error { got = o; return nil })
		if err := runWith(t, env, cmd, args); err != nil || !reflect.DeepEqual(got, &want) {
			t.Errorf("%s: got %+v, %v, want %+v", args, got, err, want)
		}
	}
}

func TestVersionOptions(t *testing.T) {
	t.Parallel()
	var got *versionOptions
	env := newTestEnv(nil).Env
	cmd := newVersion(env, func(_ context.Context, _ *Env, o *versionOptions) error { got = o; return nil })
	if err := runWith(t, env, cmd, "version -o json"); err != nil || got.Output != "json" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestEveryCommandIsDocumented holds the help together.
func TestEveryCommandIsDocumented(t *testing.T) {
	t.Parallel()
	root := newRoot(newTestEnv(nil).Env)
	for _, path := range commandPaths(root) {
		cmd := find(t, root, path)
		if cmd.Short == "" || cmd.RunE == nil || cmd.Parent() == root && cmd.GroupID == "" {
			t.Errorf("%s: needs Short, RunE and GroupID", cmd.CommandPath())
		}
		if name := cmd.Name(); cmd != root && name != "help" && name != "version" {
			checkExamples(t, root, cmd)
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s: needs a description", cmd.CommandPath(), f.Name)
			}
		})
	}
}

// checkExamples wants cmd, or what it belongs to, to have examples of it, and in
// each of them flags that there are.
func checkExamples(t *testing.T, root, cmd *cobra.Command) {
	t.Helper()
	text := cmd.Long + "\n" + cmd.Example
	if cmd.Parent() != root {
		text += "\n" + cmd.Parent().Example
	}
	for _, sub := range cmd.Commands() {
		text += "\n" + sub.Example
	}
	if !slices.Contains(checkLines(t, root, "  ", text), cmd) {
		t.Errorf("%s: needs an example", cmd.CommandPath())
	}
}

// checkLines wants the commands in the indented lines of text to be there, with
// their flags, and returns them.
func checkLines(t *testing.T, root *cobra.Command, indent, text string) (about []*cobra.Command) {
	t.Helper()
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, indent) { // No example.
			continue
		}
		for part := range strings.FieldsFuncSeq(line, func(r rune) bool { return strings.ContainsRune("|()&", r) }) {
			before, part, ok := strings.Cut(" "+strings.TrimSpace(part)+" ", " regctl ")
			if !ok || strings.Contains(before, "systemctl ") || strings.Contains(before, "ln -s") { // The file, or its unit.
				continue
			}
			part, _, _ = strings.Cut(part, ", or ") // In talk, something else to try.
			args, err := doubleDashes(root, strings.Fields(part))
			if err != nil {
				t.Errorf("%q: %v", line, err)
				continue
			}
			found, rest, err := root.Find(args)
			if err != nil || found == root {
				t.Errorf("%q: no such command: %v", line, err)
				continue
			}
			for cmd := found; cmd != root; cmd = cmd.Parent() {
				about = append(about, cmd)
			}
			for _, word := range rest {
				name, _, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
				if strings.HasPrefix(word, "--") && found.Flag(name) == nil {
					t.Errorf("%q: there is no %s", line, word)
				}
			}
		}
	}
	return about
}

// TestReadme wants the README to show every command, and none that is not there.
func TestReadme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	root := newRoot(newTestEnv(nil).Env)
	about := checkLines(t, root, "    ", strings.ReplaceAll(string(text), "=$(regctl", "=$( regctl"))
	for _, cmd := range root.Commands() {
		if name := cmd.Name(); name != "help" && name != "version" && name != "logout" && !slices.Contains(about, cmd) {
			t.Errorf("the README shows no regctl %s", name)
		}
	}
}

func FuzzDoubleDashes(f *testing.F) {
	f.Add("ls -limit 7 -o -x -- –y")
	f.Add("-verbose ls -aqo=json --include")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Fields(line)
		got, err := doubleDashes(newRoot(newTestEnv(nil).Env), args)
		if err != nil {
			return
		}
		if len(got) != len(args) {
			t.Fatalf("%q became %q", args, got)
		}
		for i := range got {
			if got[i] != args[i] && got[i] != "-"+args[i] {
				t.Fatalf("%q became %q", args[i], got[i])
			}
		}
	})
}

// TestGrammar wants every answer to the grammar of another regctl to be a
// command line that there is.
func TestGrammar(t *testing.T) {
	t.Parallel()
	for theirs, ours := range grammar() {
		root := newRoot(newTestEnv(nil).Env)
		cmd, args, err := root.Find(strings.Fields(ours))
		if err != nil || cmd == root {
			t.Errorf("%s: there is no regctl %s", theirs, ours)
			continue
		}
		if err := cmd.ParseFlags(args); err != nil {
			t.Errorf("%s: regctl %s: %v", theirs, ours, err)
		}
		if cmd.Flags().NArg() == 0 {
			t.Errorf("%s: regctl %s: nothing to work on", theirs, ours)
		}
	}
}
