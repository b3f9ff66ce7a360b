package store_test

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/store"
)

// files are all keys below dir.
func files(t testing.TB, b storage.Backend, dir string) (keys []string) {
	t.Helper()
	for e, err := range b.List(t.Context(), dir) {
		if err != nil {
			t.Fatal(err)
		}
		key := path.Join(dir, e.Name)
		if e.Dir {
			keys = append(keys, files(t, b, key)...)
		} else {
			keys = append(keys, key)
		}
	}
	return keys
}

// damages are what may happen to a file. Nil: it is gone.
func damages() map[string]func(data []byte) []byte {
	return map[string]func(data []byte) []byte{
		"gone":       func([]byte) []byte { return nil },
		"empty":      func([]byte) []byte { return []byte{} },
		"cut":        func(data []byte) []byte { return data[:len(data)/2] },
		"longer":     func(data []byte) []byte { return append(slices.Clone(data), "0"...) },
		"zeroed":     func(data []byte) []byte { return make([]byte, len(data)) },
		"first byte": func(data []byte) []byte { return flip(data, 0) },
		"last byte":  func(data []byte) []byte { return flip(data, len(data)-1) },
		"other hex": func(data []byte) []byte {
			return []byte(strings.Map(func(r rune) rune {
				if r == '7' {
					return '8'
				}
				return r
			}, string(data)))
		},
	}
}

func flip(data []byte, i int) []byte {
	data = slices.Clone(data)
	data[i] ^= 1
	return data
}

// hurtImages are the tags of base that cannot be pulled as they were pushed.
func hurtImages(s *store.Store, at map[string]oci.Digest) map[string]error {
	hurt := map[string]error{}
	for repo, content := range base {
		for tag, name := range content.Tags {
			err := points(s, repo, tag, at[name])
			if err == nil {
				err = wholeImage(s, repo, tag)
			}
			if err != nil {
				hurt[repo+":"+tag] = err
			}
		}
	}
	return hurt
}

// Whatever happens to any file of a store, a check tells which images it hurts,
// or it hurts none; and after a repair those it did not hurt are what they
// were, and those that could be mended, too.
func TestEveryFileDamaged(t *testing.T) {
	clean := mem.New()
	ocitest.Push(t, open(t, clean), base)
	keys := files(t, clean, ".")
	if len(keys) < 30 {
		t.Fatalf("there are only %d files", len(keys))
	}
	for what, damage := range damages() {
		t.Run(what, func(t *testing.T) {
			for _, key := range keys {
				damageOne(t, key, damage)
			}
		})
	}
}

func damageOne(t *testing.T, key string, damage func([]byte) []byte) {
	t.Helper()
	b := mem.New()
	at := ocitest.Push(t, open(t, b), base)
	data, _, err := storage.Get(t.Context(), b, key, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if changed := damage(data); changed == nil {
		err = b.Remove(t.Context(), key)
	} else {
		err = storage.Put(t.Context(), b, key, changed)
	}
	if err != nil {
		t.Fatal(err)
	}
	hurt := hurtImages(open(t, b), at)
	r := check(t, open(t, b), store.CheckOptions{})
	mendable := map[string]bool{}
	for _, f := range r.Faults {
		for _, image := range f.Hurts {
			mendable[image] = f.CanRepair && f.Kind != store.FaultData && f.Kind != store.FaultEmpty
		}
	}
	for image, err := range hurt {
		if _, told := mendable[image]; !told && !isLostTag(b, t, key) {
			t.Errorf("%s: %s: %v, and a check tells nothing of it: %s", key, image, err, told1(r, at))
		}
	}
	if r.Corrupt == 0 && len(hurt) > 0 && !isLostTag(b, t, key) && r.Found[store.NoteChild] == 0 {
		t.Errorf("%s: images are hurt, and nothing is said to be corrupt", key)
	}

	check(t, open(t, b), store.CheckOptions{Repair: true})
	after := hurtImages(open(t, b), at)
	for image, err := range after {
		if hurt[image] == nil || mendable[image] {
			t.Errorf("%s: after the repair, %s: %v", key, image, err)
		}
	}
	again := check(t, open(t, b), store.CheckOptions{})
	for _, f := range again.Faults {
		if f.CanRepair {
			t.Errorf("%s: after the repair: %+v", key, f)
		}
	}
}

// isLostTag tells of a tag that its link is gone: then it is no tag any more.
func isLostTag(b storage.Backend, t *testing.T, key string) bool {
	_, err := b.Stat(t.Context(), key)
	return err != nil && strings.HasSuffix(key, "/current/link")
}

func told1(r store.CheckReport, at map[string]oci.Digest) string {
	return fmt.Sprintf("%q", told(r, at))
}
