package cert_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/serve/cert"
)

// issued is a certificate with its key.
type issued struct {
	*x509.Certificate
	key crypto.Signer
}

// issue signs a certificate that is right but for what change does to it. A nil
// parent: by itself.
func issue(t *testing.T, parent *issued, key crypto.Signer, change func(c *x509.Certificate)) *issued {
	t.Helper()
	if key == nil {
		key = newKey(t)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "reg.lan"}, DNSNames: []string{"reg.lan"},
		NotBefore: start.Add(-dayLength), NotAfter: start.Add(100 * dayLength), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature,
	}
	change(c)
	signer, by := c, key
	if parent != nil {
		signer, by = parent.Certificate, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, signer, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	done, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &issued{done, key}
}

func asCA(name string) func(c *x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject.CommonName, c.DNSNames, c.IsCA, c.KeyUsage = name, nil, true, x509.KeyUsageCertSign
	}
}

func encode(chain ...*issued) []byte {
	var b []byte
	for _, c := range chain {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

func TestInspectCertificate(t *testing.T) {
	t.Parallel()
	right := func(*x509.Certificate) {}
	noNames := func(cn string) func(c *x509.Certificate) {
		return func(c *x509.Certificate) { c.Subject.CommonName, c.DNSNames = cn, nil }
	}
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	root := issue(t, nil, nil, asCA("root"))
	middle := issue(t, root, nil, asCA("middle"))
	twin := issue(t, nil, nil, asCA("reg.lan"))
	for name, c := range map[string]struct {
		chain []*issued
		want  []string // A line for each: its level and a part of it. None: nothing is wrong.
	}{
		"right":           {chain: []*issued{issue(t, root, nil, right)}},
		"with its CA":     {chain: []*issued{issue(t, root, nil, right), root}},
		"with both":       {chain: []*issued{issue(t, middle, nil, right), middle, root}},
		"without root":    {chain: []*issued{issue(t, middle, nil, right), middle}},
		"only CN":         {[]*issued{issue(t, root, nil, noNames("reg.lan"))}, []string{"warning: the name reg.lan is only its common name (CN): docker"}},
		"only CN, an IP":  {[]*issued{issue(t, root, nil, noNames("10.0.0.1"))}, []string{"warning: the address 10.0.0.1 is only its common name"}},
		"no name":         {[]*issued{issue(t, root, nil, noNames(""))}, []string{"warning: it is for no name at all"}},
		"IP as DNS":       {[]*issued{issue(t, root, nil, func(c *x509.Certificate) { c.DNSNames = []string{"reg.lan", "10.0.0.1"} })}, []string{"warning: the address 10.0.0.1 is in it as a DNS name"}},
		"CN counts not":   {[]*issued{issue(t, root, nil, func(c *x509.Certificate) { c.Subject.CommonName = "old.lan" })}, []string{"note: its common name (CN) old.lan does not count: it is for reg.lan"}},
		"CN by wildcard":  {chain: []*issued{issue(t, root, nil, func(c *x509.Certificate) { c.DNSNames = []string{"*.lan"} })}},
		"CN of a company": {chain: []*issued{issue(t, root, nil, func(c *x509.Certificate) { c.Subject.CommonName = "Widgets Inc. registry" })}},
		"an IP": {chain: []*issued{issue(t, root, nil, func(c *x509.Certificate) {
			c.Subject.CommonName, c.DNSNames, c.IPAddresses = "10.0.0.1", nil, []net.IP{net.IPv4(10, 0, 0, 1)}
		})}},
		"twin of its CA": {[]*issued{issue(t, twin, nil, right)}, []string{"warning: its CA bears its very name, CN=reg.lan: curl"}},
		"twin with ids": {[]*issued{issue(t, twin, nil, func(c *x509.Certificate) { c.SubjectKeyId, c.AuthorityKeyId = []byte{1}, []byte{2} })},
			[]string{"note: its CA bears its very name, CN=reg.lan"}},
		"ended":           {[]*issued{issue(t, root, nil, func(c *x509.Certificate) { c.NotAfter = start.Add(-time.Hour) })}, []string{"warning: the certificate has ended on 2026-11-20: every client"}},
		"not yet":         {[]*issued{issue(t, root, nil, func(c *x509.Certificate) { c.NotBefore = start.Add(time.Hour) })}, []string{"warning: the certificate is not valid before 2026-11-20 13:00 UTC: is the clock right? It is 2026-11-20 12:00 UTC"}},
		"soon":            {[]*issued{issue(t, root, nil, func(c *x509.Certificate) { c.NotAfter = start.Add(29 * dayLength) })}, []string{"warning: the certificate ends on 2026-12-19, in 29 days"}},
		"soon enough":     {chain: []*issued{issue(t, root, nil, func(c *x509.Certificate) { c.NotAfter = start.Add(31 * dayLength) })}},
		"long":            {[]*issued{issue(t, root, nil, func(c *x509.Certificate) { c.NotAfter = start.Add(36500 * dayLength) })}, []string{"note: the certificate is for 100 years: macOS"}},
		"longer":          {[]*issued{issue(t, root, nil, func(c *x509.Certificate) { c.NotAfter = start.Add(900 * dayLength) })}, []string{"note: the certificate is for 901 days"}},
		"RSA 1024":        {[]*issued{issue(t, root, weak, right)}, []string{"warning: the certificate has an RSA key of 1024 bits"}},
		"SHA-1":           {[]*issued{issue(t, root, nil, sha1)}, []string{"warning: the certificate is signed with ECDSA-SHA1"}},
		"SHA-1 by itself": {[]*issued{issue(t, nil, nil, sha1)}, []string{"note: the certificate is signed with ECDSA-SHA1; by itself"}},
		"CA as server": {[]*issued{issue(t, nil, nil, func(c *x509.Certificate) { c.IsCA = true })},
			[]string{"note: it is the certificate of a CA (CA:true): it works"}},
		"for clients":   {[]*issued{issue(t, root, nil, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })}, []string{"warning: it is not for servers"}},
		"no signatures": {[]*issued{issue(t, root, nil, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })}, []string{"note: its key usage lacks digitalSignature"}},
		"wrong order":   {[]*issued{issue(t, middle, nil, right), root, middle}, []string{"warning: the chain is in the wrong order: what has signed certificate 1 comes as number 3"}},
		"other CA":      {[]*issued{issue(t, middle, nil, right), root}, []string{"warning: certificate 1 is signed by CN=middle, which does not follow it"}},
		"useless":       {[]*issued{issue(t, nil, nil, right), root}, []string{"note: certificate 1 has signed itself; what follows"}},
		"incomplete": {[]*issued{issue(t, middle, nil, func(c *x509.Certificate) { c.IssuingCertificateURL = []string{"http://ca.example/middle.crt"} })},
			[]string{"warning: the certificate of its CA, CN=middle, is missing"}},
		"ended CA": {[]*issued{issue(t, root, nil, right), issue(t, nil, root.key, func(c *x509.Certificate) { asCA("root")(c); c.NotAfter = start.Add(-dayLength) })},
			[]string{"warning: the CA CN=root behind it has ended on 2026-11-19"}},
		"worst first": {[]*issued{issue(t, nil, nil, func(c *x509.Certificate) { c.DNSNames, c.IsCA, c.NotAfter = nil, true, start.Add(36500*dayLength) })},
			[]string{"warning: the name reg.lan", "note: the certificate is for 100 years", "note: it is the certificate of a CA"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			pair := cert.Pair{Certificate: filepath.Join(dir, "x.crt"), Key: filepath.Join(dir, "x.key")}
			put(t, pair.Certificate, encode(c.chain...))
			put(t, pair.Key, encodeKey(t, c.chain[0].key))
			got := cert.Inspect(pair, start)
			wantProblems(t, got, c.want)
			for _, p := range got {
				if p.File != pair.Certificate {
					t.Errorf("it is said of %s", p.File)
				}
			}
			var chain []*x509.Certificate
			for _, i := range c.chain {
				chain = append(chain, i.Certificate)
			}
			wantProblems(t, cert.InspectChain(chain, "", start), c.want)
		})
	}
}

