package store

import (
	"context"
	"errors"
	"io/fs"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/meta"
)

// errChanged says that a fault is not there any more: it is looked for again.
var errChanged = errors.New("changed meanwhile")

// mendable tells whether there is something to mend that was not tried before.
func (c *checker) mendable() bool {
	for key, f := range c.findings {
		if f.mend != mendNothing && c.repaired[key] == nil {
			return true
		}
	}
	return false
}

// repair mends what can be mended and returns how much was. The error is that
// of ctx; what could not be mended stays a fault and says why.
func (c *checker) repair(ctx context.Context) (mended int, err error) {
	for key, f := range c.findings {
		if ctx.Err() != nil {
			return mended, ctx.Err()
		}
		if f.mend == mendNothing || c.repaired[key] != nil {
			continue
		}
		switch err := c.mend(context.WithoutCancel(ctx), f); {
		case err == nil:
			mended++
			f.Repaired, f.CanRepair = true, false
			c.repaired[key] = f
			delete(c.findings, key)
		case errors.Is(err, errChanged):
		default:
			f.CanRepair, f.Action = false, "could not "+f.Action+": "+err.Error()
		}
	}
	return mended, nil
}

func (c *checker) mend(ctx context.Context, f *finding) error {
	if f.mend == mendData {
		return c.setAside(ctx, f)
	}
	if !c.verified(ctx, f.Digest) || f.mend == mendManifest && !c.isManifest(ctx, f.Digest) {
		return errChanged
	}
	// As a push: the bytes stay while this is held, and in a collection that
	// begins meanwhile.
	defer c.s.blobs.Lock(string(f.Digest))()
	c.touch(f)
	defer c.touch(f)
	info, err := c.s.backend.Stat(ctx, meta.BlobKey(f.Digest))
	if err != nil || !c.data.get(f.Digest).isOf(info) {
		return errChanged
	}
	h := c.s.meta.Open(f.Repo)
	defer h.Close()
	var named []oci.Digest
	if f.in != "" {
		named = append(named, f.in)
	}
	defer h.Pin(f.Digest, named)()
	return mendLink(ctx, h, f)
}

func (c *checker) touch(f *finding) {
	c.s.leases.touch(f.Repo, f.Digest)
	c.s.leases.touch("", f.Digest)
}

// mendLink writes the link of a blob or manifest unless that was done, or there
// is no reason for it any more.
func mendLink(ctx context.Context, h *meta.Repo, f *finding) error {
	if f.mend == mendManifest {
		if now, err := h.LookManifest(ctx, f.Digest); now == f.Digest || errors.Is(err, fs.ErrNotExist) {
			return errChanged
		}
		return h.MendManifestLink(ctx, f.Digest)
	}
	now, err := h.LookBlob(ctx, f.Digest)
	if now == f.Digest || f.mend == mendBlob && errors.Is(err, fs.ErrNotExist) {
		return errChanged
	}
	if f.mend == mendMember {
		if _, err := h.LookManifest(ctx, f.in); err != nil {
			return errChanged
		}
	}
	return h.MendBlobLink(ctx, f.Digest)
}

// setAside takes bytes that are wrong out of use. They are read once more
// before: what was read wrong once may have come out of a bad cable.
func (c *checker) setAside(ctx context.Context, f *finding) error {
	d := f.Digest
	e := c.examine(ctx, d, true)
	if e.state != dataWrong && e.state != dataEmpty {
		return errChanged
	}
	defer c.s.blobs.Lock(string(d))()
	if info, err := c.s.backend.Stat(ctx, meta.BlobKey(d)); err != nil || !e.isOf(info) {
		return errChanged
	}
	key, err := c.s.meta.SetAside(ctx, d)
	if err != nil {
		return err
	}
	c.s.forget(d)
	c.s.meta.ForgetBytes(d)
	c.data.put(d, datum{}, nil)
	f.Action = "set the bytes aside: " + key
	return nil
}
