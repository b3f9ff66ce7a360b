package main_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// These are the recipes of five articles on registry:2, A to E, that people
// still follow: each command, variable and file as it stands there, on a
// machine that has what it names. The image is ours under the name it has in
// the article, images of Docker Hub are small ones of the same name, and
// service and systemctl are scripts that start dockerd. The articles came as
// bare text: blanks and indentation that were lost in it are put back.
//
// A step is named by the rows of articleRows that it holds.

// step is a part of an article.
type step struct {
	rows string // Of articleRows, with blanks between them.
	name string
	do   func(t *testing.T, m *machine)
}

var articles = map[string]struct {
	addrs    []string
	registry string
	images   []string
	steps    []step
}{
	"A":     {[]string{"10.9.0.3 yourdomain.com"}, "registry:2", []string{"hello-world"}, articleA},
	"B":     {[]string{"192.168.211.15"}, "registry:2.3.0", []string{"centos"}, articleB},
	"C":     {[]string{"192.168.1.100 docker.xx.com", "192.168.1.101", "192.168.1.102"}, "registry:latest", []string{"ubuntu:12.04"}, articleC},
	"D":     {[]string{"10.0.2.2"}, "registry:2", []string{"localhost:5000/official/ubuntu:14.04"}, articleD},
	"other": {[]string{"10.9.0.9"}, "registry:2", []string{"ubuntu"}, otherRecipes},
	"E":     {[]string{"10.9.0.2 example.com"}, "registry:2", []string{"ubuntu", "bash"}, articleE},
}

func TestArticles(t *testing.T) {
	t.Parallel()
	for name, a := range articles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := startMachine(t, a.addrs...)
			m.startDocker(t, a.registry, a.images...)
			if _, err := m.try("command -v sudo"); err != nil {
				m.write(t, "/usr/local/bin/sudo", 0o755, "#!/bin/sh\nexec \"$@\"\n")
			}
			for _, s := range a.steps {
				t.Run(strings.ReplaceAll(s.rows+" "+s.name, " ", "_"), func(t *testing.T) { s.do(t, m) })
			}
		})
	}
}

// TestArticleSteps checks that each row that is to be held by a step is.
func TestArticleSteps(t *testing.T) {
	held := map[string]bool{}
	for _, a := range articles {
		for _, s := range a.steps {
			for _, row := range strings.Fields(s.rows) {
				held[row] = true
				if by, ok := articleRows[row]; !ok || by != byStep {
					t.Errorf("a step holds %s, the list says %q", row, by)
				}
			}
		}
	}
	for row, by := range articleRows {
		if by == byStep && !held[row] {
			t.Errorf("no step holds %s", row)
		}
	}
}

// up waits until a registry answers.
func (m *machine) up(tb testing.TB, url string) {
	tb.Helper()
	m.until(tb, "curl -sk -o /dev/null "+url)
}

// recipe is a file of an article.
func recipe(tb testing.TB, name string) string {
	tb.Helper()
	return read(tb, filepath.Join("testdata", "recipes", name))
}

// answers are what openssl asks for: all as it proposes but for the name.
func answers(name string) string {
	return fmt.Sprintf(`printf '\n\n\n\n\n%s\n\n\n\n'`, name)
}

var articleA = []step{
	{"S1", "one command", func(t *testing.T, m *machine) {
		m.run(t, "docker run --rm -p 5000:5000 registry:2 >/tmp/a.log 2>&1 &")
		m.up(t, "http://localhost:5000/v2/")
		m.run(t, "docker stop $(docker ps -q)")
	}},
	{"S21 S24 S26 S30 S32", "a certificate with a name alone", func(t *testing.T, m *machine) {
		m.run(t, answers("yourdomain.com")+` | (mkdir -p certs && openssl req \
-newkey rsa:4096 -nodes -sha256 -keyout certs/domain.key \
-x509 -days 365 -out certs/domain.crt)`)
		serve := `docker run -d --name registry -p 5000:5000 -v $PWD/certs:/certs -e REGISTRY_HTTP_TLS_CERTIFICATE=/certs/domain.crt -e REGISTRY_HTTP_TLS_KEY=/certs/domain.key registry:2`
		m.run(t, serve)
		m.up(t, "https://yourdomain.com:5000/v2/")
		m.run(t, `mkdir -p /etc/docker/certs.d/yourdomain.com:5000
cp certs/domain.crt /etc/docker/certs.d/yourdomain.com:5000/ca.crt
systemctl restart docker; docker start registry
docker tag hello-world yourdomain.com:5000/hello-world`)
		m.up(t, "https://yourdomain.com:5000/v2/")
		m.fails(t, "docker push yourdomain.com:5000/hello-world", "legacy Common Name field")
		oldRecipe(t, "a certificate with only a CN")
		m.says(t, "docker logs registry 2>&1", "/certs/domain.crt: the name yourdomain.com is only its common name (CN)")
		m.run(t, `docker rm -f registry; openssl req \
-newkey rsa:4096 -nodes -sha256 -keyout certs/domain.key \
-x509 -days 365 -out certs/domain.crt -subj /CN=yourdomain.com -addext subjectAltName=DNS:yourdomain.com`)
		m.run(t, serve)
		m.up(t, "https://yourdomain.com:5000/v2/")
		m.fails(t, "docker push yourdomain.com:5000/hello-world", "x509")
		m.run(t, `cp certs/domain.crt /etc/docker/certs.d/yourdomain.com:5000/ca.crt
docker push yourdomain.com:5000/hello-world; docker pull yourdomain.com:5000/hello-world`)
	}},
	{"S25 S37 S38 S51 S57", "nginx with limit_except", articleANginx},
	{"S5 S7 S9 S11 S12 S17 S18 S43 S45 S46", "config.yml and compose", articleAConfig},
	{"S10", "deletes and garbage-collect", articleACollect},
	{"S36 S40 S61", "everyone pulls, who has logged in pushes", articleAAdmit},
	{"S48 S99", "teams", articleATeams},
	{"S58 S59 S60", "lists, keeps the last, collects", articleAOperate},
	{"S97", "test and production", articleAStages},
}

