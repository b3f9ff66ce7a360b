package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// image pushes an image of one layer under tags.
func (w wire) image(repo string, layer []byte, tags ...string) (oci.Digest, error) {
	blobs := [2]oci.Descriptor{}
	for i, content := range [][]byte{fmt.Appendf(nil, `{"os":"linux","layer":%q}`, digest.FromBytes(layer)), layer} {
		up, err := w.Upload(context.Background(), repo, "", oci.UploadOptions{})
		if err == nil {
			_, err = up.Write(content)
		}
		if err == nil {
			blobs[i], err = up.Commit(context.Background(), digest.FromBytes(content))
		}
		if err != nil {
			return "", err
		}
		blobs[i].Size = int64(len(content))
	}
	blobs[0].MediaType = "application/vnd.oci.image.config.v1+json"
	blobs[1].MediaType = "application/vnd.oci.image.layer.v1.tar"
	raw, err := json.Marshal(ocitest.NewImage(blobs[0], blobs[1]))
	if err != nil {
		return "", err
	}
	d, err := w.PutManifest(context.Background(), repo, oci.Put{Raw: raw, Tags: tags})
	return d.Digest, err
}

// acked is what a server has acknowledged over all its lives.
type acked struct {
	mu     sync.Mutex
	images map[string]oci.Digest // By "repo:tag".
	moving map[string][2]oci.Digest
	begun  map[string][]byte // Unfinished uploads by their path: what they have.
	count  int
}

// pusher pushes one image after the other, each under a tag of its own and one
// that moves, until the server does not answer any more or ok ends it.
func (a *acked) pusher(s *server, id, round int, ok func(sum int) bool) error {
	w := speak(s)
	repo := fmt.Sprintf("team/app%d", id%4)
	moving := fmt.Sprintf("%s:moving%d", repo, id)
	begun := random(uint64(round*100+id), 5000+id)
	at, err := w.unfinished(repo, begun)
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.begun[at] = begun
	a.mu.Unlock()
	for n := 0; ; n++ {
		layer := random(uint64(round)<<20|uint64(id)<<16|uint64(n), 100+n*37)
		tag := fmt.Sprintf("r%d-c%d-n%d", round, id, n)
		d, err := w.image(repo, layer, tag)
		if err != nil {
			return err
		}
		a.mu.Lock()
		a.images[repo+":"+tag] = d
		a.moving[moving] = [2]oci.Digest{a.moving[moving][1], d}
		a.count++
		sum := a.count
		a.mu.Unlock()
		if !ok(sum) {
			return nil
		}
		if err := w.retag(repo, moving, d); err != nil {
			return err
		}
		a.mu.Lock()
		a.moving[moving] = [2]oci.Digest{d, d}
		a.mu.Unlock()
	}
}

// retag moves a tag, "repo:tag", to an image that is there.
func (w wire) retag(repo, name string, d oci.Digest) error {
	a, err := w.want(http.StatusOK, http.MethodGet, "/v2/"+repo+"/manifests/"+string(d), "", nil)
	if err != nil {
		return err
	}
	_, err = w.PutManifest(context.Background(), repo, oci.Put{Raw: a.body, Tags: []string{strings.TrimPrefix(name, repo+":")}})
	return err
}

