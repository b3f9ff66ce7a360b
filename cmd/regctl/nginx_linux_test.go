package main_test

import (
	"fmt"
	"strings"
	"testing"
)

// proxied is a machine on which nginx stands before regctl, as in two of the
// articles, with certificates that clients of today take.
func proxied(t *testing.T) *machine {
	t.Helper()
	for _, name := range []string{"nginx", "htpasswd", "openssl", "curl", "podman", "skopeo", "python3"} {
		peer(t, name)
	}
	m := startMachine(t, "192.168.1.100 docker.xx.com", "10.9.0.3 yourdomain.com", "10.9.0.4 registry")
	m.run(t, `mkdir -p /etc/nginx/ssl /etc/nginx/conf.d /opt/nginx/conf; cp /etc/nginx/mime.types /opt/nginx/conf
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout /etc/nginx/ssl/nginx.key -out /etc/nginx/ssl/nginx.crt \
	-subj /CN=docker.xx.com -addext subjectAltName=DNS:docker.xx.com,DNS:yourdomain.com,DNS:registry
cp /etc/nginx/ssl/nginx.crt /etc/nginx/conf.d/domain.crt; cp /etc/nginx/ssl/nginx.key /etc/nginx/conf.d/domain.key
cp /etc/nginx/ssl/nginx.crt /usr/local/share/ca-certificates/proxied.crt; update-ca-certificates
htpasswd -Bbc /opt/nginx/conf/.htpasswd test 1234; cp /opt/nginx/conf/.htpasswd /etc/nginx/conf.d/nginx.htpasswd
groupadd -f www -g 58; id www || useradd -u 58 -g www www
chmod 755 /opt/nginx/conf; chmod 644 /opt/nginx/conf/.htpasswd /etc/nginx/conf.d/nginx.htpasswd`)
	m.write(t, "/root/receiver.py", 0o644, `import http.server
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        open("/root/events", "ab").write(self.rfile.read(int(self.headers["Content-Length"])) + b"\n")
        self.send_response(200); self.end_headers()
    def log_message(self, *args): pass
http.server.HTTPServer(("127.0.0.1", 8000), Receiver).serve_forever()
`)
	m.run(t, "python3 receiver.py >/tmp/receiver.log 2>&1 </dev/null &")
	return m
}

// serve starts regctl on the machine, in place of the one before.
func (m *machine) serve(t *testing.T, addr, more string) {
	t.Helper()
	m.run(t, `if [ -e serve.pid ]; then kill $(cat serve.pid); while kill -0 $(cat serve.pid) 2>/dev/null; do sleep 0.05; done; fi`)
	m.write(t, "/root/config.yml", 0o644, fmt.Sprintf(`version: 0.1
storage: {filesystem: {rootdirectory: /srv/registry}}
http:
  addr: %s
  secret: one
%snotifications: {endpoints: [{name: test, url: "http://127.0.0.1:8000/", timeout: 5s, threshold: 5, backoff: 1s}]}
`, addr, more))
	m.run(t, "regctl serve config.yml >>/var/log/regctl.log 2>&1 </dev/null & echo $! >serve.pid")
	m.until(t, "curl -sk -o /dev/null http://"+addr+"/v2/ || curl -sk -o /dev/null https://"+addr+"/v2/")
}

// big has a layer of 200 MB that nothing makes smaller.
const bigLayer = `head -c 200000000 /dev/urandom >/tmp/big; tar -C /tmp -cf /tmp/layer.tar big; rm /tmp/big`

const podmanOf = "podman --root /tmp/p --runroot /tmp/pr --storage-driver vfs --cgroup-manager cgroupfs "

