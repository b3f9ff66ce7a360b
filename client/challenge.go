package client

import (
	"net/http"
	"slices"
	"strings"
)

// challenge is how a server asks who is calling: RFC 9110, section 11.6.1.
type challenge struct {
	scheme string            // In lower case; empty: it does not ask.
	params map[string]string // By names in lower case.
}

// challengeOf is the one that we can answer best of those in the header of an
// answer.
func challengeOf(h http.Header) challenge {
	var all []challenge
	for _, value := range h.Values("WWW-Authenticate") {
		all = append(all, parseChallenges(value)...)
	}
	for _, scheme := range []string{"bearer", "basic"} {
		if i := slices.IndexFunc(all, func(c challenge) bool { return c.scheme == scheme }); i >= 0 {
			return all[i]
		}
	}
	return challenge{}
}

// sameServer tells whether c and other lead to the same tokens.
func (c challenge) sameServer(other challenge) bool {
	return c.scheme == other.scheme && c.params["realm"] == other.params["realm"] && c.params["service"] == other.params["service"]
}

// parseChallenges reads the challenges of one header field as far as they can
// be understood.
func parseChallenges(field string) []challenge {
	var all []challenge
	for p := (parser{field}); p.text != ""; {
		p.skip(" \t,")
		word := p.token()
		if word == "" {
			break
		}
		p.skip(" \t")
		if len(all) == 0 || !p.take('=') {
			all = append(all, challenge{strings.ToLower(word), map[string]string{}})
			p.credentials()
			continue
		}
		p.skip(" \t")
		all[len(all)-1].params[strings.ToLower(word)] = p.value()
	}
	return all
}

// parser takes a header field apart from the left.
type parser struct{ text string }

func (p *parser) skip(chars string) { p.text = strings.TrimLeft(p.text, chars) }

func (p *parser) take(c byte) bool {
	if p.text == "" || p.text[0] != c {
		return false
	}
	p.text = p.text[1:]
	return true
}

// token takes a word as of RFC 9110, section 5.6.2.
func (p *parser) token() string {
	end := strings.IndexFunc(p.text, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
	})
	if end < 0 {
		end = len(p.text)
	}
	word := p.text[:end]
	p.text = p.text[end:]
	return word
}

// value takes a word or a quoted string; what is not quoted may have
// characters in it that should be.
func (p *parser) value() string {
	if !p.take('"') {
		end := strings.IndexAny(p.text, ", \t")
		if end < 0 {
			end = len(p.text)
		}
		word := p.text[:end]
		p.text = p.text[end:]
		return word
	}
	var b strings.Builder
	for p.text != "" && !p.take('"') {
		if p.text[0] == '\\' && len(p.text) > 1 {
			p.text = p.text[1:]
		}
		b.WriteByte(p.text[0])
		p.text = p.text[1:]
	}
	return b.String()
}

// credentials passes over the single value that some schemes have in the place
// of parameters.
func (p *parser) credentials() {
	end := strings.IndexAny(p.text, ",")
	if end < 0 {
		end = len(p.text)
	}
	if first := strings.TrimRight(strings.TrimRight(p.text[:end], " \t"), "="); first != "" && !strings.ContainsAny(first, "= \t\"") {
		p.text = p.text[end:]
	}
}
