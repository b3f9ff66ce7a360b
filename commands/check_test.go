package commands

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve"
	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/store"
)

func TestCheckOptions(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]checkOptions{
		"check":                     {},
		"check -data /srv":          {localOptions: localOptions{Data: "/srv"}},
		"check c.yml -fast -j 3":    {localOptions: localOptions{Config: "c.yml"}, Fast: true, Jobs: 3},
		"check -repair -offline -q": {Repair: true, Offline: true, Quiet: true},
		"check -config c -o json":   {localOptions: localOptions{Config: "c"}, Output: "json"},
	} {
		var got *checkOptions
		env := newTestEnv(nil).Env
		cmd := newCheck(env, func(_ context.Context, _ *Env, o *checkOptions) error { got = o; return nil })
		if err := runWith(t, env, cmd, args); err != nil || *got != want {
			t.Errorf("%s: got %+v, %v, want %+v", args, got, err, want)
		}
	}
	for args, want := range map[string]string{
		"check -data=":          `--data is empty`,
		"check a.yml b.yml":     `regctl check takes no argument "b.yml"; see: regctl check --help`,
		"check -o xml":          `-o "xml": there is json, jsonl, yaml and go-template=TEMPLATE`,
		"check /nowhere/c.yml":  `open /nowhere/c.yml: no such file or directory`,
		"check -data /nowhere ": "no registry found; looked in\n  /nowhere (--data)\nName it: regctl check --data DIR, or regctl check CONFIG.yml",
	} {
		newTestEnv(nil).run(t, args, exitUsage, "", want+"\n")
	}
}

// fakeCheck stands for a store.
type fakeCheck struct {
	serve.Upkeep
	holder serve.Holder
	asked  store.CheckOptions
	report store.CheckReport
	took   func()
	err    error
}

func (u *fakeCheck) Collect(context.Context, serve.CollectRequest, func(gc.Progress)) (gc.Report, error) {
	return gc.Report{}, errors.ErrUnsupported
}

func (u *fakeCheck) Check(_ context.Context, o store.CheckOptions, progress func(store.CheckProgress)) (store.CheckReport, error) {
	u.asked = o
	progress(store.CheckProgress{Phase: store.CheckRead, Done: 1, Total: 2})
	u.took()
	return u.report, u.err
}

func TestCheckTalk(t *testing.T) {
	t.Parallel()
	const d = "sha256:00"
	empty := store.Fault{Kind: store.FaultLink, Level: store.LevelCorrupt, Repo: "app", Digest: d, What: "nothing in it",
		Hurts: []string{"app:1", "app:2"}, HurtsMore: 1234, CanRepair: true, Action: "write it"}
	mended := empty
	mended.CanRepair, mended.Repaired = false, true
	missing := store.Fault{Kind: store.FaultMissing, Level: store.LevelCorrupt, Digest: d, What: "not there", Action: "push it"}
	dangling := store.Fault{Kind: store.FaultDangling, Level: store.LevelCorrupt, Repo: "app", Tag: "v1", What: "leads nowhere"}
	unread := store.Fault{Kind: store.FaultUnread, Level: store.LevelUnread, What: "no permission"}
	note := store.Fault{Kind: store.NoteDead, Level: store.LevelNote, Repo: "app", What: "3 links"}
	report := func(corrupt, unread, repaired int, faults ...store.Fault) store.CheckReport {
		return store.CheckReport{Repositories: 123, Manifests: 4567, Bytes: 8_900_000_000, Faults: faults, Corrupt: corrupt, Unread: unread, Repaired: repaired}
	}
	foreign := fmt.Errorf("%w: app:1 changed 3s ago", serve.ErrForeignWriter)
	const head = "checked 123 repositories, 4,567 manifests, 8.9 GB in 3.2 s: "
	for _, c := range []struct {
		name, args     string
		report         store.CheckReport
		err            error
		status         int
		stdout, stderr string
	}{
		{name: "clean", report: report(0, 0, 0), stderr: head + "no fault\n"},
		{name: "clean and quiet", args: "-q", report: report(0, 0, 0, note)},
		{name: "a note", report: report(0, 0, 0, note), stderr: "note: app: 3 links\n" + head + "no fault\n"},
		{
			name: "faults", report: report(3, 1, 0, empty, missing, dangling, unread), status: exitCorrupt,
			stdout: `damaged-link app@sha256:00: nothing in it; hurts app:1, app:2 and 1,234 more; --repair: write it
missing-data sha256:00: not there; push it
dangling-tag app:v1: leads nowhere
unreadable -: no permission
`, stderr: head + "4 faults, 1 to be mended by: regctl check --repair --data /srv\n", args: "--data /srv",
		},
		{name: "unreadable", args: "-q", report: report(0, 1, 0, unread), status: exitSome, stdout: "unreadable -: no permission\n"},
		{
			name: "mended", args: "--repair", report: report(0, 0, 1, mended),
			stdout: "damaged-link app@sha256:00: nothing in it; hurts app:1, app:2 and 1,234 more; mended: write it\n",
			stderr: head + "mended 1 fault, none is left\n",
		},
		{
			name: "mended in part", args: "--repair -q", report: report(1, 0, 1, missing, mended), status: exitCorrupt,
			stdout: "missing-data sha256:00: not there; push it\n" +
				"damaged-link app@sha256:00: nothing in it; hurts app:1, app:2 and 1,234 more; mended: write it\n",
		},
		{
			name: "too many", args: "--fast", report: report(5000, 0, 0, missing), status: exitCorrupt,
			stdout: "missing-data sha256:00: not there; push it\n",
			stderr: "and 4,999 more faults\n" + strings.Replace(head, "GB", "GB, blobs by their sizes", 1) + "5,000 faults\n",
		},
		{
			name: "somebody writes", args: "--repair", report: report(1, 0, 0, missing), status: exitLocked,
			err:    foreign,
			stdout: "missing-data sha256:00: not there; push it\n",
			stderr: newTestEnv(nil).cannotUpkeep(foreign, config.Place{Path: "/srv"}, "regctl check --repair").Error() + "\n",
		},
		{
			name: "the server stops", args: "--repair", report: report(0, 0, 2), err: serve.ErrStopping, status: exitLocked,
			stderr: "mended 2 faults until then\nthe server is stopping, which leaves the rest to the next run: regctl check\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := newTestEnv(nil)
			now := e.Now()
			e.Now = func() time.Time { return now }
			u := &fakeCheck{report: c.report, err: c.err, holder: serve.Holder{Remote: true, PID: 4711}}
			u.took = func() { now = now.Add(3200 * time.Millisecond) }
			var options *checkOptions
			err := runWith(t, e.Env, newCheck(e.Env, func(ctx context.Context, env *Env, o *checkOptions) error {
				options = o
				return (&checkTalk{env: env, o: o, store: "/srv", holder: u.holder}).check(ctx, u, format{})
			}), "check "+c.args)
			var exit *ExitError
			if err != nil && (!errors.As(err, &exit) || exit.Err != nil) {
				e.say("%s", err)
			}
			status := exitStatus(err)
			asked := "asked the server (pid 4711)\n"
			if options.Quiet {
				asked = ""
			}
			if got := e.stderr.String(); status != c.status || e.stdout.String() != c.stdout || got != asked+c.stderr {
				t.Errorf("exit %d\nstdout %s\nstderr %s\nwant %d\n%s\n%s", status, e.stdout, got, c.status, c.stdout, asked+c.stderr)
			}
			if u.asked.Repair != options.Repair || u.asked.Fast != options.Fast {
				t.Errorf("asked for %+v", u.asked)
			}
		})
	}
}
