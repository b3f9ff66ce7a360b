//go:build unix

package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage/file"
)

// configured is a configuration that listens on a free port.
func configured(t testing.TB, yaml string) *config.Config {
	t.Helper()
	if !strings.Contains(yaml, "version:") {
		yaml += "\nversion: 0.1"
	}
	c, problems, err := config.Parse("config.yml", []byte(yaml), nil)
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	c.HTTP.Addrs = []string{"127.0.0.1:0"}
	return c
}

// ask makes a request of an assembly and returns status and body.
func ask(t *testing.T, a *Assembly, method, path, body string) (status int, header http.Header, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+a.Addrs()[0].String()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, string(raw)
}

const noManifests = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`

// What the configuration says reaches the part that it is about, and what was
// pushed is there for the next one on the same directory.
func TestAssemble(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "store")
	for run, deletes := range []string{"false", "true"} {
		c := configured(t, "storage: {delete: {enabled: "+deletes+"}}\ntags: {maxtags: 1}\nhttp: {host: 'https://reg.example', headers: {X-Test: [here]}}")
		a, err := Assemble(t.Context(), Parts{Config: c, Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Serve(ctx) }()
		if run == 0 {
			for _, tag := range []string{"1", "2"} {
				status, header, body := ask(t, a, "PUT", "/v2/app/manifests/"+tag, noManifests)
				if status != 201 || !strings.HasPrefix(header.Get("Location"), "https://reg.example/v2/app/") || header.Get("X-Test") != "here" {
					t.Errorf("%d %v %s", status, header, body)
				}
			}
		}
		if _, _, body := ask(t, a, "GET", "/v2/app/tags/list?n=5", ""); body != `{"name":"app","tags":["1"]}`+"\n" {
			t.Errorf("run %d: %s", run, body)
		}
		if status, _, body := ask(t, a, "DELETE", "/v2/app/manifests/1", ""); status != []int{405, 202}[run] {
			t.Errorf("run %d: %d %s", run, status, body)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// An image without its layers is refused, unless told otherwise.
func TestAssembleSparse(t *testing.T) {
	t.Parallel()
	const image = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",` +
		`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}`
	for layers, want := range map[string]int{"all": 400, "none": 201} {
		a, err := Assemble(t.Context(), Parts{Config: configured(t, "validation: {manifests: {images: {layers: "+layers+"}}}")})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- a.Serve(ctx) }()
		if status, _, body := ask(t, a, "PUT", "/v2/app/manifests/1", image); status != want {
			t.Errorf("%s: %d %s", layers, status, body)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func TestAssembleInMemory(t *testing.T) {
	t.Parallel()
	a, err := Assemble(t.Context(), Parts{Config: configured(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	a.Close()
	if _, err := http.Get("http://" + a.Addrs()[0].String()); err == nil {
		t.Error("it still listens")
	}
}

// An assembly that fails says why, and gives back what it took.
func TestAssembleFails(t *testing.T) {
	t.Parallel()
	foreign := t.TempDir()
	lockfiles := filepath.Join(foreign, "docker/registry/lockfiles")
	if err := os.MkdirAll(lockfiles, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(lockfiles, "database-in-use"), []byte("1"), 0o666); err != nil {
		t.Fatal(err)
	}
	taken := t.TempDir()
	locked, err := file.Lock(t.Context(), taken, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { locked.Unlock() })
	for name, c := range map[string]struct {
		dir string
		is  func(error) bool
	}{
		"foreign": {foreign, func(err error) bool {
			return errors.Is(err, meta.ErrForeign) && strings.HasPrefix(err.Error(), foreign)
		}},
		"held": {taken, func(err error) bool { return errors.As(err, new(*file.HeldError)) }},
		"file": {filepath.Join(lockfiles, "database-in-use"), func(err error) bool { return strings.Contains(err.Error(), "not a directory") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := 0
			a, err := Assemble(t.Context(), Parts{
				Config: configured(t, ""), Dir: c.dir,
				After:   func(time.Duration) <-chan time.Time { now := make(chan time.Time); close(now); return now },
				Waiting: func(error, time.Duration) { told++ },
			})
			if a != nil || err == nil || !c.is(err) || (told == 1) != (name == "held") {
				t.Errorf("%v, told %d times", err, told)
			}
			if name != "foreign" {
				return
			}
			l, err := file.Lock(t.Context(), c.dir, 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			l.Unlock()
		})
	}
}

// stuck is a registry that does not care whether anybody waits.
type stuck struct {
	oci.Registry
	asked, release chan struct{}
}

func (s stuck) Resolve(context.Context, string, string) (oci.Descriptor, error) {
	close(s.asked)
	<-s.release
	return oci.Descriptor{}, oci.ManifestUnknown
}

// A server that was told to stop waits for what it has cut, for a while, so
// that whoever gets the store next has it alone.
func TestServeWaitsForWhatItHasCut(t *testing.T) {
	t.Parallel()
	for name, ends := range map[string]bool{"ends": true, "hangs": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, log := t.TempDir(), &logBuffer{}
			locked, err := file.Lock(t.Context(), dir, 0, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { locked.Unlock() })
			reg := stuck{ocitest.NewRegistry(), make(chan struct{}), make(chan struct{})}
			ctx, stop := context.WithCancel(t.Context())
			ls, err := Listen(ctx, []string{"127.0.0.1:0"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			a := &Assembly{listeners: ls, server: Server{
				Handler: NewHandler(reg, Options{}), DrainTimeout: time.Millisecond, Log: log.text(), cut: time.Minute,
			}}
			if !ends {
				a.server.cut = time.Millisecond
			}
			a.keepLocked(locked)
			done := make(chan error, 1)
			go func() { done <- a.Serve(ctx) }()
			c := dial(t, ls[0].Addr().String())
			fmt.Fprintf(c, "HEAD /v2/app/manifests/x HTTP/1.1\r\nHost: x\r\n\r\n")
			<-reg.asked
			stop()
			log.wait(t, 1) // It was cut.
			if other, err := file.Lock(t.Context(), dir, 0, nil); err == nil {
				other.Unlock()
				t.Error("the store is let go while a request may change it")
			}
			if ends {
				close(reg.release)
			} else {
				defer close(reg.release)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
			other, err := file.Lock(t.Context(), dir, 0, nil)
			if err == nil {
				other.Unlock()
			}
			if (err == nil) != ends || strings.Contains(log.String(), "level=ERROR") == ends {
				t.Errorf("lock: %v, log: %s", err, log)
			}
		})
	}
}
