//go:build unix

package serve

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/regctl/regctl/serve/config"
)

func newAuditLog(t *testing.T, c config.Audit) (*auditLog, *logBuffer) {
	t.Helper()
	log := &logBuffer{}
	l := &auditLog{log: log.text(), now: func() time.Time { return time.Unix(1800000000, 0) }}
	if err := l.set(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.set(config.Audit{}) })
	return l, log
}

// requestsIn are the ids of the requests in a file, and anything else that is
// in it.
func requestsIn(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(raw)) {
		var r auditRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Errorf("%s: %q: %v", file, line, err)
		}
		all = append(all, r.Request+r.Reason)
	}
	return strings.Join(all, " ")
}

// TestAuditRotates: a file that is full becomes the first old one, and of those
// so many are kept.
func TestAuditRotates(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "audit.log")
	l, _ := newAuditLog(t, config.Audit{Path: file, MaxSize: 300, Keep: 2})
	for i := range 10 {
		l.add(auditRecord{Action: "push", Request: fmt.Sprint(i), Agent: strings.Repeat("x", 40)})
	}
	for name, want := range map[string]string{"": "8 9", ".1": "6 7", ".2": "4 5"} {
		if got := requestsIn(t, file+name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	if _, err := os.Stat(file + ".3"); err == nil {
		t.Error("one more is kept")
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 || info.Size() > 300 {
		t.Error(info.Mode(), info.Size(), err)
	}
}

// TestAuditMoved: who moves the file away, or empties it, gets it whole.
func TestAuditMoved(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "audit.log")
	l, _ := newAuditLog(t, config.Audit{Path: file, MaxSize: 1 << 20, Keep: 2})
	l.add(auditRecord{Request: "a"})
	if err := os.Rename(file, file+"-old"); err != nil {
		t.Fatal(err)
	}
	l.add(auditRecord{Request: "b"})
	l.add(auditRecord{Request: "c"})
	if old, now := requestsIn(t, file+"-old"), requestsIn(t, file); old != "a" || now != "b c" {
		t.Errorf("%s, %s", old, now)
	}
	if err := os.Truncate(file, 0); err != nil {
		t.Fatal(err)
	}
	l.add(auditRecord{Request: "d"})
	if now := requestsIn(t, file); now != "d" {
		t.Error(now)
	}
}

// TestAuditFull: a disk without room is told once, and how much is missing when
// there is room again.
func TestAuditFull(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip(err)
	}
	file := filepath.Join(t.TempDir(), "audit.log")
	if err := os.Symlink("/dev/full", file); err != nil {
		t.Fatal(err)
	}
	l, log := newAuditLog(t, config.Audit{Path: file, MaxSize: 1 << 20, Keep: 2})
	for i := range 3 {
		l.add(auditRecord{Request: fmt.Sprint(i)})
	}
	if said := log.String(); strings.Count(said, "cannot be written; requests are answered all the same") != 1 || !strings.Contains(said, "no space left") {
		t.Error(said)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	l.add(auditRecord{Request: "there"})
	if got := requestsIn(t, file); got != "3 records before this one could not be written there" {
		t.Error(got)
	}
	if said := log.String(); !strings.Contains(said, "the audit log is written again") || !strings.Contains(said, "lost=3") {
		t.Error(said)
	}
}

// TestAuditFullAtFirst: a disk that has no room for a file keeps nothing from
// starting; one that is there already is not given up for it.
func TestAuditFullAtFirst(t *testing.T) {
	t.Parallel()
	dir, full, log := t.TempDir(), true, &logBuffer{}
	l := &auditLog{log: log.text(), now: func() time.Time { return time.Unix(1800000000, 0) }}
	l.openFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		if full {
			return nil, &os.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
		}
		return os.OpenFile(name, flag, mode)
	}
	c := config.Audit{Path: filepath.Join(dir, "one"), MaxSize: 1 << 20, Keep: 2}
	if err := l.set(c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.set(config.Audit{}) })
	if said := log.String(); !strings.Contains(said, "requests are answered all the same") || !strings.Contains(said, "no space left") {
		t.Error(said)
	}
	for i := range 2 {
		l.add(auditRecord{Request: fmt.Sprint(i)})
	}
	full = false
	l.add(auditRecord{Request: "there"})
	if got := requestsIn(t, c.Path); got != "2 records before this one could not be written there" {
		t.Error(got)
	}
	full = true
	if err := l.set(config.Audit{Path: filepath.Join(dir, "two"), MaxSize: 1 << 20, Keep: 2}); err == nil {
		t.Error("one that can be written is given up for one that cannot")
	}
	l.add(auditRecord{Request: "still"})
	if got := requestsIn(t, c.Path); !strings.HasSuffix(got, "there still") {
		t.Error(got)
	}
}

