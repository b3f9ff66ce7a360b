package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage"
)

// datum is what is known of the bytes under a digest. Size and time tell
// whether they were replaced since they were looked at.
type datum struct {
	size    int64
	written int64 // In nanoseconds since 1970.
	state   dataState
}

func (e datum) isOf(info storage.Info) bool {
	return e.size == info.Size && e.written == info.ModTime.UnixNano()
}

type dataState uint8

const (
	dataGone   dataState = iota
	dataListed           // There, and not read.
	dataWhole            // Read and right.
	dataWrong
	dataEmpty
	dataUnread
)

// usable tells that nothing speaks against the bytes.
func (s dataState) usable() bool { return s == dataListed || s == dataWhole }

// dataTable holds what is known of all bytes: about 160 bytes each.
type dataTable struct {
	mu      sync.Mutex
	known   map[oci.Digest]datum
	reasons map[oci.Digest]error // Of what could not be read.
}

func (t *dataTable) get(d oci.Digest) datum {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known[d]
}

func (t *dataTable) put(d oci.Digest, e datum, reason error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.reasons, d)
	if reason != nil {
		t.reasons[d] = reason
	}
	if e.state == dataGone {
		delete(t.known, d)
		return
	}
	t.known[d] = e
}

func (t *dataTable) reason(d oci.Digest) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reasons[d]
}

// read returns how many bytes were read to their end.
func (t *dataTable) read() (n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.known {
		if e.state == dataWhole || e.state == dataWrong {
			n += e.size
		}
	}
	return n
}

// bad returns what is there but not usable.
func (t *dataTable) bad() (found []oci.Digest) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for d, e := range t.known {
		if !e.state.usable() {
			found = append(found, d)
		}
	}
	return found
}

// readData lists all bytes and, unless Fast, reads them.
func (c *checker) readData(ctx context.Context) error {
	var digests []oci.Digest
	for e, err := range c.s.meta.ScanData(ctx, c.o.Jobs) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.unlisted = append(c.unlisted, err)
			continue
		}
		state := dataListed
		if isTorn(e.Digest, storage.Info{Size: e.Size}) {
			state = dataEmpty
		}
		c.data.put(e.Digest, datum{e.Size, e.Written.UnixNano(), state}, nil)
		c.seen(e.Written, string(e.Digest))
		digests = append(digests, e.Digest)
		c.bytes += e.Size
		c.progress.tell(CheckList, 1, 0)
	}
	c.files = len(digests)
	if c.o.Fast || ctx.Err() != nil {
		return ctx.Err()
	}
	c.progress.tell(CheckRead, 0, c.bytes)
	var group errgroup.Group
	group.SetLimit(c.o.Jobs)
	for _, d := range digests {
		group.Go(func() error {
			if c.data.get(d).state == dataListed {
				c.examine(ctx, d, true)
			}
			return ctx.Err()
		})
	}
	return group.Wait()
}

// look tells about the bytes of d. What seems wrong is looked at again if it
// was changed since.
func (c *checker) look(ctx context.Context, d oci.Digest) datum {
	e := c.data.get(d)
	if e.state.usable() {
		return e
	}
	info, err := c.s.backend.Stat(ctx, meta.BlobKey(d))
	switch {
	case err == nil && e.state != dataGone && e.isOf(info):
		return e
	case errors.Is(err, fs.ErrNotExist):
		c.data.put(d, datum{}, nil)
		return datum{}
	}
	return c.examine(ctx, d, !c.o.Fast)
}

// sure tells about the bytes of d after they were read, as they are now.
func (c *checker) sure(ctx context.Context, d oci.Digest) datum {
	e := c.data.get(d)
	if info, err := c.s.backend.Stat(ctx, meta.BlobKey(d)); err == nil && e.state > dataListed && e.isOf(info) {
		return e
	}
	return c.examine(ctx, d, true)
}

// isManifest tells whether the bytes of d are right and those of a manifest.
func (c *checker) isManifest(ctx context.Context, d oci.Digest) bool {
	raw, _, err := storage.Get(ctx, c.s.backend, meta.BlobKey(d), oci.MaxManifest)
	return err == nil && d.Algorithm().FromBytes(raw) == d && oci.MediaTypeOf(raw) != ""
}

// verified tells whether the bytes of d were read and are right. They are read
// if that was not done yet.
func (c *checker) verified(ctx context.Context, d oci.Digest) bool {
	e := c.look(ctx, d)
	if e.state == dataListed {
		e = c.examine(ctx, d, true)
	}
	return e.state == dataWhole
}

// examine opens the bytes of d and, if they are to be read, compares them with
// it.
func (c *checker) examine(ctx context.Context, d oci.Digest, read bool) datum {
	e, err := c.examined(ctx, d, read)
	if err != nil && ctx.Err() == nil {
		e.state = dataUnread
	}
	if ctx.Err() == nil { // Else nothing was learnt.
		c.data.put(d, e, err)
	}
	return e
}

func (c *checker) examined(ctx context.Context, d oci.Digest, read bool) (datum, error) {
	f, info, err := c.s.backend.Open(ctx, meta.BlobKey(d))
	if errors.Is(err, fs.ErrNotExist) {
		return datum{}, nil
	}
	if err != nil {
		return datum{state: dataUnread}, err
	}
	defer f.Close()
	e := datum{info.Size, info.ModTime.UnixNano(), dataListed}
	switch {
	case isTorn(d, info):
		e.state = dataEmpty
	case read:
		e.state, err = c.hashed(ctx, d, f)
	}
	return e, err
}

// hashed reads f to its end.
func (c *checker) hashed(ctx context.Context, d oci.Digest, f io.Reader) (dataState, error) {
	buf := c.buffers.Get().(*[]byte)
	defer c.buffers.Put(buf)
	hash := d.Algorithm().Hash()
	for {
		n, err := f.Read(*buf)
		hash.Write((*buf)[:n]) // Never fails: package hash.
		c.progress.tell(CheckRead, int64(n), 0)
		switch {
		case ctx.Err() != nil:
			return dataUnread, ctx.Err()
		case errors.Is(err, io.EOF):
			if fmt.Sprintf("%x", hash.Sum(nil)) != d.Encoded() {
				return dataWrong, nil
			}
			return dataWhole, nil
		case err != nil:
			return dataUnread, err
		}
	}
}

// isAlso tells whether the bytes kept under content are those of d, too, which
// is a digest of another algorithm.
func (c *checker) isAlso(ctx context.Context, content, d oci.Digest) bool {
	f, _, err := c.s.backend.Open(ctx, meta.BlobKey(content))
	if err != nil {
		return true // Another fault says so.
	}
	defer f.Close()
	state, err := c.hashed(ctx, d, f)
	return err != nil || state == dataWhole
}

// checkProgress adds up what is told.
type checkProgress struct {
	mu   sync.Mutex
	show func(CheckProgress)
	now  CheckProgress
}

// tell says that in a phase so much was done, and that there is so much more.
// What is read in a later phase is not told.
func (p *checkProgress) tell(phase CheckPhase, done, more int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if phase == CheckRead && p.now.Phase == CheckRepos {
		return
	}
	if p.now.Phase != phase {
		p.now = CheckProgress{Phase: phase}
	}
	p.now.Total += more
	if p.now.Done += done; p.now.Total > 0 {
		p.now.Done = min(p.now.Done, p.now.Total)
	}
	if p.show != nil {
		p.show(p.now)
	}
}
