package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/regctl/regctl/serve/storage"
)

func nameTests() map[string]func(*suite) {
	return map[string]func(*suite){
		"RenameKey": func(s *suite) {
			s.put("a/b", "data")
			s.ok(s.b.Rename(s.Context(), "a/b", "x/y/z"))
			s.holds("x/y/z", "data")
			s.gone("a/b")
		},
		"RenameReplaces": func(s *suite) {
			s.put("a", "new")
			s.put("b", "old")
			s.ok(s.b.Rename(s.Context(), "a", "b"))
			s.holds("b", "new")
			s.gone("a")
		},
		"RenameDirectory": func(s *suite) {
			s.put("a/b/c", "1")
			s.put("a/d", "2")
			s.put("ab", "3")
			s.ok(s.b.Rename(s.Context(), "a", "x/y"))
			s.holds("x/y/b/c", "1")
			s.holds("x/y/d", "2")
			s.holds("ab", "3")
			s.gone("a")
		},
		"RenameMissing": func(s *suite) {
			s.put("b/c", "data")
			s.is("rename", s.b.Rename(s.Context(), "a", "b/c"), fs.ErrNotExist)
			s.is("rename", s.b.Rename(s.Context(), "b/c/d", "x"), fs.ErrNotExist)
			s.holds("b/c", "data")
			s.gone("x")
		},
		"RenameRefuses":   renameRefuses,
		"RenameOntoSelf":  func(s *suite) { s.put("a", "1"); s.ok(s.b.Rename(s.Context(), "a", "a")); s.holds("a", "1") },
		"RemoveKey":       func(s *suite) { s.put("a/b", "1"); s.ok(s.b.Remove(s.Context(), "a/b")); s.gone("a/b") },
		"RemoveDirectory": removeDirectory,
		"RemoveMissing": func(s *suite) {
			s.put("a/b", "1")
			for _, key := range []string{"x", "a/x", "x/y", "a/b/c"} {
				s.is("remove "+key, s.b.Remove(s.Context(), key), fs.ErrNotExist)
			}
		},
		"RemoveNonEmpty": func(s *suite) {
			s.put("a/b/c", "1")
			for _, key := range []string{"a", "a/b"} {
				s.is("remove "+key, s.b.Remove(s.Context(), key), storage.ErrNotEmpty)
			}
			s.holds("a/b/c", "1")
		},
		"Sync": func(s *suite) {
			s.put("a/b", "1")
			s.put("a/c", "1")
			s.ok(s.b.Remove(s.Context(), "a/b"))
			for _, dir := range []string{"a", ".", "a/missing", "x/y", "a/c/d"} {
				s.ok(storage.Sync(s.Context(), s.b, dir))
			}
		},
		"FoldsCase": func(s *suite) {
			s.put("dir/name", "data")
			_, err := s.b.Stat(s.Context(), "dir/NAME")
			if folds := err == nil; folds != storage.FoldsCase(s.b) {
				s.Errorf("FoldsCase is %t, stat under upper case: %v", storage.FoldsCase(s.b), err)
			}
		},
		"Get": func(s *suite) {
			s.put("a", "12345")
			_, info, err := storage.Get(s.Context(), s.b, "a", 4)
			s.fails("get of more than wanted", err)
			if info.Size != 5 {
				s.Errorf("size %d, want 5", info.Size)
			}
			s.holds("a", "12345")
		},
		"PutLeavesNothing": func(s *suite) {
			s.put("a/b", "1")
			s.put("a/b", "2")
			s.lists("a", storage.Entry{Name: "b"})
			s.holds("a/b", "2")
		},
	}
}

func renameRefuses(s *suite) {
	s.put("a/b", "1")
	s.put("x/y", "2")
	s.put("f", "3")
	for _, move := range [][2]string{{"a", "x"}, {"a", "f"}, {"f", "a"}, {"a", "a/c"}, {"a", "f/c"}, {"a", "a/b/c"}} {
		s.fails("rename "+move[0]+" to "+move[1], s.b.Rename(s.Context(), move[0], move[1]))
	}
	s.holds("a/b", "1")
	s.holds("x/y", "2")
	s.holds("f", "3")
	s.lists("a", storage.Entry{Name: "b"})
}

