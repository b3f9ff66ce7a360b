package commands

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/prune"
	"github.com/regctl/regctl/gc"
)

// pruneItem is a tag in the output.
type pruneItem struct {
	Repo      string     `json:"repo"`
	Tag       string     `json:"tag"`
	Digest    oci.Digest `json:"digest"`
	MediaType string     `json:"mediaType"`
	Created   *time.Time `json:"created"`
	Pushed    *time.Time `json:"pushed"`
	Size      int64      `json:"size"`
	Platforms []string   `json:"platforms"`
	Action    string     `json:"action"`
	Reason    string     `json:"reason"`
	Error     *string    `json:"error"`
}

// The actions of a pruneItem.
const (
	actionDelete = "delete"
	actionKeep   = "keep"
	actionSkip   = "skip"   // To be deleted by the plan, and kept.
	actionFailed = "failed" // So does what was to be deleted as well, when work on its repository was broken off.
)

func newPruneItem(repo string, t prune.Tag) pruneItem {
	item := pruneItem{
		Repo: repo, Tag: t.Tag, Digest: t.Digest, MediaType: t.MediaType, Size: t.Size,
		Created: orNull(t.Created), Pushed: orNull(t.Pushed), Platforms: []string{}, Action: actionKeep, Reason: t.Reason,
	}
	for _, p := range t.Platforms {
		item.Platforms = append(item.Platforms, strings.TrimRight(p.OS+"/"+p.Architecture+"/"+p.Variant, "/"))
	}
	if t.Delete {
		item.Action = actionDelete
	}
	return item
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// outcome is what came of what was planned.
func (i *pruneItem) outcome(w *work, of map[string]prune.Outcome) {
	if w.report == nil || i.Action != actionDelete {
		return
	}
	o, ok := of[i.Tag]
	switch {
	case ok && o.Deleted:
		return
	case ok && o.Err == nil:
		i.Action, i.Reason = actionSkip, o.Reason
		return
	}
	i.Action = actionFailed
	err := o.Err
	if err == nil {
		err = w.err
	}
	if err != nil {
		text := err.Error()
		i.Error = &text
	}
}

// pruneOutput prints repositories as they are done.
type pruneOutput struct {
	env     *Env
	o       *pruneOptions
	printer printer
	tail    *tail // Nil: the format has no room for a summary.
}

func newPruneOutput(env *Env, o *pruneOptions, host string) (*pruneOutput, error) {
	f, err := parseFormat(o.Output)
	if err != nil {
		return nil, err
	}
	out := &pruneOutput{env: env, o: o}
	var columns []string
	if env.Terminal && o.DryRun {
		columns = []string{"REPOSITORY", "TAG", "AGE", "SIZE", "ACTION", "REASON"}
	}
	w := env.Stdout
	if f.name == "json" || f.name == "yaml" {
		out.tail = &tail{w: w, yaml: f.name == "yaml"}
		w = out.tail
	}
	out.printer = newPrinter(w, f, "regctl.prune/v1", host, columns)
	return out, nil
}

// plain tells that only names go to stdout.
func (out *pruneOutput) plain() bool {
	return out.o.Output == "" && (!out.env.Terminal || !out.o.DryRun)
}

func (out *pruneOutput) repo(w *work) error {
	outcomes := map[string]prune.Outcome{}
	if w.report != nil {
		for _, o := range w.report.Tags {
			outcomes[o.Tag] = o
		}
		out.surprises(w)
	}
	for _, t := range w.plan.Tags {
		item := newPruneItem(w.repo, t)
		item.outcome(w, outcomes)
		if out.plain() && (item.Action != actionDelete || out.env.Terminal || out.o.Quiet) {
			continue
		}
		age := "unknown"
		if !t.Date.IsZero() {
			age = shortAge(out.env.Now().Sub(t.Date))
		}
		cells := []string{w.repo, t.Tag, age, humanSize(t.Size), item.Action, item.Reason}
		if err := out.printer.add(item, w.repo+":"+t.Tag, cells); err != nil {
			return err
		}
	}
	return nil
}

// surprises tells what stays against the plan.
func (out *pruneOutput) surprises(w *work) {
	if out.o.Quiet {
		return
	}
	for _, o := range slices.Concat(w.report.Tags, w.report.Manifests) {
		if o.Reason == "" || o.Reason == prune.HolderStays {
			continue
		}
		name := ":" + o.Tag
		if o.Tag == "" {
			name = "@" + string(o.Digest)
		}
		out.env.say("%s%s is kept: %s", w.repo, name, whyKept(o.Reason))
	}
}

// whyKept says a reason in words.
func whyKept(reason string) string {
	if by, ok := strings.CutPrefix(reason, prune.SharedDigest); ok {
		if oci.IsDigest(by) {
			return "this registry deletes by digest only, if at all, and that takes the image along; see --overwrite-untag"
		}
		return "this registry deletes by digest only, and " + by + " needs it; see --overwrite-untag"
	}
	switch reason {
	case prune.Moved:
		return "it changed since the plan was made"
	case prune.NeededAgain:
		return "something came since the plan was made that needs it"
	case prune.TagStays:
		return "this registry deletes digests and leaves their tags"
	case prune.NamedByIndex:
		return "the registry refuses: an index without a tag names it, or deletes are off"
	}
	return reason
}

// shortAge writes an age as --older takes it.
func shortAge(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "0m"
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

func (out *pruneOutput) end(s *pruneSum, p *pruner) error {
	if err := out.printer.end(); err != nil || out.tail == nil {
		return err
	}
	of := &s.done
	if out.o.DryRun {
		of = &s.planned
	}
	undo := ""
	if p.journal != nil && s.done.tags+s.done.manifests > 0 {
		undo = p.journal.ID()
	}
	return out.tail.finish(pruneTail{
		DryRun: out.o.DryRun, Order: s.orders(), Undo: undo,
		Summary: pruneSummary{s.repos, of.tags, of.manifests, of.bytes, of.exact(), s.failed, s.emptied},
	})
}

// pruneTail is what is known at the end, and stands beside the items.
type pruneTail struct {
	DryRun  bool         `json:"dryRun"`
	Order   string       `json:"order"`
	Undo    string       `json:"undo"`
	Summary pruneSummary `json:"summary"`
}

type pruneSummary struct {
	Repos            int   `json:"repos"`
	TagsDeleted      int   `json:"tagsDeleted"`
	ManifestsDeleted int   `json:"manifestsDeleted"`
	BytesFreed       int64 `json:"bytesFreed"`
	BytesExact       bool  `json:"bytesExact"`
	Failed           int   `json:"failed"`
	Emptied          int   `json:"refusedToEmpty"`
}

// tail holds the end of a JSON object back, so that more can be added to it.
type tail struct {
	w    io.Writer
	yaml bool
	held []byte
}

// Write passes p on but for the end of an object.
func (t *tail) Write(p []byte) (int, error) {
	out := append(t.held, p...)
	t.held = nil
	const end = "]}\n"
	if !t.yaml && strings.HasSuffix(string(out), end) {
		out, t.held = out[:len(out)-len(end)], []byte(end)
	}
	_, err := t.w.Write(out)
	return len(p), err
}

func (t *tail) finish(last pruneTail) error {
	if t.yaml {
		raw, err := toYAML(last)
		return write(t.w, raw, err)
	}
	raw, err := json.Marshal(last)
	if err != nil {
		return err
	}
	return write(t.w, append(append([]byte("],\n"), raw[1:]...), '\n'), nil)
}

// pruneCount is so much of something.
type pruneCount struct {
	tags, manifests int
	bytes           int64
	inexact         bool
}

func (c *pruneCount) exact() bool { return !c.inexact }

func (c *pruneCount) size() string {
	if c.inexact {
		return "up to " + humanSize(c.bytes)
	}
	return humanSize(c.bytes)
}

// pruneSum is what all repositories come to.
type pruneSum struct {
	mu      sync.Mutex
	repos   int
	tags    int // Of all that were looked at, those that stay.
	planned pruneCount
	images  int // Of the planned manifests, those with a tag.
	done    pruneCount
	failed  int // Repositories that were left alone for an error,
	broken  int // and of these such as were begun.
	emptied int // Repositories that were left alone because nothing would be left.
	undated int
	unnamed int // Tags that are no versions.
	order   map[string]bool
	visited map[string]bool
}

func (s *pruneSum) visit(repo string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.visited == nil {
		s.visited, s.order = map[string]bool{}, map[string]bool{}
	}
	s.visited[repo] = true
}

// visitedAll tells whether every repository of a record was looked at.
func (s *pruneSum) visitedAll(left prune.Left) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for repo := range left.Known {
		if !s.visited[repo] {
			return false
		}
	}
	return true
}

// whole tells that all that was begun is done.
func (s *pruneSum) whole() bool { return s.broken == 0 }

// plan counts what a plan says.
func (s *pruneSum) plan(p *prune.Plan) {
	s.visit(p.Repo)
	s.repos++
	if p.Order != "" {
		s.order[p.Order] = true
	}
	for _, t := range p.Tags {
		switch {
		case t.Delete:
			s.planned.tags++
			continue
		case t.Reason == gc.DateUnknown:
			s.undated++
		case t.Reason == gc.NotSemver:
			s.unnamed++
		}
		s.tags++
	}
	s.planned.manifests += len(p.Manifests)
	for _, m := range p.Manifests {
		s.images += min(1, len(m.Tags))
	}
	s.planned.bytes += p.Bytes
	s.planned.inexact = s.planned.inexact || !p.Exact
}

// add counts what was done.
func (s *pruneSum) add(w *work) {
	switch {
	case w.err == nil:
	case errors.Is(w.err, errEmpties):
		s.emptied++
		return
	default:
		s.failed++
		if w.report != nil {
			s.broken++
		}
	}
	if w.report == nil {
		return
	}
	s.done.tags += w.report.Deleted()
	for _, m := range w.report.Manifests {
		if m.Deleted {
			s.done.manifests++
		}
	}
	s.done.bytes += w.report.Bytes
	s.done.inexact = s.done.inexact || !w.plan.Exact
}

func (s *pruneSum) orders() string {
	return strings.Join(slices.Sorted(maps.Keys(s.order)), ", ")
}

// hints say what might help.
func (s *pruneSum) hints() []string {
	var lines []string
	if s.undated > 0 {
		lines = append(lines, fmt.Sprintf("%s kept for want of a date (date-unknown); --by semver or --by name needs none to rank", many(s.undated, "tag")))
	}
	if s.unnamed > 0 {
		lines = append(lines, fmt.Sprintf("%s kept because it is no version (not-semver)", many(s.unnamed, "tag")))
	}
	return lines
}
