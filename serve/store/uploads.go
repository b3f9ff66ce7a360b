package store

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"math"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage"
)

const (
	// idle bounds how many unfinished uploads keep their digest so far in
	// memory; one that lost it reads its data again.
	idle = 4096

	// An upload is read in small pieces at first, so that a thousand slow ones
	// cost little, and in large ones once it has shown that it fills them.
	smallPiece = 32 << 10
	largePiece = 256 << 10
)

var (
	smallPieces = sync.Pool{New: func() any { b := make([]byte, smallPiece); return &b }}
	largePieces = sync.Pool{New: func() any { b := make([]byte, largePiece); return &b }}
)

// session is an unfinished upload. All that it knows besides the data on disk
// can be lost.
type session struct {
	repo, id, key string
	began         time.Time // Zero: not known, it was found on disk.

	// Guarded by Store.mu.
	handles int       // While there are any, the session stays.
	last    time.Time // When the latest handle was taken or given back.

	mu        sync.Mutex
	writer    *upload // The handle that has claimed it.
	size      int64
	algorithm digest.Algorithm
	hash      hash.Hash // Over size bytes; nil if lost.
	ended     bool
	broken    bool // Writing failed: only what is on disk counts now.
}

// upload is a handle on a session.
type upload struct {
	s      *Store
	on     *session
	start  int64
	reopen func() (storage.Writer, error) // Opens the data for appending at start.
	out    storage.Writer                 // Open from the beginning on a new upload.
	owner  bool                           // This handle has claimed the session.
	ended  bool
}

// Upload implements [oci.Writer].
func (s *Store) Upload(ctx context.Context, repo, id string, o oci.UploadOptions) (oci.Upload, error) {
	if err := oci.CheckRepo(repo); err != nil {
		return nil, err
	}
	if o.Algorithm == "" {
		o.Algorithm = digest.SHA256
	}
	if _, err := oci.ParseAlgorithm(string(o.Algorithm)); err != nil {
		return nil, err
	}
	if id == "" {
		return s.begin(ctx, repo, o.Algorithm)
	}
	on, err := s.find(ctx, repo, id)
	if err != nil {
		return nil, err
	}
	start := on.received()
	ctx = context.WithoutCancel(ctx)
	reopen := func() (storage.Writer, error) {
		// Writing on at start cuts off what is beyond: it must be the end.
		info, err := s.backend.Stat(ctx, on.key)
		if err == nil && info.Size != start {
			err = oci.Errorf(oci.RangeInvalid, "upload %s has %d bytes, not %d", on.id, info.Size, start)
		}
		if err != nil {
			return nil, err
		}
		return s.backend.Create(ctx, on.key, start)
	}
	return &upload{s: s, on: on, start: start, reopen: reopen}, nil
}

