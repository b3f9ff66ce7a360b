// Package storagetest holds what every [storage.Backend] must pass, benchmarks
// to compare backends by, and a backend that fails on purpose. Each sentence
// of the contract in package storage has a test in [Run].
package storagetest

import (
	"errors"
	"io"
	"io/fs"
	"slices"
	"testing"

	"github.com/regctl/regctl/serve/storage"
)

// Run tests the contract of [storage.Backend] on backends that open returns:
// empty ones, each of its own, closed by t.Cleanup where that is needed.
func Run(t *testing.T, open func(t testing.TB) storage.Backend) {
	groups := map[string]map[string]func(*suite){
		"Keys":   keyTests(),
		"Read":   readTests(),
		"List":   listTests(),
		"Write":  writeTests(),
		"Commit": commitTests(),
		"Names":  nameTests(),
		"Race":   raceTests(),
	}
	for group, tests := range groups {
		t.Run(group, func(t *testing.T) {
			for name, test := range tests {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					test(&suite{t, open(t)})
				})
			}
		})
	}
}

// suite is one test on a backend of its own.
type suite struct {
	*testing.T
	b storage.Backend
}

func (s *suite) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// is fails the test unless err is want.
func (s *suite) is(what string, err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("%s: %v, want %v", what, err, want)
	}
}

func (s *suite) fails(what string, err error) {
	s.Helper()
	if err == nil {
		s.Errorf("%s: no error", what)
	}
}

func (s *suite) put(key, data string) {
	s.Helper()
	s.ok(storage.Put(s.Context(), s.b, key, []byte(data)))
}

// holds fails the test unless data is under key.
func (s *suite) holds(key, data string) {
	s.Helper()
	got, info, err := storage.Get(s.Context(), s.b, key, 1<<30)
	switch {
	case err != nil:
		s.Errorf("%s: %v, want %q", key, err, short(data))
	case string(got) != data:
		s.Errorf("%s: %q, want %q", key, short(string(got)), short(data))
	case info.Size != int64(len(data)) || info.Dir:
		s.Errorf("%s: %+v, want a file of %d bytes", key, info, len(data))
	}
}

func short(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

// gone fails the test unless key and everything below it is missing.
func (s *suite) gone(keys ...string) {
	s.Helper()
	for _, key := range keys {
		_, err := s.b.Stat(s.Context(), key)
		s.is("stat "+key, err, fs.ErrNotExist)
	}
}

// scratch opens key at off and writes data.
func (s *suite) scratch(key string, off int64, data string) storage.Writer {
	s.Helper()
	w, err := s.b.Create(s.Context(), key, off)
	s.ok(err)
	n, err := io.WriteString(w, data)
	s.ok(err)
	if n != len(data) {
		s.Fatalf("wrote %d bytes of %d", n, len(data))
	}
	return w
}

// leave leaves scratch with data under key.
func (s *suite) leave(key, data string) {
	s.Helper()
	s.ok(s.scratch(key, 0, data).Close())
}

func (s *suite) list(dir string) []storage.Entry {
	s.Helper()
	var entries []storage.Entry
	for e, err := range s.b.List(s.Context(), dir) {
		s.ok(err)
		entries = append(entries, e)
	}
	return entries
}

// lists fails the test unless dir has just these entries.
func (s *suite) lists(dir string, want ...storage.Entry) {
	s.Helper()
	if got := s.list(dir); !slices.Equal(got, want) {
		s.Errorf("list %s: %v, want %v", dir, got, want)
	}
}

func (s *suite) listError(dir string) error {
	for _, err := range s.b.List(s.Context(), dir) {
		if err != nil {
			return err
		}
	}
	return nil
}
