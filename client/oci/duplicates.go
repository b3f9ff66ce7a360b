package oci

import (
	"encoding/json"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// maxValues bounds what a manifest may have in it. One of the greatest
	// size with real descriptors in it has some 140,000.
	maxValues = 1 << 18
	// maxEscaped bounds the keys with a backslash, which cost more than others.
	maxEscaped = 1 << 10
)

// checkKeys refuses JSON in which an object has a key twice, or twice but for
// case: of these, one reader takes the first, another the last, and Go takes
// "Digest" for "digest". Keys of annotations are the user's own and may
// differ in case. It also refuses what has more in it than any manifest.
func checkKeys(text string) error {
	s := scanner{text: text}
	return s.check("")
}

// scanner steps through a text that is valid JSON, and so need not look at
// more than what begins and ends things. It keeps nothing of what it has
// passed but the keys of open objects: what is hostile has a million of
// everything.
type scanner struct {
	text    string
	at      int
	keys    []string
	values  int
	escaped int
}

// members calls f for each member of the object that the text is, with the
// JSON of the value. It is false if the text is no object.
func (s *scanner) members(f func(key, value string)) bool {
	s.space()
	if s.text[s.at] != '{' {
		return false
	}
	for s.at++; s.more(); {
		key := s.key()
		from := s.at
		s.skip()
		f(key, s.text[from:s.at])
	}
	return true
}

// check reads one value, which stands under key.
func (s *scanner) check(key string) error {
	if s.values++; s.values > maxValues {
		return Errorf(ManifestInvalid, "manifest has more than %d values in it", maxValues)
	}
	s.space()
	switch s.text[s.at] {
	case '{':
		return s.checkObject(key)
	case '[':
		for s.at++; s.more(); {
			if err := s.check(key); err != nil {
				return err
			}
		}
	default:
		s.skip()
	}
	return nil
}

func (s *scanner) checkObject(in string) error {
	first := len(s.keys)
	for s.at++; s.more(); {
		key := s.key()
		if s.escaped > maxEscaped {
			return Errorf(ManifestInvalid, "manifest has more than %d field names with a backslash", maxEscaped)
		}
		same := key
		if in != "annotations" {
			same = fold(key)
		}
		s.keys = append(s.keys, same)
		if err := s.check(key); err != nil {
			return err
		}
	}
	mine := s.keys[first:]
	slices.Sort(mine)
	for i := 1; i < len(mine); i++ {
		if mine[i-1] == mine[i] {
			return Errorf(ManifestInvalid, "manifest has the field %q twice in one object", clip(mine[i]))
		}
	}
	s.keys = s.keys[:first]
	return nil
}

// space steps over white space.
func (s *scanner) space() {
	for s.at < len(s.text) && s.text[s.at] <= ' ' {
		s.at++
	}
}

// more steps to the next element of what is open, or out of it.
func (s *scanner) more() bool {
	for s.text[s.at] <= ' ' || s.text[s.at] == ',' {
		s.at++
	}
	if c := s.text[s.at]; c != ']' && c != '}' {
		return true
	}
	s.at++
	return false
}

// key steps over a key with its colon, and returns what encoding/json makes of
// it; as it is written if it is one of too many with a backslash.
func (s *scanner) key() string {
	from := s.at
	s.skipString()
	quoted := s.text[from:s.at]
	s.space()
	s.at++
	if !strings.Contains(quoted, `\`) {
		return strings.Map(func(r rune) rune { return r }, quoted[1:len(quoted)-1]) // Replaces what is no UTF-8.
	}
	if s.escaped++; s.escaped > maxEscaped {
		return quoted
	}
	var key string
	_ = json.Unmarshal([]byte(quoted), &key) // It is valid.
	return key
}

func (s *scanner) skipString() {
	for s.at++; s.text[s.at] != '"'; s.at++ {
		if s.text[s.at] == '\\' {
			s.at++
		}
	}
	s.at++
}

// skip steps over a value, up to what ends it.
func (s *scanner) skip() {
	for depth := 0; s.at < len(s.text); {
		switch c := s.text[s.at]; {
		case c == '"':
			s.skipString()
			continue
		case c == '{' || c == '[':
			depth++
		case depth == 0 && (c == ',' || c == '}' || c == ']'):
			return
		case c == '}' || c == ']':
			depth--
		}
		s.at++
	}
}

// fold makes one of all that encoding/json takes for the same key, ſ and K too.
func fold(key string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || r < utf8.RuneSelf && (r < 'A' || r > 'Z') {
			return r
		}
		return unicode.ToLower(unicode.ToUpper(r))
	}, key)
}
