//go:build unix

package file_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
)

// Whoever reads every link of a store comes upon anything.
func TestGetOfWhatIsNoFile(t *testing.T) {
	root := t.TempDir()
	b := open(t, root, file.Options{})
	put(t, b, "file", "data")
	ok(t, syscall.Mkfifo(filepath.Join(root, "pipe"), 0o666))
	for name, to := range map[string]string{"link": "file", "away": "/etc/hosts", "broken": "nowhere", "loop": "loop", "pipelink": "pipe"} {
		ok(t, os.Symlink(to, filepath.Join(root, name)))
	}
	for key, want := range map[string]error{
		"file": nil, "link": nil, "pipe": fs.ErrInvalid, "pipelink": fs.ErrInvalid, "broken": fs.ErrNotExist, "loop": fs.ErrNotExist,
	} {
		got, _, err := storage.Get(t.Context(), b, key, 10)
		if !errors.Is(err, want) || err == nil && string(got) != "data" {
			t.Errorf("%s: %q, %v, want %v", key, got, err, want)
		}
	}
}

func TestResolveFollowsSymbolicLinks(t *testing.T) {
	root, away := t.TempDir(), t.TempDir()
	b := open(t, root, file.Options{})
	put(t, b, "dir/file", "data")
	ok(t, os.Mkdir(filepath.Join(away, "sub"), 0o777))
	for name, to := range map[string]string{"link": "dir", "dir/self": "../link/file", "away": away, "broken": "nowhere", "loop": "loop"} {
		ok(t, os.Symlink(to, filepath.Join(root, name)))
	}
	resolve := func(key string) string {
		real, err := storage.Resolve(t.Context(), b, key)
		ok(t, err)
		return real
	}
	for one, other := range map[string]string{"link": "dir", "link/file": "dir/file", "dir/self": "dir/file", "link/self": "dir/file"} {
		if resolve(one) != resolve(other) {
			t.Errorf("%s is %s, and %s is %s", one, resolve(one), other, resolve(other))
		}
	}
	if got := resolve("away/sub"); filepath.Dir(got) != resolve("away") || resolve("away") == resolve("dir") {
		t.Errorf("away/sub is %s", got)
	}
	for _, key := range []string{"broken", "loop", "broken/x"} {
		if real, err := storage.Resolve(t.Context(), b, key); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is %s, %v", key, real, err)
		}
	}
}

// A link to a directory that it is in is none, so that who walks down comes
// to an end; it leads somewhere, all the same.
func TestSymbolicLinksInACircleAreNoDirectories(t *testing.T) {
	root := t.TempDir()
	b := open(t, root, file.Options{})
	put(t, b, "a/b/file", "data")
	ok(t, os.Symlink("../..", filepath.Join(root, "a/b/up")))
	ok(t, os.Symlink("b", filepath.Join(root, "a/other")))
	for dir, want := range map[string]storage.Entry{
		"a/b": {Name: "up", Link: true}, "a": {Name: "other", Link: true, Dir: true}, "a/other": {Name: "up", Link: true},
	} {
		found := false
		for e, err := range b.List(t.Context(), dir) {
			ok(t, err)
			found = found || e == want
		}
		if !found {
			t.Errorf("%s does not list %+v", dir, want)
		}
	}
	if _, err := storage.Resolve(t.Context(), b, "a/b/up"); err != nil {
		t.Error(err)
	}
}
