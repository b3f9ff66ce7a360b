package main_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// machine is a Linux for one test: it has the programs of this one, but
// processes, network and mounts of its own, and a file system of which every
// write is thrown away. So a recipe runs on it as it was written, with /etc,
// port 443 and the addresses it names.
type machine struct {
	init int    // Its first process, as we see it.
	host string // Where the host gives it files: /regctl within.
}

// machineSetup makes a machine of the namespaces it is started in. Arguments:
// a directory, that of the host, addresses of the machine, each with names of
// it after blanks.
const machineSetup = `set -eu
d=$1 host=$2; shift 2
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$d"
mkdir "$d/up" "$d/work" "$d/root"; cd "$d/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$d/up,workdir=$d/work" .
cd .
cd "$d/root"
mount -t proc proc proc
mount --rbind /dev dev
mount --rbind /sys sys
for x in tmp run root var/lib/docker var/lib/containers var/lib/registry var/log etc/docker; do
	mkdir -p "$x"; mount -t tmpfs -o mode=755 tmpfs "$x"
done
chmod 1777 tmp
mkdir regctl; mount --bind "$host" regctl
rm -f etc/resolv.conf; : >etc/resolv.conf
echo 127.0.0.1 localhost >etc/hosts
ip link set lo up
for a; do ip address add "${a%% *}/32" dev lo; echo "$a" >>etc/hosts; done
# A root of its own: docker exec looks for what it runs in that of the mounts.
mkdir old; pivot_root . old
# Its first process ends what others leave behind.
exec chroot . /bin/bash -c 'umount -l /old; rmdir /old; echo ready; sleep infinity & wait'
`

// service is what starts and stops docker on a machine, where no systemd runs:
// as Debian's own init script, of which it also reads the options.
const service = `#!/bin/sh
[ "$1" = docker ] || { echo "no service $1 here"; exit 1; }
stop() { start-stop-daemon --stop --oknodo --retry 30 --quiet --remove-pidfile --pidfile /run/docker-ssd.pid; }
start() {
	DOCKER_OPTS=; [ ! -e /etc/default/docker ] || . /etc/default/docker
	start-stop-daemon --start --quiet --background --no-close --make-pidfile --pidfile /run/docker-ssd.pid \
		--exec /usr/sbin/dockerd -- --storage-driver=overlay2 $DOCKER_OPTS >>/var/log/docker.log 2>&1 </dev/null
	for i in $(seq 300); do docker version >/dev/null 2>&1 && return; sleep 0.1; done
	tail /var/log/docker.log; return 1
}
case $2 in
start) start ;;
stop) stop ;;
restart) stop; start ;;
esac
`

// systemctl has it the other way round.
const systemctl = `#!/bin/sh
exec service "$2" "$1"
`

