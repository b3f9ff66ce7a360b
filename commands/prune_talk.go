package commands

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/regctl/regctl/client"
	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/prune"
)

// confirm asks on the terminal; what is no yes is a no.
func (e *Env) confirm(ctx context.Context, question string) (bool, error) {
	_, _ = fmt.Fprintf(e.Stderr, "%s [y/N] ", question)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(e.Stdin).ReadString('\n') // The end of input is a no.
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case a := <-answer:
		return a == "y" || a == "yes", nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// explain adds to what stopped the run what to try next.
func (p *pruner) explain(err error) error {
	var exit *ExitError
	if errors.As(err, &exit) {
		return err
	}
	if p.journal != nil && p.sum.done.tags+p.sum.done.manifests > 0 {
		p.talk(fmt.Sprintf("deleted %s until then; undo: regctl undo %s", many(p.sum.done.tags, "tag"), p.journal.ID()))
	}
	switch {
	case errors.Is(err, prune.ErrDeletesOff):
		return &hinted{err, p.target.host + " refuses deletes. " + deletesOn}
	case errors.Is(err, oci.Unsupported) && len(p.names) == 0:
		return &hinted{err, err.Error() + "; name repositories: regctl prune " + p.target.host + "/REPO"}
	}
	return p.target.hint(err, "regctl prune", strings.Join(p.o.Repos, " "))
}

// deletesOn is what to do about a registry that refuses deletes.
const deletesOn = `docker's registry, and a regctl serve with its configuration, delete only with
  storage:
    delete:
      enabled: true
in config.yml, or REGISTRY_STORAGE_DELETE_ENABLED=true in the environment. ghcr.io
deletes by GitHub's own API only.`

// finish says what was done, and tells the exit status.
func (p *pruner) finish(ctx context.Context) error {
	s := &p.sum
	p.talk(p.summary(ctx))
	for _, line := range s.hints() {
		p.talk(line)
	}
	if p.exec != nil && p.exec.Refused() {
		return &hinted{prune.ErrDeletesOff, p.target.host + " refused what was to be deleted. " + deletesOn}
	}
	switch {
	case s.failed > 0:
		return &ExitError{Status: exitSome}
	case s.emptied > 0:
		return &ExitError{Status: exitUsage}
	case p.o.ExitCode && s.planned.tags+s.planned.manifests > 0:
		return &ExitError{Status: exitWouldChange}
	}
	return nil
}

func (p *pruner) summary(ctx context.Context) string {
	s := &p.sum
	switch {
	case p.o.DryRun && s.planned.tags+s.planned.manifests > 0:
		return fmt.Sprintf("would delete %s, %s, %s; order: %s",
			many(s.planned.tags, "tag"), many(s.images, "image"), s.planned.size(), s.orders())
	case p.o.DryRun:
		return fmt.Sprintf("nothing to delete; %s in %s stay", many(s.tags, "tag"), many(s.repos, "repository"))
	case s.done.tags+s.done.manifests == 0:
		return fmt.Sprintf("nothing deleted; %s in %s stay", many(s.tags, "tag"), many(s.repos, "repository"))
	}
	text := fmt.Sprintf("deleted %s; %s frees %s", many(s.done.tags, "tag"), collector(ctx, p.reg), s.done.size())
	if p.journal != nil {
		text += ". Undo: regctl undo " + p.journal.ID()
	}
	return text
}

// collector names what collects the garbage of a registry.
func collector(ctx context.Context, reg oci.Registry) string {
	if isOurs(ctx, reg) {
		return "regctl gc"
	}
	return "the registry's own garbage collection"
}

// isOurs tells a regctl serve, of which something was asked before.
func isOurs(ctx context.Context, reg oci.Registry) bool {
	c, ok := reg.(*client.Client)
	return ok && c.MayTellFirst(ctx)
}

// many writes a number of things.
func many(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if stem, ok := strings.CutSuffix(what, "y"); ok {
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// inThousands writes a number: 1,000.
func inThousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
