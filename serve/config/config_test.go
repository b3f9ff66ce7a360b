package config_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/regctl/regctl/serve/config"
)

var update = flag.Bool("update", false, "write the golden files anew")

// The files are those of guides that people have followed, by way of their
// config.yml or their compose file.
func TestFilesOfTheField(t *testing.T) {
	t.Parallel()
	inputs, err := filepath.Glob("testdata/*.[ye][mn][lv]")
	if err != nil || len(inputs) != 7 {
		t.Fatalf("%v, %v", inputs, err)
	}
	for _, input := range inputs {
		if strings.Contains(input, "reference") {
			continue
		}
		data, err := os.ReadFile(input)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		if strings.HasSuffix(input, ".env") {
			got = parse(nil, strings.Split(strings.TrimSpace(string(data)), "\n")...)
		} else {
			got = parse(data)
		}
		golden(t, strings.TrimSuffix(input, filepath.Ext(input))+".golden", got)
	}
}

// parse tells everything that Parse returns, one fact a line.
func parse(file []byte, environ ...string) string {
	c, warnings, err := config.Parse("config.yml", file, environ)
	var b strings.Builder
	for _, w := range warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	if err != nil {
		return b.String() + "error: " + strings.ReplaceAll(err.Error(), "\n", "\nerror: ") + "\n"
	}
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err.Error()
	}
	return b.String() + string(data) + "\n"
}

// content is that of a file, if it has any.
func content(file string) []byte {
	if file == "" {
		return nil
	}
	return []byte(file)
}

func mustParse(t *testing.T, file string, environ ...string) *config.Config {
	t.Helper()
	c, warnings, err := config.Parse("config.yml", content(file), environ)
	if err != nil || len(warnings) > 0 {
		t.Fatalf("%v, %v", warnings, err)
	}
	return c
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	ours := mustParse(t, "", "PATH=/bin", "REGISTRY_CONFIGURATION_PATH=/x")
	if ours.Compat || !ours.Storage.Deletes || fmt.Sprint(ours.HTTP.Addrs) != "[127.0.0.1:5000 [::1]:5000]" || ours.Storage.Root != "" ||
		ours.Log.Level != "info" || ours.Log.Formatter != "text" || ours.Catalog.MaxEntries != 1000 || ours.Tags.MaxTags != 1000 {
		t.Errorf("%+v", ours)
	}
	for _, c := range []*config.Config{mustParse(t, "version: 0.1"), mustParse(t, "# nothing"), mustParse(t, "", "REGISTRY_LOG_LEVEL=info")} {
		if !c.Compat || c.Storage.Deletes || fmt.Sprint(c.HTTP.Addrs) != "[:5000]" || c.Storage.Root != "/var/lib/registry" {
			t.Errorf("%+v", c)
		}
	}
}