func sha1(c *x509.Certificate) { c.SignatureAlgorithm = x509.ECDSAWithSHA1 }

func wantProblems(t *testing.T, got []cert.Problem, want []string) {
	t.Helper()
	var lines []string
	for _, p := range got {
		lines = append(lines, p.Level.String()+": "+p.Text)
	}
	ok := len(lines) == len(want)
	for i := range min(len(lines), len(want)) {
		ok = ok && strings.HasPrefix(lines[i], want[i])
	}
	if !ok {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
}

// TestInspectFiles: what may be wrong with files, and with a key.
func TestInspectFiles(t *testing.T) {
	t.Parallel()
	c := issue(t, nil, nil, func(*x509.Certificate) {})
	other := issue(t, nil, nil, func(*x509.Certificate) {})
	root := issue(t, nil, nil, asCA("root"))
	signed := issue(t, root, nil, func(*x509.Certificate) {})
	key := encodeKey(t, c.key)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, c.key)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for name, f := range map[string]struct {
		name       string // Of the certificate; x.crt if empty.
		crt, key   []byte // Nil: missing; empty: so is the file.
		mode       os.FileMode
		want, when string
	}{
		"right":             {crt: encode(c), key: key},
		"missing":           {key: key, want: "error: cannot open it: no such file"},
		"no key":            {crt: encode(c), want: "error: cannot open it: no such file"},
		"empty":             {crt: []byte{}, key: key, want: "error: the file is empty"},
		"text":              {crt: []byte("hello"), key: key, want: "error: there is no certificate in it"},
		"swapped":           {crt: key, key: key, want: "error: it holds a private key, no certificate; are the two swapped?"},
		"request":           {crt: block("CERTIFICATE REQUEST", csr), key: key, want: "error: it is a request for a certificate"},
		"binary":            {crt: c.Raw, key: key, want: "error: it is DER, and must be PEM"},
		"torn":              {crt: block("CERTIFICATE", c.Raw[:100]), key: key, want: "error: cannot read certificate 1"},
		"other key":         {crt: encode(c), key: encodeKey(t, other.key), want: "error: the key is not that of the certificate for reg.lan"},
		"key of the CA":     {crt: encode(signed, root), key: encodeKey(t, root.key), want: "error: the key is that of certificate 2; that of the server must come first"},
		"certificate again": {crt: encode(c), key: encode(c), want: "error: there is no private key in it"},
		"encrypted":         {crt: encode(c), key: block("ENCRYPTED PRIVATE KEY", []byte{1}), want: "error: the key is encrypted"},
		"old encryption":    {crt: encode(c), key: []byte("-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n"), want: "error: the key is encrypted"},
		"torn key":          {crt: encode(c), key: block("PRIVATE KEY", []byte{1}), want: "error: cannot read the private key"},
		"open key":          {crt: encode(c), key: key, mode: 0o604, want: "warning: every user of this machine can read the key (mode 0604)", when: "unix"},
		"key of a group":    {crt: encode(c), key: key, mode: 0o640},
		"pem":               {name: "server-crt.pem", crt: encode(c), key: key, want: "note: docker, podman and containerd take only *.crt"},
		"pem of another":    {name: "server-crt.pem", crt: encode(signed), key: encodeKey(t, signed.key)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if f.when == "unix" && runtime.GOOS == "windows" {
				t.Skip("no modes of files here")
			}
			dir := t.TempDir()
			pair := cert.Pair{Certificate: filepath.Join(dir, "x.crt"), Key: filepath.Join(dir, "x.key")}
			if f.name != "" {
				pair.Certificate = filepath.Join(dir, f.name)
			}
			if f.crt != nil {
				put(t, pair.Certificate, f.crt)
			}
			if f.key != nil {
				put(t, pair.Key, f.key)
			}
			if f.mode != 0 {
				if err := os.Chmod(pair.Key, f.mode); err != nil {
					t.Fatal(err)
				}
			}
			var want []string
			if f.want != "" {
				want = []string{f.want}
			}
			wantProblems(t, cert.Inspect(pair, start), want)
		})
	}
}