func articleANginx(t *testing.T, m *machine) {
	peer(t, "nginx")
	m.run(t, `docker rm -f registry
docker run -d --name registry -v $PWD/certs:/certs -e REGISTRY_HTTP_TLS_CERTIFICATE=/certs/domain.crt -e REGISTRY_HTTP_TLS_KEY=/certs/domain.key registry:2
echo $(docker inspect -f '{{.NetworkSettings.IPAddress}}' registry) registry >>/etc/hosts
mkdir -p auth; docker run --rm --entrypoint htpasswd registry:2 -bn user pass >auth/nginx.htpasswd
cp certs/domain.* auth/; cp auth/* /etc/nginx/conf.d/`)
	m.up(t, "https://registry:5000/v2/")
	m.nginx(t, "/etc/nginx/nginx.conf", recipe(t, "a-nginx.conf"))
	m.up(t, "https://yourdomain.com:5000/v2/")
	m.run(t, "systemctl restart docker; docker start registry; sed -i '/ registry$/d' /etc/hosts; echo $(docker inspect -f '{{.NetworkSettings.IPAddress}}' registry) registry >>/etc/hosts")
	m.up(t, "https://registry:5000/v2/")
	m.run(t, "nginx -s reload")
	m.run(t, "docker rmi yourdomain.com:5000/hello-world")
	m.fails(t, "docker pull yourdomain.com:5000/hello-world", "no basic auth credentials") // The attempt that failed.
	m.says(t, "docker login yourdomain.com:5000 -u=user -p=pass", "Login Succeeded")
	m.run(t, "docker tag hello-world yourdomain.com:5000/hello-world; docker push yourdomain.com:5000/hello-world; docker pull yourdomain.com:5000/hello-world")
	m.says(t, "curl -sk https://yourdomain.com:5000/v2/_catalog", `{"repositories":["hello-world"]}`)
	m.says(t, "curl -sk https://yourdomain.com:5000/v2/hello-world/manifests/latest", `"schemaVersion"`)
	m.says(t, "curl -sk -o /dev/null -w '%{http_code}' -X POST https://yourdomain.com:5000/v2/hello-world/blobs/uploads/", "401")
	m.says(t, "curl -sk -i https://yourdomain.com:5000/v2/", "401", "Docker-Distribution-Api-Version: registry/2.0", `Basic realm="Restricted"`)
	m.says(t, "curl -sk -i -u user:pass -X POST https://yourdomain.com:5000/v2/hello-world/blobs/uploads/", "202", "Location: /v2/hello-world/blobs/uploads/")
	m.says(t, "docker logs registry 2>&1", "10.9.0.3") // Not nginx's own address.
	m.run(t, "nginx -s quit; docker logout yourdomain.com:5000; docker rm -f registry")
}

// nginx starts the nginx of the machine with a config file, of which it takes
// all. From nginx 1.25 on it does not know the line `ssl on`, which is taken
// out there.
func (m *machine) nginx(t *testing.T, path, conf string) {
	t.Helper()
	m.write(t, path, 0o644, conf)
	if out, err := m.try("nginx -t -c " + path); err != nil && strings.Contains(out, `unknown directive "ssl"`) {
		oldRecipe(t, "`ssl on`")
		m.run(t, `sed -i -E 's/^( *)ssl on;$//; s/^( *listen [0-9]+);$/\1 ssl;/' `+path)
	}
	m.says(t, "mkdir -p /var/log/nginx; nginx -t -c "+path, "test is successful")
	// What another one has put aside is of another user.
	m.run(t, "rm -rf /var/lib/nginx/*; nginx -c "+path+" 2>/dev/null")
}

func articleAConfig(t *testing.T, m *machine) {
	peer(t, "docker-compose")
	m.write(t, "/root/docker-compose.yml", 0o644, recipe(t, "a-docker-compose.yml"))
	config := recipe(t, "a-config.yml")
	m.write(t, "/root/registry_config.yml", 0o644, config)
	articleAToken(t, m, config)
	from, to := strings.Index(config, "auth:\n"), strings.Index(config, "http:\n")
	m.write(t, "/root/registry_config.yml", 0o644, config[:from]+config[to:])
	m.run(t, "docker-compose up -d registry")
	m.up(t, "https://yourdomain.com:5000/v2/")
	m.says(t, "curl --http1.1 -sk -i https://yourdomain.com:5000/v2/", " 200", "X-Content-Type-Options: nosniff")
	m.says(t, "curl -sk -o /dev/null -w '%{http_code}' https://yourdomain.com:5000/readyz", "200")
	m.run(t, "docker push yourdomain.com:5000/hello-world; test -d data/docker/registry/v2/repositories/hello-world")
	m.says(t, "docker-compose logs registry 2>&1", "service=registry")
}

