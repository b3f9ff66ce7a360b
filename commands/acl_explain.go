package commands

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve"
	"github.com/regctl/regctl/serve/auth"
	"github.com/regctl/regctl/serve/auth/rule"
	"github.com/regctl/regctl/serve/config"
)

type aclExplainOptions struct {
	Who, What, Action string

	Groups []string
	Config string
	From   string
	Output string
}

const aclExplainHelp = `Tell whether somebody may do something, which rule decides that, and why: regctl
acl has the rules. On a terminal the rules that were tried before it are listed.

WHO is a name of a user, user:NAME, robot:NAME or anonymous; WHAT a repository, or
REPOSITORY:TAG; ACTION pull, push, overwrite, delete or list. The groups of a user are
those of groups: in the config file, and of --group: those of a directory are not
asked for. A robot may no more than its scopes say, which are read from the store.

The config file is --config, else $REGISTRY_CONFIGURATION_PATH; variables count as
they do for regctl serve.

Exit status: 0 allowed · 4 denied.`

const aclExplainExamples = `  regctl acl explain alice php/app:latest push --config config.yml
  regctl acl explain anonymous php/app pull
  regctl acl explain user:bob java/app:v1 overwrite --group java --from 10.1.2.3
  regctl acl explain robot:ci php/app push -o json`

func newACLExplain(env *Env, run func(context.Context, *Env, *aclExplainOptions) error) *cobra.Command {
	o := &aclExplainOptions{}
	cmd := &cobra.Command{
		Use:     "explain WHO WHAT ACTION",
		Short:   "Tell which rule decides, and why",
		Long:    aclExplainHelp,
		Example: aclExplainExamples,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 3 {
				return usagef("usage: regctl acl explain WHO WHAT ACTION, as in: regctl acl explain alice php/app:latest push")
			}
			o.Who, o.What, o.Action = args[0], args[1], args[2]
			if err := noneEmpty(cmd.Flags(), "config", "from"); err != nil {
				return err
			}
			return run(cmd.Context(), env, o)
		},
		ValidArgsFunction: completeExplain,
	}
	cmd.Flags().StringArrayVar(&o.Groups, "group", nil, "a `NAME` of a group that the user is in (repeatable)")
	cmd.Flags().StringVar(&o.Config, "config", "", "the rules are those of the config file `FILE`")
	cmd.Flags().StringVar(&o.From, "from", "", "the address `ADDR` of the caller")
	_ = cmd.MarkFlagFilename("config", "yml", "yaml") // Cannot fail: the flag was added a moment ago.
	addOutput(cmd, &o.Output)
	return cmd
}

