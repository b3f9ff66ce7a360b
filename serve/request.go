package serve

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/auth"
)

// kind is what a request asks for: one endpoint. The numbers are those of the
// distribution specification, "Endpoints".
type kind uint8

const (
	kindNone           kind = iota // No such endpoint.
	kindPing                       // end-1 and the root: is this a registry?
	kindBlobGet                    // end-2
	kindBlobHead                   // end-2
	kindManifestGet                // end-3
	kindManifestHead               // end-3
	kindUploadStart                // end-4a, 4b (?digest=), 4c (?digest-algorithm=), 11 (?mount=)
	kindUploadChunk                // end-5
	kindUploadFinish               // end-6
	kindManifestPut                // end-7a, 7b (?tag=)
	kindTags                       // end-8a, 8b (?n=&last=)
	kindManifestDelete             // end-9
	kindBlobDelete                 // end-10
	kindReferrers                  // end-12a, 12b (?artifactType=)
	kindUploadStatus               // end-13
	kindUploadCancel               // end-14
	kindCatalog                    // Of registry:2, not in the specification.
	kindRepoDelete                 // Ours.
	kindTagDetails                 // Ours.
	kindDeletions                  // Ours: what was deleted.
	kindHealth                     // Ours: the process answers.
	kindReady                      // Ours: it wants traffic.
	kindTokenGet                   // Ours: a token for who asks by a query.
	kindTokenPost                  // The same by a form.
	kindOptions                    // Which methods a path takes.
)

// form is a form of path.
type form uint8

const (
	formNone form = iota
	formRoot      // What is at the top tells no more than a ping.
	formPing
	formHealth
	formReady
	formCatalog
	formDeletions // /v2/_regctl/deletions
	formToken     // /v2/_token
	formTags      // /v2/<name>/tags/list
	formDetails   // /v2/<name>/_regctl/tags
	formManifest  // /v2/<name>/manifests/<tag-or-digest>
	formBlob      // /v2/<name>/blobs/<digest>
	formUploads   // /v2/<name>/blobs/uploads/
	formUpload    // /v2/<name>/blobs/uploads/<id>
	formReferrers // /v2/<name>/referrers/<digest>
	formRepo      // /v2/<name>
)

type methodKind struct {
	method string
	kind   kind
}

// methodsOf says which methods a form of path takes, and what they ask for.
var methodsOf = [...][]methodKind{
	formNone:      nil,
	formRoot:      {{"GET", kindPing}, {"HEAD", kindPing}},
	formPing:      {{"GET", kindPing}, {"HEAD", kindPing}},
	formHealth:    {{"GET", kindHealth}, {"HEAD", kindHealth}},
	formReady:     {{"GET", kindReady}, {"HEAD", kindReady}},
	formCatalog:   {{"GET", kindCatalog}, {"HEAD", kindCatalog}},
	formDeletions: {{"GET", kindDeletions}, {"HEAD", kindDeletions}},
	formToken:     {{"GET", kindTokenGet}, {"POST", kindTokenPost}},
	formTags:      {{"GET", kindTags}, {"HEAD", kindTags}},
	formDetails:   {{"GET", kindTagDetails}, {"HEAD", kindTagDetails}},
	formManifest:  {{"GET", kindManifestGet}, {"HEAD", kindManifestHead}, {"PUT", kindManifestPut}, {"DELETE", kindManifestDelete}},
	formBlob:      {{"GET", kindBlobGet}, {"HEAD", kindBlobHead}, {"DELETE", kindBlobDelete}},
	formUploads:   {{"POST", kindUploadStart}},
	formUpload:    {{"GET", kindUploadStatus}, {"HEAD", kindUploadStatus}, {"PATCH", kindUploadChunk}, {"PUT", kindUploadFinish}, {"DELETE", kindUploadCancel}},
	formReferrers: {{"GET", kindReferrers}, {"HEAD", kindReferrers}},
	formRepo:      {{"DELETE", kindRepoDelete}},
}

// kind returns what method asks for on a path of this form.
func (f form) kind(method string) kind {
	for _, m := range methodsOf[f] {
		if m.method == method {
			return m.kind
		}
	}
	if method == http.MethodOptions && f != formNone {
		return kindOptions
	}
	return kindNone
}

// allow is the value of the header Allow: every method but except.
func (f form) allow(except string) string {
	names := make([]string, 0, 6)
	for _, m := range methodsOf[f] {
		if m.method != except {
			names = append(names, m.method)
		}
	}
	return strings.Join(append(names, http.MethodOptions), ", ")
}

// ofAPI tells whether a form is of the API, under whose prefix it is.
func (f form) ofAPI() bool {
	switch f {
	case formRoot, formHealth, formReady:
		return false
	}
	return true
}

// target is a path taken apart.
type target struct {
	form form
	repo string
	ref  string // Tag or digest; of an upload its id.
}

