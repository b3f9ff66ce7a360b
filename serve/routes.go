package serve

import "net/http"

// Route is an endpoint of the API.
type Route struct {
	// Methods are those with the same meaning: "GET, HEAD".
	Methods string

	// Path is a path, with what varies in angle brackets. That of the API is
	// below http.prefix.
	Path string

	// Of says where it is defined: by the distribution specification ("spec"),
	// by registry:2, or here ("regctl").
	Of string

	// Statuses are those of answers, but for [CommonStatuses].
	Statuses []int
}

const (
	ofSpec      = "spec"
	ofRegistry2 = "registry:2"
	ofRegctl    = "regctl"
)

// CommonStatuses are those that any request may be answered with: a path or a
// parameter that is malformed, a login that is missing or may not, a method that
// the path does not take or that is switched off, too many requests at once, a
// fault of ours, no room, and not now.
func CommonStatuses() []int {
	return []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusInsufficientStorage,
	}
}

// Routes returns every endpoint at the address of the registry, in the order of
// the specification. OPTIONS, which each path takes, is not among the methods.
func Routes() []Route {
	var routes []Route
	for f, methods := range methodsOf {
		for i, m := range methods {
			if i > 0 && methods[i-1].kind == m.kind {
				routes[len(routes)-1].Methods += ", " + m.method
				continue
			}
			routes = append(routes, m.kind.route(form(f), m.method))
		}
	}
	return routes
}

func (k kind) route(f form, method string) Route {
	of, statuses := k.answers()
	if f == formRoot {
		of = ofRegctl
	}
	return Route{Methods: method, Path: f.path(), Of: of, Statuses: statuses}
}

// path is how paths of a form look.
func (f form) path() string {
	const name = "/v2/<name>"
	switch f {
	case formRoot:
		return "/, /_ping"
	case formPing:
		return "/v2/"
	case formHealth:
		return "/healthz"
	case formReady:
		return "/readyz"
	case formCatalog:
		return "/v2/_catalog"
	case formDeletions:
		return "/v2/_regctl/deletions"
	case formToken:
		return "/v2/_token"
	case formTags:
		return name + "/tags/list"
	case formDetails:
		return name + "/_regctl/tags"
	case formManifest:
		return name + "/manifests/<tag or digest>"
	case formBlob:
		return name + "/blobs/<digest>"
	case formUploads:
		return name + "/blobs/uploads/"
	case formUpload:
		return name + "/blobs/uploads/<id>"
	case formReferrers:
		return name + "/referrers/<digest>"
	case formRepo:
		return name
	}
	return ""
}

// answers says who defines a kind of request, and its statuses.
func (k kind) answers() (of string, statuses []int) {
	switch k {
	case kindPing:
		return ofSpec, []int{http.StatusOK}
	case kindHealth, kindReady:
		return ofRegctl, []int{http.StatusOK}
	case kindBlobGet:
		return ofSpec, []int{http.StatusOK, http.StatusPartialContent, http.StatusNotModified, http.StatusNotFound,
			http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable}
	case kindBlobHead:
		return ofSpec, []int{http.StatusOK, http.StatusNotModified, http.StatusNotFound, http.StatusPreconditionFailed}
	case kindManifestGet, kindManifestHead:
		return ofSpec, []int{http.StatusOK, http.StatusNotModified, http.StatusNotFound}
	case kindManifestPut:
		return ofSpec, []int{http.StatusCreated, http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge,
			http.StatusRequestURITooLong}
	case kindManifestDelete:
		return ofSpec, []int{http.StatusAccepted, http.StatusNotFound, http.StatusPreconditionFailed}
	case kindRepoDelete:
		return ofRegctl, []int{http.StatusAccepted, http.StatusNotFound}
	case kindBlobDelete:
		return ofSpec, []int{http.StatusAccepted, http.StatusNotFound}
	case kindUploadStart:
		return ofSpec, []int{http.StatusCreated, http.StatusAccepted}
	case kindUploadChunk:
		return ofSpec, []int{http.StatusAccepted, http.StatusNotFound, http.StatusConflict, http.StatusRequestedRangeNotSatisfiable}
	case kindUploadFinish:
		return ofSpec, []int{http.StatusCreated, http.StatusNotFound, http.StatusConflict, http.StatusRequestedRangeNotSatisfiable}
	case kindUploadStatus:
		return ofSpec, []int{http.StatusNoContent, http.StatusNotFound}
	case kindUploadCancel:
		return ofSpec, []int{http.StatusNoContent, http.StatusNotFound, http.StatusConflict}
	case kindTags:
		return ofSpec, []int{http.StatusOK, http.StatusNotFound}
	case kindReferrers:
		return ofSpec, []int{http.StatusOK}
	case kindTokenGet, kindTokenPost:
		return ofRegctl, []int{http.StatusOK, http.StatusNotFound}
	case kindCatalog:
		return ofRegistry2, []int{http.StatusOK}
	case kindTagDetails, kindDeletions:
		return ofRegctl, []int{http.StatusOK, http.StatusNotFound}
	}
	return "", nil
}

// DebugRoutes returns the endpoints at http.debug.addr.
func DebugRoutes() []Route {
	ok := []int{http.StatusOK}
	return []Route{
		{"GET", "/debug/health", ofRegistry2, []int{http.StatusOK, http.StatusServiceUnavailable}},
		{"GET", "/debug/vars", ofRegistry2, ok},
		{"GET", "/debug/pprof/", ofRegistry2, ok},
		{"GET", "/metrics", ofRegistry2, ok},
	}
}

// ControlRoutes returns the endpoints of the socket .regctl/control.sock in the
// directory of the registry, which only its owner reaches.
func ControlRoutes() []Route {
	look := []int{http.StatusOK, http.StatusUnauthorized}
	run := []int{http.StatusOK, http.StatusBadRequest, http.StatusUnauthorized}
	return []Route{
		{"GET", "/", ofRegctl, look},
		{"POST", "/gc", ofRegctl, run},
		{"POST", "/check", ofRegctl, run},
		{"GET", "/events", ofRegctl, look},
		{"POST", "/events/test", ofRegctl, run},
		{"POST", "/events/retry", ofRegctl, run},
		{"POST", "/tokens/create", ofRegctl, run},
		{"POST", "/tokens/list", ofRegctl, run},
		{"POST", "/tokens/revoke", ofRegctl, run},
	}
}
