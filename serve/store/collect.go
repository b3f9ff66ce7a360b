package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve/meta"
)

// ErrCollecting says that a collection of the store is under way.
var ErrCollecting = errors.New("a collection is under way")

// usualLease is for how long at least touches are remembered.
const usualLease = time.Hour

// Collect removes what nothing needs, or with dry tells what it would remove,
// while the store is in use or not. The report tells what was done even if
// there is an error: [ErrCollecting], that of ctx, or what could not be
// listed. See [gc.MakePlan] and [gc.Plan.Execute].
func (s *Store) Collect(ctx context.Context, o gc.Options, dry bool) (gc.Report, error) {
	if !s.collecting.TryLock() {
		return gc.Report{}, ErrCollecting
	}
	defer s.collecting.Unlock()
	c := s.beginCollection(o)
	defer s.leases.end()
	report, err := gc.Collect(ctx, c, c, c.o, dry)
	return report, errors.Join(err, c.finish(context.WithoutCancel(ctx)))
}

// collection is a run over a store: what it holds, and what goes.
//
// # Why nothing goes that was acknowledged
//
// A run begins its epoch before it lists anything. What it removes is removed
// by Remove, one thing at a time, with the lock of its digest and its pin in
// the repository held, and doomed: see leases. Whoever answers that something
// is there, or is told to put it there, touches it first, looks or writes
// then, and does both again if the epoch changed meanwhile. So for each thing:
//
//   - Touched in this run before Remove: it is busy. What hangs on it stays as
//     well, for what goes is removed from the top down: links of manifests,
//     links of blobs, data.
//   - Touched before the run: it is listed as young while its lease lasts, and
//     that of a repository lasts as long as an upload to it that goes on.
//   - Touched while it is doomed: the touch waits; then it is not there, which
//     is what the caller is told. It has to bring it, and so to touch it.
//   - Touched after its removal: the same.
//
// What is written in the run may not be in what was listed. It does not need
// to be: it was touched, with all that it names.
//
//   - A push of a manifest touches and pins it, what it names and its subject
//     from before it looks for them until after its tags have moved. It pins
//     the names in the repository too, for which Remove of a link waits. So it
//     either finds them, and they stay, or is refused: MANIFEST_BLOB_UNKNOWN,
//     before anything was written.
//   - A commit or mount touches the link and the data within the lock of the
//     digest, in which data goes too: the data is there when the link is made.
//   - A push may find the bytes of its manifest and not write them: it has the
//     lock of the digest from that look until there is a link.
//   - A tag that moves makes its new manifest touched. That it left another
//     one behind was somebody's wish.
//   - What a client removes in the run is not there any more when it is to be
//     removed: then what hangs on it stays, for there may be a record that
//     brings it back. Records are written before a removal and read after a
//     repository was listed: no manifest is missing from both.
//   - A repository that is removed and pushed again is pushed: all of it is
//     touched.
//   - Scratch is busy while a call is under way that may have made it. The
//     names of scratch are never used twice: what no call has nobody has.
type collection struct {
	s     *Store
	o     gc.Options
	epoch uint32
	lease time.Duration
	// uploading tells by repository since when at the latest what was touched
	// stays, for an upload goes on for which it was answered.
	uploading map[string]time.Time

	mu      sync.Mutex
	aliases map[string][]string
	young   map[uint64]time.Time               // When data was written, by hash, if lately.
	newest  time.Time                          // When data was written last; zero: there is none.
	dropped map[string]map[oci.Digest]struct{} // Manifests, by repository.
}

func (s *Store) beginCollection(o gc.Options) *collection {
	c := &collection{s: s, o: o, lease: s.lease, aliases: map[string][]string{}, young: map[uint64]time.Time{}, dropped: map[string]map[oci.Digest]struct{}{}}
	if c.lease == 0 {
		c.lease = o.Older
	}
	c.epoch = s.leases.begin(c.lease)
	if c.o.Now.IsZero() {
		c.o.Now = s.now()
	}
	c.o.Jobs = max(c.o.Jobs, 1)
	c.uploading = s.uploading(c.lease)
	return c
}

// alive returns after when something must have been touched to stay.
func (c *collection) alive(repo string, now time.Time) time.Time {
	after := now.Add(-c.lease)
	if since, ok := c.uploading[repo]; ok && repo != "" && since.Before(after) {
		return since
	}
	return after
}

// touched returns the latest of when something was written, touched, and the
// start of the server. What stays for longer than o.Older, for a lease or an
// upload, is in the future: young.
func (c *collection) touched(repo string, d oci.Digest, times ...time.Time) time.Time {
	latest := c.s.since
	if t, ok := c.s.leases.last(repo, d); ok {
		times = append(times, t)
	}
	for _, t := range times {
		if t.After(latest) {
			latest = t
		}
	}
	if latest.After(c.alive(repo, c.o.Now)) && c.o.Now.Sub(latest) >= c.o.Older {
		return c.o.Now.Add(time.Second)
	}
	return latest
}

