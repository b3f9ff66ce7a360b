package main_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

// tmpfs mounts a small file system until the test ends. What needs no small
// file system is tested on a disk in memory, in package serve.
func tmpfs(t *testing.T, options string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "regctl-test", dir).CombinedOutput(); err != nil {
		missing(t, fmt.Sprintf("cannot mount: %v: %s", err, out))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// serveFails runs serve, which must end by itself, and returns its status and what
// it said.
func serveFails(t *testing.T, dir string) (status int, said string) {
	t.Helper()
	bin, err := regctl()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", "--addr", "127.0.0.1:0", "--data", dir)
	s := launch(t, cmd, func(string) {})
	<-s.done
	return cmd.ProcessState.ExitCode(), s.log.String()
}

// refused makes a call that must fail with code.
func (w wire) refused(t *testing.T, code oci.Code, method, path string, body []byte) {
	t.Helper()
	a, err := w.call(method, path, "", body)
	if err != nil {
		t.Errorf("%s %s: %v", method, path, err)
	} else if got := oci.UnmarshalError(a.status, a.body); a.status != code.Status() || got.Code != code {
		t.Errorf("%s %s: %d %s, want %d %s", method, path, a.status, a.body, code.Status(), code)
	}
}

// usable fails the test unless an image that was pushed before can be pulled
// and a new one pushed.
func (s *server) usable(t *testing.T, tag string, want oci.Digest) {
	t.Helper()
	if got := speak(s).whole(t, "app", "v1"); got != want {
		t.Errorf("app:v1 is %s, want %s", got, want)
	}
	d, err := speak(s).image("app", []byte("layer of "+tag), tag)
	if err != nil {
		t.Fatal(err)
	}
	if got := speak(s).whole(t, "app", tag); got != d {
		t.Errorf("app:%s is %s, want %s", tag, got, d)
	}
}

func pushV1(t *testing.T, s *server) oci.Digest {
	t.Helper()
	d, err := speak(s).image("app", random(7, 10_000), "v1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := speak(s).image("app", random(8, 10_000), "old"); err != nil {
		t.Fatal(err)
	}
	return d
}

// fullDisk wants of a server whose disk is full that it says so, serves,
// deletes, and starts again; and that all is well once there is room.
func fullDisk(t *testing.T, dir string, fill func() (empty func())) {
	s := startRegctl(t, dir)
	image := pushV1(t, s)
	empty := fill()
	for range 2 {
		w := speak(s)
		content := random(9, 100_000)
		w.refused(t, oci.InsufficientStorage, http.MethodPost, "/v2/app/blobs/uploads/?digest="+string(digest.FromBytes(content)), content)
		a := w.must(t, http.StatusOK, http.MethodGet, "/v2/app/manifests/v1")
		w.refused(t, oci.InsufficientStorage, http.MethodPut, "/v2/app/manifests/v2", append(a.body, ' '))
		if got := w.whole(t, "app", "v1"); got != image {
			t.Errorf("app:v1 is %s, want %s", got, image)
		}
		if err := s.stop(syscall.SIGTERM); err != nil {
			t.Errorf("stop: %v\n%s", err, s.log)
		}
		s = startRegctl(t, dir) // On the full disk.
	}
	speak(s).must(t, http.StatusAccepted, http.MethodDelete, "/v2/app/manifests/old")
	empty()
	s.usable(t, "v2", image)
	left, err := filepath.Glob(filepath.Join(dir, "docker/registry/v2/_uploads/*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %q, %v", left, err)
	}
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := tmpfs(t, "size=2m")
	fullDisk(t, dir, func() func() { return fill(t, dir) })
}

// fill leaves no room on the disk of dir.
func fill(t *testing.T, dir string) (empty func()) {
	t.Helper()
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 4096; size > 0; size /= 2 {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
	return func() { _ = os.Remove(ballast) }
}

func TestOutOfInodes(t *testing.T) {
	t.Parallel()
	dir := tmpfs(t, "size=8m,nr_inodes=300")
	fullDisk(t, dir, func() func() {
		ballast := filepath.Join(dir, "ballast")
		err := os.Mkdir(ballast, 0o755)
		for n := 0; err == nil; n++ {
			err = os.WriteFile(filepath.Join(ballast, fmt.Sprint(n)), nil, 0o600)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		return func() { _ = os.RemoveAll(ballast) }
	})
}

func TestReadOnlyStore(t *testing.T) {
	t.Parallel()
	for _, new := range []bool{true, false} {
		dir := tmpfs(t, "size=2m")
		if !new {
			s := startRegctl(t, dir)
			pushV1(t, s)
			if err := s.stop(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := exec.Command("mount", "-o", "remount,ro", dir).CombinedOutput(); err != nil {
			t.Fatalf("remount: %v: %s", err, out)
		}
		for _, at := range []string{dir, filepath.Join(dir, "below")} {
			status, said := serveFails(t, at)
			if status != 9 || strings.Count(said, "\n") != 1 || !strings.Contains(said, "read-only file system") || !strings.Contains(said, at) {
				t.Errorf("exit status %d:\n%s", status, said)
			}
		}
	}
}

// TestReadOnlyForOthers: who may not write to the directory of a store, as
// units of systemd may not, still asks the server that has it.
func TestReadOnlyForOthers(t *testing.T) {
	t.Parallel()
	dir, view := t.TempDir(), t.TempDir()
	s := startRegctl(t, dir)
	for _, args := range [][]string{{"--bind", dir, view}, {"-o", "remount,ro,bind", view}} {
		if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
			missing(t, fmt.Sprintf("cannot mount: %v: %s", err, out))
		}
		if args[0] == "--bind" {
			t.Cleanup(func() { _ = exec.Command("umount", view).Run() })
		}
	}
	p := newRegctl(t)
	for _, args := range [][]string{{"gc"}, {"check"}, {"events", "ls"}} {
		p.run(t, append(args, "--data", view)...)
	}
	if err := s.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if said, err := p.try(t, "gc", "--data", view); err == nil || !strings.Contains(said, "read-only file system") || strings.Count(said, "\n") != 1 {
		t.Errorf("without a server: %v: %s", err, said)
	}
}

// slowUpload is an upload of which the last byte is missing.
type slowUpload struct {
	conn net.Conn
	d    oci.Digest
	size int
}

// beginSlowly begins one and returns when the server is in the midst of it.
func beginSlowly(t *testing.T, s *server) slowUpload {
	t.Helper()
	content := bytes.Repeat([]byte("x"), 1<<20)
	w := speak(s)
	at := w.must(t, http.StatusAccepted, http.MethodPost, "/v2/app/blobs/uploads/").header.Get("Location")
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	u := slowUpload{conn: c, d: digest.FromBytes(content), size: len(content)}
	fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", withDigest(at, u.d), len(content))
	if _, err := c.Write(content[1:]); err != nil {
		t.Fatal(err)
	}
	s.await(t, func() error {
		if w.must(t, http.StatusNoContent, http.MethodGet, at).header.Get("Range") == "0-0" {
			return errors.New("nothing arrived")
		}
		return nil
	})
	return u
}

// finish sends the last byte and returns the status of the answer.
func (u slowUpload) finish() (int, error) {
	if _, err := io.WriteString(u.conn, "x"); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(u.conn), nil)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// refusesConnections waits until the server accepts no more of them.
func (s *server) refusesConnections(t *testing.T) {
	t.Helper()
	s.await(t, func() error {
		c, err := net.Dial("tcp", s.addr)
		if errors.Is(err, syscall.ECONNREFUSED) {
			return nil
		}
		if err == nil {
			c.Close()
		}
		return errors.New("it accepts")
	})
}

func TestStopFinishesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startRegctl(t, dir)
	image := pushV1(t, s)
	u := beginSlowly(t, s)
	if err := s.proc.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.refusesConnections(t)
	if status, err := u.finish(); status != http.StatusCreated {
		t.Errorf("upload: %d, %v", status, err)
	}
	if <-s.done; s.err != nil {
		t.Errorf("server ended with %v", s.err)
	}
	s.contented(t)
	s = startRegctl(t, dir)
	speak(s).must(t, http.StatusOK, http.MethodHead, "/v2/app/blobs/"+string(u.d))
	s.usable(t, "v2", image)
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startRegctl(t, dir)
	image := pushV1(t, s)
	u := beginSlowly(t, s)
	if err := s.proc.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	s.refusesConnections(t)
	var exit *exec.ExitError
	if err := s.stop(syscall.SIGINT); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
		t.Errorf("server ended with %v", err)
	}
	if status, err := u.finish(); err == nil {
		t.Errorf("upload: %d", status)
	}
	s = startRegctl(t, dir)
	speak(s).refused(t, oci.BlobUnknown, http.MethodGet, "/v2/app/blobs/"+string(u.d), nil)
	s.usable(t, "v2", image)
}

// A new server takes over address and store of one that is still busy.
func TestRestartWhileDraining(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := startRegctl(t, dir)
	image := pushV1(t, old)
	u := beginSlowly(t, old)
	if err := old.proc.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	old.refusesConnections(t)

	bin, err := regctl()
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan struct{})
	next := launch(t, exec.Command(bin, "serve", "--addr", old.addr, "--data", dir), func(line string) {
		if strings.Contains(line, fmt.Sprintf("in use by process %d on host", old.proc.Pid)) {
			close(waits)
		}
	})
	next.addr = old.addr
	select {
	case <-waits:
	case <-next.done:
		t.Fatalf("%v\n%s", next.err, next.log)
	}
	asked := make(chan error, 1)
	go func() { // Whoever comes now waits, too, and is not refused.
		_, err := speak(next).want(http.StatusOK, http.MethodGet, "/v2/app/manifests/v1", "", nil)
		asked <- err
	}()
	if status, err := u.finish(); status != http.StatusCreated {
		t.Errorf("upload: %d, %v", status, err)
	}
	if <-old.done; old.err != nil {
		t.Errorf("the old server ended with %v", old.err)
	}
	if err := <-asked; err != nil {
		t.Error(err)
	}
	speak(next).must(t, http.StatusOK, http.MethodHead, "/v2/app/blobs/"+string(u.d))
	next.usable(t, "v2", image)
	if err := next.stop(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
}