// request is an HTTP request taken apart. What is in target and digest has
// been checked by its grammar if kind is set, else it may be anything.
type request struct {
	*http.Request
	target
	kind   kind
	digest oci.Digest // Empty if ref is a tag or an upload's id.

	site   *site
	user   string // Who makes it. Empty: nobody was asked.
	denied string // Why it is denied, for the log.
	again  bool   // It is answered that another token is needed: no login was refused.

	session *auth.Session // Of who makes it. Nil: nobody was asked.
	tried   string        // Who asks for a token says to be, for the audit log.

	// body is the one to read. The Body of Request stays what it was:
	// net/http looks at it when the handler is done.
	body *body
}

// parse takes r apart, which was made to a site. It returns a request even with an error, so that there
// is something to log.
func parse(r *http.Request, at *site) (*request, error) {
	q := &request{Request: r, site: at}
	path, err := unescape(r.URL.EscapedPath())
	if err != nil {
		return q, err
	}
	q.target = at.locate(path)
	kind := q.form.kind(r.Method)
	switch {
	case q.form == formNone, q.form == formRepo && kind == kindNone:
		return q, oci.Errorf(oci.NotFound, "%s", at.nowhere(path))
	case kind == kindNone:
		return q, oci.Errorf(oci.Unsupported, "this path does not take the method; it takes %s", q.form.allow(""))
	}
	if err := q.check(); err != nil {
		return q, err
	}
	q.kind = kind
	return q, nil
}

// unescape undoes percent encoding. An encoded slash is refused, as it would
// change what the path is made of. Nothing else is cleaned: no name that the
// grammar allows has "..", "//" or an encoded byte in it.
func unescape(path string) (string, error) {
	if !strings.Contains(path, "%") {
		return path, nil
	}
	clean, err := url.PathUnescape(path)
	if err != nil || strings.Count(clean, "/") != strings.Count(path, "/") {
		return "", oci.Errorf(oci.NameInvalid, "a name cannot have an encoded slash in it")
	}
	return clean, nil
}

// locate tells the form of a path. Repository names may have any number of
// slashes and parts such as "blobs", so that the end of the path decides.
func locate(path string) target {
	switch path {
	case "/", "/_ping": // The latter is of docker-registry, and of those who watched it.
		return target{form: formRoot}
	case "/v2", "/v2/":
		return target{form: formPing}
	case "/v2/_catalog":
		return target{form: formCatalog}
	case "/v2/_regctl/deletions": // No repository can be called that.
		return target{form: formDeletions}
	case "/v2/_token": // Nor that.
		return target{form: formToken}
	case "/healthz":
		return target{form: formHealth}
	case "/readyz":
		return target{form: formReady}
	}
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		return target{}
	}
	i := strings.LastIndexByte(rest, '/')
	if i < 0 {
		return target{form: formRepo, repo: rest}
	}
	return locateIn(rest, rest[:i], rest[i+1:])
}

// locateIn tells the form of what follows "/v2/": rest, which is head and last
// with a slash between them.
func locateIn(rest, head, last string) target {
	if name, ok := strings.CutSuffix(head, "/blobs/uploads"); ok {
		if last == "" {
			return target{form: formUploads, repo: name}
		}
		return target{form: formUpload, repo: name, ref: last}
	}
	if name, ok := strings.CutSuffix(head, "/manifests"); ok {
		return target{form: formManifest, repo: name, ref: last}
	}
	if name, ok := strings.CutSuffix(head, "/blobs"); ok {
		if last == "uploads" {
			return target{form: formUploads, repo: name}
		}
		return target{form: formBlob, repo: name, ref: last}
	}
	if name, ok := strings.CutSuffix(head, "/referrers"); ok {
		return target{form: formReferrers, repo: name, ref: last}
	}
	if name, ok := strings.CutSuffix(head, "/tags"); ok && last == "list" {
		return target{form: formTags, repo: name}
	}
	if name, ok := strings.CutSuffix(head, "/_regctl"); ok && last == "tags" {
		return target{form: formDetails, repo: name}
	}
	// With a slash at the end it is no name: who has lost the rest of a path
	// does not mean to delete a repository.
	return target{form: formRepo, repo: rest}
}

// check holds the parts of the path against their grammar.
func (q *request) check() error {
	switch q.form {
	case formRoot, formPing, formHealth, formReady, formCatalog, formDeletions, formToken:
		return nil
	}
	if err := oci.CheckRepo(q.repo); err != nil {
		return err
	}
	switch q.form {
	case formManifest:
		if !oci.IsDigest(q.ref) {
			return oci.CheckTag(q.ref)
		}
	case formUpload:
		return checkUploadID(q.ref)
	case formBlob, formReferrers:
	default:
		return nil
	}
	d, err := oci.ParseDigest(q.ref)
	q.digest = d
	return err
}

// checkUploadID refuses ids that no registry hands out, above all those that
// could mean something as part of a path.
func checkUploadID(id string) error {
	if isToken(id, 128) {
		return nil
	}
	return oci.Errorf(oci.BlobUploadUnknown, "no such upload")
}

// isToken tells whether s consists of 1 to most letters, digits, ".", "_" and
// "-", and begins with a letter or a digit.
func isToken(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		c := s[i]
		alnum := '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !alnum && (i == 0 || c != '.' && c != '_' && c != '-') {
			return false
		}
	}
	return true
}
