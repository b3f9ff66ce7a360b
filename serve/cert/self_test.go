package cert_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/regctl/regctl/serve/cert"
)

var start = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

const dayLength = 24 * time.Hour

func self(t *testing.T, dir string, now time.Time, names ...string) cert.Made {
	t.Helper()
	made, err := cert.Self(dir, names, now)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func chainOf(t *testing.T, file string) []*x509.Certificate {
	t.Helper()
	chain, err := cert.ParseChain(read(t, file))
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

// verify is what a client does that trusts the certificates in ca.
func verify(t *testing.T, ca []byte, leaf *x509.Certificate, name string, now time.Time) error {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatal("no certificate of a CA")
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, CurrentTime: now})
	return err
}

func TestSelf(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tls")
	made := self(t, dir, start, "reg.lan", "192.168.1.5", "::1", "REG.lan.", "*.apps.lan")
	if !made.NewCA || !made.NewLeaf || made.RenewedCA {
		t.Errorf("new CA %v, new certificate %v, renewed CA %v", made.NewCA, made.NewLeaf, made.RenewedCA)
	}
	chain := chainOf(t, made.Certificate)
	leaf, ca := chain[0], chain[1]
	if got := cert.NamesOf(leaf); !slices.Equal(got, []string{"reg.lan", "*.apps.lan", "192.168.1.5", "::1"}) {
		t.Errorf("it is for %q", got)
	}
	for _, name := range []string{"reg.lan", "192.168.1.5", "::1", "x.apps.lan"} {
		for at, want := range map[time.Time]bool{start: true, start.Add(-50 * time.Minute): true, made.Until: true, made.Until.Add(1): false} {
			if err := verify(t, read(t, made.CA), leaf, name, at); (err == nil) != want {
				t.Errorf("%s at %s: %v", name, at, err)
			}
		}
	}
	if err := verify(t, read(t, made.CA), leaf, "other.lan", start); err == nil {
		t.Error("it is good for other.lan, too")
	}
	if _, err := tls.LoadX509KeyPair(made.Certificate, made.Key); err != nil {
		t.Error(err)
	}
	if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 397*dayLength || life < 390*dayLength {
		t.Errorf("it lives for %s", life)
	}
	if ca.NotAfter.Sub(start) < 9*365*dayLength || !ca.IsCA || leaf.IsCA || ca.Subject.String() == leaf.Subject.String() ||
		len(leaf.SubjectKeyId) > 0 && string(leaf.SubjectKeyId) == string(ca.SubjectKeyId) || string(leaf.AuthorityKeyId) != string(ca.SubjectKeyId) {
		t.Errorf("CA %s until %s, identified by %x; certificate of %s by %x", ca.Subject, ca.NotAfter, ca.SubjectKeyId, leaf.Subject, leaf.AuthorityKeyId)
	}
	if problems := cert.Inspect(made.Pair, start); len(problems) > 0 {
		t.Errorf("found wrong with it: %v", problems)
	}
	wantModes(t, dir)

	before := snapshot(t, dir)
	again := self(t, dir, start.Add(100*dayLength), "192.168.1.5", "reg.lan")
	if again.NewCA || again.NewLeaf || again.Until != made.Until || again.Renew != made.Renew || again.Renew.Sub(start) > made.Until.Sub(start)*2/3 {
		t.Errorf("at first %+v, then %+v", made, again)
	}
	if after := snapshot(t, dir); after != before {
		t.Errorf("a second call changed something:\n%s\n%s", before, after)
	}
}

func wantModes(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, f.Name())
		if private := strings.HasSuffix(f.Name(), ".key"); runtime.GOOS != "windows" && private != (info.Mode().Perm() == 0o600) {
			t.Errorf("%s has mode %o", f.Name(), info.Mode())
		}
	}
	if want := []string{"ca.crt", "ca.key", "server.crt", "server.key"}; !slices.Equal(got, want) {
		t.Errorf("there is %q, want %q", got, want)
	}
}

// snapshot is all that is in dir.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	for _, name := range []string{"ca.crt", "ca.key", "server.crt", "server.key"} {
		b.Write(read(t, filepath.Join(dir, name)))
	}
	return b.String()
}

