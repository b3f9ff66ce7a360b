package transfer

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/regctl/regctl/client/oci"
)

const (
	// smallBlob is the size below which a blob is not asked for before it is
	// sent: a mount from its own repository tells in the same request.
	smallBlob = 1 << 20
	// attempts is how often an upload that broke off is begun or gone on with.
	attempts = 3
	// farewell is how long giving up an upload may take.
	farewell = 5 * time.Second
)

// blob makes a blob a member of its repository.
func (e *execution) blob(ctx context.Context, b *blobNode) error {
	up, there, err := e.begin(ctx, b)
	if err != nil {
		return failed(Destination, "begin blob", b.dst, string(b.desc.Digest), err)
	}
	if !there {
		if err := e.send(ctx, b, up); err != nil {
			return err
		}
	}
	var before int64
	if there {
		before = b.desc.Size
	}
	e.tell(func(r *Report) {
		r.Blobs++
		r.There += before
		e.written[b.desc.Digest] = b.dst
	}, &Event{Kind: BlobDone, Bytes: before})
	return nil
}

// begin finds the blob at the destination, or begins its upload.
func (e *execution) begin(ctx context.Context, b *blobNode) (up oci.Upload, there bool, err error) {
	from, ask := e.from(b)
	if ask {
		_, err := e.dst.call().StatBlob(ctx, b.dst, b.desc.Digest)
		switch {
		case err == nil:
			return nil, true, nil
		case !errors.Is(err, oci.BlobUnknown) && !isMissing(err):
			return nil, false, err
		}
	}
	up, err = e.dst.call().MountBlob(ctx, b.dst, from, b.desc.Digest)
	switch {
	case err == nil:
		return up, up == nil, nil
	case isEnded(err), errors.Is(err, oci.Unavailable), errors.Is(err, oci.TooManyRequests):
		return nil, false, err
	}
	up, err = e.upload(ctx, b, "") // Some registries refuse mounts to those who may push.
	return up, false, err
}

func (e *execution) upload(ctx context.Context, b *blobNode, id string) (oci.Upload, error) {
	return e.dst.call().Upload(ctx, b.dst, id, oci.UploadOptions{Algorithm: b.desc.Digest.Algorithm()})
}

// from tells from which repository to mount a blob, and whether to ask first
// if it is there: for a large one, so that any repository can be named.
func (e *execution) from(b *blobNode) (repo string, ask bool) {
	e.mu.Lock()
	written := e.written[b.desc.Digest]
	e.mu.Unlock()
	switch {
	case written != "":
		return written, false
	case e.same:
		return b.src, false
	case e.writes[b.dst]:
		return "", false
	case b.desc.Size < smallBlob:
		return b.dst, false
	}
	return "", true
}

// send sends a blob. An upload that broke off is gone on with where it is.
func (e *execution) send(ctx context.Context, b *blobNode, up oci.Upload) error {
	digest := string(b.desc.Digest)
	r, err := e.src.call().Blob(ctx, b.src, b.desc.Digest)
	if err != nil {
		e.giveUp(ctx, up)
		return failed(Source, "open blob", b.src, digest, err)
	}
	t := &tally{in: r.ReadSeekCloser, e: e}
	defer func() { _ = t.Close() }() // It was only read.
	for attempt := 1; ; attempt++ {
		_, err := up.ReadFrom(t)
		if err == nil {
			_, err = up.Commit(ctx, b.desc.Digest)
		}
		switch {
		case err == nil:
			return up.Close()
		case t.err != nil:
			e.giveUp(ctx, up)
			return failed(Source, "read blob", b.src, digest, t.err)
		case ctx.Err() != nil, attempt == attempts, errors.Is(err, oci.DigestInvalid):
			e.giveUp(ctx, up)
			return failed(Destination, "write blob", b.dst, digest, err)
		}
		if up, err = e.again(ctx, b, up, t); err != nil {
			return err
		}
	}
}

// again returns a handle on what has arrived of an upload, or on a new one,
// with t where it goes on.
func (e *execution) again(ctx context.Context, b *blobNode, old oci.Upload, t *tally) (oci.Upload, error) {
	id := old.ID()
	_ = old.Close() // It has failed; what counts is what the registry has of it.
	up, err := e.upload(ctx, b, id)
	if err != nil || up.Size() > b.desc.Size {
		up, err = e.upload(ctx, b, "")
	}
	if err != nil {
		return nil, failed(Destination, "begin blob", b.dst, string(b.desc.Digest), err)
	}
	if _, err := t.Seek(up.Size(), io.SeekStart); err != nil {
		e.giveUp(ctx, up)
		return nil, failed(Source, "read blob", b.src, string(b.desc.Digest), err)
	}
	return up, nil
}

// giveUp removes what has arrived of an upload: nobody else knows its id.
func (e *execution) giveUp(ctx context.Context, up oci.Upload) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	_ = up.Cancel(ctx) // The registry collects what is left.
	_ = up.Close()
}

// tally counts the bytes of a blob on their way, and remembers why they could
// not be read.
type tally struct {
	in  io.ReadSeekCloser
	e   *execution
	at  int64
	err error // Of Read, but for its end.
}

func (t *tally) Read(p []byte) (int, error) {
	n, err := t.in.Read(p)
	t.move(t.at + int64(n))
	if err != nil && err != io.EOF {
		t.err = err
	}
	return n, err
}

// Seek lets a part of the blob be sent again.
func (t *tally) Seek(offset int64, whence int) (int64, error) {
	at, err := t.in.Seek(offset, whence)
	if err == nil && whence != io.SeekEnd {
		t.move(at)
		t.err = nil
	}
	return at, err
}

func (t *tally) Close() error { return t.in.Close() }

func (t *tally) move(to int64) {
	n := to - t.at
	t.at = to
	if n != 0 {
		t.e.tell(func(r *Report) { r.Moved += n }, &Event{Kind: Moved, Bytes: n})
	}
}
