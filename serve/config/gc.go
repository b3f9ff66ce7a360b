package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	"go.yaml.in/yaml/v3"
)

// GC is the section gc, which is ours: what a collection takes away, and when
// the server collects by itself.
type GC struct {
	// Schedule is when, such as "@daily" or "30 3 * * *"; see [GC.Next]. Empty:
	// only when it is asked to.
	Schedule string
	// Untagged lets manifests go that no tag leads to.
	Untagged bool
	// Older, Uploads and Undo are as those of a collection. Defaults: an hour,
	// a day and a day. Uploads is storage.maintenance.uploadpurging.age if
	// only that is said, and [Never] if uploadpurging is off.
	Older, Uploads, Undo time.Duration

	times cron.Schedule
}

// Next is the first time after t that Schedule names. Zero: none.
func (g GC) Next(t time.Time) time.Time {
	if g.times == nil {
		return time.Time{}
	}
	return g.times.Next(t)
}

// Never is an age that nothing has.
const Never time.Duration = math.MaxInt64

const day = 24 * time.Hour

// purging is storage.maintenance.uploadpurging.
type purging struct {
	enabled, dry, off bool
	age               time.Duration // 0: not said.
}

func gcDefaults() GC { return GC{Older: time.Hour, Uploads: unsaid, Undo: day} }

// unsaid is the age of uploads before the configuration was read.
const unsaid time.Duration = -1

// gcSection is the section gc. A key that is not known is an error: it may
// keep what otherwise goes.
func gcSection() field {
	return field{strict: "no such key", fields: section{
		"schedule": {set: setSchedule},
		"untagged": {set: setBool(func(c *Config) *bool { return &c.GC.Untagged })},
		"older":    {set: setAge(func(c *Config) *time.Duration { return &c.GC.Older })},
		"uploads":  {set: setAge(func(c *Config) *time.Duration { return &c.GC.Uploads })},
		"undo":     {set: setAge(func(c *Config) *time.Duration { return &c.GC.Undo })},
	}}
}

// purgingSection is storage.maintenance.uploadpurging of registry:2, which
// removes old uploads by itself. Here a collection does.
func purgingSection() field {
	return field{fields: section{
		"enabled":  {set: setPurging(false, func(c *Config) *bool { return &c.purging.enabled })},
		"dryrun":   {set: setPurging(true, func(c *Config) *bool { return &c.purging.dry })},
		"age":      {set: setAge(func(c *Config) *time.Duration { return &c.purging.age })},
		"interval": {state: accepted},
	}}
}

// setPurging sets the key that turns purging off if it is off.
func setPurging(off bool, at at[bool]) func(*Config, node) error {
	return func(c *Config, n node) error {
		err := setBool(at)(c, n)
		c.purging.off = c.purging.off || *at(c) == off
		return err
	}
}

// uploads is the age from which on unfinished uploads go: what gc says, else
// what uploadpurging says, else a day.
func (c *Config) uploads() time.Duration {
	switch {
	case c.GC.Uploads != unsaid:
		return c.GC.Uploads
	case c.purging.off:
		return Never
	case c.purging.age > 0:
		return c.purging.age
	}
	return day
}

// warnPurging says that uploads go when a collection runs, to those who count
// on their going by themselves.
func (p *parser) warnPurging(c *Config, root node) {
	for _, name := range []string{"storage", "maintenance", "uploadpurging"} {
		if p.apart || root == nil || root.Kind != yaml.MappingNode {
			return
		}
		if _, root = get(root, name); name == "uploadpurging" && root != nil {
			if key, _ := get(root, "enabled"); key != nil && !c.purging.off && c.GC.Schedule == "" {
				p.warnf(key, "storage.maintenance.uploadpurging: unfinished uploads go when regctl gc runs; to run it by itself, add gc: {schedule: \"@daily\"}")
			}
		}
	}
}

func setSchedule(c *Config, n node) error {
	v, err := scalar(n)
	if err != nil {
		return err
	}
	c.GC.times, err = parseSchedule(v)
	c.GC.Schedule = v
	return err
}

func parseSchedule(s string) (cron.Schedule, error) {
	const form = `%q is not a time such as "@daily", "@every 6h" or "30 3 * * *"`
	if strings.Contains(s, "TZ=") && !strings.Contains(s, " ") { // The parser counts on a space.
		return nil, fmt.Errorf(form, s)
	}
	if every, ok := strings.CutPrefix(s, "@every "); ok { // The parser takes what is too short for a second.
		if d, err := time.ParseDuration(every); err == nil && d < time.Second {
			return nil, fmt.Errorf(form, s)
		}
	}
	schedule, err := cron.ParseStandard(s)
	if err != nil {
		return nil, fmt.Errorf(form+": %w", s, err)
	}
	if schedule.Next(time.Unix(0, 0)).IsZero() {
		return nil, fmt.Errorf("%q never comes", s)
	}
	return schedule, nil
}

func setAge(at func(*Config) *time.Duration) func(*Config, node) error {
	return func(c *Config, n node) error {
		v, err := scalar(n)
		if err != nil {
			return err
		}
		age, err := parseAge(v)
		if err != nil {
			return fmt.Errorf("%q is not %w", v, err)
		}
		*at(c) = age
		return nil
	}
}

// parseAge reads a duration with days and weeks, too.
func parseAge(s string) (time.Duration, error) {
	if s == "0" {
		return 0, nil
	}
	for suffix, unit := range map[string]time.Duration{"d": day, "w": 7 * day} {
		if digits, ok := strings.CutSuffix(s, suffix); ok {
			if n, err := strconv.ParseUint(digits, 10, 12); err == nil {
				return time.Duration(n) * unit, nil
			}
		}
	}
	age, err := time.ParseDuration(s)
	if err != nil || age < 0 {
		return 0, errors.New("a time such as 12h, 30d or 2w")
	}
	return age, nil
}
