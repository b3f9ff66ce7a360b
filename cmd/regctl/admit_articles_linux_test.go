package main_test

import (
	"regexp"
	"strings"
	"testing"
)

// What the articles wished for, or failed at: anonymous pull with authenticated
// push, teams, and who may do what.

// admitted runs regctl on the machine in the place of the one before, and
// waits until it answers.
func (m *machine) admit(t *testing.T, url, args string) string {
	t.Helper()
	m.run(t, `if [ -e admit.pid ]; then kill $(cat admit.pid); while kill -0 $(cat admit.pid) 2>/dev/null; do sleep 0.05; done; fi
regctl serve `+args+` >admit.log 2>&1 </dev/null & echo $! >admit.pid`)
	m.up(t, url)
	return m.run(t, "cat admit.log")
}

// articleAAdmit is what its nginx was for, without nginx: everyone pulls, who
// has logged in pushes, and only they list the catalogue.
func articleAAdmit(t *testing.T, m *machine) {
	m.run(t, `docker-compose down 2>/dev/null || true; docker ps -aq | xargs -r docker rm -f -v; rm -rf ~/.docker
mkdir -p auth; echo secret | regctl htpasswd add auth/htpasswd testuser --password-stdin`)
	said := m.admit(t, "https://yourdomain.com:5000/v2/", "--addr :5000 --data /srv/admit --tls self --tls-name yourdomain.com --access public-pull --htpasswd auth/htpasswd")
	words := printed(t, said, `^copy (\S+) to (\S+) on each client$`)
	m.run(t, "rm -f /etc/docker/certs.d/yourdomain.com:5000/*; mkdir -p $(dirname "+words[2]+"); cp "+words[1]+" "+words[2])

	m.run(t, "docker tag hello-world yourdomain.com:5000/hello")
	m.fails(t, "docker push yourdomain.com:5000/hello", "denied: authentication required; log in first: docker login yourdomain.com:5000\n")
	m.fails(t, "docker login yourdomain.com:5000 -u testuser -p wrong", "the user or the password is wrong")
	m.says(t, "echo secret | regctl login yourdomain.com:5000 -u testuser --password-stdin 2>&1", "login succeeded; saved in ~/.docker/config.json")
	m.run(t, "docker push yourdomain.com:5000/hello; docker logout yourdomain.com:5000")
	m.says(t, "echo secret | docker login yourdomain.com:5000 -u testuser --password-stdin", "Login Succeeded")
	m.run(t, "docker push yourdomain.com:5000/hello; docker logout yourdomain.com:5000; docker rmi yourdomain.com:5000/hello; docker pull yourdomain.com:5000/hello")

	at := "curl -s --cacert " + words[1] + " -o /dev/null -w '%{http_code}' "
	m.says(t, at+"https://yourdomain.com:5000/v2/_catalog", "401")
	m.says(t, at+"-u testuser:secret https://yourdomain.com:5000/v2/_catalog", "200")
	m.says(t, at+"-X POST https://yourdomain.com:5000/v2/hello/blobs/uploads/", "401")
}

// onMachine is what the config file of a recipe begins with.
func onMachine(dir string) string {
	return "version: 0.1\nstorage: {filesystem: {rootdirectory: " + dir + "}, delete: {enabled: true}}\nhttp: {addr: 'localhost:5000'}\n"
}

