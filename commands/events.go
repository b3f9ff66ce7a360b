package commands

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/serve"
	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/event"
)

type eventsOptions struct {
	localOptions
	Endpoint string
	Output   string
}

const eventsHelp = `Look after the notifications of a regctl serve on this machine: whom it tells
what is pushed, pulled and deleted, as notifications.endpoints of its config.yml
says.

What an endpoint does not take waits, in order, over restarts, too: it is sent
again after a while, at most an hour. After a day it is given up, and kept for a
month, so that it can be sent after all: regctl events retry.

`

// eventsOfHelp is localHelp for commands whose argument is an endpoint.
const eventsOfHelp = `The server is the one that has the store of this machine, which is found as
regctl events ls finds it, with --config for a config file.`

const eventsExamples = `  regctl events ls
  regctl events test
  regctl events retry alerts`

type eventsRun = func(context.Context, *Env, *eventsOptions) error

func newEvents(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "events",
		Short:   "Look after the notifications of a server",
		Long:    eventsHelp + localHelp,
		Example: eventsExamples,
		GroupID: groupServe,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return usagef("events has no command %q; it has ls, test and retry: regctl events ls", args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newEventsLs(env, runEventsLs),
		newEventsTest(env, runEventsTest),
		newEventsRetry(env, runEventsRetry),
	)
	return cmd
}

func newEventsLs(env *Env, run eventsRun) *cobra.Command {
	o := &eventsOptions{}
	cmd := &cobra.Command{
		Use:   "ls [CONFIG.yml]",
		Short: "List the endpoints, and what waits for them",
		Long: `List the endpoints that a server tells what happens, with how much waits for each,
when one last took something, and why not since. The server is asked; without one
it is read from the store what waits. In a pipe: the names of the endpoints.

` + localHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.read(cmd, args); err != nil {
				return err
			}
			return run(cmd.Context(), env, o)
		},
	}
	o.add(cmd)
	addOutput(cmd, &o.Output)
	return cmd
}

func newEventsTest(env *Env, run eventsRun) *cobra.Command {
	cmd := newEventsOf(env, "test", run)
	cmd.Short = "Send a test to endpoints"
	cmd.Long = `Let the server send an event with the action "test" to each endpoint, or to one,
past what waits. If one takes it that took nothing before, what waits is sent.
The exit status is 7 if one does not take it.

` + eventsOfHelp
	return cmd
}

func newEventsRetry(env *Env, run eventsRun) *cobra.Command {
	cmd := newEventsOf(env, "retry", run)
	cmd.Short = "Send what was given up after all"
	cmd.Long = `Let the server send again what it has given up, after all else that waits, and try
endpoints at once that it would try later.

` + eventsOfHelp
	return cmd
}

// newEventsOf is a command about one endpoint, or all of them.
func newEventsOf(env *Env, verb string, run eventsRun) *cobra.Command {
	o := &eventsOptions{}
	cmd := &cobra.Command{
		Use: verb + " [ENDPOINT]",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.read(cmd, nil); err != nil {
				return err
			}
			if len(args) > 0 {
				if o.Endpoint = args[0]; o.Endpoint == "" {
					return usagef("the name of the endpoint is empty; see: regctl events ls")
				}
			}
			return run(cmd.Context(), env, o)
		},
	}
	o.add(cmd)
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	addOutput(cmd, &o.Output)
	return cmd
}

// openEvents finds the store and its notifications.
func (e *Env) openEvents(ctx context.Context, o *localOptions, command string) (serve.Events, config.Place, error) {
	parts, place, err := e.findStore(o, command)
	if err != nil {
		return nil, place, err
	}
	events, err := serve.OpenEvents(ctx, parts)
	if err != nil {
		return nil, place, e.cannotUpkeep(err, place, command+o.flags())
	}
	return events, place, nil
}

