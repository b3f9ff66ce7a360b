package auth

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestApache: what Apache's htpasswd makes is read, and it reads what is made
// here.
func TestApache(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("htpasswd")
	if err != nil {
		if os.Getenv("REGCTL_PEERS") == "required" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	run := func(args ...string) error {
		out, err := exec.Command(program, args...).CombinedOutput()
		t.Logf("htpasswd %s: %v: %s", strings.Join(args, " "), err, out)
		return err
	}
	path := filepath.Join(t.TempDir(), "htpasswd")
	for _, args := range [][]string{
		{"-cbB", path, "bcrypt", "secret"}, {"-bBC", "4", path, "bcrypt4", "secret"}, {"-b", path, "apr1", "secret"},
		{"-b2", path, "sha256", "secret"}, {"-b5", "-r", "2000", path, "sha512", "secret"},
		{"-bs", path, "sha1", "secret"}, {"-bd", path, "des", "secret"}, {"-bB", path, "gone", "secret"}, {"-D", path, "gone"},
	} {
		if err := run(args...); err != nil {
			t.Fatal(err)
		}
	}
	f, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []User{{"bcrypt", Bcrypt, 1}, {"bcrypt4", Bcrypt, 2}, {"apr1", APR1, 3}, {"sha256", SHA256, 4}, {"sha512", SHA512, 5}, {"sha1", SHA1, 6}, {"des", Crypt, 7}}
	got := f.Users()
	for i, u := range want {
		if i >= len(got) || got[i] != u {
			t.Fatalf("got %v, want %v", got, want)
		}
		if in := f.Matches(u.Name, "secret"); in != (u.Kind.Refused() == "") {
			t.Errorf("%s is let in: %v", u.Name, in)
		}
		if f.Matches(u.Name, "Secret") {
			t.Errorf("%s is let in with another password", u.Name)
		}
	}

	encoded, err := Hash("пароль", MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if err := Edit(path, func(f *File) error { _, err := f.Set("ours", encoded); return err }); err != nil {
		t.Fatal(err)
	}
	if err := run("-vb", path, "ours", "пароль"); err != nil {
		t.Error(err)
	}
	if run("-vb", path, "ours", "secret") == nil {
		t.Error("htpasswd takes another password")
	}
	if err := run("-vb", path, "sha512", "secret"); err != nil {
		t.Error(err)
	}

	h, err := OpenHtpasswd(path, Options{Now: func() time.Time { return time.Now().Add(time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	if err := run("-D", path, "ours"); err != nil {
		t.Fatal(err)
	}
	if err := h.Verify(t.Context(), "ours", "пароль"); !errors.Is(err, ErrDenied) {
		t.Errorf("who was taken out is let in: %v", err)
	}
	if err := h.Verify(t.Context(), "apr1", "secret"); err != nil {
		t.Error(err)
	}
}
