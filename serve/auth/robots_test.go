package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/regctl/regctl/serve/auth/rule"
)

// robotNamed is a robot, with its secret.
func robotNamed(id, name string, scopes ...string) (Robot, string) {
	secret, sum := NewRobotSecret()
	return Robot{ID: id, Name: name, Scopes: scopes, Sum: sum}, secret
}

func TestRobotSecret(t *testing.T) {
	t.Parallel()
	secret, _ := NewRobotSecret()
	if !IsRobotSecret(secret) || !strings.HasPrefix(secret, "regctl_") {
		t.Errorf("%q is no secret", secret)
	}
	if again, _ := NewRobotSecret(); again == secret {
		t.Errorf("%q twice", secret)
	}
	for _, other := range []string{"", "regctl_", "secret", "regctl_" + strings.Repeat("x", 25), secret + "x", strings.Repeat("x", len(secret))} {
		if IsRobotSecret(other) {
			t.Errorf("%q is a secret", other)
		}
	}
}

// TestRobotsLogin wants who has the secret of a robot let in by its name, and
// nobody else; what is no secret is left to other sources.
func TestRobotsLogin(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	r := NewRobots(RobotOptions{Now: func() time.Time { return now }})
	ci, secret := robotNamed("1", "ci", "app/**:pull,push")
	ci.Expires = now.Add(time.Hour)
	other, others := robotNamed("2", "other", "**:all")
	r.Add(ci, other)
	if r.Len() != 2 || r.Name() != SourceRobots {
		t.Errorf("%d robots of %s", r.Len(), r.Name())
	}
	unknown, _ := NewRobotSecret()
	for _, c := range []struct {
		name, password string
		want           error
	}{
		{"ci", secret, nil}, {"other", others, nil},
		{"ci", others, ErrDenied}, {"other", secret, ErrDenied}, {"ci", unknown, ErrDenied},
		{"nobody", secret, ErrDenied}, {"", secret, ErrDenied}, {"CI", secret, ErrDenied},
		{"ci", strings.ToLower(secret), ErrDenied},
		{"ci", "", ErrUnknown}, {"ci", "regctl_", ErrUnknown}, {"ci", secret + "x", ErrUnknown}, {"alice", "secret", ErrUnknown},
	} {
		who, err := r.Login(t.Context(), c.name, c.password)
		if !errors.Is(err, c.want) || err == nil && (who.Kind != rule.Robot || who.Name != c.name || who.Source != SourceRobots || who.Limit == nil) {
			t.Errorf("%s: %+v, %v; want %v", c.name, who, err, c.want)
		}
		if err != nil && who.Name != "" {
			t.Errorf("%s: %+v and %v", c.name, who, err)
		}
	}
	now = now.Add(time.Hour)
	if _, err := r.Login(t.Context(), "ci", secret); !errors.Is(err, ErrDenied) {
		t.Errorf("expired: %v", err)
	}
	if _, err := r.Lookup(t.Context(), "ci", "1"); !errors.Is(err, ErrUnknown) {
		t.Errorf("expired: %v", err)
	}
	r.Remove("other")
	if _, err := r.Login(t.Context(), "other", others); !errors.Is(err, ErrDenied) {
		t.Errorf("removed: %v", err)
	}
}

// TestRobotsLookup wants a robot known by its ID, not one that has its name now.
func TestRobotsLookup(t *testing.T) {
	t.Parallel()
	r := NewRobots(RobotOptions{})
	first, _ := robotNamed("1", "ci", "**:pull")
	second, _ := robotNamed("2", "ci", "**:push")
	r.Add(first)
	lookup := func(id string, want error) {
		t.Helper()
		who, err := r.Lookup(t.Context(), "ci", id)
		if !errors.Is(err, want) || err == nil && who.String() != "robot:ci" {
			t.Errorf("%q: %+v, %v", id, who, err)
		}
	}
	lookup("1", nil)
	lookup("", nil)
	lookup("2", ErrUnknown)
	r.Remove("ci", "nobody")
	lookup("1", ErrUnknown)
	lookup("", ErrUnknown)
	r.Add(second)
	lookup("1", ErrUnknown)
	lookup("2", nil)
}

// TestRobotLimit wants a robot to be allowed what its scopes say.
func TestRobotLimit(t *testing.T) {
	t.Parallel()
	limit, err := RobotLimit([]string{"php/**:pull,push", "app:v*:push", "all/*:all"})
	if err != nil {
		t.Fatal(err)
	}
	ci := rule.Subject{Kind: rule.Robot, Name: "ci"}
	for _, c := range []struct {
		repo, tag string
		action    rule.Action
		want      bool
	}{
		{"php/a/b", "1", rule.Pull, true}, {"php/a", "1", rule.Push, true}, {"php/a", "1", rule.Overwrite, true},
		{"php/a", "1", rule.Delete, false}, {"php/a", "", rule.List, false}, {"php", "1", rule.Pull, false},
		{"app", "v1", rule.Push, true}, {"app", "1", rule.Push, false}, {"app", "v1", rule.Pull, false},
		{"all/a", "1", rule.Delete, true}, {"all/a/b", "1", rule.Pull, false}, {"java/a", "1", rule.Pull, false},
	} {
		if got := limit.Decide(ci, c.repo, c.tag, c.action); got.Allowed != c.want {
			t.Errorf("%s:%s action %d: %+v", c.repo, c.tag, c.action, got)
		}
	}
	for _, bad := range []string{"", ":", "app", "app:", ":pull", "app:pul", "app:pull,", "app:pull push", "app:v1:pull", "/(/:pull", "app:PULL"} {
		if limit, err := RobotLimit([]string{bad}); !errors.Is(err, ErrScope) || limit != nil {
			t.Errorf("%q: %v, %v", bad, limit, err)
		}
	}
	if limit, err := RobotLimit(nil); err == nil || limit != nil {
		t.Error("no scopes are no limit")
	}
}