func removeDirectory(s *suite) {
	s.put("a/b/c", "1")
	s.ok(s.b.Remove(s.Context(), "a/b/c"))
	s.ok(s.b.Remove(s.Context(), "a/b"))
	s.lists("a")
	s.put("a/b", "a file now")
	s.holds("a/b", "a file now")
}

func raceTests() map[string]func(*suite) {
	return map[string]func(*suite){
		"SameNewDirectories": raceDirectories,
		"SameKey":            raceKey,
		"ListAndChange":      raceList,
	}
}

// raceDirectories commits into directories that another removes whenever they
// are empty.
func raceDirectories(s *suite) {
	const writers, rounds = 4, 20
	var stop atomic.Bool
	remover := make(chan error, 1)
	go func() {
		var err error
		for !stop.Load() && err == nil {
			for _, dir := range []string{"a/b/c/d", "a/b/c", "a/b", "a", "up"} {
				e := s.b.Remove(s.Context(), dir)
				if e != nil && !errors.Is(e, fs.ErrNotExist) && !errors.Is(e, storage.ErrNotEmpty) {
					err = e
				}
			}
		}
		remover <- err
	}()
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for j := range rounds {
				key := fmt.Sprintf("a/b/c/d/%d", i)
				err := s.commitAndRemove(fmt.Sprintf("up/%d/data", i), key, key+fmt.Sprint(j))
				if err != nil {
					s.Errorf("round %d: %v", j, err)
				}
			}
		})
	}
	wg.Wait()
	stop.Store(true)
	s.ok(<-remover)
}

// commitAndRemove commits data, reads it back and removes it, so that the
// directory is empty again.
func (s *suite) commitAndRemove(scratch, key, data string) error {
	w, err := s.b.Create(s.Context(), scratch, 0)
	if err != nil {
		return err
	}
	if _, err := w.Write([]byte(data)); err != nil {
		return errors.Join(err, w.Cancel())
	}
	if err := w.Commit(s.Context(), key); err != nil {
		return err
	}
	got, _, err := storage.Get(s.Context(), s.b, key, 100)
	if err == nil && string(got) != data {
		err = fmt.Errorf("%s holds %q, want %q", key, got, data)
	}
	return errors.Join(err, s.b.Remove(s.Context(), key))
}

// raceKey replaces one key from many sides: what is read is always whole.
func raceKey(s *suite) {
	const size = 100_000
	s.put("a/key", strings.Repeat("0", size))
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			data := bytes.Repeat([]byte{byte('1' + i)}, size)
			for range 10 {
				if err := storage.Put(s.Context(), s.b, "a/key", data); err != nil {
					s.Error(err)
				}
				got, _, err := storage.Get(s.Context(), s.b, "a/key", size)
				if err != nil {
					s.Error(err)
				} else if len(got) != size || len(bytes.Trim(got, string(got[:1]))) != 0 {
					s.Error("read what nobody has put as a whole")
				}
			}
		})
	}
	wg.Wait()
	s.lists("a", storage.Entry{Name: "key"})
}

// raceList lists a directory that changes: what stays is always there, once.
func raceList(s *suite) {
	s.put("dir/stays", "x")
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for range 10 {
				if err := s.commitAndRemove(fmt.Sprintf("up/%d/data", i), fmt.Sprintf("dir/%d", i), "x"); err != nil {
					s.Error(err)
				}
			}
		})
	}
	for range 50 {
		n := 0
		for e, err := range s.b.List(s.Context(), "dir") {
			s.ok(err)
			if e.Name == "stays" {
				n++
			}
		}
		if n != 1 {
			s.Errorf("an entry that stays is listed %d times", n)
		}
	}
	wg.Wait()
}
