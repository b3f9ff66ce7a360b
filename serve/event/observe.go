package event

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/state"
)

// Observe returns reg with its changes and pulls told to the endpoints of n.
// Each change is in the outbox, durably, before it is made. A change that
// cannot be noted is made all the same, and told if the process lives on; the
// log says so. Without endpoints reg is returned as it is.
func Observe(reg oci.Registry, n *Notifier) oci.Registry {
	if n == nil || len(n.endpoints) == 0 {
		return reg
	}
	return &observer{Registry: reg, n: n}
}

type observer struct {
	oci.Registry
	n *Notifier
}

// draft is an event to be.
type draft struct {
	action string
	kind   string
	target Target
}

// event completes a draft.
func (n *Notifier) event(ctx context.Context, d draft) Event {
	c := oci.CallerFrom(ctx)
	if t := &d.target; d.action != ActionDelete && t.Digest != "" {
		of := "/manifests/"
		if d.kind == state.KindBlob {
			of = "/blobs/"
		}
		base := c.Base
		if base == "" {
			base = "/"
		}
		t.URL = base + "v2/" + t.Repository + of + string(t.Digest)
	}
	return Event{
		ID: n.o.NewID(), Timestamp: n.o.Now(), Action: d.action, Target: d.target,
		Request: Request{ID: c.RequestID, Addr: c.Addr, Host: c.Host, Method: c.Method, UserAgent: c.UserAgent},
		Actor:   Actor{Name: c.Name}, Source: Source{Addr: n.o.Source, InstanceID: n.instance},
	}
}

// rows returns what is to be kept of drafts: one row for each endpoint that
// wants one.
func (n *Notifier) rows(ctx context.Context, ds ...draft) []state.Event {
	var rows []state.Event
	for _, d := range ds {
		var body []byte
		var e Event
		for _, to := range n.endpoints {
			if slices.Contains(to.IgnoreActions, d.action) || slices.Contains(to.IgnoreMediaTypes, d.target.MediaType) {
				continue
			}
			if body == nil {
				e = n.event(ctx, d)
				var err error
				if body, err = json.Marshal(e); err != nil {
					n.warn(ctx, "cannot write a notification", err)
					break
				}
			}
			rows = append(rows, state.Event{
				At: e.Timestamp, Endpoint: to.Name, Action: d.action, Kind: d.kind,
				Repo: d.target.Repository, Tag: d.target.Tag, Digest: d.target.Digest, Body: body,
			})
		}
	}
	return rows
}

// change makes a change, with the events of it announced before and settled
// after. The caller has locked what it changes. Changed tells of a change
// without an error whether there was one.
func (n *Notifier) change(ctx context.Context, rows []state.Event, do func() (changed bool, err error)) error {
	if len(rows) == 0 { // What nobody is told may undo what somebody is told.
		if n.outbox.WaitingEvents() > 0 {
			n.wrote(ctx, n.outbox.FlushEvents(ctx))
		}
		_, err := do()
		return err
	}
	noted := n.wrote(ctx, n.outbox.Announce(ctx, rows))
	changed, err := do()
	ctx = context.WithoutCancel(ctx)
	switch {
	case err == nil && changed:
		n.happened(rows, noted)
	case err == nil, refused(err):
		n.didNot(rows, noted)
		n.wrote(ctx, n.outbox.FlushEvents(ctx)) // Or it might look done after a crash.
	default: // It may be half done.
		n.sort(ctx, rows, noted)
	}
	return err
}

// sort tells what of a failed change happened all the same.
func (n *Notifier) sort(ctx context.Context, rows []state.Event, noted bool) {
	for i := range rows {
		took, err := tookEffect(ctx, n.layout, rows[i])
		switch {
		case err != nil && noted:
			n.warn(ctx, "cannot tell whether to notify "+rows[i].Endpoint+" of a failed "+rows[i].Action+" in "+rows[i].Repo+"; the next start tries again", err)
		case err != nil:
			n.lost(ctx, "cannot tell whether to notify of a change that failed, nor note it", rows[i])
		case took:
			n.happened(rows[i:i+1], noted)
		default:
			n.didNot(rows[i:i+1], noted)
		}
	}
}

