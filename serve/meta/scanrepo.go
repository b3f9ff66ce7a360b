package meta

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage"
)

// RepoScan is what a repository holds on disk, each part in order.
type RepoScan struct {
	Name      string
	Tags      []TagScan
	Manifests []ManifestScan
	Blobs     []BlobScan
	// Errs say what could not be listed, or where there is a link that nothing
	// is known to lead to: there may be more of everything.
	Errs []error
}

// TagScan is a tag. Err says why it cannot be told where it points: it wraps
// [ErrDamaged] if its link says nothing. A client need not be able to use it.
type TagScan struct {
	Tag    string
	Digest oci.Digest
	Moved  time.Time
	Err    error
}

// ManifestScan is a manifest of a repository.
type ManifestScan struct {
	Digest  oci.Digest // By the path of its link.
	Content oci.Digest // What the link says: under which its bytes are kept.
	Linked  time.Time
	Written time.Time // When its bytes were.
	Size    int64
	// MediaType, Names (config, layers, children) and Subject are what it says.
	// If it cannot be parsed, Names is everything in it that looks like a digest.
	MediaType string
	Names     []oci.Digest
	Subject   oci.Digest
	// Err says why it cannot be told what it names: it wraps [ErrDamaged] for a
	// link that is no digest, for bytes that are not those of Content, or are
	// no manifest; [ErrMissing] if its bytes are not there.
	Err error
}

// BlobScan is the membership of a blob. Whether its bytes are there is not
// looked at. Err says why it cannot be told which they are: it wraps
// [ErrDamaged] if the link says nothing.
type BlobScan struct {
	Digest  oci.Digest // By the path of its link.
	Content oci.Digest // What the link says: under which its bytes are kept.
	Linked  time.Time
	Err     error
}

// ScanRepo reads one repository, jobs files at a time. Each part is a snapshot
// by itself. The error is that of ctx or of a name that is none; a repository
// that does not exist has nothing in it.
func (m *Meta) ScanRepo(ctx context.Context, name string, jobs int) (*RepoScan, error) {
	if err := oci.CheckRepo(name); err != nil {
		return nil, err
	}
	s := &repoScan{m: m, RepoScan: RepoScan{Name: name}}
	s.lookAside(ctx)
	s.listTags(ctx)
	revisions := s.listLinks(ctx, revisionDir(name))
	blobs := s.listLinks(ctx, layerDir(name))
	s.Manifests, s.Blobs = make([]ManifestScan, len(revisions)), make([]BlobScan, len(blobs))
	atOnce(ctx, len(s.Tags), jobs, func(i int) { s.tag(ctx, &s.Tags[i]) })
	atOnce(ctx, len(revisions), jobs, func(i int) { s.manifest(ctx, revisions[i], &s.Manifests[i]) })
	atOnce(ctx, len(blobs), jobs, func(i int) { s.blob(ctx, blobs[i], &s.Blobs[i]) })
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.dropAbsent()
	m.families.learn(&s.RepoScan)
	return &s.RepoScan, nil
}

// atOnce calls do with 0 to n-1, jobs at a time, until ctx is done.
func atOnce(ctx context.Context, n, jobs int, do func(i int)) {
	const stride = 16 // More than one at a time costs less than the work itself.
	var next atomic.Int64
	var group errgroup.Group
	for range min(max(jobs, 1), n/stride+1) {
		group.Go(func() error {
			for ctx.Err() == nil {
				from := int(next.Add(stride)) - stride
				if from >= n {
					break
				}
				for i := from; i < min(from+stride, n); i++ {
					do(i)
				}
			}
			return nil
		})
	}
	_ = group.Wait() // None of them fails.
}

type repoScan struct {
	m *Meta
	RepoScan
}

// dirsIn yields the names of the directories in dir. A missing dir has none. A
// symbolic link that cannot be followed is an error: nobody knows what is
// behind it.
func (m *Meta) dirsIn(ctx context.Context, dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for e, err := range m.entriesIn(ctx, dir) {
			if (err != nil || e.Dir) && !yield(e.Name, err) {
				return
			}
		}
	}
}

