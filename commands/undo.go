package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/prune"
)

type undoOptions struct {
	remoteOptions
	ID     string
	List   bool
	Force  bool
	DryRun bool
	Quiet  bool
}

const undoHelp = `Put back what rm or prune has deleted.

  regctl undo           what was deleted last
  regctl undo ID        what that run deleted
  regctl undo --list    the runs that are recorded

  regctl undo --registry HOST --list
  regctl undo --registry HOST [ID]

Manifests are pushed as they were, and tags point where they pointed. A tag that
exists now and points elsewhere stays as it is, unless --force is given. An image
whose layers the registry has collected in the meantime cannot be put back; it is
told, and the others are. To undo twice does no harm.
A tag that is put back counts as pushed now: a prune that ranks by pushes sees it
as new.

With --registry it is what that regctl serve has recorded: what anybody has
deleted, with any client, over the last 30 days. What it has collected cannot be
put back, see regctl gc --undo.

Without, the records are in $XDG_STATE_HOME/regctl/undo or ~/.local/state/regctl/undo, one
file a run. They hold manifests only, and are yours to delete.`

func newUndo(env *Env, run func(context.Context, *Env, *undoOptions) error) *cobra.Command {
	o := &undoOptions{}
	cmd := &cobra.Command{
		Use:     "undo [ID]",
		Short:   "Put back what rm or prune has deleted",
		Long:    undoHelp,
		GroupID: groupClean,
		Args:    atMost(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			ids, _ := prune.Journals(env.undoHome()) // None if they cannot be read.
			return ids, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				if o.ID = args[0]; o.ID == "" {
					return usagef("the ID is empty; see: regctl undo --list")
				}
			}
			// Where a variable is empty, other records would be undone.
			if err := noneEmpty(cmd.Flags(), "registry"); err != nil {
				return err
			}
			return run(cmd.Context(), env, o)
		},
	}
	flags := cmd.Flags()
	o.add(cmd)
	o.addJobs(cmd)
	flags.BoolVar(&o.List, "list", false, "list the runs that are recorded")
	flags.BoolVar(&o.Force, "force", false, "move tags back that point elsewhere now")
	flags.BoolVar(&o.DryRun, "dry-run", false, "tell what would be put back")
	flags.BoolVarP(&o.Quiet, "quiet", "q", false, "tell errors only")
	return cmd
}

func runUndo(ctx context.Context, env *Env, o *undoOptions) error {
	if o.Registry != "" {
		return runUndoServer(ctx, env, o)
	}
	dir := env.undoHome()
	if dir == "" {
		return usagef("there is no place for records: neither $XDG_STATE_HOME nor a home directory")
	}
	ids, err := prune.Journals(dir)
	if err != nil {
		return err
	}
	if o.List {
		return listJournals(env, dir, ids)
	}
	if o.ID == "" {
		if o.ID, err = lastJournal(dir, ids); err != nil {
			return err
		}
	}
	journal, err := prune.OpenJournal(dir, o.ID)
	if errors.Is(err, os.ErrNotExist) {
		return &ExitError{exitNotFound, fmt.Errorf("there is no record %s in %s; see: regctl undo --list", o.ID, dir)}
	}
	if err != nil {
		return err
	}
	defer journal.Close()
	open := env.registries(&o.remoteOptions, env.warn)
	undone, err := prune.Undo(looking(ctx), func(address string) (oci.Registry, error) {
		t, err := recordedTarget(address)
		if err != nil {
			return nil, err
		}
		reg, err := open.open(t)
		if err != nil {
			return nil, err
		}
		return restoring{reg}, nil
	}, journal, prune.UndoOptions{Force: o.Force, DryRun: o.DryRun, Jobs: o.Jobs})
	if err != nil {
		return err
	}
	if err := tellUndone(env, o, undone); err != nil || o.DryRun {
		return err
	}
	return prune.Mark(dir, o.ID, prune.KindUndone, env.Now())
}

// recordedTarget reads the address of a registry as a record has it.
func recordedTarget(address string) (target, error) {
	if !strings.HasPrefix(address, layoutPrefix) {
		address += "/"
	}
	return parseTarget(address, func() (string, error) { return "", usagef("%q is no registry", address) })
}

// lastJournal is the newest of which something was deleted and not undone.
func lastJournal(dir string, ids []string) (string, error) {
	for i := len(ids) - 1; i >= 0; i-- {
		j, err := prune.Summarize(dir, ids[i])
		if err != nil {
			return "", err
		}
		if !j.Undone && j.Tags+j.Manifests > 0 {
			return ids[i], nil
		}
	}
	return "", &ExitError{exitNotFound, fmt.Errorf("nothing is recorded in %s that could be undone", dir)}
}

func listJournals(env *Env, dir string, ids []string) error {
	var rows [][]string
	for _, id := range ids {
		j, err := prune.Summarize(dir, id)
		if err != nil {
			return err
		}
		state := ""
		switch {
		case j.Undone:
			state = "undone"
		case !j.Ended:
			state = "interrupted"
		}
		if !env.Terminal {
			if _, err := fmt.Fprintln(env.Stdout, id); err != nil {
				return err
			}
			continue
		}
		rows = append(rows, []string{
			id, j.Time.Local().Format(time.DateTime), strings.Join(j.Registries, ", "),
			fmt.Sprint(j.Tags), fmt.Sprint(j.Manifests), state,
		})
	}
	if len(ids) == 0 {
		env.say("nothing is recorded in %s", dir)
	}
	if len(rows) == 0 {
		return nil
	}
	return writeTable(env.Stdout, []string{"ID", "TIME", "REGISTRY", "TAGS", "MANIFESTS", "STATE"}, rows)
}

// undoLines is how many tags are told by name.
const undoLines = 40

// tellUndone tells what became of it, and fails if some could not be put back.
func tellUndone(env *Env, o *undoOptions, undone []prune.Undone) error {
	restored, failed := 0, 0
	would := ""
	var lines []string
	if o.DryRun {
		would = "would be "
	}
	for _, u := range undone {
		name := u.Repo + ":" + u.Tag
		if u.Tag == "" {
			name = u.Repo + "@" + string(u.Digest)
		}
		switch u.State {
		case prune.Restored:
			restored++
			if u.Tag != "" {
				lines = append(lines, fmt.Sprintf("%s → %s %srestored", name, u.Digest, would))
			}
		case prune.Already:
		case prune.Conflict:
			failed++
			env.say("%s points to %s now and stays so; --force moves it back to %s", name, u.Now, u.Digest)
		default:
			failed++
			env.say("%s cannot be restored: %v", name, u.Err)
		}
	}
	if len(lines) > undoLines {
		lines = []string{fmt.Sprintf("%s %srestored", many(len(lines), "tag"), would)}
	}
	if !o.Quiet && len(lines) > 0 {
		env.say("%s", strings.Join(lines, "\n"))
	}
	if restored == 0 && failed == 0 && !o.Quiet {
		env.say("all of it is there: nothing to restore")
	}
	if failed > 0 {
		return &ExitError{Status: exitSome}
	}
	return nil
}
