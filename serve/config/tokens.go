package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// tokensSection is the section tokens, which is ours: the token server at
// /v2/_token.
func tokensSection() field {
	return field{strict: "no such key", fields: section{
		"service":    {set: setString(func(c *Config) *string { return &c.Tokens.Service })},
		"issuer":     {set: setString(func(c *Config) *string { return &c.Tokens.Issuer })},
		"expiration": {set: setExpiration},
		"services":   {set: setStrings(func(c *Config) *[]string { return &c.Tokens.Services }), list: true},
	}}
}

// The times for which tokens may be: clients take what is shorter for a minute,
// and what is longer outlives whom it was given to.
const (
	shortestToken = time.Minute
	longestToken  = day
)

// setExpiration takes a number without a unit for seconds, as docker_auth does.
func setExpiration(c *Config, n node) error {
	v, err := scalar(n)
	if err != nil {
		return err
	}
	if seconds, err := strconv.ParseUint(v, 10, 31); err == nil {
		v = fmt.Sprintf("%ds", seconds)
	}
	d, err := parseAge(v)
	switch {
	case err != nil:
		return fmt.Errorf("%q is not %w", v, err)
	case d < shortestToken:
		return fmt.Errorf("%q is less than a minute, for which clients take any token to be", v)
	case d > longestToken:
		return fmt.Errorf("%q is more than a day: clients get a new one by themselves, and this one cannot be taken back", v)
	}
	c.Tokens.Expiration = d
	return nil
}

// auditSection is the section audit, which is ours.
func auditSection() field {
	return field{strict: "no such key", fields: section{
		"path":    {set: setString(func(c *Config) *string { return &c.Audit.Path })},
		"maxsize": {set: setSize(func(c *Config) *int64 { return &c.Audit.MaxSize })},
		"keep":    {set: setCount(func(c *Config) *int { return &c.Audit.Keep })},
		"pulls":   {set: setBool(func(c *Config) *bool { return &c.Audit.Pulls })},
	}}
}

// setSize reads a number of bytes, which may have a unit such as MB or MiB.
func setSize(at at[int64]) func(*Config, node) error {
	return func(c *Config, n node) error {
		v, err := scalar(n)
		if err != nil {
			return err
		}
		if *at(c), err = parseSize(v); err != nil {
			return fmt.Errorf("%q is not %w", v, err)
		}
		return nil
	}
}

func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "kKMGiB ")
	unit, ok := map[string]float64{
		"": 1, "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "k": 1 << 10, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30,
		"KiB": 1 << 10, "kiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
	}[strings.TrimSpace(s[len(digits):])]
	size, err := strconv.ParseFloat(digits, 64)
	if size *= unit; !ok || err != nil || !(size >= 1) || size >= math.MaxInt64 {
		return 0, errors.New("a size such as 100MB or 1GiB")
	}
	return int64(size), nil
}

// leastAudit is the least size at which the audit log is rotated: a record is
// some hundred bytes.
const leastAudit = 64 << 10

// checkTokens sets what is not said of tokens and of the audit log.
func (p *parser) checkTokens(c *Config) {
	t, a := &c.Tokens, &c.Audit
	t.Issuer, t.Expiration = or(t.Issuer, "regctl"), orElse(t.Expiration, 5*time.Minute)
	a.MaxSize, a.Keep = orElse(a.MaxSize, 100<<20), orElse(a.Keep, 10)
	if a.MaxSize < leastAudit {
		p.errorf(p.at["audit.maxsize"], "audit.maxsize is less than %s", showSize(leastAudit))
	}
	for _, key := range []string{"maxsize", "keep", "pulls"} {
		if n := p.at["audit."+key]; n != nil && a.Path == "" {
			p.errorf(n, "audit.%s is there without audit.path, and nothing is recorded", key)
		}
	}
}

func (l *settings) tokens() {
	t, a := l.c.Tokens, l.c.Audit
	l.own("tokens.service", t.Service)
	l.own("tokens.issuer", t.Issuer)
	l.own("tokens.expiration", t.Expiration)
	l.own("tokens.services", t.Services)
	l.own("audit.path", a.Path)
	if a.Path != "" {
		l.own("audit.maxsize", showSize(a.MaxSize))
		l.own("audit.keep", a.Keep)
		l.own("audit.pulls", a.Pulls)
	}
}

// showSize writes 100MiB for 104857600.
func showSize(n int64) string {
	for _, unit := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n%unit.size == 0 {
			return strconv.FormatInt(n/unit.size, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}
