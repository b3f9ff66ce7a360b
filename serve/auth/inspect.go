package auth

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
)

// Problem is a complaint about an htpasswd file.
type Problem struct {
	Line  int // From 1. 0: about the file as a whole.
	Text  string
	Fatal bool // A server does not start with it.
}

// String is where and what.
func (p Problem) String() string {
	if p.Line == 0 {
		return p.Text
	}
	return fmt.Sprintf("line %d: %s", p.Line, p.Text)
}

// Inspect tells what is wrong with the htpasswd file at path, or will surprise
// its owner. No problem tells a password or a hash.
func Inspect(path string) []Problem {
	raw, info, err := readAll(path)
	if errors.Is(err, fs.ErrNotExist) {
		return []Problem{{Text: "there is no such file: a server makes it, with a user docker whose password it logs once"}}
	}
	if err != nil {
		return []Problem{{Text: err.Error(), Fatal: true}}
	}
	f, _ := Parse(raw) // What is damaged is among the problems.
	return append(inspectMode(info), f.Problems()...)
}

func inspectMode(info os.FileInfo) []Problem {
	if runtime.GOOS == "windows" || info.Mode().Perm()&0o004 == 0 {
		return nil
	}
	return []Problem{{Text: fmt.Sprintf("every user of this machine can read it (mode %04o): chmod o= it", info.Mode().Perm())}}
}

// Problems is what [Inspect] finds in the lines of f.
func (f *File) Problems() []Problem {
	var found []Problem
	seen := map[string]int{}
	for i, l := range f.lines {
		add := func(fatal bool, format string, args ...any) {
			found = append(found, Problem{i + 1, fmt.Sprintf(format, args...), fatal})
		}
		switch l.what {
		case isNothing:
			continue
		case isDamage:
			add(true, "it is not of the form USER:HASH")
			continue
		}
		if l.user == "" {
			add(false, "the name is empty: nobody can log in with it")
			continue
		}
		if before, twice := seen[l.user]; twice {
			add(false, "%s stands in line %d already; this line counts", l.user, before)
		}
		seen[l.user] = i + 1
		switch why := l.hash.kind.Refused(); {
		case why != "":
			add(false, "%s cannot log in: %s; give it a new password: regctl htpasswd add FILE %s", l.user, why, l.user)
		case l.hash.kind == APR1:
			add(false, "%s has an MD5 hash, which registry:2 never lets in: regctl htpasswd add FILE %s makes it bcrypt", l.user, l.user)
		case l.hash.kind != Bcrypt:
			add(false, "%s has a %s hash, which registry:2 never lets in; only bcrypt", l.user, l.hash.kind)
		}
	}
	if len(seen) == 0 {
		found = append(found, Problem{Text: "there is no user in it: nobody can log in"})
	}
	return found
}
