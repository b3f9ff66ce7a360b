package token

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// chains fails unless a token for another registry is good there now, with the
// CA that is in the directory.
func chains(t *testing.T, k *Keys, dir string, clock *manual) {
	t.Helper()
	header, _ := parts(t, issueTo(t, k, alice(clock.Now()), false))
	der, err := base64.StdEncoding.DecodeString(header["x5c"].([]any)[0].(string))
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, caCertificate))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: clock.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Error(err)
	}
}

// TestAnotherAuthority: who takes the CA away for a new one need not wait until
// the key that the old one has signed is old.
func TestAnotherAuthority(t *testing.T) {
	t.Parallel()
	clock, dir := newManual(), t.TempDir()
	k := openKeys(t, dir, clock)
	chains(t, k, dir, clock)
	raw := issueTo(t, k, alice(clock.Now()), true)
	for _, name := range []string{caKey, caCertificate} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	k = openKeys(t, dir, clock)
	chains(t, k, dir, clock)
	if _, err := k.Verify(raw); err != nil {
		t.Errorf("our own tokens know no CA: %v", err)
	}
}

// TestClockWasAhead: a key that a wrong clock has made for the future is not
// used until then; the CA stays, as it may be the clock of now that is wrong.
func TestClockWasAhead(t *testing.T) {
	t.Parallel()
	clock, dir := newManual(), t.TempDir()
	k := openKeys(t, dir, clock)
	ca := k.ca.cert
	const years = 8 * 365 * 24 * time.Hour
	clock.pass(years)
	ahead := issueTo(t, k, alice(clock.Now()), true)
	clock.pass(-years)
	if _, err := k.Verify(ahead); err == nil {
		t.Error("a token of the future is good")
	}
	chains(t, k, dir, clock)
	chains(t, openKeys(t, dir, clock), dir, clock)
	raw := issueTo(t, k, alice(clock.Now()), true)
	clock.pass(-years) // Now it is the other way.
	before, err := os.ReadFile(filepath.Join(dir, caKey))
	if err != nil {
		t.Fatal(err)
	}
	k = openKeys(t, dir, clock)
	if _, err := k.Verify(issueTo(t, k, alice(clock.Now()), true)); err != nil {
		t.Error(err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, caKey)); err != nil || string(after) != string(before) || !k.ca.cert.Equal(ca) {
		t.Error("a clock that is behind for a while costs the CA")
	}
	clock.pass(years)
	if _, err := k.Verify(raw); err == nil {
		return // It is still known. If not, whoever has it gets another.
	}
	chains(t, k, dir, clock)
}

// TestCrashBetweenAuthorities: whatever comes between the two files of another
// CA, the next start finds its way.
func TestCrashBetweenAuthorities(t *testing.T) {
	t.Parallel()
	for _, fails := range []string{caKey, caCertificate} {
		clock, dir := newManual(), t.TempDir()
		crash := false
		o := Options{Now: clock.Now, Give: func(name string) error {
			if crash && name == fails+".new" {
				return fs.ErrPermission
			}
			return nil
		}}
		k, err := OpenKeys(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		clock.pass(authorityLife)
		crash = true
		issueTo(t, k, alice(clock.Now()), true)
		crash = false
		if k, err = OpenKeys(dir, o); err != nil {
			t.Errorf("%s is not written: %v", fails, err)
			continue
		}
		chains(t, k, dir, clock)
	}
}

// TestKeysAreKeptLate: what a full disk had no room for at the start is written
// once there is some, and not asked for at every token.
func TestKeysAreKeptLate(t *testing.T) {
	t.Parallel()
	for _, no := range []string{caKey, caCertificate, keysFile} {
		clock, dir, tries, full := newManual(), t.TempDir(), 0, true
		o := Options{Now: clock.Now, Give: func(name string) error {
			if full && name == no+".new" {
				tries++
				return fs.ErrPermission
			}
			return nil
		}}
		k, err := OpenKeys(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		raw := issueTo(t, k, alice(clock.Now()), true)
		for range 3 {
			clock.pass(tryAgain - time.Second)
			issueTo(t, k, alice(clock.Now()), true)
		}
		if tries < 2 || tries > 4 {
			t.Errorf("%s is tried %d times in half an hour", no, tries)
		}
		full = false
		clock.pass(tryAgain)
		late := issueTo(t, k, alice(clock.Now()), true)
		chains(t, k, dir, clock)
		again := openKeys(t, dir, clock)
		if _, err := again.Verify(late); err != nil {
			t.Errorf("%s: after a restart: %v", no, err)
		}
		if !again.ca.cert.Equal(k.ca.cert) {
			t.Errorf("%s: after a restart there is another CA", no)
		}
		if now, _ := parts(t, raw); now["kid"] != again.current.Load().sign.id {
			t.Errorf("%s: after a restart another key signs", no)
		}
	}
}
