package auth

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

func addUser(name string) func(*File) error {
	return func(f *File) error {
		_, err := f.Set(name, secret4)
		return err
	}
}

func TestEditKeepsModeAndLinks(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("it has other modes and links")
	}
	dir := t.TempDir()
	path, link := filepath.Join(dir, "real", "htpasswd"), filepath.Join(dir, "htpasswd")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("# mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := Edit(link, addUser("alice")); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if want := "# mine\nalice:" + secret4 + "\n"; err != nil || string(raw) != want {
		t.Errorf("got %q %v, want %q", raw, err, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("got %v %v", info.Mode(), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v %v", info.Mode(), err)
	}
	fresh := filepath.Join(dir, "fresh")
	if err := Edit(fresh, addUser("alice")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(fresh); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v %v", info.Mode(), err)
	}
	if err := os.Symlink(filepath.Join(dir, "nowhere"), filepath.Join(dir, "broken")); err != nil {
		t.Fatal(err)
	}
	if err := Edit(filepath.Join(dir, "broken"), addUser("alice")); err == nil {
		t.Error("a link to nothing is edited")
	}
}

// TestEditWritesNothing: after an error, and where nothing changes.
func TestEditWritesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "htpasswd")
	no := errors.New("no")
	if err := Edit(path, func(*File) error { return no }); !errors.Is(err, no) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a file was made")
	}
	if err := Edit(path, addUser("alice")); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []func(*File) error{addUser("alice"), func(*File) error { return nil }, func(f *File) error { f.Remove("alice"); return no }} {
		if err := Edit(path, change); err != nil && !errors.Is(err, no) {
			t.Fatal(err)
		}
		if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("it is another file: %v", err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("%s are left", left)
	}
}

func TestEditsWaitForEachOther(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("there are no locks")
	}
	path := filepath.Join(t.TempDir(), "htpasswd")
	var edits sync.WaitGroup
	for i := range 20 {
		edits.Go(func() {
			if err := Edit(path, addUser(fmt.Sprint("user", i))); err != nil {
				t.Error(err)
			}
		})
	}
	edits.Wait()
	f, err := ReadFile(path)
	if err != nil || len(f.Users()) != 20 {
		t.Errorf("%d users are left of 20: %v", len(f.Users()), err)
	}
}

func TestOverwrite(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(path, []byte("longer than before"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := overwrite(path, []byte("a:b\n")); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "a:b\n" {
		t.Errorf("got %q %v", raw, err)
	}
}

func TestInspect(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "htpasswd")
	for _, c := range []struct {
		text  string
		mode  os.FileMode
		want  []string
		fatal int
	}{
		{"alice:" + secret4 + "\n", 0o600, nil, 0},
		{"alice:" + secret4 + "\n", 0o644, []string{"every user of this machine can read it (mode 0644)"}, 0},
		{"", 0o640, []string{"there is no user in it"}, 0},
		{"# nobody\n\n", 0o600, []string{"there is no user in it"}, 0},
		{"hunter2\nalice:" + secret4, 0o600, []string{"line 1: it is not of the form USER:HASH"}, 1},
		{"a:" + apr1 + "\n\nb:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\nc:hunter2\nd:gUw/mffD3EVsk\na:" + secret4 + "\n:x\ne:$2y$31$" + secret4[7:] + "\nf:" + vectors[7].encoded, 0o600, []string{
			"line 1: a has an MD5 hash", "line 3: b cannot log in: {SHA}", "line 4: c cannot log in: it is no hash", "line 5: d cannot log in: DES",
			"line 6: a stands in line 1 already", "line 7: the name is empty", "line 8: e cannot log in: its cost", "line 9: f has a sha256 hash",
		}, 0},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		got := Inspect(path)
		fatal := 0
		for i, p := range got {
			if p.Fatal {
				fatal++
			}
			if i < len(c.want) && !strings.HasPrefix(p.String(), c.want[i]) {
				t.Errorf("%q: got %q, want %q", c.text, p, c.want[i])
			}
			if strings.Contains(p.Text, "hunter2") || strings.Contains(p.Text, "saltsalt") {
				t.Errorf("%q tells a secret", p)
			}
		}
		if len(got) != len(c.want) && runtime.GOOS != "windows" || fatal != c.fatal {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
	}
	if got := Inspect(filepath.Join(dir, "missing")); len(got) != 1 || got[0].Fatal || !strings.Contains(got[0].Text, "a server makes it") {
		t.Errorf("missing: %q", got)
	}
	if got := Inspect(dir); len(got) != 1 || !got[0].Fatal {
		t.Errorf("a folder: %q", got)
	}
}
