package auth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/serve/auth/rule"
)

// fake is a source of names with passwords, or with errors.
type fake struct {
	name  string
	users map[string]any
	asked []string
}

func (f *fake) Name() string { return f.name }

func (f *fake) Login(_ context.Context, name, password string) (Identity, error) {
	f.asked = append(f.asked, name)
	switch known := f.users[name].(type) {
	case string:
		if known == password {
			return Identity{Kind: rule.User, Name: name, Groups: []string{"of " + f.name}, Source: f.name}, nil
		}
		return Identity{}, ErrDenied
	case error:
		return Identity{}, known
	}
	return Identity{}, ErrUnknown
}

func (f *fake) Lookup(_ context.Context, name, id string) (Identity, error) {
	switch known := f.users[name].(type) {
	case string:
		return Identity{Kind: rule.User, Name: name, Source: f.name, ID: id}, nil
	case error:
		return Identity{}, known
	}
	return Identity{}, ErrUnknown
}

// TestLogins: the first source that knows a name decides, and to be unknown
// takes as many checks as to be wrong.
func TestLogins(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "alice:"+secret4, "locked:!", "sha:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=")
	robots := &fake{name: "robots", users: map[string]any{"ci": "regctl_x", "alice": ErrUnknown}}
	elsewhere := &fake{name: "ldap", users: map[string]any{"alice": "other", "bob": "bob's", "locked": "x", "sha": "x", "down": fmt.Errorf("ask: %w", ErrUnavailable), "": "nobody", "robot:ci": "spoof"}}
	l := NewLogins([]Source{robots, w.Htpasswd, elsewhere}, LoginOptions{
		Now: w.Htpasswd.now, Groups: NewGroups(map[string][]string{"php": {"alice", "bob"}}),
	})
	for _, c := range []struct {
		name, password string
		source         string
		err            error
		checks         int64
	}{
		{"alice", "secret", "htpasswd", nil, 1},
		{"alice", "secret", "htpasswd", nil, 0},
		{"alice", "other", "", ErrDenied, 1},
		{"bob", "bob's", "ldap", nil, 0},
		{"bob", "wrong", "", ErrDenied, 1},
		{"nobody", "wrong", "", ErrDenied, 1},
		{"locked", "x", "", ErrDenied, 1},
		{"sha", "x", "", ErrDenied, 1},
		{"", "nobody", "", ErrDenied, 1},
		{"robot:ci", "spoof", "", ErrDenied, 1},
		{"ci", "regctl_x", "robots", nil, 0},
		{"ci", "wrong", "", ErrDenied, 0},
		{"down", "x", "", ErrUnavailable, 0},
	} {
		before := w.checks.Load()
		who, err := l.Login(t.Context(), c.name, c.password, "192.0.2.1")
		if !errors.Is(err, c.err) || who.Source != c.source {
			t.Errorf("%s with %s: %+v, %v; want %s, %v", c.name, c.password, who, err, c.source, c.err)
		}
		if n := w.checks.Load() - before; n != c.checks {
			t.Errorf("%s with %s: %d checks, want %d", c.name, c.password, n, c.checks)
		}
	}
	if slices.Contains(elsewhere.asked, "alice") || slices.Contains(elsewhere.asked, "locked") || slices.Contains(elsewhere.asked, "robot:ci") {
		t.Errorf("the directory is asked about %q", elsewhere.asked)
	}
	who, err := l.Login(t.Context(), "bob", "bob's", "")
	if want := []string{"of ldap", "php"}; err != nil || !slices.Equal(who.Groups, want) {
		t.Errorf("bob is in %q, %v; want %q", who.Groups, err, want)
	}

	if err := Edit(w.path, func(f *File) error { _, err := f.Set("carol", secret4); return err }); err != nil {
		t.Fatal(err)
	}
	if who, err := l.Login(t.Context(), "carol", "secret", "192.0.2.1"); err != nil || who.Source != "htpasswd" {
		t.Errorf("who was put into the file a moment ago: %v, %v", who, err)
	}
}

// folding is a directory, for which names in any case, and mail addresses, are
// the same.
type folding struct{ *fake }

func (f folding) Login(ctx context.Context, name, password string) (Identity, error) {
	name, _, _ = strings.Cut(strings.ToLower(name), "@")
	return f.fake.Login(ctx, name, password)
}

