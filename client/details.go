package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"slices"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
)

const (
	ahead     = 8       // How many tags are looked at at the same time.
	maxConfig = 1 << 20 // Of the image configs that are read for their date.
	maxDepth  = 8       // Of indexes within indexes.
)

// TagDetails lists the tags of repo with what is known of each. Regctl serve is
// asked for a page of them at a time; behind a proxy that keeps its greeting
// from us it is like others, for nobody else is asked for what only it has. Of
// others each tag is resolved, and each
// different manifest read once with its children and configs, several ahead;
// they do not tell when a tag was pushed. A tag that is gone by then has only
// its name set, and one whose manifest is of a kind that nobody knows only its
// name and Manifest.
// Errors: [oci.NameUnknown].
func (c *Client) TagDetails(ctx context.Context, repo, after string) iter.Seq2[oci.TagDetail, error] {
	return func(yield func(oci.TagDetail, error) bool) {
		ours, err := c.has(ctx, listsDetails)
		switch {
		case err != nil:
			yield(oci.TagDetail{}, err)
		case ours:
			inRepo(ctx, c, repo, "/_regctl/tags", after, decodeDetail)(yield)
		default:
			c.gatherDetails(ctx, repo, after, yield)
		}
	}
}

// MayTellFirst is false if the registry has greeted us as one of which
// [Client.FirstTagDetails] can tell nothing. It sends no request but the one
// that every other call begins with.
func (c *Client) MayTellFirst(ctx context.Context) bool {
	if _, err := c.connect(ctx); err != nil {
		return false
	}
	c.traits.mu.Lock()
	defer c.traits.mu.Unlock()
	return !c.traits.asked || slices.Contains(c.traits.extensions, listsDetails)
}

// isForeign tells whether err may come from a registry that has not heard of
// what it was asked, rather than from one that is in trouble.
func isForeign(err error) bool {
	switch oci.AsError(err).Code {
	case oci.Unavailable, oci.TooManyRequests, oci.NameInvalid:
		return false
	}
	return !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// found is a detail, or why there is none.
type found struct {
	oci.TagDetail

	err error
}

// gatherDetails makes the details of what every registry tells, in order.
func (c *Client) gatherDetails(ctx context.Context, repo, after string, yield func(oci.TagDetail, error) bool) {
	ctx, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel()
	g := &gathering{c: c, repo: repo, known: map[oci.Digest]*detail{}}
	queue := make(chan chan found, ahead)
	workers.Go(func() {
		defer close(queue)
		for tag, err := range c.Tags(ctx, repo, after) {
			next := make(chan found, 1)
			select {
			case queue <- next:
			case <-ctx.Done():
				return
			}
			if err != nil {
				next <- found{err: err}
				return
			}
			workers.Go(func() { next <- g.tag(ctx, tag) })
		}
	})
	for next := range queue {
		if f := <-next; !yield(f.TagDetail, f.err) || f.err != nil {
			return
		}
	}
	if err := ctx.Err(); err != nil {
		yield(oci.TagDetail{}, err)
	}
}

// gathering describes the manifests of one repository, each once.
type gathering struct {
	c    *Client
	repo string

	mu    sync.Mutex
	known map[oci.Digest]*detail
}

// detail is what can be told of a manifest.
type detail struct {
	done      chan struct{} // Closed when the rest is set.
	err       error
	size      int64
	created   time.Time
	platforms []oci.Platform
}

func (g *gathering) tag(ctx context.Context, tag string) found {
	desc, err := g.c.Resolve(ctx, g.repo, tag)
	if errors.Is(err, oci.ManifestUnknown) {
		return found{TagDetail: oci.TagDetail{Tag: tag}}
	}
	if err != nil {
		return found{err: err}
	}
	d := g.describe(ctx, desc.Digest)
	return found{err: d.err, TagDetail: oci.TagDetail{Tag: tag, Manifest: desc, Size: d.size, Created: d.created, Platforms: d.platforms}}
}

// describe describes a manifest, or waits for who does.
func (g *gathering) describe(ctx context.Context, of oci.Digest) *detail {
	g.mu.Lock()
	d, ok := g.known[of]
	if !ok {
		d = &detail{done: make(chan struct{})}
		g.known[of] = d
	}
	g.mu.Unlock()
	if ok {
		<-d.done
		return d
	}
	defer close(d.done)
	w := &detailWalk{gathering: g, detail: d, seen: map[oci.Digest]bool{}}
	if d.err = w.manifest(ctx, of, 0); d.created.IsZero() {
		d.created = w.annotated
	}
	if errors.Is(d.err, oci.ManifestUnknown) {
		d.err = nil // It went after its tag was resolved.
	}
	return d
}

// detailWalk adds up a manifest with all it names, each digest once.
type detailWalk struct {
	*gathering
	*detail

	seen      map[oci.Digest]bool
	annotated time.Time // Where no config tells.
}

func (w *detailWalk) add(d oci.Descriptor) {
	if !w.seen[d.Digest] {
		w.seen[d.Digest] = true
		w.size += d.Size
	}
}

func (w *detailWalk) manifest(ctx context.Context, d oci.Digest, depth int) error {
	raw, err := w.body(ctx, d)
	if err != nil {
		return err
	}
	g, err := oci.ParseManifest("", raw)
	if err != nil || depth > maxDepth {
		return nil
	}
	w.add(oci.Descriptor{Digest: d, Size: int64(len(raw))})
	if at, err := time.Parse(time.RFC3339, g.Annotations[ocispec.AnnotationCreated]); err == nil && at.After(w.annotated) {
		w.annotated = at
	}
	if !g.IsIndex() {
		return w.image(ctx, g)
	}
	for _, child := range g.Manifests {
		if w.seen[child.Digest] {
			continue
		}
		if err := w.manifest(ctx, child.Digest, depth+1); err != nil && !errors.Is(err, oci.ManifestUnknown) {
			return err
		}
	}
	return nil
}

// image adds an image. Its config tells when and for what it was made; that of
// an artifact or an attestation tells nothing.
func (w *detailWalk) image(ctx context.Context, g *oci.Graph) error {
	w.add(g.Config)
	for _, l := range g.Layers {
		w.add(l)
	}
	var config struct {
		oci.Platform
		Created time.Time `json:"created"`
	}
	raw, err := w.config(ctx, g.Config)
	if err != nil {
		return err
	}
	if json.Unmarshal(raw, &config) != nil {
		return nil
	}
	if config.Created.After(w.created) {
		w.created = config.Created
	}
	if config.OS != "" && config.OS != "unknown" {
		w.platforms = append(w.platforms, config.Platform)
	}
	return nil
}

// body reads a manifest, which another run may have kept.
func (w *detailWalk) body(ctx context.Context, d oci.Digest) ([]byte, error) {
	if raw, ok := w.c.cached(d); ok {
		return raw, nil
	}
	m, err := w.c.getManifest(ctx, w.repo, string(d))
	return m.Raw, err
}

// config reads the config of an image; nothing if it is missing or too large.
func (w *detailWalk) config(ctx context.Context, d oci.Descriptor) ([]byte, error) {
	if d.Size > maxConfig {
		return nil, nil
	}
	if raw, ok := w.c.cached(d.Digest); ok {
		return raw, nil
	}
	b, err := w.c.Blob(ctx, w.repo, d.Digest)
	if errors.Is(err, oci.BlobUnknown) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer b.Close()
	if b.Descriptor.Size > maxConfig {
		return nil, nil
	}
	raw, err := io.ReadAll(b)
	if err != nil {
		return nil, err
	}
	w.c.keep(d.Digest, raw)
	return raw, nil
}
