package config

import (
	"testing"
	"time"
)

func TestParseStore(t *testing.T) {
	t.Parallel()
	file := []byte(`version: 0.1
storage:
  filesystem: {rootdirectory: /srv/registry}
  maintenance:
    readonly: {enabled: true}
    uploadpurging: {age: 48h}
auth:
  htpasswd: {realm: x}
http:
  addr: :5000
  tls: {key: y, minimumtls: ssl3}
notifications: {endpoints: [{name: x}, a]}
health: {tcp: [{}]}
validation: {manifests: {urls: {allow: ['(']}}}
proxy: {remoteurl: "https://example.org"}
gc: {untagged: true, undo: 0}
`)
	environ := []string{"REGISTRY_AUTH_TOKEN_REALM=x", "REGISTRY_HTPASWD=x", "REGISTRY_HTTP_TLSS=1", "REGISTRY_NOTIFICATIONS_ENDPOINTS_7_URL=x", "REGISTRY_AUTH=", "REGISTRY_STORAGE_FILESYSTEM_ROOTDIR=/x"}
	if _, _, err := Parse("config.yml", file, environ); err == nil {
		t.Fatal("a server starts with it")
	}
	c, warnings, err := ParseStore("config.yml", file, environ)
	if err != nil {
		t.Fatal(err)
	}
	if c.Storage.Root != "/srv/registry" || c.Storage.RootFrom != "config.yml:3" || !c.Compat {
		t.Errorf("storage %+v", c.Storage)
	}
	if !c.GC.Untagged || c.GC.Undo != 0 || c.GC.Uploads != 48*time.Hour || c.GC.Older != time.Hour {
		t.Errorf("gc %+v", c.GC)
	}
	if len(warnings) != 1 || warnings[0].Where != "REGISTRY_STORAGE_FILESYSTEM_ROOTDIR" {
		t.Errorf("warnings %v", warnings)
	}
}

// TestParseStoreRefuses what makes it unknown where the store is.
func TestParseStoreRefuses(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"storage: [", "storage: {s3: {bucket: x}}", "storage: {filesytem: {}}", "gc: {oldr: 1h}"} {
		if _, _, err := ParseStore("config.yml", []byte(file), nil); err == nil {
			t.Errorf("%s: no error", file)
		}
	}
	for _, variable := range []string{"REGISTRY_STORAGE=s3", "REGISTRY_STORAGE_S3_BUCKET=x", "REGISTRY_GC_OLDER=soon"} {
		if _, _, err := ParseStore("", nil, []string{variable}); err == nil {
			t.Errorf("%s: no error", variable)
		}
	}
	c, _, err := ParseStore("", nil, []string{"REGISTRY_HTTP_ADDR=:5000"})
	if err != nil || c.Storage.Root != rootOfRegistry2 {
		t.Errorf("with a variable of registry:2: root %q, %v", c.Storage.Root, err)
	}
}