// happened hands events over to be delivered.
func (n *Notifier) happened(rows []state.Event, noted bool) {
	switch {
	case noted:
		n.outbox.Happened(idsOf(rows)...)
	case n.outbox.WaitingEvents() < maxUnwritten:
		n.outbox.Occurred(rows...)
	default:
		for _, r := range rows {
			n.lost(context.Background(), "a notification cannot be written and is lost", r)
		}
		return
	}
	n.count(rows)
	for _, e := range n.endpoints {
		if e.pending() > 0 {
			poke(e.wake)
		}
	}
}

// count counts events that came in.
func (n *Notifier) count(rows []state.Event) {
	for _, r := range rows {
		if e := n.endpoint(r.Endpoint); e != nil {
			e.change(func(s *Stats) { s.Events++; s.Pending++ })
		}
	}
}

func (n *Notifier) didNot(rows []state.Event, noted bool) {
	if noted {
		n.outbox.Done(idsOf(rows)...)
	}
}

func idsOf(rows []state.Event) []int64 {
	ids := make([]int64, len(rows))
	for i := range rows {
		ids[i] = rows[i].ID
	}
	return ids
}

// refused tells whether err says that nothing was changed.
func refused(err error) bool {
	for _, code := range []oci.Code{
		oci.ManifestInvalid, oci.ManifestTooLarge, oci.ManifestBlobUnknown, oci.DigestInvalid, oci.NameInvalid, oci.TagInvalid,
		oci.Unsupported, oci.Unauthorized, oci.Denied, oci.TooManyRequests, oci.BlobUploadUnknown, oci.UploadBusy, oci.RangeInvalid,
		oci.ManifestUnknown, oci.BlobUnknown, oci.NameUnknown, oci.TagMoved,
	} {
		if errors.Is(err, code) {
			return true
		}
	}
	return false
}

// wrote tells whether something could be written, and the log when that
// changes.
func (n *Notifier) wrote(ctx context.Context, err error) bool {
	n.mu.Lock()
	was := n.full
	n.full = err != nil
	n.mu.Unlock()
	switch {
	case err != nil && !was:
		n.o.Log.LogAttrs(ctx, slog.LevelError, "notifications cannot be written: pushes go on, but what is not delivered when the server ends is lost", slog.Any("error", err))
	case err == nil && was:
		n.o.Log.LogAttrs(ctx, slog.LevelInfo, "notifications can be written again")
	}
	return err == nil
}

// pulled notes a pull, unless too much waits already. Who only looks reads
// manifests: a layer is told whatever they say, or nobody would hear of an image
// that is taken away.
func (n *Notifier) pulled(ctx context.Context, d draft) {
	if d.kind == state.KindManifest && oci.CallerFrom(ctx).Look {
		return
	}
	rows := n.rows(ctx, d)
	if len(rows) == 0 {
		return
	}
	if n.outbox.WaitingEvents() >= maxWaiting {
		for _, r := range rows {
			n.endpoint(r.Endpoint).change(func(s *Stats) { s.Dropped++ })
		}
		return
	}
	n.outbox.Occurred(rows...)
	n.count(rows)
}

// Manifest implements [oci.Reader].
func (o *observer) Manifest(ctx context.Context, repo, ref string) (oci.Manifest, error) {
	m, err := o.Registry.Manifest(ctx, repo, ref)
	if err == nil {
		tag := ref
		if oci.IsDigest(ref) {
			tag = ""
		}
		o.n.pulled(ctx, draft{ActionPull, state.KindManifest, o.n.manifest(repo, tag, m.Descriptor, m.Raw)})
	}
	return m, err
}

// manifest returns the target of an event about a manifest.
func (n *Notifier) manifest(repo, tag string, d oci.Descriptor, raw []byte) Target {
	t := Target{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Length: d.Size, Repository: repo, Tag: tag}
	if !n.o.IncludeReferences {
		return t
	}
	if g, err := oci.ParseManifest(d.MediaType, raw); err == nil {
		if !g.IsIndex() {
			t.References = append(t.References, g.Config)
		}
		t.References = append(append(t.References, g.Layers...), g.Manifests...)
	}
	return t
}

// Blob implements [oci.Reader].
func (o *observer) Blob(ctx context.Context, repo string, d oci.Digest) (oci.BlobReader, error) {
	b, err := o.Registry.Blob(ctx, repo, d)
	if err == nil {
		o.n.pulled(ctx, draft{ActionPull, state.KindBlob, blob(repo, d, b.Descriptor.Size)})
	}
	return b, err
}

