package store

import (
	"context"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// CheckOptions of [Store.Check]. They go over the wire: a server is asked with
// them.
type CheckOptions struct {
	// Fast looks at the sizes of blobs instead of reading them. Links and
	// manifests are read all the same.
	Fast bool `json:"fast,omitempty"`
	// Repair mends what is provably safe to mend; see [Fault].
	Repair bool `json:"repair,omitempty"`
	// Jobs is how much is read at once. At least 1.
	Jobs int `json:"jobs"`
	// Offline says that nobody else writes to the store, whatever it looks
	// like. It is for whoever sets Approve.
	Offline bool `json:"offline,omitempty"`

	Progress func(CheckProgress) `json:"-"` // Called by one goroutine at a time; may be nil.

	// Approve is called with what was found before anything is repaired; an
	// error ends the check, and is its error. May be nil.
	Approve func(CheckReport) error `json:"-"`
}

// CheckProgress tells how far a check is. Done never falls within a phase, and
// is at most Total unless that is 0: not known.
type CheckProgress struct {
	Phase CheckPhase `json:"phase"`
	Done  int64      `json:"done"`
	Total int64      `json:"total"`
}

// CheckPhase is a part of a check.
type CheckPhase string

// The phases, in their order. With repairs, repositories are read again.
const (
	CheckList  CheckPhase = "list"         // Data is listed; in files.
	CheckRead  CheckPhase = "read"         // Data is read; in bytes. Not if Fast.
	CheckRepos CheckPhase = "repositories" // Repositories are read; in repositories.
)

// FaultKind is what sort of thing is wrong.
type FaultKind string

// What is corrupt. Something that was pushed cannot be pulled as it was.
const (
	FaultData     FaultKind = "wrong-bytes"  // Bytes that do not have the digest they are kept under.
	FaultEmpty    FaultKind = "empty-data"   // No bytes where there must be some.
	FaultMissing  FaultKind = "missing-data" // No bytes at all for a link, or for what a manifest names.
	FaultLink     FaultKind = "damaged-link" // A link that is empty or holds no digest.
	FaultAstray   FaultKind = "wrong-link"   // A link to something else than its name says.
	FaultUnlinked FaultKind = "missing-link" // A manifest names a blob that is not in its repository.
	FaultSize     FaultKind = "wrong-size"   // A manifest gives something a size that it does not have.
	FaultDangling FaultKind = "dangling-tag" // A tag of a manifest that is not in its repository.
	FaultNoType   FaultKind = "no-manifest"  // Bytes that are whole, but no manifest.
	FaultUnread   FaultKind = "unreadable"   // Something could not be read or listed. Not corrupt, for all that is known.
	NoteChild     FaultKind = "sparse-index" // A note: indexes whose children are not all there.
	NoteAlias     FaultKind = "other-digest" // A note: registry:2 keeps bytes under a digest of another algorithm.
	NoteDead      FaultKind = "dead-link"    // A note: links of blobs without bytes that no manifest names.
)

// Level is how bad a fault is.
type Level string

// The levels.
const (
	LevelCorrupt Level = "corrupt"
	LevelUnread  Level = "unread" // Nothing is known of it.
	LevelNote    Level = "note"   // Nothing is wrong.
)

// A Fault is one thing that is wrong, or worth a note.
type Fault struct {
	Kind   FaultKind  `json:"kind"`
	Level  Level      `json:"level"`
	Repo   string     `json:"repo,omitempty"` // "" if it is in none, or in several: see Hurts.
	Tag    string     `json:"tag,omitempty"`
	Digest oci.Digest `json:"digest,omitempty"`
	What   string     `json:"what"` // A sentence without its end.

	// Hurts are images that cannot be pulled whole for it, REPO:TAG, or
	// REPO@DIGEST where no tag leads. There are HurtsMore others.
	Hurts     []string `json:"hurts"`
	HurtsMore int      `json:"hurtsMore,omitempty"`

	// CanRepair says that Repair would do what Action says; Repaired that it
	// was done. Otherwise Action is why not, or what a person can do.
	CanRepair bool   `json:"canRepair,omitempty"`
	Repaired  bool   `json:"repaired,omitempty"`
	Action    string `json:"action,omitempty"`
}

// CheckReport says what a check has seen.
type CheckReport struct {
	Repositories int   `json:"repositories"`
	Tags         int   `json:"tags"`
	Manifests    int   `json:"manifests"`
	Blobs        int   `json:"blobs"` // Memberships of blobs in repositories.
	Data         int   `json:"data"`  // Files of bytes.
	Bytes        int64 `json:"bytes"` // Their size.
	Read         int64 `json:"read"`  // Of these, how many were read and compared with their digests.

	// Newest is the latest change of a link or of bytes, and where it was.
	Newest   time.Time `json:"newest,omitzero"`
	NewestAt string    `json:"newestAt,omitempty"`

	// Faults come by level, those that were repaired after all others, then by
	// repository. Of very many only some are listed; Found counts all, by kind,
	// that were found and not repaired.
	Faults []Fault           `json:"faults"`
	Found  map[FaultKind]int `json:"found"`
	// Repaired is how many were repaired.
	Repaired int `json:"repaired"`
	// Corrupt and Unread are how many faults of these levels are left.
	Corrupt int `json:"corrupt"`
	Unread  int `json:"unread"`
}

// Check reads all that the store holds, on its disk and not from memory, and
// says what is wrong and which images it hurts. Others may push and delete
// meanwhile: what seems wrong is looked at again while nobody can change it.
// The error says why the check did not end; faults are no error.
//
// With Repair it mends links whose bytes are there and right, links blobs that
// an image of the repository names and whose bytes are there and right, and
// sets bytes aside that are not those of their digest, so that they are not
// served and a push can bring the right ones. It deletes nothing.
func (s *Store) Check(ctx context.Context, o CheckOptions) (CheckReport, error) {
	o.Jobs = max(o.Jobs, 1)
	c := newChecker(s, o)
	if err := c.readData(ctx); err != nil {
		return c.report(), err
	}
	for first := true; ; first = false {
		if err := c.readRepos(ctx); err != nil {
			return c.report(), err
		}
		if !o.Repair || !c.mendable() {
			return c.report(), nil
		}
		if r := c.report(); first && o.Approve != nil {
			if err := o.Approve(r); err != nil {
				return r, err
			}
		}
		if n, err := c.repair(ctx); n == 0 || err != nil {
			return c.report(), err
		}
	}
}
