package token

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/regctl/regctl/serve/auth"
)

// manual is a clock that goes when it is told to.
type manual struct {
	mu  sync.Mutex
	now time.Time
}

func newManual() *manual { return &manual{now: time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC)} }

func (m *manual) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

func (m *manual) pass(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = m.now.Add(d)
}

func openKeys(tb testing.TB, dir string, clock *manual) *Keys {
	tb.Helper()
	k, err := OpenKeys(dir, Options{Now: clock.Now})
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// alice is what a token of hers says at a moment.
func alice(now time.Time) Claims {
	return Claims{
		Issuer: "regctl", Subject: "alice", Audience: "reg.example.com", IssuedAt: now, Expires: now.Add(5 * time.Minute),
		Access: []auth.Access{{Type: "repository", Name: "a/b", Actions: []string{"pull", "push"}}}, Source: "ldap", SourceID: "7",
	}
}

func issueTo(tb testing.TB, k *Keys, c Claims, ours bool) string {
	tb.Helper()
	raw, err := k.Issue(c, ours)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func TestIssueAndVerify(t *testing.T) {
	t.Parallel()
	clock := newManual()
	k := openKeys(t, "", clock)
	want := alice(clock.Now())
	raw := issueTo(t, k, want, true)
	for range 2 { // The second time from memory.
		got, err := k.Verify(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got.Issuer != want.Issuer || got.Subject != want.Subject || got.Audience != want.Audience || got.Source != want.Source ||
			got.SourceID != want.SourceID || len(got.Access) != 1 || got.Access[0].Name != "a/b" || !slices.Equal(got.Access[0].Actions, want.Access[0].Actions) ||
			!got.Expires.Equal(want.Expires) || !got.NotBefore.Equal(want.IssuedAt) || len(got.ID) != 32 {
			t.Errorf("%+v\nwant\n%+v", got, want)
		}
	}
	if other := issueTo(t, k, want, true); other == raw {
		t.Error("two tokens are one")
	}
}

// TestFormat: what registries of others read of a token.
func TestFormat(t *testing.T) {
	t.Parallel()
	clock := newManual()
	k := openKeys(t, "", clock)
	for _, ours := range []bool{true, false} {
		c := alice(clock.Now())
		c.Access = nil
		header, payload := parts(t, issueTo(t, k, c, ours))
		if header["typ"] != "JWT" || header["alg"] != "ES256" || header["kid"] == "" || header["jwk"] != nil {
			t.Errorf("ours %v: the header is %v", ours, header)
		}
		if (header["x5c"] == nil) != ours {
			t.Errorf("ours %v: x5c is %v", ours, header["x5c"])
		}
		if aud, ok := payload["aud"].(string); !ok || aud != "reg.example.com" {
			t.Errorf("ours %v: aud is %v, not one string", ours, payload["aud"])
		}
		if access, ok := payload["access"].([]any); !ok || len(access) != 0 {
			t.Errorf("ours %v: access is %v, not an empty list", ours, payload["access"])
		}
		if (payload["regctl"] != nil) != ours {
			t.Errorf("ours %v: where the subject is known: %v", ours, payload["regctl"])
		}
		if payload["iat"] != float64(clock.Now().Unix()) || payload["nbf"] != payload["iat"] || payload["exp"] != float64(clock.Now().Unix()+300) {
			t.Errorf("ours %v: the times are %v", ours, payload)
		}
	}
}

func parts(tb testing.TB, raw string) (header, payload map[string]any) {
	tb.Helper()
	for i, into := range []*map[string]any{&header, &payload} {
		text, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[i])
		if err != nil {
			tb.Fatal(err)
		}
		if err := json.Unmarshal(text, into); err != nil {
			tb.Fatal(err)
		}
	}
	return header, payload
}

// TestChain: who trusts the CA trusts tokens for elsewhere, of each key that
// comes after.
func TestChain(t *testing.T) {
	t.Parallel()
	clock, dir := newManual(), t.TempDir()
	k := openKeys(t, dir, clock)
	raw, err := os.ReadFile(filepath.Join(dir, "token-ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(raw) {
		t.Fatal("the CA is no PEM")
	}
	for range 3 {
		signed, err := jose.ParseSignedCompact(issueTo(t, k, alice(clock.Now()), false), []jose.SignatureAlgorithm{jose.ES256})
		if err != nil {
			t.Fatal(err)
		}
		chains, err := signed.Signatures[0].Header.Certificates(x509.VerifyOptions{Roots: roots, CurrentTime: clock.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := signed.Verify(chains[0][0].PublicKey); err != nil {
			t.Error(err)
		}
		clock.pass(signFor + time.Hour)
	}
}

func TestTimes(t *testing.T) {
	t.Parallel()
	clock := newManual()
	k := openKeys(t, "", clock)
	c := alice(clock.Now())
	raw := issueTo(t, k, c, true)
	early := c
	early.NotBefore = clock.Now().Add(3 * time.Minute)
	later := issueTo(t, k, early, true)
	long := c
	long.Expires = clock.Now().Add(1000 * time.Hour)
	longer := issueTo(t, k, long, true)
	for _, step := range []struct {
		pass           time.Duration
		raw, lat, long error
	}{
		{0, nil, ErrInvalid, nil},
		{2*time.Minute + time.Second, nil, nil, nil},
		{3 * time.Minute, nil, nil, nil}, // The clocks may be apart.
		{time.Minute, ErrExpired, ErrExpired, nil},
		{24 * time.Hour, ErrExpired, ErrExpired, ErrExpired},
	} {
		clock.pass(step.pass)
		for i, c := range []struct {
			raw  string
			want error
		}{{raw, step.raw}, {later, step.lat}, {longer, step.long}} {
			if got, err := k.Verify(c.raw); !errors.Is(err, c.want) || err != nil && got.Subject != "" {
				t.Errorf("after %v, token %d: %v, want %v", step.pass, i, err, c.want)
			}
		}
	}
}

// TestForged: nothing in a token chooses what it is held against.
func TestForged(t *testing.T) {
	t.Parallel()
	clock := newManual()
	k := openKeys(t, "", clock)
	sign := k.current.Load().sign
	raw := issueTo(t, k, alice(clock.Now()), true)
	field := strings.Split(raw, ".")
	payload, err := base64.RawURLEncoding.DecodeString(field[1])
	if err != nil {
		t.Fatal(err)
	}
	mine, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forge := func(alg jose.SignatureAlgorithm, key any, o *jose.SignerOptions) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, o)
		if err != nil {
			t.Fatal(err)
		}
		s, err := signer.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		compact, err := s.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return compact
	}
	typed := func() *jose.SignerOptions { return (&jose.SignerOptions{}).WithType("JWT") }
	public, err := x509.MarshalPKIXPublicKey(&sign.private.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	kid := typed().WithHeader("kid", sign.id)
	embedded := (&jose.SignerOptions{EmbedJWK: true}).WithType("JWT").WithHeader("kid", sign.id)
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT","kid":"` + sign.id + `"}`))
	other := openKeys(t, "", clock)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, forged := range map[string]string{
		"nothing": "", "dots": "..", "two parts": field[0] + "." + field[1], "four parts": raw + ".x", "long": raw + strings.Repeat("A", tooLong),
		"no algorithm": none + "." + field[1] + ".", "no algorithm, our signature": none + "." + field[1] + "." + field[2],
		"our name, another key":         forge(jose.ES256, mine, kid),
		"a key in it":                   forge(jose.ES256, mine, embedded),
		"our public key as a secret":    forge(jose.HS256, public, kid),
		"our PEM as a secret":           forge(jose.HS256, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), kid),
		"another algorithm":             forge(jose.ES384, p384, kid),
		"no name":                       forge(jose.ES256, sign.private, typed()),
		"no type":                       forge(jose.ES256, sign.private, (&jose.SignerOptions{}).WithHeader("kid", sign.id)),
		"another type":                  forge(jose.ES256, sign.private, (&jose.SignerOptions{}).WithType("at+jwt").WithHeader("kid", sign.id)),
		"an extension":                  forge(jose.ES256, sign.private, typed().WithHeader("kid", sign.id).WithHeader("crit", []string{"exp"})),
		"a registry like this one":      issueTo(t, other, alice(clock.Now()), true),
		"for elsewhere":                 issueTo(t, k, alice(clock.Now()), false),
		"another's claims":              field[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(string(payload), "alice", "admin", 1))) + "." + field[2],
		"JSON in place of three parts":  `{"payload":"` + field[1] + `","protected":"` + field[0] + `","signature":"` + field[2] + `"}`,
		"a space at the end":            raw + " ",
		"a signature of another length": raw[:len(raw)-4],
	} {
		if c, err := k.Verify(forged); !errors.Is(err, ErrInvalid) || c.Subject != "" {
			t.Errorf("%s: %+v %v", name, c, err)
		}
	}
	if _, err := k.Verify(raw); err != nil {
		t.Error(err)
	}
	if n := k.verified.Len(); n != 1 {
		t.Errorf("%d tokens are remembered, want the good one", n)
	}
}

// TestRenewal: a new key every month, and nobody notices.
func TestRenewal(t *testing.T) {
	t.Parallel()
	clock, dir := newManual(), t.TempDir()
	k := openKeys(t, dir, clock)
	seen := map[string]bool{}
	for range 8 {
		clock.pass(signFor - time.Minute)
		c := alice(clock.Now())
		raw := issueTo(t, k, c, true)
		clock.pass(2 * time.Minute)
		after := issueTo(t, k, alice(clock.Now()), true)
		reopened := openKeys(t, dir, clock)
		for i, keys := range []*Keys{k, reopened} {
			for j, token := range []string{raw, after} {
				if _, err := keys.Verify(token); err != nil {
					t.Errorf("keys %d, token %d: %v", i, j, err)
				}
			}
		}
		before, _ := parts(t, raw)
		now, _ := parts(t, after)
		if before["kid"] == now["kid"] {
			t.Error("the key signs for longer than it should")
		}
		if again, _ := parts(t, issueTo(t, reopened, alice(clock.Now()), true)); again["kid"] != now["kid"] {
			t.Error("a restart makes a new key")
		}
		if seen[now["kid"].(string)] {
			t.Error("an old key comes back")
		}
		seen[now["kid"].(string)] = true
		if n := len(k.current.Load().old); n != 1 || len(reopened.current.Load().old) != 1 {
			t.Fatalf("%d old keys are kept", n)
		}
		if old := reopened.current.Load().old[0]; old.private != nil || old.retired.IsZero() {
			t.Error("more than what checks tokens is kept of an old key")
		}
	}
}

// TestConcurrentRenewal makes one key, not many.
func TestConcurrentRenewal(t *testing.T) {
	t.Parallel()
	clock := newManual()
	k := openKeys(t, t.TempDir(), clock)
	clock.pass(signFor + time.Second)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			raw, err := k.Issue(alice(clock.Now()), true)
			if err == nil {
				_, err = k.Verify(raw)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(k.current.Load().old); n != 1 {
		t.Errorf("there are %d old keys, want 1", n)
	}
}

func TestFilesAreForTheOwner(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var given []string
	k, err := OpenKeys(dir, Options{Give: func(name string) error { given = append(given, name); return nil }})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 3 || len(given) != 3 {
		t.Errorf("%v %v, given %v", entries, err, given)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", e.Name(), info.Mode(), err)
		}
	}
	if raw, err := os.ReadFile(filepath.Join(dir, keysFile)); err != nil || strings.Count(string(raw), "PRIVATE KEY") != 2 {
		t.Errorf("the file of keys is %s %v", raw, err)
	}
	if err := os.WriteFile(filepath.Join(dir, keysFile+".new"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(k.keep(k.current.Load()), k.load()); err != nil {
		t.Errorf("after a crash: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("%v %v", entries, err)
	}
}

// TestDamage: what cannot be read is not replaced, and what a crash leaves is
// made whole.
func TestDamage(t *testing.T) {
	t.Parallel()
	clock := newManual()
	for _, name := range []string{caCertificate, caKey, keysFile} {
		for what, damage := range map[string]func(path string) error{
			"empty": func(path string) error { return os.WriteFile(path, nil, 0o600) },
			"text":  func(path string) error { return os.WriteFile(path, []byte("hello"), 0o600) },
			"half": func(path string) error {
				raw, err := os.ReadFile(path)
				return errors.Join(err, os.WriteFile(path, raw[:len(raw)/2], 0o600))
			},
		} {
			dir := t.TempDir()
			openKeys(t, dir, clock)
			path := filepath.Join(dir, name)
			if err := damage(path); err != nil {
				t.Fatal(err)
			}
			before, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := OpenKeys(dir, Options{Now: clock.Now}); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
			if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
				t.Errorf("%s, %s: it was changed", name, what)
			}
		}
	}
	dir := t.TempDir()
	first := openKeys(t, dir, clock)
	if err := os.Remove(filepath.Join(dir, caCertificate)); err != nil {
		t.Fatal(err)
	}
	if again := openKeys(t, dir, clock); !again.ca.key.Equal(first.ca.key) || again.current.Load().sign.id != first.current.Load().sign.id {
		t.Error("a crash between two files makes other keys")
	}
}

// TestNoPlaceForKeys: a disk that is full, or may not be written, keeps nobody
// out.
func TestNoPlaceForKeys(t *testing.T) {
	t.Parallel()
	clock, dir := newManual(), t.TempDir()
	var log strings.Builder
	full := true
	o := Options{Now: clock.Now, Log: slog.New(slog.NewTextHandler(&log, nil)), Give: func(string) error {
		if full {
			return fs.ErrPermission
		}
		return nil
	}}
	k, err := OpenKeys(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	raw := issueTo(t, k, alice(clock.Now()), true)
	if _, err := k.Verify(raw); err != nil {
		t.Error(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("it leaves %v %v", entries, err)
	}
	if !strings.Contains(log.String(), "cannot be kept") {
		t.Errorf("the log is %s", &log)
	}
	full = false
	k, err = OpenKeys(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	kid, _ := parts(t, issueTo(t, k, alice(clock.Now()), true))
	full = true
	clock.pass(signFor + time.Hour)
	for range 3 { // The old one goes on as long as its certificate is good.
		if now, _ := parts(t, issueTo(t, k, alice(clock.Now()), true)); now["kid"] != kid["kid"] {
			t.Error("a key that is lost at the next restart takes the place of one that is kept")
		}
		clock.pass(tryAgain / 2)
	}
	clock.pass(keyLife - signFor - longest)
	if now, _ := parts(t, issueTo(t, k, alice(clock.Now()), true)); now["kid"] == kid["kid"] {
		t.Error("a key whose certificate ends signs on")
	}
}

// TestAuthorityEnds: there is another one in time.
func TestAuthorityEnds(t *testing.T) {
	t.Parallel()
	clock, dir := newManual(), t.TempDir()
	k := openKeys(t, dir, clock)
	old := k.ca.cert
	clock.pass(authorityLife - keyLife)
	issueTo(t, k, alice(clock.Now()), true)
	if k.ca.cert.Equal(old) || clock.Now().Add(keyLife).After(k.current.Load().sign.cert.NotAfter) {
		t.Error("a CA that ends signs a key that lives longer")
	}
}

// FuzzVerify takes nothing that was not signed here.
func FuzzVerify(f *testing.F) {
	clock := newManual()
	k := openKeys(f, "", clock)
	raw := issueTo(f, k, alice(clock.Now()), true)
	want, err := k.Verify(raw)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("")
	f.Add("a.b.c")
	f.Add(raw[:len(raw)-2])
	f.Fuzz(func(t *testing.T, s string) {
		c, err := k.Verify(s) // Of a signature there are several forms.
		if err == nil && c.ID != want.ID || err != nil && c.Subject != "" {
			t.Errorf("%q is %+v %v", s, c, err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	clock := newManual()
	k := openKeys(b, "", clock)
	b.Run("again", func(b *testing.B) {
		raw := issueTo(b, k, alice(clock.Now()), true)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := k.Verify(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("first", func(b *testing.B) {
		raw := issueTo(b, k, alice(clock.Now()), true)
		b.ReportAllocs()
		for b.Loop() {
			k.verified.Purge()
			if _, err := k.Verify(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkIssue(b *testing.B) {
	clock := newManual()
	k := openKeys(b, "", clock)
	b.ReportAllocs()
	for b.Loop() {
		issueTo(b, k, alice(clock.Now()), true)
	}
}

// TestOldKeysEnd: who has stolen an old key cannot sign with it, after a day.
func TestOldKeysEnd(t *testing.T) {
	t.Parallel()
	clock, dir := newManual(), t.TempDir()
	k := openKeys(t, dir, clock)
	old := k.current.Load().sign
	clock.pass(signFor)
	issueTo(t, k, alice(clock.Now()), true)
	if sign := k.current.Load().sign; sign.id == old.id {
		t.Fatal("the key has not been renewed")
	}
	forged := openKeys(t, "", clock)
	forged.current.Store(&ring{sign: &key{id: old.id, public: old.public, private: old.private, cert: old.cert, until: clock.Now().Add(time.Hour * 1000)}})
	clock.pass(longest - time.Minute)
	last := issueTo(t, forged, alice(clock.Now()), true)
	if _, err := k.Verify(last); err != nil {
		t.Errorf("while its tokens may be there: %v", err)
	}
	clock.pass(5 * time.Minute)
	late := issueTo(t, forged, alice(clock.Now()), true)
	for _, keys := range []*Keys{k, openKeys(t, dir, clock)} {
		if _, err := keys.Verify(late); !errors.Is(err, ErrInvalid) {
			t.Errorf("after a day and more: %v", err)
		}
	}
}

// TestLongToken: what a client may ask for, it can use.
func TestLongToken(t *testing.T) {
	t.Parallel()
	clock := newManual()
	k := openKeys(t, "", clock)
	c := alice(clock.Now())
	var scope strings.Builder
	for i := range mostScopes {
		scope.WriteString("repository:" + fmt.Sprintf("%s%d", strings.Repeat("x", 70), i) + ":pull,push ")
	}
	var err error
	if c.Access, err = ParseScope(scope.String()); err != nil {
		t.Fatal(err)
	}
	raw := issueTo(t, k, c, true)
	if got, err := k.Verify(raw); err != nil || len(got.Access) != mostScopes {
		t.Errorf("%d bytes: %v", len(raw), err)
	}
	if k.verified.Len() != 0 {
		t.Error("it is remembered")
	}
}