// TestAuditStuck: where it cannot be rotated, it grows.
func TestAuditStuck(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "audit.log")
	if err := os.MkdirAll(filepath.Join(file+".1", "in the way"), 0o700); err != nil {
		t.Fatal(err)
	}
	l, log := newAuditLog(t, config.Audit{Path: file, MaxSize: 10, Keep: 1})
	for i := range 3 {
		l.add(auditRecord{Request: fmt.Sprint(i)})
	}
	if got := requestsIn(t, file); got != "0 1 2" {
		t.Error(got)
	}
	if said := log.String(); strings.Count(said, "cannot be rotated, and grows on") != 1 {
		t.Error(said)
	}
}

// TestAuditConcurrent: no line is lost or torn while the file rotates, and while
// another takes its place.
func TestAuditConcurrent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := config.Audit{Path: filepath.Join(dir, "one"), MaxSize: 2000, Keep: 1000}
	l, _ := newAuditLog(t, c)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				l.add(auditRecord{Request: fmt.Sprintf("%d-%d", g, i)})
				if g == 0 && i%50 == 25 {
					next := c
					next.Path = filepath.Join(dir, []string{"one", "two"}[i/50%2])
					if err := l.set(next); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, file := range files {
		for _, id := range strings.Fields(requestsIn(t, file)) {
			seen[id]++
		}
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s: %d times", id, n)
		}
	}
	if len(seen) != 800 {
		t.Errorf("%d of 800", len(seen))
	}
}

func TestAuditCannotBeOpened(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c := configured(t, "audit: {path: "+file+"/audit.log}")
	_, err := Assemble(t.Context(), Parts{Config: c})
	if err == nil || !strings.Contains(err.Error(), "audit.path: make the directory of the audit log") {
		t.Error(err)
	}
}

// TestAuditCannotBeMoved: what cannot be put in force is not said to have
// changed, and the file before goes on.
func TestAuditCannotBeMoved(t *testing.T) {
	t.Parallel()
	var log logBuffer
	file := filepath.Join(t.TempDir(), "audit.log")
	a, err := Assemble(t.Context(), Parts{Config: configured(t, "audit: {path: "+file+"}"), Log: log.text()})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if later := a.Reconfigure(configured(t, "audit: {path: "+file+"/audit.log}")); len(later) > 0 {
		t.Error(later)
	}
	if said := log.String(); !strings.Contains(said, "what audit says is not put in force") || strings.Contains(said, "the configuration has changed") {
		t.Error(said)
	}
	a.live.audit.add(auditRecord{Request: "still"})
	if got := requestsIn(t, file); got != "still" {
		t.Error(got)
	}
}

// BenchmarkAudit is what a record costs the request that it is about.
func BenchmarkAudit(b *testing.B) {
	l := &auditLog{log: (&logBuffer{}).text(), now: time.Now}
	if err := l.set(config.Audit{Path: filepath.Join(b.TempDir(), "audit.log"), MaxSize: 100 << 20, Keep: 1}); err != nil {
		b.Fatal(err)
	}
	defer l.file.Load().close()
	r := auditRecord{Action: "pull", Outcome: auditOK, Status: 200, Who: "user:alice", Credential: "token", Source: "htpasswd", Address: "10.0.0.7",
		Request: "GJXYKL3D-5", Agent: "containerd/2.0", Repository: "php/app", Tag: "v1", Digest: "sha256:" + strings.Repeat("0", 64)}
	b.ReportAllocs()
	for b.Loop() {
		l.add(r)
	}
}