func runEventsLs(ctx context.Context, env *Env, o *eventsOptions) error {
	f, err := parseFormat(o.Output)
	if err != nil {
		return err
	}
	events, place, err := env.openEvents(ctx, &o.localOptions, "regctl events ls")
	if err != nil {
		return err
	}
	defer func() { _ = events.Close() }() // Nothing was written.
	found, err := events.List(ctx)
	if err != nil {
		return err
	}
	switch {
	case !events.Holder().Remote:
		env.say("no regctl serve has %s; this is what waits for the next one", env.tilde(place.Path))
	case len(found.Endpoints) == 0:
		env.say("the server (pid %d) has no endpoints; see notifications in its config file", events.Holder().PID)
	}
	var columns []string
	if env.Terminal {
		columns = []string{"ENDPOINT", "URL", "WAITING", "GIVEN UP", "DELIVERED", "LAST", "NEXT TRY", "ERROR"}
	}
	p := newPrinter(env.Stdout, f, "regctl.events/v1", "", columns)
	for _, s := range found.Endpoints {
		if err := p.add(s, s.Endpoint, env.eventCells(s)); err != nil {
			return err
		}
	}
	return p.end()
}

// eventCells are the cells of an endpoint. An error that is over is not told.
func (e *Env) eventCells(s event.Stats) []string {
	why := ""
	if s.LastFailure.After(s.LastSuccess) {
		why = s.LastError
	}
	clock := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return t.Local().Format(time.DateTime)
	}
	return []string{
		s.Endpoint, s.URL, strconv.FormatInt(s.Pending, 10), strconv.FormatInt(s.Dead, 10),
		strconv.FormatInt(s.Successes, 10), clock(s.LastSuccess), clock(s.NextTry), why,
	}
}

func runEventsTest(ctx context.Context, env *Env, o *eventsOptions) error {
	f, err := parseFormat(o.Output)
	if err != nil {
		return err
	}
	events, place, err := env.openEvents(ctx, &o.localOptions, "regctl events test")
	if err != nil {
		return err
	}
	defer func() { _ = events.Close() }() // Nothing was written.
	done, err := events.Test(ctx, serve.EventRequest{Endpoint: o.Endpoint})
	if err != nil {
		return env.cannotEvents(err, place.Path)
	}
	p := newPrinter(env.Stdout, f, "regctl.events.test/v1", "", nil)
	failed := 0
	for _, t := range done.Tests {
		plain := fmt.Sprintf("%s: %s", t.Endpoint, t.Status)
		if t.Error != "" {
			failed++
			plain = fmt.Sprintf("%s: failed: %s", t.Endpoint, t.Error)
		}
		if err := p.add(t, plain, nil); err != nil {
			return err
		}
	}
	if err := p.end(); err != nil {
		return err
	}
	if failed > 0 {
		return &ExitError{Status: exitUnreachable, Err: fmt.Errorf("%d of %d endpoints did not take the test", failed, len(done.Tests))}
	}
	return nil
}

func runEventsRetry(ctx context.Context, env *Env, o *eventsOptions) error {
	f, err := parseFormat(o.Output)
	if err != nil {
		return err
	}
	events, place, err := env.openEvents(ctx, &o.localOptions, "regctl events retry")
	if err != nil {
		return err
	}
	defer func() { _ = events.Close() }() // Nothing was written.
	done, err := events.Retry(ctx, serve.EventRequest{Endpoint: o.Endpoint})
	if err != nil {
		return env.cannotEvents(err, place.Path)
	}
	return f.printOne(env.Stdout, done, fmt.Sprintf("%d notifications are sent again", done.Events))
}

// cannotEvents gives an error of [serve.Events] its exit status.
func (e *Env) cannotEvents(err error, dir string) error {
	switch {
	case errors.Is(err, serve.ErrNotServed):
		return &ExitError{exitUnreachable, &hinted{err, fmt.Sprintf("no regctl serve has %s; it is the server that sends", e.tilde(dir))}}
	case errors.Is(err, serve.ErrNoEndpoint):
		return &ExitError{exitNotFound, &hinted{err, err.Error() + "; see: regctl events ls"}}
	}
	return err
}
