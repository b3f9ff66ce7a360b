package commands

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/serve"
	"github.com/regctl/regctl/serve/auth"
)

type tokenCreateOptions struct {
	localOptions
	Name    string
	Scopes  []string
	Expires string
	Note    string
	Output  string
}

const (
	// robotExpires is when a robot ends if nothing is said.
	robotExpires = "90d"
	never        = "never"
	// dockerConfig before a host is the format of ~/.docker/config.json.
	dockerConfig = "docker-config="
)

const tokenCreateHelp = `Make a robot, and write its secret to stdout. It is shown this once: what is kept of
it is a hash.

A scope is REPOSITORY:ACTIONS, or REPOSITORY:TAG:ACTIONS for push, overwrite and
delete; quote it. In a name * is anything but a slash, ** anything. The actions are
pull, push, overwrite, delete and list, with commas between, or all; push is also to
overwrite. The flag may be repeated.

-o docker-config=HOST writes what docker, podman and Kubernetes take:

  regctl token create nodes --scope '**:pull' -o docker-config=registry.lan |
    kubectl create secret generic registry --type kubernetes.io/dockerconfigjson \
      --from-file .dockerconfigjson=/dev/stdin

`

const tokenCreateExamples = `  regctl token create ci --scope 'php/**:pull,push' --note 'GitLab, group php'
  regctl token create ci --scope 'php/**:pull,push' | regctl login registry.lan -u ci --password-stdin
  regctl token create release --scope 'php/app:v*:push' --scope '**:pull' --expires 12h
  regctl token create nodes --scope '**:pull' --expires never -o docker-config=registry.lan:5000`

func newTokenCreate(env *Env, run func(context.Context, *Env, *tokenCreateOptions) error) *cobra.Command {
	o := &tokenCreateOptions{}
	cmd := &cobra.Command{
		Use:     "create NAME --scope REPOSITORY:ACTIONS",
		Short:   "Make a robot, and show its secret once",
		Long:    tokenCreateHelp + tokenStoreHelp,
		Example: tokenCreateExamples,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("one name is needed: regctl token create NAME --scope 'REPOSITORY:pull,push'")
			}
			o.Name = args[0]
			if err := o.read(cmd, nil); err != nil {
				return err
			}
			return run(cmd.Context(), env, o)
		},
	}
	o.addStore(cmd, cobra.ArbitraryArgs)
	flags := cmd.Flags()
	flags.StringArrayVar(&o.Scopes, "scope", nil, "it may `REPOSITORY:ACTIONS`, such as 'php/**:pull,push'")
	flags.StringVar(&o.Expires, "expires", robotExpires, "it ends after `AGE`, such as 12h or 30d, or never")
	flags.StringVar(&o.Note, "note", "", "what it is for, in a line of `TEXT`")
	flags.StringVarP(&o.Output, "output", "o", "", "write `FORMAT`: json, jsonl, yaml, "+templatePrefix+"TEMPLATE or "+dockerConfig+"HOST")
	formats := []cobra.Completion{"json", "jsonl", "yaml", templatePrefix, dockerConfig}
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
	_ = cmd.RegisterFlagCompletionFunc("expires", cobra.FixedCompletions([]cobra.Completion{"30d", robotExpires, "365d", never}, cobra.ShellCompDirectiveNoFileComp))
	for _, name := range []string{"scope", "note"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
	return cmd
}

// newRobot is a robot with its secret.
type newRobot struct {
	serve.Robot
	Secret string `json:"secret"`
}

func runTokenCreate(ctx context.Context, env *Env, o *tokenCreateOptions) error {
	show, err := o.shower()
	if err != nil {
		return err
	}
	request, err := o.request(env.Now())
	if err != nil {
		return err
	}
	robots, place, err := env.openRobots(ctx, &o.localOptions, "regctl token create")
	if err != nil {
		return err
	}
	secret, sum := auth.NewRobotSecret()
	request.Sum = sum[:]
	made, err := robots.Create(ctx, request)
	if err != nil {
		return errors.Join(cannotCreate(err, o.Name), robots.Close())
	}
	if err := show(env.Stdout, newRobot{made.Robot, secret}); err != nil {
		_, undo := robots.Revoke(context.WithoutCancel(ctx), serve.RobotNames{Names: []string{o.Name}})
		return errors.Join(fmt.Errorf("nobody knows the secret of %s, so that it is revoked: %w", o.Name, err), undo, robots.Close())
	}
	env.sayRobot(made, robots.Holder().Remote, place.Path)
	return robots.Close()
}