// wantOneLine checks that one line of out names what is wrong.
func wantOneLine(t *testing.T, out, name string) {
	t.Helper()
	n := 0
	for line := range strings.Lines(out) {
		if strings.Contains(line, name) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d lines say %s:\n%s", n, name, out)
	}
}

// The recipe deletes by a script for the API, registry.py, then collects in a
// container of its own while the registry is down.
func articleACollect(t *testing.T, m *machine) {
	m.run(t, `d=$(curl -sk -I -H 'Accept: application/vnd.docker.distribution.manifest.v2+json' https://yourdomain.com:5000/v2/hello-world/manifests/latest | tr -d '\r' | sed -n 's/^[Dd]ocker-[Cc]ontent-[Dd]igest: //p')
test $(curl -sk -o /dev/null -w '%{http_code}' -X DELETE https://yourdomain.com:5000/v2/hello-world/manifests/$d) = 202`)
	m.run(t, "docker-compose down")
	blobs := "find data/docker/registry/v2/blobs -name data | wc -l"
	if before := strings.TrimSpace(m.run(t, blobs)); before != "3" {
		t.Errorf("%s blobs before", before)
	}
	// The file is that with auth.token again, which keeps no collection from
	// running.
	m.write(t, "/root/registry_config.yml", 0o644, recipe(t, "a-config.yml"))
	// What was deleted a moment ago stays for undo, and what is younger than an
	// hour in any case.
	m.says(t, "docker-compose run -T registry bin/registry garbage-collect /etc/docker/registry/config.yml 2>&1", "kept")
	m.run(t, "docker-compose run -T registry bin/regctl gc --older 0 --undo 0 /etc/docker/registry/config.yml")
	if after := strings.TrimSpace(m.run(t, blobs)); after != "0" {
		t.Errorf("%s blobs after", after)
	}
}

// These are as widespread as the articles.
var otherRecipes = []step{
	{"S10", "garbage-collect beside the server", func(t *testing.T, m *machine) {
		m.run(t, "docker run -d --name registry -p 5000:5000 -e REGISTRY_STORAGE_DELETE_ENABLED=true registry:2")
		m.up(t, "http://localhost:5000/v2/")
		m.run(t, "docker tag ubuntu localhost:5000/u; docker push localhost:5000/u")
		for _, line := range []string{
			"bin/registry garbage-collect /etc/docker/registry/config.yml",
			"registry garbage-collect --delete-untagged=true --dry-run /etc/docker/registry/config.yml",
			"/bin/registry garbage-collect -m /etc/docker/registry/config.yml",
		} {
			m.says(t, "docker exec registry "+line+" 2>&1", "asked the server")
		}
		m.run(t, "docker pull localhost:5000/u")
		m.says(t, "docker exec registry registry --version; docker run --rm registry:2 --version; docker run --rm registry:2 registry --version", "registry github.com/regctl/regctl")
		m.run(t, "docker rm -f -v registry")
	}},
	{"S6", "headers for a page elsewhere", func(t *testing.T, m *machine) {
		m.run(t, `docker run -d --name registry -p 5000:5000 -e "REGISTRY_HTTP_HEADERS_Access-Control-Allow-Origin=['*']" registry:2`)
		m.up(t, "http://localhost:5000/v2/")
		m.says(t, "curl -si http://localhost:5000/v2/; docker rm -f -v registry", "Access-Control-Allow-Origin: *")
	}},
	{"S4 S8", "not root, nothing else writable", func(t *testing.T, m *machine) {
		m.run(t, "mkdir -p /srv/e; chown 1000:1000 /srv/e; docker run -d --name registry -p 5000:5000 --user 1000:1000 --read-only -v /srv/e:/var/lib/registry registry:2")
		m.up(t, "http://localhost:5000/v2/")
		m.run(t, "docker push localhost:5000/u; test -d /srv/e/docker/registry/v2/repositories/u; docker rm -f -v registry")
	}},
	{"S6", "a store that only reads", func(t *testing.T, m *machine) {
		for _, variable := range []string{"REGISTRY_STORAGE_MAINTENANCE_READONLY='{enabled: true}'", "REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED=true", "REGISTRY_STORAGE_MAINTENANCE='{readonly: {enabled: true}}'"} {
			m.run(t, "docker run -d --name registry -p 5000:5000 -e "+variable+" registry:2")
			m.up(t, "http://localhost:5000/v2/")
			m.fails(t, "docker push localhost:5000/u", "read-only")
			m.run(t, "docker rm -f -v registry")
		}
	}},
	{"S13", "what is not built stops the start", func(t *testing.T, m *machine) {
		for variables, want := range map[string]string{
			"-e REGISTRY_PROXY_REMOTEURL=https://registry-1.docker.io":                                          "proxy.remoteurl is not built yet",
			"-e REGISTRY_STORAGE=s3 -e REGISTRY_STORAGE_S3_BUCKET=b -e REGISTRY_STORAGE_S3_SECRETKEY=TopSecret": "storage.s3 is not built yet",
			"-e REGISTRY_STORAGE_S3_SECRETKEY=TopSecret":                                                        "storage.s3 is not built yet",
			"-e REGISTRY_HTTP_TLS_CERTIFICATE=/certs/a.crt -e REGISTRY_HTTP_TLS_KEY=/certs/a.key":               "/certs/a.crt: no such file",
		} {
			if out := m.fails(t, "docker run --rm "+variables+" registry:2 2>&1", want); strings.Contains(out, "TopSecret") {
				t.Errorf("it tells a secret: %s", out)
			}
		}
	}},
}

