package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/serve/config"
)

const day = 24 * time.Hour

func TestGC(t *testing.T) {
	t.Parallel()
	purging := func(s string) string {
		return "storage: {maintenance: {uploadpurging: {" + s + "}}}"
	}
	usual := config.GC{Older: time.Hour, Uploads: day, Undo: day}
	with := func(change func(*config.GC)) config.GC {
		c := usual
		change(&c)
		return c
	}
	tests := map[string]struct {
		file, variable string
		want           config.GC
	}{
		"nothing":                 {"", "", usual},
		"empty":                   {"gc: {}", "", usual},
		"null":                    {"gc:", "", usual},
		"ages":                    {"gc: {older: 0, uploads: 90m, undo: 3d}", "", config.GC{Uploads: 90 * time.Minute, Undo: 3 * day}},
		"untagged":                {"gc: {untagged: true}", "", with(func(g *config.GC) { g.Untagged = true })},
		"schedule":                {`gc: {schedule: "@every 6h"}`, "", with(func(g *config.GC) { g.Schedule = "@every 6h" })},
		"schedule by a variable":  {"", "REGISTRY_GC_SCHEDULE=@daily", with(func(g *config.GC) { g.Schedule = "@daily" })},
		"a variable wins":         {"gc: {older: 5h}", "REGISTRY_GC_OLDER=2w", with(func(g *config.GC) { g.Older = 14 * day })},
		"untagged by a variable":  {"", "REGISTRY_GC_UNTAGGED=true", with(func(g *config.GC) { g.Untagged = true })},
		"purging's age":           {purging("age: 168h"), "", with(func(g *config.GC) { g.Uploads = 7 * day })},
		"purging's variable":      {"", "REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_AGE=48h", with(func(g *config.GC) { g.Uploads = 2 * day })},
		"purging's age of 0":      {purging("age: 0s"), "", usual},
		"purging that is on":      {"gc: {schedule: '@daily', uploads: 1h}\n" + purging("enabled: true, age: 3h"), "", with(func(g *config.GC) { g.Schedule, g.Uploads = "@daily", time.Hour })},
		"purging that is off":     {purging("enabled: false, age: 3h"), "", with(func(g *config.GC) { g.Uploads = config.Never })},
		"purging that only looks": {purging("dryrun: true, interval: 24h"), "", with(func(g *config.GC) { g.Uploads = config.Never })},
		"purging that is not dry": {purging("dryrun: false"), "", usual},
		"ours wins over off":      {"gc: {uploads: 2h}\n" + purging("enabled: false"), "", with(func(g *config.GC) { g.Uploads = 2 * time.Hour })},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var environ []string
			if tt.variable != "" {
				environ = []string{tt.variable}
			}
			got := mustParse(t, tt.file, environ...).GC
			if got.Schedule != tt.want.Schedule || got.Untagged != tt.want.Untagged || got.Older != tt.want.Older ||
				got.Uploads != tt.want.Uploads || got.Undo != tt.want.Undo {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
			if none := got.Next(time.Now()).IsZero(); none != (got.Schedule == "") {
				t.Errorf("%q comes at %s", got.Schedule, got.Next(time.Now()))
			}
		})
	}
}

