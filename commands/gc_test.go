package commands

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve"
	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/store"
)

func TestGCOptions(t *testing.T) {
	t.Parallel()
	said := func(older, uploads, undo time.Duration, r serve.CollectRequest) serve.CollectRequest {
		r.Older, r.Uploads, r.Undo = older, uploads, undo
		return r
	}
	for args, want := range map[string]struct {
		local   localOptions
		request serve.CollectRequest
	}{
		"gc":                {localOptions{}, said(-1, -1, -1, serve.CollectRequest{})},
		"gc -data /srv":     {localOptions{Data: "/srv"}, said(-1, -1, -1, serve.CollectRequest{})},
		"gc -config c.yml":  {localOptions{Config: "c.yml"}, said(-1, -1, -1, serve.CollectRequest{})},
		"gc c.yml -older 0": {localOptions{Config: "c.yml"}, said(0, -1, -1, serve.CollectRequest{})},
		"gc -older 90m -uploads 7d -undo 2w -offline": {localOptions{},
			said(90*time.Minute, 7*24*time.Hour, 14*24*time.Hour, serve.CollectRequest{Offline: true})},
		"gc -d -untagged -j 3": {localOptions{},
			said(-1, -1, -1, serve.CollectRequest{Dry: true, Options: gc.Options{Untagged: true, Jobs: 3}})},
		"garbage-collect -m -d c.yml": {localOptions{Config: "c.yml"},
			said(-1, -1, -1, serve.CollectRequest{Dry: true, Options: gc.Options{Untagged: true}})},
		"garbage-collect --delete-untagged=true --quiet c.yml": {localOptions{Config: "c.yml"},
			said(-1, -1, -1, serve.CollectRequest{Options: gc.Options{Untagged: true}})},
	} {
		var got *gcOptions
		env := newTestEnv(nil).Env
		cmd := newGC(env, func(_ context.Context, _ *Env, o *gcOptions) error { got = o; return nil })
		if err := runWith(t, env, cmd, args); err != nil {
			t.Errorf("%s: %v", args, err)
			continue
		}
		request, err := got.request()
		if err != nil || got.localOptions != want.local || !reflect.DeepEqual(request, want.request) {
			t.Errorf("%s: got %+v, %+v, %v, want %+v", args, got.localOptions, request, err, want)
		}
	}
	for args, want := range map[string]string{
		"gc -older soon":       `--older "soon" is not a time such as 12h, 30d or 2w`,
		"gc -undo -1h":         `--undo "-1h" is not a time such as 12h, 30d or 2w`,
		"gc -uploads=":         `--uploads is empty`,
		"gc -data=":            `--data is empty`,
		"gc -config=":          `--config is empty`,
		"gc -config a.yml b":   `two config files, a.yml and b; leave one`,
		"gc a.yml b.yml":       `regctl gc takes no argument "b.yml"; see: regctl gc --help`,
		"gc -exit-code":        `--exit-code goes with --dry-run`,
		"gc -o xml":            `-o "xml": there is json, jsonl, yaml and go-template=TEMPLATE`,
		"gc -jobs 0":           `invalid argument "0" for "-j, --jobs" flag: a number from 1 up is needed; see: regctl gc --help`,
		"gc /nowhere/c.yml":    `open /nowhere/c.yml: no such file or directory`,
		"gc -data /nowhere -q": "no registry found; looked in\n  /nowhere (--data)\nName it: regctl gc --data DIR, or regctl gc CONFIG.yml",
	} {
		newTestEnv(nil).run(t, args, exitUsage, "", want+"\n")
	}
}

// fakeUpkeep stands for a store.
type fakeUpkeep struct {
	holder   serve.Holder
	progress []gc.Progress
	report   gc.Report
	err      error
}

func (u *fakeUpkeep) Collect(_ context.Context, _ serve.CollectRequest, progress func(gc.Progress)) (gc.Report, error) {
	for _, p := range u.progress {
		progress(p)
	}
	return u.report, u.err
}

func (u *fakeUpkeep) Check(context.Context, store.CheckOptions, func(store.CheckProgress)) (store.CheckReport, error) {
	return store.CheckReport{}, errors.ErrUnsupported
}

