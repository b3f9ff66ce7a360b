package commands

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestPhases: the bar never goes back, though every phase begins at nothing,
// and one of an unknown amount says how much is done. In the end it is gone.
func TestPhases(t *testing.T) {
	t.Parallel()
	env, now := progressEnv(true)
	p := newPhases(env.Env, false, gcPhases()...)
	for _, at := range []struct {
		name        string
		done, total int64
	}{
		{"list", 0, 0}, {"list", 12345, 0}, {"mark", 0, 300}, {"mark", 150, 300}, {"mark", 400, 300}, {"list", 1, 2},
		{"unknown", 1, 2}, {"sweep", 0, 0}, {"sweep", 7, 8}, {"sweep", 8, 8},
	} {
		*now = now.Add(time.Second)
		p.at(at.name, at.done, at.total)
		p.at(at.name, at.done, at.total) // So soon it is not told again.
	}
	shown := env.stderr.String()
	last := 0
	for _, percent := range regexp.MustCompile(`(\d+)%`).FindAllStringSubmatch(shown, -1) {
		n, err := strconv.Atoi(percent[1])
		if err != nil || n < last || n > 100 {
			t.Errorf("%d%% after %d%%", n, last)
		}
		last = n
	}
	if last != 100 {
		t.Errorf("it ends at %d%%", last)
	}
	for _, want := range []string{"listing data, 12,345 ", "reading repositories, 150 of 300 ", "reading repositories, 300 of 300 ", "removing, 8 of 8 "} {
		if !strings.Contains(shown, want) {
			t.Errorf("no %q in %q", want, shown)
		}
	}
	p.end()
	*now = now.Add(time.Second)
	before := env.stderr.Len()
	p.at("sweep", 8, 8)
	if tail := env.stderr.String(); env.stderr.Len() != before || !strings.HasSuffix(tail, "\r") {
		t.Errorf("the bar stays: %q", tail[len(tail)-20:])
	}
}

// TestPhasesElsewhere: a pipe gets nothing, and neither does who wants none.
func TestPhasesElsewhere(t *testing.T) {
	t.Parallel()
	for _, shows := range []bool{true, false} {
		env, now := progressEnv(shows)
		p := newPhases(env.Env, shows, gcPhases()...)
		*now = now.Add(time.Hour)
		p.at("mark", 1, 2)
		p.end()
		if env.stderr.Len() > 0 {
			t.Errorf("said %q", env.stderr)
		}
	}
}

func TestPhasesAreWhole(t *testing.T) {
	t.Parallel()
	sum := 0
	for _, p := range gcPhases() {
		sum += p.share
	}
	if sum != wholeBar {
		t.Errorf("shares of %d", sum)
	}
}
