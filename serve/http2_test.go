package serve

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/config"
)

// h2Server runs a handler over reg that speaks HTTP/2 with TLS, and returns a
// client that has one connection to it.
func h2Server(t *testing.T, reg oci.Registry, o Options) (url string, c *http.Client) {
	t.Helper()
	ca := newIssuer(t)
	certPEM, keyPEM := ca.leaf()
	pair, err := tls.X509KeyPair([]byte(certPEM), []byte(keyPEM))
	if err != nil {
		t.Fatal(err)
	}
	addr := runServer(t, &Server{
		Handler: NewHandler(reg, o), Stall: o.Stall, Log: o.Log, TLS: &tls.Config{Certificates: []tls.Certificate{pair}},
	})
	return "https://" + addr, clientOf(t, &tls.Config{RootCAs: ca.pool()}, true)
}

func getH2(t *testing.T, c *http.Client, url string) *http.Response {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if resp.ProtoMajor != 2 {
		t.Fatalf("%s", resp.Proto)
	}
	return resp
}

// TestStalledPullOfHTTP2: a request whose answer nobody reads is thrown out,
// and its connection lives.
func TestStalledPullOfHTTP2(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	reg := newFiles(t, 64<<20)
	url, c := h2Server(t, reg, Options{Stall: stall, Access: log.json()})
	blob := url + "/v2/app/blobs/" + string(reg.d.Digest)
	stalled := getH2(t, c, blob)
	if line := log.lines(t, 1)[0]; line["status"] != 499.0 || line["bytes"].(float64) >= 64<<20 {
		t.Errorf("log %v", line)
	}
	// The connection is the same one: the stalled answer is still to be read.
	if resp := getH2(t, c, url+"/v2/"); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
	if n, err := io.Copy(io.Discard, stalled.Body); err == nil {
		t.Errorf("the stalled answer is whole: %d bytes", n)
	}
}

// TestStalledUploadOfHTTP2: a request that stops sending is thrown out, and its
// connection lives.
func TestStalledUploadOfHTTP2(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	rig := newServer(t, nil, Options{})
	url, c := h2Server(t, rig.reg, Options{Stall: stall, Access: log.json()})
	post, err := c.Post(url+"/v2/app/blobs/uploads/", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	post.Body.Close()
	r, w := io.Pipe()
	defer w.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, url+post.Header.Get("Location"), r)
	if err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		resp, err := c.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != http.StatusBadRequest {
				err = fmt.Errorf("status %s", resp.Status)
			}
		}
		answered <- err
	}()
	if _, err := io.WriteString(w, "hello"); err != nil {
		t.Fatal(err)
	}
	if resp := getH2(t, c, url+"/v2/"); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if resp := getH2(t, c, url+"/v2/"); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

// unread is a registry that does not read what is sent to it, until it may.
type unread struct {
	oci.Registry
	asked   chan struct{}
	release chan struct{}
}

func (l unread) Upload(ctx context.Context, repo, id string, o oci.UploadOptions) (oci.Upload, error) {
	if id != "" && repo == "slow" {
		l.asked <- struct{}{}
		<-l.release
	}
	return l.Registry.Upload(ctx, repo, id, o)
}

// TestRequestThatIsNotReadKeepsNobodyBack: what it has sent takes its own room
// only.
func TestRequestThatIsNotReadKeepsNobodyBack(t *testing.T) {
	t.Parallel()
	reg := unread{newServer(t, nil, Options{}).reg, make(chan struct{}), make(chan struct{})}
	url, c := h2Server(t, reg, Options{})
	start := func(repo string) string {
		resp, err := c.Post(url+"/v2/"+repo+"/blobs/uploads/", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return url + resp.Header.Get("Location")
	}
	patch := func(at string, body io.Reader) error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, at, body)
		if err != nil {
			return err
		}
		resp, err := c.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusAccepted {
			return fmt.Errorf("status %s", resp.Status)
		}
		return nil
	}
	done := make(chan error, 1)
	slow, quick := start("slow"), start("app")
	go func() { done <- patch(slow, bytes.NewReader(make([]byte, 4*streamBuffer))) }()
	<-reg.asked
	if err := patch(quick, bytes.NewReader(make([]byte, 4*streamBuffer))); err != nil {
		t.Error(err)
	}
	close(reg.release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestStopUnderLoadLosesNothing: what was acknowledged before and while a
// server stops is there afterwards, whatever the protocol.
func TestStopUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	for name, h2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := newIssuer(t)
			certPEM, keyPEM := ca.leaf()
			f := pemFiles(t, certPEM, keyPEM)
			dir := filepath.Join(t.TempDir(), "store")
			c := &config.Config{
				HTTP:    config.HTTP{Addrs: []string{"127.0.0.1:0"}, TLS: config.TLS{Certificate: f[0], Key: f[1]}},
				Storage: config.Storage{NoSync: true},
			}
			ctx, stop := context.WithCancel(t.Context())
			a, err := Assemble(ctx, Parts{Config: c, Dir: dir})
			if err != nil {
				stop()
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- a.Serve(ctx) }()
			client := clientOf(t, &tls.Config{RootCAs: ca.pool()}, h2)
			acknowledged := load(client, "https://"+a.Addrs()[0].String(), stop)
			if err := <-done; err != nil {
				t.Error(err)
			}
			checkPushed(t, dir, acknowledged)
		})
	}
}

