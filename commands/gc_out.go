package commands

import (
	"fmt"
	"strings"
	"time"

	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve"
	"github.com/regctl/regctl/serve/store"
)

// gcTalk tells of a collection.
type gcTalk struct {
	env    *Env
	o      *gcOptions
	store  string
	holder serve.Holder
	report gc.Report
}

// begin says who does it, and where.
func (t *gcTalk) begin() {
	switch {
	case t.o.Quiet:
	case t.holder.Remote:
		t.env.say("asked the server (pid %d)", t.holder.PID)
	default:
		t.env.say("collecting %s; no regctl serve has it", t.env.tilde(t.store))
	}
}

// broken says what was done before an error.
func (t *gcTalk) broken() {
	if n, bytes := totalOf(t.report.Removed); n > 0 && !t.o.DryRun {
		t.env.say("freed %s until then; the store is whole, and the next run goes on", humanSize(bytes))
	}
}

// end says what was done, what stays and why, and what is wrong.
func (t *gcTalk) end() {
	if !t.o.Quiet {
		t.env.say("%s", t.summary())
	}
	var frozen, doubts, failed []string
	for _, f := range t.report.Frozen {
		frozen = append(frozen, f.Repo+" is left alone: "+f.Why)
	}
	for _, d := range t.report.Doubts {
		if isRefusal(d) {
			t.env.say("without --dry-run this is refused: %s", d)
			continue
		}
		if strings.Contains(d, store.ErrEmptied.Error()) {
			d += "; if they are to be gone: regctl gc --force-empty"
		}
		doubts = append(doubts, "no data is removed: "+d)
	}
	for _, f := range t.report.Failed {
		failed = append(failed, failedName(f)+" is kept: "+f.Why)
	}
	t.some(frozen, 0)
	t.some(doubts, 0)
	t.some(failed, t.report.MoreFailed)
	if len(frozen)+len(doubts) > 0 {
		t.env.say("to see what is wrong, and what can be mended: regctl check%s", t.o.flags())
	}
}

// some says the first of many lines. There are unlisted ones besides.
func (t *gcTalk) some(lines []string, unlisted int) {
	const few = 20
	for _, line := range lines[:min(few, len(lines))] {
		t.env.say("%s", line)
	}
	switch more := len(lines) - few; {
	case more > 0 && unlisted > 0:
		t.env.say("and %s more; %s of all: -o json", inThousands(int64(more+unlisted)), inThousands(int64(len(lines))))
	case more > 0:
		t.env.say("and %s more; all of them: -o json", inThousands(int64(more)))
	}
}

// failedName is what could not be removed.
func failedName(f gc.Failure) string {
	name := f.Key
	if f.Digest != "" {
		name = string(f.Digest)
		if f.Repo != "" {
			name = f.Repo + "@" + name
		}
	}
	return kindName(f.Kind) + " " + name
}

// summary is one line for people.
func (t *gcTalk) summary() string {
	r := &t.report
	freed, kept := "freed", "kept"
	if t.o.DryRun {
		freed, kept = "would free", "would keep"
	}
	_, bytes := totalOf(r.Removed)
	before := r.Before.Bytes + bytes - r.Removed[gc.KindData].Bytes // Uploads are no data.
	line := fmt.Sprintf("%s %s of %s", freed, humanSize(bytes), humanSize(before))
	var why []string
	for _, k := range t.kept() {
		why = append(why, humanSize(k.count.Bytes)+" "+k.why)
	}
	if len(why) > 0 {
		line += "; " + kept + " " + strings.Join(why, ", ")
	}
	return line
}

// keptFor is data that stays for a reason.
type keptFor struct {
	reason gc.Reason
	count  gc.Count
	why    string // In words, with what would free it.
}

// kept lists the reasons that keep anything, those of which one can do
// something about first.
func (t *gcTalk) kept() (all []keptFor) {
	r := &t.report
	until := ""
	if !r.UndoUntil.IsZero() {
		until = " until " + clock(t.env.Now(), r.UndoUntil)
	}
	free := " (--undo 0 frees it now)"
	if t.o.DryRun {
		free = " (--undo 0)"
	}
	for _, k := range []struct {
		reason gc.Reason
		why    string
	}{
		{gc.KeptUndo, "for undo" + until + free},
		{gc.KeptYoung, young(r.Older)},
		{gc.KeptUntagged, "without a tag (--untagged)"},
		{gc.KeptBusy, t.busy()},
		{gc.KeptFrozen, "of what could not be read"},
		{gc.KeptDoubt, t.doubt()},
	} {
		if c := r.Kept[k.reason]; c.N > 0 {
			all = append(all, keptFor{k.reason, c, k.why})
		}
	}
	return all
}

// young is why data stays that is younger than older.
func young(older time.Duration) string {
	if older == 0 {
		return "changed in the future, by its time"
	}
	return "younger than " + ageWords(older) + " (--older 0)"
}

// busy is why data stays that was to go.
func (t *gcTalk) busy() string {
	if len(t.report.Failed) > 0 {
		return "touched while this ran, or not to be removed"
	}
	return "touched while this ran (the next run)"
}

