package commands

import (
	"context"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unicode/utf8"

	"github.com/regctl/regctl/serve/config"
)

// logs are where a server logs to: what an operator must know, and one line a
// request. How they look can change while they are in use; see set.
//
// No line can be made by somebody else: whatever comes from outside is a value,
// and the formatters quote those.
type logs struct {
	w      io.Writer
	level  slog.LevelVar
	silent atomic.Bool // No line a request.
	format atomic.Pointer[formatters]
}

// formatters are how lines look.
type formatters struct{ operator, access slog.Handler }

// newLogs returns logs that write to w.
func newLogs(w io.Writer, c config.Log) *logs {
	l := &logs{w: &lineWriter{w: w}}
	l.set(c)
	return l
}

// operator is the log for what an operator must know.
func (l *logs) operator() *slog.Logger { return slog.New(logHandler{logs: l}) }

// access is the log of requests. As in registry:2 the level is not about it,
// only log.accesslog.disabled is.
func (l *logs) access() *slog.Logger { return slog.New(logHandler{logs: l, access: true}) }

// set changes how lines look from the next one on.
func (l *logs) set(c config.Log) {
	l.level.Set(levelOf(c.Level))
	l.silent.Store(c.AccessLog.Disabled)
	l.format.Store(&formatters{newFormatter(l.w, c, false), newFormatter(l.w, c, true)})
}

func levelOf(name string) slog.Level {
	switch name {
	case "debug":
		return slog.LevelDebug
	case "warn":
		return slog.LevelWarn
	case "error":
		return slog.LevelError
	}
	return slog.LevelInfo
}

// newFormatter makes the formatter that c names, with its fields on every line. A
// field with a name that lines have themselves gets "fields." before it, as the
// formatter of registry:2 does.
func newFormatter(w io.Writer, c config.Log, access bool) slog.Handler {
	n := naming{access: access}
	var h slog.Handler
	switch c.Formatter {
	case "json", "logstash":
		n.json, n.logstash = true, c.Formatter == "logstash"
		h = slog.NewJSONHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: n.replace})
	default:
		h = slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: n.replace})
	}
	var fixed []slog.Attr
	if n.logstash {
		fixed = append(fixed, slog.String("@version", "1"))
	}
	for _, key := range slices.Sorted(maps.Keys(c.Fields)) {
		name := key
		if slices.Contains(reservedKeys, strings.ToLower(key)) {
			name = "fields." + key
		}
		fixed = append(fixed, slog.String(name, c.Fields[key]))
	}
	return h.WithAttrs(fixed)
}

// reservedKeys are names that lines have themselves.
var reservedKeys = []string{
	slog.TimeKey, slog.LevelKey, slog.MessageKey, "message", "@timestamp", "@version", "method", "path", "status",
	"bytes", "duration", "client", "agent", "request", "repo", "user", "error", "host",
}

// naming gives what is on a line the names that registry:2 has for it.
type naming struct{ json, logstash, access bool }

// replace is for [slog.HandlerOptions].
func (n naming) replace(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.LevelKey:
		if level, ok := a.Value.Any().(slog.Level); ok {
			return slog.String(slog.LevelKey, levelName(level))
		}
	case slog.TimeKey:
		if n.logstash {
			a.Key = "@timestamp"
		}
		return a
	case slog.MessageKey:
		if n.logstash {
			a.Key = "message"
		}
		if n.json && n.access {
			a.Value = slog.StringValue("response completed")
		}
		return a
	}
	if !n.json {
		return a
	}
	if n.access {
		a.Key = accessName(a.Key)
	}
	switch a.Value.Kind() {
	case slog.KindDuration:
		a.Value = slog.StringValue(a.Value.Duration().String())
	case slog.KindString:
		a.Value = slog.StringValue(withoutControls(a.Value.String()))
	}
	return a
}

// withoutControls takes out what JSON lets through and terminals obey, or take
// for the end of a line.
func withoutControls(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 0x7f && r <= 0x9f {
			return utf8.RuneError
		}
		return r
	}, s)
}

// accessName is what registry:2 calls a part of the line of a request.
func accessName(key string) string {
	switch key {
	case "method":
		return "http.request.method"
	case "path":
		return "http.request.uri"
	case "host":
		return "http.request.host"
	case "client":
		return "http.request.remoteaddr"
	case "agent":
		return "http.request.useragent"
	case "request":
		return "http.request.id"
	case "status":
		return "http.response.status"
	case "bytes":
		return "http.response.written"
	case "duration":
		return "http.response.duration"
	case "user":
		return "auth.user.name"
	case "repo":
		return "vars.name"
	case "error":
		return "err.message"
	}
	return key
}

// levelName is what registry:2 calls a level.
func levelName(l slog.Level) string {
	switch {
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warning"
	}
	return "error"
}

// logHandler hands records on to what the format is at that time.
type logHandler struct {
	logs   *logs
	access bool
	with   []func(slog.Handler) slog.Handler // Attributes and groups, in order.
}

// Enabled is of [slog.Handler].
func (h logHandler) Enabled(_ context.Context, level slog.Level) bool {
	if h.access {
		return !h.logs.silent.Load()
	}
	return level >= h.logs.level.Level()
}

// Handle is of [slog.Handler].
func (h logHandler) Handle(ctx context.Context, r slog.Record) error {
	f := h.logs.format.Load()
	to := f.operator
	if h.access {
		to = f.access
	}
	for _, with := range h.with {
		to = with(to)
	}
	return to.Handle(ctx, r)
}

// WithAttrs is of [slog.Handler].
func (h logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.plus(func(to slog.Handler) slog.Handler { return to.WithAttrs(attrs) })
}

// WithGroup is of [slog.Handler].
func (h logHandler) WithGroup(name string) slog.Handler {
	return h.plus(func(to slog.Handler) slog.Handler { return to.WithGroup(name) })
}

func (h logHandler) plus(with func(slog.Handler) slog.Handler) slog.Handler {
	h.with = append(slices.Clip(h.with), with)
	return h
}

// lineWriter keeps lines apart that come from two formatters, while one takes
// the place of the other. Each Write is a line.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lineWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
