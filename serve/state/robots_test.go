package state

import (
	"bytes"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// robotOf is a robot whose secret has the sum of one byte.
func robotOf(id, name string) Robot {
	return Robot{ID: id, Name: name, Scopes: []string{"a/**:pull", "b:v*:push"}, Sum: []byte{7}, Note: "for tests"}
}

// robotsOf writes robots as "name/id", with a - if they are revoked.
func robotsOf(t *testing.T, s *State) string {
	t.Helper()
	all, err := s.Robots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range all {
		name := r.Name + "/" + r.ID
		if !r.Revoked.IsZero() {
			name += "-"
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

// TestRobots wants robots found again after a restart, as they were.
func TestRobots(t *testing.T) {
	t.Parallel()
	s, path := openNew(t)
	want := robotOf("1", "ci")
	want.Expires = start.Add(time.Hour)
	if err := errors.Join(s.AddRobot(t.Context(), want), s.AddRobot(t.Context(), robotOf("2", "a"))); err != nil {
		t.Fatal(err)
	}
	s.RobotUsed("1", start.Add(time.Minute))
	s.RobotUsed("1", start)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	if got := robotsOf(t, s); got != "a/2 ci/1" {
		t.Error(got)
	}
	all, err := s.Robots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := all[1]
	if got.ID != "1" || got.Name != "ci" || !slices.Equal(got.Scopes, want.Scopes) || !bytes.Equal(got.Sum, want.Sum) || got.Note != want.Note {
		t.Errorf("%+v", got)
	}
	if !got.Created.Equal(start) || !got.Expires.Equal(want.Expires) || !got.Revoked.IsZero() || !got.Used.Equal(start.Add(time.Minute)) {
		t.Errorf("%+v", got)
	}
	if other := all[0]; !other.Expires.IsZero() || !other.Used.IsZero() || other.Over(start.AddDate(100, 0, 0)) {
		t.Errorf("%+v", other)
	}
	if got.Over(want.Expires.Add(-1)) || !got.Over(want.Expires) {
		t.Error("it ends at another time")
	}
}

// TestRobotNames wants a name to belong to one robot that may log in, and to be
// free when that one may not.
func TestRobotNames(t *testing.T) {
	t.Parallel()
	now := start
	s, err := OpenMemory(t.Context(), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	first := robotOf("1", "ci")
	first.Expires = start.Add(time.Hour)
	if err := s.AddRobot(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if err := s.AddRobot(t.Context(), robotOf("2", "ci")); !errors.Is(err, ErrRobotExists) {
		t.Errorf("a second one: %v", err)
	}
	now = start.Add(time.Hour)
	if err := s.AddRobot(t.Context(), robotOf("2", "ci")); err != nil {
		t.Errorf("the first one has expired: %v", err)
	}
	if revoked, err := s.RevokeRobots(t.Context(), "ci", "ci", "nobody"); err != nil || !slices.Equal(revoked, []string{"ci"}) {
		t.Errorf("revoked %v, %v", revoked, err)
	}
	if revoked, err := s.RevokeRobots(t.Context(), "ci"); err != nil || len(revoked) > 0 {
		t.Errorf("revoked again: %v, %v", revoked, err)
	}
	if err := s.AddRobot(t.Context(), robotOf("3", "ci")); err != nil {
		t.Errorf("the second one is revoked: %v", err)
	}
	if got := robotsOf(t, s); got != "ci/1- ci/2- ci/3" {
		t.Error(got)
	}
	now = now.Add(robotsKept + 1)
	if err := s.AddRobot(t.Context(), robotOf("4", "b")); err != nil {
		t.Fatal(err)
	}
	if got := robotsOf(t, s); got != "b/4 ci/3" {
		t.Errorf("after a year: %s", got)
	}
}

// TestNoRobotsYet wants a file of before there were robots, which has no room
// for them, to have none, and some once there is room.
func TestNoRobotsYet(t *testing.T) {
	t.Parallel()
	s := &State{path: withoutOutbox(t), now: clock}
	if err := s.openReadOnly(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := robotsOf(t, s); got != "" {
		t.Error(got)
	}
	if err := s.AddRobot(t.Context(), robotOf("1", "ci")); err != nil {
		t.Fatal(err)
	}
	if got := robotsOf(t, s); got != "ci/1" {
		t.Error(got)
	}
}

// TestUsesWait wants what cannot be written to be known nevertheless, and
// written later.
func TestUsesWait(t *testing.T) {
	t.Parallel()
	s, path := openNew(t)
	if err := s.AddRobot(t.Context(), robotOf("1", "ci")); err != nil {
		t.Fatal(err)
	}
	used := func() time.Time {
		all, err := s.Robots(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		return all[0].Used
	}
	s.RobotUsed("1", start)
	s.RobotUsed("nobody", start)
	if !used().Equal(start) {
		t.Errorf("before it is written: %s", used())
	}
	if err := s.Flush(t.Context()); err != nil || len(s.uses.waiting) > 0 {
		t.Error(err, s.uses.waiting)
	}
	s.RobotUsed("1", start.Add(-time.Hour)) // A clock that was set back.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s = open(t, path); !used().Equal(start) {
		t.Errorf("after it is written: %s", used())
	}
}

// TestRobotsFail wants an error where nothing was written.
func TestRobotsFail(t *testing.T) {
	t.Parallel()
	s, path := openNew(t)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, listed := s.Robots(t.Context())
	_, revoked := s.RevokeRobots(t.Context(), "ci")
	for _, err := range []error{listed, revoked, s.AddRobot(t.Context(), robotOf("1", "ci"))} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("closed: %v", err)
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("for tests")) {
		t.Error("it is there")
	}
	var none *State
	_, listed = none.Robots(t.Context())
	_, revoked = none.RevokeRobots(t.Context(), "ci")
	none.RobotUsed("1", start)
	if err := errors.Join(listed, revoked, none.AddRobot(t.Context(), Robot{})); err != nil {
		t.Error(err)
	}
}