// begin makes a new upload. Its file is made at once, so that it is found
// again after a restart.
func (s *Store) begin(ctx context.Context, repo string, a digest.Algorithm) (*upload, error) {
	id := uuid.NewString()
	on := &session{repo: repo, id: id, key: meta.UploadKey(repo, id), began: s.now(), algorithm: a, hash: a.Hash()}
	s.leases.touch("", uploadLease(on.key))
	out, err := s.backend.Create(context.WithoutCancel(ctx), on.key, 0)
	if err != nil {
		return nil, translate(err, oci.Unknown, "begin an upload to "+repo)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remember(on)
	s.take(on)
	return &upload{s: s, on: on, out: out}, nil
}

// find returns the session of an upload with one more handle on it, from disk
// if memory does not have it.
func (s *Store) find(ctx context.Context, repo, id string) (*session, error) {
	if parsed, err := uuid.Parse(id); err != nil || parsed.String() != id {
		return nil, unknownUpload(repo, id, nil)
	}
	key := meta.UploadKey(repo, id)
	s.leases.touch("", uploadLease(key))
	if on := s.known(repo, id); on != nil {
		return on, nil
	}
	info, err := s.backend.Stat(ctx, key)
	if err == nil && info.Dir {
		err = fs.ErrNotExist
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, unknownUpload(repo, id, err)
	}
	if err != nil {
		return nil, translate(err, oci.BlobUploadUnknown, id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	on := s.sessions[id]
	if on == nil || on.isOver() {
		on = &session{repo: repo, id: id, key: key, size: info.Size}
		s.remember(on)
	}
	s.take(on)
	return on, nil
}

func (s *Store) known(repo, id string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	on := s.sessions[id]
	if on == nil || on.repo != repo || on.isOver() { // Then there is nothing on disk, either.
		return nil
	}
	s.take(on)
	return on
}

// take takes a handle. The caller holds s.mu.
func (s *Store) take(on *session) {
	on.handles++
	on.last = s.now()
}

func (on *session) isOver() bool {
	on.mu.Lock()
	defer on.mu.Unlock()
	return on.ended
}

func unknownUpload(repo, id string, err error) error {
	return &oci.Error{Code: oci.BlobUploadUnknown, Message: fmt.Sprintf("no upload %.40q in %s; begin again", id, repo), Err: err}
}

// remember keeps a session, in the place of one that nobody has a handle on
// if there are many. The caller holds s.mu.
func (s *Store) remember(on *session) {
	const asked = 64 // Of so many the one goes that was used longest ago.
	if len(s.sessions) >= idle {
		var oldest *session
		n := 0
		for _, other := range s.sessions {
			if other.handles == 0 && (oldest == nil || other.last.Before(oldest.last)) {
				oldest = other
			}
			if n++; n >= asked && oldest != nil {
				break
			}
		}
		if oldest != nil {
			delete(s.sessions, oldest.id)
		}
	}
	s.sessions[on.id] = on
}

// letGo gives a handle back, and forgets a session that is over or of which
// only the disk knows how far it came.
func (s *Store) letGo(on *session) {
	on.mu.Lock()
	over := on.ended || on.broken
	on.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	on.handles--
	on.last = s.now()
	if s.sessions[on.id] == on && over && on.handles == 0 {
		delete(s.sessions, on.id)
	}
}

// dropSessions forgets the uploads of a repository that was removed.
func (s *Store) dropSessions(repo string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, on := range s.sessions {
		if on.repo == repo {
			delete(s.sessions, id)
		}
	}
}

func (on *session) received() int64 {
	on.mu.Lock()
	defer on.mu.Unlock()
	return on.size
}

// ID implements [oci.Upload].
func (u *upload) ID() string { return u.on.id }

// Size implements [oci.Upload].
func (u *upload) Size() int64 { return u.on.received() }

// claim makes this handle the only one that writes.
func (u *upload) claim() error {
	if u.ended {
		return unknownUpload(u.on.repo, u.on.id, fs.ErrClosed)
	}
	if u.owner {
		return nil
	}
	u.on.mu.Lock()
	defer u.on.mu.Unlock()
	switch {
	case u.on.ended:
		return unknownUpload(u.on.repo, u.on.id, nil)
	case u.on.writer != nil, u.on.broken:
		return oci.Errorf(oci.UploadBusy, "another request is writing to upload %s", u.on.id)
	case u.on.size != u.start:
		return oci.Errorf(oci.RangeInvalid, "upload %s has %d bytes, not %d", u.on.id, u.on.size, u.start)
	}
	if err := u.openData(); err != nil {
		return err
	}
	u.owner, u.on.writer = true, u
	return nil
}

func (u *upload) openData() error {
	if u.out != nil {
		return nil
	}
	out, err := u.reopen()
	switch {
	case errors.Is(err, oci.RangeInvalid):
		u.on.broken = true // Memory is wrong: the next request asks the disk.
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, io.ErrUnexpectedEOF):
		u.on.broken = true
		return unknownUpload(u.on.repo, u.on.id, err)
	}
	u.out = out
	return translate(err, oci.BlobUploadUnknown, "go on with upload "+u.on.id)
}

// Write implements [oci.Upload].
func (u *upload) Write(p []byte) (int, error) {
	if err := u.claim(); err != nil {
		return 0, err
	}
	n, err := u.out.Write(p)
	u.on.mu.Lock()
	defer u.on.mu.Unlock()
	u.on.size += int64(n)
	if u.on.hash != nil {
		u.on.hash.Write(p[:n]) // Never fails: package hash.
	}
	if err != nil {
		u.on.broken = true // What is on disk is known again when it is looked at.
	}
	return n, translate(err, oci.BlobUploadUnknown, "write to upload "+u.on.id)
}

// ReadFrom implements [oci.Upload]. What was read before r failed is kept.
func (u *upload) ReadFrom(r io.Reader) (int64, error) {
	total, more, err := u.readPieces(r, &smallPieces, 1)
	if err != nil || !more {
		return total, err
	}
	rest, _, err := u.readPieces(r, &largePieces, math.MaxInt)
	return total + rest, err
}

// readPieces reads up to n pieces and tells whether there may be more.
func (u *upload) readPieces(r io.Reader, pool *sync.Pool, n int) (total int64, more bool, err error) {
	piece := pool.Get().(*[]byte)
	defer pool.Put(piece)
	for range n {
		got, readErr := fill(r, *piece)
		if got > 0 {
			written, err := u.Write((*piece)[:got])
			if total += int64(written); err != nil {
				return total, false, err
			}
		}
		switch {
		case errors.Is(readErr, io.EOF):
			return total, false, nil
		case readErr != nil:
			return total, false, readErr
		}
	}
	return total, true, nil
}

// fill reads until p is full. Unlike io.ReadFull it passes on the errors of r
// as they are, so that a body that was cut off is told from one that ended.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

// Commit implements [oci.Upload].
func (u *upload) Commit(ctx context.Context, d oci.Digest) (oci.Descriptor, error) {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return oci.Descriptor{}, err
	}
	if err := u.claim(); err != nil {
		return oci.Descriptor{}, err
	}
	got, err := u.digest(ctx, d.Algorithm())
	if err != nil {
		return oci.Descriptor{}, translate(err, oci.BlobUploadUnknown, "verify upload "+u.on.id)
	}
	if got != d {
		return oci.Descriptor{}, errors.Join(
			oci.Errorf(oci.DigestInvalid, "the %d bytes received have digest %s, not %s", u.on.size, got, d),
			u.Cancel(ctx))
	}
	if err := u.publish(context.WithoutCancel(ctx), d); err != nil {
		return oci.Descriptor{}, errors.Join(translate(err, oci.BlobUploadUnknown, "store "+at(u.on.repo, d)), u.Cancel(ctx))
	}
	u.end()
	u.s.seen.Add(d, u.on.repo)
	return oci.Descriptor{Digest: d, Size: u.on.size}, nil
}

// digest returns the digest of all that was received.
func (u *upload) digest(ctx context.Context, a digest.Algorithm) (oci.Digest, error) {
	if u.on.hash != nil && u.on.algorithm == a {
		return digest.NewDigest(a, u.on.hash), nil
	}
	f, _, err := u.s.backend.Open(ctx, u.on.key)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return a.FromReader(f)
}

// publish makes the data durable, then visible, then a member.
func (u *upload) publish(ctx context.Context, d oci.Digest) error {
	if err := u.out.Sync(); err != nil { // Before the lock: only this upload waits for its data.
		return err
	}
	info, err := u.s.backend.Stat(ctx, u.on.key)
	if err == nil && info.Size != u.on.size {
		err = fmt.Errorf("%d bytes were received, %d are there", u.on.size, info.Size)
	}
	if err != nil {
		return err
	}
	defer u.s.call()()
	defer u.s.blobs.Lock(string(d))()
	r := u.s.meta.Open(u.on.repo)
	defer r.Close()
	defer u.s.leases.pin("", d)()
	defer u.s.leases.pin(u.on.repo, d)()
	return r.AddBlob(ctx, d, u.out)
}

// Cancel implements [oci.Upload].
func (u *upload) Cancel(context.Context) error {
	if u.ended {
		return nil
	}
	if err := u.claim(); err != nil {
		return err
	}
	defer u.end()
	return translate(u.out.Cancel(), oci.BlobUploadUnknown, "cancel upload "+u.on.id)
}

// Close implements [oci.Upload].
func (u *upload) Close() error {
	if u.ended {
		return nil
	}
	u.ended = true
	defer u.s.letGo(u.on)
	if u.out == nil {
		return nil
	}
	err := u.out.Close()
	u.on.mu.Lock()
	defer u.on.mu.Unlock()
	if u.owner {
		u.on.writer = nil
	}
	return translate(err, oci.BlobUploadUnknown, "keep upload "+u.on.id)
}

// end marks the upload as over for every handle.
func (u *upload) end() {
	u.ended = true
	u.on.mu.Lock()
	u.on.ended, u.on.writer = true, nil
	u.on.mu.Unlock()
	u.s.letGo(u.on)
}
