// Package serve is a registry as a server: [Assemble] makes a whole one of a
// configuration and a directory, a [Handler] is the HTTP API of the
// distribution specification over any [oci.Registry], a [Server] the life of
// the process around it.
//
// A request is parsed into a kind and names that were checked, a table leads
// from the kind to a method that returns an error, and one place writes
// errors. What the registry does with the names is none of the handler's
// business, and nothing else of the request reaches it.
package serve

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// Options say how a [Handler] answers. The zero value works.
type Options struct {
	// Log takes what an operator must know, such as the causes of answers
	// with status 500. Nil: nothing is logged.
	Log *slog.Logger

	// Access takes one line a request. Nil: none.
	Access *slog.Logger

	// Host is scheme and host as clients see them ("https://reg.example.com"),
	// with the path that goes before "/v2/" there if it is not Prefix.
	// RelativeURLs, or no Host: the header Location has paths only.
	Host         string
	RelativeURLs bool

	// Prefix is the path before "v2/" in requests. Default: "/".
	Prefix string

	// TrustedProxies are the peers that are believed when they say whose
	// request they hand on, besides those on a Unix socket.
	TrustedProxies []netip.Prefix

	// Headers are set on every answer.
	Headers http.Header

	// MaxTags and MaxRepos are the most names on a page. Default: 1000.
	MaxTags, MaxRepos int

	// Metrics count requests. Nil: nothing is counted.
	Metrics *Metrics

	// Auth tells who makes a request to the API. Nil: nobody is asked to log in.
	Auth Authenticator

	// tokens gives out tokens at /v2/_token. Nil: there are none.
	tokens *admission

	// audit records who does what. Nil: nothing is recorded.
	audit *auditLog

	// Health turns /readyz red. Nil: it stays green.
	Health *Health

	// Deletions are told to who asks. Nil: there are none.
	Deletions Deletions

	// Stall is how long a transfer may stand still. Default: one minute.
	Stall time.Duration

	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

const (
	defaultPage  = 1000
	defaultStall = time.Minute
)

// Handler is the HTTP API of a registry. Make it with [NewHandler].
type Handler struct {
	reg      oci.Registry
	o        Options
	ids      string // Begins every request id that is made here.
	count    atomic.Uint64
	draining atomic.Bool
	headers  atomic.Pointer[http.Header] // On every answer.
	site     *site
}

// NewHandler returns the HTTP API of reg. It is meant to be run by a [Server]:
// other servers must have a WriteTimeout of o.Stall, or a client that stalls
// is never thrown out.
func NewHandler(reg oci.Registry, o Options) *Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxTags <= 0 {
		o.MaxTags = defaultPage
	}
	if o.MaxRepos <= 0 {
		o.MaxRepos = defaultPage
	}
	if o.Stall <= 0 {
		o.Stall = defaultStall
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	h := &Handler{reg: reg, o: o, ids: rand.Text()[:8] + "-", site: newSite(o)}
	h.setHeaders(o.Headers)
	return h
}

// Drain makes /readyz say that the server wants no more traffic.
func (h *Handler) Drain() { h.draining.Store(true) }

// methods leads from the kind of a request to what answers it.
var methods = [...]func(*Handler, context.Context, *response, *request) error{
	kindPing:           (*Handler).ping,
	kindHealth:         (*Handler).ping,
	kindReady:          (*Handler).ready,
	kindOptions:        (*Handler).options,
	kindBlobGet:        (*Handler).getBlob,
	kindBlobHead:       (*Handler).headBlob,
	kindBlobDelete:     (*Handler).deleteBlob,
	kindManifestGet:    (*Handler).getManifest,
	kindManifestHead:   (*Handler).headManifest,
	kindManifestPut:    (*Handler).putManifest,
	kindManifestDelete: (*Handler).deleteManifest,
	kindUploadStart:    (*Handler).startUpload,
	kindUploadChunk:    (*Handler).patchUpload,
	kindUploadFinish:   (*Handler).finishUpload,
	kindUploadStatus:   (*Handler).uploadStatus,
	kindUploadCancel:   (*Handler).cancelUpload,
	kindTags:           (*Handler).tags,
	kindTagDetails:     (*Handler).tagDetails,
	kindCatalog:        (*Handler).catalog,
	kindReferrers:      (*Handler).referrers,
	kindRepoDelete:     (*Handler).deleteRepo,
	kindDeletions:      (*Handler).deletions,
	kindTokenGet:       (*Handler).tokenForQuery,
	kindTokenPost:      (*Handler).tokenForForm,
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	start := h.o.Now()
	w := newResponse(rw, r, start, h.o)
	from := h.site.origin(r)
	caller := oci.Caller{
		Addr: from.addr, Method: clip(r.Method, 16), Host: from.host, Base: from.base, RequestID: h.requestID(r), UserAgent: clip(r.UserAgent(), 256),
		Run: runOf(r), Look: r.Header.Get(purposeHeader) == purposeLook,
	}
	ctx := oci.WithCaller(r.Context(), caller)
	q, err := parse(r, h.site)
	q.body = newBody(r, w)
	h.o.Metrics.begin(q)
	defer h.o.Metrics.end(q, w, start)
	defer h.access(ctx, w, q, caller, start)
	defer func() { h.audit(ctx, w, q, err) }()
	defer func() {
		if p := recover(); p != nil {
			h.recovered(ctx, w, q, p)
		}
	}()
	header := rw.Header()
	for name, values := range *h.headers.Load() {
		header[name] = values
	}
	if h.site.isAPI(r.URL.Path) {
		header.Set("Docker-Distribution-Api-Version", "registry/2.0")
	}
	ctx, denied := h.authenticate(ctx, q)
	if denied != nil {
		err = denied // Before any other error, which may tell something.
	}
	if err == nil {
		err = methods[q.kind](h, ctx, w, q)
	}
	if err != nil {
		h.fail(ctx, w, q, err)
	}
}

// recovered ends a request whose handling panicked. The process lives on.
func (h *Handler) recovered(ctx context.Context, w *response, q *request, p any) {
	if p == http.ErrAbortHandler {
		panic(p) // Asked for by fail: net/http cuts the connection.
	}
	h.o.Log.LogAttrs(ctx, slog.LevelError, "panic while handling a request",
		slog.String("request", oci.CallerFrom(ctx).RequestID), slog.String("method", clip(q.Method, 16)),
		slog.String("path", clip(q.URL.EscapedPath(), 512)), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
	h.fail(ctx, w, q, oci.Unknown)
}

// statusGone stands in the log where the client did not wait for the answer.
const statusGone = 499

func (h *Handler) access(ctx context.Context, w *response, q *request, c oci.Caller, start time.Time) {
	log := h.o.Access
	if log == nil || !log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs,
		slog.String("method", clip(q.Method, 16)),
		slog.String("path", clip(q.URL.EscapedPath(), 512)),
		slog.Int("status", w.outcome()),
		slog.Int64("bytes", w.bytes),
		slog.Duration("duration", h.o.Now().Sub(start)),
		slog.String("client", c.Addr),
		slog.String("host", clip(c.Host, 255)),
		slog.String("agent", c.UserAgent),
		slog.String("request", c.RequestID))
	if q.kind != kindNone && q.repo != "" {
		attrs = append(attrs, slog.String("repo", q.repo))
	}
	if q.user != "" {
		attrs = append(attrs, slog.String("user", clip(q.user, 255)))
	}
	if q.denied != "" {
		attrs = append(attrs, slog.String("denied", q.denied))
	}
	if w.err != nil {
		attrs = append(attrs, slog.String("error", w.err.Error()))
	}
	log.LogAttrs(ctx, slog.LevelInfo, "request", attrs...)
}

// requestID is the client's own if it is well-formed, else a new one.
func (h *Handler) requestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); isToken(id, 64) {
		return id
	}
	return h.ids + strconv.FormatUint(h.count.Add(1), 36)
}

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}

