package commands

import (
	"io"
	"log/slog"
	"maps"
	"slices"

	"github.com/regctl/regctl/serve/config"
)

// newLoggers returns the log of a server and that of its requests, which is
// nil if none is wanted.
func newLoggers(w io.Writer, c config.Log) (log, access *slog.Logger) {
	level := map[string]slog.Level{"debug": slog.LevelDebug, "warn": slog.LevelWarn, "error": slog.LevelError}[c.Level]
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler = slog.NewTextHandler(w, options)
	if c.Formatter == "json" {
		handler = slog.NewJSONHandler(w, options)
	}
	log = slog.New(handler)
	for _, key := range slices.Sorted(maps.Keys(c.Fields)) {
		log = log.With(slog.String(key, c.Fields[key]))
	}
	if c.AccessLog.Disabled {
		return log, nil
	}
	return log, log
}
