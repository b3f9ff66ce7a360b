package ldap

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/regctl/regctl/serve/auth"
)

// base is where all is in the directories of the tests.
const base = "dc=example,dc=com"

// people is a directory. All passwords are "secret" but those of the service.
const people = `dn: dc=example,dc=com
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

dn: ou=own,dc=example,dc=com
objectClass: organizationalUnit
ou: own

dn: uid=alice,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: alice
cn: Alice
sn: A
mail: alice@example.com
userPassword: secret

dn: uid=Bob,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: Bob
cn: Bob
sn: B
mail: bob@example.com
userPassword: secret

dn: uid=c(h)*\\\,x,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: c(h)*\,x
cn: Odd
sn: Odd
userPassword: secret

dn: cn=twin 1,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: twin
cn: twin 1
sn: T
userPassword: secret

dn: cn=twin 2,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: twin
cn: twin 2
sn: T
userPassword: secret

dn: uid=robot:ci,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: robot:ci
cn: spoof
sn: S
userPassword: secret

dn: uid=nopass,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: nopass
cn: nopass
sn: N

dn: cn=php,ou=groups,dc=example,dc=com
objectClass: groupOfNames
cn: php
member: uid=alice,ou=people,dc=example,dc=com
member: uid=c(h)*\\\,x,ou=people,dc=example,dc=com

dn: cn=java,ou=groups,dc=example,dc=com
objectClass: groupOfUniqueNames
cn: java
uniqueMember: uid=alice,ou=people,dc=example,dc=com

dn: cn=posix,ou=groups,dc=example,dc=com
objectClass: posixGroup
cn: posix
gidNumber: 1000
memberUid: alice
memberUid: bob

dn: cn=admins,ou=own,dc=example,dc=com
objectClass: groupOfNames
cn: admins
member: uid=alice,ou=people,dc=example,dc=com
`