// finish makes durable what was removed, and tidies up after it.
func (c *collection) finish(ctx context.Context) error {
	err := c.s.meta.Settle(ctx)
	for repo, dropped := range c.dropped {
		r := c.s.meta.Open(repo)
		gone := func(d oci.Digest) bool {
			if _, ok := dropped[d]; !ok {
				return false
			}
			_, err := r.Manifest(ctx, d)
			return errors.Is(err, fs.ErrNotExist)
		}
		if err := r.TidyTags(ctx, gone); err != nil {
			c.s.log.Warn("the histories of tags name manifests that are gone", "repo", repo, "error", err)
		}
		r.Close()
	}
	return err
}

// Remove implements [gc.Sweeper].
func (c *collection) Remove(ctx context.Context, i gc.Item) error {
	switch i.Kind {
	case gc.KindManifest, gc.KindBlob:
		return c.removeLink(ctx, i)
	case gc.KindData:
		return c.removeData(ctx, i)
	case gc.KindUpload:
		return c.removeUpload(ctx, i)
	case gc.KindScratch:
		if c.s.mayBeInUse(i.Seen) {
			return gc.ErrBusy
		}
	case gc.KindRemains:
		return c.removeRemains(ctx, i)
	}
	return c.removeLitter(ctx, i)
}

func (c *collection) removeLink(ctx context.Context, i gc.Item) error {
	defer c.s.blobs.Lock(string(i.Digest))()
	r := c.s.meta.Open(i.Repo)
	defer r.Close()
	defer r.Pin(i.Digest, nil)()
	release, ok := c.s.leases.doom(i.Repo, i.Digest, c.epoch, c.alive(i.Repo, c.s.now()))
	if !ok {
		return gc.ErrBusy
	}
	defer release()
	linked, drop := r.BlobLinked, r.DropBlob
	if i.Kind == gc.KindManifest {
		linked, drop = r.ManifestLinked, r.DropManifest
	}
	changed, err := linked(ctx, i.Digest)
	if err == nil && changed.After(i.Seen) {
		return gc.ErrBusy
	}
	if err == nil {
		err = drop(ctx, i.Digest)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return gc.ErrBusy // A client has removed it, and may want it back with all that hangs on it.
	case err != nil:
		return fmt.Errorf("remove %s of %s: %w", i.Digest, i.Repo, err)
	}
	if i.Kind == gc.KindManifest {
		c.noteDropped(i)
	}
	return nil
}

func (c *collection) noteDropped(i gc.Item) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dropped[i.Repo] == nil {
		c.dropped[i.Repo] = map[oci.Digest]struct{}{}
	}
	c.dropped[i.Repo][i.Digest] = struct{}{}
}

func (c *collection) removeData(ctx context.Context, i gc.Item) error {
	defer c.s.blobs.Lock(string(i.Digest))()
	release, ok := c.s.leases.doom("", i.Digest, c.epoch, c.alive("", c.s.now()))
	if !ok {
		return gc.ErrBusy
	}
	defer release()
	info, err := c.s.backend.Stat(ctx, meta.BlobKey(i.Digest))
	if err == nil && info.ModTime.After(i.Seen) {
		return gc.ErrBusy
	}
	if err == nil {
		c.s.forget(i.Digest)
		err = c.s.meta.RemoveData(ctx, i.Digest)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return gc.ErrGone
	case err != nil:
		return fmt.Errorf("remove the data of %s: %w", i.Digest, err)
	}
	return nil
}

// forget drops what memory knows of bytes that go.
func (s *Store) forget(d oci.Digest) {
	s.bodies.remove(d)
	s.details.Remove(d)
	s.seen.Remove(d)
}

// removeUpload removes an upload that no request is writing to. The next one
// is told that there is none.
func (c *collection) removeUpload(ctx context.Context, i gc.Item) error {
	release, ok := c.s.leases.doom("", uploadLease(i.Key), c.epoch, c.s.now())
	if !ok || !c.s.endIdle(i.Key) {
		if ok {
			release()
		}
		return gc.ErrBusy
	}
	defer release()
	return c.removeLitter(ctx, i)
}

// tagsLease is what leases know the tags of a repository by.
const tagsLease oci.Digest = "tags"

// removeRemains removes what is left of a tag while no push is under way that
// may have scratch there, to make it a tag again. A push has no repository
// open when it waits for the end of that: the removal opens it.
func (c *collection) removeRemains(ctx context.Context, i gc.Item) error {
	if i.Repo == "" { // Set aside: nobody writes there.
		return c.removeLitter(ctx, i)
	}
	release, ok := c.s.leases.doom(i.Repo, tagsLease, c.epoch, c.s.now())
	if !ok {
		return gc.ErrBusy
	}
	defer release()
	return c.removeLitter(ctx, i)
}

func (c *collection) removeLitter(ctx context.Context, i gc.Item) error {
	err := c.s.meta.RemoveLitter(ctx, meta.LitterScan{Kind: string(i.Kind), Repo: i.Repo, Key: i.Key, Size: i.Size, Changed: i.Seen})
	switch {
	case errors.Is(err, meta.ErrChanged):
		return gc.ErrBusy
	case errors.Is(err, fs.ErrNotExist):
		return gc.ErrGone
	case err != nil:
		return fmt.Errorf("remove %s: %w", i.Key, err)
	}
	return nil
}