var articleB = []step{
	{"S29", "plain HTTP where HTTPS is asked for", func(t *testing.T, m *machine) {
		m.run(t, `docker run -d --restart=always --name registry -p 5000:5000 -v /storage/registry:/var/lib/registry registry:2.3.0
docker ps
docker tag centos:latest 192.168.211.15:5000/centos:latest`)
		m.up(t, "http://192.168.211.15:5000/v2/")
		m.fails(t, "docker push 192.168.211.15:5000/centos:latest", "server gave HTTP response to HTTPS client")
	}},
	{"S4 S28 S62", "insecure-registry", func(t *testing.T, m *machine) {
		// /etc/sysconfig/docker and its OPTIONS are Red Hat's.
		m.write(t, "/etc/default/docker", 0o644, "DOCKER_OPTS='--insecure-registry 192.168.211.15:5000'\n")
		m.run(t, `docker stop registry
systemctl restart docker
docker start registry`)
		m.up(t, "http://192.168.211.15:5000/v2/")
		m.run(t, "docker push 192.168.211.15:5000/centos:latest; test -d /storage/registry/docker/registry/v2/repositories/centos")
		m.fails(t, "curl -sS https://192.168.211.15:5000/v2/_catalog", "SSL") // As it stands there, of a registry without TLS.
		m.says(t, "curl -s http://192.168.211.15:5000/v2/_catalog", `{"repositories":["centos"]}`)
		m.run(t, "docker rm -f -v registry")
	}},
	{"S23 S34", "certificate with an address, htpasswd", func(t *testing.T, m *machine) {
		m.write(t, "/root/ssl.conf", 0o644, recipe(t, "b-ssl.conf"))
		m.run(t, `mkdir /certs /auth
openssl req -config ssl.conf -new -x509 -nodes -sha256 -days 365 -newkey rsa:4096 -keyout /certs/server-key.pem -out /certs/server-crt.pem`)
		peer(t, "htpasswd")
		m.says(t, `htpasswd -Bbn testuser testpassword > /auth/htpasswd
cat /auth/htpasswd`, "testuser:$2y$05$")
		m.says(t, `sudo sh -c "docker run --entrypoint htpasswd registry:2.3.0 -Bbn testuser testpassword > /auth/htpasswd"
cat /auth/htpasswd`, "testuser:$2y$")
		m.run(t, `mkdir auth; docker run --entrypoint htpasswd registry:2.3.0 -Bbn testuser testpassword > auth/htpasswd; htpasswd -vb auth/htpasswd testuser testpassword`)
	}},
	{"S6 S33 S35", "TLS and logins by variables", func(t *testing.T, m *machine) {
		m.run(t, `rm /etc/default/docker; docker ps -aq | xargs docker rm -f
docker run -d \
-p 5000:5000 \
--name registry \
--restart=always \
-v /var/lib/registry:/var/lib/registry \
-v /auth:/auth \
-v /certs:/certs \
-e REGISTRY_HTTP_TLS_CERTIFICATE=/certs/server-crt.pem \
-e REGISTRY_HTTP_TLS_KEY=/certs/server-key.pem \
-e REGISTRY_AUTH=htpasswd \
-e REGISTRY_AUTH_HTPASSWD_REALM="Registry Realm" \
-e REGISTRY_AUTH_HTPASSWD_PATH=/auth/htpasswd \
registry:2.3.0`)
		m.up(t, "https://192.168.211.15:5000/v2/")
		m.says(t, "curl -ski https://192.168.211.15:5000/v2/", "401", `Basic realm="Registry Realm"`)
	}},
	{"S26", "a .pem in certs.d", func(t *testing.T, m *machine) {
		m.run(t, `mkdir -p /etc/docker/certs.d/192.168.211.15:5000/
cp /certs/server-crt.pem /etc/docker/certs.d/192.168.211.15\:5000/
systemctl restart docker`)
		m.up(t, "https://192.168.211.15:5000/v2/")
		m.fails(t, "docker login -u testuser -p testpassword 192.168.211.15:5000", "x509: certificate signed by unknown authority")
		oldRecipe(t, "`.pem` in `certs.d`")
		m.run(t, "cd /etc/docker/certs.d/192.168.211.15:5000; mv server-crt.pem server-crt.crt")
		m.says(t, "docker login -u testuser -p testpassword 192.168.211.15:5000", "Login Succeeded")
	}},
	{"S41 S64 S100", "from the command line", func(t *testing.T, m *machine) {
		list := `curl -s -k -u "testuser:testpassword" https://192.168.211.15:5000/v2/`
		m.says(t, list+"_catalog", `{"repositories":[]}`)
		m.run(t, "docker push 192.168.211.15:5000/centos:latest")
		m.says(t, list+"_catalog", `{"repositories":["centos"]}`)
		m.says(t, list+"centos/tags/list", `{"name":"centos","tags":["latest"]}`)
	}},
	{"S64", "containerd beside docker", func(t *testing.T, m *machine) {
		peer(t, "ctr")
		ctr := "ctr --address /run/docker/containerd/containerd.sock "
		m.fails(t, ctr+"images pull --tlscacert /certs/server-crt.pem 192.168.211.15:5000/centos:latest", "401")
		m.run(t, ctr+`images pull --tlscacert /certs/server-crt.pem --user testuser:testpassword 192.168.211.15:5000/centos:latest
`+ctr+`images tag 192.168.211.15:5000/centos:latest 192.168.211.15:5000/containerd/centos:1
`+ctr+`images push --tlscacert /certs/server-crt.pem --user testuser:testpassword 192.168.211.15:5000/containerd/centos:1
docker pull 192.168.211.15:5000/containerd/centos:1`)
	}},
}