func TestInspectKeyKinds(t *testing.T) {
	t.Parallel()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec := newKey(t)
	ecDER, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key  crypto.Signer
		text []byte
	}{
		"PKCS#1": {key, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})},
		"SEC 1": {ec, append([]byte("-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"),
			pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: ecDER})...)},
	} {
		pair := cert.Pair{Certificate: filepath.Join(t.TempDir(), "x.crt"), Key: filepath.Join(t.TempDir(), "x.key")}
		put(t, pair.Certificate, encode(issue(t, nil, c.key, func(*x509.Certificate) {})))
		put(t, pair.Key, c.text)
		if got := cert.Inspect(pair, start); len(got) > 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestInspectCAs(t *testing.T) {
	t.Parallel()
	root := issue(t, nil, nil, asCA("root"))
	ended := issue(t, nil, nil, func(c *x509.Certificate) { asCA("old")(c); c.NotAfter = start.Add(-dayLength) })
	leaf := issue(t, root, nil, func(*x509.Certificate) {})
	for name, c := range map[string]struct {
		raw  []byte
		want []string
	}{
		"right": {encode(root), nil},
		"ended": {encode(root, ended), []string{"warning: the CA CN=old has ended on 2026-11-19"}},
		"leaf":  {encode(leaf), []string{"warning: CN=reg.lan is no CA, and can vouch only for itself"}},
		"empty": {[]byte{}, []string{"error: the file is empty"}},
	} {
		file := filepath.Join(t.TempDir(), "ca.pem")
		put(t, file, c.raw)
		t.Run(name, func(t *testing.T) { wantProblems(t, cert.InspectCAs(file, start), c.want) })
	}
	wantProblems(t, cert.InspectCAs(filepath.Join(t.TempDir(), "none"), start), []string{"error: cannot open it"})
	wantProblems(t, cert.InspectChain(nil, "", start), []string{"error: there is no certificate"})
}

func TestProblemString(t *testing.T) {
	t.Parallel()
	for want, p := range map[string]cert.Problem{
		"it has ended":                        {Text: "it has ended"},
		"a.crt: it has ended. Try: a new one": {File: "a.crt", Text: "it has ended", Try: "a new one"},
	} {
		if got := p.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if got := cert.Level(7).String(); got != "level 7" {
		t.Error(got)
	}
}

// FuzzParseChain: what is read from files and from servers.
func FuzzParseChain(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, raw []byte) {
		chain, err := cert.ParseChain(raw)
		if (err == nil) != (len(chain) > 0) {
			t.Errorf("%d certificates, %v", len(chain), err)
		}
		if err == nil {
			cert.InspectChain(chain, "", time.Unix(0, 0))
		}
	})
}
