package main_test

import (
	"regexp"
	"strings"
	"testing"
)

// admitNginx has everyone pull and who has logged in push, behind the nginx of
// two articles, of which nothing is changed but that it asks for no login
// itself.
func admitNginx(t *testing.T, m *machine) {
	m.run(t, "rm -rf ~/.docker; "+podmanOf+"logout --all || true; : >/var/log/regctl.log")
	const rules = "auth: {htpasswd: {realm: both, path: /opt/nginx/conf/.htpasswd}}\naccess: public-pull\n"
	t.Run("logins", func(t *testing.T) {
		m.run(t, "nginx -s quit || true; while pgrep -x nginx >/dev/null; do sleep 0.05; done")
		m.serve(t, "127.0.0.1:5000", rules)
		m.nginx(t, "/opt/nginx/conf/nginx.conf", withoutLogins(recipe(t, "c-nginx.conf")))
		behindNginx(t, m, "docker.xx.com")
	})
	t.Run("limit_except", func(t *testing.T) {
		m.run(t, "nginx -s quit || true; while pgrep -x nginx >/dev/null; do sleep 0.05; done")
		m.serve(t, "10.9.0.4:5000", "  tls: {certificate: /etc/nginx/conf.d/domain.crt, key: /etc/nginx/conf.d/domain.key}\n"+rules)
		m.nginx(t, "/etc/nginx/nginx.conf", withoutLogins(strings.Replace(recipe(t, "a-nginx.conf"), "listen 5000;", "listen 10.9.0.3:5000;", 1)))
		behindNginx(t, m, "yourdomain.com:5000")
	})
}

var logins = regexp.MustCompile(`(?m)^\s*auth_basic.*\n`)

func withoutLogins(conf string) string { return logins.ReplaceAllString(conf, "") }

// behindNginx pulls without a login, and pushes with one.
func behindNginx(t *testing.T, m *machine, host string) {
	t.Helper()
	ref := host + "/team/app:" + strings.ReplaceAll(t.Name()[strings.LastIndex(t.Name(), "/")+1:], "_", "-")
	m.run(t, "head -c 300000 /dev/urandom >/tmp/one; tar -C /tmp -c one | docker import - "+ref)
	m.says(t, "curl -s -i https://"+host+"/v2/", " 401", `Bearer realm="https://`+host+`/v2/_token",service="`+host+`"`)
	m.fails(t, "docker push "+ref, "docker login "+host)
	m.fails(t, "docker login -u test -p wrong "+host, "the user or the password is wrong")
	m.run(t, "docker login -u test -p 1234 "+host+"; docker push "+ref+"; docker logout "+host)
	m.run(t, "docker rmi "+ref+"; docker pull "+ref)
	m.run(t, "docker tag "+ref+" "+ref+"-again")
	m.fails(t, "docker push "+ref+"-again", "docker login "+host)
	m.run(t, podmanOf+"pull "+ref)
	m.fails(t, podmanOf+"push "+ref+" "+ref+"-podman", "authentication required")
	m.run(t, podmanOf+"login -u test -p 1234 "+host+"; "+podmanOf+"push "+ref+" "+ref+"-podman; "+podmanOf+"logout "+host+"; "+podmanOf+"rmi --all")
	m.run(t, "skopeo copy docker://"+ref+"-podman oci:/tmp/oci:x; skopeo copy --dest-creds test:1234 oci:/tmp/oci:x docker://"+ref+"-skopeo; rm -r /tmp/oci")
	m.says(t, "curl -s -u test:1234 https://"+host+"/v2/team/app/tags/list", "-podman", "-skopeo")
	m.says(t, "curl -s -o /dev/null -w '%{http_code}' https://"+host+"/v2/_catalog", "401")
}
