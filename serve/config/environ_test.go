package config_test

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/serve/config"
)

// TestTrapsOfTheEnvironment holds what registry:2 makes of its variables, and
// where it falls over or forgets.
func TestTrapsOfTheEnvironment(t *testing.T) {
	t.Parallel()
	const file = `version: 0.1
storage:
  filesystem: {rootdirectory: /file}
  delete: {enabled: true}
  cache: {blobdescriptor: inmemory}
  maintenance: {uploadpurging: {enabled: false}}
http:
  headers: {X-Content-Type-Options: [nosniff], x-old: [a]}
  tls: {certificate: /c.crt, key: /c.key, clientcas: [/a.crt, /b.crt]}
notifications: {endpoints: [{name: a, url: 'http://a/'}, {name: b, url: 'http://b/'}]}
`
	const htpasswd = "auth: {htpasswd: {realm: r, path: /p}}"
	tests := map[string]struct {
		file    string
		environ string // One variable a line.
		want    string // Of the settings, "key: value" each.
	}{
		"go field names of lists":             {file, "REGISTRY_HEALTH_FILECHECKERS_0_FILE=/down\nREGISTRY_HEALTH_FILECHECKERS_0_INTERVAL=3s", "health.file.0.file: /down\nhealth.file.0.interval: 3s"},
		"yaml names of lists":                 {file, "REGISTRY_HEALTH_FILE_0_FILE=/down\nREGISTRY_HEALTH_HTTP_0_URI=http://x/\nREGISTRY_HEALTH_TCP_0_ADDR=x:1", "health.file.0.file: /down\nhealth.http.0.uri: http://x/\nhealth.tcp.0.addr: x:1"},
		"go field names":                      {file, "REGISTRY_NOTIFICATIONS_EVENTCONFIG_INCLUDEREFERENCES=true", "notifications.events.includereferences: true"},
		"yaml names":                          {file, "REGISTRY_NOTIFICATIONS_EVENTS_INCLUDEREFERENCES=true", "notifications.events.includereferences: true"},
		"an entry is changed":                 {file, "REGISTRY_NOTIFICATIONS_ENDPOINTS_1_URL=http://c/", "notifications.endpoints.0.url: http://a/\nnotifications.endpoints.1.url: http://c/\nnotifications.endpoints.1.name: b"},
		"an entry is added":                   {file, "REGISTRY_NOTIFICATIONS_ENDPOINTS_2_NAME=c\nREGISTRY_NOTIFICATIONS_ENDPOINTS_2_URL=http://c/", "notifications.endpoints.2.name: c\nnotifications.endpoints.0.name: a"},
		"a list from nothing":                 {"", "REGISTRY_NOTIFICATIONS_ENDPOINTS_0_NAME=c\nREGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL=http://c/", "notifications.endpoints.0.name: c"},
		"a list as YAML":                      {file, "REGISTRY_NOTIFICATIONS_ENDPOINTS=[{name: z, url: 'http://z/'}]", "notifications.endpoints.0.name: z"},
		"ten entries":                         {"", endpoints(11), "notifications.endpoints.10.name: e10\nnotifications.endpoints.2.name: e2"},
		"headers of an entry":                 {file, "REGISTRY_NOTIFICATIONS_ENDPOINTS_0_HEADERS_X-TEAM=[ops]", "notifications.endpoints.0.headers.X-Team: [(hidden)]"},
		"an element of a list":                {file, "REGISTRY_HTTP_TLS_CLIENTCAS_1=/z.crt", "http.tls.clientcas: [/a.crt, /z.crt]"},
		"an element more":                     {file, "REGISTRY_HTTP_TLS_CLIENTCAS_2=/z.crt", "http.tls.clientcas: [/a.crt, /b.crt, /z.crt]"},
		"a list in one value":                 {file, "REGISTRY_HTTP_TLS_CLIENTCAS=[/y.crt, /z.crt]", "http.tls.clientcas: [/y.crt, /z.crt]"},
		"a list of one":                       {file, "REGISTRY_HTTP_TLS_CLIENTCAS=/z.crt", "http.tls.clientcas: [/z.crt]"},
		"keys of maps lose their case":        {file, "REGISTRY_HTTP_HEADERS_X-OLD=[b]\nREGISTRY_HTTP_HEADERS_X-NEW=[c]", "http.headers.X-Old: [b]\nhttp.headers.X-New: [c]\nhttp.headers.X-Content-Type-Options: [nosniff]"},
		"an element of a header":              {file, "REGISTRY_HTTP_HEADERS_X-OLD_1=b", "http.headers.X-Old: [a, b]"},
		"read-only, nested":                   {"", "REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED=true", "storage.maintenance.readonly.enabled: true"},
		"read-only beside purging":            {file, "REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED=true", "storage.maintenance.readonly.enabled: true\nstorage.maintenance.uploadpurging.enabled: false\ngc.uploads: never"},
		"read-only as YAML":                   {file, "REGISTRY_STORAGE_MAINTENANCE={readonly: {enabled: true}}", "storage.maintenance.readonly.enabled: true"},
		"read-only as JSON":                   {file, `REGISTRY_STORAGE_MAINTENANCE_READONLY={"enabled":true}`, "storage.maintenance.readonly.enabled: true"},
		"purging, nested":                     {"", "REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_AGE=5h", "gc.uploads: 5h"},
		"the driver keeps its siblings":       {file, "REGISTRY_STORAGE=inmemory", "storage.inmemory: {}\nstorage.delete.enabled: true\nstorage.maintenance.uploadpurging.enabled: false"},
		"a driver that has siblings of env":   {file, "REGISTRY_STORAGE=inmemory\nREGISTRY_STORAGE_DELETE_ENABLED=false", "storage.inmemory: {}\nstorage.delete.enabled: false"},
		"the driver of the environment wins":  {"storage: {inmemory: }", "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=/env", "storage.filesystem.rootdirectory: /env"},
		"a section before what is in it":      {"", "REGISTRY_LOG_LEVEL=debug\nREGISTRY_LOG={level: error, formatter: json}", "log.level: debug\nlog.formatter: json"},
		"a login from nothing":                {"", "REGISTRY_AUTH_HTPASSWD_PATH=/p\nREGISTRY_AUTH=htpasswd\nREGISTRY_AUTH_HTPASSWD_REALM=My Registry", "auth.htpasswd.realm: My Registry\nauth.htpasswd.path: /p"},
		"a login without its name":            {"", "REGISTRY_AUTH_HTPASSWD_PATH=/p\nREGISTRY_AUTH_HTPASSWD_REALM=r", "auth.htpasswd.realm: r"},
		"a login that the file has":           {htpasswd, "REGISTRY_AUTH=htpasswd", "auth.htpasswd.realm: r\nauth.htpasswd.path: /p"},
		"another path for it":                 {htpasswd, "REGISTRY_AUTH_HTPASSWD_PATH=/q", "auth.htpasswd.realm: r\nauth.htpasswd.path: /q"},
		"a login in place of another":         {"auth: {token: {realm: https://x, service: y}}", "REGISTRY_AUTH={htpasswd: {realm: r, path: /p}}", "auth.htpasswd.path: /p"},
		"no login in place of one":            {htpasswd, "REGISTRY_AUTH=none", "auth: none"},
		"an empty login is none":              {file, "REGISTRY_AUTH=", "auth: none"},
		"an empty value is none":              {file, "REGISTRY_LOG_LEVEL=", "log.level: info"},
		"values of YAML 1.1":                  {"storage: {delete: {enabled: yes}}", "REGISTRY_HTTP_RELATIVEURLS=on", "storage.delete.enabled: true\nhttp.relativeurls: true"},
		"loglevel beside what replaces it":    {"log: {level: error}\nloglevel: debug", "", "log.level: error"},
		"loglevel":                            {"", "REGISTRY_LOGLEVEL=warn", "log.level: warn"},
		"where the file is":                   {file, "REGISTRY_CONFIGURATION_PATH=/etc/docker/registry/config.yml", "log.level: info"},
		"platforms":                           {"", "REGISTRY_VALIDATION_MANIFESTS_INDEXES_PLATFORMS=list\nREGISTRY_VALIDATION_MANIFESTS_INDEXES_PLATFORMLIST_0_OS=linux\nREGISTRY_VALIDATION_MANIFESTS_INDEXES_PLATFORMLIST_0_ARCHITECTURE=arm64", "validation.manifests.indexes.platformlist.0.architecture: arm64"},
		"patterns":                            {"", "REGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW_0=^https://a/\nREGISTRY_VALIDATION_MANIFESTS_URLS_ALLOW_1=^https://b/", "validation.manifests.urls.allow: [^https://a/, ^https://b/]"},
		"middleware that is off":              {"", "REGISTRY_MIDDLEWARE_STORAGE_0_NAME=redirect\nREGISTRY_MIDDLEWARE_STORAGE_0_DISABLED=true", "log.level: info"},
		"a proxy of nothing":                  {"", "REGISTRY_PROXY_REMOTEURL=\nREGISTRY_PROXY_TTL=1h", "proxy.ttl: 1h"},
		"trusted proxies":                     {"", "REGISTRY_HTTP_TRUSTEDPROXIES=10.1.0.0/16", "http.trustedproxies: [10.1.0.0/16]"},
		"trusted proxies one by one":          {"", "REGISTRY_HTTP_TRUSTEDPROXIES_0=10.1.0.0/16\nREGISTRY_HTTP_TRUSTEDPROXIES_1=::1", "http.trustedproxies: [10.1.0.0/16, ::1/128]"},
		"no trusted proxy":                    {"http: {trustedproxies: []}", "", "http.trustedproxies: []"},
		"a merge key":                         {"x: &x {level: debug, formatter: json}\nlog: {<<: *x, level: warn}", "", "log.level: warn\nlog.formatter: json"},
		"a list of what is merged":            {"x: &x {level: debug}\ny: &y {level: warn, formatter: json}\nlog: {<<: [*x, *y]}", "", "log.level: debug\nlog.formatter: json"},
		"a value that others share by anchor": {"log: {fields: &f {a: b}}\nhttp: {headers: *f}", "REGISTRY_HTTP_HEADERS_C=[d]", "log.fields.a: b\nhttp.headers.C: [d]\nhttp.headers.A: [b]"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var data []byte
			if tt.file != "" {
				data = []byte(tt.file)
			}
			c, _, err := config.Parse("config.yml", data, strings.Split(tt.environ, "\n"))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range c.Settings() {
				got = append(got, s.Key+": "+s.Value)
			}
			all := "\n" + strings.Join(got, "\n") + "\n"
			for _, want := range strings.Split(tt.want, "\n") {
				if !strings.Contains(all, "\n"+want+"\n") {
					t.Errorf("no %s in%s", want, all)
				}
			}
		})
	}
}