func (u *fakeUpkeep) Holder() serve.Holder { return u.holder }

func (u *fakeUpkeep) Close() error { return nil }

// collect runs the part of gc that comes after the store was opened.
func (e testEnv) collect(t *testing.T, u *fakeUpkeep, args string) error {
	t.Helper()
	e.stdout.Reset()
	e.stderr.Reset()
	return runWith(t, e.Env, newGC(e.Env, func(ctx context.Context, env *Env, o *gcOptions) error {
		request, err := o.request()
		if err != nil {
			return err
		}
		f, err := parseFormat(o.Output)
		if err != nil {
			return err
		}
		talk := &gcTalk{env: env, o: o, store: "/var/lib/registry", holder: u.holder}
		return talk.collect(ctx, u, request, f)
	}), "gc "+args)
}

const (
	mb = 1000 * 1000
	gb = 1000 * mb
)

// tenMinutes is a run of which there is something to tell.
func tenMinutes(now time.Time) *fakeUpkeep {
	return &fakeUpkeep{
		holder: serve.Holder{Remote: true, PID: 4711, Host: "lan"},
		report: gc.Report{
			Older: time.Hour, Before: gc.Count{N: 500, Bytes: 4 * gb},
			Kept: map[gc.Reason]gc.Count{
				gc.KeptUndo: {N: 30, Bytes: 1200 * mb}, gc.KeptYoung: {N: 3, Bytes: 71 * mb}, gc.KeptUntagged: {},
			},
			UndoUntil: now.AddDate(0, 0, 1).Add(3*time.Hour + 12*time.Minute - 12*time.Hour),
		},
	}
}

