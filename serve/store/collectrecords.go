package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/state"
	"github.com/regctl/regctl/serve/storage"
)

// Records tell what was deleted and may be wanted back. A record is written
// before its deletion. A [state.State] is one.
type Records interface {
	// Deleted returns the records of a repository since a time.
	Deleted(ctx context.Context, repo string, since time.Time) ([]state.Deletion, error)
	// DeletedRepos returns the repositories that have any.
	DeletedRepos(ctx context.Context, since time.Time) ([]string, error)
}

// undone tells since when deletions can be undone; false: none can.
func (c *collection) undone() (since time.Time, can bool) {
	return c.o.Now.Add(-c.o.Undo), c.s.records != nil && c.o.Undo > 0
}

// recorded returns the repositories of which something was deleted.
func (c *collection) recorded(ctx context.Context) ([]string, error) {
	since, can := c.undone()
	if !can {
		return nil, nil
	}
	repos, err := c.s.records.DeletedRepos(ctx, since)
	if err != nil {
		return nil, fmt.Errorf("read what was deleted: %w", err)
	}
	return repos, nil
}

// addTombs adds what was deleted of a repository by any of its names. It is
// called once the repository was read: see collection.
func (c *collection) addTombs(ctx context.Context, r *gc.Repository) {
	since, can := c.undone()
	if !can {
		return
	}
	for _, name := range append([]string{r.Name}, c.aliasesOf(r.Name)...) {
		deleted, err := c.s.records.Deleted(ctx, name, since)
		if err != nil {
			r.Doubts = append(r.Doubts, gc.Doubt{What: "records of what was deleted from " + name, Err: err, AnyData: true})
			continue
		}
		for _, d := range deleted {
			c.addTomb(ctx, r, d)
		}
	}
}

func (c *collection) addTomb(ctx context.Context, r *gc.Repository, d state.Deletion) {
	if _, err := oci.ParseDigest(string(d.Digest)); err != nil {
		return // A whole repository: each part of it has a record.
	}
	tomb := gc.Manifest{Digest: d.Digest, Content: d.Digest, Touched: d.At}
	if d.Kind != state.KindBlob {
		raw, err := c.deletedManifest(ctx, d)
		if err != nil {
			r.Doubts = append(r.Doubts, gc.Doubt{What: "deleted manifest " + string(d.Digest), Err: err, AnyData: true})
			return
		}
		tomb.Names = oci.DigestsIn(raw)
	}
	r.Tombs = append(r.Tombs, tomb)
}

// deletedManifest returns the bytes of a manifest that was deleted, none if
// they are nowhere: then nobody can bring it back.
func (c *collection) deletedManifest(ctx context.Context, d state.Deletion) ([]byte, error) {
	if len(d.Raw) > 0 {
		return d.Raw, nil
	}
	raw, _, err := storage.Get(ctx, c.s.backend, meta.BlobKey(d.Digest), oci.MaxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return raw, err
}