func TestGCErrors(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		"gc: {sheddule: x}":                                 "config.yml:1: gc.sheddule: no such key; did you mean schedule?",
		"gc: {untaged: true}":                               "config.yml:1: gc.untaged: no such key; did you mean untagged?",
		"gc: {older: 1x}":                                   `config.yml:1: gc.older: "1x" is not a time such as 12h, 30d or 2w`,
		"gc: {older: -1h}":                                  `config.yml:1: gc.older: "-1h" is not a time such as`,
		"gc: {undo: 9999999999w}":                           `config.yml:1: gc.undo: "9999999999w" is not a time such as`,
		"gc: {uploads: [1h]}":                               "config.yml:1: gc.uploads: must be a single value",
		"gc: {untagged: perhaps}":                           `config.yml:1: gc.untagged: "perhaps" is neither true nor false`,
		"gc: {schedule: daily}":                             `config.yml:1: gc.schedule: "daily" is not a time such as "@daily"`,
		"gc: {schedule: '60 * * * *'}":                      `config.yml:1: gc.schedule: "60 * * * *" is not a time such as`,
		"gc: {schedule: '0 0 3 * * *'}":                     `config.yml:1: gc.schedule: "0 0 3 * * *" is not a time such as`,
		"gc: {schedule: 'TZ=UTC'}":                          `config.yml:1: gc.schedule: "TZ=UTC" is not a time such as`,
		"gc: {schedule: '@every'}":                          `config.yml:1: gc.schedule: "@every" is not a time such as`,
		"gc: {schedule: '@every -1h'}":                      `config.yml:1: gc.schedule: "@every -1h" is not a time such as`,
		"gc: {schedule: '0 0 31 2 *'}":                      `config.yml:1: gc.schedule: "0 0 31 2 *" never comes`,
		"gc: {schedule: {at: night}}":                       "config.yml:1: gc.schedule: must be a single value",
		"gc:\n  schedule: @daily":                           `a value that begins with @ needs quotes: "@daily"`,
		"gc: hourly":                                        "config.yml:1: gc must be a mapping",
		"gc: []":                                            "config.yml:1: gc must be a mapping",
		"storage: {maintenance: {uploadpurging: {age: x}}}": `config.yml:1: storage.maintenance.uploadpurging.age: "x" is not a time such as`,
	}
	for file, want := range tests {
		_, _, err := config.Parse("config.yml", []byte(file), nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", file, err, want)
		}
	}
}

// Times are those of the machine's clock on the wall, unless it says which.
func TestGCNext(t *testing.T) {
	t.Parallel()
	from := time.Date(2026, 11, 21, 13, 50, 0, 0, time.UTC)
	for schedule, want := range map[string]time.Time{
		"TZ=UTC 30 3 * * *":     time.Date(2026, 11, 22, 3, 30, 0, 0, time.UTC),
		"CRON_TZ=UTC 0 4 * * 0": time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC),
		"@every 6h":             from.Add(6 * time.Hour),
		"TZ=Etc/UTC @hourly":    time.Date(2026, 11, 21, 14, 0, 0, 0, time.UTC),
		"TZ=UTC 0 0 29 2 *":     time.Date(2028, 2, 29, 0, 0, 0, 0, time.UTC),
	} {
		if got := mustParse(t, "gc: {schedule: '"+schedule+"'}").GC.Next(from); !got.Equal(want) {
			t.Errorf("%s: %s, want %s", schedule, got, want)
		}
	}
}

// Who does not serve is not told what a server would not do by itself.
func TestPurgingOfOthers(t *testing.T) {
	t.Parallel()
	file := []byte("storage: {maintenance: {uploadpurging: {enabled: true, age: 2h}}}")
	c, warnings, err := config.ParseStore("config.yml", file, nil)
	if err != nil || len(warnings) > 0 || c.GC.Uploads != 2*time.Hour {
		t.Errorf("%+v, %v, %v", c, warnings, err)
	}
}

// Whatever a schedule is, it is refused or comes again and again.
func FuzzSchedule(f *testing.F) {
	for _, s := range []string{"@daily", "@every 6h", "TZ=UTC 0 3 * * 1-5", "CRON_TZ=", "*/0 * * * *", "0 0 31 2 *", "1-59/7 0,12 1 jan mon", "TZ= ", "@every 1ns"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, _, err := config.Parse("", nil, []string{"REGISTRY_GC_SCHEDULE=" + s})
		if err != nil || c.GC.Schedule == "" {
			return
		}
		at := time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC)
		for range 3 {
			next := c.GC.Next(at)
			if !next.After(at) {
				t.Fatalf("%q comes at %s after %s", s, next, at)
			}
			at = next
		}
	})
}
