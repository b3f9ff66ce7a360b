// Package store is a registry on a disk: an [oci.Registry] over the metadata
// of package meta and the bytes of package storage.
//
// What it acknowledges is durable. Levels are written from the bottom up
// (blob, manifest, tag) and taken away from the top down, so that whatever is
// seen is whole. A blob is a member of a repository only while both its link
// and its bytes are there.
package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage"
)

// Options of [New]. The zero value is ready for use.
type Options struct {
	Log    *slog.Logger // Default: discards.
	Bodies int64        // Bytes of manifests kept in memory. Default: 16 MiB.
	Budget int64        // See [meta.Options].

	// SparseImages accepts images whose blobs are not all in the repository.
	// Indexes may always be sparse.
	SparseImages bool

	// Records are of what was deleted and may be wanted back. Nil: there are
	// none.
	Records Records
	// Since is when this server began: what is older counts as touched then,
	// for nobody knows what was answered before. Zero: nobody was served.
	Since time.Time
	// Lease is for how long at least what was touched stays in any run of
	// [Store.Collect]. Zero: for as long as that run's Older.
	Lease time.Duration
	Now   func() time.Time // Default: time.Now.
	// NoCatalogue is for who serves nobody: see [meta.Options].
	NoCatalogue bool
}

// Store is an [oci.Registry] that keeps what it is given in a
// [storage.Backend]. It must be the only one that changes the backend.
type Store struct {
	backend storage.Backend
	meta    *meta.Meta
	log     *slog.Logger
	sparse  bool
	bodies  *bodies
	records Records
	leases  *leases
	since   time.Time
	lease   time.Duration
	now     func() time.Time
	details *lru.Cache[oci.Digest, detail]
	seen    *lru.Cache[oci.Digest, string] // A repository that a blob was a member of: where to look first.

	// blobs locks the bytes of a blob by digest: for commit, mount, stat, open
	// and removal. It is taken before a repository is opened, never after.
	blobs meta.Locks

	collecting sync.Mutex // Held while a collection is under way.

	mu       sync.Mutex
	sessions map[string]*session
	calls    map[*call]struct{} // Those under way that may have scratch.
}

var _ oci.Registry = (*Store)(nil)

// New returns the registry in b. It reads in the background until ctx is done.
// The error is [meta.ErrForeign] if the store belongs to another product.
func New(ctx context.Context, b storage.Backend, o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Bodies == 0 {
		o.Bodies = 16 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	m, err := meta.New(ctx, b, meta.Options{Log: o.Log, Budget: o.Budget, NoCatalogue: o.NoCatalogue})
	if err != nil {
		return nil, err
	}
	details, err := lru.New[oci.Digest, detail](1 << 13)
	if err != nil {
		return nil, err
	}
	seen, err := lru.New[oci.Digest, string](1 << 13)
	if err != nil {
		return nil, err
	}
	s := &Store{
		backend: b, meta: m, log: o.Log, sparse: o.SparseImages, bodies: newBodies(o.Bodies),
		details: details, seen: seen, sessions: map[string]*session{}, calls: map[*call]struct{}{},
		records: o.Records, leases: newLeases(o.Now, max(o.Lease, usualLease)), since: o.Since, lease: o.Lease, now: o.Now,
	}
	s.leases.from = s.touchesFrom
	return s, nil
}

// translate gives an error of the layers below its code. missing is what a
// missing key means to the caller.
func translate(err error, missing oci.Code, what string) error {
	var known *oci.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	case errors.Is(err, fs.ErrNotExist):
		return &oci.Error{Code: missing, Message: missing.Error() + ": " + what, Err: err}
	case errors.Is(err, meta.ErrCase):
		return &oci.Error{Code: oci.TagInvalid, Message: err.Error(), Err: err}
	case errors.Is(err, storage.ErrFull):
		return &oci.Error{Code: oci.InsufficientStorage, Err: err}
	case errors.Is(err, storage.ErrReadOnly):
		return &oci.Error{Code: oci.Unavailable, Message: "the registry's storage takes no changes", Err: err}
	}
	return fmt.Errorf("%s: %w", what, err)
}

func checkRepoAndDigest(repo string, d oci.Digest) error {
	if err := oci.CheckRepo(repo); err != nil {
		return err
	}
	_, err := oci.ParseDigest(string(d))
	return err
}

func at(repo string, d oci.Digest) string { return repo + "@" + string(d) }