var articleC = []step{
	{"S22 S27 S55", "an own authority, nginx as a user of its own", func(t *testing.T, m *machine) {
		peer(t, "nginx")
		m.run(t, `mkdir ~/certs; cd ~/certs
sudo openssl genrsa -out dockerCA.key 2048
`+answers("docker.xx.com")+` | sudo openssl req -x509 -new -nodes -key dockerCA.key -days 10000 -out dockerCA.crt
sudo openssl genrsa -out nginx.key 2048
`+answers("docker.xx.com")+` | sudo openssl req -new -key nginx.key -out nginx.csr
sudo openssl x509 -req -in nginx.csr -CA dockerCA.crt -CAkey dockerCA.key -CAcreateserial -out nginx.crt -days 10000`)
		m.says(t, "regctl cert show ~/certs/nginx.crt 2>&1 || true", "common name (CN)", "its CA bears its very name")
		oldRecipe(t, "a CA and a certificate of one name")
		m.run(t, `sudo groupadd www -g 58; sudo useradd -u 58 -g www www
mkdir -p /opt/nginx/conf /opt/nginx/sbin /opt/nginx/logs /etc/nginx/ssl; cp /etc/nginx/mime.types /opt/nginx/conf
printf '#!/bin/sh\nexec nginx -c /opt/nginx/conf/nginx.conf "$@"\n' >/opt/nginx/sbin/nginx; chmod +x /opt/nginx/sbin/nginx
sudo cp ~/certs/nginx.key /etc/nginx/ssl/; sudo cp ~/certs/nginx.crt /etc/nginx/ssl/`)
		m.run(t, `sudo mkdir -p /usr/local/share/ca-certificates/docker-dev-cert
sudo cp ~/certs/dockerCA.crt /usr/local/share/ca-certificates/docker-dev-cert
sudo update-ca-certificates
test -e /etc/ssl/certs/dockerCA.pem
sudo mkdir -p /etc/docker/certs.d/docker.xx.com/
cd ~/certs; sudo cp dockerCA.crt /etc/docker/certs.d/docker.xx.com/ca.crt
sudo service docker stop
echo 'DOCKER_OPTS="--insecure-registry docker.xx.com"' >/etc/default/docker
sudo service docker start`)
	}},
	{"S34", "htpasswd -cb -b -D", func(t *testing.T, m *machine) {
		m.run(t, `USER=test PASSWORD=1234 USER_2=other PASSWORD_2=5678
sudo htpasswd -cb /opt/nginx/conf/.htpasswd ${USER} ${PASSWORD}
sudo htpasswd -b /opt/nginx/conf/.htpasswd ${USER_2} ${PASSWORD_2}
htpasswd -D /opt/nginx/conf/.htpasswd other
test "$(cut -d: -f1 /opt/nginx/conf/.htpasswd)" = test`)
		// The same by ours, under that name.
		m.run(t, `ln -s /usr/local/bin/regctl /root/htpasswd; f=/root/ours
./htpasswd -cb $f test 1234; ./htpasswd -b $f other 5678; ./htpasswd -D $f other
test "$(cut -d: -f1 $f)" = test; htpasswd -vb $f test 1234
./htpasswd -nbB username password | grep -F 'username:$2y$'
./htpasswd -nb -B username password | grep -F 'username:$2y$'
cp $f /opt/nginx/conf/.htpasswd`)
	}},
	{"S13 S19 S20", "the OSS driver", func(t *testing.T, m *machine) {
		config := recipe(t, "c-config.yml")
		m.write(t, "/root/config.yml", 0o644, config)
		out := m.fails(t, "docker run --rm -p 127.0.0.1:5000:5000 -v `pwd`/config.yml:/etc/docker/registry/config.yml registry:latest 2>&1", "storage.oss is not built", "s3, which OSS speaks")
		wantOneLine(t, out, "storage.oss")
		oldRecipe(t, "`storage.oss`")
		from, to := strings.Index(config, "  oss:\n"), strings.Index(config, "  delete:\n")
		m.write(t, "/root/config.yml", 0o644, config[:from]+"  filesystem:\n    rootdirectory: /var/lib/registry\n"+config[to:])
		m.run(t, "docker run -d -p 127.0.0.1:5000:5000 --restart=always --name registry -v `pwd`/config.yml:/etc/docker/registry/config.yml registry:latest")
		m.up(t, "http://127.0.0.1:5000/v2/")
	}},
	{"S14 S15 S16 S17", "what its config.yml asks for", func(t *testing.T, m *machine) {
		at := "$(docker inspect -f '{{.NetworkSettings.IPAddress}}' registry)"
		m.says(t, "curl -sf http://"+at+":5001/debug/health", "{}")
		m.says(t, "curl -si http://127.0.0.1:5000/v2/", "X-Content-Type-Options: nosniff")
		m.says(t, "docker logs registry 2>&1", "environment=staging", "service=registry", "level=debug")
	}},
	{"S51 S52 S53 S56 S57 S94", "nginx with logins", func(t *testing.T, m *machine) {
		m.nginx(t, "/opt/nginx/conf/nginx.conf", recipe(t, "c-nginx.conf"))
		m.says(t, "sudo /opt/nginx/sbin/nginx -t", "successful")
		m.says(t, `ps -ef|grep -i "nginx"`, "master process", "www")
		m.says(t, "curl -s -o /dev/null -w '%{http_code}' -k https://test:1234@docker.xx.com/v2/", "200")
		m.says(t, "curl -i -s -k https://test:123@docker.xx.com/v2/", "401", `Basic realm="registry"`, "Docker-Distribution-Api-Version: registry/2.0")
		// As it stands there it wants a dollar at the end, for \\$ is no end of line.
		m.says(t, "curl -s -o /dev/null -w '%{http_code}' -k -A 'docker/1.4.1 go/go1.3 $' https://test:1234@docker.xx.com/v2/", "404")
		m.says(t, "curl -s -o /dev/null -w '%{http_code}' -k https://docker.xx.com/_ping", "200")
		m.says(t, "curl -s -o /dev/null -w '%{http_code}' -k https://docker.xx.com/v1/_ping", "404") // A client of V2 goes on to it.
	}},
	{"S33 S88 S64", "login, tag, push, pull", func(t *testing.T, m *machine) {
		m.fails(t, "docker login -u test -p 1234 -e test@gmail.com https://docker.xx.com", "unknown shorthand flag: 'e'")
		oldRecipe(t, "`docker login -e`")
		m.says(t, "docker login -u test -p 1234 https://docker.xx.com", "Login Succeeded")
		m.run(t, `docker tag ubuntu:12.04 docker.xx.com/ubuntu:12.04
docker push docker.xx.com/ubuntu:12.04
docker pull docker.xx.com/ubuntu:12.04`)
		m.says(t, "cat /var/log/nginx_access.log", `"127.0.0.1:5000"`, "- test [")
		m.says(t, "docker logs registry 2>&1", "192.168.1.100")
	}},
	{"S10", "deletes are off", func(t *testing.T, m *machine) {
		m.says(t, "curl -s -o /dev/null -w '%{http_code}' -X DELETE http://127.0.0.1:5000/v2/ubuntu/manifests/12.04", "405")
	}},
	{"S54", "two nodes", func(t *testing.T, m *machine) {
		// One of them down, as in the article, which has both on one store.
		m.run(t, `docker stop registry
for n in 101 102; do regctl serve --addr 192.168.1.$n:5000 --data /srv/$n </dev/null >/tmp/node-$n.log 2>&1 & done`)
		for _, method := range []string{"ip_hash;", "", "least_conn;"} {
			upstream := "upstream registry {\n" + method + "\nserver 192.168.1.101:5000 weight=2;\nserver 192.168.1.102:5000 down;\n}"
			m.write(t, "/opt/nginx/conf/nginx.conf", 0o644, strings.Replace(recipe(t, "c-nginx.conf"), "upstream registry {\n    server 127.0.0.1:5000;\n  }", upstream, 1))
			m.run(t, "/opt/nginx/sbin/nginx -t && /opt/nginx/sbin/nginx -s stop 2>/dev/null || true; while pgrep -x nginx >/dev/null; do sleep 0.05; done; /opt/nginx/sbin/nginx 2>/dev/null")
			m.up(t, "http://192.168.1.101:5000/v2/")
			m.until(t, "docker push docker.xx.com/ubuntu:12.04", "digest")
		}
		m.says(t, "curl -s http://192.168.1.101:5000/v2/_catalog", `["ubuntu"]`)
		m.says(t, "curl -s http://192.168.1.102:5000/v2/_catalog", `[]`)
	}},
}