// endpoints are variables for so many of them, in no order that counts.
func endpoints(n int) string {
	var list []string
	for i := n - 1; i >= 0; i-- {
		list = append(list, fmt.Sprintf("REGISTRY_NOTIFICATIONS_ENDPOINTS_%d_NAME=e%d\nREGISTRY_NOTIFICATIONS_ENDPOINTS_%d_URL=http://e/", i, i, i))
	}
	return strings.Join(list, "\n")
}

// TestEnvironmentRefused are variables that nothing good can be made of.
func TestEnvironmentRefused(t *testing.T) {
	t.Parallel()
	tests := []struct{ file, environ, want string }{
		{"", "REGISTRY_NOTIFICATIONS_ENDPOINTS_1_URL=http://x/", "REGISTRY_NOTIFICATIONS_ENDPOINTS_1_URL: there is no entry 1 in a list of 0"},
		{"", "REGISTRY_HTTP_TLS_CLIENTCAS_5=/x", "there is no entry 5 in a list of 0"},
		{"", "REGISTRY_AUTH=htpasswd", "REGISTRY_AUTH: auth.htpasswd has no path"},
		{"auth: {htpasswd: {realm: x, path: /x}}", "REGISTRY_AUTH=", "REGISTRY_AUTH: auth is empty"},
		{"auth: {htpasswd: {realm: x, path: /x}}", "REGISTRY_AUTH={}", "REGISTRY_AUTH: auth is empty"},
		{"storage: {maintenance: {readonly: {enabled: true}}}", "REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED=", "it is empty, and takes away what the file says of storage.maintenance.readonly.enabled"},
		{"storage: {maintenance: {readonly: {enabled: true}}}", "REGISTRY_STORAGE_MAINTENANCE=", "REGISTRY_STORAGE_MAINTENANCE: it is empty, and takes away"},
		{"http: {tls: {certificate: c, key: k, clientcas: [ca]}}", "REGISTRY_HTTP_TLS= ", "REGISTRY_HTTP_TLS: it is empty, and takes away what the file says of http.tls.clientcas"},
		{"http: {tls: {certificate: c, key: k, clientcas: [ca]}}", "REGISTRY_HTTP_TLS_CLIENTCAS=", "REGISTRY_HTTP_TLS_CLIENTCAS: http.tls.clientcas is empty"},
		{"", "REGISTRY_AUTH_HTPASSWD_PATH=/x", "REGISTRY_AUTH_HTPASSWD_PATH: auth.htpasswd has no realm"},
		{"auth: {none: {}}", "REGISTRY_AUTH_HTPASSWD_PATH=/x", "auth has none, and htpasswd beside it"},
		{"auth: {htpasswd: {realm: x, path: /x}}", "REGISTRY_AUTH_NONE_X=y", "auth has none, and htpasswd beside it"},
		{"", "REGISTRY_AUTH_HTPASSWD_PATH=/x\nREGISTRY_AUTH=token", "REGISTRY_AUTH: auth.token has no service"},
		{"storage: {filesystem: {rootdirectory: /x}}", "REGISTRY_STORAGE_S3_BUCKET=b", "REGISTRY_STORAGE_S3_BUCKET: storage.s3 is not built yet"},
		{"storage: {filesystem: {rootdirectory: /x}}", "REGISTRY_STORAGE=s3", "REGISTRY_STORAGE: storage.s3 is not built yet"},
		{"", "REGISTRY_STORAGE_S3_BUCKET=b\nREGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=/x", "storage has two drivers"},
		{"", "REGISTRY_MIDDLEWARE_STORAGE_0_NAME=redirect", "REGISTRY_MIDDLEWARE_STORAGE_0_NAME: middleware.storage: is not built yet"},
		{"", "REGISTRY_PROXY_REMOTEURL=https://x", "REGISTRY_PROXY_REMOTEURL: proxy.remoteurl is not built yet"},
		{"", "REGISTRY_HTTP_TLS_KEY=/x", "REGISTRY_HTTP_TLS_KEY: http.tls.key is there without http.tls.certificate"},
		{"", "REGISTRY_HTTP_TLS_CLIENTCAS_0=/x", "REGISTRY_HTTP_TLS_CLIENTCAS_0: http.tls.clientcas is there without http.tls.certificate"},
		{"", "REGISTRY_POLICY_REPOSITORY_CLASSES_0=image", "policy is not built yet"},
		{"", "REGISTRY_HEALTH_FILECHECKERS_0_INTERVAL=3s", "REGISTRY_HEALTH_FILECHECKERS_0_INTERVAL: health.file.0 has no file"},
		{"", "REGISTRY_HTTP_TRUSTEDPROXY=10.0.0.1\nREGISTRY_HTTP_TLS_CLIENTAUTHS=x", "REGISTRY_HTTP_TLS_CLIENTAUTHS: unknown variable, and it looks as if"},
	}
	for _, tt := range tests {
		var data []byte
		if tt.file != "" {
			data = []byte(tt.file)
		}
		_, _, err := config.Parse("config.yml", data, strings.Split(tt.environ, "\n"))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q %q: %v, want %s", tt.file, tt.environ, err, tt.want)
		}
	}
}

