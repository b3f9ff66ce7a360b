package token_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/regctl/regctl/serve/auth/token"
)

// moment is when the tokens of testdata were good.
func moment() time.Time { return time.Unix(1795289600, 0) }

func options(file string) token.TrustOptions {
	return token.TrustOptions{Issuer: "maxnet auth server", Service: "Docker registry", RootCertBundle: file, Now: moment}
}

func openTrust(t *testing.T, o token.TrustOptions) *token.Trust {
	t.Helper()
	trust, err := token.OpenTrust(o)
	if err != nil {
		t.Fatal(err)
	}
	return trust
}

// The tokens were made by docker_auth, with its key of either kind, and named
// for registry:2 and for registry 3.
func TestTrustDockerAuth(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"rsa", "ec"} {
		for _, form := range []string{"libtrust", "thumbprint"} {
			raw, err := os.ReadFile(filepath.Join("testdata", "dockerauth-"+key+"-"+form+".jwt"))
			if err != nil {
				t.Fatal(err)
			}
			signed := strings.TrimSpace(string(raw))
			for _, file := range []string{"rsa", "ec"} {
				c, err := openTrust(t, options(filepath.Join("testdata", file+".crt"))).Verify(signed)
				if file != key {
					if !errors.Is(err, token.ErrInvalid) {
						t.Errorf("%s %s, by the certificate of another key: %v", key, form, err)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s %s: %v", key, form, err)
					continue
				}
				if c.Subject != "admin" || c.Audience != "Docker registry" || len(c.Access) != 1 || c.Access[0].Name != "hello-world" || strings.Join(c.Access[0].Actions, ",") != "pull,push" {
					t.Errorf("%s %s says %+v", key, form, c)
				}
			}
		}
	}
}

// signer is a token server of these tests.
type signer struct {
	key  crypto.Signer
	cert *x509.Certificate
}

func newRSA(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newEC(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// certify makes a certificate of key, which by signs; nil: key itself.
func certify(t *testing.T, key crypto.Signer, by *signer, until time.Time) *signer {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "token server"}, NotBefore: moment().Add(-time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	parent, signing := template, key
	if by != nil {
		parent, signing = by.cert, by.key
		template.Subject.CommonName = "below " + by.cert.Subject.CommonName
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signing)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{key, cert}
}

func (s *signer) write(t *testing.T, path string) {
	t.Helper()
	err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert.Raw}), 0o600)
	if err != nil {
		t.Fatal(err)
	}
}

func (s *signer) file(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.crt")
	s.write(t, path)
	return path
}

func chain(certs ...*x509.Certificate) []string {
	var list []string
	for _, c := range certs {
		list = append(list, base64.StdEncoding.EncodeToString(c.Raw))
	}
	return list
}

type claims map[string]any

func goodClaims() claims {
	return claims{
		"iss": "maxnet auth server", "sub": "alice", "aud": "Docker registry",
		"exp": moment().Add(5 * time.Minute).Unix(), "nbf": moment().Add(-10 * time.Second).Unix(), "iat": moment().Unix(), "jti": "1",
		"access": []any{map[string]any{"type": "repository", "name": "a/b", "actions": []string{"pull"}}},
	}
}

