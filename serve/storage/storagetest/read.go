package storagetest

import (
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/regctl/regctl/serve/storage"
)

func keyTests() map[string]func(*suite) {
	tests := map[string]func(*suite){
		"RootIsADirectory": func(s *suite) {
			s.put("key", "data")
			info, err := s.b.Stat(s.Context(), ".")
			s.ok(err)
			if !info.Dir || !slices.Contains(s.list("."), storage.Entry{Name: "key"}) {
				s.Errorf("root is %+v, lists %v", info, s.list("."))
			}
		},
	}
	for _, key := range []string{"", "/a", "a/", "a//b", "..", "../a", "a/../b", "./a", "a/.", `a\b`, "a\x00b", "a\xff"} {
		tests[fmt.Sprintf("Malformed/%q", key)] = func(s *suite) { malformed(s, key) }
	}
	return tests
}

func malformed(s *suite, key string) {
	ctx := s.Context()
	s.put("good", "data")
	_, err := s.b.Stat(ctx, key)
	s.is("stat", err, fs.ErrInvalid)
	_, _, err = s.b.Open(ctx, key)
	s.is("open", err, fs.ErrInvalid)
	_, _, err = storage.Get(ctx, s.b, key, 10)
	s.is("get", err, fs.ErrInvalid)
	_, err = storage.Resolve(ctx, s.b, key)
	s.is("resolve", err, fs.ErrInvalid)
	_, err = s.b.Create(ctx, key, 0)
	s.is("create", err, fs.ErrInvalid)
	s.is("list", s.listError(key), fs.ErrInvalid)
	s.is("rename from", s.b.Rename(ctx, key, "x"), fs.ErrInvalid)
	s.is("rename to", s.b.Rename(ctx, "good", key), fs.ErrInvalid)
	s.is("remove", s.b.Remove(ctx, key), fs.ErrInvalid)
	s.is("commit", s.scratch("up/data", 0, "new").Commit(ctx, key), fs.ErrInvalid)
	s.holds("good", "data")
	s.gone("up", "x")
}

func readTests() map[string]func(*suite) {
	return map[string]func(*suite){
		"StatFile": func(s *suite) {
			s.put("a/b", "data")
			info, err := s.b.Stat(s.Context(), "a/b")
			s.ok(err)
			if info.Size != 4 || info.Dir || info.ModTime.IsZero() {
				s.Errorf("got %+v", info)
			}
		},
		"StatDirectory": func(s *suite) {
			s.put("a/b", "data")
			info, err := s.b.Stat(s.Context(), "a")
			s.ok(err)
			if !info.Dir || info.Size != 0 {
				s.Errorf("got %+v", info)
			}
		},
		"Missing": func(s *suite) {
			s.put("a/b", "data")
			for _, key := range []string{"x", "a/x", "x/y", "a/b/c", "a/" + strings.Repeat("x", 300)} {
				s.gone(key)
				_, _, err := s.b.Open(s.Context(), key)
				s.is("open "+short(key), err, fs.ErrNotExist)
				_, _, err = storage.Get(s.Context(), s.b, key, 10)
				s.is("get "+short(key), err, fs.ErrNotExist)
				_, err = storage.Resolve(s.Context(), s.b, key)
				s.is("resolve "+short(key), err, fs.ErrNotExist)
			}
		},
		"OpenDirectory": func(s *suite) {
			s.put("a/b", "data")
			_, _, err := s.b.Open(s.Context(), "a")
			s.is("open", err, fs.ErrInvalid)
			_, _, err = storage.Get(s.Context(), s.b, "a", 10)
			s.is("get", err, fs.ErrInvalid)
		},
		"Get":           getTells,
		"Resolve":       resolveIsOneForOne,
		"Seek":          readAndSeek,
		"WhileReplaced": func(s *suite) { s.readWhile(func() { s.put("a/b", "new") }) },
		"WhileRemoved":  func(s *suite) { s.readWhile(func() { s.ok(s.b.Remove(s.Context(), "a/b")) }) },
		"WhileMoved":    func(s *suite) { s.readWhile(func() { s.ok(s.b.Rename(s.Context(), "a", "z")) }) },
	}
}

// getTells gets what Open reads and Stat tells, up to just as much as wanted.
func getTells(s *suite) {
	for key, data := range map[string]string{"empty": "", "a/link": "12345", "big": strings.Repeat("x", 70_000)} {
		s.put(key, data)
		stat, err := s.b.Stat(s.Context(), key)
		s.ok(err)
		got, info, err := storage.Get(s.Context(), s.b, key, int64(len(data)))
		if string(got) != data || err != nil {
			s.Errorf("%s: %q, %v", key, short(string(got)), err)
		}
		if info.Size != stat.Size || !info.ModTime.Equal(stat.ModTime) || info.Dir {
			s.Errorf("%s: %+v, stat tells %+v", key, info, stat)
		}
		if len(data) == 0 {
			continue
		}
		got, info, err = storage.Get(s.Context(), s.b, key, int64(len(data))-1)
		s.is("get less", err, storage.ErrTooLarge)
		if len(got) > 0 || info.Size != stat.Size {
			s.Errorf("%s: %d bytes, %+v, when less was wanted", key, len(got), info)
		}
	}
}

