package ocitest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// breakIt names the way in which the registry of TestReferenceRegistry is
// broken, in the environment of a second process.
const breakIt = "OCITEST_BREAK"

func TestReferenceRegistry(t *testing.T) {
	ocitest.Run(t, func(testing.TB) oci.Registry {
		f := &ocitest.Funcs{Registry: ocitest.NewRegistry()}
		if way, ok := waysToBreak()[os.Getenv(breakIt)]; ok {
			way.do(f)
		}
		return f
	})
}

// TestSuiteFailsBrokenRegistries breaks one promise at a time.
func TestSuiteFailsBrokenRegistries(t *testing.T) {
	for name, way := range waysToBreak() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestReferenceRegistry$")
			cmd.Env = append(os.Environ(), breakIt+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatal("the suite passed")
			}
			if want := strings.ReplaceAll(way.fails, " ", "_"); !bytes.Contains(out, []byte("/"+want+" (")) {
				t.Errorf("the suite does not say %q:\n%.3000s", want, out)
			}
		})
	}
}

type way struct {
	fails string // The sentence that must fail.
	do    func(*ocitest.Funcs)
}

func waysToBreak() map[string]way {
	ways := map[string]way{
		"rewrites manifests": {"a manifest comes back byte for byte by tag and by digest", func(f *ocitest.Funcs) {
			f.OnManifest = func(ctx context.Context, repo, ref string) (oci.Manifest, error) {
				m, err := f.Registry.Manifest(ctx, repo, ref)
				m.Raw = bytes.TrimSpace(m.Raw)
				return m, err
			}
		}},
		"overwrites tags": {"NoOverwrite refuses to move a tag with TAG_EXISTS", func(f *ocitest.Funcs) {
			f.OnPutManifest = func(ctx context.Context, repo string, p oci.Put) (oci.Descriptor, error) {
				p.NoOverwrite = false
				return f.Registry.PutManifest(ctx, repo, p)
			}
		}},
		"overwrites fixed tags": {"a push that Fixed refuses moves none of its tags", func(f *ocitest.Funcs) {
			f.OnPutManifest = func(ctx context.Context, repo string, p oci.Put) (oci.Descriptor, error) {
				p.Fixed = nil
				return f.Registry.PutManifest(ctx, repo, p)
			}
		}},
		"overwrites no tag if one is fixed": {"a tag in Fixed is not moved, others are", func(f *ocitest.Funcs) {
			f.OnPutManifest = func(ctx context.Context, repo string, p oci.Put) (oci.Descriptor, error) {
				p.NoOverwrite = p.NoOverwrite || len(p.Fixed) > 0
				return f.Registry.PutManifest(ctx, repo, p)
			}
		}},
		"deletes a tag that moved": {"DeleteTag of a tag that points elsewhere is TAG_MOVED", func(f *ocitest.Funcs) {
			f.OnDeleteTag = func(ctx context.Context, repo, tag string, _ oci.Digest) error {
				return f.Registry.DeleteTag(ctx, repo, tag, "")
			}
		}},
		"mounts from anywhere": {"a mount from a repository without the blob becomes an upload", func(f *ocitest.Funcs) {
			f.OnMountBlob = func(ctx context.Context, repo, _ string, d oci.Digest) (oci.Upload, error) {
				return f.Registry.MountBlob(ctx, repo, "", d)
			}
		}},
		"finds uploads by prefix": {"an upload of another repository is unknown here", func(f *ocitest.Funcs) {
			f.OnUpload = func(ctx context.Context, repo, id string, o oci.UploadOptions) (oci.Upload, error) {
				up, err := f.Registry.Upload(ctx, repo, id, o)
				if err != nil && id != "" {
					return f.Registry.Upload(ctx, "team/app", id, o)
				}
				return up, err
			}
		}},
		"deletes below": {"DeleteRepo leaves repositories whose names continue its name", func(f *ocitest.Funcs) {
			f.OnDeleteRepo = func(ctx context.Context, repo string) error {
				err := f.Registry.DeleteRepo(ctx, repo)
				for name := range f.Registry.Repos(ctx, repo+"/") {
					if err == nil && strings.HasPrefix(name, repo+"/") {
						err = f.Registry.DeleteRepo(ctx, name)
					}
				}
				return err
			}
		}},
	}
	breakBlobs(ways)
	breakLists(ways)
	return ways
}

func breakBlobs(ways map[string]way) {
	ways["knows blobs of all repositories"] = way{"a blob of another repository is unknown here", func(f *ocitest.Funcs) {
		f.OnStatBlob = func(ctx context.Context, repo string, d oci.Digest) (oci.Descriptor, error) {
			desc, err := f.Registry.StatBlob(ctx, repo, d)
			if err != nil {
				return f.Registry.StatBlob(ctx, "team/app/below", d)
			}
			return desc, err
		}
	}}
	ways["keeps what has the wrong digest"] = way{"Commit with the wrong digest is DIGEST_INVALID and leaves nothing", func(f *ocitest.Funcs) {
		f.OnUpload = func(ctx context.Context, repo, id string, o oci.UploadOptions) (oci.Upload, error) {
			up, err := f.Registry.Upload(ctx, repo, id, o)
			return trusting{up}, err
		}
	}}
	ways["cuts readers"] = way{"a blob may be read from anywhere", func(f *ocitest.Funcs) {
		f.OnBlob = func(ctx context.Context, repo string, d oci.Digest) (oci.BlobReader, error) {
			b, err := f.Registry.Blob(ctx, repo, d)
			if err == nil {
				b.ReadSeekCloser = forward{b.ReadSeekCloser}
			}
			return b, err
		}
	}}
}

// trusting takes any digest for that of the content.
type trusting struct{ oci.Upload }

func (u trusting) Commit(ctx context.Context, d oci.Digest) (oci.Descriptor, error) {
	desc, err := u.Upload.Commit(ctx, d)
	if err != nil && d.Validate() == nil {
		return oci.Descriptor{Digest: d}, nil
	}
	return desc, err
}

// forward does not go back.
type forward struct{ io.ReadSeekCloser }

func (r forward) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekStart && offset == 0 {
		return 0, fmt.Errorf("cannot go back")
	}
	return r.ReadSeekCloser.Seek(offset, whence)
}

func breakLists(ways map[string]way) {
	ways["walks directories"] = way{"the catalogue lists repositories in bytewise order of the full name", func(f *ocitest.Funcs) {
		f.OnRepos = func(ctx context.Context, after string) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				var names []string
				for name := range f.Registry.Repos(ctx, after) {
					names = append(names, name)
				}
				slices.SortFunc(names, func(a, b string) int { return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/")) })
				for _, name := range names {
					if !yield(name, nil) {
						return
					}
				}
			}
		}
	}}
	ways["ignores the artifact type"] = way{"an artifact type keeps only its referrers", func(f *ocitest.Funcs) {
		f.OnReferrers = func(ctx context.Context, repo string, d oci.Digest, _ string) iter.Seq2[oci.Descriptor, error] {
			return f.Registry.Referrers(ctx, repo, d, "")
		}
	}}
	ways["has tags of unknown repositories"] = way{"the tags of an unknown repository are NAME_UNKNOWN", func(f *ocitest.Funcs) {
		f.OnTags = func(ctx context.Context, repo, after string) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				for tag, err := range f.Registry.Tags(ctx, repo, after) {
					if err != nil || !yield(tag, nil) {
						return
					}
				}
			}
		}
	}}
}
