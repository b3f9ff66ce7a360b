package commands

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// Build is where the running program comes from.
type Build struct {
	Version  string `json:"version"` // Such as 0.1.0; "devel" outside a release.
	Commit   string `json:"commit"`  // Empty: unknown.
	Modified bool   `json:"modified"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
	Go       string `json:"go"`
}

// NewBuild returns the Build of this program. What the linker was told wins
// over what the go command recorded.
func NewBuild(version, commit string) Build {
	if commit == "none" { // GoReleaser, of a tree it knows nothing about.
		commit = ""
	}
	b := Build{Version: version, Commit: commit, OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if ok && commit == "" {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				b.Commit = s.Value
			case "vcs.modified":
				b.Modified = s.Value == "true"
			}
		}
	}
	if ok && version == "" && !strings.Contains(info.Main.Version, "-") { // Else made up for a commit.
		b.Version = info.Main.Version
	}
	b.Version = strings.TrimPrefix(b.Version, "v")
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "devel"
	}
	return b
}

// String is the line of `regctl version`.
func (b Build) String() string {
	line := fmt.Sprintf("regctl %s %s/%s", b.Version, b.OS, b.Arch)
	if b.Commit == "" {
		return line
	}
	commit := "commit " + b.Commit[:min(7, len(b.Commit))]
	if b.Modified {
		commit += ", modified"
	}
	return line + " (" + commit + ")"
}

type versionOptions struct {
	Output string
}

func newVersion(env *Env, run func(context.Context, *Env, *versionOptions) error) *cobra.Command {
	o := &versionOptions{}
	cmd := &cobra.Command{
		Use:               "version",
		Short:             "Say which regctl this is",
		GroupID:           groupOther,
		Args:              atMost(0),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), env, o) },
	}
	addOutput(cmd, &o.Output)
	return cmd
}

func runVersion(_ context.Context, env *Env, o *versionOptions) error {
	f, err := parseFormat(o.Output)
	if err != nil {
		return err
	}
	return f.printOne(env.Stdout, struct {
		Schema string `json:"schema"`
		Build
	}{"regctl.version/v1", env.Build}, env.Build.String())
}
