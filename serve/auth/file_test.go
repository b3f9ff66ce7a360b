package auth

import (
	"errors"
	"strings"
	"testing"
)

// Two passwords at the lowest cost: "secret" and "other".
const (
	secret4 = "$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"
	apr1    = "$apr1$saltsalt$LrttParrLPdxvgutaSXWJ0"
)

func TestParse(t *testing.T) {
	t.Parallel()
	f, err := Parse([]byte("\n# a comment: with a colon\n  alice:" + secret4 + "  \r\nbob:" + apr1 + "\n\t#x\nalice:" + apr1 + "\nname with spaces:x\n:" + secret4))
	if err != nil {
		t.Fatal(err)
	}
	want := []User{{"bob", APR1, 4}, {"alice", APR1, 6}, {"name with spaces", Plain, 7}, {"", Bcrypt, 8}}
	got := f.Users()
	if len(got) != len(want) {
		t.Fatalf("got %v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %v, want %v", got[i], want[i])
		}
	}
	for user, wants := range map[string]bool{"alice": true, "bob": true, "name with spaces": false, "nobody": false, "# a comment": false} {
		if got := f.Matches(user, "secret"); got != wants {
			t.Errorf("%s: %v", user, got)
		}
	}
}

func TestParseDamage(t *testing.T) {
	t.Parallel()
	f, err := Parse([]byte("alice:" + secret4 + "\n\nhunter2\nx"))
	var damage *DamageError
	if !errors.As(err, &damage) || damage.Line != 3 {
		t.Fatalf("got %v", err)
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v tells what may be a password", err)
	}
	if _, err := f.Set("bob", secret4); err != nil {
		t.Fatal(err)
	}
	if got, want := string(f.Bytes()), "alice:"+secret4+"\n\nhunter2\nx\nbob:"+secret4+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEditLines(t *testing.T) {
	t.Parallel()
	const before = "# users\r\nalice:" + apr1 + "\r\n\n bob:x\n# carol:y\nalice:" + apr1
	for _, c := range []struct {
		name, want string
		edit       func(*File) bool
	}{
		{"nothing", before, func(*File) bool { return true }},
		{"add", before + "\ncarol:" + secret4 + "\n", func(f *File) bool { had, err := f.Set("carol", secret4); return !had && err == nil }},
		{"update", "# users\r\n\n bob:x\n# carol:y\nalice:" + secret4 + "\n", func(f *File) bool { had, err := f.Set("alice", secret4); return had && err == nil }},
		{"update in the middle", "# users\r\nalice:" + apr1 + "\r\n\nbob:" + secret4 + "\n# carol:y\nalice:" + apr1, func(f *File) bool { had, err := f.Set("bob", secret4); return had && err == nil }},
		{"remove", "# users\r\n\n bob:x\n# carol:y\n", func(f *File) bool { return f.Remove("alice") }},
		{"remove who is not there", before, func(f *File) bool { return !f.Remove("carol") && !f.Remove("") && !f.Remove("# carol") }},
		{"no hash", before, func(f *File) bool { _, err := f.Set("bob", apr1); return err != nil }},
		{"no name", before, func(f *File) bool { _, err := f.Set("b:b", secret4); return err != nil }},
	} {
		f, err := Parse([]byte(before))
		if err != nil {
			t.Fatal(err)
		}
		if !c.edit(f) {
			t.Errorf("%s: not as expected", c.name)
		}
		if got := string(f.Bytes()); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestCheckUser(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "testuser", "First Last", "a@b.example", "пользователь", "a#b", strings.Repeat("x", 255)} {
		if err := CheckUser(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ":", "a:b", " a", "a ", "#a", "a\nb", "a\x00b", "a\tb", "a\x7fb", "a\u0085b", "a\xffb", strings.Repeat("x", 256)} {
		if CheckUser(name) == nil {
			t.Errorf("%q is taken", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("# c\nalice:"+secret4+"\nbob:"+apr1, "alice")
	f.Add("a:$6$rounds=1000$s$"+strings.Repeat("a", 86)+"\r\n\n:x\nb", "b")
	f.Add("\xef\xbb\xbfa:{SHA}x\n\x00:\n ", "")
	f.Fuzz(func(t *testing.T, text, user string) {
		file, err := Parse([]byte(text))
		if got := string(file.Bytes()); got != text {
			t.Fatalf("%q is written as %q", text, got)
		}
		seen := map[string]bool{}
		for _, u := range file.Users() {
			if seen[u.Name] || strings.ContainsAny(u.Name, ":\n") {
				t.Fatalf("%q has a user %q", text, u.Name)
			}
			seen[u.Name] = true
		}
		for _, l := range file.lines {
			if l.hash.kind == APR1 || l.hash.kind == SHA256 && l.hash.cost < 5001 {
				l.hash.matches(user) // It must not panic.
			}
		}
		had, setErr := file.Set(user, secret4)
		if setErr == nil && had != seen[user] {
			t.Errorf("%q: had %q: %v", text, user, had)
		}
		again, err2 := Parse(file.Bytes())
		if (err == nil) != (err2 == nil) {
			t.Errorf("%q: %v, then %v", text, err, err2)
		}
		if setErr == nil && !again.Matches(user, "secret") {
			t.Errorf("%q: %q was set and does not match", text, user)
		}
		if setErr == nil {
			if again.Remove(user); again.Matches(user, "secret") || strings.Contains(string(again.Bytes()), "\n"+user+":"+secret4) {
				t.Errorf("%q: %q was removed and matches", text, user)
			}
		}
	})
}
