package main_test

import (
	"strings"
	"testing"
)

// signedToken is a script that makes a token as docker_auth does, with the
// certificate that it has in common with the registry.
const signedToken = `b64() { openssl base64 -A | tr '+/' '-_' | tr -d =; }
now=$(date +%s)
head=$(printf '{"typ":"JWT","alg":"RS256","x5c":["%s"]}' "$(openssl x509 -in certs/domain.crt -outform der | openssl base64 -A)" | b64)
body=$(printf '{"iss":"maxnet auth server","sub":"admin","aud":"Docker registry","exp":%d,"nbf":%d,"iat":%d,"jti":"1","access":[{"type":"repository","name":"hello-world","actions":["pull","push"]}]}' $((now+900)) $((now-10)) $now | b64)
token=$head.$body.$(printf %s "$head.$body" | openssl dgst -sha256 -sign certs/domain.key | b64)
`

// articleAToken is its config.yml with a token server beside it, which is
// another image; then the same without one: its docker_auth in our words.
func articleAToken(t *testing.T, m *machine, config string) {
	m.run(t, "docker-compose up -d registry")
	m.up(t, "https://yourdomain.com:5000/v2/")
	m.says(t, "curl --http1.1 -sk -i https://yourdomain.com:5000/v2/", " 401", "X-Content-Type-Options: nosniff",
		`Www-Authenticate: Bearer realm="https://dockerreg.maxnetsys.com:5001/auth",service="Docker registry"`)
	at := signedToken + `curl --http1.1 -sk -i -H "Authorization: Bearer $token" `
	m.says(t, at+"https://yourdomain.com:5000/v2/", " 200")
	m.says(t, at+"-X POST https://yourdomain.com:5000/v2/hello-world/blobs/uploads/", " 202")
	m.says(t, at+"-X POST https://yourdomain.com:5000/v2/other/blobs/uploads/", " 401", `scope="repository:other:pull,push"`, `error="insufficient_scope"`)
	m.says(t, at+"-X DELETE https://yourdomain.com:5000/v2/hello-world/manifests/latest", " 401", `error="insufficient_scope"`)
	m.run(t, "docker-compose down")

	m.write(t, "/root/auth_config.yml", 0o644, recipe(t, "a-auth_config.yml"))
	// Its password is not told.
	m.run(t, `hash=$(docker run --rm --entrypoint htpasswd registry:2 -nbB admin badmin | sed -n 's/^admin://p')
sed -i "s|password: .*|password: \"$hash\"|" auth_config.yml
rm -f certs/htpasswd; regctl acl import auth_config.yml --htpasswd certs/htpasswd >access.yml
sed -i 's|path: certs/|path: /certs/|' access.yml`)
	from, to := strings.Index(config, "auth:\n"), strings.Index(config, "http:\n")
	m.write(t, "/root/registry_config.yml", 0o644, config[:from]+m.run(t, "cat access.yml")+config[to:])
	m.run(t, "docker-compose up -d registry")
	m.up(t, "https://yourdomain.com:5000/v2/")
	m.fails(t, "docker push yourdomain.com:5000/hello-world", "docker login yourdomain.com:5000")
	m.fails(t, "docker login yourdomain.com:5000 -u admin -p wrong", "")
	m.says(t, "docker login yourdomain.com:5000 -u admin -p badmin", "Login Succeeded")
	m.run(t, `docker push yourdomain.com:5000/hello-world; docker logout yourdomain.com:5000
docker rmi yourdomain.com:5000/hello-world; docker pull yourdomain.com:5000/hello-world`)
	m.fails(t, "docker push yourdomain.com:5000/hello-world", "docker login yourdomain.com:5000")
	m.run(t, "docker-compose down; rm -rf data")
}