var articleD = []step{
	{"S1 S2", "one command", func(t *testing.T, m *machine) {
		m.run(t, "docker run -d -p 5000:5000 registry:2")
		m.up(t, "http://localhost:5000/v2/")
		m.run(t, "docker push localhost:5000/official/ubuntu:14.04; docker rm -f -v $(docker ps -q)")
	}},
	{"S4", "another directory", func(t *testing.T, m *machine) {
		m.run(t, "docker run -d -p 5000:5000 -v /opt/data/registry:/var/lib/registry registry:2")
		m.up(t, "http://localhost:5000/v2/")
		m.run(t, "docker push localhost:5000/official/ubuntu:14.04; test -d /opt/data/registry/docker/registry/v2/repositories/official/ubuntu")
	}},
	{"S39 S62 S63", "the API by hand", func(t *testing.T, m *machine) {
		m.says(t, "curl -s -X GET http://localhost:5000/v2/", "{}")
		m.says(t, "curl -s -X GET http://localhost:5000/v2/official/ubuntu/tags/list", `{"name":"official/ubuntu","tags":["14.04"]}`)
		m.says(t, "curl -s -X GET http://localhost:5000/v2/official/ubuntu/manifests/14.04", `"schemaVersion"`, "sha256:")
		m.says(t, "curl -s -o /dev/null -w '%{http_code}' http://localhost:5000/v3/", "404")
	}},
	{"S28", "insecure-registry", func(t *testing.T, m *machine) {
		m.run(t, `docker rm -f $(docker ps -q)
echo 'DOCKER_OPTS="--insecure-registry 10.0.2.2:5000"' >/etc/default/docker; service docker restart
docker run -d -p 5000:5000 -v /opt/data/registry:/var/lib/registry registry:2`)
		m.up(t, "http://10.0.2.2:5000/v2/")
		m.run(t, "docker tag localhost:5000/official/ubuntu:14.04 10.0.2.2:5000/official/ubuntu:14.04; docker push 10.0.2.2:5000/official/ubuntu:14.04")
	}},
	{"S98", "what is there is not sent again", func(t *testing.T, m *machine) {
		m.says(t, "docker push 10.0.2.2:5000/official/ubuntu:14.04", "Layer already exists")
		m.says(t, "docker pull 10.0.2.2:5000/official/ubuntu:14.04", "Image is up to date")
	}},
	{"S33", "docker login -e", func(t *testing.T, m *machine) {
		m.fails(t, "docker login -u tom -p secret -e tom@example.com 10.0.2.2:5000", "unknown shorthand flag: 'e'")
		oldRecipe(t, "`docker login -e`")
	}},
	{"S76 S90", "push, notify, deploy", articleNotify},
}

