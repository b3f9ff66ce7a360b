package storagetest

import (
	"context"
	"io"
	"io/fs"
	"strings"

	"github.com/regctl/regctl/serve/storage"
)

func writeTests() map[string]func(*suite) {
	return map[string]func(*suite){
		"ReadFrom": func(s *suite) {
			data := strings.Repeat("0123456789", 200_000)
			w := s.scratch("up/data", 0, "<")
			n, err := w.ReadFrom(io.LimitReader(strings.NewReader(data+"beyond"), int64(len(data))))
			s.ok(err)
			if n != int64(len(data)) {
				s.Errorf("read %d bytes, want %d", n, len(data))
			}
			_, err = io.WriteString(w, ">")
			s.ok(err)
			s.ok(w.Commit(s.Context(), "key"))
			s.holds("key", "<"+data+">")
		},
		"ReadFromError": func(s *suite) {
			w := s.scratch("up/data", 0, "")
			broken := io.MultiReader(strings.NewReader("half"), errReader{})
			n, err := w.ReadFrom(broken)
			s.is("read from", err, errBroken)
			if n != 4 {
				s.Errorf("read %d bytes, want 4", n)
			}
			s.ok(w.Close())
			s.holds("up/data", "half")
		},
		"BeginAnew": func(s *suite) {
			s.leave("up/data", "long and old")
			s.ok(s.scratch("up/data", 0, "new").Commit(s.Context(), "key"))
			s.holds("key", "new")
		},
		"Resume":            func(s *suite) { s.resume(6, "01234567", "xx", "012345xx") },
		"ResumeAtEnd":       func(s *suite) { s.resume(8, "01234567", "xx", "01234567xx") },
		"ResumeWithNothing": func(s *suite) { s.resume(3, "01234567", "", "012") },
		"ResumeMissing": func(s *suite) {
			s.put("a", "data")
			for _, key := range []string{"x", "x/y", "a/b"} {
				_, err := s.b.Create(s.Context(), key, 1)
				s.is("resume "+key, err, fs.ErrNotExist)
			}
			s.gone("x")
		},
		"ResumeShorter": func(s *suite) {
			s.leave("up/data", "0123")
			_, err := s.b.Create(s.Context(), "up/data", 5)
			s.is("resume", err, io.ErrUnexpectedEOF)
			s.holds("up/data", "0123")
		},
		"NegativeOffset": func(s *suite) {
			s.leave("up/data", "0123")
			_, err := s.b.Create(s.Context(), "up/data", -1)
			s.is("create", err, fs.ErrInvalid)
			s.holds("up/data", "0123")
		},
		"Directory": func(s *suite) {
			s.put("a/b", "data")
			_, err := s.b.Create(s.Context(), "a", 0)
			s.fails("create on a directory", err)
			_, err = s.b.Create(s.Context(), "a/b/c", 0)
			s.fails("create below a file", err)
			s.holds("a/b", "data")
		},
		"CloseKeeps": func(s *suite) {
			s.leave("up/data", "0123")
			s.holds("up/data", "0123")
			s.lists("up", storage.Entry{Name: "data"})
		},
		"CancelRemoves": func(s *suite) {
			s.ok(s.scratch("top/up/data", 0, "0123").Cancel())
			s.gone("top/up/data", "top/up")
		},
		"CancelKeepsOthers": func(s *suite) {
			s.put("up/startedat", "now")
			s.ok(s.scratch("up/data", 0, "0123").Cancel())
			s.gone("up/data")
			s.holds("up/startedat", "now")
		},
		"CancelAtRoot": func(s *suite) {
			s.ok(s.scratch("data", 0, "0123").Cancel())
			s.gone("data")
			s.put("key", "data")
		},
		"EndOnce": endOnce,
	}
}

var errBroken = io.ErrNoProgress

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errBroken }

// resume leaves scratch, writes on from off and commits.
func (s *suite) resume(off int64, first, second, want string) {
	s.Helper()
	s.leave("up/data", first)
	w := s.scratch("up/data", off, second)
	s.ok(w.Sync())
	s.ok(w.Commit(s.Context(), "key"))
	s.holds("key", want)
	s.gone("up/data")
}

// endOnce ends a writer in each way and calls everything once more.
func endOnce(s *suite) {
	ends := map[string]func(storage.Writer) error{
		"commit": func(w storage.Writer) error { return w.Commit(s.Context(), "key") },
		"close":  func(w storage.Writer) error { return w.Close() },
		"cancel": func(w storage.Writer) error { return w.Cancel() },
	}
	for name, end := range ends {
		w := s.scratch("up/"+name, 0, "data")
		s.ok(end(w))
		s.leave("other/"+name, "x") // Something that a second end could break.
		s.ok(w.Close())
		s.ok(w.Cancel())
		s.ok(w.Close())
		_, err := io.WriteString(w, "more")
		s.fails("write after "+name, err)
		s.fails("sync after "+name, w.Sync())
		s.fails("commit after "+name, w.Commit(s.Context(), "late"))
	}
	s.holds("key", "data")
	s.holds("up/close", "data")
	s.lists("up", storage.Entry{Name: "close"})
	s.gone("late")
}