func TestRenew(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		after time.Duration
		names []string
		spoil func(t *testing.T, made cert.Made)
		want  bool
	}{
		"early":       {after: 264 * dayLength, names: []string{"reg.lan"}},
		"late":        {after: 265 * dayLength, names: []string{"reg.lan"}, want: true},
		"ended":       {after: 500 * dayLength, names: []string{"reg.lan"}, want: true},
		"a name more": {names: []string{"reg.lan", "10.0.0.1"}, want: true},
		"a name less": {names: []string{"10.0.0.9"}},
		"clock wrong": {after: -30 * 365 * dayLength, names: []string{"reg.lan"}},
		"other key": {names: []string{"reg.lan"}, want: true, spoil: func(t *testing.T, made cert.Made) {
			other := self(t, t.TempDir(), start, "x")
			put(t, made.Key, read(t, other.Key))
		}},
		"no key": {names: []string{"reg.lan"}, want: true, spoil: func(t *testing.T, made cert.Made) { remove(t, made.Key) }},
		"no certificate": {names: []string{"reg.lan"}, want: true, spoil: func(t *testing.T, made cert.Made) {
			remove(t, made.Certificate)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			was := self(t, dir, start, "reg.lan", "10.0.0.9")
			ca, old := read(t, was.CA), read(t, was.Certificate)
			if c.spoil != nil {
				c.spoil(t, was)
			}
			now := start.Add(c.after)
			is := self(t, dir, now, c.names...)
			if is.NewLeaf != c.want || is.NewCA || is.RenewedCA {
				t.Errorf("%+v", is)
			}
			if changed := string(read(t, is.Certificate)) != string(old); changed != c.want {
				t.Errorf("changed: %v", changed)
			}
			if string(read(t, is.CA)) != string(ca) {
				t.Error("the CA has changed")
			}
			if _, err := tls.LoadX509KeyPair(is.Certificate, is.Key); err != nil {
				t.Error(err)
			}
			if c.after < 0 {
				return
			}
			for _, name := range c.names {
				if err := verify(t, ca, chainOf(t, is.Certificate)[0], name, now); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

// A renewed CA has the same key and name: clients that trust the old one go on.
func TestRenewCA(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	was := self(t, dir, start, "reg.lan")
	old := read(t, was.CA)
	now := start.Add(7 * 365 * dayLength)
	is := self(t, dir, now, "reg.lan")
	if !is.RenewedCA || is.NewCA || !is.NewLeaf {
		t.Errorf("%+v", is)
	}
	leaf := chainOf(t, is.Certificate)[0]
	for trusts, ca := range map[string][]byte{"old": old, "new": read(t, is.CA)} {
		if err := verify(t, ca, leaf, "reg.lan", now); err != nil {
			t.Errorf("%s CA: %v", trusts, err)
		}
	}
	later := start.Add(12 * 365 * dayLength)
	if err := verify(t, read(t, is.CA), chainOf(t, self(t, dir, later, "reg.lan").Certificate)[0], "reg.lan", later); err != nil {
		t.Error(err)
	}
}

// After a crash between any two files, and with two at work at once, there is
// one CA.
func TestSelfAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := cert.Self(dir, []string{"reg.lan"}, start); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	made := self(t, dir, start, "reg.lan")
	if made.NewCA || made.NewLeaf {
		t.Errorf("%+v", made)
	}
	wantModes(t, dir)
	ca, key := read(t, made.CA), read(t, filepath.Join(dir, "ca.key"))
	remove(t, made.CA)
	remove(t, made.Certificate)
	made = self(t, dir, start, "reg.lan")
	if string(read(t, filepath.Join(dir, "ca.key"))) != string(key) {
		t.Error("the key of the CA has changed")
	}
	if err := verify(t, ca, chainOf(t, made.Certificate)[0], "reg.lan", start); err != nil {
		t.Errorf("by the CA of before: %v", err)
	}
}

func TestSelfRefuses(t *testing.T) {
	t.Parallel()
	other := self(t, t.TempDir(), start, "other.lan")
	for name, c := range map[string]struct {
		spoil func(t *testing.T, made cert.Made)
		names []string
		after time.Duration
		want  string
	}{
		"foreign certificate": {want: "no CA beside it has signed this certificate", spoil: func(t *testing.T, made cert.Made) {
			put(t, made.Certificate, read(t, other.Certificate))
		}},
		"no CA at all": {want: "no CA beside it has signed this certificate", spoil: func(t *testing.T, made cert.Made) {
			remove(t, made.CA)
			remove(t, filepath.Join(filepath.Dir(made.CA), "ca.key"))
		}},
		"other CA": {want: "the key beside it is not its own", spoil: func(t *testing.T, made cert.Made) {
			put(t, made.CA, read(t, other.CA))
		}},
		"no CA": {want: "it may not sign", spoil: func(t *testing.T, made cert.Made) {
			put(t, made.CA, read(t, made.Certificate))
			put(t, filepath.Join(filepath.Dir(made.CA), "ca.key"), read(t, made.Key))
		}},
		"key of the CA elsewhere": {want: "ca.key, is not there", after: 400 * dayLength, spoil: func(t *testing.T, made cert.Made) {
			remove(t, filepath.Join(filepath.Dir(made.CA), "ca.key"))
		}},
		"torn certificate": {want: "server.crt: the file is empty", spoil: func(t *testing.T, made cert.Made) { put(t, made.Certificate, nil) }},
		"torn key":         {want: "server.key: there is no private key in it", spoil: func(t *testing.T, made cert.Made) { put(t, made.Key, nil) }},
		"no name":          {names: []string{}, want: "a name or an address"},
		"port":             {names: []string{"reg.lan:5000"}, want: `"reg.lan:5000": certificates are for names without a port: reg.lan`},
		"zone":             {names: []string{"fe80::1%eth0"}, want: "an address with a zone"},
		"space":            {names: []string{"reg lan"}, want: `"reg lan" is neither`},
		"wildcard alone":   {names: []string{"*"}, want: "neither"},
		"wildcard inside":  {names: []string{"a.*.lan"}, want: "neither"},
		"dash":             {names: []string{"-a.lan"}, want: "neither"},
		"too long":         {names: []string{strings.Repeat("a.", 200) + "lan"}, want: "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			made := self(t, dir, start, "reg.lan")
			if c.spoil != nil {
				c.spoil(t, made)
			}
			before := files(t, dir)
			names := c.names
			if names == nil {
				names = []string{"reg.lan"}
			}
			_, err := cert.Self(dir, names, start.Add(c.after))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want …%s…", err, c.want)
			}
			if after := files(t, dir); after != before {
				t.Error("something has changed")
			}
		})
	}
}

func TestRenewAlways(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	was := self(t, dir, start, "reg.lan", "10.0.0.1")
	key := read(t, was.Key)
	for _, c := range []struct {
		always, want bool
		after        time.Duration
	}{{}, {always: true, want: true}, {after: 300 * dayLength, want: true}} {
		is, err := cert.Renew(dir, c.always, start.Add(c.after))
		if err != nil || is.NewLeaf != c.want || !slices.Equal(is.Names, []string{"reg.lan", "10.0.0.1"}) {
			t.Errorf("%+v: %v, %+v", c, err, is)
		}
	}
	if string(read(t, was.Key)) != string(key) {
		t.Error("the key has changed")
	}
	if _, err := cert.Renew(t.TempDir(), true, start); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("where there is none: %v", err)
	}
}