// resolveIsOneForOne resolves names of which none is a symbolic link.
func resolveIsOneForOne(s *suite) {
	s.put("a/b", "1")
	s.put("a/c/d", "2")
	at := map[string]string{}
	for _, key := range []string{".", "a", "a/b", "a/c", "a/c/d"} {
		real, err := storage.Resolve(s.Context(), s.b, key)
		s.ok(err)
		for other, where := range at {
			if where == real {
				s.Errorf("%s and %s are both %s", key, other, real)
			}
		}
		at[key] = real
		if parent := path.Dir(key); key != "." && path.Join(at[parent], path.Base(key)) != path.Clean(real) {
			s.Errorf("%s is %s, what it is in is %s", key, real, at[parent])
		}
	}
}

func readAndSeek(s *suite) {
	s.put("key", "0123456789")
	r, info, err := s.b.Open(s.Context(), "key")
	s.ok(err)
	defer r.Close()
	if info.Size != 10 || info.Dir {
		s.Errorf("got %+v", info)
	}
	for _, off := range []int64{7, 0, 10} {
		if at, err := r.Seek(off, io.SeekStart); at != off || err != nil {
			s.Fatalf("seek to %d: %d, %v", off, at, err)
		}
		got, err := io.ReadAll(r)
		s.ok(err)
		if want := "0123456789"[off:]; string(got) != want {
			s.Errorf("from %d: %q, want %q", off, got, want)
		}
	}
}

// readWhile has a/b open over change and reads it then.
func (s *suite) readWhile(change func()) {
	s.Helper()
	old := strings.Repeat("old", 10_000)
	s.put("a/b", old)
	r, _, err := s.b.Open(s.Context(), "a/b")
	s.ok(err)
	change()
	got, err := io.ReadAll(r)
	s.ok(err)
	s.ok(r.Close())
	if string(got) != old {
		s.Errorf("reads %q, want what was opened", short(string(got)))
	}
}

func listTests() map[string]func(*suite) {
	return map[string]func(*suite){
		"BytewiseOrder": listOrder,
		"Missing": func(s *suite) {
			s.put("a/b", "data")
			for _, dir := range []string{"x", "a/x", "a/b"} {
				s.is("list "+dir, s.listError(dir), fs.ErrNotExist)
			}
		},
		"DirectlyInDir": func(s *suite) {
			s.put("a/b/c/d", "data")
			s.put("a/b.c", "data")
			s.lists("a", storage.Entry{Name: "b", Dir: true}, storage.Entry{Name: "b.c"})
		},
		"Changes": func(s *suite) {
			s.put("a/b", "1")
			s.put("a/c", "1")
			s.lists("a", storage.Entry{Name: "b"}, storage.Entry{Name: "c"})
			s.ok(s.b.Remove(s.Context(), "a/b"))
			s.put("a/d/e", "1")
			s.lists("a", storage.Entry{Name: "c"}, storage.Entry{Name: "d", Dir: true})
		},
		"Empty": func(s *suite) {
			s.put("a/b", "1")
			s.ok(s.b.Remove(s.Context(), "a/b"))
			s.lists("a")
		},
		"Stop": func(s *suite) {
			s.put("a/b", "1")
			s.put("a/c", "1")
			n := 0
			for range s.b.List(s.Context(), "a") {
				n++
				break
			}
			if n != 1 {
				s.Errorf("%d entries", n)
			}
		},
		"VanishMeanwhile": listVanishing,
		"Big":             listBig,
	}
}

func listOrder(s *suite) {
	names := []string{"b", "a", "a-b", "a.b", "a0", "é", "~", "10", "9", "_x"}
	if !storage.FoldsCase(s.b) {
		names = append(names, "A", "Z", "B")
	}
	for i, name := range names {
		if i%2 == 0 {
			name += "/file"
		}
		s.leave("dir/"+name, "x")
	}
	got := s.list("dir")
	if !slices.IsSortedFunc(got, func(a, b storage.Entry) int { return cmp.Compare(a.Name, b.Name) }) {
		s.Errorf("not in bytewise order: %v", got)
	}
	if len(got) != len(names) {
		s.Errorf("%d names, want %d: %v", len(got), len(names), got)
	}
	for _, e := range got {
		if i := slices.Index(names, e.Name); i < 0 || e.Dir != (i%2 == 0) {
			s.Errorf("unexpected %+v", e)
		}
	}
}

// listVanishing removes what comes next while the list is read: it may be
// yielded or not, what stays must be.
func listVanishing(s *suite) {
	for i := range 10 {
		s.leave(fmt.Sprintf("dir/%d", i), "x")
	}
	var stays []string
	for e, err := range s.b.List(s.Context(), "dir") {
		s.ok(err)
		if e.Name == "0" {
			for _, i := range []int{3, 5} {
				s.ok(s.b.Remove(s.Context(), fmt.Sprintf("dir/%d", i)))
			}
		}
		if e.Name != "3" && e.Name != "5" {
			stays = append(stays, e.Name)
		}
	}
	if got := strings.Join(stays, ""); got != "01246789" {
		s.Errorf("list has %s of 01246789", got)
	}
}

func listBig(s *suite) {
	const n = 3000
	for i := range n {
		s.leave(fmt.Sprintf("dir/%d", i*7919%n), "x")
	}
	got := s.list("dir")
	want := make([]storage.Entry, n)
	for i := range n {
		want[i].Name = fmt.Sprint(i)
	}
	slices.SortFunc(want, func(a, b storage.Entry) int { return cmp.Compare(a.Name, b.Name) })
	if !slices.Equal(got, want) {
		s.Errorf("%d entries, want %d in order", len(got), n)
	}
}
