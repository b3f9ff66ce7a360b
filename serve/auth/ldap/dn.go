package ldap

import goldap "github.com/go-ldap/ldap/v3"

// escapeDN makes a value a part of a DN.
func escapeDN(s string) string { return goldap.EscapeDN(s) }
