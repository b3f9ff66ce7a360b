// Package state keeps what is in no layout: what was deleted, by whom and when,
// so that it can be put back, when images were last pulled, and what others are
// still to be told, and the robots that may log in. It is one file,
// an SQLite database, which nothing can derive again: it is migrated, backed up
// with the store, and never removed.
package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// The kinds of a [Deletion].
const (
	KindTag        = "tag"
	KindManifest   = "manifest"
	KindBlob       = "blob"
	KindRepository = "repository"
)

// Deletion is the record of something that was about to be deleted.
type Deletion struct {
	// ID grows with every record and is never used again.
	ID int64
	At time.Time
	// Run groups the deletions of one command of a client. May be empty.
	Run  string
	Kind string // KindTag and so on.
	Repo string
	Tag  string
	// Digest of the manifest or blob; of a tag: where it pointed.
	Digest    oci.Digest
	MediaType string
	// Raw are the bytes of a manifest, so that it can be pushed again.
	Raw []byte
	// By is who did it; empty: nobody knows. Addr is from where.
	By, Addr string
}

var (
	// ErrNewer says that a later release of regctl wrote the file.
	ErrNewer = errors.New("was written by a newer regctl")
	// ErrDamaged says that the file is no database of ours, or a broken one.
	ErrDamaged = errors.New("is damaged")
	// ErrFull says that there is no room to write.
	ErrFull = errors.New("has no room to grow")
	// ErrClosed says that the State was closed.
	ErrClosed = errors.New("is closed")
)

// State is an open file. It is safe for concurrent use, by one process at a
// time. A nil State remembers nothing: its methods do nothing and succeed.
type State struct {
	path string
	now  func() time.Time

	mu       sync.Mutex // Guards the five below.
	db       *sql.DB    // Nil: there is no room to make it.
	writable bool
	unboxed  bool // There is no room for an outbox, which older files lack.
	unmanned bool // Nor for robots.
	closed   bool

	queue   sync.Mutex // Guards next.
	next    *batch     // Takes the records that come in.
	writing sync.Mutex // Held while a batch is committed.

	pulls  pulls
	outbox outbox
	uses   uses
}

// Open opens the file path, and makes it if it is missing or empty, and its
// directory if that is missing. On a full disk it opens what there is: then records fail
// with [ErrFull] until there is room. A nil now is [time.Now].
// Errors: [ErrNewer], [ErrDamaged], and those of the file system.
func Open(ctx context.Context, path string, now func() time.Time) (*State, error) {
	if now == nil {
		now = time.Now
	}
	s := &State{path: path, now: now}
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.open(ctx)
	if errors.Is(err, ErrFull) {
		err = s.openFull(ctx, err)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Close writes what is left of the pulls and uses, and closes the file.
func (s *State) Close() error {
	if s == nil {
		return nil
	}
	flushed := errors.Join(s.Flush(context.Background()), s.FlushEvents(context.Background()))
	s.writing.Lock() // What is recorded goes first.
	defer s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed, s.writable = true, false
	if s.db == nil {
		return flushed
	}
	err := s.db.Close()
	s.db = nil
	return errors.Join(flushed, s.failed("close", err))
}

// reader returns the database, or nil if there is none and nothing recorded.
func (s *State) reader() (*sql.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("the state %s %w", s.path, ErrClosed)
	}
	return s.db, nil
}

// outboxReader is reader for who reads the outbox.
func (s *State) outboxReader() (*sql.DB, error) {
	s.mu.Lock()
	unboxed := s.unboxed
	s.mu.Unlock()
	db, err := s.reader()
	if unboxed {
		db = nil
	}
	return db, err
}

// writer returns the database for changes. What was opened on a full disk is
// opened once more.
func (s *State) writer(ctx context.Context) (*sql.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("the state %s %w", s.path, ErrClosed)
	}
	if s.writable {
		return s.db, nil
	}
	old := s.db
	if old != nil { // Two at once would lock each other out.
		_ = old.Close() // It was for reading.
	}
	s.db = nil
	err := s.open(ctx)
	if err != nil && old != nil {
		return nil, errors.Join(err, s.openReadOnly(ctx))
	}
	return s.db, err
}

// change runs f in a transaction. A context that ends does not end it.
func (s *State) change(ctx context.Context, what string, f func(*sql.Tx) error) error {
	ctx = context.WithoutCancel(ctx)
	db, err := s.writer(ctx)
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return s.failed(what, err)
	}
	if err := f(tx); err != nil {
		_ = tx.Rollback() // The first error tells more.
		return s.failed(what, err)
	}
	return s.failed(what, tx.Commit())
}
