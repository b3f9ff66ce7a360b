package commands

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/serve/config"
)

// writtenLine is what is written of one line, without the time.
func writtenLine(t *testing.T, out *strings.Builder) string {
	t.Helper()
	line := out.String()
	out.Reset()
	if strings.Count(line, "\n") != 1 {
		t.Errorf("not one line: %q", line)
	}
	if _, rest, ok := strings.Cut(line, " level="); ok && strings.HasPrefix(line, "time=") {
		return "level=" + strings.TrimSuffix(rest, "\n")
	}
	return strings.TrimSuffix(line, "\n")
}

// fieldsOf are the fields of a line of JSON; none is there twice.
func fieldsOf(t *testing.T, line string) map[string]any {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal([]byte(line), &all); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	d := json.NewDecoder(strings.NewReader(line))
	seen := map[string]bool{}
	depth := 0
	for key := true; ; {
		token, err := d.Token()
		if err != nil {
			break
		}
		switch token {
		case json.Delim('{'):
			depth++
			key = true
			continue
		case json.Delim('}'):
			depth--
			continue
		}
		if name, ok := token.(string); ok && key && depth == 1 {
			if seen[name] {
				t.Errorf("%s is there twice: %s", name, line)
			}
			seen[name] = true
		}
		key = !key
	}
	return all
}

func request(l *slog.Logger) {
	l.LogAttrs(context.Background(), slog.LevelInfo, "request",
		slog.String("method", "GET"), slog.String("path", "/v2/"), slog.Int("status", 200), slog.Int64("bytes", 2),
		slog.Duration("duration", 1500*time.Microsecond), slog.String("client", "10.0.0.7"), slog.String("agent", "curl/8"),
		slog.String("request", "abc-1"), slog.String("host", "reg.example"), slog.String("user", "ann"), slog.String("repo", "a/b"))
}

func TestLogText(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	l := newLogs(&out, config.Log{Fields: map[string]string{"service": "registry", "env": "a b", "host": "n1"}})
	l.operator().Warn("disk", slog.Duration("took", time.Second))
	if got := writtenLine(t, &out); got != `level=warning msg=disk env="a b" fields.host=n1 service=registry took=1s` {
		t.Error(got)
	}
	request(l.access())
	if got := writtenLine(t, &out); got != `level=info msg=request env="a b" fields.host=n1 service=registry method=GET path=/v2/ status=200 `+
		`bytes=2 duration=1.5ms client=10.0.0.7 agent=curl/8 request=abc-1 host=reg.example user=ann repo=a/b` {
		t.Error(got)
	}
}

// The names are those that registry:2 writes with the same formatter.
func TestLogJSON(t *testing.T) {
	t.Parallel()
	for formatter, own := range map[string][]string{
		"json":     {"level", "msg", "time"},
		"logstash": {"@timestamp", "@version", "level", "message"},
	} {
		var out strings.Builder
		l := newLogs(&out, config.Log{Formatter: formatter, Fields: map[string]string{"service": "registry", "message": "mine", "level": "mine"}})
		l.operator().Error("disk", slog.Duration("took", time.Second), slog.String("why", "full"))
		got := fieldsOf(t, writtenLine(t, &out))
		want := append(slices.Clone(own), "fields.level", "fields.message", "service", "took", "why")
		slices.Sort(want)
		if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, want) {
			t.Errorf("%s: %v, want %v", formatter, names, want)
		}
		if got["level"] != "error" || got["took"] != "1s" || got["fields.message"] != "mine" || got["fields.level"] != "mine" {
			t.Errorf("%v", got)
		}
		at, _ := got[map[string]string{"json": "time", "logstash": "@timestamp"}[formatter]].(string)
		if _, err := time.Parse(time.RFC3339Nano, at); err != nil {
			t.Error(err)
		}
		request(l.access())
		got = fieldsOf(t, writtenLine(t, &out))
		want = append(slices.Clone(own), "fields.level", "fields.message", "service",
			"http.request.method", "http.request.uri", "http.request.host", "http.request.remoteaddr", "http.request.useragent", "http.request.id",
			"http.response.status", "http.response.written", "http.response.duration", "auth.user.name", "vars.name")
		slices.Sort(want)
		if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, want) {
			t.Errorf("%s: %v, want %v", formatter, names, want)
		}
		if got["http.response.duration"] != "1.5ms" || got["http.response.status"] != float64(200) || got["auth.user.name"] != "ann" {
			t.Errorf("%v", got)
		}
		if formatter == "logstash" && (got["@version"] != "1" || got["message"] != "response completed") {
			t.Errorf("%v", got)
		}
	}
}

// The level is about what an operator must know; requests are logged unless
// log.accesslog.disabled says otherwise, as in registry:2.
func TestLogLevels(t *testing.T) {
	t.Parallel()
	for level, want := range map[string]string{
		"debug": "debug info warn error request", "info": "info warn error request", "": "info warn error request",
		"warn": "warn error request", "error": "error request",
	} {
		var out strings.Builder
		l := newLogs(&out, config.Log{Level: level})
		log := l.operator()
		log.Debug("debug")
		log.Info("info")
		log.Warn("warn")
		log.Error("error")
		request(l.access())
		var said []string
		for line := range strings.Lines(out.String()) {
			_, rest, _ := strings.Cut(line, "msg=")
			said = append(said, strings.Fields(rest)[0])
		}
		if got := strings.Join(said, " "); got != want {
			t.Errorf("%s: %s, want %s", level, got, want)
		}
	}
}

// All of it changes while loggers are in use, those with attributes too.
func TestLogChanges(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	l := newLogs(&out, config.Log{Level: "error"})
	log, access := l.operator().With("part", "gc").WithGroup("run"), l.access()
	log.Info("no")
	l.set(config.Log{Level: "debug", Formatter: "logstash", AccessLog: config.AccessLog{Disabled: true}, Fields: map[string]string{"env": "x"}})
	request(access)
	log.Debug("yes", slog.Int("level", 1))
	got := fieldsOf(t, writtenLine(t, &out))
	if got["part"] != "gc" || got["env"] != "x" || got["message"] != "yes" || got["level"] != "debug" || got["run"].(map[string]any)["level"] != float64(1) {
		t.Errorf("%v", got)
	}
	l.set(config.Log{Level: "error"})
	request(access)
	log.Warn("no")
	if got := writtenLine(t, &out); !strings.HasPrefix(got, "level=info msg=request") {
		t.Error(got)
	}
}

// Nobody outside makes a line, or a field, of their own.
func TestLogCannotBeForged(t *testing.T) {
	t.Parallel()
	const evil = "x\nlevel=error msg=forged\r\n\x1b[2J\u2028\u0085{\"level\":\"error\"}\" user=root"
	for _, formatter := range []string{"text", "json", "logstash"} {
		var out strings.Builder
		l := newLogs(&out, config.Log{Formatter: formatter})
		l.access().Info("request", slog.String("agent", evil), slog.String("path", evil), slog.String("host", evil))
		line := writtenLine(t, &out)
		if strings.ContainsAny(line, "\r\n\x1b\u0085\u2028") {
			t.Errorf("%s: %q", formatter, line)
		}
		if formatter == "text" {
			continue
		}
		if got := fieldsOf(t, line); got["http.request.useragent"] != strings.ReplaceAll(evil, "\u0085", "\uFFFD") || got["level"] != "info" {
			t.Errorf("%v", got)
		}
	}
}
