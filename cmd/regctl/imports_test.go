package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/regctl/regctl"

// policy says which packages of this module a package may import. The left
// side is a folder, or all folders below one with "/*"; the most exact line
// counts. Tests may import anything.
//
// Do not change it to make the test pass: it is the design.
const policy = `
client/oci          <
client/oci/*        < client/oci
client              < client/oci
client/layout       < client/oci
client/transfer     < client/oci
client/prune        < client/oci gc
gc                  < client/oci

serve/storage       <
serve/storage/*     < serve/storage
serve/storage/file/* < serve/storage serve/storage/*
serve/auth          < client/oci serve/auth/rule
serve/auth/rule     < client/oci
serve/auth/*        < client/oci serve/auth serve/auth/rule
serve/state         < client/oci
serve/event         < client/oci serve/state
serve/meta          < client/oci serve/storage
serve/store         < client/oci serve/storage gc serve/meta serve/state
serve/mirror        < client/oci client
serve/web           < client/oci serve/auth
serve/config        < serve/auth/rule
serve/cert          <
serve               < client/oci gc serve/*

commands            < client client/* gc serve serve/*
cmd/regctl          < commands
`

// outside says what nobody else may import.
var outside = map[string][]string{
	"modernc.org/sqlite":                     {"serve/state"},
	"database/sql":                           {"serve/state"},
	"github.com/spf13/cobra":                 {"commands"},
	"github.com/spf13/pflag":                 {"commands"},
	"flag":                                   {},
	"github.com/go-jose/go-jose/v4":          {"serve/auth/token"},
	"github.com/go-ldap/ldap/v3":             {"serve/auth/ldap"},
	"github.com/google/go-containerregistry": {"client"},
}

// standardOnly may import the standard library and, of modules, only these.
var standardOnly = map[string][]string{
	"client/oci":    {"github.com/opencontainers/go-digest", "github.com/opencontainers/image-spec/specs-go/v1"},
	"serve/storage": {},
}

func TestImports(t *testing.T) {
	t.Parallel()
	rules := parsePolicy(t, policy)
	for dir, imports := range packages(t, false) {
		allowed, ok := ruleFor(rules, dir)
		if !ok {
			t.Errorf("%s: no line of the policy is about it", dir)
		}
		for path := range imports {
			ours, isOurs := strings.CutPrefix(path, module+"/")
			if isOurs && !slices.ContainsFunc(allowed, func(pattern string) bool { return covers(pattern, ours) }) {
				t.Errorf("%s must not import %s", dir, ours)
			}
			if only, ok := standardOnly[dir]; ok && !isOurs && strings.Contains(path, ".") && !slices.Contains(only, path) {
				t.Errorf("%s must not import %s", dir, path)
			}
			for theirs, who := range outside {
				if (path == theirs || strings.HasPrefix(path, theirs+"/")) && !slices.Contains(who, dir) {
					t.Errorf("%s must not import %s", dir, path)
				}
			}
		}
	}
}

// TestPolicy checks the checker.
func TestPolicy(t *testing.T) {
	t.Parallel()
	rules := parsePolicy(t, policy)
	for _, c := range []struct {
		from, to string
		want     bool
	}{
		{"client", "client/oci", true}, {"client", "gc", false}, {"serve/storage/file", "serve/storage", true},
		{"serve/storage/file", "client/oci", false}, {"serve/storage", "client/oci", false}, {"serve", "serve/store", true},
		{"serve", "commands", false}, {"serve", "client", false}, {"commands", "serve/storage/file", true},
		{"serve/storage/file/filetest", "serve/storage", true}, {"cmd/regctl", "serve", false},
	} {
		allowed, ok := ruleFor(rules, c.from)
		got := slices.ContainsFunc(allowed, func(pattern string) bool { return covers(pattern, c.to) })
		if !ok || got != c.want {
			t.Errorf("%s < %s: got %v", c.from, c.to, got)
		}
	}
	if _, ok := ruleFor(rules, "util"); ok {
		t.Error("the policy allows a folder util")
	}
}

// TestPackageDocs wants a comment that tells the one idea of every package.
func TestPackageDocs(t *testing.T) {
	t.Parallel()
	for dir := range packages(t, false) {
		files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		documented := 0
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			if f.Doc != nil {
				documented++
			}
		}
		if documented != 1 {
			t.Errorf("%s: %d files have a package comment, want 1", dir, documented)
		}
	}
}

// TestTopLevel keeps the top of the tree as the design has it.
func TestTopLevel(t *testing.T) {
	t.Parallel()
	for dir := range packages(t, true) {
		top, _, _ := strings.Cut(dir, "/")
		if !slices.Contains([]string{"cmd", "commands", "client", "gc", "serve"}, top) {
			t.Errorf("%s: no place for a package", dir)
		}
		for part := range strings.SplitSeq(dir, "/") {
			if slices.Contains([]string{"internal", "pkg", "util", "utils", "common", "helpers"}, part) {
				t.Errorf("%s: no name for a package", dir)
			}
		}
	}
}

const root = "../.."

// packages leads from the folders of this module that hold Go files to what
// these import.
func packages(t *testing.T, tests bool) map[string]map[string]bool {
	t.Helper()
	found := map[string]map[string]bool{}
	err := fs.WalkDir(os.DirFS(root), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != "." && (name == "testdata" || strings.HasPrefix(name, ".") || name == "dist") {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") || !tests && strings.HasSuffix(name, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, path), nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		if found[dir] == nil {
			found[dir] = map[string]bool{}
		}
		for _, spec := range f.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			found[dir][imported] = true
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < 8 {
		t.Fatalf("only %d packages were found", len(found))
	}
	return found
}

func parsePolicy(t *testing.T, text string) map[string][]string {
	t.Helper()
	rules := map[string][]string{}
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" {
			continue
		}
		left, right, ok := strings.Cut(line, "<")
		left = strings.TrimSpace(left)
		if !ok || rules[left] != nil {
			t.Fatalf("policy: %q", line)
		}
		rules[left] = append([]string{}, strings.Fields(right)...)
	}
	return rules
}

// ruleFor returns what the most exact line about dir allows.
func ruleFor(rules map[string][]string, dir string) (allowed []string, ok bool) {
	if allowed, ok = rules[dir]; ok {
		return allowed, true
	}
	for _, pattern := range slices.Backward(slices.Sorted(maps.Keys(rules))) {
		if strings.HasSuffix(pattern, "/*") && covers(pattern, dir) {
			return rules[pattern], true
		}
	}
	return nil, false
}

func covers(pattern, dir string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(dir, prefix)
	}
	return pattern == dir
}