// articleNotify is the line of E and D: a push succeeds, the registry tells it,
// and what is told deploys the image. The receiver is the shortest there is.
func articleNotify(t *testing.T, m *machine) {
	peer(t, "python3")
	m.write(t, "/root/receiver.py", 0o644, `import http.server, json, subprocess
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200); self.end_headers()
        for e in body["events"]:
            if e["action"] == "push" and e["target"].get("tag"):
                pulled = subprocess.run(["docker", "pull", "localhost:5000/%s@%s" % (e["target"]["repository"], e["target"]["digest"])])
                open("/root/deployed", "a").write("%s: %d\n" % (e["target"]["tag"], pulled.returncode))
http.server.HTTPServer(("0.0.0.0", 8000), Receiver).serve_forever()
`)
	m.run(t, "python3 receiver.py >/tmp/receiver.log 2>&1 </dev/null &")
	m.write(t, "/root/config.yml", 0o644, `version: 0.1
storage: {filesystem: {rootdirectory: /var/lib/registry}}
http: {addr: ":5000"}
notifications:
  endpoints:
    - name: deploy
      url: http://172.17.0.1:8000/events
      timeout: 5s
      threshold: 5
      backoff: 1s
`)
	m.run(t, `docker rm -f $(docker ps -q)
docker run -d -p 5000:5000 -v /opt/data/registry:/var/lib/registry -v $PWD/config.yml:/etc/docker/registry/config.yml registry:2`)
	m.up(t, "http://localhost:5000/v2/")
	m.run(t, "docker tag localhost:5000/official/ubuntu:14.04 localhost:5000/official/ubuntu:fixed; docker push localhost:5000/official/ubuntu:fixed")
	m.until(t, "cat deployed", "fixed: 0")
}