// TestNamesOfTheFirst: a name that one source knows is nobody's of those that
// follow, whatever was typed, and whatever token was given before.
func TestNamesOfTheFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "admin:"+secret4, "locked:!")
	ldap := folding{&fake{name: "ldap", users: map[string]any{"admin": "x", "locked": "x", "bob": "x"}}}
	l := NewLogins([]Source{NewRobots(RobotOptions{}), w.Htpasswd, ldap}, LoginOptions{Now: w.Htpasswd.now})
	for _, typed := range []string{"Admin", "admin@example.com", "LOCKED", "locked@example.com"} {
		if who, err := l.Login(t.Context(), typed, "x", "192.0.2.1"); !errors.Is(err, ErrDenied) {
			t.Errorf("%s is let in: %+v, %v", typed, who, err)
		}
	}
	if who, err := l.Login(t.Context(), "Bob", "x", "192.0.2.1"); err != nil || who.Name != "bob" {
		t.Errorf("bob: %+v, %v", who, err)
	}
	if _, err := l.Lookup(t.Context(), "ldap", "locked", "uid=locked"); !errors.Is(err, ErrUnknown) {
		t.Errorf("a token of locked: %v", err)
	}
	if _, err := l.Lookup(t.Context(), "ldap", "bob", "uid=bob"); err != nil {
		t.Errorf("a token of bob: %v", err)
	}
	if err := Edit(w.path, func(f *File) error { _, err := f.Set("bob", secret4); return err }); err != nil {
		t.Fatal(err)
	}
	w.pass(lookEvery)
	if _, err := l.Lookup(t.Context(), "ldap", "bob", "uid=bob"); !errors.Is(err, ErrUnknown) {
		t.Errorf("a token of who is in the file since: %v", err)
	}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "alice:"+secret4)
	elsewhere := &fake{name: "ldap", users: map[string]any{"bob": "x", "down": ErrUnavailable}}
	groups := NewGroups(map[string][]string{"php": {"alice"}})
	l := NewLogins([]Source{w.Htpasswd, elsewhere}, LoginOptions{Now: w.Htpasswd.now, Groups: groups})
	wants := func(source, name, id string, want string, wantErr error) {
		t.Helper()
		who, err := l.Lookup(t.Context(), source, name, id)
		if got := fmt.Sprint(who.Name, who.Groups, who.ID); !errors.Is(err, wantErr) || err == nil && got != want {
			t.Errorf("%s of %s: %s, %v; want %s, %v", name, source, got, err, want, wantErr)
		}
	}
	wants("htpasswd", "alice", "", "alice[php]", nil)
	wants("ldap", "bob", "cn=bob", "bob[]cn=bob", nil)
	wants("ldap", "alice", "", "", ErrUnknown)
	wants("htpasswd", "bob", "", "", ErrUnknown)
	wants("htpasswd", "", "", "", ErrUnknown)
	wants("robots", "alice", "", "", ErrUnknown)
	wants("", "alice", "", "", ErrUnknown)
	wants("ldap", "down", "", "", ErrUnavailable)
	groups.Set(map[string][]string{"java": {"alice", "bob", "alice"}, "all": {"alice"}})
	wants("htpasswd", "alice", "", "alice[all java]", nil)
	groups.Set(nil)
	wants("htpasswd", "alice", "", "alice[]", nil)

	if err := Edit(w.path, func(f *File) error { f.Remove("alice"); return nil }); err != nil {
		t.Fatal(err)
	}
	w.pass(lookEvery)
	wants("htpasswd", "alice", "", "", ErrUnknown)
}

// TestGroups: robots are members by a name that no user has, and nobody's list
// of groups is written to.
func TestGroups(t *testing.T) {
	t.Parallel()
	var none *Groups
	alice := Identity{Kind: rule.User, Name: "alice", Groups: make([]string, 1, 10)}
	alice.Groups[0] = "own"
	if got := none.Join(alice); !slices.Equal(got.Groups, alice.Groups) {
		t.Errorf("without groups: %v", got.Groups)
	}
	g := NewGroups(map[string][]string{"php": {"alice", "robot:alice"}, "ci": {"robot:alice"}, "own": {"alice"}, "a": {"alice", ""}})
	for _, c := range []struct {
		who  Identity
		want string
	}{
		{alice, "a own php"},
		{Identity{Kind: rule.User, Name: "alice"}, "a own php"},
		{Identity{Kind: rule.Robot, Name: "alice"}, "ci php"},
		{Identity{Kind: rule.User, Name: "Alice"}, ""},
		{Identity{}, ""},
	} {
		got := g.Join(c.who)
		if strings.Join(got.Groups, " ") != c.want {
			t.Errorf("%v is in %q, want %q", c.who, got.Groups, c.want)
		}
		_ = append(got.Groups, "x")
	}
	if full := alice.Groups[:2]; full[1] != "" {
		t.Errorf("a list has become %q", full)
	}
	if got := g.Join(Identity{Kind: rule.User, Name: "alice"}); strings.Join(got.Groups, " ") != "a own php" {
		t.Errorf("got %q", got.Groups)
	}
}

// TestLoginsThrottled: after too many wrong passwords no source is asked.
func TestLoginsThrottled(t *testing.T) {
	t.Parallel()
	now := time.Now()
	source := &fake{name: "ldap", users: map[string]any{"alice": "secret"}}
	l := NewLogins([]Source{source}, LoginOptions{Now: func() time.Time { return now }})
	for i := range 3 * pairTries {
		_, err := l.Login(t.Context(), "alice", fmt.Sprint(i), "192.0.2.1:1")
		var wait *ThrottledError
		if throttled := i >= pairTries; errors.As(err, &wait) != throttled || !throttled && !errors.Is(err, ErrDenied) {
			t.Errorf("guess %d: %v", i, err)
		}
	}
	if len(source.asked) != pairTries {
		t.Errorf("it is asked %d times, want %d", len(source.asked), pairTries)
	}
	if _, err := l.Login(t.Context(), "alice", "secret", "192.0.2.2:1"); err != nil {
		t.Error(err)
	}
	if _, err := l.Login(t.Context(), "alice", "secret", "192.0.2.1:1"); err != nil {
		t.Errorf("who was right before: %v", err)
	}
}

// BenchmarkLogins is what a password costs each request but the first.
func BenchmarkLogins(b *testing.B) {
	path := b.TempDir() + "/htpasswd"
	if err := os.WriteFile(path, []byte("alice:"+secret4+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	h, err := OpenHtpasswd(path, Options{})
	if err != nil {
		b.Fatal(err)
	}
	l := NewLogins([]Source{NewRobots(RobotOptions{}), h}, LoginOptions{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.Login(b.Context(), "alice", "secret", "192.0.2.1"); err != nil {
			b.Fatal(err)
		}
	}
}
