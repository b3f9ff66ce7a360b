package cert

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// names are what a certificate is for.
type names struct {
	dns []string
	ips []net.IP
	all []string // Both, in their order, each once.
}

// parseNames reads DNS names and IP addresses, and drops what is there twice.
func parseNames(raw []string) (names, error) {
	var n names
	for _, given := range raw {
		name, err := ParseName(given)
		if err != nil {
			return names{}, err
		}
		if slices.Contains(n.all, name) {
			continue
		}
		n.all = append(n.all, name)
		if ip := net.ParseIP(name); ip != nil {
			n.ips = append(n.ips, ip)
		} else {
			n.dns = append(n.dns, name)
		}
	}
	if len(n.all) == 0 {
		return names{}, errors.New("a certificate must be for a name or an address at least")
	}
	return n, nil
}

// ParseName returns a DNS name, which may begin with "*.", or an IP address in
// the form that certificates have. It is an error if it is neither.
func ParseName(given string) (string, error) {
	if ip, err := netip.ParseAddr(given); err == nil {
		if ip.Zone() != "" {
			return "", fmt.Errorf("%q: no certificate can be for an address with a zone", given)
		}
		return ip.Unmap().String(), nil
	}
	name := strings.ToLower(strings.TrimSuffix(given, "."))
	if host, _, err := net.SplitHostPort(name); err == nil {
		return "", fmt.Errorf("%q: certificates are for names without a port: %s", given, host)
	}
	if len(name) > 253 {
		return "", fmt.Errorf("%q is too long for a name: at most 253 characters", given)
	}
	for i, label := range strings.Split(name, ".") {
		wildcard := i == 0 && label == "*" && strings.Contains(name, ".")
		if !wildcard && !isLabel(label) {
			return "", fmt.Errorf("%q is neither a DNS name nor an IP address", given)
		}
	}
	return name, nil
}

func isLabel(s string) bool {
	outside := func(r rune) bool { // The underscore is no letter of a host, and many have it.
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}
	return s != "" && len(s) <= 63 && s[0] != '-' && s[len(s)-1] != '-' && !strings.ContainsFunc(s, outside)
}

// coveredBy returns the first of the names that c is not for.
func (n names) coveredBy(c *x509.Certificate) (missing string, ok bool) {
	for _, name := range n.all {
		if !slices.Contains(c.DNSNames, name) && c.VerifyHostname(name) != nil {
			return name, false
		}
	}
	return "", true
}

// NamesOf returns the DNS names and IP addresses that clients accept a
// certificate for. The common name is none of them.
func NamesOf(c *x509.Certificate) []string {
	all := slices.Clone(c.DNSNames)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	return all
}