// TestOriginsOfVariables: every setting names its variable, as it was spelled.
func TestOriginsOfVariables(t *testing.T) {
	t.Parallel()
	environ := []string{"REGISTRY_HEALTH_FILECHECKERS_0_FILE=/x", "REGISTRY_STORAGE_MAINTENANCE={readonly: {enabled: true}}", "REGISTRY_STORAGE=inmemory"}
	from := map[string]string{}
	for _, s := range mustParse(t, "storage: {delete: {enabled: true}}", environ...).Settings() {
		from[s.Key] = s.From
	}
	for key, want := range map[string]string{
		"health.file.0.file":                   "$REGISTRY_HEALTH_FILECHECKERS_0_FILE",
		"health.file.0.interval":               "the default of registry:2",
		"storage.maintenance.readonly.enabled": "$REGISTRY_STORAGE_MAINTENANCE",
		"storage.inmemory":                     "$REGISTRY_STORAGE",
		"storage.delete.enabled":               "config.yml:1",
		"gc.undo":                              "our default",
	} {
		if from[key] != want {
			t.Errorf("%s is from %q, want %q", key, from[key], want)
		}
	}
	for _, s := range mustParse(t, "").Settings() {
		if s.From != "our default" {
			t.Errorf("without anything, %s is from %q", s.Key, s.From)
		}
	}
}

