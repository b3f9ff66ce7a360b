package gc

import (
	"encoding/hex"
	"strings"

	"github.com/regctl/regctl/client/oci"
)

// sum is what a digest says after its algorithm: sha256 or sha512.
type sum interface{ [32]byte | [64]byte }

const (
	shortPrefix = "sha256:"
	longPrefix  = "sha512:"
)

// decode fills sum with what d says after prefix, and tells whether it could.
func decode(sum []byte, prefix string, d oci.Digest) bool {
	digits, ok := strings.CutPrefix(string(d), prefix)
	if !ok || len(digits) != hex.EncodedLen(len(sum)) {
		return false
	}
	for i := range sum {
		high, ok := nibble(digits[2*i])
		low, ok2 := nibble(digits[2*i+1])
		if !ok || !ok2 {
			return false
		}
		sum[i] = high<<4 | low
	}
	return true
}

// nibble takes lower case only: others are other names on a disk.
func nibble(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

func encode(prefix string, sum []byte) oci.Digest {
	return oci.Digest(prefix + hex.EncodeToString(sum))
}

// compare orders sums as their digits are ordered.
func compare[S sum](a, b S) int {
	for i := range len(a) {
		if a[i] != b[i] {
			return int(a[i]) - int(b[i])
		}
	}
	return 0
}
