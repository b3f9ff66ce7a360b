package meta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/regctl/regctl/client/oci"
)

// DataScan is bytes that are kept under a digest.
type DataScan struct {
	Digest  oci.Digest
	Size    int64
	Written time.Time
}

// ScanData yields all bytes kept under digests, in no order, reading jobs
// directories at a time. What is no digest is passed over. An error says what
// could not be looked at, or that ctx is done.
func (m *Meta) ScanData(ctx context.Context, jobs int) iter.Seq2[DataScan, error] {
	return func(yield func(DataScan, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		found := make(chan []dataResult, jobs)
		done := make(chan struct{})
		go func() {
			defer close(done)
			m.scanData(ctx, max(jobs, 1), found)
			close(found)
		}()
		defer func() {
			cancel()
			for range found { // Nobody may go on reading when this returns.
			}
			<-done
		}()
		for some := range found {
			for _, r := range some {
				if !yield(r.DataScan, r.err) {
					return
				}
			}
		}
		if err := ctx.Err(); err != nil {
			yield(DataScan{}, err)
		}
	}
}

// dataResult is data, or why none could be looked at.
type dataResult struct {
	DataScan
	err error
}

// scanData sends what is in each directory of data.
func (m *Meta) scanData(ctx context.Context, jobs int, found chan<- []dataResult) {
	var group errgroup.Group
	group.SetLimit(jobs)
	for dir, err := range m.dataDirs(ctx) {
		if ctx.Err() != nil {
			break
		}
		if err != nil {
			found <- []dataResult{{err: err}}
			continue
		}
		group.Go(func() error {
			found <- m.dataIn(ctx, dir)
			return nil
		})
	}
	_ = group.Wait() // Errors are among what is found.
}

// dataDir is a directory of the data whose digests begin alike.
type dataDir struct{ alg, prefix string }

func (d dataDir) key() string { return path.Join(blobsDir, d.alg, d.prefix) }

func (m *Meta) dataDirs(ctx context.Context) iter.Seq2[dataDir, error] {
	return func(yield func(dataDir, error) bool) {
		for alg, err := range m.dirsIn(ctx, blobsDir) {
			if err != nil {
				if !yield(dataDir{}, err) {
					return
				}
				continue
			}
			if _, err := oci.ParseAlgorithm(alg); err != nil {
				continue
			}
			for prefix, err := range m.dirsIn(ctx, path.Join(blobsDir, alg)) {
				if (err != nil || len(prefix) == 2) && !yield(dataDir{alg, prefix}, err) {
					return
				}
			}
		}
	}
}

// dataIn returns what is in a directory of data, and leaves a trace of where
// there is none.
func (m *Meta) dataIn(ctx context.Context, dir dataDir) []dataResult {
	var found []dataResult
	n := 0
	for name, err := range m.dirsIn(ctx, dir.key()) {
		n++
		if err != nil {
			found = append(found, dataResult{err: err})
			continue
		}
		d, err := oci.ParseDigest(dir.alg + ":" + name)
		if err != nil || name[:2] != dir.prefix {
			continue
		}
		key := BlobKey(d)
		switch info, err := m.backend.Stat(ctx, key); {
		case errors.Is(err, fs.ErrNotExist):
			m.traces.add("", path.Dir(key))
		case err != nil:
			found = append(found, dataResult{err: fmt.Errorf("look at %s: %w", key, err)})
		case !info.Dir:
			found = append(found, dataResult{DataScan: DataScan{Digest: d, Size: info.Size, Written: info.ModTime}})
		}
	}
	if n == 0 {
		m.traces.add("", dir.key())
	}
	return found
}
