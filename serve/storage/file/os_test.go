package file_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/storage/storagetest"
)

func open(t testing.TB, root string, o file.Options) *file.Backend {
	t.Helper()
	b, err := file.Open(root, o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadersAreFiles(t *testing.T) {
	b := open(t, t.TempDir(), file.Options{})
	if err := storage.Put(t.Context(), b, "a/b/c", []byte("data")); err != nil {
		t.Fatal(err)
	}
	r, info, err := b.Open(t.Context(), "a/b/c")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, ok := r.(*os.File); !ok {
		t.Errorf("reader is %T, which sendfile does not take", r)
	}
	if info.Size != 4 {
		t.Errorf("size %d, want 4", info.Size)
	}
}

func TestBackend(t *testing.T) {
	storagetest.Run(t, func(t testing.TB) storage.Backend { return open(t, t.TempDir(), file.Options{}) })
}

func TestSymlinks(t *testing.T) {
	root, other := t.TempDir(), t.TempDir()
	b := open(t, root, file.Options{})
	put(t, b, "dir/file", "x")
	for name, to := range map[string]string{"away": other, "broken": "nowhere", "dir/link": "file", "dir/loop": "loop"} {
		ok(t, os.Symlink(to, filepath.Join(root, name)))
	}
	put(t, b, "away/new/key", "data")
	if got, err := os.ReadFile(filepath.Join(other, "new/key")); err != nil || string(got) != "data" {
		t.Errorf("behind the link is %q, %v", got, err)
	}
	want := map[string][]storage.Entry{
		".":   {{Name: file.Private, Dir: true}, {Name: "away", Dir: true, Link: true}, {Name: "broken", Link: true}, {Name: "dir", Dir: true}},
		"dir": {{Name: "file"}, {Name: "link", Link: true}, {Name: "loop", Link: true}},
	}
	for dir, want := range want {
		var got []storage.Entry
		for e, err := range b.List(t.Context(), dir) {
			ok(t, err)
			got = append(got, e)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s has %v, want %v", dir, got, want)
		}
	}
	ok(t, b.Remove(t.Context(), "away")) // The link, not what is behind it.
	if _, err := os.Stat(filepath.Join(other, "new/key")); err != nil {
		t.Error(err)
	}
}

func TestModes(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "root")
	b := open(t, root, file.Options{})
	put(t, b, "dir/key", "data")
	// The umask of the process, as a directory and a file of its own have it.
	ref := t.TempDir()
	ok(t, os.Mkdir(filepath.Join(ref, "d"), 0o777))
	ok(t, os.WriteFile(filepath.Join(ref, "f"), nil, 0o666))
	for name, like := range map[string]string{root: "d", root + "/dir": "d", root + "/dir/key": "f"} {
		is, err := os.Stat(name)
		ok(t, err)
		want, err := os.Stat(filepath.Join(ref, like))
		ok(t, err)
		if is.Mode() != want.Mode() {
			t.Errorf("%s is %v, want %v", name, is.Mode(), want.Mode())
		}
	}
	if is, err := os.Stat(filepath.Join(root, file.Private)); err != nil || is.Mode().Perm() != 0o700 {
		t.Errorf("%s: %v, %v", file.Private, is.Mode(), err)
	}
}

func BenchmarkBackend(b *testing.B) {
	for _, noSync := range []bool{false, true} {
		b.Run(fmt.Sprintf("sync=%t", !noSync), func(b *testing.B) {
			storagetest.Benchmark(b, func(t testing.TB) storage.Backend {
				return open(t, t.TempDir(), file.Options{NoSync: noSync})
			})
		})
	}
}
