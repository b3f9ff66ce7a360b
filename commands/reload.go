package commands

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/regctl/regctl/serve/config"
)

// reloadEvery is how often the config file is looked at.
const reloadEvery = 2 * time.Second

// reloader puts a config file in force that changes while the server runs.
type reloader struct {
	name  string // Of the file.
	read  func() ([]byte, error)
	parse func(raw []byte) (*config.Config, []config.Problem, error)
	apply func(*config.Config) (later []string)
	after func(time.Duration) <-chan time.Time
	log   *slog.Logger

	seen    []byte   // What was read last, and taken or refused.
	changed []byte   // What the file has become, until it has been so twice.
	later   []string // What was said to need a restart.
	unread  bool     // It was said that the file cannot be read.
}

// run looks at the file until ctx ends, and at once whenever asked says so. May
// be nil: asked never does.
func (r *reloader) run(ctx context.Context, asked <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-asked:
			r.look(ctx, true)
		case <-r.after(reloadEvery):
			r.look(ctx, false)
		}
	}
}

// look reads the file. A change that was not asked for must have come to rest:
// who reads a file that is being written reads a part of it, which may be valid
// and say less.
func (r *reloader) look(ctx context.Context, asked bool) {
	raw, err := r.read()
	if err != nil {
		if !r.unread || asked {
			r.log.LogAttrs(ctx, slog.LevelError, "the config file cannot be read, what it said stays in force", slog.Any("error", err))
		}
		r.unread, r.changed = true, nil
		return
	}
	r.unread = false
	switch {
	case asked:
	case bytes.Equal(raw, r.seen):
		r.changed = nil
		return
	case r.changed == nil || !bytes.Equal(raw, r.changed):
		r.changed = raw
		return
	}
	r.seen, r.changed = raw, nil
	r.take(ctx, raw)
}

// take puts what was read in force, or says all that is wrong with it. An empty
// file would be right: who starts with one wants the defaults, but who emptied
// one that says something hardly does.
func (r *reloader) take(ctx context.Context, raw []byte) {
	if len(bytes.TrimSpace(raw)) == 0 {
		r.log.LogAttrs(ctx, slog.LevelError, "the config file is empty, what it said before stays in force", slog.String("file", r.name))
		return
	}
	c, warnings, err := r.parse(raw)
	for _, w := range warnings {
		r.log.LogAttrs(ctx, slog.LevelWarn, w.String())
	}
	if err != nil {
		var all *config.Error
		if !errors.As(err, &all) {
			all = &config.Error{Problems: []config.Problem{{Text: err.Error()}}}
		}
		for _, p := range all.Problems {
			r.log.LogAttrs(ctx, slog.LevelError, p.String())
		}
		r.log.LogAttrs(ctx, slog.LevelError, "the config file is refused, what it said before stays in force", slog.String("file", r.name))
		return
	}
	later := r.apply(c)
	for _, key := range later {
		r.log.LogAttrs(ctx, slog.LevelWarn, key+" changed: takes effect when restarted")
	}
	if len(r.later) > 0 && len(later) == 0 {
		r.log.LogAttrs(ctx, slog.LevelInfo, "no restart is needed any more", slog.String("keys", strings.Join(r.later, " ")))
	}
	r.later = slices.Clone(later)
}

// heedHangups makes SIGHUP ask for the config file to be read again, until
// forget is called. Without a file there is nothing to read, and SIGHUP ends
// the server, as it ends whatever loses its terminal. One that comes while the
// server waits for its store is heeded later.
func (e *Env) heedHangups(o *serveOptions) (forget func()) {
	if e.followedConfig(o) == "" {
		return func() {}
	}
	o.asked, forget = hangups(e.Shows)
	return forget
}

// followedConfig is the config file whose changes count, or empty. A pipe is
// read once: nothing, or nobody, is at its other end later.
func (e *Env) followedConfig(o *serveOptions) string {
	path := e.configPath(o.Config)
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return ""
	}
	return path
}

// readFile reads a file, and nothing that may be read for ever.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New(path + " is no file any more")
	}
	return os.ReadFile(path)
}

// reloading puts the config file of o in force when it changes, and at once
// when it is asked to, until end is called.
func (e *Env) reloading(ctx context.Context, o *serveOptions, apply func(*config.Config) []string, log *slog.Logger) (end func()) {
	path := e.followedConfig(o)
	if path == "" {
		return func() {}
	}
	r := &reloader{
		name: path, apply: apply, after: e.After, log: log,
		read: func() ([]byte, error) { return readFile(path) },
		parse: func(raw []byte) (*config.Config, []config.Problem, error) {
			return e.parseServe(o, filepath.Base(path), raw)
		},
		seen: o.raw,
	}
	log.LogAttrs(ctx, slog.LevelDebug, "the config file takes effect when it changes", slog.String("file", path))
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { r.run(ctx, o.asked) })
	return func() {
		cancel()
		running.Wait()
	}
}
