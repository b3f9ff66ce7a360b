package ocitest

import (
	"context"
	"io"
	"iter"
	"sync"

	"github.com/regctl/regctl/client/oci"
)

// Fault says which call fails and how. Methods are called as in
// [oci.Registry], those of an upload "Upload.Write", "Upload.ReadFrom",
// "Upload.Commit" and "Upload.Cancel".
type Fault struct {
	Method string // Empty: any.
	Repo   string // Empty: any.
	N      int    // Which of the calls that match, from 1; 0: all of them.
	Err    error

	// After lets so many bytes of Blob or Upload.ReadFrom, or items of a
	// list, pass before Err. 0: it fails at once.
	After int
	// Late makes the call and loses its answer: Err comes although it is
	// done. It does not go with After.
	Late bool
}

// FaultyRegistry is a Registry some of whose calls fail; see [Faulty].
type FaultyRegistry struct {
	Funcs
	mu     sync.Mutex
	faults []Fault
	seen   []int // Calls that matched, by fault.
	calls  []string
}

// Faulty returns a Registry that does what reg does but for the faults. The
// first fault that applies to a call decides. A fault whose N has passed does
// nothing any more, so that a script is a list of faults.
func Faulty(reg oci.Registry, faults ...Fault) *FaultyRegistry {
	f := &FaultyRegistry{Funcs: Funcs{Registry: reg}, faults: faults, seen: make([]int, len(faults))}
	f.reads(reg)
	f.writes(reg)
	f.deletes(reg)
	f.lists(reg)
	return f
}

// Calls returns the calls made so far as "Method repo", in order.
func (f *FaultyRegistry) Calls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string{}, f.calls...)
}

// match notes a call and returns the fault that applies to it; without one,
// its Err is nil.
func (f *FaultyRegistry) match(method, repo string) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, method+" "+repo)
	var found Fault
	for i, fault := range f.faults {
		if fault.Method != "" && fault.Method != method || fault.Repo != "" && fault.Repo != repo {
			continue
		}
		f.seen[i]++
		if found.Err == nil && (fault.N == 0 || fault.N == f.seen[i]) {
			found = fault
		}
	}
	return found
}

// do makes a call that either fails or does not.
func do[T any](f *FaultyRegistry, method, repo string, call func() (T, error)) (T, error) {
	var none T
	fault := f.match(method, repo)
	if fault.Err != nil && !fault.Late {
		return none, fault.Err
	}
	v, err := call()
	if err == nil && fault.Err != nil {
		return none, fault.Err
	}
	return v, err
}

func (f *FaultyRegistry) reads(reg oci.Registry) {
	f.OnResolve = func(ctx context.Context, repo, ref string) (oci.Descriptor, error) {
		return do(f, "Resolve", repo, func() (oci.Descriptor, error) { return reg.Resolve(ctx, repo, ref) })
	}
	f.OnManifest = func(ctx context.Context, repo, ref string) (oci.Manifest, error) {
		return do(f, "Manifest", repo, func() (oci.Manifest, error) { return reg.Manifest(ctx, repo, ref) })
	}
	f.OnStatBlob = func(ctx context.Context, repo string, d oci.Digest) (oci.Descriptor, error) {
		return do(f, "StatBlob", repo, func() (oci.Descriptor, error) { return reg.StatBlob(ctx, repo, d) })
	}
	f.OnBlob = func(ctx context.Context, repo string, d oci.Digest) (oci.BlobReader, error) {
		fault := f.match("Blob", repo)
		if fault.Err != nil && fault.After == 0 {
			return oci.BlobReader{}, fault.Err
		}
		b, err := reg.Blob(ctx, repo, d)
		if err == nil && fault.Err != nil {
			b.ReadSeekCloser = &brokenReader{b.ReadSeekCloser, fault.After, fault.Err}
		}
		return b, err
	}
}

// brokenReader fails once left bytes were read, wherever they were.
type brokenReader struct {
	io.ReadSeekCloser
	left int
	err  error
}

func (r *brokenReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, r.err
	}
	n, err := r.ReadSeekCloser.Read(p[:min(len(p), r.left)])
	r.left -= n
	return n, err
}

