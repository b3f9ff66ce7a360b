package cert

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// Inspect says what is wrong with a certificate and its key, the worst first.
// Without p.Key only the certificate is looked at.
func Inspect(p Pair, now time.Time) []Problem {
	f := findings{file: p.Certificate}
	raw, err := os.ReadFile(p.Certificate)
	if err != nil {
		f.fault(cause(err), "")
		return append(f.all, inspectKey(p.Key, nil)...)
	}
	chain, err := ParseChain(raw)
	if err != nil {
		try := ""
		if errors.Is(err, errDER) {
			try = fmt.Sprintf("openssl x509 -inform der -in %s -out %s.crt", p.Certificate, bare(p.Certificate))
		}
		f.fault(err.Error(), try)
		return append(f.all, inspectKey(p.Key, nil)...)
	}
	f.chain(chain, now)
	if filepath.Ext(p.Certificate) == ".pem" && selfSigned(chain[0]) {
		f.note("docker, podman and containerd take only *.crt in their certs.d for a CA", "copy it to clients as ca.crt")
	}
	return worstFirst(append(f.all, inspectKey(p.Key, chain)...))
}

// InspectCAs says what is wrong with a file of CA certificates, as those of
// client certificates.
func InspectCAs(file string, now time.Time) []Problem {
	f := findings{file: file}
	raw, err := os.ReadFile(file)
	if err != nil {
		f.fault(cause(err), "")
		return f.all
	}
	chain, err := ParseChain(raw)
	if err != nil {
		f.fault(err.Error(), "")
		return f.all
	}
	for _, c := range chain {
		f.dates(c, fmt.Sprintf("the CA %s", c.Subject), now)
		if !c.IsCA && !selfSigned(c) {
			f.warn(fmt.Sprintf("%s is no CA, and can vouch only for itself", c.Subject), "")
		}
	}
	return worstFirst(f.all)
}

// InspectChain says what is wrong with the certificates that a server showed,
// its own first. file is where they are from, for the problems; may be empty.
func InspectChain(chain []*x509.Certificate, file string, now time.Time) []Problem {
	f := findings{file: file}
	if len(chain) == 0 {
		f.fault("there is no certificate", "")
		return f.all
	}
	f.chain(chain, now)
	return worstFirst(f.all)
}

// inspectKey looks at the key of a chain, which may be unknown.
func inspectKey(file string, chain []*x509.Certificate) []Problem {
	if file == "" {
		return nil
	}
	f := findings{file: file}
	raw, err := os.ReadFile(file)
	if err != nil {
		f.fault(cause(err), "")
		return f.all
	}
	key, err := parseKey(raw)
	switch {
	case errors.Is(err, errEncrypted):
		f.fault("the key is encrypted, and nobody is there to type its passphrase", fmt.Sprintf("openssl pkey -in %s -out %s.key", file, bare(file)))
	case err != nil:
		f.fault(err.Error(), "")
	case chain != nil && !fits(chain[0], key):
		f.misfit(chain, key)
	}
	if st, err := os.Stat(file); err == nil && runtime.GOOS != "windows" && st.Mode().Perm()&0o007 != 0 {
		f.warn(fmt.Sprintf("every user of this machine can read the key (mode %04o)", st.Mode().Perm()), "chmod o= "+file)
	}
	return f.all
}

// findings gathers problems with a file.
type findings struct {
	file string
	all  []Problem
}

func (f *findings) fault(text, try string) { f.add(Fault, text, try) }
func (f *findings) warn(text, try string)  { f.add(Warning, text, try) }
func (f *findings) note(text, try string)  { f.add(Note, text, try) }

func (f *findings) add(l Level, text, try string) {
	f.all = append(f.all, Problem{Level: l, File: f.file, Text: text, Try: try})
}

func worstFirst(all []Problem) []Problem {
	slices.SortStableFunc(all, func(a, b Problem) int { return cmp.Compare(b.Level, a.Level) })
	return all
}

// cause is err without the name of the file, which the problem has.
func cause(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Sprintf("cannot %s it: %v", path.Op, path.Err)
	}
	return err.Error()
}

// bare is a file name without its extension.
func bare(file string) string { return file[:len(file)-len(filepath.Ext(file))] }
