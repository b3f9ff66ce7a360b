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
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// regctl is the binary under test, built once, when first asked for.
var regctl = sync.OnceValues(func() (string, error) {
	bin := filepath.Join(buildDir, "regctl")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // As it is released.
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return bin, err
})

// buildDir is where; it is there while the tests run.
var buildDir string

func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "regctl-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(buildDir)
	os.Exit(code)
}

// peer returns the path of another program that a test talks to. Without it
// the test is skipped, unless REGCTL_PEERS=required, as in .ci/run.
func peer(tb testing.TB, names ...string) string {
	tb.Helper()
	for _, name := range names {
		if p, err := exec.LookPath(name); err == nil {
			return p
		}
	}
	missing(tb, names[0]+" is not installed")
	return ""
}

// missing ends a test that cannot be made here, and says why.
func missing(tb testing.TB, why string) {
	tb.Helper()
	if os.Getenv("REGCTL_PEERS") == "required" {
		tb.Fatal(why)
	}
	tb.Skip(why)
}

// server is a registry in a process of its own.
type server struct {
	addr string // HOST:PORT
	proc *os.Process
	done chan struct{} // Closed when the process has ended; err is set then.
	err  error
	log  *lockedBuffer
}

func (s *server) url(format string, args ...any) string {
	return "http://" + s.addr + fmt.Sprintf(format, args...)
}

// stop ends the server by sig and returns how it ended.
func (s *server) stop(sig syscall.Signal) error {
	if err := s.proc.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.done:
		return s.err
	case <-time.After(time.Minute):
		return errors.Join(errors.New("still running a minute after the signal"), s.proc.Kill())
	}
}

// end asks the server to end, which ours does in order; registry:2 just dies.
func (s *server) end(tb testing.TB) {
	tb.Helper()
	err := s.stop(syscall.SIGTERM)
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.Exited()) {
		tb.Fatalf("server ended: %v\n%s", err, s.log)
	}
}

// cpu is the time that the process has spent on processors so far.
func (s *server) cpu(tb testing.TB) time.Duration {
	tb.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.proc.Pid))
	if err != nil {
		tb.Skipf("no processor times on this system: %v", err)
	}
	// Fields after the command in parentheses: utime and stime are 14 and 15
	// of proc(5), in hundredths of a second.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

var listening = regexp.MustCompile(`http://([^ ]*:\d+)`)

// startRegctl serves dir and returns once it answers.
func startRegctl(tb testing.TB, dir string, args ...string) *server {
	tb.Helper()
	return start(tb, regctlCommand(tb, dir, args...), "")
}

func regctlCommand(tb testing.TB, dir string, args ...string) *exec.Cmd {
	tb.Helper()
	bin, err := regctl()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(bin, append([]string{"serve", "--addr", "127.0.0.1:0", "--data", dir}, args...)...)
	cmd.Env = []string{"HOME=" + tb.TempDir()}
	return cmd
}

// startDockerRegistry serves dir by Debian's docker-registry, the real
// registry 2.8.
func startDockerRegistry(tb testing.TB, dir string) *server {
	tb.Helper()
	cmd, addr := dockerRegistryCommand(tb, dir)
	return start(tb, cmd, addr)
}

func dockerRegistryCommand(tb testing.TB, dir string) (cmd *exec.Cmd, addr string) {
	tb.Helper()
	bin := peer(tb, "docker-registry")
	addr = freeAddr(tb)
	config := filepath.Join(tb.TempDir(), "config.yml")
	text := fmt.Sprintf(`version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: %q}
  cache: {blobdescriptor: inmemory}
  delete: {enabled: true}
http: {addr: %q}
`, dir, addr)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return exec.Command(bin, "serve", config), addr
}

// start runs a server until the test ends. Without an address it is read from
// what the server says.
func start(tb testing.TB, cmd *exec.Cmd, addr string) *server {
	tb.Helper()
	said := make(chan string, 1)
	s := launch(tb, cmd, func(line string) {
		if m := listening.FindStringSubmatch(line); m != nil {
			select {
			case said <- m[1]:
			default:
			}
		}
	})
	if s.addr = addr; addr == "" {
		select {
		case s.addr = <-said:
		case <-s.done:
			tb.Fatalf("%s ended: %v\n%s", cmd, s.err, s.log)
		case <-time.After(time.Minute):
			tb.Fatalf("%s does not say where it listens:\n%s", cmd, s.log)
		}
	}
	s.await(tb, func() error {
		resp, err := http.Get(s.url("/v2/"))
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	})
	return s
}

// launch starts a program, which ends with the test if not before, and calls
// heard with each line of its stderr.
func launch(tb testing.TB, cmd *exec.Cmd, heard func(line string)) *server {
	tb.Helper()
	s := &server{done: make(chan struct{}), log: &lockedBuffer{}}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		tb.Fatal(err)
	}
	endWithTests(cmd)
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	s.proc = cmd.Process
	go func() {
		defer close(s.done)
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			fmt.Fprintln(s.log, lines.Text())
			heard(lines.Text())
		}
		_, _ = io.Copy(io.Discard, stderr)
		s.err = cmd.Wait()
	}()
	tb.Cleanup(func() { _ = s.stop(syscall.SIGKILL) })
	return s
}

// await asks the server until it answers.
func (s *server) await(tb testing.TB, ask func() error) {
	tb.Helper()
	limit := time.After(time.Minute)
	for tick := time.Tick(10 * time.Millisecond); ; {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-tick:
		case <-s.done:
			tb.Fatalf("server ended: %v\n%s", s.err, s.log)
		case <-limit:
			tb.Fatalf("no answer from %s: %v\n%s", s.addr, err, s.log)
		}
	}
}

func freeAddr(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// lockedBuffer collects what a server says while others read it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