// completeExplain completes what is known without a configuration.
func completeExplain(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		return []cobra.Completion{"anonymous", "user:", "robot:"}, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	case 2:
		var words []cobra.Completion
		for a := rule.Pull; a <= rule.List; a++ {
			words = append(words, a.String())
		}
		return words, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// explanation is what `acl explain` tells.
type explanation struct {
	Schema     string   `json:"schema"`
	Who        string   `json:"who"`
	Groups     []string `json:"groups"`
	From       string   `json:"from,omitempty"`
	Repository string   `json:"repository"`
	Tag        string   `json:"tag,omitempty"`
	Action     string   `json:"action"`

	Allowed bool   `json:"allowed"`
	Rule    int    `json:"rule"` // 0: none decided.
	Where   string `json:"where,omitempty"`
	Because string `json:"because,omitempty"`
	Reason  string `json:"reason"`

	// Tried are the rules before the one that decided.
	Tried []triedRule `json:"tried"`
}

type triedRule struct {
	Rule   int    `json:"rule"`
	Where  string `json:"where,omitempty"`
	Passed string `json:"passed"`
}

// asker is what `acl explain` asks about.
type asker struct {
	session auth.Session
	scopes  []string // Of a robot, if Limit is set.
	addr    netip.Addr
	repo    string
	tag     string
	action  rule.Action
}

func runACLExplain(ctx context.Context, env *Env, o *aclExplainOptions) error {
	f, err := parseFormat(o.Output)
	if err != nil {
		return err
	}
	a, err := o.asker()
	if err != nil {
		return err
	}
	c, err := env.rulesConfig(o)
	if err != nil {
		return err
	}
	policy, err := serve.RulesOf(c)
	if err != nil {
		return &ExitError{exitUsage, err}
	}
	a.addGroups(c, o.Groups)
	if a.session.Kind == rule.Robot {
		if err := env.limitRobot(ctx, o, &a); err != nil {
			env.say("its scopes are not known, and it may be allowed less: %v", err)
		}
	}
	env.noteRules(c, policy, &a)
	e := a.explain(ctx, policy)
	if env.Terminal && f.name == "" {
		for _, t := range e.Tried {
			if err := write(env.Stdout, []byte(t.line()+"\n"), nil); err != nil {
				return err
			}
		}
	}
	verdict := "allowed: "
	if !e.Allowed {
		verdict = "denied: "
	}
	if err := f.printOne(env.Stdout, e, verdict+e.Reason); err != nil {
		return err
	}
	if !e.Allowed {
		return &ExitError{Status: exitDenied}
	}
	return nil
}

// rulesConfig reads the configuration. What is strange about it is told by
// others.
func (e *Env) rulesConfig(o *aclExplainOptions) (*config.Config, error) {
	name, raw, err := e.configFile(o.Config)
	if err != nil {
		return nil, err
	}
	c, _, err := config.Parse(name, raw, e.Environ)
	if err != nil {
		return nil, &ExitError{exitUsage, err}
	}
	if name == "" && !c.Access.On && c.Auth.Htpasswd == nil {
		e.say("no config file is named, and so everyone may do everything; name one: --config CONFIG.yml")
	}
	return c, nil
}

// asker reads the arguments.
func (o *aclExplainOptions) asker() (a asker, err error) {
	if a.session.Identity, err = parseWho(o.Who); err != nil {
		return a, err
	}
	if a.session.Kind == rule.Anonymous && len(o.Groups) > 0 {
		return a, usagef("who is anonymous is in no group; name a user")
	}
	t, err := parseTarget(o.What, func() (string, error) { return defaultRegistry, nil })
	if err != nil {
		return a, err
	}
	if t.layout != "" || t.repo == "" {
		return a, usagef("%q is no repository: php/app, or php/app:latest", o.What)
	}
	if a.repo = t.repo; !oci.IsDigest(t.ref) {
		a.tag = t.ref
	}
	var ok bool
	if a.action, ok = rule.ParseAction(o.Action); !ok {
		return a, usagef("there is no action %q; there is pull, push, overwrite, delete and list", o.Action)
	}
	if o.From != "" {
		if a.addr, err = netip.ParseAddr(o.From); err != nil {
			return a, usagef("--from %q is no address, such as 10.1.2.3", o.From)
		}
	}
	return a, nil
}

// parseWho reads a caller: "anonymous", "alice", "user:alice" or "robot:ci".
func parseWho(s string) (auth.Identity, error) {
	kind, name, ok := strings.Cut(s, ":")
	switch {
	case s == "anonymous":
		return auth.Identity{}, nil
	case s == "all" || s == "everyone":
		return auth.Identity{}, usagef("%s is more than one; name one of them: alice, or anonymous", s)
	case kind == "group":
		return auth.Identity{}, usagef("a group does nothing; name somebody who is in it: regctl acl explain USER WHAT ACTION --group %s", name)
	case !ok && s != "":
		return auth.Identity{Kind: rule.User, Name: s}, nil
	case kind == "user" && name != "":
		return auth.Identity{Kind: rule.User, Name: name}, nil
	case kind == "robot" && name != "":
		return auth.Identity{Kind: rule.Robot, Name: name}, nil
	}
	return auth.Identity{}, usagef("%q is nobody; there is anonymous, user:NAME and robot:NAME", s)
}

// addGroups adds the groups that the configuration says, and more.
func (a *asker) addGroups(c *config.Config, more []string) {
	if a.session.Kind == rule.Anonymous {
		return
	}
	for _, group := range slices.Sorted(maps.Keys(c.Groups)) {
		if slices.Contains(c.Groups[group], a.session.String()) {
			a.session.Groups = append(a.session.Groups, group)
		}
	}
	for _, group := range more {
		if !slices.Contains(a.session.Groups, group) {
			a.session.Groups = append(a.session.Groups, group)
		}
	}
}

// limitRobot reads the scopes of a robot from the store.
func (e *Env) limitRobot(ctx context.Context, o *aclExplainOptions, a *asker) error {
	robots, _, err := e.openRobots(ctx, &localOptions{Config: o.Config}, "regctl acl explain")
	if err != nil {
		return err
	}
	defer func() { _ = robots.Close() }() // Nothing was written.
	all, err := robots.List(ctx)
	if err != nil {
		return err
	}
	for _, r := range slices.Backward(all.Robots) { // The last one of a name is the one that is.
		if r.Name != a.session.Name {
			continue
		}
		if r.State != serve.RobotActive {
			e.say("robot:%s is %s, and cannot log in", r.Name, r.State)
		}
		a.scopes = r.Scopes
		a.session.Limit, err = auth.RobotLimit(r.Scopes)
		return err
	}
	return errors.New("there is no such robot; see regctl token ls")
}

// noteRules says what else may matter.
func (e *Env) noteRules(c *config.Config, p *rule.Policy, a *asker) {
	user := a.session.Kind == rule.User
	who := rule.Subject{Kind: a.session.Kind, Name: a.session.Name, Groups: a.session.Groups, Addr: a.addr}
	switch {
	case c.Auth.Token != nil && !c.Access.On && user:
		e.say("who has a token of %s may do what that says: there are no rules", c.Auth.Token.Realm)
	case c.Auth.LDAP != nil && user:
		e.say("groups of the directory are not asked for: name them with --group")
	}
	if a.tag == "" && p.TagMatters(who, a.repo, a.action) {
		e.say("this depends on the tag: %s:TAG", a.repo)
	}
	for _, step := range p.Explain(who, a.repo, a.tag, a.action) {
		if !a.addr.IsValid() && (step.Passed == "this address" || step.Passed == "" && len(p.Rules()[step.Rule-1].From) > 0) {
			e.say("rule %d is about addresses: name one with --from", step.Rule)
		}
	}
}

// explain asks the rules, as a server does.
func (a *asker) explain(ctx context.Context, p *rule.Policy) explanation {
	s := &a.session
	who := rule.Subject{Kind: s.Kind, Name: s.Name, Groups: s.Groups, Addr: a.addr}
	caller := oci.Caller{}
	if a.addr.IsValid() {
		caller.Addr = a.addr.String()
	}
	e := explanation{
		Schema: "regctl.acl-explain/v1", Who: "anonymous", Groups: append([]string{}, s.Groups...),
		From: caller.Addr, Repository: a.repo, Tag: a.tag, Action: a.action.String(), Tried: []triedRule{},
		Allowed: s.Decide(oci.WithCaller(ctx, caller), p, a.repo, a.tag, a.action).Allowed,
	}
	switch s.Kind {
	case rule.User:
		e.Who = "user:" + s.Name
	case rule.Robot:
		e.Who = "robot:" + s.Name
	}
	d := p.Decide(who, a.repo, a.tag, a.action)
	if s.Limit != nil && (d.Rule == 0 || d.Allowed) {
		d = a.limited(p, who, d)
	}
	e.Rule, e.Reason = d.Rule, d.Reason
	if d.Rule > 0 {
		r := p.Rules()[d.Rule-1]
		e.Where, e.Because = r.Where, r.Because
	}
	for _, step := range p.Explain(who, a.repo, a.tag, a.action) {
		if step.Passed != "" {
			e.Tried = append(e.Tried, triedRule{step.Rule, p.Rules()[step.Rule-1].Where, step.Passed})
		}
	}
	return e
}

// limited is decision d of the rules, where the scopes of a robot have a say.
func (a *asker) limited(p *rule.Policy, who rule.Subject, d rule.Decision) rule.Decision {
	limit := a.session.Limit.Decide(who, a.repo, a.tag, a.action)
	open := p.Decide(rule.Subject{Addr: a.addr}, a.repo, a.tag, a.action)
	switch {
	case !limit.Allowed && open.Allowed:
		d = open
		d.Reason += ", without a login even"
	case !limit.Allowed && d.Allowed:
		d.Reason = "no scope of the robot allows it, though this does: " + d.Reason
	case !limit.Allowed:
		d.Reason = "no rule is about it, and no scope of the robot allows it"
	case d.Allowed:
		d.Reason += fmt.Sprintf(", and the scope %s of the robot", a.scopes[limit.Rule-1])
	default:
		d.Reason = fmt.Sprintf("the scope %s of the robot, as no rule is about it", a.scopes[limit.Rule-1])
	}
	return d
}

// line is a rule that did not decide, for people.
func (t triedRule) line() string {
	name := fmt.Sprintf("rule %d", t.Rule)
	if t.Where != "" {
		name += " (" + t.Where + ")"
	}
	return name + ": not about " + t.Passed
}