// doubt is why data stays for which there may be something that was not seen.
func (t *gcTalk) doubt() string {
	if len(t.report.Doubts) == 0 {
		return "of manifests that name each other in a circle"
	}
	return "because not all could be listed"
}

// ageWords writes a duration as --older takes it: 90m, 1h, 2d.
func ageWords(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= 2*day && d%day == 0:
		return fmt.Sprintf("%dd", d/day)
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d >= time.Minute && d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return d.String()
}

// gcResult is the JSON form. Its maps and lists are never null.
type gcResult struct {
	Schema    string                 `json:"schema"`
	Store     string                 `json:"store"`
	Server    *gcServer              `json:"server,omitempty"`
	DryRun    bool                   `json:"dryRun"`
	Before    gc.Count               `json:"before"`
	Freed     int64                  `json:"freed"`
	Removed   map[gc.Kind]gc.Count   `json:"removed"`
	Kept      map[gc.Reason]gc.Count `json:"kept"`
	UndoUntil time.Time              `json:"undoUntil,omitzero"`
	Frozen    []gc.Frozen            `json:"frozen"`
	Doubts    []string               `json:"doubts"`
	Failed    []gc.Failure           `json:"failed"`
	More      int                    `json:"moreFailed,omitempty"` // That Failed does not list.
}

// gcServer is the server that was asked.
type gcServer struct {
	PID  int    `json:"pid"`
	Host string `json:"host,omitempty"`
}

func (t *gcTalk) result() gcResult {
	r := &t.report
	_, bytes := totalOf(r.Removed)
	out := gcResult{
		Schema: "regctl.gc/v1", Store: t.store, DryRun: t.o.DryRun, Before: r.Before, Freed: bytes,
		Removed: map[gc.Kind]gc.Count{}, Kept: map[gc.Reason]gc.Count{}, UndoUntil: r.UndoUntil,
		Frozen: append([]gc.Frozen{}, r.Frozen...), Doubts: append([]string{}, r.Doubts...), Failed: append([]gc.Failure{}, r.Failed...), More: r.MoreFailed,
	}
	for _, k := range gcKinds() {
		out.Removed[k] = r.Removed[k]
	}
	for _, k := range gcReasons() {
		out.Kept[k] = r.Kept[k]
	}
	if t.holder.Remote {
		out.Server = &gcServer{t.holder.PID, t.holder.Host}
	}
	return out
}

func gcKinds() []gc.Kind {
	return []gc.Kind{gc.KindManifest, gc.KindBlob, gc.KindData, gc.KindUpload, gc.KindScratch, gc.KindRemains, gc.KindEmpty}
}

func gcReasons() []gc.Reason {
	return []gc.Reason{gc.KeptUndo, gc.KeptYoung, gc.KeptUntagged, gc.KeptBusy, gc.KeptFrozen, gc.KeptDoubt}
}

// kindName is a kind for people.
func kindName(k gc.Kind) string {
	switch k {
	case gc.KindManifest:
		return "manifest"
	case gc.KindBlob:
		return "blob of a repository"
	case gc.KindUpload:
		return "unfinished upload"
	case gc.KindScratch:
		return "scratch file"
	case gc.KindRemains:
		return "remains"
	case gc.KindEmpty:
		return "empty directory"
	}
	return string(k)
}

// print writes the data: with a format all of it; else, for a dry run on a
// terminal, a table of what goes and what stays.
func (t *gcTalk) print(f format) error {
	if f.name != "" {
		return f.printOne(t.env.Stdout, t.result(), "")
	}
	if !t.env.Terminal || !t.o.DryRun || t.o.Quiet {
		return nil
	}
	p := newPrinter(t.env.Stdout, f, "", "", []string{"ACTION", "WHAT", "COUNT", "SIZE", "WHY"})
	add := func(action, what string, c gc.Count, why string) error {
		size := "-"
		if c.Bytes > 0 || what == kindName(gc.KindData) {
			size = humanSize(c.Bytes)
		}
		return p.add(nil, "", []string{action, what, inThousands(int64(c.N)), size, why})
	}
	for _, k := range gcKinds() {
		if c := t.report.Removed[k]; c.N > 0 {
			if err := add(actionDelete, kindName(k), c, whyGone(k)); err != nil {
				return err
			}
		}
	}
	for _, k := range t.kept() {
		if err := add(actionKeep, kindName(gc.KindData), k.count, k.why); err != nil {
			return err
		}
	}
	return p.end()
}

// whyGone is why things of a kind go.
func whyGone(k gc.Kind) string {
	switch k {
	case gc.KindManifest:
		return "no tag, index or subject needs it"
	case gc.KindBlob:
		return "no manifest of the repository names it"
	case gc.KindData:
		return "nothing names it"
	case gc.KindUpload:
		return "nobody went on with it"
	case gc.KindScratch:
		return "a crash left it"
	case gc.KindRemains:
		return "of something that was deleted"
	}
	return "nothing is in it"
}
