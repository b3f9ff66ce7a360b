//go:build unix

package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/gc"
)

var (
	soakFor  = flag.Duration("soak", 15*time.Second, "how long TestSoak runs")
	soakRace = flag.Bool("soak-race", false, "TestSoak drives a server that is built with the race detector")
)

// soak is a server under pushers, pullers and collections, and what it has
// acknowledged.
type soak struct {
	w      wire
	client *http.Client
	pool   []oci.Descriptor // Layers that images share.
	bytes  map[oci.Digest][]byte
	mu     sync.Mutex
	live   map[string]oci.Digest // By "repo:tag": from the answer to a push until a delete is sent.
	errs   problems
	counts struct{ pushes, retried, skipped, mounted, uploaded, pulls, deletes atomic.Int64 }
}

const soakRepos = 4

// answered is an answer that is no success.
type answered struct {
	what   string
	status int
	body   []byte
}

func (e *answered) Error() string { return fmt.Sprintf("%s: %d %s", e.what, e.status, e.body) }

// retryable tells of answers that ask to begin again: something that was there
// is not there any more.
func retryable(err error) bool {
	var a *answered
	if !errors.As(err, &a) {
		return false
	}
	switch oci.UnmarshalError(a.status, a.body).Code {
	case oci.BlobUnknown, oci.ManifestBlobUnknown, oci.ManifestUnknown, oci.BlobUploadUnknown:
		return true
	}
	return false
}

// ask is a call that must be answered with one of some statuses.
func (k *soak) ask(method, path, contentType string, body []byte, want ...int) (answer, error) {
	if strings.HasPrefix(path, "/") {
		path = k.w.base + path
	}
	req, err := http.NewRequest(method, path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header["Accept"] = oci.ManifestTypes()
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	a := answer{status: resp.StatusCode, header: resp.Header, body: got}
	if err == nil && !slices.Contains(want, a.status) {
		err = &answered{method + " " + path, a.status, a.body}
	}
	return a, err
}

// ensure makes a repository have a blob as docker does it: by asking, by a
// mount, by an upload.
func (k *soak) ensure(repo, from string, d oci.Descriptor, content []byte) error {
	a, err := k.ask(http.MethodHead, "/v2/"+repo+"/blobs/"+string(d.Digest), "", nil, http.StatusOK, http.StatusNotFound)
	if err != nil || a.status == http.StatusOK {
		k.counts.skipped.Add(1)
		return err
	}
	a, err = k.ask(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?from="+from+"&mount="+string(d.Digest), "", nil, http.StatusCreated, http.StatusAccepted)
	if err != nil || a.status == http.StatusCreated {
		k.counts.mounted.Add(1)
		return err
	}
	at := a.header.Get("Location")
	if a, err = k.ask(http.MethodPatch, at, "application/octet-stream", content, http.StatusAccepted); err == nil {
		_, err = k.ask(http.MethodPut, withDigest(a.header.Get("Location"), d.Digest), "", nil, http.StatusCreated)
	}
	k.counts.uploaded.Add(1)
	return err
}

// image pushes an image of layers of the pool and one of its own; ref "": by
// its digest.
func (k *soak) image(random *rand.Rand, repo, ref string, own []byte) (oci.Descriptor, error) {
	from := fmt.Sprintf("team/app%d", random.IntN(soakRepos))
	config := fmt.Appendf(nil, `{"os":"linux","architecture":"amd64","own":%q}`, digest.FromBytes(own))
	blobs := []oci.Descriptor{
		ocitest.Describe("application/vnd.oci.image.config.v1+json", string(config)), ocitest.Describe(layerType, string(own)),
		k.pool[random.IntN(len(k.pool))], k.pool[random.IntN(len(k.pool))],
	}
	for i, content := range [][]byte{config, own, k.bytes[blobs[2].Digest], k.bytes[blobs[3].Digest]} {
		if err := k.ensure(repo, from, blobs[i], content); err != nil {
			return oci.Descriptor{}, err
		}
	}
	return k.manifest(repo, ref, oci.MediaTypeManifest, ocitest.NewImage(blobs[0], blobs[1:]...))
}

func (k *soak) manifest(repo, ref, mediaType string, m any) (oci.Descriptor, error) {
	raw, err := json.Marshal(m)
	if err != nil {
		return oci.Descriptor{}, err
	}
	d := ocitest.Describe(mediaType, string(raw))
	if ref == "" {
		ref = string(d.Digest)
	}
	_, err = k.ask(http.MethodPut, "/v2/"+repo+"/manifests/"+ref, mediaType, raw, http.StatusCreated)
	return d, err
}

// push pushes an image or an index of two under a tag.
func (k *soak) push(random *rand.Rand, repo, tag string, own []byte) (oci.Digest, error) {
	if own[0]%4 > 0 {
		d, err := k.image(random, repo, tag, own)
		return d.Digest, err
	}
	var children []oci.Descriptor
	for i := range 2 {
		d, err := k.image(random, repo, "", append([]byte{byte(i)}, own...))
		if err != nil {
			return "", err
		}
		d.Platform = &oci.Platform{OS: "linux", Architecture: []string{"amd64", "arm64"}[i]}
		children = append(children, d)
	}
	d, err := k.manifest(repo, tag, oci.MediaTypeIndex, ocitest.NewIndex(children...))
	return d.Digest, err
}

// pushAgain pushes, and if it is told to, once more from the beginning.
func (k *soak) pushAgain(random *rand.Rand, repo, tag string, own []byte) (oci.Digest, error) {
	k.counts.pushes.Add(1)
	d, err := k.push(random, repo, tag, own)
	if retryable(err) {
		k.counts.retried.Add(1)
		d, err = k.push(random, repo, tag, own)
	}
	return d, err
}

func (k *soak) set(name string, d oci.Digest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if d == "" {
		delete(k.live, name)
		return
	}
	k.live[name] = d
}

func (k *soak) failed(format string, args ...any) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.errs.add(format, args...)
}

// pusher pushes tags of its own and one that moves, and deletes the oldest.
func (k *soak) pusher(ctx context.Context, id int) {
	random := rand.New(rand.NewPCG(uint64(id), 99))
	var mine []string
	moving := fmt.Sprintf("moving%d", id)
	for n := 0; ctx.Err() == nil; n++ {
		repo, tag := fmt.Sprintf("team/app%d", random.IntN(soakRepos)), fmt.Sprintf("p%d-%d", id, n)
		own := make([]byte, 500+random.IntN(8000))
		for i := range own {
			own[i] = byte(random.Uint32())
		}
		d, err := k.pushAgain(random, repo, tag, own)
		if err != nil {
			k.failed("push of %s:%s: %v", repo, tag, err)
			continue
		}
		k.set(repo+":"+tag, d)
		mine = append(mine, repo+":"+tag)
		if n%5 == 0 {
			k.set(repo+":"+moving, "")
			if d, err = k.pushAgain(random, repo, moving, append(own, 'x')); err != nil {
				k.failed("push of %s:%s: %v", repo, moving, err)
			} else {
				k.set(repo+":"+moving, d)
			}
		}
		if len(mine) > 5 {
			k.drop(random, mine[0])
			mine = mine[1:]
		}
	}
}

// drop deletes a tag, or its manifest.
func (k *soak) drop(random *rand.Rand, name string) {
	k.mu.Lock()
	d := k.live[name]
	delete(k.live, name)
	k.mu.Unlock()
	repo, ref, _ := strings.Cut(name, ":")
	if random.IntN(2) == 0 {
		ref = string(d)
	}
	if _, err := k.ask(http.MethodDelete, "/v2/"+repo+"/manifests/"+ref, "", nil, http.StatusAccepted); err != nil {
		k.failed("delete: %v", err)
	}
	k.counts.deletes.Add(1)
}

// still tells whether a tag is where it was.
func (k *soak) still(name string, d oci.Digest) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.live[name] == d
}

