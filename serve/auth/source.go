package auth

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// lookEvery is how often the file is looked at while all is remembered.
	lookEvery = time.Second
	// settled is how old the last change of a file is before its times are
	// trusted: with a coarse clock two changes can bear the same one.
	settled = 2 * time.Second
	// writing is how long a file that looks unfinished is taken for one that
	// somebody writes at the moment. Apache's htpasswd writes in place.
	writing = time.Second
)

// source is a file that may change.
type source struct {
	path string
	log  *slog.Logger

	last atomic.Pointer[users] // The last good state.

	mu     sync.Mutex
	looked time.Time
	info   os.FileInfo // What the file was when raw was read.
	raw    []byte
	said   string // What was complained about last.
}

func openSource(path string, log *slog.Logger, now time.Time) (*source, error) {
	s := &source{path: path, log: log}
	raw, info, err := readAll(path)
	if err != nil {
		return nil, err
	}
	f, err := Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s.take(f, raw, info)
	s.looked = now
	for _, p := range f.Problems() {
		log.Warn("htpasswd: "+p.String(), slog.String("file", path))
	}
	return s, nil
}

// users returns the users of the file as it was at most a second ago, or as it
// is now. A file that cannot be read or is damaged leaves what there was, and so
// does a disk that hangs: only who asks for now waits.
func (s *source) users(now time.Time, atOnce bool) *users {
	if atOnce {
		s.mu.Lock()
	} else if !s.mu.TryLock() { // Somebody looks.
		return s.last.Load()
	}
	defer s.mu.Unlock()
	if since := now.Sub(s.looked); atOnce || since < 0 || since >= lookEvery {
		s.looked = now
		s.look(now)
	}
	return s.last.Load()
}

// look reads the file if it has changed.
func (s *source) look(now time.Time) {
	info, err := os.Stat(s.path)
	if err != nil {
		s.complain(err.Error())
		return
	}
	if s.same(info) && now.Sub(info.ModTime()) >= settled {
		return
	}
	raw, info, err := readAll(s.path)
	if err != nil {
		s.complain(err.Error())
		return
	}
	if s.info != nil && bytes.Equal(raw, s.raw) {
		s.info, s.said = info, ""
		return
	}
	f, err := Parse(raw)
	if age := now.Sub(info.ModTime()); age >= 0 && age < writing && (err != nil || f.unfinished()) {
		s.looked = time.Time{} // Somebody writes it. Look again soon.
		return
	}
	if err != nil {
		s.complain(fmt.Sprintf("%s: %v", s.path, err))
		return
	}
	s.take(f, raw, info)
	s.log.Info("htpasswd: read again, as it has changed", slog.String("file", s.path), slog.Int("users", len(s.last.Load().hashes)))
}

// same tells whether the file is still what was read.
func (s *source) same(info os.FileInfo) bool {
	return s.info != nil && os.SameFile(s.info, info) && s.info.Size() == info.Size() && s.info.ModTime().Equal(info.ModTime())
}

func (s *source) take(f *File, raw []byte, info os.FileInfo) {
	s.last.Store(usersOf(f))
	s.raw, s.info, s.said = raw, info, ""
}

// complain tells each trouble once.
func (s *source) complain(what string) {
	s.info = nil
	if what == s.said {
		return
	}
	s.said = what
	s.log.Error("htpasswd: cannot be read again; what was read last stays in force", slog.String("error", what))
}

// unfinished tells whether f looks like the beginning of a file.
func (f *File) unfinished() bool {
	if len(f.lines) == 0 {
		return true
	}
	last := f.lines[len(f.lines)-1]
	return last.what == isUser && last.hash.kind == Plain && !bytes.HasSuffix([]byte(last.text), []byte("\n"))
}