// request is the robot that was asked for.
func (o *tokenCreateOptions) request(now time.Time) (q serve.RobotRequest, err error) {
	q = serve.RobotRequest{Name: o.Name, Scopes: o.Scopes, Note: o.Note}
	if err := auth.CheckRobotName(o.Name); err != nil {
		return q, &ExitError{exitInvalid, err}
	}
	if len(o.Scopes) == 0 {
		return q, usagef("what may %s do? --scope 'REPOSITORY:pull,push', or --scope '**:all'", o.Name)
	}
	if _, err := auth.RobotLimit(o.Scopes); err != nil {
		return q, &ExitError{exitInvalid, fmt.Errorf("--scope %w", err)}
	}
	if o.Expires == never {
		return q, nil
	}
	age, err := parseAge(o.Expires)
	if err != nil || age <= 0 {
		return q, usagef("--expires %q is no time such as 12h, 30d or 2w, nor never", o.Expires)
	}
	q.Expires = now.Add(age).UTC().Truncate(time.Second)
	return q, nil
}

// shower returns what writes a robot in the format that was asked for.
func (o *tokenCreateOptions) shower() (func(io.Writer, newRobot) error, error) {
	if host, ok := strings.CutPrefix(o.Output, dockerConfig); ok {
		_, host = cutScheme(strings.TrimSuffix(host, "/"))
		if host == "" || strings.ContainsAny(host, "/ @") {
			return nil, usagef("-o %s: name the registry as images do: %sregistry.lan:5000", o.Output, dockerConfig)
		}
		return func(w io.Writer, r newRobot) error {
			raw, err := json.MarshalIndent(dockerLogins(host, r), "", "  ")
			return write(w, append(raw, '\n'), err)
		}, nil
	}
	f, err := parseFormat(o.Output)
	if err != nil {
		return nil, err
	}
	return func(w io.Writer, r newRobot) error { return f.printOne(w, r, r.Secret) }, nil
}

// dockerLogins is a ~/.docker/config.json, which is a dockerconfigjson of
// Kubernetes, too.
func dockerLogins(host string, r newRobot) any {
	type login struct {
		Username string `json:"username"`
		Password string `json:"password"`
		Auth     string `json:"auth"`
	}
	both := base64.StdEncoding.EncodeToString([]byte(r.Name + ":" + r.Secret))
	return map[string]map[string]login{"auths": {host: {r.Name, r.Secret, both}}}
}

// sayRobot says what was made.
func (e *Env) sayRobot(made serve.RobotMade, served bool, dir string) {
	until := "it never expires"
	if r := made.Robot; !r.Expires.IsZero() {
		until = "it expires on " + r.Expires.Local().Format(time.DateTime)
	}
	e.say("robot %s may %s; %s. Its secret is shown this once", made.Robot.Name, strings.Join(made.Robot.Scopes, " "), until)
	switch {
	case made.Open:
		e.say("the server asks nobody who they are, so that everybody may all; see access and auth of its config file")
	case !served:
		e.say("no regctl serve has %s; the next one lets it in", e.tilde(dir))
	}
	if pushesBlindly(made.Robot.Scopes) {
		e.say("no scope has pull, and clients look what is there before they push; unless everyone may pull, add it: --scope 'REPOSITORY:pull,push'")
	}
}

// pushesBlindly tells whether scopes are to push and none is to pull.
func pushesBlindly(scopes []string) bool {
	push := false
	for _, scope := range scopes {
		r, err := auth.ParseRobotScope(scope)
		if err != nil || slices.Contains(r.May, "pull") || slices.Contains(r.May, "all") {
			return false
		}
		push = push || slices.Contains(r.May, "push")
	}
	return push
}

// cannotCreate gives an error of [serve.Robots] its exit status.
func cannotCreate(err error, name string) error {
	switch {
	case errors.Is(err, serve.ErrRobotExists):
		return &hinted{err, fmt.Sprintf("there is a robot %s; give the new one another name, or first: regctl token revoke %s", name, name)}
	case errors.Is(err, serve.ErrRobotInvalid):
		return &ExitError{exitInvalid, err}
	}
	return err
}