func TestGCTalk(t *testing.T) {
	t.Parallel()
	env := newTestEnv(nil)
	for _, c := range []struct {
		name, args     string
		change         func(*fakeUpkeep)
		status         int
		stdout, stderr string
	}{
		{name: "the first ten minutes", stderr: `asked the server (pid 4711)
freed 0 B of 4.0 GB; kept 1.2 GB for undo until 03:12 tomorrow (--undo 0 frees it now), 71 MB younger than 1h (--older 0)
`},
		{name: "quiet", args: "-q"},
		{
			name: "here, all kinds", change: func(u *fakeUpkeep) {
				u.holder = serve.Holder{PID: 1}
				u.report.Removed = map[gc.Kind]gc.Count{gc.KindData: {N: 3, Bytes: gb}, gc.KindUpload: {N: 1, Bytes: gb}}
				u.report.Kept = map[gc.Reason]gc.Count{gc.KeptUntagged: {N: 1, Bytes: 5}, gc.KeptBusy: {N: 1, Bytes: 6}}
			},
			stderr: `collecting /var/lib/registry; no regctl serve has it
freed 2.0 GB of 5.0 GB; kept 5 B without a tag (--untagged), 6 B touched while this ran (the next run)
`,
		},
		{
			name: "dry", args: "-d --exit-code", status: exitWouldChange, change: func(u *fakeUpkeep) {
				u.report.Removed = map[gc.Kind]gc.Count{gc.KindData: {N: 3, Bytes: gb}}
			},
			stderr: `asked the server (pid 4711)
would free 1.0 GB of 4.0 GB; would keep 1.2 GB for undo until 03:12 tomorrow (--undo 0), 71 MB younger than 1h (--older 0)
`,
		},
		{name: "dry, nothing", args: "-d --exit-code -q"},
		{
			name: "what is wrong is told in any case", args: "-q -data /srv", status: exitSome, change: func(u *fakeUpkeep) {
				u.report.Frozen = []gc.Frozen{{Repo: "team/app", Why: "tag latest: empty link"}}
				u.report.Doubts = []string{"repositories/x: permission denied"}
				u.report.Failed = []gc.Failure{{Kind: gc.KindData, Digest: "sha256:1", Why: "input/output error"}, {Kind: gc.KindUpload, Key: "a/b", Why: "x"}}
			},
			stderr: `team/app is left alone: tag latest: empty link
no data is removed: repositories/x: permission denied
data sha256:1 is kept: input/output error
unfinished upload a/b is kept: x
to see what is wrong, and what can be mended: regctl check --data /srv
`,
		},
		{
			name: "why it stays, in words that are true", status: exitSome, change: func(u *fakeUpkeep) {
				u.report.Kept = map[gc.Reason]gc.Count{gc.KeptBusy: {N: 1, Bytes: 5}, gc.KeptDoubt: {N: 1, Bytes: 6}}
				u.report.Failed = []gc.Failure{{Kind: gc.KindData, Digest: "sha256:1", Why: "permission denied"}}
			},
			stderr: `asked the server (pid 4711)
freed 0 B of 4.0 GB; kept 5 B touched while this ran, or not to be removed, 6 B of manifests that name each other in a circle
data sha256:1 is kept: permission denied
`,
		},
		{
			name: "what could not be listed", args: "-d", status: exitSome, change: func(u *fakeUpkeep) {
				u.report.Kept = map[gc.Reason]gc.Count{gc.KeptDoubt: {N: 1, Bytes: 6}}
				u.report.Kept[gc.KeptYoung], u.report.Older = gc.Count{N: 1, Bytes: 7}, 0
				u.report.Doubts = []string{"x"}
			},
			stderr: `asked the server (pid 4711)
would free 0 B of 4.0 GB; would keep 7 B changed in the future, by its time, 6 B because not all could be listed
no data is removed: x
to see what is wrong, and what can be mended: regctl check
`,
		},
		{
			name: "dry, and refused otherwise", args: "-d -q --exit-code", status: exitLocked, change: func(u *fakeUpkeep) {
				u.report.Removed = map[gc.Kind]gc.Count{gc.KindData: {N: 3, Bytes: gb}}
				u.report.Doubts = []string{serve.ErrForeignWriter.Error() + ": x changed 1m ago"}
			},
			stderr: "without --dry-run this is refused: another server seems to write to the store: x changed 1m ago\n",
		},
		{
			name: "json", args: "-q -d -o jsonl",
			change: func(u *fakeUpkeep) { u.report = gc.Report{} },
			stdout: `{"schema":"regctl.gc/v1","store":"/var/lib/registry","server":{"pid":4711,"host":"lan"},"dryRun":true,` +
				`"before":{"n":0,"bytes":0},"freed":0,"removed":{"data":{"n":0,"bytes":0},"empty":{"n":0,"bytes":0},"link":{"n":0,"bytes":0},` +
				`"manifest":{"n":0,"bytes":0},"remains":{"n":0,"bytes":0},"scratch":{"n":0,"bytes":0},"upload":{"n":0,"bytes":0}},` +
				`"kept":{"busy":{"n":0,"bytes":0},"doubt":{"n":0,"bytes":0},"frozen":{"n":0,"bytes":0},"undo":{"n":0,"bytes":0},` +
				`"untagged":{"n":0,"bytes":0},"young":{"n":0,"bytes":0}},"frozen":[],"doubts":[],"failed":[]}` + "\n",
		},
		{name: "template", args: "-q -o go-template={{.kept.undo.bytes}}", stdout: "1.2e+09\n"},
		{
			name: "broken off", status: exitInterrupted, change: func(u *fakeUpkeep) {
				u.report.Removed = map[gc.Kind]gc.Count{gc.KindData: {N: 3, Bytes: gb}}
				u.err = context.Canceled
			},
			stderr: "asked the server (pid 4711)\nfreed 1.0 GB until then; the store is whole, and the next run goes on\n",
		},
	} {
		u := tenMinutes(env.Now())
		if c.change != nil {
			c.change(u)
		}
		err := env.collect(t, u, c.args)
		if got := exitStatus(err); got != c.status || env.stdout.String() != c.stdout || env.stderr.String() != c.stderr {
			t.Errorf("%s: %v, status %d, want %d; stdout\n%s\nwant\n%s\nstderr\n%s\nwant\n%s",
				c.name, err, got, c.status, env.stdout, c.stdout, env.stderr, c.stderr)
		}
	}
}