// any returns a tag that is there, "" if there is none.
func (k *soak) any(random *rand.Rand) (name string, d oci.Digest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.live) == 0 {
		return "", ""
	}
	skip := random.IntN(min(len(k.live), 8)) // The order of maps is random enough.
	for name, d = range k.live {
		if skip--; skip < 0 {
			break
		}
	}
	return name, d
}

// puller pulls whole images. What is deleted meanwhile may go at any time.
func (k *soak) puller(ctx context.Context, id int) {
	random := rand.New(rand.NewPCG(uint64(id), 77))
	for ctx.Err() == nil {
		name, d := k.any(random)
		if name == "" {
			continue
		}
		repo, tag, _ := strings.Cut(name, ":")
		err := k.pull(repo, tag, d, map[oci.Digest]bool{})
		if err != nil && k.still(name, d) {
			k.failed("pull of %s, which is there: %v", name, err)
		}
		k.counts.pulls.Add(1)
	}
}

// pull pulls an image and adds what it got to all.
func (k *soak) pull(repo, ref string, want oci.Digest, all map[oci.Digest]bool) error {
	a, err := k.ask(http.MethodGet, "/v2/"+repo+"/manifests/"+ref, "", nil, http.StatusOK)
	if err != nil {
		return err
	}
	if got := digest.FromBytes(a.body); got != want {
		return fmt.Errorf("%s is %s, want %s", ref, got, want)
	}
	all[want] = true
	g, err := oci.ParseManifest(a.header.Get("Content-Type"), a.body)
	if err != nil {
		return err
	}
	for _, m := range g.Manifests {
		if err := k.pull(repo, string(m.Digest), m.Digest, all); err != nil {
			return err
		}
	}
	for _, b := range g.Blobs() {
		a, err := k.ask(http.MethodGet, "/v2/"+repo+"/blobs/"+string(b.Digest), "", nil, http.StatusOK)
		if err != nil {
			return err
		}
		if got := digest.FromBytes(a.body); got != b.Digest {
			return fmt.Errorf("blob %s came as %s", b.Digest, got)
		}
		all[b.Digest] = true
	}
	return nil
}

