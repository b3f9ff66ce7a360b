//go:build unix

package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/state"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/store"
)

// runs serves a store in dir until stop is called.
func runs(t *testing.T, dir, yaml string) (a *Assembly, stop func()) {
	t.Helper()
	a, err := Assemble(t.Context(), Parts{Config: configured(t, yaml), Dir: dir, After: never})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Serve(ctx) }()
	return a, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// offline opens the upkeep of a store that nobody serves.
func offline(t *testing.T, dir string) Upkeep {
	t.Helper()
	u, err := OpenUpkeep(t.Context(), UpkeepParts{Dir: dir, Config: configured(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	})
	if h := u.Holder(); h.Remote || h.PID != os.Getpid() {
		t.Errorf("the holder is %+v", h)
	}
	return u
}

// everything is a request by which everything goes that may.
func everything() CollectRequest { return CollectRequest{Options: gc.Options{Untagged: true}} }

// pushed makes a store by a server of ours, with one tag and one manifest
// without.
func pushed(t *testing.T, dir string) {
	t.Helper()
	a, stop := runs(t, dir, "")
	defer stop()
	for _, body := range []string{noManifests, strings.Replace(noManifests, "[]", "[ ]", 1)} {
		if status, _, answer := ask(t, a, "PUT", "/v2/app/manifests/1", body); status != 201 {
			t.Fatal(status, answer)
		}
	}
}

func (s seen) String() string { return fmt.Sprintf("%d manifests, %d data", s.manifests, s.data) }

type seen struct{ manifests, data int }

func removed(r gc.Report) seen {
	return seen{r.Removed[gc.KindManifest].N, r.Removed[gc.KindData].N}
}

// A server collects for who asks, though deletes are off, and so does who
// finds the store without a server.
func TestUpkeepOfBoth(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	pushed(t, dir)
	later := func() time.Time { return time.Now().Add(time.Hour) } // All that was touched when the server began is old.
	a, err := Assemble(t.Context(), Parts{Config: configured(t, "storage: {delete: {enabled: false}}"), Dir: dir, After: never})
	if err != nil {
		t.Fatal(err)
	}
	a.upkeep.keeper.now = later
	u, err := OpenUpkeep(t.Context(), UpkeepParts{Dir: dir, Config: &config.Config{}})
	if err != nil {
		t.Fatal(err)
	}
	dry := everything()
	dry.Dry = true
	r, err := u.Collect(t.Context(), dry, nil)
	if err != nil || removed(r) != (seen{1, 1}) || !u.Holder().Remote {
		t.Errorf("asked for a plan: %s, %v", removed(r), err)
	}
	a.Close()
	if err := u.Close(); err != nil {
		t.Error(err)
	}
	local := offline(t, dir)
	if r, err := local.Collect(t.Context(), everything(), nil); err != nil || removed(r) != (seen{1, 1}) {
		t.Errorf("collected %s, %v", removed(r), err)
	}
	if r, err := local.Collect(t.Context(), everything(), nil); err != nil || removed(r) != (seen{}) {
		t.Errorf("collected again %s, %v", removed(r), err)
	}
}

// What a server wrote that takes no lock, or one that was there after ours,
// is not collected while it may be writing; what ours wrote is.
func TestForeignWriter(t *testing.T) {
	t.Parallel()
	const repo = "docker/registry/v2/repositories/app/_manifests"
	touch := func(t *testing.T, dir string, ago time.Duration) {
		err := filepath.WalkDir(filepath.Join(dir, "docker"), func(name string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				at := time.Now().Add(-ago)
				err = os.Chtimes(name, at, at)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	serving := func(t *testing.T, dir string, ahead time.Duration) {
		locked, err := file.Lock(t.Context(), dir, 0, nil)
		if err == nil {
			err = errors.Join(locked.Serving(ahead), locked.Unlock())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]struct {
		prepare func(t *testing.T, dir string)
		foreign bool
	}{
		"ours":              {func(*testing.T, string) {}, false},
		"of nobody we know": {func(t *testing.T, dir string) { os.RemoveAll(filepath.Join(dir, file.Private)) }, true},
		"of nobody, an hour old": {func(t *testing.T, dir string) {
			os.RemoveAll(filepath.Join(dir, file.Private))
			touch(t, dir, time.Hour)
		}, false},
		"of nobody, almost": {func(t *testing.T, dir string) {
			os.RemoveAll(filepath.Join(dir, file.Private))
			touch(t, dir, 59*time.Minute)
		}, true},
		"after ours":              {func(t *testing.T, dir string) { touch(t, dir, -time.Second) }, true},
		"of ours that was killed": {func(t *testing.T, dir string) { serving(t, dir, beatAhead); touch(t, dir, -time.Minute) }, false},
		"after the last beat":     {func(t *testing.T, dir string) { serving(t, dir, beatAhead); touch(t, dir, -3*time.Minute) }, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			pushed(t, dir)
			tt.prepare(t, dir)
			u := offline(t, dir)
			r := everything()
			r.Older = -1
			_, err := u.Collect(t.Context(), r, nil)
			if errors.Is(err, ErrForeignWriter) != tt.foreign || !tt.foreign && err != nil {
				t.Errorf("collected: %v", err)
			}
			if err != nil && (!strings.Contains(err.Error(), "app") || !strings.Contains(err.Error(), " ago")) {
				t.Errorf("%v does not say what changed when", err)
			}
			// What only looked is no server of ours: the same again.
			_, again := u.Collect(t.Context(), r, nil)
			if errors.Is(again, ErrForeignWriter) != tt.foreign {
				t.Errorf("asked again: %v", again)
			}
			r.Dry = true
			report, err := u.Collect(t.Context(), r, nil)
			if told := len(report.Doubts) > 0 && strings.HasPrefix(report.Doubts[0], ErrForeignWriter.Error()); err != nil || told != tt.foreign {
				t.Errorf("dry: %v, %v", report.Doubts, err)
			}
			r = everything()
			r.Offline = true
			if report, err = u.Collect(t.Context(), r, nil); err != nil || len(report.Doubts) > 0 {
				t.Errorf("offline: %v, %v", report.Doubts, err)
			}
			if _, err := os.Stat(filepath.Join(dir, repo, "tags", "1", "current", "link")); err != nil {
				t.Error(err)
			}
		})
	}
}

// A second look at a store that was refused is no reason to take it: the lock
// is taken each time, and says nothing about who writes.
func TestForeignWriterStaysForeign(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pushed(t, dir)
	if err := os.RemoveAll(filepath.Join(dir, file.Private)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		u, err := OpenUpkeep(t.Context(), UpkeepParts{Dir: dir, Config: configured(t, "")})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := u.Collect(t.Context(), everything(), nil); !errors.Is(err, ErrForeignWriter) {
			t.Error(err)
		}
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{stateFile, "served"} {
		if _, err := os.Stat(filepath.Join(dir, file.Private, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was made: %v", name, err)
		}
	}
}

func TestOpenUpkeepErrors(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "none")
	_, err := OpenUpkeep(t.Context(), UpkeepParts{Dir: missing, Config: configured(t, "")})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Error(err)
	}
	if _, err := os.Stat(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was made: %v", err)
	}
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenUpkeep(t.Context(), UpkeepParts{Dir: plain, Config: configured(t, "")}); err == nil || !strings.Contains(err.Error(), "is not a directory") {
		t.Error(err)
	}
}

// Records that cannot be read may name anything: nothing goes.
func TestUpkeepWithoutRecords(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pushed(t, dir)
	name := filepath.Join(dir, file.Private, stateFile)
	if err := os.WriteFile(name, []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(name + "-wal")
	r := everything()
	r.Undo = time.Hour
	u, err := OpenUpkeep(t.Context(), UpkeepParts{Dir: dir, Config: configured(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	report, err := u.Collect(t.Context(), r, nil)
	checked, checkErr := u.Check(t.Context(), store.CheckOptions{}, nil)
	if err := u.Close(); err != nil {
		t.Error(err)
	}
	if checkErr != nil || checked.Unread != 1 || checked.Corrupt != 0 || checked.Found[store.FaultUnread] != 1 ||
		len(checked.Faults) != 1 || !strings.Contains(checked.Faults[0].What, state.ErrDamaged.Error()) {
		t.Errorf("checked: %+v, %v", checked, checkErr)
	}
	if err != nil || removed(report) != (seen{}) || !strings.Contains(fmt.Sprint(report.Doubts, report.Frozen), state.ErrDamaged.Error()) {
		t.Errorf("%+v, %v", report, err)
	}
	_, err = Assemble(t.Context(), Parts{Config: configured(t, ""), Dir: dir})
	if !errors.Is(err, state.ErrDamaged) {
		t.Errorf("served: %v", err)
	}
}

// Memory has no socket, and nothing beside the store.
func TestUpkeepInMemory(t *testing.T) {
	t.Parallel()
	a, err := Assemble(t.Context(), Parts{Config: configured(t, `gc: {schedule: "@daily"}`), After: never})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if a.upkeep.control != nil || a.upkeep.locked != nil || a.state != nil {
		t.Errorf("%+v", a.upkeep)
	}
	if _, err := a.upkeep.keeper.collect(t.Context(), everything(), nil); err != nil {
		t.Error(err)
	}
}

// A server that could not be assembled has not served: what is there is not
// its own.
func TestAssembleFailedServedNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	locks := filepath.Join(dir, "docker/registry/lockfiles")
	if err := errors.Join(os.MkdirAll(locks, 0o777), os.WriteFile(filepath.Join(locks, "database-in-use"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if a, err := Assemble(t.Context(), Parts{Config: configured(t, ""), Dir: dir}); err == nil {
		a.Close()
		t.Fatal("it serves")
	}
	if _, err := os.Stat(filepath.Join(dir, file.Private, "served")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := OpenUpkeep(t.Context(), UpkeepParts{Dir: dir, Config: configured(t, "")}); err == nil {
		t.Error("collected")
	}
}

// Each minute a server notes that it is there, and each day it forgets old
// records.
func TestBeat(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	locked, err := file.Lock(t.Context(), dir, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer locked.Unlock()
	now := fixedNow()
	st, err := state.Open(t.Context(), locked.Path(stateFile), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for _, days := range []int{31, 29} {
		d := state.Deletion{At: now.AddDate(0, 0, -days), Kind: state.KindTag, Repo: "app", Tag: fmt.Sprint(days), Digest: "sha256:" + oci.Digest(strings.Repeat("0", 64))}
		if err := st.Record(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	waits := make(chan chan time.Time, 1)
	after := func(d time.Duration) <-chan time.Time {
		if d != beat {
			t.Errorf("waits for %s", d)
		}
		c := make(chan time.Time, 1)
		waits <- c
		return c
	}
	k := &keeper{store: standIn{}, jobs: 1, now: fixedNow}
	u := startUpkeeping(t.Context(), locked, st, k, clock{fixedNow, after}, slog.New(slog.DiscardHandler))
	for range 2 {
		tick := <-waits
		old := time.Now().Add(-time.Hour)
		if err := os.Chtimes(locked.Path("served"), old, old); err != nil {
			t.Fatal(err)
		}
		tick <- now
		next := <-waits // So all of the last one is done.
		if until, err := locked.Served(); err != nil || time.Until(until) <= time.Minute {
			t.Errorf("served until %s, %v", until, err)
		}
		waits <- next
	}
	left, err := st.Deleted(t.Context(), "app", time.Time{})
	if err != nil || len(left) != 1 || left[0].Tag != "29" {
		t.Errorf("left are %v, %v", left, err)
	}
	if !u.stop() {
		t.Error("it has not ended")
	}
	u.leave()
	if until, err := locked.Served(); err != nil || time.Until(until) > 0 {
		t.Errorf("after the end served until %s, %v", until, err)
	}
}

// A run that hangs in the storage and does not end with its server may still
// write: nobody else gets the store.
func TestUpkeepHangs(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	a, err := Assemble(t.Context(), Parts{Config: configured(t, ""), Dir: dir, After: never})
	if err != nil {
		t.Fatal(err)
	}
	began, end, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	a.upkeep.limit = time.Nanosecond
	a.upkeep.keeper.store = standIn{onCollect: func(context.Context, gc.Options, bool) (gc.Report, error) {
		close(began)
		<-end
		return gc.Report{}, nil
	}}
	go func() {
		_, _ = a.upkeep.keeper.collect(context.Background(), everything(), nil)
		close(ended)
	}()
	<-began
	a.Close()
	_, err = file.Lock(t.Context(), dir, 0, nil)
	var held *file.HeldError
	if !errors.As(err, &held) {
		t.Errorf("somebody else gets the store: %v", err)
	}
	close(end)
	<-ended
	_ = a.state.Close()
	_ = a.locked.Unlock()
}
