package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestTLSClients: a server with a certificate of its own making on one machine,
// clients on others, which know of it what serve has printed, and nothing else.
func TestTLSClients(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"docker", "dockerd", "podman", "skopeo", "containerd", "ctr", "curl"} {
		peer(t, name)
	}
	server := startMachine(t)
	server.run(t, "ip address add 10.77.0.1/32 dev lo")
	carry(t, server)
	said := serveTLS(t, server)
	t.Run("docker", func(t *testing.T) {
		m := newClientOf(t, server, 2)
		m.run(t, `service docker start && docker import -c 'CMD ["/hello"]' /regctl/layer.tar reg.lan:5000/team/app:docker`)
		m.fails(t, "docker push reg.lan:5000/team/app:docker", "certificate")
		m.copyCA(t, server, said)
		m.run(t, "docker push reg.lan:5000/team/app:docker; docker rmi reg.lan:5000/team/app:docker; docker pull reg.lan:5000/team/app:docker")
	})
	t.Run("others", func(t *testing.T) {
		m := newClientOf(t, server, 3)
		for _, script := range notYet {
			m.fails(t, script, "certificate")
		}
		m.run(t, printed(t, said, `^or, there: (regctl cert trust .*)$`)[1])
		m.run(t, "rm -r /etc/docker/certs.d") // Podman and others look there, too.
		for _, script := range usesTLS {
			m.run(t, script)
		}
	})
	t.Run("system", func(t *testing.T) {
		peer(t, "update-ca-certificates")
		m := newClientOf(t, server, 4)
		ca := m.copyCA(t, server, said)
		// The steps are a script, which somebody may read first.
		m.run(t, fmt.Sprintf("rm -f /usr/local/share/ca-certificates/*; regctl cert trust %s --host reg.lan:5000 --for os >steps", ca))
		m.run(t, "sh -e steps")
		m.says(t, "curl -sS https://reg.lan:5000/v2/", "{}")
		m.says(t, "curl -sS https://10.77.0.1:5000/v2/ && curl -sS --resolve localhost:5000:10.77.0.1 https://localhost:5000/v2/", "{}{}")
		m.fails(t, "curl -sS --resolve other.lan:5000:10.77.0.1 https://other.lan:5000/v2/", "certificate")
		m.says(t, "curl -sS --cacert "+ca+" https://reg.lan:5000/v2/", "{}")
		m.says(t, "regctl cert show reg.lan:5000", "Names:", "reg.lan", "Signed by:     CN=regctl CA")
		m.run(t, "rm -r /etc/docker/certs.d; regctl ls reg.lan:5000")
	})
	server.run(t, `kill -TERM "$(cat /tmp/serve.pid)"; while [ -e /proc/$(cat /tmp/serve.pid) ]; do sleep 0.05; done`)
	server.fails(t, "grep -E 'level=(WARN|ERROR)' /tmp/serve.log")
}

// notYet are refused by who does not trust the server.
var notYet = []string{
	"skopeo list-tags docker://reg.lan:5000/team/app",
	"podman --storage-driver vfs pull reg.lan:5000/team/app:docker",
	"curl -sS https://reg.lan:5000/v2/",
	"regctl ls reg.lan:5000",
}

