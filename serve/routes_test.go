package serve

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/regctl/regctl/serve/config"
)

// wantDocumented holds what a request of any test was answered with against
// what the documentation says of it.
func wantDocumented(t testing.TB, method, path string, status int) {
	t.Helper()
	path, _, _ = strings.Cut(path, "?")
	path, err := unescape(path)
	if err != nil {
		return
	}
	f := locate(path).form
	k := f.kind(method)
	if k == kindNone || k == kindOptions {
		return
	}
	_, statuses := k.answers()
	if !slices.Contains(slices.Concat(statuses, CommonStatuses()), status) {
		t.Errorf("%s %s is answered %d, of which the documentation says nothing", method, path, status)
	}
}

// TestRoutes: every kind of request is in the documentation once, with all that
// is said of it.
func TestRoutes(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, r := range Routes() {
		for method := range strings.SplitSeq(r.Methods, ", ") {
			at := method + " " + r.Path
			if seen[at] || r.Path == "" || r.Of == "" || len(r.Statuses) == 0 || !slices.IsSorted(r.Statuses) {
				t.Errorf("%s: %+v", at, r)
			}
			seen[at] = true
			example := strings.NewReplacer("<name>", "team/app", "<tag or digest>", "v1", "<digest>", "sha256:"+strings.Repeat("0", 64), "<id>", "abc", ", /_ping", "").Replace(r.Path)
			if k := locate(example).form.kind(method); k == kindNone {
				t.Errorf("%s: there is no %s", at, example)
			}
		}
	}
	n := 0
	for _, methods := range methodsOf {
		n += len(methods)
	}
	if len(seen) != n || n < 20 {
		t.Errorf("%d methods and paths are documented, of %d", len(seen), n)
	}
}

// muxPatterns finds what is registered on a mux.
var muxPatterns = regexp.MustCompile(`mux\.Handle(?:Func)?\("(?:(\w+) )?([^"]*)"`)

// TestOtherRoutes: what is registered for the debug port and the control socket
// is documented, and the other way round.
func TestOtherRoutes(t *testing.T) {
	t.Parallel()
	registered := map[string][]string{}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		which := "control"
		if file == "debug.go" {
			which = "debug"
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, m := range muxPatterns.FindAllStringSubmatch(string(raw), -1) {
			if m[2] == "/" { // What is left over.
				continue
			}
			registered[which] = append(registered[which], strings.TrimSuffix(m[2], "{$}"))
		}
	}
	registered["debug"] = append(registered["debug"], "/metrics") // Its path is configured.
	for which, routes := range map[string][]Route{"debug": DebugRoutes(), "control": ControlRoutes()} {
		for _, at := range registered[which] {
			if !slices.ContainsFunc(routes, func(r Route) bool { return covers(r.Path, at) }) {
				t.Errorf("%s: %s is not documented", which, at)
			}
		}
		for _, r := range routes {
			if !slices.ContainsFunc(registered[which], func(at string) bool { return covers(r.Path, at) }) {
				t.Errorf("%s: there is no %s", which, r.Path)
			}
		}
	}
}

// covers tells whether the documented path is that of a pattern: all of pprof
// is one line.
func covers(documented, pattern string) bool {
	return documented == pattern || documented != "/" && strings.HasSuffix(documented, "/") && strings.HasPrefix(pattern, documented)
}

// TestDebugRoutes asks for each, but not for a profile.
func TestDebugRoutes(t *testing.T) {
	t.Parallel()
	h := newDebugHandler(config.Debug{Prometheus: true}, NewMetrics(), nil)
	for _, r := range DebugRoutes() {
		if r.Path == "/debug/health" {
			continue // It has tests of its own, with checks.
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, r.Path, nil))
		if !slices.Contains(r.Statuses, w.Code) {
			t.Errorf("%s is answered %d", r.Path, w.Code)
		}
	}
}
