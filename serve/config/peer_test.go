package config_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/regctl/regctl/serve/config"
)

// TestWhatStarts compares with a real registry:2 what a server starts with.
// Where they differ, why says the reason.
func TestWhatStarts(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("docker-registry")
	if err != nil {
		if os.Getenv("REGCTL_PEERS") == "required" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	for name, tt := range whatStarts() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := strings.ReplaceAll("version: 0.1\nhttp: {addr: '127.0.0.1:0'}\n"+tt.file, "$DIR", dir)
			environ := strings.Split(strings.ReplaceAll(tt.environ, "$DIR", dir), "\n")
			_, _, err := config.Parse("config.yml", []byte(file), environ)
			if ours := err == nil; ours != tt.ours {
				t.Errorf("ours starts: %v, %v", ours, err)
			}
			if theirs := starts(t, program, dir, file, environ); theirs != tt.theirs {
				t.Errorf("registry:2 starts: %v", theirs)
			}
			if tt.ours != tt.theirs && tt.why == "" {
				t.Error("they differ, and nothing says why")
			}
		})
	}
}

type whatStart struct {
	file, environ string
	theirs, ours  bool
	why           string
}

func whatStarts() map[string]whatStart {
	const memory = "storage: {inmemory: {}}\n"
	const open = "registry:2 starts, and is open"
	const falls = "registry:2 falls over"
	return map[string]whatStart{
		"nothing but a driver":           {memory, "", true, true, ""},
		"words of YAML 1.1":              {"storage: {inmemory: {}, delete: {enabled: yes}}", "", true, true, ""},
		"a merge key":                    {memory + "x: &x {level: debug}\nlog: {<<: *x}", "", true, true, ""},
		"an unknown key":                 {memory + "fruits: {apple: x}", "", true, true, ""},
		"an unknown variable":            {memory, "REGISTRY_FRUITS_APPLE=x", true, true, ""},
		"a level that is none":           {memory + "log: {level: loud}", "", false, false, ""},
		"a formatter that is none":       {memory + "log: {formatter: xml}", "", false, false, ""},
		"no driver":                      {"", "", false, true, "the default is that of the image"},
		"a driver that is none":          {"storage: {floppy: {}}", "", false, false, ""},
		"two drivers":                    {"storage: {inmemory: {}, filesystem: {rootdirectory: $DIR}}", "", false, false, ""},
		"two drivers, one of a variable": {memory, "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=$DIR", false, true, falls},
		"a driver by its name":           {memory, "REGISTRY_STORAGE=filesystem\nREGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY=$DIR", true, true, ""},
		"read-only":                      {"storage: {inmemory: {}, maintenance: {readonly: {enabled: true}}}", "", true, true, ""},
		"read-only, not a mapping":       {"storage: {inmemory: {}, maintenance: {readonly: true}}", "", false, false, ""},
		"read-only by a variable":        {memory, "REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED=true", false, true, falls},
		"read-only as YAML":              {memory, "REGISTRY_STORAGE_MAINTENANCE={readonly: {enabled: true}}", true, true, ""},
		"no realm":                       {memory + "auth: {htpasswd: {path: $DIR/htpasswd}}", "", false, false, ""},
		"no path":                        {memory + "auth: {htpasswd: {realm: x}}", "", false, false, ""},
		"an empty realm":                 {memory + "auth: {htpasswd: {realm: '', path: $DIR/htpasswd}}", "", true, true, ""},
		"a login by variables":           {memory, "REGISTRY_AUTH=htpasswd\nREGISTRY_AUTH_HTPASSWD_REALM=x\nREGISTRY_AUTH_HTPASSWD_PATH=$DIR/htpasswd", true, true, ""},
		"no login, by a variable":        {memory, "REGISTRY_AUTH_BASIC_PATH=/x", false, false, ""},
		"no driver, by a variable":       {memory, "REGISTRY_STORAGE_MINIO_BUCKET=x", false, false, ""},
		"no certificate, by a variable":  {memory, "REGISTRY_HTTP_TLS_CERT=/x", true, false, open},
		"a login that is none":           {memory + "auth: {custom: {}}", "", false, false, ""},
		"two logins":                     {memory + "auth: {htpasswd: {realm: x, path: $DIR/htpasswd}, none: {}}", "", false, false, ""},
		"an empty login":                 {memory + "auth:", "", true, false, open},
		"a login that is empty text":     {memory + "auth: ''", "", true, false, open},
		"a login misspelled":             {memory + "auht: {htpasswd: {realm: x, path: $DIR/htpasswd}}", "", true, false, open},
		"a login in a second document":   {memory + "---\nauth: {htpasswd: {realm: x, path: $DIR/htpasswd}}", "", true, false, open},
		"a login of no section":          {memory + "auth:\nhtpasswd: {realm: x, path: $DIR/htpasswd}", "", true, false, open},
		"none":                           {memory + "auth: none", "", true, true, ""},
		"a key, no certificate":          {memory, "REGISTRY_HTTP_TLS_KEY=/x", true, false, open},
		"clients' CAs without TLS":       {memory, "REGISTRY_HTTP_TLS_CLIENTCAS_0=/x", true, false, open},
		"an endpoint":                    {memory + "notifications: {endpoints: [{name: a, url: 'http://127.0.0.1:1/'}]}", "", true, true, ""},
		"an endpoint without a name":     {memory + "notifications: {endpoints: [{url: 'http://127.0.0.1:1/'}]}", "", true, true, ""},
		"an endpoint by variables":       {memory, "REGISTRY_NOTIFICATIONS_ENDPOINTS_0_NAME=a\nREGISTRY_NOTIFICATIONS_ENDPOINTS_0_URL=http://127.0.0.1:1/", true, true, ""},
		"the second, no first":           {memory, "REGISTRY_NOTIFICATIONS_ENDPOINTS_1_NAME=a", true, false, "2.8 passes over variables of lists, 3 does not"},
		"a time without a unit":          {memory + "notifications: {endpoints: [{name: a, url: 'http://127.0.0.1:1/', timeout: 500}]}", "", true, true, ""},
		"nanoseconds":                    {memory + "http: {draintimeout: 500}", "", true, false, "nobody means nanoseconds"},
		"a host that is no URL":          {memory, "REGISTRY_HTTP_HOST=reg.example.com", true, true, ""},
		"a host with a port, no URL":     {memory, "REGISTRY_HTTP_HOST=reg.example.com:443", true, true, ""},
		"an address with a port, no URL": {memory, "REGISTRY_HTTP_HOST=192.0.2.1:443", false, false, ""},
		"checks of health":               {memory, "REGISTRY_HEALTH_FILECHECKERS_0_FILE=/x", true, true, ""},
		"a pattern that is none":         {memory + "validation: {manifests: {urls: {allow: ['(']}}}", "", false, false, ""},
		"middleware that is none":        {memory + "middleware: {registry: [{name: x}]}", "", false, false, ""},
		"another version":                {"storage: {inmemory: {}}\nversion: 0.2", "", false, false, ""},
	}
}

// starts tells whether registry:2 gets as far as to listen.
func starts(t *testing.T, program, dir, file string, environ []string) bool {
	t.Helper()
	path := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "serve", path)
	cmd.Env = environ
	read, write := io.Pipe()
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // That it was killed, or fell over.
		_ = write.Close()
		close(ended)
	}()
	listens := false
	lines := bufio.NewScanner(read)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "listening on") && !listens {
			listens = true
			_ = cmd.Process.Kill() // It has ended, else.
		}
	}
	<-ended
	return listens
}
