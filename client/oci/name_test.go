package oci_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

// The grammar as the distribution specification states it.
const (
	specRepo = `^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`
	specTag  = `^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`
)

func TestCheckRepo(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "0": true, "a/b": true, "library/ubuntu": true, "a.b_c-d": true, "a__b": true, "a-----b": true,
		"a/b.c/d-e/f__g": true, strings.Repeat("a", 255): true, "": false, "/": false, "a/": false, "/a": false,
		"a//b": false, "A": false, "a.": false, ".a": false, "a..b": false, "a___b": false, "a_.b": false,
		"a-_b": false, "_a": false, "a_": false, "-": false, "..": false, "a/../b": false, "a/_manifests": false, "a b": false,
		"é": false, "a\x00": false, "a\n": false, "a:b": false, strings.Repeat("a", 256): false,
	} {
		err := oci.CheckRepo(name)
		if ok != (err == nil) || err != nil && !errors.Is(err, oci.NameInvalid) {
			t.Errorf("CheckRepo(%.40q) = %v, want ok %v", name, err, ok)
		}
	}
}

func FuzzCheckRepo(f *testing.F) {
	spec := regexp.MustCompile(specRepo)
	for _, s := range []string{"a/b", "a__b", "a___b", "a--b", "a.-b", "a_", "0/_", "a//b", "é", "a\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		want := spec.MatchString(name) && len(name) <= 255
		if err := oci.CheckRepo(name); want != (err == nil) {
			t.Errorf("CheckRepo(%q) = %v, the specification says %v", name, err, want)
		}
	})
}

func TestCheckTag(t *testing.T) {
	for tag, ok := range map[string]bool{
		"latest": true, "1.0": true, "_": true, "A-b_c.d": true, strings.Repeat("a", 128): true,
		"": false, ".a": false, "-a": false, "a:b": false, "a/b": false, "a b": false, "é": false, "a\n": false, strings.Repeat("a", 129): false,
	} {
		err := oci.CheckTag(tag)
		if ok != (err == nil) || err != nil && !errors.Is(err, oci.TagInvalid) {
			t.Errorf("CheckTag(%.40q) = %v, want ok %v", tag, err, ok)
		}
	}
}

func FuzzCheckTag(f *testing.F) {
	spec := regexp.MustCompile(specTag)
	for _, s := range []string{"latest", "_", "-a", "a.b-c", "a\n", strings.Repeat("a", 129)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, tag string) {
		if err := oci.CheckTag(tag); spec.MatchString(tag) != (err == nil) {
			t.Errorf("CheckTag(%q) = %v, the specification differs", tag, err)
		}
	})
}

func TestParseDigest(t *testing.T) {
	sum := strings.Repeat("0123456789abcdef", 4)
	for s, ok := range map[string]bool{
		"sha256:" + sum: true, "sha512:" + sum + sum: true,
		"": false, ":": false, sum: false, "sha256:": false, "sha256": false, "sha256:" + sum[1:]: false, "sha256:" + sum + "0": false,
		"sha512:" + sum: false, "SHA256:" + sum: false, "sha256:" + strings.ToUpper(sum): false, "sha384:" + sum + sum[:32]: false,
		"md5:" + sum[:32]: false, "sha256:" + sum[:63] + "g": false, "sha256:" + sum[:63] + "/": false, " sha256:" + sum: false,
	} {
		d, err := oci.ParseDigest(s)
		if ok != (err == nil) || err != nil && !errors.Is(err, oci.DigestInvalid) {
			t.Errorf("ParseDigest(%q) = %v, want ok %v", s, err, ok)
		}
		if ok && string(d) != s || !ok && d != "" {
			t.Errorf("ParseDigest(%q) = %q", s, d)
		}
	}
}

func FuzzParseDigest(f *testing.F) {
	f.Add(string(digest.FromString("")))
	f.Add(string(digest.SHA512.FromString("")))
	f.Add("sha384:" + strings.Repeat("0", 96))
	f.Fuzz(func(t *testing.T, s string) {
		d, err := oci.ParseDigest(s)
		theirs := digest.Digest(s)
		want := theirs.Validate() == nil && (theirs.Algorithm() == digest.SHA256 || theirs.Algorithm() == digest.SHA512)
		if want != (err == nil) {
			t.Errorf("ParseDigest(%q) = %v, go-digest says %v", s, err, theirs.Validate())
		}
		if err == nil && string(d) != s {
			t.Errorf("ParseDigest(%q) = %q", s, d)
		}
	})
}

func TestParseAlgorithm(t *testing.T) {
	for name, ok := range map[string]bool{"sha256": true, "sha512": true, "": false, "sha384": false, "SHA256": false, "md5": false} {
		a, err := oci.ParseAlgorithm(name)
		if ok != (err == nil) || ok && string(a) != name || err != nil && !errors.Is(err, oci.DigestInvalid) {
			t.Errorf("ParseAlgorithm(%q) = %q, %v", name, a, err)
		}
	}
}

func TestCheckRefTakesATagOrADigest(t *testing.T) {
	good := string(digest.FromString(""))
	for ref, want := range map[string]error{"latest": nil, good: nil, "": oci.TagInvalid, "a/b": oci.TagInvalid, "a:b": oci.DigestInvalid, good[:20]: oci.DigestInvalid} {
		if err := oci.CheckRef(ref); !errors.Is(err, want) {
			t.Errorf("CheckRef(%q) = %v, want %v", ref, err, want)
		}
	}
	if !oci.IsDigest(good) || oci.IsDigest("latest") {
		t.Error("a digest is taken for a tag, or a tag for a digest")
	}
}

func TestHostileNamesAreClipped(t *testing.T) {
	long := strings.Repeat("é\x00", 100_000)
	_, err := oci.ParseDigest(long + ":")
	for _, err := range []error{oci.CheckRepo(long[:255]), oci.CheckTag(long[:100]), oci.CheckRepo("A" + long[:200]), err} {
		if err == nil || len(err.Error()) > 1000 {
			t.Errorf("message has %d bytes", len(fmt.Sprint(err)))
		}
	}
}

func ExampleCheckRepo() {
	fmt.Println(oci.CheckRepo("team/app"))
	fmt.Println(oci.CheckRepo("team/App"))
	// Output:
	// <nil>
	// repository name "team/App": "App" does not match [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*
}

func ExampleCheckTag() {
	fmt.Println(oci.CheckTag("v1.2"))
	fmt.Println(oci.CheckTag("-v1"))
	// Output:
	// <nil>
	// tag "-v1" does not match [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}
}

func ExampleParseDigest() {
	d, err := oci.ParseDigest("sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae")
	fmt.Println(d.Algorithm(), err)
	_, err = oci.ParseDigest("md5:acbd18db4cc2f85cedef654fccc4a4d8")
	fmt.Println(errors.Is(err, oci.DigestInvalid), err)
	// Output:
	// sha256 <nil>
	// true digest algorithm "md5" is not supported; use sha256 or sha512
}
