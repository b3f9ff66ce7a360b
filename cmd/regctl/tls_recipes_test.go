package main_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tlsRecipe is how somebody wrote down to make a certificate. Where openssl
// asks questions, the answers are on its command line.
type tlsRecipe struct {
	script   string
	crt, key string
	name     string   // By which clients call the server.
	refused  bool     // By clients that are written in Go.
	found    []string // What regctl cert show must say.
	warned   string   // What serve must warn of; empty: of nothing.
}

var tlsRecipes = map[string]tlsRecipe{
	// A self-signed certificate with only a CN.
	"CN": {
		script: `mkdir -p certs && openssl req \
			-newkey rsa:4096 -nodes -sha256 -keyout certs/domain.key \
			-x509 -days 365 -out certs/domain.crt -subj /C=CN/ST=x/L=x/O=x/CN=yourdomain.com`,
		crt: "certs/domain.crt", key: "certs/domain.key", name: "yourdomain.com", refused: true,
		found: []string{
			"warning: the name yourdomain.com is only its common name (CN)", "Try: regctl cert make yourdomain.com",
			"note: it is the certificate of a CA (CA:true)",
		},
		warned: "the name yourdomain.com is only its common name (CN)",
	},
	// With names that count, by a configuration of openssl, in .pem files.
	"ssl.conf": {
		script: `cat << EOF > ssl.conf
[ req ]
prompt = no
distinguished_name = req_subj
x509_extensions = x509_ext
[ req_subj ]
CN = Localhost
[ x509_ext ]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid,issuer
basicConstraints = CA:true
subjectAltName = @alternate_names
[ alternate_names ]
DNS.1 = localhost
IP.1 = 192.168.211.15
EOF
			mkdir certs
			openssl req -config ssl.conf -new -x509 -nodes -sha256 -days 365 -newkey rsa:4096 -keyout certs/server-key.pem -out certs/server-crt.pem`,
		crt: "certs/server-crt.pem", key: "certs/server-key.pem", name: "192.168.211.15",
		found: []string{
			"note: docker, podman and containerd take only *.crt", "Try: copy it to clients as ca.crt",
			"note: it is the certificate of a CA (CA:true)",
		},
	},
	// A CA and a certificate of it, both with the name of the server.
	"twins": {
		script: `mkdir certs; cd certs
			openssl genrsa -out dockerCA.key 2048
			openssl req -x509 -new -nodes -key dockerCA.key -days 10000 -out dockerCA.crt -subj /CN=docker.xx.com
			openssl genrsa -out nginx.key 2048
			openssl req -new -key nginx.key -out nginx.csr -subj /CN=docker.xx.com
			openssl x509 -req -in nginx.csr -CA dockerCA.crt -CAkey dockerCA.key -CAcreateserial -out nginx.crt -days 10000`,
		crt: "certs/nginx.crt", key: "certs/nginx.key", name: "docker.xx.com", refused: true,
		found: []string{
			"warning: the name docker.xx.com is only its common name (CN)",
			"warning: its CA bears its very name, CN=docker.xx.com", "note: the certificate is for 27 years",
		},
		warned: "its CA bears its very name",
	},
	// For a hundred years.
	"century": {
		script: `mkdir certs; cd certs; export URLNAME=example.com
			openssl req -x509 -days 36500 -newkey rsa:2048 -nodes \
			-out ${URLNAME}.crt -keyout ${URLNAME}.key \
			--subj "/C=JP/ST=Tokyo/L=null/O=null/OU=null/CN=${URLNAME}/"`,
		crt: "certs/example.com.crt", key: "certs/example.com.key", name: "example.com", refused: true,
		found: []string{
			"warning: the name example.com is only its common name (CN)", "note: the certificate is for 100 years",
			"note: it is the certificate of a CA (CA:true)",
		},
		warned: "the name example.com is only its common name (CN)",
	},
	// Too weak for the clients of today.
	"weak": {
		script: `mkdir certs; openssl req -x509 -md5 -newkey rsa:1024 -nodes -keyout certs/x.key -out certs/x.crt -days 365 \
			-subj /CN=x.lan -addext subjectAltName=DNS:x.lan`,
		crt: "certs/x.crt", key: "certs/x.key", name: "x.lan",
		found: []string{
			"warning: the certificate has an RSA key of 1024 bits", "note: the certificate is signed with MD5-RSA; by itself",
		},
		warned: "RSA key of 1024 bits",
	},
}

// TestTLSRecipes: regctl serves with what the recipes of old make, and says
// what clients will not like of it.
func TestTLSRecipes(t *testing.T) {
	t.Parallel()
	peer(t, "openssl")
	bin, err := regctl()
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range tlsRecipes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			script := exec.Command("sh", "-e", "-c", r.script)
			script.Dir = dir
			if out, err := script.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			crt, key := filepath.Join(dir, r.crt), filepath.Join(dir, r.key)
			out, err := exec.Command(bin, "cert", "show", crt, "--key", key).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range r.found {
				if !strings.Contains(string(out), want) {
					t.Errorf("regctl cert show does not say %q:\n%s", want, out)
				}
			}
			s := serveFiles(t, bin, dir, crt, key)
			warned := strings.Contains(s.log.String(), "warning: "+crt)
			if warned != (r.warned != "") || !strings.Contains(s.log.String(), r.warned) {
				t.Errorf("serve says\n%swant\n%s", s.log, r.warned)
			}
			askTLS(t, s, r, read(t, crt))
			s.end(t)
		})
	}
}

// serveFiles serves with a certificate by a config file.
func serveFiles(t *testing.T, bin, dir, crt, key string) *server {
	t.Helper()
	config := filepath.Join(dir, "config.yml")
	write(t, config, []byte("version: 0.1\nstorage:\n  inmemory: {}\nhttp:\n  addr: 127.0.0.1:0\n  tls:\n    certificate: "+crt+"\n    key: "+key+"\n"))
	said := make(chan string, 1)
	cmd := exec.Command(bin, "serve", config)
	cmd.Env = []string{"HOME=" + t.TempDir()}
	s := launch(t, cmd, func(line string) {
		if rest, ok := strings.CutPrefix(line, "https://"); ok {
			said <- strings.Fields(rest)[0]
		}
	})
	select {
	case s.addr = <-said:
	case <-s.done:
		t.Fatalf("the server ended: %v\n%s", s.err, s.log)
	}
	return s
}

// askTLS asks by the name of the recipe, once as somebody who trusts nothing
// but the certificate itself, once as one who does not look.
func askTLS(t *testing.T, s *server, r tlsRecipe, crt string) {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(crt)) {
		t.Fatal("the file has no certificate")
	}
	for _, looks := range []bool{false, true} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: r.name, InsecureSkipVerify: !looks}}
		resp, err := (&http.Client{Transport: transport}).Get("https://" + s.addr + "/v2/")
		if err == nil {
			resp.Body.Close()
		}
		if refused := err != nil; refused != (looks && r.refused) {
			t.Errorf("a client that looks (%v): %v", looks, err)
		}
		transport.CloseIdleConnections()
	}
}