func (f *FaultyRegistry) writes(reg oci.Registry) {
	f.OnPutManifest = func(ctx context.Context, repo string, p oci.Put) (oci.Descriptor, error) {
		return do(f, "PutManifest", repo, func() (oci.Descriptor, error) { return reg.PutManifest(ctx, repo, p) })
	}
	f.OnMountBlob = func(ctx context.Context, repo, from string, d oci.Digest) (oci.Upload, error) {
		return f.upload(repo)(do(f, "MountBlob", repo, func() (oci.Upload, error) { return reg.MountBlob(ctx, repo, from, d) }))
	}
	f.OnUpload = func(ctx context.Context, repo, id string, o oci.UploadOptions) (oci.Upload, error) {
		return f.upload(repo)(do(f, "Upload", repo, func() (oci.Upload, error) { return reg.Upload(ctx, repo, id, o) }))
	}
}

func (f *FaultyRegistry) upload(repo string) func(oci.Upload, error) (oci.Upload, error) {
	return func(up oci.Upload, err error) (oci.Upload, error) {
		if up == nil || err != nil {
			return nil, err
		}
		return &faultyUpload{up, f, repo}, nil
	}
}

type faultyUpload struct {
	oci.Upload
	f    *FaultyRegistry
	repo string
}

func (u *faultyUpload) Write(p []byte) (int, error) {
	return do(u.f, "Upload.Write", u.repo, func() (int, error) { return u.Upload.Write(p) })
}

func (u *faultyUpload) ReadFrom(r io.Reader) (int64, error) {
	fault := u.f.match("Upload.ReadFrom", u.repo)
	if fault.Err == nil {
		return u.Upload.ReadFrom(r)
	}
	if !fault.Late {
		r = io.LimitReader(r, int64(fault.After))
	}
	n, err := u.Upload.ReadFrom(r)
	if err != nil {
		return n, err
	}
	return n, fault.Err
}

func (u *faultyUpload) Commit(ctx context.Context, d oci.Digest) (oci.Descriptor, error) {
	return do(u.f, "Upload.Commit", u.repo, func() (oci.Descriptor, error) { return u.Upload.Commit(ctx, d) })
}

func (u *faultyUpload) Cancel(ctx context.Context) error {
	return u.f.done("Upload.Cancel", u.repo, func() error { return u.Upload.Cancel(ctx) })
}

// done makes a call that returns nothing but an error.
func (f *FaultyRegistry) done(method, repo string, call func() error) error {
	_, err := do(f, method, repo, func() (struct{}, error) { return struct{}{}, call() })
	return err
}

func (f *FaultyRegistry) deletes(reg oci.Registry) {
	f.OnDeleteTag = func(ctx context.Context, repo, tag string, was oci.Digest) error {
		return f.done("DeleteTag", repo, func() error { return reg.DeleteTag(ctx, repo, tag, was) })
	}
	f.OnDeleteManifest = func(ctx context.Context, repo string, d oci.Digest) error {
		return f.done("DeleteManifest", repo, func() error { return reg.DeleteManifest(ctx, repo, d) })
	}
	f.OnDeleteBlob = func(ctx context.Context, repo string, d oci.Digest) error {
		return f.done("DeleteBlob", repo, func() error { return reg.DeleteBlob(ctx, repo, d) })
	}
	f.OnDeleteRepo = func(ctx context.Context, repo string) error {
		return f.done("DeleteRepo", repo, func() error { return reg.DeleteRepo(ctx, repo) })
	}
}

func (f *FaultyRegistry) lists(reg oci.Registry) {
	f.OnRepos = func(ctx context.Context, after string) iter.Seq2[string, error] {
		return broken(f, "Repos", "", reg.Repos(ctx, after))
	}
	f.OnTags = func(ctx context.Context, repo, after string) iter.Seq2[string, error] {
		return broken(f, "Tags", repo, reg.Tags(ctx, repo, after))
	}
	f.OnTagDetails = func(ctx context.Context, repo, after string) iter.Seq2[oci.TagDetail, error] {
		return broken(f, "TagDetails", repo, reg.TagDetails(ctx, repo, after))
	}
	f.OnReferrers = func(ctx context.Context, repo string, d oci.Digest, artifactType string) iter.Seq2[oci.Descriptor, error] {
		return broken(f, "Referrers", repo, reg.Referrers(ctx, repo, d, artifactType))
	}
}

// broken returns a sequence that may end with a fault each time it is asked.
func broken[T any](f *FaultyRegistry, method, repo string, seq iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		fault, n := f.match(method, repo), 0
		for item, err := range seq {
			if fault.Err != nil && n == fault.After {
				break
			}
			n++
			if !yield(item, err) {
				return
			}
		}
		if fault.Err != nil {
			var none T
			yield(none, fault.Err)
		}
	}
}