// blob returns the target of an event about a blob.
func blob(repo string, d oci.Digest, size int64) Target {
	return Target{MediaType: "application/octet-stream", Digest: d, Size: size, Length: size, Repository: repo}
}

// PutManifest implements [oci.Writer].
func (o *observer) PutManifest(ctx context.Context, repo string, p oci.Put) (oci.Descriptor, error) {
	d := oci.Descriptor{MediaType: p.MediaType, Digest: p.Digest, Size: int64(len(p.Raw))}
	g, err := oci.ParseManifest(p.MediaType, p.Raw)
	if err != nil { // It tells better why not.
		return o.Registry.PutManifest(ctx, repo, p)
	}
	d.MediaType = g.MediaType
	if d.Digest == "" {
		d.Digest = digest.FromBytes(p.Raw)
	}
	t := o.n.manifest(repo, "", d, p.Raw)
	ds, things := []draft{}, []string{string(d.Digest)}
	for _, tag := range p.Tags {
		t.Tag = tag
		ds, things = append(ds, draft{ActionPush, state.KindTag, t}), append(things, ":"+tag)
	}
	if len(p.Tags) == 0 {
		ds = append(ds, draft{ActionPush, state.KindManifest, t})
	}
	defer o.n.locks.lock(repo, things...)()
	err = o.n.change(ctx, o.n.rows(ctx, ds...), func() (bool, error) {
		d, err = o.Registry.PutManifest(ctx, repo, p)
		return true, err
	})
	return d, err
}

// MountBlob implements [oci.Writer].
func (o *observer) MountBlob(ctx context.Context, repo, from string, d oci.Digest) (up oci.Upload, err error) {
	source := from
	if source == "" {
		source = repo
	}
	at, err := o.StatBlob(ctx, source, d)
	elsewhere := from != "" && from != repo
	if errors.Is(err, oci.BlobUnknown) && elsewhere { // It may be mounted already.
		at, err = o.StatBlob(ctx, repo, d)
	}
	if errors.Is(err, oci.BlobUnknown) && elsewhere { // Nothing to be mounted: that is not worth a note.
		return o.upload(repo)(o.Registry.Upload(ctx, repo, "", oci.UploadOptions{Algorithm: algorithm(d)}))
	}
	t := blob(repo, d, at.Size)
	t.FromRepository = from
	defer o.n.locks.lock(repo, string(d))()
	err = o.n.change(ctx, o.n.rows(ctx, draft{ActionMount, state.KindBlob, t}), func() (bool, error) {
		up, err = o.upload(repo)(o.Registry.MountBlob(ctx, repo, from, d))
		return up == nil, err
	})
	return up, err
}

func algorithm(d oci.Digest) digest.Algorithm {
	if d, err := oci.ParseDigest(string(d)); err == nil {
		return d.Algorithm()
	}
	return ""
}

// Upload implements [oci.Writer].
func (o *observer) Upload(ctx context.Context, repo, id string, opts oci.UploadOptions) (oci.Upload, error) {
	return o.upload(repo)(o.Registry.Upload(ctx, repo, id, opts))
}

// upload returns what makes the uploads of a repository tell what they bring.
func (o *observer) upload(repo string) func(oci.Upload, error) (oci.Upload, error) {
	return func(up oci.Upload, err error) (oci.Upload, error) {
		if up == nil || err != nil {
			return nil, err
		}
		return &upload{Upload: up, n: o.n, repo: repo}, nil
	}
}

type upload struct {
	oci.Upload
	n    *Notifier
	repo string
}

// Commit implements [oci.Upload].
func (u *upload) Commit(ctx context.Context, d oci.Digest) (done oci.Descriptor, err error) {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return u.Upload.Commit(ctx, d)
	}
	defer u.n.locks.lock(u.repo, string(d))()
	rows := u.n.rows(ctx, draft{ActionPush, state.KindBlob, blob(u.repo, d, u.Size())})
	err = u.n.change(ctx, rows, func() (bool, error) {
		done, err = u.Upload.Commit(ctx, d)
		return true, err
	})
	return done, err
}