// extensionsHeader of an answer to GET /v2/ tells a client that this registry
// knows what the distribution specification leaves open: /v2/<name>/_regctl/tags
// ("tags"), DELETE /v2/<name>/ ("repositories"), If-Match on deletes and
// If-None-Match on pushes ("conditions"), and if it keeps records
// /v2/_regctl/deletions ("deletions").
const (
	extensionsHeader = "Regctl-Extensions"
	extensions       = "tags, repositories, conditions"
	extraDeletions   = ", deletions"
)

// ping answers GET /v2/, as docker login and every client begin with it.
func (h *Handler) ping(_ context.Context, w *response, _ *request) error {
	said := extensions
	if h.o.Deletions != nil {
		said += extraDeletions
	}
	w.Header().Set(extensionsHeader, said)
	return writeJSON(w, "application/json", []byte("{}"))
}

func (h *Handler) ready(ctx context.Context, w *response, q *request) error {
	if h.draining.Load() {
		return oci.Errorf(oci.Unavailable, "the server is stopping")
	}
	if err := h.o.Health.err(); err != nil {
		return err
	}
	return h.ping(ctx, w, q)
}

func (h *Handler) options(_ context.Context, w *response, q *request) error {
	w.Header().Set("Allow", q.form.allow(""))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// location is a path of the API as it goes into the header Location.
func (h *Handler) location(parts ...string) string { return h.site.location(parts...) }

// empty answers with a status and no body.
func empty(w *response, status int) error {
	if status != http.StatusNoContent {
		w.Header().Set("Content-Length", "0")
	}
	w.WriteHeader(status)
	return nil
}

// writeJSON answers 200 with a body that is ready. What goes wrong from here on
// is kept in w: there is nobody left to tell.
func writeJSON(w *response, contentType string, body []byte) error {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
	return nil
}