// TestGCTable is what a terminal gets of a dry run.
func TestGCTable(t *testing.T) {
	t.Parallel()
	env := newTestEnv(nil)
	env.Terminal = true
	u := tenMinutes(env.Now())
	u.report.Removed = map[gc.Kind]gc.Count{
		gc.KindEmpty: {N: 1234}, gc.KindData: {N: 30, Bytes: gb}, gc.KindManifest: {N: 12}, gc.KindUpload: {N: 1, Bytes: 7},
	}
	if err := env.collect(t, u, "-d"); err != nil {
		t.Fatal(err)
	}
	want := `ACTION  WHAT               COUNT  SIZE    WHY
delete  manifest           12     -       no tag, index or subject needs it
delete  data               30     1.0 GB  nothing names it
delete  unfinished upload  1      7 B     nobody went on with it
delete  empty directory    1,234  -       nothing is in it
keep    data               30     1.2 GB  for undo until 03:12 tomorrow (--undo 0)
keep    data               3      71 MB   younger than 1h (--older 0)
`
	if got := env.stdout.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for _, args := range []string{"", "-q -d"} {
		if err := env.collect(t, u, args); err != nil || env.stdout.Len() > 0 {
			t.Errorf("gc %s: %v, stdout %s", args, err, env.stdout)
		}
	}
}

// TestGCMany wants the talk of a store where much is wrong to fit a screen.
func TestGCMany(t *testing.T) {
	t.Parallel()
	env := newTestEnv(nil)
	u := tenMinutes(env.Now())
	for i := range 1000 {
		u.report.Frozen = append(u.report.Frozen, gc.Frozen{Repo: fmt.Sprint("r", i), Why: "x"})
	}
	if err := env.collect(t, u, "-q"); exitStatus(err) != exitSome {
		t.Error(err)
	}
	if lines := strings.Split(env.stderr.String(), "\n"); len(lines) != 23 || lines[20] != "and 980 more; all of them: -o json" {
		t.Errorf("stderr\n%s", env.stderr)
	}
	u.report.Frozen, u.report.MoreFailed = nil, 500
	for range 1000 {
		u.report.Failed = append(u.report.Failed, gc.Failure{Kind: gc.KindEmpty, Key: "a"})
	}
	if err := env.collect(t, u, "-q -o go-template={{.moreFailed}}"); exitStatus(err) != exitSome || env.stdout.String() != "500\n" {
		t.Errorf("%v, stdout %s", err, env.stdout)
	}
	if !strings.HasSuffix(env.stderr.String(), "\nand 1,480 more; 1,000 of all: -o json\n") {
		t.Errorf("stderr\n%s", env.stderr)
	}
}

func TestCannotUpkeep(t *testing.T) {
	t.Parallel()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	env := newTestEnv(nil)
	for _, c := range []struct {
		err    error
		status int
		text   string
	}{
		{&file.HeldError{Host: host, PID: 7}, exitLocked, "process 7 on host " + host + ", which does not answer; try again when"},
		{fmt.Errorf("%w (%w)", &file.HeldError{Host: host, PID: 7}, context.DeadlineExceeded), exitLocked, ", which does not answer; try again"},
		{&file.HeldError{Host: "other.lan.invalid", PID: 7}, exitLocked, "; run regctl gc there, where it can be asked"},
		{fmt.Errorf("%w: x changed", serve.ErrForeignWriter), exitLocked, "x changed. If it is stopped: regctl gc --offline. "},
		{fmt.Errorf("a collection %w since then", serve.ErrRunning), exitLocked, "; try again when it is over"},
		{serve.ErrStopping, exitLocked, "leaves the rest to the next run"},
		{meta.ErrForeign, exitLocked, meta.ErrForeign.Error()},
		{fmt.Errorf("%w: %w", storage.ErrReadOnly, syscall.EROFS), exitLocked, "; mount it for writing"},
		{storage.ErrReadOnly, exitLocked, "; run it as who owns /srv"},
		{fmt.Errorf("open store: %w", fs.ErrPermission), exitLocked, "; run it as who owns /srv"},
		{errors.ErrUnsupported, exitFailed, "regctl gc works on Linux and macOS; run it where the store is"},
		{context.Canceled, exitInterrupted, "canceled"},
		{errors.New("x"), exitFailed, "x"},
	} {
		got := env.cannotUpkeep(c.err, config.Place{Path: "/srv"}, "regctl gc")
		if exitStatus(got) != c.status || !strings.Contains(got.Error(), c.text) || !errors.Is(got, c.err) {
			t.Errorf("%v: status %d, %q, want %d, %q", c.err, exitStatus(got), got, c.status, c.text)
		}
	}
}

