package commands

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// vendor is what sets a public registry apart from the reference, as far as
// clients stumble over it.
type vendor struct {
	refuse   func(w http.ResponseWriter, r *http.Request) bool // Answers for the registry.
	grant    func(scopes []string) ([]string, int)             // What a token is for; not 200: no token.
	ownToken bool                                              // Tokens come from the registry's own address.
	basic    string                                            // USER:PASSWORD instead of tokens.
}

// vendors are the registries that people use, by their names in scripts.
func vendors() map[string]vendor {
	all := func(scopes []string) ([]string, int) { return scopes, http.StatusOK }
	return map[string]vendor{
		// Docker Hub: no catalogue, tokens from another host, a quota.
		"hub": {grant: all, refuse: func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("RateLimit-Limit", "100;w=21600")
			w.Header().Set("RateLimit-Remaining", "95;w=21600")
			if strings.HasPrefix(r.URL.Path, "/v2/limited/") {
				w.Header().Set("RateLimit-Remaining", "0;w=21600")
				w.Header().Set("Retry-After", "3600")
				w.WriteHeader(http.StatusTooManyRequests)
				_, _ = io.WriteString(w, "Too Many Requests (HAP429)")
				return true
			}
			return isCatalogue(r) && refused(w, http.StatusNotFound, "NOT_FOUND")
		}},
		// GHCR deletes nothing by this API.
		"ghcr": {grant: all, ownToken: true, refuse: func(w http.ResponseWriter, r *http.Request) bool {
			return (isCatalogue(r) || r.Method == http.MethodDelete) && refused(w, http.StatusMethodNotAllowed, "UNSUPPORTED")
		}},
		// ECR: Basic, and no more than 1000 at a time.
		"ecr": {basic: "AWS:secret", refuse: func(w http.ResponseWriter, r *http.Request) bool {
			n, err := strconv.Atoi(r.URL.Query().Get("n"))
			return err == nil && n > 1000 && refused(w, http.StatusBadRequest, "UNSUPPORTED")
		}},
		// Harbor removes tags by its own API only, and asks for a login where a
		// mount is from a project that is not there.
		"harbor": {grant: all, ownToken: true, refuse: func(w http.ResponseWriter, r *http.Request) bool {
			_, ref, isManifest := strings.Cut(r.URL.Path, "/manifests/")
			switch {
			case r.Method == http.MethodDelete && isManifest && !strings.Contains(ref, ":"):
				return refused(w, http.StatusMethodNotAllowed, "UNSUPPORTED")
			case r.Method == http.MethodPost && r.URL.Query().Has("mount"):
				return refused(w, http.StatusUnauthorized, "UNAUTHORIZED")
			}
			return false
		}},
		// GitLab: no catalogue, and of two scopes a token for the last.
		"gitlab": {
			grant: func(scopes []string) ([]string, int) { return scopes[max(0, len(scopes)-1):], http.StatusOK },
			refuse: func(w http.ResponseWriter, r *http.Request) bool {
				return isCatalogue(r) && refused(w, http.StatusUnauthorized, "UNAUTHORIZED")
			},
		},
		// Quay knows no scope called delete.
		"quay": {ownToken: true, grant: func(scopes []string) ([]string, int) {
			if slices.ContainsFunc(scopes, func(s string) bool { return strings.Contains(s, "delete") }) {
				return nil, http.StatusBadRequest
			}
			return scopes, http.StatusOK
		}},
	}
}

func isCatalogue(r *http.Request) bool { return r.URL.Path == "/v2/_catalog" }

func refused(w http.ResponseWriter, status int, code string) bool {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"not here"}]}`, code)
	return true
}

// start runs the vendor's registry in front of h until the script ends, and
// returns what serves it.
func (v vendor) start(ts *testscript.TestScript, h http.Handler) http.Handler {
	served := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if v.refuse != nil && v.refuse(w, r) {
			return
		}
		if repo, digest, ok := strings.Cut(r.URL.Path, "/manifests/sha256:"); ok && r.Method == http.MethodDelete {
			dropTags(h, repo, "sha256:"+digest)
		}
		h.ServeHTTP(w, r)
	})
	if v.basic != "" {
		return asking(served, v.basic)
	}
	tokens := http.HandlerFunc(v.token)
	realm := "" // On the host that was asked.
	if !v.ownToken {
		server := httptest.NewUnstartedServer(tokens)
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.Start()
		ts.Defer(server.Close)
		realm = server.URL
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			tokens(w, r)
		case !v.allows(r):
			at := realm
			if at == "" {
				at = "http://" + r.Host
			}
			challenge := fmt.Sprintf(`Bearer realm="%s/token",service="test"`, at)
			if scope := neededScope(r); scope != "" {
				challenge += fmt.Sprintf(`,scope="%s"`, scope)
			}
			w.Header().Set("WWW-Authenticate", challenge)
			refused(w, http.StatusUnauthorized, "UNAUTHORIZED")
		default:
			served(w, r)
		}
	})
}

// dropTags removes the tags of a manifest, as registries do that remove it.
// That of go-containerregistry leaves them.
func dropTags(h http.Handler, repo, digest string) {
	call := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, repo+path, http.NoBody))
		return w
	}
	var list struct{ Tags []string }
	_ = json.Unmarshal(call(http.MethodGet, "/tags/list").Body.Bytes(), &list)
	for _, tag := range list.Tags {
		if call(http.MethodHead, "/manifests/"+tag).Header().Get("Docker-Content-Digest") == digest {
			call(http.MethodDelete, "/manifests/"+tag)
		}
	}
}

// token hands out the scopes themselves, so that the registry can read them.
func (v vendor) token(w http.ResponseWriter, r *http.Request) {
	var scopes []string
	for _, s := range r.URL.Query()["scope"] {
		scopes = append(scopes, strings.Fields(s)...)
	}
	granted, status := v.grant(scopes)
	if status != http.StatusOK {
		refused(w, status, "DENIED")
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"token": "for " + strings.Join(granted, " "), "expires_in": 300})
}

// neededScope is repository:NAME:ACTION, "" for what anybody with a token may.
func neededScope(r *http.Request) string {
	path := strings.TrimPrefix(r.URL.Path, "/v2/")
	for _, part := range []string{"/manifests/", "/blobs/", "/tags/", "/referrers/", "/_regctl/"} {
		if repo, _, ok := strings.Cut(path, part); ok {
			switch r.Method {
			case http.MethodGet, http.MethodHead:
				return "repository:" + repo + ":pull"
			case http.MethodDelete:
				return "repository:" + repo + ":push" // Or delete, or *.
			}
			return "repository:" + repo + ":push"
		}
	}
	return ""
}

func (v vendor) allows(r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer for ")
	if !ok {
		return false
	}
	need := neededScope(r)
	if need == "" {
		return true
	}
	repo, action := need[:strings.LastIndexByte(need, ':')], need[strings.LastIndexByte(need, ':')+1:]
	for scope := range strings.FieldsSeq(token) {
		actions, ok := strings.CutPrefix(scope, repo+":")
		has := strings.Split(actions, ",")
		if ok && (slices.Contains(has, action) || slices.Contains(has, "*") || r.Method == http.MethodDelete && slices.Contains(has, "delete")) {
			return true
		}
	}
	return false
}
