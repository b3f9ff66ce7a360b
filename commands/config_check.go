package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/regctl/regctl/serve/cert"
	"github.com/regctl/regctl/serve/config"
)

// complaint is a line of `config check`.
type complaint struct {
	Level string `json:"level"` // error, warning or note.
	Where string `json:"where"`
	Text  string `json:"text"`
}

func (c complaint) String() string {
	if c.Where == "" {
		return c.Level + ": " + c.Text
	}
	return c.Level + ": " + c.Where + ": " + c.Text
}

func runConfigCheck(_ context.Context, env *Env, o *configOptions) error {
	format, err := parseFormat(o.Output)
	if err != nil {
		return err
	}
	name, raw, err := env.configFile(o.Config)
	if err != nil {
		return err
	}
	all := env.checkConfig(name, raw)
	p := newPrinter(env.Stdout, format, "regctl.config-check/v1", "", nil)
	count := map[string]int{}
	for _, c := range all {
		count[c.Level]++
		if err := p.add(c, c.String(), nil); err != nil {
			return err
		}
	}
	if err := p.end(); err != nil {
		return err
	}
	bad := count["error"] > 0 || o.Strict && count["warning"] > 0
	verdict := "a server starts with it"
	if count["error"] > 0 {
		verdict = "no server starts with it"
	}
	env.say("%s: %s, %s: %s", o.called(name), some(count["error"], "error"), some(count["warning"], "warning"), verdict)
	if bad {
		return &ExitError{Status: exitUsage}
	}
	return nil
}

func some(n int, what string) string {
	switch n {
	case 0:
		return "no " + what
	case 1:
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// checkConfig is all that is wrong with a configuration, line by line, and then
// with what it names.
func (e *Env) checkConfig(name string, raw []byte) []complaint {
	c, warnings, faults := config.Inspect(name, raw, e.Environ)
	l := &complaints{env: e, c: c}
	for _, p := range faults {
		l.add("error", p.Where, "%s", p.Text)
	}
	for _, p := range warnings {
		l.add("warning", p.Where, "%s", p.Text)
	}
	slices.SortStableFunc(l.all, func(a, b complaint) int { return cmp.Compare(lineOf(a.Where), lineOf(b.Where)) })
	l.tls()
	l.auth()
	l.token()
	l.ldap()
	l.audit()
	for _, p := range c.Lint() {
		l.add("warning", p.Where, "%s", p.Text)
	}
	l.strangers()
	if !slices.ContainsFunc(faults, func(p config.Problem) bool { return strings.HasPrefix(p.Text, "storage.") }) { // Else it is unknown where it is.
		l.store()
	}
	l.socket()
	return l.all
}

// lineOf is the line of a place in a file; what is in no file comes after it.
func lineOf(where string) int {
	if i := strings.LastIndexByte(where, ':'); i >= 0 {
		if line, err := strconv.Atoi(where[i+1:]); err == nil {
			return line
		}
	}
	return math.MaxInt
}

// complaints gathers them.
type complaints struct {
	env *Env
	c   *config.Config
	all []complaint
}

func (l *complaints) add(level, where, format string, args ...any) {
	l.all = append(l.all, complaint{level, where, fmt.Sprintf(format, args...)})
}

// of adds a complaint about what a key names.
func (l *complaints) of(level, key, format string, args ...any) {
	l.add(level, l.c.Said(key), format, args...)
}

func (l *complaints) tls() {
	t := l.c.HTTP.TLS
	if t.Certificate != "" {
		for _, p := range cert.Inspect(cert.Pair{Certificate: t.Certificate, Key: t.Key}, l.env.Now()) {
			key := "http.tls.certificate"
			if p.File == t.Key {
				key = "http.tls.key"
			}
			l.of(p.Level.String(), key, "%s", p)
		}
	}
	for _, file := range t.ClientCAs {
		for _, p := range cert.InspectCAs(file, l.env.Now()) {
			l.of(p.Level.String(), "http.tls.clientcas", "%s", p)
		}
	}
}

// store looks at the directory of the store, as far as that changes nothing.
func (l *complaints) store() {
	const key = "storage.filesystem.rootdirectory"
	if l.c.Storage.InMemory {
		return
	}
	place, err := l.env.storePlace(&serveOptions{}, l.c)
	if err != nil {
		l.of("error", key, "%v", err)
		return
	}
	info, err := os.Stat(place.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if above := existing(place.Path); canWrite(above) != nil {
			l.of("error", key, "%s is not there, and %s is not writable for this user", place.Path, above)
		} else {
			l.of("note", key, "%s is not there, and will be made", place.Path)
		}
		return
	case err != nil:
		l.of("error", key, "%v", err)
		return
	case !info.IsDir():
		l.of("error", key, "%s is no directory", place.Path)
		return
	}
	if err := canWrite(place.Path); err != nil {
		l.of("error", key, "%s is not writable for this user: %v", place.Path, err)
	}
	if _, err := os.Stat(filepath.Join(place.Path, "docker", "registry", "lockfiles", "database-in-use")); err == nil {
		l.of("error", key, "%s is another product's: a database knows what it holds (docker/registry/lockfiles/database-in-use)", place.Path)
	}
	if !place.Found {
		l.strange(key, place.Path)
	}
}

// strange warns of a directory that holds something, and no registry.
func (l *complaints) strange(key, dir string) {
	entries, _ := os.ReadDir(dir) // What cannot be read, another complaint is about.
	for _, entry := range entries {
		if name := entry.Name(); name != "docker" && name != "lost+found" && !strings.HasPrefix(name, ".") {
			l.of("warning", key, "%s holds no registry, but %s: is it the right directory? A registry has docker/registry/v2 in it", dir, name)
			return
		}
	}
}

func (l *complaints) socket() {
	if l.c.HTTP.Network != "unix" || len(l.c.HTTP.Addrs) == 0 {
		return
	}
	dir := filepath.Dir(l.c.HTTP.Addrs[0])
	if err := canWrite(dir); err != nil {
		l.of("error", "http.addr", "the socket cannot be made in %s: %v", dir, err)
	}
}

// existing is the nearest directory above path that is there.
func existing(path string) string {
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
	}
}