func commitTests() map[string]func(*suite) {
	return map[string]func(*suite){
		"MakesDirectories": func(s *suite) {
			s.ok(s.scratch("up/x/data", 0, "data").Commit(s.Context(), "a/b/c/d"))
			s.holds("a/b/c/d", "data")
			s.gone("up/x/data")
		},
		"Empty": func(s *suite) {
			s.ok(s.scratch("up/data", 0, "").Commit(s.Context(), "key"))
			s.holds("key", "")
		},
		"NotSeenBefore": func(s *suite) {
			w := s.scratch("up/data", 0, "data")
			s.ok(w.Sync())
			s.gone("a/key")
			s.ok(w.Commit(s.Context(), "a/key"))
			s.holds("a/key", "data")
		},
		"Replaces": func(s *suite) {
			s.put("a/key", "old and longer")
			w := s.scratch("up/data", 0, "new")
			s.ok(w.Sync())
			s.holds("a/key", "old and longer")
			s.ok(w.Commit(s.Context(), "a/key"))
			s.holds("a/key", "new")
			s.lists("a", storage.Entry{Name: "key"})
		},
		"SyncThenWrite": func(s *suite) {
			w := s.scratch("up/data", 0, "one")
			s.ok(w.Sync())
			s.ok(w.Sync())
			_, err := io.WriteString(w, "two")
			s.ok(err)
			s.ok(w.Commit(s.Context(), "key"))
			s.holds("key", "onetwo")
		},
		"KeepsOthers": func(s *suite) {
			s.put("up/startedat", "now")
			s.ok(s.scratch("up/data", 0, "data").Commit(s.Context(), "key"))
			s.gone("up/data")
			s.holds("up/startedat", "now")
		},
		"WithinDirectory": func(s *suite) {
			s.ok(s.scratch("a/tmp", 0, "data").Commit(s.Context(), "a/key"))
			s.lists("a", storage.Entry{Name: "key"})
		},
		"AtRoot": func(s *suite) {
			s.ok(s.scratch("tmp", 0, "data").Commit(s.Context(), "key"))
			s.holds("key", "data")
			s.gone("tmp")
		},
		"All":              commitAll,
		"AllFail":          commitAllFail,
		"AllOfNone":        func(s *suite) { s.ok(storage.CommitAll(s.Context(), s.b)) },
		"FailsOnDirectory": func(s *suite) { s.failedCommit(s.Context(), "a") },
		"FailsBelowFile":   func(s *suite) { s.failedCommit(s.Context(), "a/key/x") },
		"FailsCancelled": func(s *suite) {
			ctx, cancel := context.WithCancel(s.Context())
			cancel()
			s.failedCommit(ctx, "a/key")
		},
		"FailsWithoutScratch": func(s *suite) {
			s.put("a/key", "old")
			w := s.scratch("up/data", 0, "new")
			s.ok(s.b.Remove(s.Context(), "up/data"))
			s.is("commit", w.Commit(s.Context(), "a/key"), fs.ErrNotExist)
			s.holds("a/key", "old")
		},
	}
}

// failedCommit fails to commit to a key that must stay what it was.
func (s *suite) failedCommit(ctx context.Context, to string) {
	s.Helper()
	s.put("a/key", "old")
	w := s.scratch("up/x/data", 0, "new")
	s.fails("commit", w.Commit(ctx, to))
	s.holds("a/key", "old")
	s.gone("up/x")
	s.ok(w.Close())
	s.ok(w.Cancel())
}

func commitAll(s *suite) {
	s.put("a/two", "old")
	s.ok(storage.CommitAll(s.Context(), s.b,
		storage.Pending{Writer: s.scratch("up/1/data", 0, "one"), To: "new/dir/one"},
		storage.Pending{Writer: s.scratch("up/2/data", 0, "two"), To: "a/two"},
		storage.Pending{Writer: s.scratch("up/3/data", 0, "three"), To: "new/three"},
	))
	s.holds("new/dir/one", "one")
	s.holds("a/two", "two")
	s.holds("new/three", "three")
	s.gone("up/1/data", "up/2/data", "up/3/data")
}

// commitAllFail has one of three writers fail: each key is as it was or as it
// was to be, and no scratch is left.
func commitAllFail(s *suite) {
	for _, bad := range []string{"a", "a/key/x", "a//b"} {
		s.put("a/key", "old")
		batch := []storage.Pending{
			{Writer: s.scratch("up/1/data", 0, "new"), To: "a/key"},
			{Writer: s.scratch("up/2/data", 0, "x"), To: bad},
			{Writer: s.scratch("up/3/data", 0, "x"), To: "a/late"},
		}
		s.fails("commit", storage.CommitAll(s.Context(), s.b, batch...))
		data, _, err := storage.Get(s.Context(), s.b, "a/key", 10)
		s.ok(err)
		if string(data) != "old" && string(data) != "new" {
			s.Errorf("a/key holds %q", data)
		}
		s.gone("up/1/data", "up/2/data", "up/3/data")
		for _, p := range batch {
			s.fails("a second commit", p.Writer.Commit(s.Context(), "again"))
		}
		s.gone("again")
	}
}
