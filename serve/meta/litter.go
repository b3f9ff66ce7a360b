package meta

import (
	"context"
	"iter"
	"time"
)

// The kinds of litter.
const (
	LitterUpload  = "upload"  // An unfinished upload.
	LitterScratch = "scratch" // A file that a crash left before it was whole.
	LitterRemains = "remains" // What is left of a tag, or of a repository that was set aside.
	LitterEmpty   = "empty"   // Directories with nothing in them.
)

// LitterScan is something that no pull can reach.
type LitterScan struct {
	Kind    string
	Repo    string // "" if it is not known to belong to one.
	Key     string
	Size    int64
	Changed time.Time // The latest change of anything in it.
}

// ScanLitter yields litter.
func (m *Meta) ScanLitter(ctx context.Context) iter.Seq2[LitterScan, error] {
	return func(yield func(LitterScan, error) bool) {}
}

// RemoveLitter removes litter unless it was touched since l.Changed:
// [ErrChanged]. It is fs.ErrNotExist if it is gone already.
func (m *Meta) RemoveLitter(ctx context.Context, l LitterScan) error {
	return nil
}