func TestEverythingThatIsBuilt(t *testing.T) {
	t.Parallel()
	c := mustParse(t, `
version: 0.1
log: {level: warn, formatter: logstash, fields: {service: registry, shard: 7}, accesslog: {disabled: true}, reportcaller: true}
storage:
  filesystem: {rootdirectory: /data, maxthreads: 100, sync: false}
  delete: {enabled: true}
  cache: {blobdescriptor: redis}
  redirect: {disable: true}
  tag: {concurrencylimit: 8}
auth: {none: {}}
validation: {disabled: true, manifests: {images: {layers: none}}}
proxy: {remoteurl: ""}
http:
  addr: localhost:5001
  net: tcp
  host: https://reg.example.com/
  secret: hush
  draintimeout: 90s
  headers: {X-A: [a, b], X-B: c}
catalog: {maxentries: 5}
tags: {maxtags: 6}
gc: {schedule: "30 3 * * *", untagged: true, older: 2h, uploads: 2d, undo: 1w}
access: private
groups: {php: [alice, user:bob]}
tokens: {service: images, expiration: 900, services: old}
audit: {path: /audit.log, maxsize: 1M, pulls: yes}
`)
	got, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"Compat":true,"Log":{"Level":"warn","Formatter":"logstash","Fields":{"service":"registry","shard":"7"},"AccessLog":{"Disabled":true}},` +
		`"Storage":{"Root":"/data","RootFrom":"config.yml:5","InMemory":false,"NoSync":true,"Deletes":true,"ReadOnly":false},` +
		`"HTTP":{"Network":"tcp","Addrs":["localhost:5001"],"Prefix":"/","Host":"https://reg.example.com","RelativeURLs":false,"Headers":{"X-A":["a","b"],"X-B":["c"]},"DrainTimeout":90000000000,` +
		`"TLS":{"Certificate":"","Key":"","ClientCAs":null,"ClientAuth":"","MinVersion":771,"CipherSuites":null},"HTTP2Off":false,"H2C":false,"Debug":{"Addr":"","Prometheus":false,"Path":"/metrics"},` +
		`"TrustedProxies":["127.0.0.0/8","::1/128","10.0.0.0/8","172.16.0.0/12","192.168.0.0/16","169.254.0.0/16","fc00::/7","fe80::/10"]},` +
		`"Auth":{"Htpasswd":null,"Token":null,"LDAP":null},"Health":{"Storage":{"Enabled":false,"Interval":10000000000,"Threshold":1},"Files":null,"HTTP":null,"TCP":null},` +
		`"Notify":{"IncludeReferences":false,"Endpoints":null},"Catalog":{"MaxEntries":5},"Tags":{"MaxTags":6},` +
		`"Validation":{"SparseImages":true,"URLs":false,"Allow":null,"Deny":null,"Platforms":"none","PlatformList":null},` +
		`"GC":{"Schedule":"30 3 * * *","Untagged":true,"Older":7200000000000,"Uploads":172800000000000,"Undo":604800000000000},` +
		`"Access":{"Preset":"private","Rules":null,"On":true},"Groups":{"php":["alice","bob"]},` +
		`"Tokens":{"Service":"images","Issuer":"regctl","Expiration":900000000000,"Services":["old"]},"Audit":{"Path":"/audit.log","MaxSize":1048576,"Keep":10,"Pulls":true}}`
	if string(got) != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if c.HTTP.LocationHost() != "https://reg.example.com" {
		t.Error(c.HTTP.LocationHost())
	}
	if c := mustParse(t, "http: {host: 'https://x:5/a/b/'}"); c.HTTP.LocationHost() != "https://x:5/a/b" {
		t.Error(c.HTTP.LocationHost())
	}
	if c := mustParse(t, "http: {host: 'https://x', relativeurls: true}"); c.HTTP.LocationHost() != "" {
		t.Error(c.HTTP.LocationHost())
	}
}

func TestVariables(t *testing.T) {
	t.Parallel()
	const file = "storage: {filesystem: {rootdirectory: /file}, delete: {enabled: true}}\nhttp: {addr: ':1', headers: {X-A: [a]}}"
	tests := []struct {
		file    string
		environ []string
		ok      func(*config.Config) bool
	}{
		{file, []string{"REGISTRY_HTTP_ADDR=:2"}, func(c *config.Config) bool { return c.HTTP.Addrs[0] == ":2" && c.Storage.Root == "/file" }},
		{file, []string{"REGISTRY_HTTP_ADDR=[::1]:5000"}, func(c *config.Config) bool { return c.HTTP.Addrs[0] == "[::1]:5000" }},
		{file, []string{"REGISTRY_HTTP_ADDR="}, func(c *config.Config) bool { return c.HTTP.Addrs[0] == ":5000" }},
		{file, []string{"REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=/env"}, func(c *config.Config) bool {
			return c.Storage.Root == "/env" && c.Storage.RootFrom == "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY" && c.Storage.Deletes
		}},
		{file, []string{"REGISTRY_STORAGE=inmemory"}, func(c *config.Config) bool { return c.Storage.InMemory && c.Storage.Root == "" && c.Storage.Deletes }},
		{"", []string{"REGISTRY_STORAGE=inmemory", "REGISTRY_STORAGE_DELETE_ENABLED=true"}, func(c *config.Config) bool { return c.Storage.InMemory && c.Storage.Deletes }},
		{"", []string{"REGISTRY_STORAGE_INMEMORY="}, func(c *config.Config) bool { return c.Storage.InMemory }},
		{"storage:\n  inmemory:", nil, func(c *config.Config) bool { return c.Storage.InMemory }},
		{"storage: inmemory", nil, func(c *config.Config) bool { return c.Storage.InMemory }},
		{file, []string{"REGISTRY_STORAGE_DELETE={enabled: false}"}, func(c *config.Config) bool { return !c.Storage.Deletes }},
		{file, []string{"REGISTRY_HTTP_HEADERS_X-B=[b]"}, func(c *config.Config) bool { return len(c.HTTP.Headers) == 2 && c.HTTP.Headers.Get("X-B") == "b" }},
		{file, []string{"REGISTRY_HTTP_HEADERS={X-C: [c]}"}, func(c *config.Config) bool { return len(c.HTTP.Headers) == 1 && c.HTTP.Headers.Get("X-C") == "c" }},
		{"", []string{"REGISTRY_LOG_ACCESSLOG_DISABLED=true", "REGISTRY_LOG_FIELDS_SERVICE=x"}, func(c *config.Config) bool { return c.Log.AccessLog.Disabled && c.Log.Fields["service"] == "x" }},
		{"", []string{"REGISTRY_LOGLEVEL=debug"}, func(c *config.Config) bool { return c.Log.Level == "debug" }},
		{"", []string{"REGISTRY_STORAGE_MAINTENANCE={readonly: {enabled: false}}"}, func(c *config.Config) bool { return c.Compat }},
		{"log: &a {level: debug}\nhttp: *a", []string{"REGISTRY_HTTP={addr: ':3'}"}, func(c *config.Config) bool { return c.HTTP.Addrs[0] == ":3" && c.Log.Level == "debug" }},
	}
	for _, tt := range tests {
		if c := mustParse(t, tt.file, tt.environ...); !tt.ok(c) {
			t.Errorf("%q %q: %+v", tt.file, tt.environ, c)
		}
	}
}

// Validation that restricts nothing is none.
func TestValidation(t *testing.T) {
	t.Parallel()
	const urls = "{urls: {allow: [x]}, indexes: {platforms: all}"
	for _, tt := range []struct {
		file, variable string
		sparse         bool
	}{
		{"validation:", "", false},
		{"validation: {enabled: false}", "", false},
		{"validation: {manifests: {urls: {allow: [], deny: []}, indexes: {platforms: none, platformlist: [{os: linux}]}}}", "", false},
		{"validation: {manifests: {images: {layers: all}}}", "", false},
		{"validation: {manifests: {images: {layers: none}}}", "", true},
		{"", "REGISTRY_VALIDATION_MANIFESTS_IMAGES_LAYERS=none", true},
		{"validation: {manifests: {images: {layers: none}}}", "REGISTRY_VALIDATION_MANIFESTS_IMAGES_LAYERS=all", false},
		{"validation: {disabled: true, manifests: " + urls + "}}", "", false},
		{"validation: {disabled: true, manifests: " + urls + ", images: {layers: none}}}", "", true},
		{"validation: {manifests: " + urls + "}}", "REGISTRY_VALIDATION_DISABLED=true", false},
	} {
		if c := mustParse(t, tt.file, tt.variable); c.Validation.SparseImages != tt.sparse {
			t.Errorf("%q %q: %+v", tt.file, tt.variable, c.Validation)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	tests := []struct{ file, variable, want string }{
		{"auth: {htpasswd: {path: /x}}", "", "config.yml:1: auth.htpasswd has no realm"},
		{"auth: {htpasswd: {realm: x}}", "", "config.yml:1: auth.htpasswd has no path"},
		{"auth: {htpasswd: {realm: x, path: ''}}", "", "config.yml:1: auth.htpasswd has no path"},
		{"auth: {htpasswd: {realm: , path: x}}", "", "config.yml:1: auth.htpasswd has no realm"},
		{"auth: {htpasswd: {realm: x, path: /x}, none: {}}", "", "config.yml:1: auth has none, and htpasswd beside it"},
		{"auth: {htpasswd: {realm: x, path: /x, user: y}}", "", "config.yml:1: auth.htpasswd.user: no such key"},
		{"auth:\n  htpasswd:", "", "config.yml:2: auth.htpasswd has no realm"},
		{"auth:\nhtpasswd:\n  path: /x", "", "config.yml:1: auth is empty; indent what belongs to it"},
		{"auth: ''", "", "config.yml:1: auth is empty"},
		{"auth: {}", "", "config.yml:1: auth is empty"},
		{"auht: {htpasswd: {realm: x, path: /x}}", "", "config.yml:1: auht: unknown key, with logins in it"},
		{"registry: {auth: {htpasswd: {realm: x, path: /x}}}", "", "config.yml:1: registry: unknown key, with logins in it"},
		{"version: 0.1\n---\nauth: {htpasswd: {realm: x, path: /x}}", "", "config.yml:3: a second document begins here"},
		{"http: {tls: {certificate: c, key: k, clientcas: []}}", "", "config.yml:1: http.tls.clientcas is empty"},
		{"version: 0.1\nhtpasswd:\n  path: /x", "", "config.yml:2: htpasswd: unknown key, and it looks as if it were to restrict something"},
		{"Auth: {htpasswd: {path: /x}}", "", "Auth: unknown key, and it looks as if"},
		{"http: {tsl: {certificate: /x}, tlss: {key: /x}}", "", "http.tlss: unknown key, and it looks as if"},
		{"storag: {maintenance: {readonly: {enabled: true}}}", "", "storag: unknown key, and it looks as if"},
		{"readonly: {enabled: true}", "", "readonly: unknown key, and it looks as if"},
		{"auth: token", "", "config.yml:1: auth.token has no realm"},
		{"", "REGISTRY_AUTH=htpasswd", "REGISTRY_AUTH: auth.htpasswd has no realm"},
		{"", "REGISTRY_AUTH_TOKEN_REALM=x", "REGISTRY_AUTH_TOKEN_REALM: auth.token.realm is not of the form https://HOST/PATH"},
		{"http:\n  tls:\n    letsencrypt: {hosts: [x]}", "", "config.yml:3: http.tls.letsencrypt is not built yet"},
		{"", "REGISTRY_HTTP_TLS_CERTIFICATE=/x", "REGISTRY_HTTP_TLS_CERTIFICATE: http.tls.certificate is there without http.tls.key"},
		{"proxy: {remoteurl: https://registry-1.docker.io}", "", "proxy.remoteurl is not built yet"},
		{"middleware: {repository: [{name: x}]}", "", "middleware.repository: is not built yet: the server does not start without the middleware x"},
		{"validation: {manifests: {indexes: {platforms: some}}}", "", `"some" is none of all, none, list`},
		{"validation: {manifests: {images: {layers: some}}}", "", `"some" is none of all, none`},
		{"validation: {manifests: {images: {layers: [all]}}}", "", "layers: must be a single value"},
		{"validation: {manifests: {images: {layer: none}}}", "", "validation.manifests.images.layer: no such key; did you mean layers?"},
		{"policy: {repository: {classes: [image]}}", "", "policy is not built yet"},
		{"storage: {filesystem: {}}", "REGISTRY_STORAGE_S3_BUCKET=x", "REGISTRY_STORAGE_S3_BUCKET: storage.s3 is not built yet"},
		{"storage: {s3: }", "", "storage.s3 is not built yet"},
		{"storage: {filesystem: {}, inmemory: {}}", "", "storage has two drivers, filesystem and inmemory"},
		{"http: {prefix: x/}", "", "http.prefix: \"x/\" is not of the form /PATH/"},
		{"http: {net: unix}", "", "http.net: unix needs the path of a socket"},
		{"http: {addr: 5000}", "", `"5000" is not of the form host:port`},
		{"http: {addr: [a]}", "", "http.addr: must be a single value"},
		{"http: {host: 'ftp://example.com'}", "", `"ftp://example.com" is not of the form https://HOST`},
		{"registry:\n  version: 0.1\n  http: {tls: {certificate: /c, key: /k}}", "REGISTRY_HTTP_ADDR=:1", "config.yml:1: no section of the file is known"},
		{"version: 0.1\nservices: {registry: {environment: {REGISTRY_AUTH: htpasswd}}}", "", "config.yml:2: no section of the file is known"},
		{" \n", "", "config.yml: the file is empty, and the server does not start"},
		{"http: {draintimeout: 60}", "", `"60" is not a duration`},
		{"http: {headers: [a]}", "", "http.headers: must be a mapping"},
		{"http: {headers: {X: {a: b}}}", "", "X must be a list"},
		{`http: {headers: {X: ["a\r\nb"]}}`, "", "is no header"},
		{"http: [a]", "", "http must be a mapping"},
		{"log: {level: loud}", "", `"loud" is none of`},
		{"log: {formatter: xml}", "", `"xml" is none of`},
		{"storage: {delete: {enabled: 5x}}", "", `"5x" is neither true nor false`},
		{"catalog: {maxentries: x}", "", `"x" is not a number`},
		{"tags: {maxtags: -1}", "", `"-1" is less than 0`},
		{"log: debug", "", "config.yml:1: log must be a mapping"},
		{"storage: {maintenance: {readonly: true}}", "", "config.yml:1: storage.maintenance.readonly must be a mapping, such as {enabled: true}"},
		{"version: 2", "", "version: must be 0.1"},
		{"log: {level: info, level: debug}", "", "config.yml:1: log.level is there twice, here and in line 1: make one of them"},
		{"http:\n  <<: x", "", "config.yml:2: << takes a mapping"},
		{"- a", "", "config.yml:1: the file is not a mapping"},
		{"a: [", "", "config.yml: "},
		{"storage:\n  delet: {enabled: true}", "", "config.yml:2: storage.delet: no such storage driver or key; did you mean delete?"},
		{"auth: {custom: {}}", "", "auth.custom: no such authentication"},
		{"", "REGISTRY_AUTH=custom", "REGISTRY_AUTH: auth.custom: no such authentication"},
		{"", "REGISTRY_AUTH_HTPASWD_PATH=/x", "REGISTRY_AUTH_HTPASWD_PATH: unknown variable, and it looks as if"},
		{"", "REGISTRY_AUHT_HTPASSWD_REALM=x", "REGISTRY_AUHT_HTPASSWD_REALM: unknown variable, and it looks as if"},
		{"", "REGISTRY_AUTH_BASIC_PATH=/x", "REGISTRY_AUTH_BASIC_PATH: unknown variable, and no such authentication"},
		{"", "REGISTRY_AUTH_LDAP_SERVER=x", "REGISTRY_AUTH_LDAP_SERVER: unknown variable, and no such key"},
		{"", "REGISTRY_AUTH_HTPASSWD_FILE=x", "REGISTRY_AUTH_HTPASSWD_FILE: unknown variable, and no such key"},
		{"", "REGISTRY_HTTP_TLS_CERT=x", "REGISTRY_HTTP_TLS_CERT: unknown variable, and no such key"},
		{"", "REGISTRY_STORAGE_MINIO_BUCKET=x", "REGISTRY_STORAGE_MINIO_BUCKET: unknown variable, and no such storage driver or key"},
		{"", "REGISTRY_AUT=x", "REGISTRY_AUT: unknown variable, and it looks as if"},
		{"", "REGISTRY_TLS_CERTIFICATE=x", "REGISTRY_TLS_CERTIFICATE: unknown variable, and it looks as if"},
		{"", "REGISTRY_STORAGE_MAINTENANCE_READONY_ENABLED=true", "READONY_ENABLED: unknown variable, and it looks as if"},
	}
	for _, tt := range tests {
		var environ []string
		if tt.variable != "" {
			environ = append(environ, tt.variable)
		}
		c, _, err := config.Parse("config.yml", content(tt.file), environ)
		var list *config.Error
		if !errors.As(err, &list) || c != nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q %q: %v, want %q", tt.file, tt.variable, err, tt.want)
		}
	}
}

