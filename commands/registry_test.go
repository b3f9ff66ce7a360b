package commands

import (
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/rogpeppe/go-internal/testscript"
)

const emptyIndex = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`

// newRegistry is somebody else's registry that holds an empty index under each
// of names, REPO:TAG or REPO:TAG=DAY for one that was made on that day.
func newRegistry(names ...string) http.Handler {
	var repos []string
	h := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	for _, name := range names {
		repo, tag, _ := strings.Cut(name, ":")
		tag, day, dated := strings.Cut(tag, "=")
		index := emptyIndex
		if dated {
			index = strings.TrimSuffix(index, "}") + `,"annotations":{"org.opencontainers.image.created":"` + day + `T00:00:00Z"}}`
		}
		req := httptest.NewRequest(http.MethodPut, "/v2/"+repo+"/manifests/"+tag, strings.NewReader(index))
		req.Header.Set("Content-Type", "application/vnd.oci.image.index.v1+json")
		h.ServeHTTP(httptest.NewRecorder(), req)
		repos = append(repos, repo)
	}
	slices.Sort(repos)
	repos = slices.Compact(repos)
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.HandleFunc("/v2/_catalog", func(w http.ResponseWriter, r *http.Request) { catalogue(w, r, repos) })
	return mux
}

// catalogue answers in order, by pages of two whatever it is asked for.
func catalogue(w http.ResponseWriter, r *http.Request, repos []string) {
	page := repos[:0:0]
	for _, repo := range repos {
		if repo <= r.URL.Query().Get("last") {
			continue
		}
		if len(page) == 2 {
			w.Header().Set("Link", `</v2/_catalog?n=2&last=`+page[1]+`>; rel="next"`)
			break
		}
		page = append(page, repo)
	}
	_ = json.NewEncoder(w).Encode(map[string][]string{"repositories": page})
}

// scriptRegistry is the command
//
//	registry [-tls] [-login USER:PASSWORD] [-status PATH=N] [-vendor WHOSE] VAR NAME...
//
// of scripts: it starts a registry that holds images NAME, and sets VAR to its
// address. It behaves as that of one of [vendors] if told so. It asks for a login, and answers for paths that contain PATH with
// status N and no body, if told so.
func scriptRegistry(ts *testscript.TestScript, neg bool, args []string) {
	flags := flag.NewFlagSet("registry", flag.ContinueOnError)
	tls := flags.Bool("tls", false, "")
	login := flags.String("login", "", "")
	status := flags.String("status", "", "")
	whose := flags.String("vendor", "", "")
	if err := flags.Parse(args); neg || err != nil || flags.NArg() == 0 {
		ts.Fatalf("usage: registry [-tls] [-login USER:PASSWORD] [-status PATH=N] VAR NAME...")
	}
	h := newRegistry(flags.Args()[1:]...)
	if path, n, ok := strings.Cut(*status, "="); ok {
		code, err := strconv.Atoi(n)
		ts.Check(err)
		h = answering(h, path, code)
	}
	if v, ok := vendors()[*whose]; ok {
		h = v.start(ts, h)
	} else if *whose != "" {
		ts.Fatalf("no vendor %q", *whose)
	}
	if *login != "" {
		h = asking(h, *login)
	}
	server := httptest.NewUnstartedServer(h)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if *tls {
		server.StartTLS()
	} else {
		server.Start()
	}
	ts.Defer(server.Close)
	ts.Setenv(flags.Arg(0), server.Listener.Addr().String())
}

func answering(h http.Handler, path string, status int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, path) {
			w.WriteHeader(status)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func asking(h http.Handler, login string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user+":"+password != login {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// scriptExits is the command
//
//	exits N regctl ARG...
//
// of scripts: it runs a command that must end with status N.
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits N COMMAND ARG...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("%s: exit status %d, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

// scriptExpand is the command
//
//	expand FILE TO
//
// of scripts: it copies a file with the variables of the script filled in.
func scriptExpand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: expand FILE TO")
	}
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o600))
}