// collections runs gc back to back until ctx ends, and adds up what it did.
func (k *soak) collections(t *testing.T, ctx context.Context, dir string) (runs int, removed map[gc.Kind]int) {
	p := newRegctl(t)
	removed = map[gc.Kind]int{}
	for ctx.Err() == nil {
		out, err := p.try(t, "gc", "--data", dir, "--untagged", "--older", "5s", "--undo", "0", "-q", "-o", "json")
		var c collection
		if err = errors.Join(err, json.Unmarshal([]byte(out), &c)); err != nil || c.Server == nil {
			k.failed("gc: %v: %s", err, out)
			return runs, removed
		}
		runs++
		for kind, count := range c.Removed {
			removed[kind] += count.N
		}
	}
	return runs, removed
}

// soakServer is a server that has only the journal of its own to say.
func soakServer(t *testing.T, dir string) *server {
	t.Helper()
	cmd := regctlCommand(t, dir)
	if *soakRace {
		cmd.Path = filepath.Join(t.TempDir(), "regctl")
		if out, err := exec.Command("go", "build", "-race", "-o", cmd.Path, ".").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return start(t, cmd, "")
}

// TestSoak: sixteen push and delete what shares layers, sixteen pull, and gc
// runs back to back, with an age that pushes reach: no push fails, nothing that
// is there is missing, and in the end nothing is left but what is needed.
func TestSoak(t *testing.T) {
	if testing.Short() {
		*soakFor = min(*soakFor, 5*time.Second)
	}
	dir := t.TempDir()
	s := soakServer(t, dir)
	k := &soak{w: speak(s), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}, live: map[string]oci.Digest{}, bytes: map[oci.Digest][]byte{}}
	defer k.client.CloseIdleConnections()
	for i := range 24 {
		content := random(uint64(i), 5000+i*1500)
		k.pool = append(k.pool, ocitest.Describe(layerType, string(content)))
		k.bytes[k.pool[i].Digest] = content
	}
	first, err := k.image(rand.New(rand.NewPCG(1, 1)), "team/app0", "first", random(1, 1000))
	if err != nil {
		t.Fatal(err)
	}
	k.set("team/app0:first", first.Digest)
	ctx, cancel := context.WithTimeout(t.Context(), *soakFor)
	defer cancel()
	var all sync.WaitGroup
	for id := range 16 {
		all.Go(func() { k.pusher(ctx, id) })
		all.Go(func() { k.puller(ctx, id) })
	}
	runs, removed := k.collections(t, ctx, dir)
	all.Wait()
	c := &k.counts
	t.Logf("%d pushes (%d begun again; blobs: %d there, %d mounted, %d uploaded), %d deletes, %d pulls; %d collections removed %v",
		c.pushes.Load(), c.retried.Load(), c.skipped.Load(), c.mounted.Load(), c.uploaded.Load(), c.deletes.Load(), c.pulls.Load(), runs, removed)
	k.errs.tell(t)
	if *soakFor > 12*time.Second && removed[gc.KindData] == 0 {
		t.Error("nothing was ever removed")
	}
	s.contented(t)
	if strings.Contains(s.log.String(), "DATA RACE") {
		t.Error(s.log)
	}
	k.wantEnd(t, dir)
}

// wantEnd looks at what is left when all is quiet.
func (k *soak) wantEnd(t *testing.T, dir string) {
	t.Helper()
	wantWhole(t, dir)
	check := func() map[oci.Digest]bool {
		needed := map[oci.Digest]bool{}
		for name, d := range k.live {
			repo, tag, _ := strings.Cut(name, ":")
			if err := k.pull(repo, tag, d, needed); err != nil {
				t.Errorf("pull of %s, which is there: %v", name, err)
			}
		}
		return needed
	}
	check()
	collect(t, dir, "--untagged", "--older", "0", "--undo", "0")
	needed := check()
	wantWhole(t, dir)
	var wrong problems
	for d := range dataOf(t, dir) {
		if !needed[d] {
			wrong.add("%s is there, and nothing needs it", d)
		}
	}
	wrong.tell(t)
}
