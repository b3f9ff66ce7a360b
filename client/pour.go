package client

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/regctl/regctl/client/oci"
)

const (
	smallBlob = 1 << 20 // More than this of a source that can seek is streamed.
	oneChunk  = 8 << 20 // What is kept in memory to be sent, and sent again.
	leastPart = 1 << 16 // No smaller chunk is made, whatever a server says.
	firstRead = 64 << 10
	mostLeast = 64 << 20 // Of what a registry may want to have in one chunk.
)

// chunkSize is how much goes into one request.
func (u *uploading) chunkSize() int {
	size := int64(oneChunk)
	if limit := u.c.traits.limit(); limit > 0 {
		size = min(size, limit)
	}
	return int(max(size, u.least))
}

// chunks reads r piece by piece, each of which stays in memory until the
// registry has it. The last one is held back.
func (u *uploading) chunks(r io.Reader) (total int64, err error) {
	for {
		n, err := u.hold(r, u.chunkSize())
		if total += n; err != nil {
			return total, unlessEOF(err)
		}
		if err := u.flush(); err != nil {
			return max(total-int64(len(u.held)), 0), err
		}
	}
}

func unlessEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// hold reads r until so much is held back. Memory grows with what comes.
func (u *uploading) hold(r io.Reader, most int) (total int64, err error) {
	for len(u.held) < most {
		if len(u.held) == cap(u.held) {
			grown := make([]byte, len(u.held), min(most, max(firstRead, 2*cap(u.held))))
			copy(grown, u.held)
			u.held = grown
		}
		n, err := r.Read(u.held[len(u.held):min(cap(u.held), most)])
		u.held = u.held[:len(u.held)+n]
		if total += int64(n); err != nil {
			return total, err
		}
	}
	return total, nil
}

// flush sends what was held back. After a failure nothing of it is left but
// what the registry has.
func (u *uploading) flush() error {
	held := u.held
	u.held = u.held[:0]
	return u.sendAll(held)
}

// sendAll sends p in as few chunks as the registry takes.
func (u *uploading) sendAll(p []byte) error {
	begin, end := u.size, u.size+int64(len(p))
	for failures := 0; u.size < end; {
		rest := p[u.size-begin:]
		rest = rest[:min(len(rest), u.chunkSize())]
		before := u.size
		f := &feed{source: bytes.NewReader(rest)} // Memory that is used again must not be read after an early answer.
		err := u.patch(int64(len(rest)), func() (io.ReadCloser, error) { return f.open(0) })
		f.stop()
		if u.size > before {
			failures = 0
		}
		if err == nil || u.shrinks(err, int64(len(rest))) {
			continue
		}
		failures++
		if err := u.recover(err, failures, begin, end); err != nil {
			return err
		}
	}
	return nil
}

// errTooLarge is an answer to a chunk that says no more than that.
var errTooLarge = errors.New("the registry takes no request of this size")

// shrinks makes smaller chunks where the registry does not take those of size.
func (u *uploading) shrinks(err error, size int64) bool {
	least := max(leastPart, u.least)
	if !errors.Is(err, errTooLarge) || size <= least {
		return false
	}
	u.c.traits.setLimit(max(min(size/2, oneChunk), least))
	return true
}

// patch appends a chunk of this size. Where the registry says that it has less
// of it, the upload stands there.
func (u *uploading) patch(size int64, body func() (io.ReadCloser, error)) error {
	r := u.request(http.MethodPatch, http.StatusAccepted, http.StatusCreated, http.StatusOK, http.StatusNoContent, http.StatusRequestEntityTooLarge)
	u.fill(&r, size, body)
	resp, err := u.do(r)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusRequestEntityTooLarge {
		return tooLarge(r)
	}
	before := u.size
	u.size += size
	if got, ok := received(resp.Header); ok && got > before && got < u.size {
		u.size = got
	}
	u.sure = true
	return u.follow(resp)
}

func tooLarge(r request) error {
	return &oci.Error{Code: oci.SizeInvalid, Message: fmt.Sprintf("%s: %v: %d bytes", r.subject, errTooLarge, r.size), Err: errTooLarge}
}

// fill gives r a body that belongs where the upload stands.
func (u *uploading) fill(r *request, size int64, body func() (io.ReadCloser, error)) {
	if size == 0 {
		return
	}
	r.body, r.size = body, size
	r.header = http.Header{
		"Content-Type":  {"application/octet-stream"},
		"Content-Range": {fmt.Sprintf("%d-%d", u.size, u.size+size-1)},
	}
}

