package meta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"time"

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
// could not be looked at.
func (m *Meta) ScanData(ctx context.Context, jobs int) iter.Seq2[DataScan, error] {
	return func(yield func(DataScan, error) bool) {
		for dir, err := range m.dataDirs(ctx) {
			if err != nil {
				if !yield(DataScan{}, err) {
					return
				}
				continue
			}
			for _, r := range m.dataIn(ctx, dir) {
				if !yield(r.DataScan, r.err) {
					return
				}
			}
		}
	}
}

// dataDir is a directory of the data whose digests begin alike.
type dataDir struct{ alg, prefix string }

func (d dataDir) key() string { return path.Join(blobsDir, d.alg, d.prefix) }

func (m *Meta) dataDirs(ctx context.Context) iter.Seq2[dataDir, error] {
	return func(yield func(dataDir, error) bool) {
		for alg, err := range m.backend.List(ctx, blobsDir) {
			if err != nil {
				if !errors.Is(err, fs.ErrNotExist) {
					yield(dataDir{}, fmt.Errorf("list %s: %w", blobsDir, err))
				}
				return
			}
			if _, err := oci.ParseAlgorithm(alg.Name); err != nil || !alg.Dir {
				continue
			}
			for e, err := range m.backend.List(ctx, path.Join(blobsDir, alg.Name)) {
				if errors.Is(err, fs.ErrNotExist) {
					break
				}
				if err != nil {
					err = fmt.Errorf("list %s: %w", path.Join(blobsDir, alg.Name), err)
				}
				if (err != nil || e.Dir && len(e.Name) == 2) && !yield(dataDir{alg.Name, e.Name}, err) {
					return
				}
				if err != nil {
					break
				}
			}
		}
	}
}

type dataResult struct {
	DataScan
	err error
}

func (m *Meta) dataIn(ctx context.Context, dir dataDir) []dataResult {
	var found []dataResult
	for e, err := range m.backend.List(ctx, dir.key()) {
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			found = append(found, dataResult{err: fmt.Errorf("list %s: %w", dir.key(), err)})
			break
		}
		d, err := oci.ParseDigest(dir.alg + ":" + e.Name)
		if err != nil || !e.Dir || e.Name[:2] != dir.prefix {
			continue
		}
		switch info, err := m.backend.Stat(ctx, BlobKey(d)); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			found = append(found, dataResult{err: fmt.Errorf("look at %s: %w", BlobKey(d), err)})
		case !info.Dir:
			found = append(found, dataResult{DataScan: DataScan{Digest: d, Size: info.Size, Written: info.ModTime}})
		}
	}
	return found
}