// TestRobotBroken wants a robot kept out whose scopes cannot be read, rather
// than let in without a limit.
func TestRobotBroken(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	r := NewRobots(RobotOptions{Log: slog.New(slog.NewTextHandler(&log, nil))})
	before, secretBefore := robotNamed("1", "ci", "**:pull")
	r.Add(before)
	for _, scopes := range [][]string{nil, {"**:sign"}} {
		broken, secret := robotNamed("2", "ci", scopes...)
		r.Add(broken)
		for _, s := range []string{secret, secretBefore} {
			if _, err := r.Login(t.Context(), "ci", s); !errors.Is(err, ErrDenied) {
				t.Errorf("%q: %v", scopes, err)
			}
		}
		if strings.Contains(log.String(), secret) || !strings.Contains(log.String(), "robot=ci") {
			t.Error(log.String())
		}
	}
}

func TestRobotNames(t *testing.T) {
	t.Parallel()
	for name, fine := range map[string]bool{
		"ci": true, "CI-2.x_y": true, "0": true, strings.Repeat("a", 64): true,
		"": false, "-ci": false, ".ci": false, "a b": false, "a:b": false, "a/b": false, "a*": false, "ä": false, "a\n": false, strings.Repeat("a", 65): false,
	} {
		if err := CheckRobotName(name); (err == nil) != fine || err != nil && !errors.Is(err, ErrRobotName) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestRobotsUsed wants it told when a robot was there, but not at each request.
func TestRobotsUsed(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	var told []string
	r := NewRobots(RobotOptions{
		Now:  func() time.Time { return now },
		Used: func(id string, at time.Time) { told = append(told, id+at.Format(" 15:04:05")) },
	})
	ci, secret := robotNamed("1", "ci", "**:pull")
	r.Add(ci)
	_, _ = r.Login(t.Context(), "ci", "regctl_wrong")
	for range 4 {
		if _, err := r.Login(t.Context(), "ci", secret); err != nil {
			t.Fatal(err)
		}
		now = now.Add(30 * time.Second)
		if _, err := r.Lookup(t.Context(), "ci", "1"); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(told, ", "); got != "1 12:00:00, 1 12:01:00, 1 12:02:00" {
		t.Error(got)
	}
}

// TestRobotsTogether wants robots added and removed while others log in; with
// the race detector.
func TestRobotsTogether(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	used := 0
	r := NewRobots(RobotOptions{Used: func(string, time.Time) { mu.Lock(); used++; mu.Unlock() }})
	stays, secret := robotNamed("0", "stays", "**:pull")
	r.Add(stays)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			name := fmt.Sprint("r", i)
			one, its := robotNamed(name, name, "**:pull")
			for range 100 {
				r.Add(one)
				_, mine := r.Login(context.Background(), name, its)
				r.Remove(name)
				_, gone := r.Lookup(context.Background(), name, name)
				_, always := r.Login(context.Background(), "stays", secret)
				if mine != nil || !errors.Is(gone, ErrUnknown) || always != nil {
					t.Error(mine, gone, always)
				}
			}
		})
	}
	all.Wait()
	if r.Len() != 1 || used == 0 {
		t.Errorf("%d robots, used %d times", r.Len(), used)
	}
}

// BenchmarkRobotsLookup is what each request with a token of a robot pays.
func BenchmarkRobotsLookup(b *testing.B) {
	r := NewRobots(RobotOptions{Used: func(string, time.Time) {}})
	for i := range 1000 {
		one, _ := robotNamed(fmt.Sprint(i), fmt.Sprint("ci-", i), "php/**:pull,push")
		r.Add(one)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Lookup(b.Context(), "ci-500", "500"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRobotsLogin is what each request with the secret of a robot pays.
func BenchmarkRobotsLogin(b *testing.B) {
	r := NewRobots(RobotOptions{})
	one, secret := robotNamed("1", "ci", "php/**:pull,push")
	r.Add(one)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Login(b.Context(), "ci", secret); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzRobotScope wants what is a scope to be a limit, and nothing to be a robot
// without one.
func FuzzRobotScope(f *testing.F) {
	for _, s := range []string{"php/**:pull,push", "app:v*:push", "**:all", "/a(b|c):d/:pull", ":", "a:", "${user}/**:list", "a:b:c:d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, scope string) {
		_, err := ParseRobotScope(scope)
		limit, failed := RobotLimit([]string{scope})
		if (err == nil) != (failed == nil) || (failed == nil) != (limit != nil) {
			t.Errorf("%q: %v, %v, %v", scope, err, failed, limit)
		}
		if failed != nil && !errors.Is(failed, ErrScope) {
			t.Errorf("%q: %v", scope, failed)
		}
	})
}