func TestEveryProblemIsToldAtOnce(t *testing.T) {
	t.Parallel()
	_, _, err := config.Parse("c", []byte("version: 9\nlog: {level: x}\nauth: {silly: }\nhttp: {addr: x, tls: {key: k}}"), []string{"REGISTRY_TAGS_MAXTAGS=x"})
	var list *config.Error
	if !errors.As(err, &list) || len(list.Problems) != 6 {
		t.Errorf("%v", err)
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	tests := []struct{ file, variable, want string }{
		{"http:\n  addrr: ':1'", "", "config.yml:2: http.addrr: unknown key; did you mean addr?"},
		{"something: 1\nlog: {}", "", "config.yml:1: something: unknown key"},
		{"reportng: {}\nlog: {}", "", "reportng: unknown key; did you mean reporting?"},
		{"", "REGISTRY_HTTP_ADR=x", "REGISTRY_HTTP_ADR: unknown variable; did you mean REGISTRY_HTTP_ADDR?"},
		{"", "REGISTRY_PROXY_SERVICE_HOST=10.0.0.1", "REGISTRY_PROXY_SERVICE_HOST: unknown variable"},
		{"", "REGISTRY_PORT_5000_TCP=tcp://10.0.0.1:5000", "REGISTRY_PORT_5000_TCP: unknown variable"},
		{"", "REGISTRY_PORT=tcp://10.0.0.1:5000", "REGISTRY_PORT: unknown variable"},
		{"", "REGISTRY_SERVICE_HOST=10.0.0.1", "REGISTRY_SERVICE_HOST: unknown variable"},
		{"", "REGISTRY_SERVICE_PORT_TLS=443", "REGISTRY_SERVICE_PORT_TLS: unknown variable"},
		{"", "REGISTRY_AUTH_SERVICE_HOST=10.0.0.1", "REGISTRY_AUTH_SERVICE_HOST: unknown variable"},
		{"", "REGISTRY_AUTH_PORT_80_TCP_ADDR=10.0.0.1", "REGISTRY_AUTH_PORT_80_TCP_ADDR: unknown variable"},
		{"", "REGISTRY_HEALTHY_STORAGEDRIVER_ENABLED=true", "REGISTRY_HEALTHY_STORAGEDRIVER_ENABLED: unknown variable"},
		{"", "REGISTRY_LOG_LEVEL_X=1", "REGISTRY_LOG_LEVEL_X: unknown variable"},
		{"storage: {maintenance: {uploadpurging: {enabled: true}}}", "", "storage.maintenance.uploadpurging: unfinished uploads go when regctl gc runs"},
		{"http: {host: 'https://x/a/b'}", "", "http.host: as with registry:2, b at its end does not count; write b/ if it is to"},
		{"http: {host: 'example.com:5000'}", "", `http.host: as with registry:2, "example.com:5000" does not count without what is before it; write https://example.com:5000 if`},
		{"", "REGISTRY_HTTP_HOST=example.com", `REGISTRY_HTTP_HOST: http.host: as with registry:2, "example.com" does not count`},
		{"http: {tls: {certificate: /c, key: /k, minimumtls: tls1.0}}", "", "http.tls.minimumtls: tls1.0 is broken (RFC 8996), and not spoken"},
		{"http: {tls: {certificate: /c, key: /k, minimumtls: tls1.1}}", "", "http.tls.minimumtls: tls1.1 is broken (RFC 8996), and not spoken"},
		{"http: {tls: {certificate: /c, key: /k, ciphersuites: [TLS_RSA_WITH_RC4_128_SHA, TLS_RSA_WITH_AES_128_CBC_SHA]}}", "", "http.tls.ciphersuites: TLS_RSA_WITH_RC4_128_SHA is broken (RFC 7465), and left out"},
		{"notifications: {endpoints: [{url: 'http://x:1/'}]}", "", "notifications.endpoints.0 has no name: it is called x:1, and"},
		{"http: {tls: {certificate: /c, key: /k, clientcas: [/x], clientauth: require-any-client-cert}}", "", "http.tls.clientauth: with require-any-client-cert no certificate of a client is held against"},
		{"http: {tls: {certificate: /c, key: /k, clientcas: [/x], clientauth: request-client-cert}}", "", "http.tls.clientauth: with request-client-cert no certificate of a client is held against"},
		{"storage: {maintenance: {readonly: {enabled: true}}}", "REGISTRY_STORAGE_MAINTENANCE={uploadpurging: {enabled: false}}", "REGISTRY_STORAGE_MAINTENANCE: as with registry:2, what the file says of storage.maintenance.readonly.enabled does not count"},
		{"redis: {addr: x}", "", "redis: has no effect"},
	}
	for _, tt := range tests {
		var environ []string
		if tt.variable != "" {
			environ = append(environ, tt.variable)
		}
		c, warnings, err := config.Parse("config.yml", content(tt.file), environ)
		if err != nil || len(warnings) != 1 || !strings.HasPrefix(strings.TrimPrefix(warnings[0].String(), "config.yml:1: "), strings.TrimPrefix(tt.want, "config.yml:1: ")) {
			t.Errorf("%q %q: %v, %v", tt.file, tt.variable, warnings, err)
		}
		if c == nil {
			t.Errorf("%q: no configuration", tt.file)
		}
	}
	// Kubernetes sets such variables for a service of this name. They must not
	// open the server to the world.
	c, _, err := config.Parse("", nil, []string{"REGISTRY_SERVICE_HOST=10.0.0.1", "REGISTRY_PORT=tcp://10.0.0.1:5000"})
	if err != nil || c.Compat {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestFindStore(t *testing.T) {
	t.Parallel()
	stat := func(dirs ...string) func(string) (fs.FileInfo, error) {
		tree := fstest.MapFS{}
		for _, d := range dirs {
			tree[strings.TrimPrefix(d, "/")+"/docker/registry/v2/x"] = &fstest.MapFile{}
		}
		return func(name string) (fs.FileInfo, error) {
			return tree.Stat(strings.TrimPrefix(filepath.ToSlash(name), "/"))
		}
	}
	file := &config.Config{Storage: config.Storage{Root: "/srv", RootFrom: "config.yml:4"}}
	tests := []struct {
		flag   string
		c      *config.Config
		env    map[string]string
		dirs   []string
		want   config.Place
		looked int
	}{
		{"/flag", file, map[string]string{"REGCTL_DATA": "/env"}, nil, config.Place{Path: "/flag", From: "--data"}, 1},
		{"", file, map[string]string{"REGCTL_DATA": "/env"}, []string{"/env"}, config.Place{Path: "/env", From: "$REGCTL_DATA", Found: true}, 1},
		{"", file, nil, []string{"/var/lib/registry"}, config.Place{Path: "/srv", From: "config.yml:4"}, 1},
		{"", nil, map[string]string{"HOME": "/home/me"}, []string{"/var/lib/registry"}, config.Place{Path: "/var/lib/registry", From: "the directory of registry:2", Found: true}, 1},
		{"", nil, map[string]string{"HOME": "/home/me"}, nil, config.Place{Path: "/home/me/.local/share/regctl", From: "the default"}, 2},
		{"", &config.Config{}, map[string]string{"HOME": "/home/me", "XDG_DATA_HOME": "/xdg"}, []string{"/xdg/regctl"}, config.Place{Path: "/xdg/regctl", From: "$XDG_DATA_HOME", Found: true}, 2},
		{"", nil, map[string]string{"HOME": "/home/me", "XDG_DATA_HOME": "relative"}, nil, config.Place{Path: "/home/me/.local/share/regctl", From: "the default"}, 2},
		{"", nil, nil, nil, config.Place{}, 1},
	}
	for _, tt := range tests {
		got, looked := config.FindStore(tt.flag, tt.c, func(k string) string { return tt.env[k] }, stat(tt.dirs...))
		if got != tt.want || len(looked) != tt.looked {
			t.Errorf("%q %v %v: %+v after %+v; want %+v after %d", tt.flag, tt.env, tt.dirs, got, looked, tt.want, tt.looked)
		}
	}
}

// FuzzParse holds that nothing makes the parser fall over, that no way of
// writing them lets a section that restricts something pass, or what a variable
// secures be lost, and that no secret is shown.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"version: 0.1", "storage: {s3: }", "auth: {htpasswd: {}}", "a: &a [*a]", "x: &x {y: *x}", "log: !!binary x", "<<: {a: b}", "? [a]\n: b",
		"storage: filesystem", "http: {headers: {X: [1, 2]}}", "\x00", "auth: &a\n  token: *a", "x: &x {<<: *x}\nlog: {<<: [*x, *x]}",
		"storage: {maintenance: {readonly: }}", "storage: &s {maintenance: *s}", "http: {TLS: {}, tls: {}}\nauth: [a]", "notifications: {endpoints: [a, ]}",
		"access: &a [*a]", "access: [{who: &w [*w], what: [], may: all}]", "access: [{who: 'user:/(.*)/', what: '${user:1}/**:v*', may: all, from: 1.2.3.4}]",
		"groups: &g {a: *g}\naccess: [{who: 'group:a', what: '/x/:/y/', deny: push}, {who: anonymous, what: 'a/**', may: pull}]", "auth: {ldap: {url: 'ldap://a:b@c'}}",
	} {
		f.Add(s, "REGISTRY_STORAGE", "inmemory")
		f.Add(s, "REGISTRY_HTTP_HEADERS_X", "[a")
		f.Add(s, "REGISTRY_AUTH_TOKEN", "{}")
		f.Add(s, "REGISTRY_ACCESS_0_WHO", "all")
		f.Add(s, "REGISTRY_HEALTH_FILECHECKERS_0_FILE", "/x")
		f.Add(s, "REGISTRY_NOTIFICATIONS_ENDPOINTS_0", "{name: x, url: 'http://x'}")
	}
	f.Fuzz(func(t *testing.T, file, name, value string) {
		variable := name + "=" + value
		c, _, err := config.Parse("config.yml", []byte(file), []string{variable})
		if (c == nil) != (err != nil) {
			t.Fatalf("%+v, %v", c, err)
		}
		if strings.HasPrefix(name, "REGISTRY_AUTH_TOKEN") && !strings.Contains(name, "=") && err == nil && name == strings.ToUpper(name) &&
			(name == "REGISTRY_AUTH_TOKEN" || strings.HasPrefix(name, "REGISTRY_AUTH_TOKEN_")) && c.Auth.Token == nil {
			t.Fatalf("%s passed", name)
		}
		if err == nil {
			c.Lint()
		}
		const secret = "zq-secret-zq"
		secured := []string{"REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED=true", "REGISTRY_HTTP_TLS_CERTIFICATE=/c", "REGISTRY_HTTP_TLS_KEY=/k",
			"REGISTRY_AUTH=htpasswd", "REGISTRY_AUTH_HTPASSWD_REALM=r", "REGISTRY_AUTH_HTPASSWD_PATH=/p",
			"REGISTRY_ACCESS=private", "REGISTRY_AUTH_LDAP_URL=ldaps://x", "REGISTRY_AUTH_LDAP_USERBASE=dc=x", "REGISTRY_AUTH_LDAP_BINDDN=cn=x", "REGISTRY_AUTH_LDAP_BINDPASSWORD=" + secret,
			"REGISTRY_HTTP_SECRET=" + secret, "REGISTRY_REDIS_PASSWORD=" + secret, "REGISTRY_PROXY_PASSWORD=" + secret, "REGISTRY_HTTP_HEADERS_AUTHORIZATION=" + secret}
		if c, _, err = config.Parse("config.yml", []byte(file), secured); err != nil {
			return
		}
		if !c.Storage.ReadOnly || c.HTTP.TLS.Certificate != "/c" || c.HTTP.TLS.Key != "/k" || c.Auth.Htpasswd == nil || c.Auth.Htpasswd.Path != "/p" ||
			c.Auth.LDAP == nil || c.Access.Preset != "private" {
			t.Fatalf("something is open: %+v", c)
		}
		if shown := fmt.Sprint(c.Settings()); strings.Contains(shown, secret) {
			t.Fatalf("a secret is shown: %s", shown)
		}
	})
}