func TestNginx(t *testing.T) {
	t.Parallel()
	m := proxied(t)
	m.startDocker(t, "regctl")
	m.run(t, bigLayer+"; docker import /tmp/layer.tar docker.xx.com/team/big:docker; rm /tmp/layer.tar")
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := m.try("tail -n 50 /var/log/nginx*.log /var/log/nginx/*.log; grep -v level=info /var/log/regctl.log; tail /var/log/regctl.log")
			t.Log(out)
		}
	})

	t.Run("logins", func(t *testing.T) {
		m.nginx(t, "/opt/nginx/conf/nginx.conf", recipe(t, "c-nginx.conf"))
		// What nginx has asked for it passes on: without auth it counts for
		// nothing, however wrong.
		m.serve(t, "127.0.0.1:5000", "")
		m.run(t, "docker login -u test -p 1234 docker.xx.com")
		m.run(t, "docker push docker.xx.com/team/big:docker; docker rmi docker.xx.com/team/big:docker; docker pull docker.xx.com/team/big:docker")
		m.run(t, podmanOf+"login -u test -p 1234 docker.xx.com")
		m.run(t, podmanOf+"pull docker.xx.com/team/big:docker; "+podmanOf+"push docker.xx.com/team/big:docker docker.xx.com/podman/big:one; "+podmanOf+"rmi --all")
		m.run(t, "skopeo copy --src-creds test:1234 --dest-creds test:1234 docker://docker.xx.com/team/big:docker docker://docker.xx.com/skopeo/big:one")
		m.run(t, "skopeo copy --src-creds test:1234 docker://docker.xx.com/skopeo/big:one oci:/tmp/oci:x; rm -r /tmp/oci")
		m.says(t, "curl -s -u test:1234 https://docker.xx.com/v2/_catalog", `{"repositories":["podman/big","skopeo/big","team/big"]}`)
		if log := m.run(t, "cat /var/log/regctl.log"); !strings.Contains(log, "client=192.168.1.100") || strings.Contains(log, "status=401") {
			t.Errorf("the log does not have the client:\n%.2000s", log)
		}
		m.until(t, "cat events", `"action": "push"`, `"addr": "192.168.1.100`, `"url": "https://docker.xx.com/v2/team/big/manifests/sha256:`, `"host": "docker.xx.com"`)
	})
	t.Run("chunked", func(t *testing.T) {
		m.run(t, `head -c 5000000 /dev/urandom >/tmp/chunk; d=$(sha256sum /tmp/chunk | cut -d' ' -f1); at=https://docker.xx.com
where() { tr -d '\r' | sed -n 's/^[Ll]ocation: //p' | sed "s#^/#$at/#"; }
up=$(curl -sf -u test:1234 -i -X POST $at/v2/hand/made/blobs/uploads/ | where)
up=$(curl -sf -u test:1234 -i -X PATCH -H 'Transfer-Encoding: chunked' -H 'Content-Type: application/octet-stream' -T /tmp/chunk "$up" | where)
curl -sf -u test:1234 -X PUT "$up?digest=sha256:$d"
test "$(curl -sf -u test:1234 $at/v2/hand/made/blobs/sha256:$d | sha256sum | cut -d' ' -f1)" = $d
test "$(curl -sf -u test:1234 -r 100-199 $at/v2/hand/made/blobs/sha256:$d | wc -c)" = 100`)
	})
	t.Run("the same logins", func(t *testing.T) {
		m.serve(t, "127.0.0.1:5000", "auth: {htpasswd: {realm: both, path: /opt/nginx/conf/.htpasswd}}\n")
		m.says(t, "curl -s -i http://127.0.0.1:5000/v2/", "401", `Basic realm="both"`)
		m.run(t, "docker pull docker.xx.com/team/big:docker; docker tag docker.xx.com/team/big:docker docker.xx.com/team/big:again; docker push docker.xx.com/team/big:again")
		m.run(t, podmanOf+"push docker.xx.com/team/big:docker 2>/dev/null || skopeo inspect --creds test:1234 docker://docker.xx.com/team/big:again")
		m.fails(t, "curl -sf -u test:wrong https://docker.xx.com/v2/_catalog")
		// Pings stay free, for nginx asks for no login there either.
		m.says(t, "curl -s -o /dev/null -w '%{http_code}' https://docker.xx.com/_ping", "200")
		m.until(t, "tail -n 40 events", `"name": "test"`)
	})
	t.Run("limit_except", func(t *testing.T) {
		m.run(t, "nginx -s quit || true; while pgrep -x nginx >/dev/null; do sleep 0.05; done")
		// There nginx has an address of its own, in its container.
		conf := strings.Replace(recipe(t, "a-nginx.conf"), "listen 5000;", "listen 10.9.0.3:5000;", 1)
		m.serve(t, "10.9.0.4:5000", "  tls: {certificate: /etc/nginx/conf.d/domain.crt, key: /etc/nginx/conf.d/domain.key}\n")
		m.nginx(t, "/etc/nginx/nginx.conf", conf)
		m.run(t, "docker login -u test -p 1234 yourdomain.com:5000; docker tag docker.xx.com/team/big:docker yourdomain.com:5000/other/big:one; docker push yourdomain.com:5000/other/big:one")
		m.run(t, "skopeo copy --src-creds test:1234 --dest-creds test:1234 docker://yourdomain.com:5000/other/big:one docker://yourdomain.com:5000/skopeo/small:one")
		m.run(t, podmanOf+"login -u test -p 1234 yourdomain.com:5000; "+podmanOf+"pull yourdomain.com:5000/other/big:one; "+podmanOf+"rmi --all")
		m.says(t, "curl -s https://yourdomain.com:5000/v2/other/big/tags/list", `{"name":"other/big","tags":["one"]}`)
		m.says(t, "curl -s -o /dev/null -w '%{http_code}' -X POST https://yourdomain.com:5000/v2/other/big/blobs/uploads/", "401")
		m.until(t, "cat events", `"addr": "10.9.0.3`, `"url": "https://yourdomain.com:5000/v2/other/big/manifests/sha256:`)
	})
	t.Run("an upstream is gone", func(t *testing.T) {
		m.run(t, "nginx -s quit || true; while pgrep -x nginx >/dev/null; do sleep 0.05; done")
		m.serve(t, "10.9.0.4:5000", "")
		// The first node does not answer: nginx goes on to the second, for
		// what it may ask again.
		conf := strings.Replace(recipe(t, "c-nginx.conf"), "server 127.0.0.1:5000;", "ip_hash; server 10.9.0.5:5000 weight=2 max_fails=1; server 10.9.0.4:5000; server 10.9.0.6:5000 down;", 1)
		m.nginx(t, "/opt/nginx/conf/nginx.conf", conf)
		m.run(t, "docker pull docker.xx.com/team/big:docker; docker push docker.xx.com/team/big:docker")
	})
	t.Run("rules", func(t *testing.T) { admitNginx(t, m) })
	if log := m.run(t, "cat /var/log/regctl.log"); strings.Contains(log, "level=error") {
		t.Errorf("regctl found something wrong:\n%s", m.run(t, "grep level=error /var/log/regctl.log"))
	}
}
