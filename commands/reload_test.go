package commands

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/regctl/regctl/serve/config"
)

// fakeFile is a config file that a test writes, and what became of it.
type fakeFile struct {
	mu      sync.Mutex // Where something else looks.
	content string
	err     error
	later   []string
	taken   []string // The levels that were put in force.
	out     strings.Builder
}

func (f *fakeFile) reloader() *reloader {
	return &reloader{
		name: "config.yml",
		read: func() ([]byte, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return []byte(f.content), f.err
		},
		parse: func(raw []byte) (*config.Config, []config.Problem, error) {
			return config.Parse("config.yml", raw, nil)
		},
		apply: func(c *config.Config) []string {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.taken = append(f.taken, c.Log.Level)
			return f.later
		},
		log:  slog.New(slog.NewTextHandler(&f.out, &slog.HandlerOptions{ReplaceAttr: withoutTime})),
		seen: []byte(f.content),
	}
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// said is what was logged since it was last asked.
func (f *fakeFile) said() string {
	defer f.out.Reset()
	return strings.TrimSuffix(f.out.String(), "\n")
}

func level(l string) string {
	return "version: 0.1\nstorage: {inmemory: {}}\nlog: {level: " + l + "}\n"
}

// A file takes effect once it has come to rest, and not again.
func TestReloadByLooking(t *testing.T) {
	t.Parallel()
	f := &fakeFile{content: level("info")}
	r := f.reloader()
	look := func(want string) {
		t.Helper()
		r.look(t.Context(), false)
		if got := fmt.Sprint(f.taken); got != want {
			t.Errorf("in force: %s, want %s", got, want)
		}
	}
	look("[]")
	look("[]")
	f.content = level("debug")
	look("[]") // It may be half written.
	look("[debug]")
	look("[debug]")
	f.content = "version: 0.1\n" // Half of it.
	look("[debug]")
	f.content = level("error")
	look("[debug]")
	f.content = level("debug") // As it was.
	look("[debug]")
	look("[debug]")
	f.content = level("warn")
	look("[debug]")
	look("[debug warn]")
	if got := f.said(); got != "" {
		t.Error(got)
	}
}

// Asked to, it is read at once, even if it has not changed.
func TestReloadWhenAsked(t *testing.T) {
	t.Parallel()
	f := &fakeFile{content: level("info")}
	r := f.reloader()
	r.look(t.Context(), true)
	f.content = level("debug")
	r.look(t.Context(), true)
	r.look(t.Context(), false)
	r.look(t.Context(), false)
	if got := fmt.Sprint(f.taken); got != "[info debug]" {
		t.Error(got)
	}
}

// A file that is wrong changes nothing; all that is wrong is said, once.
func TestReloadRefuses(t *testing.T) {
	t.Parallel()
	f := &fakeFile{content: level("info")}
	r := f.reloader()
	f.content = "version: 0.1\nstorage: {inmemory: {}, filesystem: {rootdirectory: 1}}\nlog: {level: loud}\nhttp: {draintimeout: soon}\n"
	r.look(t.Context(), false)
	r.look(t.Context(), false)
	said := f.said()
	for _, want := range []string{`level=ERROR msg="config.yml:3: log.level:`, `level=ERROR msg="config.yml:4: http.draintimeout:`} {
		if !strings.Contains(said, want) {
			t.Errorf("no %s in\n%s", want, said)
		}
	}
	if last := said[strings.LastIndexByte(said, '\n')+1:]; last != `level=ERROR msg="the config file is refused, what it said before stays in force" file=config.yml` {
		t.Error(last)
	}
	r.look(t.Context(), false)
	r.look(t.Context(), false)
	if got := f.said(); got != "" || len(f.taken) > 0 {
		t.Errorf("said %s, took %v", got, f.taken)
	}
	r.look(t.Context(), true)
	if got := f.said(); got != said {
		t.Errorf("asked to:\n%s\nwant\n%s", got, said)
	}
	f.content = level("info")
	r.look(t.Context(), true)
	if got := f.said(); got != "" || fmt.Sprint(f.taken) != "[info]" {
		t.Errorf("mended: %s, %v", got, f.taken)
	}
}

// A file that cannot be read changes nothing, and is told of once.
func TestReloadCannotRead(t *testing.T) {
	t.Parallel()
	f := &fakeFile{content: level("info")}
	r := f.reloader()
	f.err = errors.New("no such file")
	r.look(t.Context(), false)
	r.look(t.Context(), false)
	if got := f.said(); got != `level=ERROR msg="the config file cannot be read, what it said stays in force" error="no such file"` {
		t.Error(got)
	}
	f.err, f.content = nil, level("warn")
	r.look(t.Context(), false)
	r.look(t.Context(), false)
	if got := f.said(); got != "" || fmt.Sprint(f.taken) != "[warn]" {
		t.Errorf("said %s, took %v", got, f.taken)
	}
	f.err = errors.New("again")
	r.look(t.Context(), false)
	if got := f.said(); !strings.Contains(got, "again") {
		t.Error(got)
	}
}

// A file that was emptied changes nothing, though one may start with it.
func TestReloadOfNothing(t *testing.T) {
	t.Parallel()
	f := &fakeFile{content: level("info")}
	r := f.reloader()
	f.content = " \n"
	for range 4 {
		r.look(t.Context(), false)
	}
	if got := f.said(); got != `level=ERROR msg="the config file is empty, what it said before stays in force" file=config.yml` || len(f.taken) > 0 {
		t.Errorf("said %s, took %v", got, f.taken)
	}
	f.content = level("warn")
	r.look(t.Context(), false)
	r.look(t.Context(), false)
	if got := f.said(); got != "" || fmt.Sprint(f.taken) != "[warn]" {
		t.Errorf("said %s, took %v", got, f.taken)
	}
}

// Of what is read once nothing is expected later: to read it again may give
// nothing, or never end.
func TestReloadOfFilesOnly(t *testing.T) {
	t.Parallel()
	e := &Env{}
	name := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(name, []byte(level("info")), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{name: name, os.DevNull: "", "": ""} {
		if got := e.followedConfig(&serveOptions{Config: path}); got != want {
			t.Errorf("%q: followed is %q", path, got)
		}
	}
	if _, err := readFile(name); err != nil {
		t.Error(err)
	}
	if _, err := readFile(os.DevNull); err == nil {
		t.Error("a device was read")
	}
}

// What needs a restart is named, and so is that it does not any more.
func TestReloadNamesWhatIsLater(t *testing.T) {
	t.Parallel()
	f := &fakeFile{content: level("info"), later: []string{"http.addr", "auth"}}
	r := f.reloader()
	r.look(t.Context(), true)
	if got := f.said(); got != `level=WARN msg="http.addr changed: takes effect when restarted"`+"\n"+`level=WARN msg="auth changed: takes effect when restarted"` {
		t.Error(got)
	}
	f.later = nil
	r.look(t.Context(), true)
	if got := f.said(); got != `level=INFO msg="no restart is needed any more" keys="http.addr auth"` {
		t.Error(got)
	}
}

func (f *fakeFile) inForce() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprint(f.taken)
}

func (f *fakeFile) write(content string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.content = content
}

// It looks every two seconds, and when it is told to.
func TestReloadRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeFile{content: level("info")}
		r := f.reloader()
		r.after = time.After
		ctx, cancel := context.WithCancel(t.Context())
		asked, done := make(chan os.Signal), make(chan struct{})
		go func() { defer close(done); r.run(ctx, asked) }()
		asked <- os.Interrupt
		synctest.Wait()
		if got := f.inForce(); got != "[info]" {
			t.Error(got)
		}
		f.write(level("warn"))
		time.Sleep(4*time.Second - time.Millisecond)
		synctest.Wait()
		if got := f.inForce(); got != "[info]" {
			t.Errorf("too early: %s", got)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if got := f.inForce(); got != "[info warn]" {
			t.Error(got)
		}
		cancel()
		<-done
	})
}