// TestSections are values that sections get, and those that they refuse.
func TestSections(t *testing.T) {
	t.Parallel()
	c := mustParse(t, `http: {tls: {certificate: /c, key: /k, minimumtls: tls1.3}}
notifications: {endpoints: [{name: a, url: http://x/}, {name: a, disabled: true}]}`)
	if c.HTTP.TLS.MinVersion != tls.VersionTLS13 || len(c.Notify.Endpoints) != 1 || c.Notify.Endpoints[0].Timeout != time.Second || c.Notify.Endpoints[0].Threshold != 10 {
		t.Errorf("%+v", c)
	}
	for file, want := range map[string]string{
		"http: {tls: {certificate: /c}}":                                                       "config.yml:1: http.tls.certificate is there without http.tls.key",
		"http: {tls: {certificate: /c, key: /k, minimumtls: ssl3}}":                            `"ssl3" is neither tls1.2 nor tls1.3`,
		"http: {tls: {certificate: /c, key: /k, ciphersuites: [TLS_RSA_WITH_RC4_128_SHA]}}":    "TLS_RSA_WITH_RC4_128_SHA is broken (RFC 7465), and there is no other",
		"http: {tls: {certificate: /c, key: /k, ciphersuites: [TLS_RSA_WITH_AES_128_CBC_SH]}}": "is no name of a cipher suite of Go; did you mean TLS_RSA_WITH_AES_128_CBC_SHA?",
		"http: {tls: {certificate: /c, key: /k, clientauth: verify-client-cert-if-given}}":     "http.tls.clientauth is there without http.tls.clientcas",
		"http: {tls: {certificate: /c, key: /k, clientcas: [/x], clientauth: any}}":            `"any" is none of request-client-cert`,
		"http: {tls: {cert: /c}}":                                                              "http.tls.cert: no such key",
		"http: {certificate: /c}":                                                              "http.certificate: unknown key, and it looks as if it were to restrict something",
		"http: {net: udp}":                                                                     `"udp" is none of tcp, unix`,
		"http: {prefix: '/a//b'}":                                                              "http.prefix",
		"http: {host: 'https://me:sesame@x'}":                                                  `http.host: "https://(hidden)@x" is not of the form`,
		"http: {host: 'me:sesame@x'}":                                                          `http.host: "(hidden)" is not of the form`,
		"http: {debug: {addr: 5001}}":                                                          `http.debug.addr: "5001" is not of the form host:port`,
		"http: {debug: {addr: ':1', prometheus: {path: metrics}}}":                             `"metrics" does not begin with a slash`,
		"http: {trustedproxies: [10.0.0.1/8]}":                                                 `"10.0.0.1/8" has bits beyond its network; write 10.0.0.0/8`,
		"http: {trustedproxies: [nginx]}":                                                      `"nginx" is neither an address nor a network`,
		"http: {trustedproxies: ['fe80::1%eth0']}":                                             "is neither an address nor a network",
		"notifications: {endpoints: [{url: 'http://x/'}, {url: 'http://x/y'}]}":                `there are two endpoints called "x"`,
		"notifications: {endpoints: [{name: a}]}":                                              "config.yml:1: notifications.endpoints.0 has no url",
		"notifications: {endpoints: [{name: a, url: 'me:sesame@x'}]}":                          "notifications.endpoints.0.url: is not of the form https://HOST/PATH",
		"notifications: {endpoints: [{name: a, url: 'http://x'}, {name: a, url: 'http://y'}]}": `there are two endpoints called "a"`,
		"http: {draintimeout: 500}":                                                            `"500" is not a duration such as 60s: without a unit it is so many nanoseconds`,
		"notifications: {endpoints: {name: a}}":                                                "notifications.endpoints must be a list",
		"notifications: {endpoints: [a]}":                                                      "notifications.endpoints.0 must be a mapping",
		"health: {file: [{interval: 1s}]}":                                                     "health.file.0 has no file",
		"health: {http: [{uri: x}]}":                                                           "health.http.0.uri: is not of the form",
		"health: {tcp: [{addr: x}]}":                                                           `health.tcp.0.addr: "x" is not of the form host:port`,
		"validation: {manifests: {urls: {allow: ['(']}}}":                                      `validation.manifests.urls.allow: "(" is no regular expression`,
		"validation: {manifests: {indexes: {platforms: list, platformlist: [{os: x}]}}}":       "validation.manifests.indexes.platformlist.0 needs both architecture and os",
		"validation: {manifests: {urls: {alow: [x]}}}":                                         "validation.manifests.urls.alow: no such key; did you mean allow?",
	} {
		_, _, err := config.Parse("config.yml", []byte(file), nil)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v, want %s", file, err, want)
		}
	}
}

// TestTimesOfEndpointsWithoutAUnit: registry:2 takes 500 for nanoseconds, in
// which nothing is ever delivered.
func TestTimesOfEndpointsWithoutAUnit(t *testing.T) {
	t.Parallel()
	c, warnings, err := config.Parse("config.yml", []byte("notifications:\n  endpoints:\n  - {name: a, url: 'http://x', timeout: 500,\n     backoff: 1000}\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if e := c.Notify.Endpoints[0]; e.Timeout != 500*time.Millisecond || e.Backoff != time.Second {
		t.Errorf("timeout %s, backoff %s", e.Timeout, e.Backoff)
	}
	if len(warnings) != 2 || !strings.HasPrefix(warnings[0].String(), "config.yml:3: notifications.endpoints.0.timeout: ") || warnings[1].Where != "config.yml:4" {
		t.Errorf("warnings: %v", warnings)
	}
}