// sign makes a token with any header.
func sign(t *testing.T, key any, alg jose.SignatureAlgorithm, header map[string]any, c claims) string {
	t.Helper()
	o := (&jose.SignerOptions{}).WithType("JWT")
	for name, value := range header {
		o = o.WithHeader(jose.HeaderKey(name), value)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, o)
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign(body)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func thumb(t *testing.T, key crypto.PublicKey) string {
	t.Helper()
	sum, err := (&jose.JSONWebKey{Key: key}).Thumbprint(crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(sum)
}

func with(key string, value any) claims {
	c := goodClaims()
	if c[key] = value; value == nil {
		delete(c, key)
	}
	return c
}

func TestTrustWhoSigned(t *testing.T) {
	t.Parallel()
	later := moment().Add(24 * time.Hour)
	ca := certify(t, newRSA(t), nil, later)
	middle := certify(t, newEC(t), ca, later)
	leaf := certify(t, newRSA(t), middle, later)
	ended := certify(t, newEC(t), ca, moment().Add(-time.Minute))
	stranger := certify(t, newEC(t), nil, later)
	publicPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
	ours := jose.JSONWebKey{Key: ca.key.Public(), KeyID: thumb(t, ca.key.Public())}
	forged := jose.JSONWebKey{Key: stranger.key.Public(), KeyID: thumb(t, ca.key.Public())}
	none := strings.SplitN(sign(t, stranger.key, jose.ES256, map[string]any{"kid": "x"}, goodClaims()), ".", 3)
	none[0] = base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"JWT","alg":"none","kid":"` + thumb(t, ca.key.Public()) + `"}`))
	trust := openTrust(t, options(ca.file(t)))
	tests := map[string]struct {
		raw  string
		good bool
	}{
		"the certificate itself":              {sign(t, ca.key, jose.RS256, map[string]any{"x5c": chain(ca.cert)}, goodClaims()), true},
		"a certificate of the authority":      {sign(t, leaf.key, jose.RS512, map[string]any{"x5c": chain(leaf.cert, middle.cert)}, goodClaims()), true},
		"with a kid that nobody knows":        {sign(t, middle.key, jose.ES256, map[string]any{"x5c": chain(middle.cert), "kid": "x"}, goodClaims()), true},
		"the name of the key":                 {sign(t, ca.key, jose.PS256, map[string]any{"kid": thumb(t, ca.key.Public())}, goodClaims()), true},
		"the key itself":                      {sign(t, ca.key, jose.RS256, map[string]any{"jwk": ours}, goodClaims()), true},
		"the key itself, with its chain":      {sign(t, leaf.key, jose.RS256, map[string]any{"jwk": jose.JSONWebKey{Key: leaf.key.Public(), Certificates: []*x509.Certificate{leaf.cert, middle.cert}}}, goodClaims()), true},
		"a chain with a part missing":         {sign(t, leaf.key, jose.RS256, map[string]any{"x5c": chain(leaf.cert)}, goodClaims()), false},
		"a certificate that has ended":        {sign(t, ended.key, jose.ES256, map[string]any{"x5c": chain(ended.cert)}, goodClaims()), false},
		"a certificate of somebody else":      {sign(t, stranger.key, jose.ES256, map[string]any{"x5c": chain(stranger.cert)}, goodClaims()), false},
		"someone else's key, our certificate": {sign(t, stranger.key, jose.ES256, map[string]any{"x5c": chain(ca.cert)}, goodClaims()), false},
		"a key of one's own":                  {sign(t, stranger.key, jose.ES256, map[string]any{"jwk": jose.JSONWebKey{Key: stranger.key.Public()}}, goodClaims()), false},
		"a key of one's own by our name":      {sign(t, stranger.key, jose.ES256, map[string]any{"jwk": forged}, goodClaims()), false},
		"a key of one's own, its own chain":   {sign(t, stranger.key, jose.ES256, map[string]any{"jwk": jose.JSONWebKey{Key: stranger.key.Public(), Certificates: []*x509.Certificate{stranger.cert}}}, goodClaims()), false},
		"our name, another key":               {sign(t, stranger.key, jose.ES256, map[string]any{"kid": thumb(t, ca.key.Public())}, goodClaims()), false},
		"no name at all":                      {sign(t, ca.key, jose.RS256, nil, goodClaims()), false},
		"a certificate below, only by name":   {sign(t, leaf.key, jose.RS256, map[string]any{"kid": thumb(t, leaf.key.Public())}, goodClaims()), false},
		"the public key as a secret":          {sign(t, publicPEM, jose.HS256, map[string]any{"kid": thumb(t, ca.key.Public())}, goodClaims()), false},
		"unsigned":                            {none[0] + "." + none[1] + ".", false},
		"unsigned, with a signature":          {strings.Join(none, "."), false},
		"nothing":                             {"", false},
		"noise":                               {"a.b.c", false},
		"too long":                            {strings.Repeat("a", 1<<20), false},
	}
	for name, test := range tests {
		c, err := trust.Verify(test.raw)
		if good := err == nil; good != test.good || good != (c.Subject == "alice") {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
		if err != nil && !errors.Is(err, token.ErrInvalid) {
			t.Errorf("%s: %v is no ErrInvalid", name, err)
		}
	}
}

// Anybody may send certificates: none costs seconds to be found wrong.
func TestTrustBoundsWhatIsChecked(t *testing.T) {
	t.Parallel()
	ca := certify(t, newRSA(t), nil, moment().Add(time.Hour))
	leaf := certify(t, newEC(t), ca, moment().Add(time.Hour))
	modulus := make([]byte, jose.MaxRSAModulusBits/8+1)
	modulus[0], modulus[len(modulus)-1] = 1, 1
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: ca.cert.Subject, NotAfter: moment().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	raw, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 1<<31 - 1}, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	large, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	var many []*x509.Certificate
	for range 20 {
		many = append(many, ca.cert)
	}
	trust := openTrust(t, options(ca.file(t)))
	for name, test := range map[string]struct {
		header map[string]any
		want   string
	}{
		"x5c":            {map[string]any{"x5c": chain(leaf.cert, large)}, "too large"},
		"x5c of a jwk":   {map[string]any{"jwk": jose.JSONWebKey{Key: leaf.key.Public(), Certificates: []*x509.Certificate{leaf.cert, large}}}, "too large"},
		"many":           {map[string]any{"x5c": chain(append([]*x509.Certificate{leaf.cert}, many...)...)}, "its header has more than"},
		"a kid, as long": {map[string]any{"kid": strings.Repeat("x", 20<<10)}, "its header has more than"},
	} {
		_, err := trust.Verify(sign(t, leaf.key, jose.ES256, test.header, goodClaims()))
		if !errors.Is(err, token.ErrInvalid) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTrustWhatIsSaid(t *testing.T) {
	t.Parallel()
	ca := certify(t, newEC(t), nil, moment().Add(time.Hour))
	trust := openTrust(t, options(ca.file(t)))
	at := func(d time.Duration) int64 { return moment().Add(d).Unix() }
	tests := map[string]struct {
		claims claims
		want   error
	}{
		"all":                 {goodClaims(), nil},
		"a list of services":  {with("aud", []string{"x", "Docker registry"}), nil},
		"nobody":              {with("sub", ""), nil},
		"no rights":           {with("access", []any{}), nil},
		"rights of null":      {with("access", nil), nil},
		"a right of null":     {with("access", []any{nil}), nil},
		"ended a moment ago":  {with("exp", at(-59*time.Second)), nil},
		"begins in a moment":  {with("nbf", at(59*time.Second)), nil},
		"no beginning":        {with("nbf", nil), nil},
		"ended":               {with("exp", at(-61*time.Second)), token.ErrExpired},
		"not yet":             {with("nbf", at(61*time.Second)), token.ErrInvalid},
		"without an end":      {with("exp", nil), token.ErrInvalid},
		"an end of words":     {with("exp", "tomorrow"), token.ErrInvalid},
		"of somebody else":    {with("iss", "maxnet Auth Server"), token.ErrInvalid},
		"of nobody":           {with("iss", nil), token.ErrInvalid},
		"for somebody else":   {with("aud", "docker registry"), token.ErrInvalid},
		"for nobody":          {with("aud", nil), token.ErrInvalid},
		"for others":          {with("aud", []string{"x", "y"}), token.ErrInvalid},
		"who is a number":     {with("sub", 7), token.ErrInvalid},
		"rights that are one": {with("access", "all"), token.ErrInvalid},
	}
	for name, test := range tests {
		_, err := trust.Verify(sign(t, ca.key, jose.ES256, map[string]any{"x5c": chain(ca.cert)}, test.claims))
		if !errors.Is(err, test.want) || test.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
}

func TestTrustKeySet(t *testing.T) {
	t.Parallel()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	one, two, secret := newRSA(t), newEC(t), []byte("0123456789abcdef0123456789abcdef")
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
		{Key: one.Public(), KeyID: "first", Algorithm: "RS256", Use: "sig"},
		{Key: two.Public(), KeyID: "second", Use: "enc"},
		{Key: ed.Public()},
		{Key: secret, KeyID: "secret"},
	}}
	raw, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	raw = bytes.Replace(raw, []byte(`"keys":[`), []byte(`"keys":[{"kty":"QUANTUM"},`), 1)
	path := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	o := options("")
	o.JWKS = path
	trust := openTrust(t, o)
	for name, test := range map[string]struct {
		raw  string
		good bool
	}{
		"by its name":       {sign(t, one, jose.RS256, map[string]any{"kid": "first"}, goodClaims()), true},
		"by its thumbprint": {sign(t, one, jose.RS256, map[string]any{"kid": thumb(t, one.Public())}, goodClaims()), true},
		"without a name":    {sign(t, ed, jose.EdDSA, map[string]any{"kid": thumb(t, ed.Public())}, goodClaims()), true},
		"for encryption":    {sign(t, two, jose.ES256, map[string]any{"kid": "second"}, goodClaims()), false},
		"a secret":          {sign(t, secret, jose.HS256, map[string]any{"kid": "secret"}, goodClaims()), false},
		"no name":           {sign(t, ed, jose.EdDSA, nil, goodClaims()), false},
	} {
		if _, err := trust.Verify(test.raw); (err == nil) != test.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTrustAlgorithms(t *testing.T) {
	t.Parallel()
	ca := certify(t, newRSA(t), nil, moment().Add(time.Hour))
	o := options(ca.file(t))
	o.Algorithms = []string{"RS512", "HS256"}
	trust := openTrust(t, o)
	for alg, good := range map[jose.SignatureAlgorithm]bool{jose.RS512: true, jose.RS256: false, jose.PS512: false} {
		if _, err := trust.Verify(sign(t, ca.key, alg, map[string]any{"x5c": chain(ca.cert)}, goodClaims())); (err == nil) != good {
			t.Errorf("%s: %v", alg, err)
		}
	}
	for _, list := range [][]string{{"HS256"}, {"none"}, {"RS256", "rs512"}} {
		o.Algorithms = list
		if _, err := token.OpenTrust(o); err == nil || !strings.Contains(err.Error(), "signingalgorithms") {
			t.Errorf("%v: %v", list, err)
		}
	}
}

func TestOpenTrustFaults(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"missing.crt": "", "empty.crt": "\n", "broken.crt": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"none.json": "{}", "broken.json": "{", "secret.json": `{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}`,
	} {
		path := filepath.Join(dir, name)
		if text != "" {
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		o := options(path)
		if strings.HasSuffix(name, ".json") {
			o.RootCertBundle, o.JWKS = "", path
		}
		if _, err := token.OpenTrust(o); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := token.OpenTrust(options("")); err == nil {
		t.Error("nobody is trusted, and nothing is said")
	}
	if _, err := token.OpenTrust(options(dir)); err == nil {
		t.Error("a directory is taken")
	}
}

// Keys change under a server that runs. What an old key has signed is out,
// even if it was good a moment ago; a file that is broken changes nothing.
func TestTrustReadsAgain(t *testing.T) {
	t.Parallel()
	now, log := moment(), &bytes.Buffer{}
	old, fresh := certify(t, newEC(t), nil, now.Add(time.Hour)), certify(t, newEC(t), nil, now.Add(time.Hour))
	path := old.file(t)
	o := options(path)
	o.Now, o.Log = func() time.Time { return now }, slog.New(slog.NewTextHandler(log, nil))
	trust := openTrust(t, o)
	oldToken := sign(t, old.key, jose.ES256, map[string]any{"x5c": chain(old.cert)}, goodClaims())
	freshToken := sign(t, fresh.key, jose.ES256, map[string]any{"x5c": chain(fresh.cert)}, goodClaims())
	check := func(when string, oldGood, freshGood bool) {
		t.Helper()
		now = now.Add(2 * time.Second)
		if _, err := trust.Verify(oldToken); (err == nil) != oldGood {
			t.Errorf("%s, the old key: %v", when, err)
		}
		if _, err := trust.Verify(freshToken); (err == nil) != freshGood {
			t.Errorf("%s, the new key: %v", when, err)
		}
	}
	check("at first", true, false)
	for range 2 {
		if err := os.WriteFile(path, []byte("-----BEGIN CERTIF"), 0o600); err != nil {
			t.Fatal(err)
		}
		check("half written", true, false)
	}
	if n := strings.Count(log.String(), "stay in force"); n != 1 {
		t.Errorf("a broken file is told of %d times:\n%s", n, log)
	}
	fresh.write(t, path)
	check("replaced", false, true)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	check("gone", false, true)
	old.write(t, path)
	check("back", true, false)
}

func TestOpenTrustTellsOfCertificatesThatHaveEnded(t *testing.T) {
	t.Parallel()
	log := &bytes.Buffer{}
	ended := certify(t, newEC(t), nil, moment().Add(-time.Minute))
	o := options(ended.file(t))
	o.Log = slog.New(slog.NewTextHandler(log, nil))
	trust := openTrust(t, o)
	if !strings.Contains(log.String(), "has ended") {
		t.Errorf("nothing is said: %s", log)
	}
	if _, err := trust.Verify(sign(t, ended.key, jose.ES256, map[string]any{"kid": thumb(t, ended.key.Public())}, goodClaims())); err != nil {
		t.Error(err)
	}
}

// A token that was good a moment ago is not when its certificate has ended.
func TestTrustEndsWithTheCertificate(t *testing.T) {
	t.Parallel()
	now := moment()
	ca := certify(t, newEC(t), nil, now.Add(time.Hour))
	leaf := certify(t, newEC(t), ca, now.Add(time.Minute))
	o := options(ca.file(t))
	o.Now = func() time.Time { return now }
	trust := openTrust(t, o)
	for name, header := range map[string]map[string]any{
		"x5c": {"x5c": chain(leaf.cert)},
		"jwk": {"jwk": jose.JSONWebKey{Key: leaf.key.Public(), Certificates: []*x509.Certificate{leaf.cert}}},
	} {
		now = moment()
		raw := sign(t, leaf.key, jose.ES256, header, with("exp", now.Add(time.Hour).Unix()))
		for range 2 {
			if _, err := trust.Verify(raw); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		now = moment().Add(61 * time.Second)
		if _, err := trust.Verify(raw); !errors.Is(err, token.ErrInvalid) {
			t.Errorf("%s, by a certificate that has ended: %v", name, err)
		}
	}
}

func FuzzTrustVerify(f *testing.F) {
	trust, err := token.OpenTrust(options(filepath.Join("testdata", "rsa.crt")))
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"rsa-libtrust", "ec-thumbprint"} {
		raw, err := os.ReadFile(filepath.Join("testdata", "dockerauth-"+name+".jwt"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(strings.TrimSpace(string(raw)))
	}
	f.Add("e30.e30.")
	good := map[string]bool{}
	for _, form := range []string{"libtrust", "thumbprint"} {
		raw, err := os.ReadFile(filepath.Join("testdata", "dockerauth-rsa-"+form+".jwt"))
		if err != nil {
			f.Fatal(err)
		}
		good[string(raw[:bytes.LastIndexByte(raw, '.')])] = true
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if _, err := trust.Verify(raw); err == nil && !good[raw[:strings.LastIndexByte(raw, '.')]] {
			t.Errorf("%q is good", raw)
		}
	})
}

func BenchmarkTrustVerify(b *testing.B) {
	raw, err := os.ReadFile(filepath.Join("testdata", "dockerauth-rsa-libtrust.jwt"))
	if err != nil {
		b.Fatal(err)
	}
	trust, err := token.OpenTrust(options(filepath.Join("testdata", "rsa.crt")))
	if err != nil {
		b.Fatal(err)
	}
	signed := strings.TrimSpace(string(raw))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := trust.Verify(signed); err != nil {
			b.Fatal(err)
		}
	}
}

// Registry 3 and docker_auth leave out the zeros at the beginning of a
// coordinate when they name a key.
func TestTrustNamesWithoutZeros(t *testing.T) {
	t.Parallel()
	for range 100_000 {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if point[1] != 0 {
			continue
		}
		e := base64.RawURLEncoding.EncodeToString
		sum := sha256.Sum256([]byte(`{"crv":"P-256","kty":"EC","x":"` + e(bytes.TrimLeft(point[1:33], "\x00")) + `","y":"` + e(bytes.TrimLeft(point[33:], "\x00")) + `"}`))
		ca := certify(t, key, nil, moment().Add(time.Hour))
		if _, err := openTrust(t, options(ca.file(t))).Verify(sign(t, key, jose.ES256, map[string]any{"kid": e(sum[:])}, goodClaims())); err != nil {
			t.Error(err)
		}
		return
	}
	t.Fatal("no such key")
}
