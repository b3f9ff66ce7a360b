package gc

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// A Source tells what a store holds. What it yields is a snapshot of each
// thing by itself, not of all at one time: others may write meanwhile. That is
// safe because a [Sweeper] asks again before it removes.
//
// An error that is yielded says what could not be read; the iteration goes on
// after it. Whatever hangs on it is kept.
type Source interface {
	// Data yields all bytes that are kept under digests: of blobs and of
	// manifests. Order and repetition do not matter.
	Data(ctx context.Context) iter.Seq2[Datum, error]

	// Repos yields the name of every repository that has a manifest, a blob, a
	// tag or a deletion record. An error means that there may be others: no
	// link and no data is removed then.
	Repos(ctx context.Context) iter.Seq2[string, error]

	// Repository tells what one repository holds. An error means that it
	// could not be listed: it is frozen, and no link and no data is removed.
	Repository(ctx context.Context, name string) (*Repository, error)

	// Litter yields what no pull can reach, whatever its age, with why it is
	// litter; a [Litter] that was touched lately may be work under way.
	Litter(ctx context.Context) iter.Seq2[Litter, error]
}

// Datum is bytes that a store keeps under a digest.
type Datum struct {
	Digest  oci.Digest
	Size    int64
	Touched time.Time // The latest of its writing, what touched it since, and the start of its server.
}

// Repository is what one repository holds.
type Repository struct {
	Name      string
	Tags      []Pointer
	Manifests []Manifest
	Blobs     []Membership
	// Unlinked are manifests that have no link, though their bytes are there:
	// somebody may link them again. What they name stays with them.
	Unlinked []Manifest
	// Tombs are manifests that were deleted and that a record can bring back;
	// they have no link any more.
	Tombs []Manifest
	// Doubts say what could not be read of it or cannot be made sense of. A
	// repository with any is frozen: all in it stays, with all it may name.
	Doubts []Doubt
}

// Pointer is a tag.
type Pointer struct {
	Tag    string
	Digest oci.Digest
}

// Manifest is a manifest of a repository.
type Manifest struct {
	Digest  oci.Digest   // By which the repository knows it.
	Content oci.Digest   // Under which its bytes are kept; mostly Digest.
	Touched time.Time    // The latest of its bytes, its link, and what touched it since. Of a tomb: when it was deleted.
	Names   []oci.Digest // Config, layers, children.
	Subject oci.Digest   // "" if it has none.
}

// Membership is a blob of a repository.
type Membership struct {
	Digest  oci.Digest
	Content oci.Digest // Under which its bytes are kept; mostly Digest.
	Touched time.Time
}

// Doubt is something that could not be read.
type Doubt struct {
	What string // "revision link sha256:…", "tag latest".
	Err  error
	// AnyData says that what could not be read may name any data of the store,
	// so that no link and no data is removed; otherwise what it may name is in the repository
	// or in Digests.
	AnyData bool
	Digests []oci.Digest
}

// Kind is what sort of thing an [Item] is.
type Kind string

// The kinds, in the order of their removal.
const (
	KindManifest Kind = "manifest" // The link of a manifest in a repository.
	KindBlob     Kind = "link"     // The link of a blob in a repository.
	KindData     Kind = "data"     // Bytes under a digest.
	KindUpload   Kind = "upload"   // An unfinished upload.
	KindScratch  Kind = "scratch"  // A file that a crash left before it was whole.
	KindRemains  Kind = "remains"  // What is left of something removed: tag directories without a tag, old links of tags, directories set aside.
	KindEmpty    Kind = "empty"    // Directories with nothing in them.
)

// Litter is something that no pull can reach.
type Litter struct {
	Kind    Kind   // KindUpload and what follows it.
	Repo    string // "" if it belongs to none.
	Key     string // What the store calls it. Opaque.
	Size    int64
	Touched time.Time // The latest change of anything in it.
}

// Item is one thing that is to go.
type Item struct {
	Kind   Kind
	Repo   string     // Of a manifest or a link.
	Digest oci.Digest // Of a manifest, a link or data.
	Key    string     // Of litter.
	Size   int64      // Bytes that go with it.
	// Seen is its Touched when the plan was made.
	Seen time.Time
}

// ErrBusy says that something was touched since the run began, or is being
// used right now: it stays, with all that hangs on it.
var ErrBusy = errors.New("in use")

// ErrGone says that something is not there any more.
var ErrGone = errors.New("already gone")

// A Sweeper removes. Implementations are safe for concurrent use.
//
// A run of a Sweeper begins before its [Source] is first asked. Whatever is
// touched from then on (uploaded, mounted, pushed again, named by a push,
// answered as present) is busy until the run ends.
type Sweeper interface {
	// Remove removes one thing, durably with everything that must go before
	// what comes next in the order of kinds. Under the lock of the thing it
	// asks again whether it may go. Errors: [ErrBusy], [ErrGone].
	Remove(ctx context.Context, i Item) error
}