// check pulls all that was acknowledged.
func (a *acked) check(t *testing.T, s *server) {
	t.Helper()
	w := speak(s)
	for name, want := range a.images {
		repo, tag, _ := strings.Cut(name, ":")
		if got := w.whole(t, repo, tag); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	for name, may := range a.moving {
		repo, tag, _ := strings.Cut(name, ":")
		got, err := w.call(http.MethodGet, "/v2/"+repo+"/manifests/"+tag, "", nil)
		switch {
		case err != nil:
			t.Error(err)
		case got.status == http.StatusNotFound && may[0] == "":
		case !slices.Contains(may[:], digest.FromBytes(got.body)):
			t.Errorf("%s is %s, want one of %v", name, digest.FromBytes(got.body), may)
		}
	}
}

// checkListed pulls whatever else is listed: what was not acknowledged is
// either there as a whole or not at all. (A registry:2 lists tags that it does
// not have: what a crash left of them is enough for it.)
func (a *acked) checkListed(t *testing.T, s *server) {
	t.Helper()
	w := speak(s)
	for _, repo := range w.list(t, "/v2/_catalog?n=100", "repositories") {
		for _, tag := range w.tags(t, repo) {
			if _, known := a.images[repo+":"+tag]; !known {
				w.whole(t, repo, tag)
			}
		}
	}
}

// finish ends the unfinished uploads, one by a commit, the next by a cancel.
func (a *acked) finish(t *testing.T, s *server) {
	t.Helper()
	w := speak(s)
	for i, at := range slices.Sorted(maps.Keys(a.begun)) {
		got := a.begun[at]
		state := w.must(t, http.StatusNoContent, http.MethodGet, at)
		if want := fmt.Sprintf("0-%d", len(got)-1); state.header.Get("Range") != want {
			t.Errorf("upload %s has %s, want %s", at, state.header.Get("Range"), want)
		}
		if i%2 == 0 {
			w.must(t, http.StatusNoContent, http.MethodDelete, at)
			continue
		}
		all := append(slices.Clone(got), "the rest"...)
		d := digest.FromBytes(all)
		if _, err := w.want(http.StatusCreated, http.MethodPut, withDigest(at, d), "application/octet-stream", []byte("the rest")); err != nil {
			t.Error(err)
		}
		repo, _, _ := strings.Cut(strings.TrimPrefix(at, "/v2/"), "/blobs/")
		if b := w.must(t, http.StatusOK, http.MethodGet, "/v2/"+repo+"/blobs/"+string(d)); digest.FromBytes(b.body) != d {
			t.Errorf("blob %s has other bytes", d)
		}
	}
	clear(a.begun)
}

// crash starts a server over dir, looks at what is there, pushes with eight
// clients and kills the server in the middle.
func (a *acked) crash(t *testing.T, dir string, round int) {
	t.Helper()
	s := startRegctl(t, dir)
	a.finish(t, s)
	a.check(t, s)
	a.checkListed(t, s)
	s.contented(t)
	const clients = 8
	enough := a.count + 40 + rand.IntN(120)
	var kill sync.Once
	errs := make(chan error, clients)
	for id := range clients {
		go func() {
			errs <- a.pusher(s, id, round, func(sum int) bool {
				if sum >= enough {
					kill.Do(func() { _ = s.proc.Kill() })
				}
				return sum < enough+200 // Never reached: a killed server acknowledges nothing.
			})
		}()
	}
	for range clients {
		if err := <-errs; err == nil {
			t.Error("the server was not killed")
		} else if !died(err) {
			t.Errorf("before it was killed: %v", err)
		}
	}
	<-s.done
	if a.count < enough {
		t.Errorf("%d images acknowledged, want %d", a.count, enough)
	}
}

// died tells whether err is that of a connection to a process that was killed.
func died(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.Contains(err.Error(), "server closed")
}

const crashes = 10

func TestKill(t *testing.T) {
	t.Parallel()
	a := &acked{images: map[string]oci.Digest{}, moving: map[string][2]oci.Digest{}, begun: map[string][]byte{}}
	dir := t.TempDir()
	for round := range crashes {
		a.crash(t, dir, round)
		if t.Failed() {
			return
		}
	}
	a.last(t, dir)
}

// last looks once more, and wants nothing left of what went wrong.
func (a *acked) last(t *testing.T, dir string) {
	t.Helper()
	s := startRegctl(t, dir)
	a.finish(t, s)
	a.check(t, s)
	a.checkListed(t, s)
	s.contented(t)
	if err := s.stop(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(filepath.Join(dir, ".regctl"))
	if err != nil {
		t.Fatal(err)
	}
	var own []string
	for _, e := range entries {
		own = append(own, e.Name())
	}
	wantNames(t, "own files", own, "lock", "served", "state.db", "state.db-wal")
}

// A registry:2 that takes over after each crash finds everything, too, and
// what it is given then is found by us.
func TestKillAndRegistry2(t *testing.T) {
	t.Parallel()
	peer(t, "docker-registry")
	a := &acked{images: map[string]oci.Digest{}, moving: map[string][2]oci.Digest{}, begun: map[string][]byte{}}
	dir := t.TempDir()
	for round := range 4 {
		a.crash(t, dir, round)
		theirs := startDockerRegistry(t, dir)
		a.check(t, theirs)
		name := fmt.Sprintf("theirs%d", round)
		d, err := speak(theirs).image("team/app0", random(uint64(1000+round), 3000), name)
		if err != nil {
			t.Fatal(err)
		}
		a.images["team/app0:"+name] = d
		if err := theirs.stop(syscall.SIGTERM); err != nil {
			t.Log("registry:2 ended with", err)
		}
		if t.Failed() {
			return
		}
	}
	a.last(t, dir)
}
