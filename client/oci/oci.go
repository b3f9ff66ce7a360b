// Package oci is the vocabulary that every part of regctl shares: names and
// digests by the grammar of the OCI Distribution Specification, manifests as
// graphs, the [Registry] interface, and one table of error codes.
//
// Everything that holds images is a [Registry], near or far: the store on
// disk, a registry behind HTTP, a directory. What wraps one (who may, what is
// told outside) is a function from Registry to Registry.
package oci

import (
	"context"
	"io"
	"iter"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

type (
	// Digest is a content address such as "sha256:2c26…"; see [ParseDigest].
	Digest = digest.Digest
	// Descriptor names content by media type, digest and size.
	Descriptor = ocispec.Descriptor
	// Platform is what an image runs on.
	Platform = ocispec.Platform
)

// Registry is a whole registry. Implementations are safe for concurrent use.
//
// Every method may also return [NameInvalid], [TagInvalid] or [DigestInvalid]
// for an argument that breaks the grammar, [Unauthorized], [Denied],
// [TooManyRequests], [Unavailable] and [Unknown]; the methods list the rest.
// Errors are told apart with [errors.Is] on a [Code].
type Registry interface {
	Reader
	Writer
	Deleter
	Lister
}

// Reader gets content. A ref is a tag or a digest.
type Reader interface {
	// Resolve returns the descriptor of a manifest without its bytes:
	// MediaType, Digest and Size are set.
	// Errors: [ManifestUnknown].
	Resolve(ctx context.Context, repo, ref string) (Descriptor, error)

	// Manifest returns a manifest exactly as it was pushed.
	// Errors: [ManifestUnknown].
	Manifest(ctx context.Context, repo, ref string) (Manifest, error)

	// StatBlob returns the descriptor of a blob that is a member of repo.
	// Errors: [BlobUnknown].
	StatBlob(ctx context.Context, repo string, d Digest) (Descriptor, error)

	// Blob opens a blob that is a member of repo. The caller closes it.
	// Errors: [BlobUnknown].
	Blob(ctx context.Context, repo string, d Digest) (BlobReader, error)
}

// Writer puts content.
type Writer interface {
	// PutManifest stores a manifest and moves p.Tags to it, in order. One that
	// is refused changes nothing.
	// Errors: [ManifestInvalid], [ManifestTooLarge], [DigestInvalid] (the
	// bytes do not have p.Digest), [ManifestBlobUnknown] (a blob it names is
	// not in repo), [TagExists] (p.NoOverwrite), [Unsupported],
	// [InsufficientStorage].
	PutManifest(ctx context.Context, repo string, p Put) (Descriptor, error)

	// MountBlob makes a blob of repository from a member of repo without
	// moving a byte. An empty from means any repository that the caller may
	// pull; not all of them need be searched. A nil Upload says it is done;
	// otherwise the blob was not found and the caller goes on with the upload,
	// or cancels it.
	// Errors: [Unsupported], [InsufficientStorage].
	MountBlob(ctx context.Context, repo, from string, d Digest) (Upload, error)

	// Upload starts an upload if id is empty, or finds the one with that id
	// in repo.
	// Errors: [BlobUploadUnknown], [Unsupported], [InsufficientStorage].
	Upload(ctx context.Context, repo, id string, o UploadOptions) (Upload, error)
}

// Deleter takes content away. It frees no space by itself.
type Deleter interface {
	// DeleteTag removes a tag and nothing else. If was is not empty the tag
	// goes only if it still points there.
	// Errors: [ManifestUnknown], [TagMoved], [Unsupported].
	DeleteTag(ctx context.Context, repo, tag string, was Digest) error

	// DeleteManifest removes a manifest and every tag that points to it.
	// Errors: [ManifestUnknown], [Unsupported] (also while an index of repo
	// names it).
	DeleteManifest(ctx context.Context, repo string, d Digest) error

	// DeleteBlob ends the membership of a blob in repo.
	// Errors: [BlobUnknown], [Unsupported] (also while a manifest of repo
	// names it).
	DeleteBlob(ctx context.Context, repo string, d Digest) error

	// DeleteRepo removes repo with its tags, manifests, blob memberships and
	// unfinished uploads; repositories whose names continue its name stay.
	// Errors: [NameUnknown], [Unsupported].
	DeleteRepo(ctx context.Context, repo string) error
}

// Lister enumerates. Names come in bytewise order of the full name, from the
// first one that follows after, which may be any string. A sequence ends with
// its first error. Ranged over again, it sees what has changed.
type Lister interface {
	// Repos lists the repositories that hold at least one manifest.
	// Errors: [Unsupported] (this registry has no catalogue).
	Repos(ctx context.Context, after string) iter.Seq2[string, error]

	// Tags lists the tags of repo, which is known while it has a manifest or
	// a blob.
	// Errors: [NameUnknown].
	Tags(ctx context.Context, repo, after string) iter.Seq2[string, error]

	// TagDetails lists the tags of repo with what is known of each.
	// Errors: [NameUnknown].
	TagDetails(ctx context.Context, repo, after string) iter.Seq2[TagDetail, error]

	// Referrers lists the manifests of repo whose subject is d, in order of
	// their digests, each with its artifact type and annotations. A non-empty
	// artifactType keeps only those. An unknown repo or d has none.
	Referrers(ctx context.Context, repo string, d Digest, artifactType string) iter.Seq2[Descriptor, error]
}

// BlobReader is an open blob. ReadSeekCloser is an *os.File where it can be,
// so that it may be sent by the kernel.
type BlobReader struct {
	io.ReadSeekCloser
	Descriptor Descriptor // Digest and Size are set.
	ModTime    time.Time  // When it was stored; zero if unknown.
}

// Upload is one handle on an unfinished blob. The data lives under its id
// until Commit or Cancel, or until the registry collects it for its age.
// The first Write, ReadFrom, Commit or Cancel claims the upload: until this
// handle is closed the same calls on other handles fail with [UploadBusy].
// An upload that has grown since this handle was made fails them with
// [RangeInvalid]. A handle is for one goroutine.
type Upload interface { //nolint:interfacebloat // Two of the seven are what io.Copy asks for.
	io.Writer
	io.ReaderFrom

	// ID is unguessable and stays valid over a restart of the registry.
	ID() string

	// Size is the number of bytes received so far: where Write appends.
	Size() int64

	// Commit verifies what was received, makes it durable and a member of the
	// repository, and ends the upload. If it fails, nothing of the upload is
	// left, but that a malformed digest changes nothing.
	// Errors: [DigestInvalid], [BlobUploadUnknown], [UploadBusy],
	// [RangeInvalid], [InsufficientStorage].
	Commit(ctx context.Context, d Digest) (Descriptor, error)

	// Cancel ends the upload and removes its data. It does nothing after
	// Commit or Cancel of this handle.
	Cancel(ctx context.Context) error

	// Close gives the handle back and keeps what was received. It does
	// nothing after Commit or Cancel.
	Close() error
}

// UploadOptions say how an upload begins.
type UploadOptions struct {
	// Algorithm is the digest algorithm that Commit will probably ask for;
	// a wrong guess costs a second reading of the data. Default: sha256.
	Algorithm digest.Algorithm
}

// Put is a manifest on its way in.
type Put struct {
	Digest      Digest   // What Raw must hash to; empty: sha256 of Raw.
	Tags        []string // Moved to the manifest once it is stored.
	MediaType   string   // As the client declared it; empty: told from Raw.
	Raw         []byte   // Stored byte for byte.
	NoOverwrite bool     // Refuse with [TagExists] if one of Tags points elsewhere.
	Fixed       []string // Those of Tags of which that holds in any case.
}

// Keeps tells whether tag must not be moved away from another manifest.
func (p Put) Keeps(tag string) bool { return p.NoOverwrite || slices.Contains(p.Fixed, tag) }

// TagDetail is a tag with what a registry can tell of it without being asked
// again. Zero times are unknown.
type TagDetail struct {
	Tag       string
	Manifest  Descriptor // MediaType, Digest and Size of the manifest.
	Size      int64      // Of all that a pull of every platform would move, in bytes.
	Created   time.Time  // When the image was built, as its config says.
	Pushed    time.Time  // When the tag was last moved.
	Pulled    time.Time  // When the manifest was last read by who uses it.
	Platforms []Platform
}