var articleE = []step{
	{"S1 S2 S64", "begin at once", func(t *testing.T, m *machine) {
		m.run(t, "docker run -d -p 5000:5000 --name registry registry:2")
		m.up(t, "http://localhost:5000/v2/")
		m.run(t, `docker tag ubuntu localhost:5000/myfirstimage
docker push localhost:5000/myfirstimage
docker pull localhost:5000/myfirstimage
docker stop registry
docker container rm -v registry
docker image rm localhost:5000/myfirstimage`)
	}},
	{"S8", "restart=always, rm -v", func(t *testing.T, m *machine) {
		m.run(t, "docker run -d -p 5000:5000 --restart=always --name registry registry:2")
		m.up(t, "http://localhost:5000/v2/")
		m.run(t, "docker tag ubuntu localhost:5000/myfirstimage; docker push localhost:5000/myfirstimage; service docker restart")
		m.until(t, "curl -s localhost:5000/v2/_catalog", "myfirstimage")
		m.run(t, "docker stop registry; docker container rm -v registry; docker run -d -p 5000:5000 --restart=always --name registry registry:2")
		m.until(t, "curl -s localhost:5000/v2/_catalog", `{"repositories":[]}`)
		m.run(t, "docker rm -f -v registry")
	}},
	{"S3", "another port", func(t *testing.T, m *machine) {
		m.run(t, "docker run -d -p 5001:5000 --name registry-test registry:2")
		m.up(t, "http://localhost:5001/v2/")
		m.run(t, "docker rm -f registry-test; docker run -d -e REGISTRY_HTTP_ADDR=0.0.0.0:5001 -p 5001:5001 --name registry-test registry:2")
		m.up(t, "http://localhost:5001/v2/")
		m.run(t, "docker rm -f registry-test")
	}},
	{"S4", "another directory", func(t *testing.T, m *machine) {
		m.run(t, "docker run -d -p 5000:5000 --restart=always --name registry -v /mnt/registry:/var/lib/registry registry:2")
		m.up(t, "http://localhost:5000/v2/")
		m.run(t, "docker push localhost:5000/myfirstimage; test -d /mnt/registry/docker/registry/v2/repositories/myfirstimage")
	}},
	{"S21 S24 S96", "a certificate for 100 years", func(t *testing.T, m *machine) {
		m.run(t, `mkdir -p certs
cd certs
export URLNAME=example.com
openssl req -x509 -days 36500 -newkey rsa:2048 -nodes \
-out ${URLNAME}.crt -keyout ${URLNAME}.key \
-subj "/C=JP/ST=Tokyo/L=null/O=null/OU=null/CN=${URLNAME}/"
cd ..
docker stop registry
docker container rm -v registry`)
		serve := `docker run -d \
--restart=always \
--name registry \
-v ` + "`pwd`" + `/certs:/certs \
-e REGISTRY_HTTP_ADDR=0.0.0.0:443 \
-e REGISTRY_HTTP_TLS_CERTIFICATE=/certs/example.com.crt \
-e REGISTRY_HTTP_TLS_KEY=/certs/example.com.key \
-p 443:443 \
registry:2`
		m.run(t, serve)
		m.up(t, "https://example.com/v2/")
		m.run(t, `mkdir -p /etc/docker/certs.d/example.com; cp certs/example.com.crt /etc/docker/certs.d/example.com/example.com.crt
docker tag bash example.com/my-bash`)
		m.fails(t, "docker push example.com/my-bash", "legacy Common Name field")
		oldRecipe(t, "a certificate with only a CN")
		m.says(t, "docker logs registry 2>&1", "/certs/example.com.crt: the name example.com is only its common name (CN)")
		m.run(t, `cd certs
export URLNAME=example.com
openssl req -x509 -days 36500 -newkey rsa:2048 -nodes \
-out ${URLNAME}.crt -keyout ${URLNAME}.key \
-subj "/C=JP/ST=Tokyo/L=null/O=null/OU=null/CN=${URLNAME}/" -addext subjectAltName=DNS:${URLNAME}
cp example.com.crt /etc/docker/certs.d/example.com/example.com.crt
docker rm -f registry; cd; `+serve)
		m.up(t, "https://example.com/v2/")
		m.run(t, "docker push example.com/my-bash; docker pull example.com/my-bash")
	}},
	{"S34 S35", "a password file", func(t *testing.T, m *machine) {
		m.run(t, `mkdir auth
docker run \
--entrypoint htpasswd \
registry:2 -Bbn testuser testpassword > auth/htpasswd
docker stop registry
docker container rm registry
docker run -d \
--restart=always \
--name registry \
-v `+"`pwd`"+`/auth:/auth \
-e "REGISTRY_AUTH=htpasswd" \
-e "REGISTRY_AUTH_HTPASSWD_REALM=Registry Realm" \
-e REGISTRY_AUTH_HTPASSWD_PATH=/auth/htpasswd \
-v `+"`pwd`"+`/certs:/certs \
-e REGISTRY_HTTP_ADDR=0.0.0.0:443 \
-e REGISTRY_HTTP_TLS_CERTIFICATE=/certs/example.com.crt \
-e REGISTRY_HTTP_TLS_KEY=/certs/example.com.key \
-p 443:443 \
registry:2`)
		m.up(t, "https://example.com/v2/")
	}},
	{"S40", "a push without login fails", func(t *testing.T, m *machine) {
		m.fails(t, "docker push example.com/my-bash", "no basic auth credentials")
		m.fails(t, "docker login example.com -u testuser -p wrong", "401 Unauthorized")
		// It asks for user and password where there is a terminal.
		m.says(t, "echo testpassword | docker login example.com -u testuser --password-stdin", "Login Succeeded")
		m.run(t, "docker push example.com/my-bash")
	}},
	{"S7 S93 S100", "compose", func(t *testing.T, m *machine) {
		peer(t, "docker-compose")
		m.write(t, "/root/docker-compose.yml", 0o644, recipe(t, "e-docker-compose.yml"))
		m.run(t, `mkdir data
docker stop registry
docker container rm registry
docker-compose up -d`)
		m.up(t, "https://example.com/v2/")
		m.run(t, "docker push example.com/my-bash; test -d data/docker/registry/v2/repositories/my-bash")
	}},
}