// articleATeams is the policy of its docker_auth, as it must read here.
func articleATeams(t *testing.T, m *machine) {
	m.write(t, "/root/teams.yml", 0o644, onMachine("/srv/teams")+accessRecipe(t, "Teams** that"))
	m.run(t, `rm -f auth/htpasswd; for u in ann bob admin; do echo $u-secret | regctl htpasswd add auth/htpasswd $u --password-stdin; done`)
	m.admit(t, "http://localhost:5000/v2/", "teams.yml")
	as := func(user string) {
		m.run(t, "docker logout localhost:5000 2>/dev/null; echo "+user+"-secret | docker login localhost:5000 -u "+user+" --password-stdin")
	}
	for _, repo := range []string{"php/app", "java/app", "tools/app"} {
		m.run(t, "docker tag hello-world localhost:5000/"+repo)
	}
	as("admin")
	m.run(t, "for r in php/app java/app tools/app; do docker push localhost:5000/$r; done")
	for user, may := range map[string]map[string]string{
		"ann": {"php/app": "pull", "java/app": "", "tools/app": ""},
		"bob": {"php/app": "", "java/app": "pull push", "tools/app": ""},
	} {
		as(user)
		for repo, actions := range may {
			for _, action := range []string{"pull", "push"} {
				script := "docker " + action + " localhost:5000/" + repo
				if strings.Contains(actions, action) {
					m.run(t, script)
				} else {
					m.fails(t, script, "denied")
				}
			}
		}
	}
	m.says(t, "curl -s -u bob:bob-secret localhost:5000/v2/_catalog", `{"repositories":["java/app"]}`)
	m.says(t, "curl -s -u admin:admin-secret localhost:5000/v2/_catalog", `{"repositories":["java/app","php/app","tools/app"]}`)
	m.says(t, "curl -s -o /dev/null -w '%{http_code}' -u ann:ann-secret localhost:5000/v2/_catalog", "403")
	// Who may look is told the rule, who may not is told nothing.
	if out := m.run(t, "curl -s -u ann:ann-secret -X POST localhost:5000/v2/java/app/blobs/uploads/"); strings.Contains(out, "java people") {
		t.Errorf("it tells of what php may not see: %s", out)
	}
	m.says(t, "regctl acl explain ann php/app pull --config teams.yml 2>&1", "allowed", "php people pull php images only")
	m.fails(t, "regctl acl explain ann java/app pull --config teams.yml 2>&1", "denied")
}

// articleAOperate is its registry.py, and the collection that stopped the
// registry, on one that asks for logins.
func articleAOperate(t *testing.T, m *machine) {
	m.run(t, `for i in $(seq 12); do echo $i >one; tar -c one | docker import - localhost:5000/tools/app:v$i; done
docker logout localhost:5000; echo admin-secret | docker login localhost:5000 -u admin --password-stdin
docker push --all-tags localhost:5000/tools/app`)
	m.says(t, "regctl ls -a localhost:5000", "tools/app:v12", "php/app:latest")
	m.run(t, "regctl prune localhost:5000/tools/app -keep 10")
	if n := strings.TrimSpace(m.run(t, "regctl ls localhost:5000/tools/app | wc -l")); n != "11" { // Ten, and latest.
		t.Errorf("%s tags stay", n)
	}
	m.says(t, "regctl gc teams.yml 2>&1", "asked the server")
	m.run(t, "docker pull localhost:5000/php/app")
	if log := m.run(t, "cat admit.log"); regexp.MustCompile(`level=(WARN|ERROR|warning|error)`).MatchString(log) || strings.Contains(log, "-secret") {
		t.Errorf("the server says:\n%s", log)
	}
}

// articleAStages has test and production in one registry.
func articleAStages(t *testing.T, m *machine) {
	m.write(t, "/root/stages.yml", 0o644, onMachine("/srv/stages")+accessRecipe(t, "Test and production"))
	m.run(t, "rm -f auth/htpasswd; echo alice-secret | regctl htpasswd add auth/htpasswd alice --password-stdin")
	m.admit(t, "http://localhost:5000/v2/", "stages.yml")
	m.run(t, `docker logout localhost:5000; echo alice-secret | docker login localhost:5000 -u alice --password-stdin
docker tag hello-world localhost:5000/test/app:1.0; docker push localhost:5000/test/app:1.0
docker tag hello-world localhost:5000/prod/app:1.0`)
	m.fails(t, "docker push localhost:5000/prod/app:1.0", "only what was tested goes out")
	m.run(t, `regctl token create release --scope 'test/**:pull' --scope 'prod/**:pull,push' --config stages.yml >release.secret
regctl login localhost:5000 -u release --password-stdin <release.secret
regctl cp localhost:5000/test/app:1.0 localhost:5000/prod/app:1.0`)
	// What is out stays as it is, whoever pushes.
	m.run(t, "docker tag localhost:5000/tools/app:v1 localhost:5000/prod/app:1.0 || true; echo x >x; tar -c x | docker import - localhost:5000/prod/app:1.0")
	m.fails(t, "docker push localhost:5000/prod/app:1.0", "releases never change")
	m.run(t, "docker logout localhost:5000; docker pull localhost:5000/prod/app:1.0")
}
