package serve

import (
	"context"
	"io"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/storage/mem"
)

// claims lasts as long as a request, and the protocol has no longer ones.
var claims = ocitest.Exceptions{NoClaims: "a handle on the other end of HTTP claims an upload for one request only"}

// The whole way, from client over HTTP to the store, is a registry as well.
func TestContractThroughHTTP(t *testing.T) {
	t.Parallel()
	ocitest.Run(t, func(t testing.TB) oci.Registry {
		return remote{newServer(t, openStore(t, mem.New()), Options{}).url}
	}, claims)
}

func TestContractThroughHTTPOnDisk(t *testing.T) {
	t.Parallel()
	ocitest.Run(t, func(t testing.TB) oci.Registry {
		b, err := file.Open(t.TempDir(), file.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return remote{newServer(t, openStore(t, b), Options{}).url}
	}, claims)
}

// What is asked of the store and what is asked over HTTP is answered alike.
func TestHistoriesThroughHTTP(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		ocitest.History(t, 100+seed, 200,
			func(testing.TB) oci.Registry { return singly{named{ocitest.NewRegistry()}} },
			func(t testing.TB) oci.Registry {
				return named{remote{newServer(t, openStore(t, mem.New()), Options{}).url}}
			})
	}
}

// named mounts from a repository that is named only: how far others are
// searched is not the same everywhere.
type named struct{ oci.Registry }

func (r named) MountBlob(ctx context.Context, repo, from string, d oci.Digest) (oci.Upload, error) {
	if from == "" {
		from = repo
	}
	return r.Registry.MountBlob(ctx, repo, from, d)
}

// singly is a registry whose handles claim their upload for one call only, as
// those of remote do.
type singly struct{ oci.Registry }

func (s singly) Upload(ctx context.Context, repo, id string, o oci.UploadOptions) (oci.Upload, error) {
	return s.handle(repo)(s.Registry.Upload(ctx, repo, id, o))
}

func (s singly) MountBlob(ctx context.Context, repo, from string, d oci.Digest) (oci.Upload, error) {
	return s.handle(repo)(s.Registry.MountBlob(ctx, repo, from, d))
}

func (s singly) handle(repo string) func(oci.Upload, error) (oci.Upload, error) {
	return func(u oci.Upload, err error) (oci.Upload, error) {
		if u == nil || err != nil {
			return nil, err
		}
		h := &single{Upload: u, reg: s.Registry, repo: repo, size: u.Size()}
		return h, u.Close()
	}
}

type single struct {
	oci.Upload // Closed; it tells the id.

	reg   oci.Registry
	repo  string
	size  int64
	ended bool
}

func (h *single) Size() int64 { return h.size }

// once does something by a handle of its own.
func (h *single) once(ctx context.Context, do func(oci.Upload) error) error {
	if h.ended {
		return oci.BlobUploadUnknown
	}
	u, err := h.reg.Upload(ctx, h.repo, h.ID(), oci.UploadOptions{})
	if err != nil {
		return err
	}
	defer u.Close()
	if u.Size() != h.size {
		return oci.RangeInvalid
	}
	return do(u)
}

func (h *single) Write(p []byte) (n int, err error) {
	err = h.once(context.Background(), func(u oci.Upload) error {
		n, err = u.Write(p)
		h.size += int64(n)
		return err
	})
	return n, err
}

func (h *single) ReadFrom(r io.Reader) (int64, error) { return io.Copy(struct{ io.Writer }{h}, r) }

func (h *single) Commit(ctx context.Context, d oci.Digest) (desc oci.Descriptor, err error) {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return desc, err
	}
	err = h.once(ctx, func(u oci.Upload) error {
		desc, err = u.Commit(ctx, d)
		h.ended = true
		return err
	})
	return desc, err
}

func (h *single) Cancel(ctx context.Context) error {
	if h.ended {
		return nil
	}
	return h.once(ctx, func(u oci.Upload) error { h.ended = true; return u.Cancel(ctx) })
}

func (h *single) Close() error { h.ended = true; return nil }