// TestWhichStore wants the store found where serve finds it, and all places
// told where it is not.
func TestWhichStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	registry, text := filepath.Join(dir, "registry"), "storage: {filesystem: {rootdirectory: "+filepath.Join(dir, "registry")+"}}\nauth: {htpasswd: {realm: x, path: x}}\n"
	if err := os.MkdirAll(filepath.Join(registry, "docker", "registry", "v2"), 0o700); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.MkdirAll(filepath.Join(empty, file.Private, "lock"), 0o700); err != nil {
		t.Fatal(err)
	}
	named := filepath.Join(dir, "config.yml")
	inMemory := filepath.Join(dir, "memory.yml")
	for path, text := range map[string]string{named: text, inMemory: "storage: inmemory\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name    string
		o       localOptions
		environ []string
		want    string // A path, or what the error has.
	}{
		{"flag", localOptions{Data: registry}, []string{"REGCTL_DATA=/nowhere"}, registry},
		{"variable", localOptions{}, []string{"REGCTL_DATA=" + registry}, registry},
		{"file", localOptions{Config: named}, nil, registry},
		{"file of a variable", localOptions{}, []string{"REGISTRY_CONFIGURATION_PATH=" + named}, registry},
		{"variable of registry:2", localOptions{}, []string{"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=" + registry}, registry},
		{"inside", localOptions{Data: filepath.Join(registry, "docker", "registry", "v2")}, nil, "Name it: regctl gc --data " + registry + ","},
		{"made by a server, and empty", localOptions{Data: empty}, nil, empty},
		{"variable before file", localOptions{Config: named}, []string{"REGCTL_DATA=" + empty}, empty},
		{"not there", localOptions{Data: dir}, nil, "looked in\n  " + dir + " (--data)\nName it: regctl gc --data DIR"},
		{"variable of nothing", localOptions{}, []string{"REGCTL_DATA=" + dir}, dir + " ($REGCTL_DATA)"},
		{"in memory", localOptions{Config: inMemory}, nil, "keeps the store in memory"},
		{"in memory, but said", localOptions{Config: inMemory, Data: registry}, nil, registry},
		{"a directory", localOptions{Config: registry}, nil, "registry is a directory, not a config file; if it is the store: regctl gc --data " + registry},
		{"a host", localOptions{Config: "localhost:5000"}, nil, "works on a store of this machine, not on a registry over the network: regctl gc --data DIR"},
		{"no file", localOptions{Config: "/nowhere/config.yml"}, nil, "open /nowhere/config.yml: no such file or directory"},
		{"another storage", localOptions{}, []string{"REGISTRY_STORAGE=s3"}, "s3"},
	} {
		env := newTestEnv(nil, c.environ...).Env
		conf, err := env.localConfig(&c.o, "regctl gc")
		var place config.Place
		if err == nil {
			place, err = env.localStore(&c.o, conf, "regctl gc")
		}
		switch {
		case err == nil && place.Path != c.want:
			t.Errorf("%s: found %s, want %s", c.name, place.Path, c.want)
		case err != nil && (exitStatus(err) != exitUsage || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
}

func TestClock(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 23, 30, 0, 0, time.FixedZone("x", 3600))
	for in, want := range map[time.Duration]string{
		10 * time.Minute: "23:40", time.Hour: "00:30 tomorrow", 24 * time.Hour: "23:30 tomorrow", 25 * time.Hour: "00:30 on 2026-11-22",
	} {
		if got := clock(now, now.Add(in).UTC()); got != want {
			t.Errorf("in %s: got %s, want %s", in, got, want)
		}
	}
}

func TestAgeWords(t *testing.T) {
	t.Parallel()
	for in, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", time.Hour: "1h", 90 * time.Minute: "90m", 24 * time.Hour: "24h", 48 * time.Hour: "2d", 14 * 24 * time.Hour: "14d",
	} {
		if got := ageWords(in); got != want {
			t.Errorf("%d: got %s, want %s", in, got, want)
		}
	}
}