// The key of the CA may be elsewhere as long as nothing is to be signed.
func TestSelfWithoutKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	was := self(t, dir, start, "reg.lan")
	remove(t, filepath.Join(dir, "ca.key"))
	before := files(t, dir)
	for _, c := range []struct {
		name  string
		after time.Duration
		kept  bool
	}{{"reg.lan", dayLength, false}, {"reg.lan", 300 * dayLength, true}, {"new.lan", dayLength, true}} {
		made := self(t, dir, start.Add(c.after), c.name)
		if made.NewCA || made.NewLeaf || made.Until != was.Until || (made.Kept != nil) != c.kept {
			t.Errorf("%s after %s: %+v", c.name, c.after, made)
		}
	}
	if _, err := cert.Renew(dir, true, start); err == nil {
		t.Error("renewed without a key")
	}
	if files(t, dir) != before {
		t.Error("something has changed")
	}
}

func TestForeignError(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	made := self(t, dir, start, "reg.lan")
	remove(t, made.CA)
	remove(t, filepath.Join(dir, "ca.key"))
	_, err := cert.Self(dir, []string{"reg.lan"}, start)
	var foreign *cert.ForeignError
	if !errors.As(err, &foreign) || foreign.File != made.Certificate {
		t.Errorf("got %v", err)
	}
}

// files is all that is in dir, by name.
func files(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			b.WriteString(path + "\n")
			b.Write(read(t, filepath.Join(dir, path)))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func put(t *testing.T, file string, raw []byte) {
	t.Helper()
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, file string) {
	t.Helper()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func encodeKey(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}
