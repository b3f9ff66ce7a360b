package commands

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/regctl/regctl/serve"
	"github.com/regctl/regctl/serve/store"
)

// checkTalk tells of a check.
type checkTalk struct {
	env    *Env
	o      *checkOptions
	store  string
	holder serve.Holder
	report store.CheckReport
	took   time.Duration
}

// begin says who does it, and where.
func (t *checkTalk) begin() {
	switch {
	case t.o.Quiet:
	case t.holder.Remote:
		t.env.say("asked the server (pid %d)", t.holder.PID)
	default:
		t.env.say("checking %s; no regctl serve has it", t.env.tilde(t.store))
	}
}

// broken says what was done before an error.
func (t *checkTalk) broken() {
	if t.report.Repaired > 0 {
		t.env.say("mended %s until then", faultsIn(t.report.Repaired))
	}
}

// end tells notes and what came of it.
func (t *checkTalk) end() {
	if t.o.Quiet {
		return
	}
	const few = 20
	notes := 0
	for _, f := range t.report.Faults {
		if f.Level != store.LevelNote {
			continue
		}
		if notes++; notes <= few {
			t.env.say("note: %s: %s", f.Repo, f.What)
		}
	}
	if notes > few {
		t.env.say("and %s more notes; all of them: -o json", inThousands(int64(notes-few)))
	}
	t.env.say("%s", t.summary())
	if slices.ContainsFunc(t.report.Faults, func(f store.Fault) bool { return !f.Repaired && strings.HasPrefix(f.Action, "push it again") }) {
		t.env.say("what is missing comes back by docker push or regctl cp --force; a client that asks for the manifest only takes the image for whole, and skips it")
	}
}

// summary is one line for people.
func (t *checkTalk) summary() string {
	r := &t.report
	how := ""
	if t.o.Fast {
		how = ", blobs by their sizes"
	}
	line := fmt.Sprintf("checked %s, %s, %s%s in %s: ",
		howMany(r.Repositories, "repository", "repositories"), howMany(r.Manifests, "manifest", "manifests"),
		humanSize(r.Bytes), how, seconds(t.took))
	left := r.Corrupt + r.Unread
	mendable := 0
	for _, f := range r.Faults {
		if f.CanRepair {
			mendable++
		}
	}
	switch {
	case left == 0 && r.Repaired == 0:
		return line + "no fault"
	case left == 0:
		return line + "mended " + faultsIn(r.Repaired) + ", none is left"
	case r.Repaired > 0:
		line += "mended " + faultsIn(r.Repaired) + ", left "
	}
	line += faultsIn(left)
	if mendable > 0 && !t.o.Repair {
		line += fmt.Sprintf(", %s to be mended by: regctl check --repair%s", inThousands(int64(mendable)), t.o.flags())
	}
	return line
}

func faultsIn(n int) string { return howMany(n, "fault", "faults") }

func howMany(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return inThousands(int64(n)) + " " + many
}

// seconds writes how long something took.
func seconds(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// checkResult is the JSON form. Its maps and lists are never null.
type checkResult struct {
	Schema string    `json:"schema"`
	Store  string    `json:"store"`
	Server *gcServer `json:"server,omitempty"`
	Fast   bool      `json:"fast"`
	Repair bool      `json:"repair"`
	store.CheckReport
}

func (t *checkTalk) result() checkResult {
	out := checkResult{Schema: "regctl.check/v1", Store: t.store, Fast: t.o.Fast, Repair: t.o.Repair, CheckReport: t.report}
	if out.Faults == nil {
		out.Faults = []store.Fault{}
	}
	if out.Found == nil {
		out.Found = map[store.FaultKind]int{}
	}
	if t.holder.Remote {
		out.Server = &gcServer{t.holder.PID, t.holder.Host}
	}
	return out
}

// print writes the data: with a format all of it; else a table on a terminal,
// or a line a fault.
func (t *checkTalk) print(f format) error {
	if f.name != "" {
		return f.printOne(t.env.Stdout, t.result(), "")
	}
	columns := []string{"FAULT", "WHERE", "WHAT", "IMAGES", "REPAIR"}
	if !t.env.Terminal {
		columns = nil
	}
	p := newPrinter(t.env.Stdout, f, "", "", columns)
	listed := 0
	for _, fault := range t.report.Faults {
		if fault.Level == store.LevelNote {
			continue
		}
		if !fault.Repaired {
			listed++
		}
		cells := []string{string(fault.Kind), whereIs(fault), fault.What, hurtBy(fault), repairOf(fault)}
		if err := p.add(fault, plainFault(cells), cells); err != nil {
			return err
		}
	}
	if err := p.end(); err != nil {
		return err
	}
	if more := t.report.Corrupt + t.report.Unread - listed; more > 0 {
		t.env.say("and %s", howMany(more, "more fault", "more faults"))
	}
	return nil
}

// whereIs names what a fault is about.
func whereIs(f store.Fault) string {
	switch {
	case f.Tag != "":
		return f.Repo + ":" + f.Tag
	case f.Digest != "" && f.Repo != "":
		return f.Repo + "@" + string(f.Digest)
	case f.Digest != "":
		return string(f.Digest)
	case f.Repo != "":
		return f.Repo
	}
	return "-"
}

func hurtBy(f store.Fault) string {
	text := strings.Join(f.Hurts, ", ")
	if f.HurtsMore > 0 {
		text += fmt.Sprintf(" and %s more", inThousands(int64(f.HurtsMore)))
	}
	return text
}

func repairOf(f store.Fault) string {
	switch {
	case f.Repaired:
		return "mended: " + f.Action
	case f.CanRepair:
		return "--repair: " + f.Action
	}
	return f.Action
}

// plainFault is a fault on one line.
func plainFault(cells []string) string {
	line := cells[0] + " " + cells[1] + ": " + cells[2]
	if cells[3] != "" {
		line += "; hurts " + cells[3]
	}
	if cells[4] != "" {
		line += "; " + cells[4]
	}
	return line
}