// startMachine makes a machine with the given addresses. It ends with the test.
func startMachine(tb testing.TB, addrs ...string) *machine {
	tb.Helper()
	unshare := peer(tb, "unshare")
	for _, name := range []string{"nsenter", "ip", "iptables"} {
		peer(tb, name)
	}
	if os.Geteuid() != 0 {
		missing(tb, "a machine needs root")
	}
	dir, host := shortTempDir(tb, nil), shortTempDir(tb, nil)
	if err := os.Chmod(host, 0o755); err != nil {
		tb.Fatal(err)
	}
	args := append([]string{"--mount", "--net", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", machineSetup, "sh", dir, host}, addrs...)
	cmd := exec.Command(unshare, args...)
	// unshare waits for its child and passes over SIGTERM meanwhile. The child,
	// and with it all that runs on the machine, dies with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ready := make(chan struct{})
	cmd.Stdout = &signalWriter{said: ready}
	s := launch(tb, cmd, func(string) {})
	select {
	case <-ready:
	case <-s.done:
		missing(tb, fmt.Sprintf("no machine can be made here: %v\n%s", s.err, s.log))
	case <-time.After(time.Minute):
		tb.Fatalf("the machine is not ready:\n%s", s.log)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", s.proc.Pid))
	if err != nil {
		tb.Fatal(err)
	}
	m := &machine{host: host}
	if m.init, err = strconv.Atoi(strings.TrimSpace(string(children))); err != nil {
		tb.Fatal(err)
	}
	m.write(tb, "/usr/local/bin/systemctl", 0o755, systemctl)
	m.write(tb, "/usr/local/bin/service", 0o755, service)
	return m
}

// signalWriter tells that something was written.
type signalWriter struct {
	once sync.Once
	said chan struct{}
}

func (w *signalWriter) Write(p []byte) (int, error) {
	w.once.Do(func() { close(w.said) })
	return len(p), nil
}

// command is a script for bash on the machine, of which every line must
// succeed.
func (m *machine) command(script string) *exec.Cmd {
	cmd := exec.Command("nsenter", "--target", strconv.Itoa(m.init), "--mount", "--net", "--pid", "--root", "--wd",
		"/bin/bash", "-c", "set -e -o pipefail; cd; "+script)
	cmd.Env = []string{"HOME=/root", "USER=root", "LANG=C.UTF-8", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	endWithTests(cmd)
	return cmd
}

// try runs a script and returns what it says, on stderr too.
func (m *machine) try(script string) (string, error) {
	cmd := m.command(script)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	// What a script leaves in the background has its output, and may go on.
	cmd.WaitDelay = time.Second
	err := cmd.Start()
	if err == nil {
		late := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		err = cmd.Wait()
	}
	return out.String(), err
}

// run runs a script that must succeed.
func (m *machine) run(tb testing.TB, script string) string {
	tb.Helper()
	out, err := m.try(script)
	if err != nil {
		tb.Fatalf("%s\n%v\n%s", script, err, out)
	}
	return out
}

// says runs a script that must succeed and say all of want.
func (m *machine) says(tb testing.TB, script string, want ...string) string {
	tb.Helper()
	out := m.run(tb, script)
	wantSaid(tb, script, out, want)
	return out
}

// fails runs a script that must not succeed, and say all of want.
func (m *machine) fails(tb testing.TB, script string, want ...string) string {
	tb.Helper()
	out, err := m.try(script)
	if err == nil {
		tb.Fatalf("%s\nsucceeded\n%s", script, out)
	}
	wantSaid(tb, script, out, want)
	return out
}

func wantSaid(tb testing.TB, script, out string, want []string) {
	tb.Helper()
	for _, w := range want {
		if !strings.Contains(out, w) {
			tb.Errorf("%s\ndoes not say %q:\n%s", script, w, out)
		}
	}
}

// until runs a script until it succeeds and says all of want.
func (m *machine) until(tb testing.TB, script string, want ...string) string {
	tb.Helper()
	limit := time.After(time.Minute)
	for tick := time.Tick(50 * time.Millisecond); ; {
		out, err := m.try(script)
		missing := err != nil
		for _, w := range want {
			missing = missing || !strings.Contains(out, w)
		}
		if !missing {
			return out
		}
		select {
		case <-tick:
		case <-limit:
			tb.Fatalf("%s\n%v after a minute, or does not say %q:\n%s", script, err, want, out)
		}
	}
}

// write makes a file on the machine.
func (m *machine) write(tb testing.TB, path string, mode os.FileMode, content string) {
	tb.Helper()
	cmd := m.command(fmt.Sprintf("mkdir -p %q; cat >%q; chmod %o %[2]q", filepath.Dir(path), path, mode))
	cmd.Stdin = strings.NewReader(content)
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("write %s: %v\n%s", path, err, out)
	}
}

// install puts regctl on the machine, and in /regctl/image what the image is
// built of.
func (m *machine) install(t *testing.T) {
	t.Helper()
	if err := os.Rename(imageContext(t), filepath.Join(m.host, "image")); err != nil {
		t.Fatal(err)
	}
	m.run(t, "ln -s /regctl/image/linux/*/regctl /usr/local/bin/regctl")
}

// startDocker starts the docker of the machine and gives it our image under
// the names that the recipes have, and a small image for each other name.
func (m *machine) startDocker(t *testing.T, registry string, others ...string) {
	t.Helper()
	for _, name := range []string{"docker", "dockerd"} {
		peer(t, name)
	}
	m.install(t)
	m.run(t, "service docker start")
	t.Cleanup(func() { // Cgroups of containers are the host's.
		if out, err := m.try(`docker ps -aq | xargs -r docker rm -f -v`); err != nil {
			t.Errorf("containers stay: %v\n%s", err, out)
		}
	})
	m.run(t, "cd /regctl/image; DOCKER_BUILDKIT=0 docker build --rm --build-arg TARGETPLATFORM=linux/"+runtime.GOARCH+
		" -f cmd/regctl/package/Dockerfile -t "+registry+" .")
	for _, name := range others {
		m.run(t, fmt.Sprintf("mkdir -p /tmp/rootfs; head -c 300000 /dev/urandom >/tmp/rootfs/%s; "+
			"tar -C /tmp/rootfs -c . | docker import -c 'CMD [\"/hello\"]' - %s; rm -r /tmp/rootfs", strings.NewReplacer("/", "_", ":", "_").Replace(name), name))
	}
}
