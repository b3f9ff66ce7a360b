package config

// addresses warns of rules that go by addresses which callers can make up.
func (l *lint) addresses() {
	if l.c.Said("http.trustedproxies") != "" {
		return
	}
	for i, r := range l.c.Access.Rules {
		if len(r.From) > 0 {
			l.add(r.Where, "access: rule %d goes by addresses, but whoever has a private one can say in X-Forwarded-For that it is another; name the proxies in http.trustedproxies, or []", i+1)
			return
		}
	}
}