// recover finds out where an upload stands that failed for the n-th time
// without getting further, and waits a little before it goes on. What can be
// sent again is from begin to end. An upload that has nothing else in it
// begins anew if the registry has lost it.
func (u *uploading) recover(err error, n int, begin, end int64) error {
	code := oci.AsError(err).Code
	passes := code == oci.Unavailable || code == oci.Unknown || u.sure && (code == oci.RangeInvalid || code == oci.BlobUploadInvalid || code == oci.BlobUploadUnknown)
	if !passes || n > maxReopens {
		return missing(err, oci.BlobUploadUnknown)
	}
	if n > 1 {
		if err := u.wait(n); err != nil {
			return err
		}
	}
	resp, stateErr := u.do(u.request(http.MethodGet, http.StatusNoContent, http.StatusOK, http.StatusAccepted))
	if stateErr == nil {
		resp.Body.Close()
		if size, ok := received(resp.Header); ok && size >= begin && size <= end {
			if size == 0 && u.size == 0 && code == oci.RangeInvalid {
				size = 1 // Which looks the same.
			}
			u.size = size
			return u.follow(resp)
		}
	}
	if begin > 0 || !u.sure {
		return missing(err, oci.BlobUploadUnknown)
	}
	if resp, stateErr = u.do(u.c.startRequest(u.repo, nil, u.scope())); stateErr != nil {
		return err
	}
	resp.Body.Close()
	u.size = 0
	return u.follow(resp)
}

// length is how much of a source that can seek is left, and where it stands.
func length(s io.Seeker) (begin, left int64, err error) {
	if begin, err = s.Seek(0, io.SeekCurrent); err != nil {
		return 0, 0, err
	}
	end, err := s.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = s.Seek(begin, io.SeekStart)
	}
	return begin, end - begin, err
}

// stream sends the rest of a source that can go back in one request, and again
// from where the registry stands if that breaks.
func (u *uploading) stream(s io.ReadSeeker, begin, left int64) (int64, error) {
	base, end := u.size, u.size+left
	f := &feed{source: s}
	defer f.stop()
	for failures := 0; u.size < end; {
		before := u.size
		err := u.patch(end-before, func() (io.ReadCloser, error) { return f.open(begin + before - base) })
		f.stop()
		if u.size > before {
			failures = 0
		}
		switch {
		case err == nil:
			continue
		case f.err != nil: // Nothing that is sent again would be more.
			_ = u.recover(err, 1, base, end)
			return max(u.size-base, 0), f.err
		case isAverse(err) && u.c.traits.limit() == 0:
			u.c.traits.setLimit(oneChunk)
			err = nil
			if _, seekErr := s.Seek(begin+u.size-base, io.SeekStart); seekErr == nil {
				_, err = u.chunks(io.LimitReader(s, end-u.size))
			}
			return u.Size() - base, err
		}
		failures++
		if err := u.recover(err, failures, base, end); err != nil {
			return max(u.size-base, 0), err
		}
	}
	_, err := s.Seek(begin+left, io.SeekStart)
	return left, err
}

// isAverse tells whether a registry refuses a request for its form or size.
func isAverse(err error) bool {
	for _, code := range []oci.Code{oci.SizeInvalid, oci.BlobUploadInvalid, oci.RangeInvalid, oci.Unsupported} {
		if errors.Is(err, code) {
			return true
		}
	}
	return errors.Is(err, errTooLarge)
}

// feed is a source as the body of one request after the other. Only the one
// opened last reads from it.
type feed struct {
	source io.ReadSeeker

	mu   sync.Mutex
	turn int
	err  error // What source failed with.
}

// feedBody is the body of one request.
type feedBody struct {
	f    *feed
	turn int
}

var errSuperseded = errors.New("the source is read elsewhere")

// open takes the source away from the body that had it.
func (f *feed) open(at int64) (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	if _, err := f.source.Seek(at, io.SeekStart); err != nil {
		f.err = err
		return nil, err
	}
	f.turn++
	return &feedBody{f, f.turn}, nil
}

// stop takes the source away from everybody.
func (f *feed) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turn++
}

func (b *feedBody) Read(p []byte) (int, error) {
	b.f.mu.Lock()
	defer b.f.mu.Unlock()
	if b.turn != b.f.turn {
		return 0, errSuperseded
	}
	n, err := b.f.source.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		b.f.err = err
	}
	return n, err
}

func (b *feedBody) Close() error { return nil }