func (m *Meta) entriesIn(ctx context.Context, dir string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		for e, err := range m.backend.List(ctx, dir) {
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				err = fmt.Errorf("list %s: %w", dir, err)
			} else if e.Link && !e.Dir {
				err = m.followed(ctx, path.Join(dir, e.Name))
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// followed returns an error if key is a symbolic link that leads nowhere.
func (m *Meta) followed(ctx context.Context, key string) error {
	if _, err := storage.Resolve(ctx, m.backend, key); err != nil {
		return fmt.Errorf("%s is a symbolic link that cannot be followed: %w", key, err)
	}
	return nil
}

func (s *repoScan) failed(err error) { s.Errs = append(s.Errs, err) }

// lookAside looks for parts of the repository that somebody set aside, and may
// want back: then it needs what else it has.
func (s *repoScan) lookAside(ctx context.Context) {
	for e, err := range s.m.backend.List(ctx, repoDir(s.Name)) {
		if err != nil || !e.Dir || !strings.HasPrefix(e.Name, "_") || slices.Contains(parts, e.Name) || isAside(e.Name) {
			continue // What cannot be listed is told by ScanRepos.
		}
		name := path.Join(s.Name, e.Name)
		for _, dir := range partDirs(name) {
			if has, err := s.m.hasLink(ctx, dir); err != nil || has {
				s.failed(errors.Join(fmt.Errorf("%s holds links, though it is no part of a repository", repoDir(name)), err))
				break
			}
		}
	}
}

// ownDirsIn is dirsIn that also tells of those that are symbolic links: what is
// removed there may be removed from another repository.
func (s *repoScan) ownDirsIn(ctx context.Context, dir string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for e, err := range s.m.entriesIn(ctx, dir) {
			if err == nil && e.Link && e.Dir {
				s.failed(shared(path.Join(dir, e.Name)))
			}
			if (err != nil || e.Dir) && !yield(e.Name, err) {
				return
			}
		}
	}
}

func (s *repoScan) listTags(ctx context.Context) {
	of := path.Dir(tagsDir(s.Name)) // What the tags and the revisions are in.
	for e, err := range s.m.entriesIn(ctx, of) {
		switch key := path.Join(of, e.Name); {
		case err != nil:
			s.failed(err)
		case e.Dir && e.Link:
			s.failed(shared(key))
		case !e.Dir && (key == tagsDir(s.Name) || key == revisionDir(s.Name)):
			s.failed(noDir(key))
		}
	}
	for tag, err := range s.m.dirsIn(ctx, tagsDir(s.Name)) {
		if err != nil {
			s.failed(err)
			continue
		}
		s.Tags = append(s.Tags, TagScan{Tag: tag})
	}
}

// listLinks returns the digests by which the links below dir are named.
func (s *repoScan) listLinks(ctx context.Context, dir string) []oci.Digest {
	var found []oci.Digest
	for alg, err := range s.ownDirsIn(ctx, dir) {
		if err != nil {
			s.failed(err)
			continue
		}
		for hex, err := range s.ownDirsIn(ctx, path.Join(dir, alg)) {
			if err != nil {
				s.failed(err)
				continue
			}
			d, err := oci.ParseDigest(alg + ":" + hex)
			if err != nil {
				s.stray(ctx, path.Join(dir, alg, hex, "link"))
				continue
			}
			found = append(found, d)
		}
	}
	return found
}

// stray looks at the place of a link whose path is no digest. Nobody can ask
// for it, but if it says one, it may be the only one to say so.
func (s *repoScan) stray(ctx context.Context, key string) {
	if d, _, err := s.m.readLink(ctx, key); err == nil {
		s.failed(fmt.Errorf("%s links %s, where no link is looked for", key, d))
	}
}

func (s *repoScan) tag(ctx context.Context, t *TagScan) {
	d, info, err := s.m.readLink(ctx, tagLink(s.Name, t.Tag))
	t.Digest, t.Moved, t.Err = d, info.ModTime, damage(err)
}

func (s *repoScan) blob(ctx context.Context, d oci.Digest, b *BlobScan) {
	content, info, err := s.m.readLink(ctx, layerLink(s.Name, d))
	*b = BlobScan{Digest: d, Content: content, Linked: info.ModTime, Err: damage(err)}
	if content == d {
		b.Content = d // One string for both.
	}
}

func (s *repoScan) manifest(ctx context.Context, d oci.Digest, f *ManifestScan) {
	content, info, err := s.m.readLink(ctx, revisionLink(s.Name, d))
	*f = ManifestScan{Digest: d, Content: content, Linked: info.ModTime, Err: damage(err)}
	if err != nil {
		return
	}
	if content == d {
		f.Content = d
	}
	raw, data, err := storage.Get(ctx, s.m.backend, BlobKey(content), oci.MaxManifest)
	f.Written, f.Size = data.ModTime, data.Size
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = ErrMissing // And not its link.
		}
		f.Err = fmt.Errorf("bytes of manifest %s: %w", content, damage(err))
		return
	}
	f.describe(raw)
}

// describe tells what raw is, as [Repo.Manifest] does.
func (f *ManifestScan) describe(raw []byte) {
	if g, err := oci.ParseManifest("", raw); err == nil {
		f.MediaType, f.Names = g.MediaType, g.Digests()
		if g.Subject != nil {
			f.Subject = g.Subject.Digest
		}
	} else {
		f.MediaType, f.Names, f.Subject = oci.MediaTypeOf(raw), oci.DigestsIn(raw), subjectIn(raw)
		if f.MediaType == "" {
			f.Err = fmt.Errorf("manifest %s: %w: %w", f.Content, ErrDamaged, err)
		}
	}
	if f.Content.Algorithm().FromBytes(raw) != f.Content {
		f.Err = fmt.Errorf("manifest %s: %w: the %d bytes kept are not its own", f.Content, ErrDamaged, len(raw))
	}
}

// subjectIn returns what a manifest of an unknown kind is about, "" if it does
// not say so as the known ones do.
func subjectIn(raw []byte) oci.Digest {
	var m struct{ Subject struct{ Digest string } }
	if err := json.Unmarshal(raw, &m); err != nil {
		return ""
	}
	d, err := oci.ParseDigest(m.Subject.Digest)
	if err != nil {
		return ""
	}
	return d
}

// dropAbsent drops what has a directory, but no link in it. A trace of it
// stays; those of tags are found anyway.
func (s *repoScan) dropAbsent() {
	absent := func(link string, err error) bool {
		if !errors.Is(err, fs.ErrNotExist) {
			return false
		}
		if link != "" {
			s.m.traces.add(s.Name, path.Dir(link))
		}
		return true
	}
	s.Tags = slices.DeleteFunc(s.Tags, func(t TagScan) bool { return absent("", t.Err) })
	s.Manifests = slices.DeleteFunc(s.Manifests, func(f ManifestScan) bool { return absent(revisionLink(s.Name, f.Digest), f.Err) })
	s.Blobs = slices.DeleteFunc(s.Blobs, func(b BlobScan) bool { return absent(layerLink(s.Name, b.Digest), b.Err) })
}