// load pushes tags by several clients at once until the server refuses, and
// stops it under way. It returns what was acknowledged.
func load(c *http.Client, url string, stop func()) []string {
	var mu sync.Mutex
	var acknowledged []string
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 100000 {
				tag := fmt.Sprintf("t%d-%d", i, n)
				body := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"x":"` + tag + `"}}`
				req, err := http.NewRequest(http.MethodPut, url+"/v2/app/manifests/"+tag, strings.NewReader(body))
				if err != nil {
					return
				}
				req.Header.Set("Content-Type", "application/vnd.oci.image.index.v1+json")
				resp, err := c.Do(req)
				if err != nil {
					return // The server is gone.
				}
				resp.Body.Close()
				if resp.StatusCode == http.StatusCreated {
					mu.Lock()
					if acknowledged = append(acknowledged, tag); len(acknowledged) == 40 {
						stop()
					}
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	return acknowledged
}

func checkPushed(t *testing.T, dir string, tags []string) {
	t.Helper()
	if len(tags) < 40 {
		t.Fatalf("%d pushes were acknowledged", len(tags))
	}
	for _, tag := range tags {
		link := filepath.Join(dir, "docker/registry/v2/repositories/app/_manifests/tags", tag, "current/link")
		if _, err := os.ReadFile(link); err != nil {
			t.Errorf("lost: %v", err)
		}
	}
}

// TestServeFinishesWhatIsUnderWayOfHTTP2: as with HTTP/1.1.
func TestServeFinishesWhatIsUnderWayOfHTTP2(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t)
	certPEM, keyPEM := ca.leaf()
	pair, err := tls.X509KeyPair([]byte(certPEM), []byte(keyPEM))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ls, err := Listen(ctx, []string{"127.0.0.1:0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	reg := newHeld()
	h := NewHandler(reg, Options{})
	done := make(chan error, 1)
	go func() {
		done <- (&Server{Handler: h, TLS: &tls.Config{Certificates: []tls.Certificate{pair}}}).Serve(ctx, ls)
	}()
	answered := make(chan error, 1)
	c := clientOf(t, &tls.Config{RootCAs: ca.pool()}, true)
	go func() {
		resp, err := c.Head("https://" + ls[0].Addr().String() + "/v2/app/manifests/x")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode != 404 || resp.ProtoMajor != 2 {
				err = fmt.Errorf("%s %s", resp.Proto, resp.Status)
			}
		}
		answered <- err
	}()
	<-reg.asked
	stop()
	eventually(t, h.draining.Load)
	select {
	case err := <-done:
		t.Fatalf("the server did not wait: %v", err)
	case err := <-reg.cancelled:
		t.Fatalf("the request was cancelled: %v", err)
	default:
	}
	close(reg.release)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	begun := time.Now()
	if err := <-done; err != nil || time.Since(begun) > defaultDrain/2 {
		t.Errorf("%v after %s", err, time.Since(begun))
	}
}

// thinker is a registry that takes longer than a client may stand still.
type thinker struct {
	oci.Registry
	thought <-chan time.Time
}

func (r thinker) Resolve(context.Context, string, string) (oci.Descriptor, error) {
	<-r.thought
	return oci.Descriptor{}, oci.ManifestUnknown
}

// TestLongThoughtOverHTTP2: what takes long is not what stands still.
func TestLongThoughtOverHTTP2(t *testing.T) {
	t.Parallel()
	const stall = time.Second // A handshake has to end within it, too.
	url, c := h2Server(t, thinker{newServer(t, nil, Options{}).reg, time.After(2 * stall)}, Options{Stall: stall})
	resp, err := c.Head(url + "/v2/app/manifests/x")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 404 {
		t.Error(resp.Status)
	}
}
