package auth

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// mostBytes is how large a file may be: some 200,000 users.
const mostBytes = 16 << 20

// File is an htpasswd file, with everything in it that is not a user.
type File struct {
	lines []line
	forms forms
}

type line struct {
	text string // With the end of the line, if it has one.
	user string
	hash hash
	what lineKind
}

type lineKind uint8

const (
	isNothing lineKind = iota // Blank, or a comment.
	isUser
	isDamage // Not empty, and without a colon.
)

// DamageError says that a line of a file is no user and no comment.
type DamageError struct{ Line int }

// Error says which line, and not what is in it: it may be a password.
func (e *DamageError) Error() string {
	return fmt.Sprintf("line %d is not of the form USER:HASH", e.Line)
}

// Parse reads a file as registry:2 does: a line is USER:HASH; blank lines and
// those that begin with # do not count; of two lines for one user the last one
// counts. The File can be edited even with an error.
// Errors: [*DamageError].
func Parse(raw []byte) (*File, error) {
	f := &File{forms: newForms()}
	var damage error
	for text := range bytes.Lines(raw) {
		l := f.parseLine(string(text))
		f.lines = append(f.lines, l)
		if l.what == isDamage && damage == nil {
			damage = &DamageError{len(f.lines)}
		}
	}
	return f, damage
}

func (f *File) parseLine(text string) line {
	l := line{text: text}
	t := strings.TrimSpace(text)
	if t == "" || t[0] == '#' {
		return l
	}
	user, encoded, ok := strings.Cut(t, ":")
	if !ok {
		l.what = isDamage
		return l
	}
	l.what, l.user, l.hash = isUser, user, f.forms.parse(encoded)
	return l
}

// ReadFile reads the file at path.
// Errors: those of the file system, [*DamageError]; with the latter there is
// a File.
func ReadFile(path string) (*File, error) {
	raw, _, err := readAll(path)
	if err != nil {
		return nil, err
	}
	f, err := Parse(raw)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return f, err
}

// readAll reads the file at path and tells what it was when it was read.
func readAll(path string) ([]byte, os.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if info.IsDir() { // As in the config file of Debian's docker-registry.
		return nil, nil, fmt.Errorf("%s is a directory; name the file of users in it, such as %s", path, filepath.Join(path, "htpasswd"))
	}
	if !info.Mode().IsRegular() { // To open a pipe would wait for who writes to it.
		return nil, nil, fmt.Errorf("%s is not a file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil { // It may have been replaced.
		return nil, nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, mostBytes+1))
	if err == nil && len(raw) > mostBytes {
		err = fmt.Errorf("%s has more than %d bytes", path, mostBytes)
	}
	return raw, info, err
}

// User is a user of a file.
type User struct {
	Name string
	Kind Kind
	Line int // From 1.
}

// Users returns the users in the order of the file, each once: where it counts.
func (f *File) Users() []User {
	last := map[string]int{}
	for i, l := range f.lines {
		if l.what == isUser {
			last[l.user] = i
		}
	}
	var users []User
	for i, l := range f.lines {
		if l.what == isUser && last[l.user] == i {
			users = append(users, User{l.user, l.hash.kind, i + 1})
		}
	}
	return users
}

// Matches tells whether password is that of user. Time tells who exists: it is
// not for a network.
func (f *File) Matches(user, password string) bool {
	for _, l := range slices.Backward(f.lines) {
		if l.what == isUser && l.user == user {
			return l.hash.matches(password)
		}
	}
	return false
}

// Set gives user the hash that [Hash] has returned, and tells whether it had
// one before.
// Errors: a name that no file can hold; a text that is no bcrypt hash.
func (f *File) Set(user, encoded string) (had bool, err error) {
	if err := CheckUser(user); err != nil {
		return false, err
	}
	if f.forms.parse(encoded).kind != Bcrypt {
		return false, fmt.Errorf("set the password of %s: not a bcrypt hash", user)
	}
	was := -1
	for i, l := range f.lines {
		if l.what == isUser && l.user == user {
			was = i
		}
	}
	fresh := f.parseLine(user + ":" + encoded + "\n")
	if was >= 0 {
		f.lines[was] = fresh
		at := 0
		f.lines = slices.DeleteFunc(f.lines, func(l line) bool {
			at++
			return at-1 != was && l.what == isUser && l.user == user
		})
		return true, nil
	}
	f.endLine()
	f.lines = append(f.lines, fresh)
	return false, nil
}

// endLine ends the last line, so that another one can follow.
func (f *File) endLine() {
	if n := len(f.lines); n > 0 && !strings.HasSuffix(f.lines[n-1].text, "\n") {
		f.lines[n-1].text += "\n"
	}
}

// Remove takes user out, and tells whether it was in.
func (f *File) Remove(user string) bool {
	n := len(f.lines)
	f.lines = slices.DeleteFunc(f.lines, func(l line) bool { return l.what == isUser && l.user == user })
	return len(f.lines) < n
}

// Bytes is the file as it is to be written.
func (f *File) Bytes() []byte {
	var b bytes.Buffer
	for _, l := range f.lines {
		b.WriteString(l.text)
	}
	return b.Bytes()
}

// CheckUser refuses names that no line can hold or no client can send: empty
// ones, those with a colon, a control character or space around them, and
// those that would be a comment.
func CheckUser(name string) error {
	bad := func(why string) error { return fmt.Errorf("the name %q %s", name, why) }
	switch {
	case name == "":
		return bad("is empty")
	case len(name) > 255:
		return fmt.Errorf("the name has %d bytes; at most 255 are taken", len(name))
	case strings.Contains(name, ":"):
		return bad("has a colon in it, which ends a name")
	case strings.HasPrefix(name, "#"):
		return bad("begins with #, which makes a comment of it")
	case strings.TrimSpace(name) != name:
		return bad("begins or ends with a space")
	}
	for _, r := range name {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == '\ufffd' {
			return bad("has a control character in it")
		}
	}
	return nil
}