// usesTLS push and pull with what the step for their program wrote, once each.
var usesTLS = []string{
	`P="podman --storage-driver vfs --cgroup-manager cgroupfs"
		$P import /regctl/layer.tar reg.lan:5000/team/app:podman; $P push reg.lan:5000/team/app:podman
		$P rmi reg.lan:5000/team/app:podman; $P pull reg.lan:5000/team/app:podman`,
	`skopeo copy oci:/regctl/image:x docker://reg.lan:5000/team/app:skopeo
		skopeo copy docker://reg.lan:5000/team/app:skopeo oci:/tmp/back:x`,
	`regctl cp oci:/regctl/image:x reg.lan:5000/team/app:regctl; regctl ls reg.lan:5000/team/app`,
	`containerd --config /dev/null --root /tmp/cd --state /run/cd --address /run/cd.sock >/tmp/containerd.log 2>&1 & pid=$!
		trap 'kill $pid; wait $pid' EXIT
		C="ctr --address /run/cd.sock"; H="--hosts-dir /etc/containerd/certs.d"
		for i in $(seq 300); do $C version >/dev/null 2>&1 && break; sleep 0.1; done
		$C images import --no-unpack --base-name reg.lan:5000/team/app /regctl/image.tar
		$C images tag "$($C images ls -q | head -1)" reg.lan:5000/team/app:ctr
		$C images push $H reg.lan:5000/team/app:ctr
		$C images rm $($C images ls -q)
		$C images pull $H --snapshotter native reg.lan:5000/team/app:ctr`,
}

// carry puts on a machine what it needs.
func carry(t *testing.T, m *machine) {
	t.Helper()
	bin, err := regctl()
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(m.host, "regctl"), []byte(read(t, bin)))
	if err := os.Chmod(filepath.Join(m.host, "regctl"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.run(t, "ln -s /regctl/regctl /usr/local/bin/regctl")
}

// serveTLS runs a server as printed in the manual, and returns what it says.
func serveTLS(t *testing.T, m *machine) string {
	t.Helper()
	m.run(t, `regctl serve --addr :5000 --data /var/lib/registry --tls self --tls-name reg.lan >/tmp/serve.log 2>&1 </dev/null & echo $! >/tmp/serve.pid`)
	return m.until(t, "cat /tmp/serve.log", "or, there: ")
}

// printed is what serve has said.
func printed(t *testing.T, said, pattern string) []string {
	t.Helper()
	words := regexp.MustCompile("(?m)" + pattern).FindStringSubmatch(said)
	if words == nil {
		t.Fatalf("serve does not say %s:\n%s", pattern, said)
	}
	return words
}

// tlsClient is a machine with clients.
type tlsClient struct{ *machine }

// newClientOf makes a machine with a cable to the server, where the server is
// called reg.lan.
func newClientOf(t *testing.T, server *machine, number int) tlsClient {
	t.Helper()
	m := startMachine(t)
	carry(t, m)
	write(t, filepath.Join(m.host, "layer.tar"), layerBytes(t, t.Name()))
	dir, _ := layout(t, t.Name())
	if err := os.CopyFS(filepath.Join(m.host, "image"), os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	command(t, "tar", "-C", dir, "-cf", filepath.Join(m.host, "image.tar"), ".")
	here, there := fmt.Sprintf("s%d", number), fmt.Sprintf("c%d", number)
	command(t, "ip", "link", "add", here, "netns", fmt.Sprint(server.init), "type", "veth", "peer", "name", there, "netns", fmt.Sprint(m.init))
	server.run(t, fmt.Sprintf("ip address add 10.77.0.1 peer 10.77.0.%d dev %s; ip link set %[2]s up", number, here))
	m.run(t, fmt.Sprintf("ip address add 10.77.0.%d peer 10.77.0.1 dev %s; ip link set %[2]s up; echo 10.77.0.1 reg.lan >>/etc/hosts", number, there))
	m.run(t, "rm -rf /etc/docker/certs.d /etc/containers/certs.d /etc/containerd/certs.d")
	return tlsClient{m}
}

// copyCA does what serve says: copy FILE to FILE on each client.
func (m tlsClient) copyCA(t *testing.T, server *machine, said string) string {
	t.Helper()
	words := printed(t, said, `^copy (\S+) to (\S+) on each client$`)
	if want := "/etc/docker/certs.d/reg.lan:5000/ca.crt"; words[2] != want {
		t.Fatalf("serve says to copy to %s, want %s", words[2], want)
	}
	m.write(t, words[2], 0o644, server.run(t, "cat "+words[1]))
	return words[2]
}