const slapdConf = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
pidfile DIR/pid
TLSCACertificateFile DIR/ca.pem
TLSCertificateFile DIR/cert.pem
TLSCertificateKeyFile DIR/key.pem
allow bind_anon_dn
database mdb
directory DIR/db
maxsize 10485760
suffix "dc=example,dc=com"
rootdn "cn=admin,dc=example,dc=com"
rootpw admin-secret
index uid eq
overlay memberof
access to attrs=userPassword by self write by anonymous auth by * none
access to dn.subtree="ou=groups,dc=example,dc=com" by dn.exact="cn=admin,dc=example,dc=com" read by users read by * none
access to * by * read
`

const (
	admin       = "cn=admin," + base
	adminSecret = "admin-secret"
)

// slapd is a directory of OpenLDAP.
type slapd struct {
	dir, url, tls, socket, ca string
	stop                      func()
}

// startSlapd starts one with people in it.
func startSlapd(t *testing.T) *slapd {
	t.Helper()
	program, err := exec.LookPath("slapd")
	if err != nil {
		for _, p := range []string{"/usr/sbin/slapd", "/usr/lib/openldap/slapd"} {
			if _, err := os.Stat(p); err == nil {
				program = p
			}
		}
	}
	if program == "" || !exists("/etc/ldap/schema/core.schema") {
		if os.Getenv("REGCTL_PEERS") == "required" {
			t.Fatal("there is no slapd")
		}
		t.Skip("there is no slapd")
	}
	dir := t.TempDir()
	s := &slapd{dir: dir, ca: filepath.Join(dir, "ca.pem")}
	certify(t, dir)
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "slapd.conf"), strings.ReplaceAll(slapdConf, "DIR", dir))
	write(t, filepath.Join(dir, "people.ldif"), people)
	s.socket = "ldapi://" + url.PathEscape(filepath.Join(dir, "sock"))
	for range 5 { // Somebody may be faster to listen where it was free.
		s.url, s.tls = "ldap://"+freeAddr(t), "ldaps://"+freeAddr(t)
		if out, ok := s.start(t, program); !ok {
			t.Logf("slapd has ended: %s", out)
			continue
		}
		break
	}
	s.run(t, "ldapadd", "-x", "-H", s.url, "-D", admin, "-w", adminSecret, "-f", filepath.Join(dir, "people.ldif"))
	return s
}

// start returns when it answers, or false with what it says if it does not.
func (s *slapd) start(t *testing.T, program string) (string, bool) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.Command(program, "-f", filepath.Join(s.dir, "slapd.conf"), "-h", s.url+" "+s.tls+" "+s.socket, "-d", "none")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	s.stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	t.Cleanup(s.stop)
	for limit := time.After(30 * time.Second); ; {
		c, err := net.Dial("unix", filepath.Join(s.dir, "sock")) // It opens that last.
		if err == nil {
			_ = c.Close()
			return "", true
		}
		select {
		case <-ended:
			return out.String(), false
		case <-limit:
			t.Fatalf("slapd does not answer: %s", s.dir)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (s *slapd) run(t *testing.T, program string, args ...string) {
	t.Helper()
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", program, err, out)
	}
}

// modify changes the directory.
func (s *slapd) modify(t *testing.T, ldif string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "change.ldif")
	write(t, path, ldif)
	s.run(t, "ldapmodify", "-x", "-H", s.url, "-D", admin, "-w", adminSecret, "-f", path)
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// certify makes a certificate for 127.0.0.1, which is its own CA.
func certify(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	cert, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	encoded := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
	write(t, filepath.Join(dir, "ca.pem"), encoded)
	write(t, filepath.Join(dir, "cert.pem"), encoded)
	write(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
}

func open(t *testing.T, o Options) *Directory {
	t.Helper()
	if o.Timeout == 0 {
		o.Timeout = time.Minute // The machine may be busy.
	}
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestSlapd: users and groups of a real directory, found in every way.
func TestSlapd(t *testing.T) {
	t.Parallel()
	s := startSlapd(t)
	users := "ou=people," + base
	bound := Options{URL: s.url, UserBase: users, BindDN: admin, BindPassword: adminSecret}
	with := func(change func(*Options)) Options {
		o := bound
		change(&o)
		return o
	}
	secret := filepath.Join(s.dir, "secret")
	write(t, secret, adminSecret+"\n")
	all := []string{"admins", "java", "php", "posix"}
	for name, c := range map[string]struct {
		o      Options
		login  string
		want   string
		groups []string
	}{
		"memberOf":         {bound, "alice", "alice", []string{"admins", "php"}},
		"groups of a base": {with(func(o *Options) { o.GroupBase = base }), "alice", "alice", all},
		"under a base":     {with(func(o *Options) { o.GroupBase = "ou=groups," + base }), "alice", "alice", []string{"java", "php", "posix"}},
		"posix":            {with(func(o *Options) { o.GroupBase = base; o.GroupFilter = "(memberUid=${user})" }), "BOB", "bob", []string{"posix"}},
		"memberOf of some": {with(func(o *Options) {
			o.GroupBase = "ou=groups," + base
			o.GroupOf = "memberof"
			o.GroupFilter = "(memberUid=${user})"
		}), "alice", "alice", []string{"php", "posix"}},
		"name of groups":    {with(func(o *Options) { o.GroupBase = base; o.GroupFilter = "(memberUid=${user})"; o.GroupName = "gidNumber" }), "alice", "alice", []string{"1000"}},
		"any case":          {bound, "ALICE", "alice", []string{"admins", "php"}},
		"mixed case":        {bound, "bob", "bob", nil},
		"odd characters":    {bound, `c(h)*\,x`, `c(h)*\,x`, []string{"php"}},
		"anonymous":         {with(func(o *Options) { o.BindDN, o.BindPassword = "", "" }), "alice", "alice", []string{"admins", "php"}},
		"by mail":           {with(func(o *Options) { o.UserFilter = "(|(uid=${user})(mail=${user}))" }), "alice@example.com", "alice@example.com", []string{"admins", "php"}},
		"by mail, as uid":   {with(func(o *Options) { o.UserFilter, o.UserName = "(|(uid=${user})(mail=${user}))", "uid" }), "Alice@example.com", "alice", []string{"admins", "php"}},
		"exact match":       {with(func(o *Options) { o.UserFilter, o.UserName = "(uid:caseExactMatch:=${user})", "uid" }), "alice", "alice", []string{"admins", "php"}},
		"DN":                {Options{URL: s.url, UserDN: "uid=${user}," + users, GroupBase: base}, "Alice", "alice", all},
		"DN, odd":           {Options{URL: s.url, UserDN: "uid=${user}," + users}, `c(h)*\,x`, `c(h)*\,x`, []string{"php"}},
		"DN, bound":         {with(func(o *Options) { o.UserDN, o.UserBase = "uid=${user},"+users, "" }), "alice", "alice", []string{"admins", "php"}},
		"password file":     {with(func(o *Options) { o.BindPassword, o.BindFile = "", secret }), "alice", "alice", []string{"admins", "php"}},
		"ldaps":             {with(func(o *Options) { o.URL, o.CA = s.tls, s.ca }), "alice", "alice", []string{"admins", "php"}},
		"StartTLS":          {with(func(o *Options) { o.StartTLS, o.CA = true, s.ca }), "alice", "alice", []string{"admins", "php"}},
		"ldapi":             {with(func(o *Options) { o.URL = s.socket }), "alice", "alice", []string{"admins", "php"}},
		"filter of members": {with(func(o *Options) { o.UserFilter = "(&(uid=${user})(memberOf=cn=php,ou=groups," + base + "))" }), "alice", "alice", []string{"admins", "php"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := open(t, c.o)
			for _, password := range []string{"wrong", "", "Secret"} {
				if who, err := d.Login(t.Context(), c.login, password); !errors.Is(err, auth.ErrDenied) && !errors.Is(err, auth.ErrUnknown) {
					t.Errorf("with %q: %v, %v", password, who, err)
				}
			}
			who, err := d.Login(t.Context(), c.login, "secret")
			if err != nil || who.Name != c.want || who.Source != "ldap" || !slices.Equal(who.Groups, c.groups) {
				t.Fatalf("got %+v, %v; want %s in %s", who, err, c.want, c.groups)
			}
			d.forget()
			again, err := d.Lookup(t.Context(), who.Name, who.ID)
			if d.itself() {
				if !errors.Is(err, auth.ErrUnknown) {
					t.Errorf("looked up: %v, %v", again, err)
				}
				return
			}
			if err != nil || again.Name != c.want || again.ID != who.ID || !slices.Equal(again.Groups, c.groups) {
				t.Errorf("looked up: %+v, %v; want %s in %s", again, err, c.want, c.groups)
			}
		})
	}
}

// forget lets the directory be asked again.
func (m *memory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.right.Purge()
	m.wrong.Purge()
	m.people.Purge()
}

// TestSlapdRefuses: who is not exactly one user with this password is out.
func TestSlapdRefuses(t *testing.T) {
	t.Parallel()
	s := startSlapd(t)
	users := "ou=people," + base
	search := Options{URL: s.url, UserBase: users, BindDN: admin, BindPassword: adminSecret}
	inGroup := search
	inGroup.UserFilter = "(&(uid=${user})(memberOf=cn=php,ou=groups," + base + "))"
	byDN := Options{URL: s.url, UserDN: "uid=${user}," + users}
	for _, c := range []struct {
		o              Options
		name, password string
		want           error
	}{
		{search, "alice", "Secret", auth.ErrDenied},
		{search, "alice", "", auth.ErrUnknown},
		{search, "nobody", "secret", auth.ErrUnknown},
		{search, "", "secret", auth.ErrUnknown},
		{search, "*", "secret", auth.ErrUnknown},
		{search, "ali*", "secret", auth.ErrUnknown},
		{search, "alice)(uid=*", "secret", auth.ErrUnknown},
		{search, "alice ", "secret", auth.ErrUnknown},
		{search, " alice", "secret", auth.ErrUnknown},
		{search, "alice\x00", "secret", auth.ErrUnknown},
		{search, "twin", "secret", auth.ErrUnknown},
		{search, "robot:ci", "secret", auth.ErrUnknown},
		{search, "nopass", "secret", auth.ErrDenied},
		{inGroup, "bob", "secret", auth.ErrUnknown},
		{byDN, "alice", "wrong", auth.ErrDenied},
		{byDN, "alice", "", auth.ErrUnknown},
		{byDN, "alice,ou=people", "secret", auth.ErrDenied},
		{byDN, "nobody", "secret", auth.ErrDenied},
		{byDN, "nopass", "secret", auth.ErrDenied},
	} {
		d := open(t, c.o)
		if who, err := d.Login(t.Context(), c.name, c.password); !errors.Is(err, c.want) {
			t.Errorf("%q %q: %+v, %v; want %v", c.name, c.password, who, err, c.want)
		}
	}
}

// TestSlapdChanges: who is taken out of a group or the directory is out of it
// here within a minute, and nobody is told passwords.
func TestSlapdChanges(t *testing.T) {
	t.Parallel()
	s := startSlapd(t)
	clock := newClock()
	var log bytes.Buffer
	secret := filepath.Join(s.dir, "secret")
	write(t, secret, adminSecret)
	d := open(t, Options{
		URL: s.url, UserBase: base, BindDN: admin, BindFile: secret, GroupBase: base, Now: clock.Now,
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	wants := func(groups string, want error) {
		t.Helper()
		who, err := d.Login(t.Context(), "alice", "secret")
		if !errors.Is(err, want) || fmt.Sprint(who.Groups) != groups {
			t.Errorf("alice: %v, %v; want %s, %v", who, err, groups, want)
		}
		looked, err := d.Lookup(t.Context(), "alice", "uid=alice,ou=people,"+base)
		if want != nil {
			want = auth.ErrUnknown
		}
		if !errors.Is(err, want) || fmt.Sprint(looked.Groups) != groups {
			t.Errorf("looked up: %v, %v; want %s, %v", looked, err, groups, want)
		}
	}
	wants("[admins java php posix]", nil)
	s.modify(t, "dn: cn=java,ou=groups,"+base+"\nchangetype: modify\nreplace: uniqueMember\nuniqueMember: "+admin+"\n")
	wants("[admins java php posix]", nil)
	clock.pass(rememberFor)
	wants("[admins php posix]", nil)
	s.modify(t, "dn: uid=alice,ou=people,"+base+"\nchangetype: delete\n")
	clock.pass(rememberFor)
	wants("[]", auth.ErrUnknown)

	s.stop()
	clock.pass(rememberFor)
	if _, err := d.Login(t.Context(), "bob", "secret"); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("a directory that is down: %v", err)
	}
	if _, err := d.Lookup(t.Context(), "bob", "uid=Bob,ou=people,"+base); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("a directory that is down: %v", err)
	}
	if strings.Contains(log.String(), "secret") || !strings.Contains(log.String(), "cannot be asked") {
		t.Errorf("the log is %s", &log)
	}
}

// TestSlapdTrust: a password goes only to who has the right certificate.
func TestSlapdTrust(t *testing.T) {
	t.Parallel()
	s := startSlapd(t)
	host := strings.Replace(s.tls, "127.0.0.1", "localhost", 1)
	for _, o := range []Options{{URL: s.tls}, {URL: s.url, StartTLS: true}, {URL: host, CA: s.ca}} {
		o.UserDN = "uid=${user},ou=people," + base
		if who, err := open(t, o).Login(t.Context(), "alice", "secret"); !errors.Is(err, auth.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: %v, %v", o.URL, who, err)
		}
	}
	o := Options{URL: s.url, UserBase: base, BindDN: admin, BindPassword: "another"}
	if _, err := open(t, o).Login(t.Context(), "alice", "secret"); !errors.Is(err, auth.ErrUnavailable) || strings.Contains(err.Error(), "another") {
		t.Errorf("the registry itself is not let in: %v", err)
	}
}
