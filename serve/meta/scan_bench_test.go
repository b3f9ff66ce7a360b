package meta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/regctl/regctl/serve/storage"
)

// directory is a store that is written to at once, as nobody reads it yet.
type directory struct {
	storage.Backend
	root string
}

func (d directory) write(key, content string) error {
	name := filepath.Join(d.root, key)
	err := os.WriteFile(name, []byte(content), 0o666)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(name), 0o777); err == nil {
			err = os.WriteFile(name, []byte(content), 0o666)
		}
	}
	return err
}

// bigStore fills a directory as pushes of images do, with tiny blobs.
func bigStore(b *testing.B, repos, images int) storage.Backend {
	b.Helper()
	root := b.TempDir()
	s := directory{openFile(b, root), root}
	for r := range repos {
		repo := fmt.Sprintf("team%d/app%d", r%10, r)
		base := blob(b, s, repo, fmt.Sprintf("base of %d", r%20))
		for i := range images {
			image(b, s, repo, fmt.Sprintf("v%d", i), base,
				blob(b, s, repo, fmt.Sprintf("%s %d", repo, i)), blob(b, s, repo, fmt.Sprintf("%s %d more", repo, i)))
		}
	}
	return s.Backend
}

func BenchmarkScan(b *testing.B) {
	for _, c := range []struct{ repos, images int }{{200, 50}, {1, 20_000}} {
		s := bigStore(b, c.repos, c.images)
		m, err := New(b.Context(), s, Options{NoCatalogue: true})
		if err != nil {
			b.Fatal(err)
		}
		for name, scan := range map[string]func(ctx context.Context) int{
			"repos":  func(ctx context.Context) int { return scanAll(b, m) },
			"data":   func(ctx context.Context) int { return count(b, m.ScanData(ctx, 2)) },
			"litter": func(ctx context.Context) int { return count(b, m.ScanLitter(ctx)) + 1 },
		} {
			b.Run(fmt.Sprintf("%dx%d/%s", c.repos, c.images, name), func(b *testing.B) {
				for b.Loop() {
					if scan(b.Context()) == 0 {
						b.Fatal("nothing found")
					}
				}
			})
		}
	}
}

func scanAll(t testing.TB, m *Meta) (n int) {
	for r, err := range m.ScanRepos(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		s, err := m.ScanRepo(t.Context(), r.Name, 2)
		if err != nil {
			t.Fatal(err)
		}
		n += len(s.Manifests) + len(s.Tags) + len(s.Blobs)
	}
	return n
}

func count[T any](t testing.TB, all func(func(T, error) bool)) (n int) {
	for _, err := range all {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}
