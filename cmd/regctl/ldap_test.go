package main_test

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const slapdConfig = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
directory DIR
maxsize 10485760
suffix "dc=example,dc=com"
rootdn "cn=registry,dc=example,dc=com"
rootpw "of the registry"
access to attrs=userPassword by anonymous auth by * none
access to * by users read by * none
`

// slapdPeople are two users, of whom alice is in the group php.
const slapdPeople = `dn: dc=example,dc=com
objectClass: dcObject
objectClass: organization
dc: example
o: Example

dn: ou=people,dc=example,dc=com
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=example,dc=com
objectClass: organizationalUnit
ou: groups

dn: uid=alice,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: alice
cn: Alice
sn: Alice
userPassword: of alice

dn: uid=bob,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: bob
cn: Bob
sn: Bob
userPassword: of bob

dn: cn=php,ou=groups,dc=example,dc=com
objectClass: groupOfNames
cn: php
member: uid=alice,ou=people,dc=example,dc=com
`

// startSlapd starts a directory of OpenLDAP, and returns its URL.
func startSlapd(t *testing.T) (*server, string) {
	t.Helper()
	program, add := peer(t, "slapd", "/usr/sbin/slapd"), peer(t, "ldapadd")
	dir := t.TempDir()
	config, people, socket := filepath.Join(dir, "slapd.conf"), filepath.Join(dir, "people.ldif"), filepath.Join(dir, "sock")
	write(t, config, []byte(strings.ReplaceAll(slapdConfig, "DIR", dir)))
	write(t, people, []byte(slapdPeople))
	at := "ldapi://" + url.PathEscape(socket)
	s := launch(t, exec.Command(program, "-f", config, "-h", at, "-d", "none"), func(string) {})
	s.addr = socket
	s.await(t, func() error {
		c, err := net.Dial("unix", socket)
		if err == nil {
			err = c.Close()
		}
		return err
	})
	if out, err := exec.Command(add, "-x", "-H", at, "-D", "cn=registry,dc=example,dc=com", "-w", "of the registry", "-f", people).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return s, at
}

// TestLDAPRecipe: what README shows of LDAP works with a real directory, also
// when that is down, and nobody guesses passwords.
func TestLDAPRecipe(t *testing.T) {
	t.Parallel()
	directory, at := startSlapd(t)
	dir := t.TempDir()
	secret := filepath.Join(dir, "ldap")
	write(t, secret, []byte("of the registry\n"))
	_, recipe, found := strings.Cut(read(t, "../../README.md"), "\n### LDAP\n\n```yaml\n")
	recipe, _, ended := strings.Cut(recipe, "```")
	if !found || !ended {
		t.Fatal("README has no recipe for LDAP")
	}
	recipe = strings.NewReplacer("  ldap:\n", "  ldap:\n    timeout: 1m\n", "ldaps://ldap.example.com ", at+" ", "/run/secrets/ldap ", secret+" ").Replace(recipe)
	config := filepath.Join(dir, "config.yml")
	write(t, config, []byte("version: 0.1\n"+recipe))
	s := startRegctl(t, filepath.Join(dir, "data"), config)
	start := func(repo, login string, want int) {
		t.Helper()
		if a := askAs(t, s, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", basicOf(login)); a.status != want {
			t.Errorf("%s begins an upload to %s: %d %s, want %d", login, repo, a.status, a.body, want)
		}
	}
	start("php/app", "", http.StatusUnauthorized)
	start("php/app", "alice:of alice", http.StatusAccepted)
	start("php/app", "ALICE:of alice", http.StatusAccepted)
	start("php/app", "alice:of bob", http.StatusUnauthorized)
	start("php/app", "alice:", http.StatusUnauthorized)
	start("php/app", "*:of alice", http.StatusUnauthorized)
	start("php/app", "bob:of bob", http.StatusForbidden)
	start("java/app", "alice:of alice", http.StatusForbidden)
	if token := tokenFor(t, s, "alice:of alice", "repository:php/app:pull,push"); token != "" {
		if a := askAs(t, s, http.MethodPost, "/v2/php/app/blobs/uploads/", "Bearer "+token); a.status != http.StatusAccepted {
			t.Errorf("a token: %d %s", a.status, a.body)
		}
	}

	waits := false
	for i := 0; !waits && i < 60; i++ {
		a := askAs(t, s, http.MethodGet, "/v2/", basicOf(fmt.Sprintf("alice:guess %d", i)))
		waits = a.status == http.StatusTooManyRequests && a.header.Get("Retry-After") != ""
		if !waits && a.status != http.StatusUnauthorized {
			t.Errorf("guess %d: %d %s", i, a.status, a.body)
		}
	}
	if !waits {
		t.Error("60 guesses are looked at")
	}
	start("php/app", "alice:of alice", http.StatusAccepted)

	_ = directory.stop(syscall.SIGKILL)
	start("php/app", "bob:another", http.StatusServiceUnavailable)
	start("php/app", "alice:of alice", http.StatusAccepted)
	if log := s.log.String(); strings.Contains(log, "of alice") || strings.Contains(log, "of the registry") || strings.Contains(log, "guess 1") {
		t.Errorf("a password is in the log: %s", log)
	}
}

// TestThrottledHTTP: who guesses waits, and who is right does not.
func TestThrottledHTTP(t *testing.T) {
	t.Parallel()
	s := startRuled(t, admitRules, admitGood, admitNarrow)
	statuses := map[int]int{}
	for i := 0; statuses[http.StatusTooManyRequests] < 3 && i < 60; i++ { // With time, more are looked at.
		login := basicOf(fmt.Sprintf("alice:guess %d", i))
		a := askAs(t, s.server, http.MethodGet, scopeQuery(s.server, "repository:private/app:pull"), login)
		statuses[a.status]++
		if a.status == http.StatusTooManyRequests {
			after, err := time.ParseDuration(a.header.Get("Retry-After") + "s")
			if err != nil || after <= 0 || after > time.Minute {
				t.Errorf("Retry-After: %q", a.header.Get("Retry-After"))
			}
		}
		again := askAs(t, s.server, http.MethodGet, "/v2/", login)
		if a.status == http.StatusUnauthorized && again.status != a.status {
			t.Errorf("guess %d is %d, and the same again %d", i, a.status, again.status)
		}
	}
	if statuses[http.StatusUnauthorized] < 10 || statuses[http.StatusTooManyRequests] != 3 || len(statuses) != 2 {
		t.Errorf("the answers to guesses are %v", statuses)
	}
	if a := askAs(t, s.server, http.MethodGet, "/v2/", basicOf(admitNarrow)); a.status != http.StatusOK {
		t.Errorf("somebody else: %d %s", a.status, a.body)
	}
}
