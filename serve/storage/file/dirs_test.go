package file

import (
	"fmt"
	"testing"

	"github.com/regctl/regctl/serve/storage"
)

// What is remembered of directories goes with them, or when they are durable.
func TestDirsForget(t *testing.T) {
	b, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		w, err := b.Create(t.Context(), fmt.Sprintf("repo/up/%d", i), 0)
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			err = w.Commit(t.Context(), fmt.Sprintf("repo/link/%d", i))
		} else {
			err = w.Cancel()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(b.dirs.made) != 0 { // The last upload took its directory with it.
		t.Errorf("remembered: %v", b.dirs.made)
	}
	if err := storage.Put(t.Context(), b, "repo/up/key", nil); err != nil {
		t.Fatal(err)
	}
	if len(b.dirs.made) != 0 {
		t.Errorf("remembered: %v", b.dirs.made)
	}
}

func TestDirsOff(t *testing.T) {
	b, err := Open(t.TempDir(), Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := storage.Put(t.Context(), b, "a/b/c", nil); err != nil || len(b.dirs.made) != 0 {
		t.Errorf("remembered: %v, %v", b.dirs.made, err)
	}
}
