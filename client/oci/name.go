package oci

import (
	_ "crypto/sha256" // sha256 is available to every user of this package,
	_ "crypto/sha512" // and so is sha512.
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

const (
	maxRepo = 255
	maxTag  = 128
)

// CheckRepo returns a [NameInvalid] error unless name is a repository name by
// the grammar of the distribution specification, of at most 255 bytes.
func CheckRepo(name string) error {
	switch {
	case name == "":
		return Errorf(NameInvalid, "empty repository name")
	case len(name) > maxRepo:
		return Errorf(NameInvalid, "repository name of %d bytes, at most %d are allowed", len(name), maxRepo)
	}
	for part := range strings.SplitSeq(name, "/") {
		if !isPathComponent(part) {
			return Errorf(NameInvalid, "repository name %q: %q does not match %s", clip(name), clip(part), componentGrammar)
		}
	}
	return nil
}

const componentGrammar = `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`

func isPathComponent(s string) bool {
	separator := 0 // Where the run of separators that s[:i] ends with begins, plus one.
	for i := range len(s) {
		switch c := s[i]; {
		case isLowerAlnum(c):
			if separator > 0 && !isSeparator(s[separator-1:i]) {
				return false
			}
			separator = 0
		case c == '.' || c == '_' || c == '-':
			if i == 0 {
				return false
			}
			if separator == 0 {
				separator = i + 1
			}
		default:
			return false
		}
	}
	return s != "" && separator == 0
}

func isSeparator(s string) bool {
	return s == "." || s == "_" || s == "__" || strings.Trim(s, "-") == ""
}

func isLowerAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

// CheckTag returns a [TagInvalid] error unless tag matches
// [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}.
func CheckTag(tag string) error {
	switch {
	case tag == "":
		return Errorf(TagInvalid, "empty tag")
	case len(tag) > maxTag:
		return Errorf(TagInvalid, "tag of %d bytes, at most %d are allowed", len(tag), maxTag)
	}
	for i := range len(tag) {
		c := tag[i]
		word := isLowerAlnum(c) || 'A' <= c && c <= 'Z' || c == '_'
		if !word && (i == 0 || c != '.' && c != '-') {
			return Errorf(TagInvalid, "tag %q does not match [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", clip(tag))
		}
	}
	return nil
}

// ParseDigest returns s as a Digest. It accepts sha256 and sha512 in lower
// case hexadecimal and returns a [DigestInvalid] error for anything else.
func ParseDigest(s string) (Digest, error) {
	name, hex, ok := strings.Cut(s, ":")
	if !ok {
		return "", Errorf(DigestInvalid, "digest %q: no algorithm, such as sha256:", clip(s))
	}
	a, err := ParseAlgorithm(name)
	if err != nil {
		return "", err
	}
	if len(hex) != 2*a.Size() {
		return "", Errorf(DigestInvalid, "digest %q: %s wants %d hexadecimal digits, not %d", clip(s), a, 2*a.Size(), len(hex))
	}
	for i := range len(hex) {
		if c := hex[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", Errorf(DigestInvalid, "digest %q: %q is not a lower case hexadecimal digit", clip(s), c)
		}
	}
	return Digest(s), nil
}

// ParseAlgorithm returns the digest algorithm called name, or a
// [DigestInvalid] error if it is not sha256 or sha512.
func ParseAlgorithm(name string) (digest.Algorithm, error) {
	switch a := digest.Algorithm(name); a {
	case digest.SHA256, digest.SHA512:
		return a, nil
	}
	return "", Errorf(DigestInvalid, "digest algorithm %q is not supported; use sha256 or sha512", clip(name))
}

// IsDigest tells whether a ref is meant as a digest: no tag has a colon.
func IsDigest(ref string) bool { return strings.Contains(ref, ":") }

// CheckRef returns an error unless ref is a tag or a digest.
func CheckRef(ref string) error {
	if IsDigest(ref) {
		_, err := ParseDigest(ref)
		return err
	}
	return CheckTag(ref)
}

// clip keeps hostile input from filling logs and answers.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", s[:most], len(s))
}
