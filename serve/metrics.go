package serve

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics count what a registry does: under the names of registry:2 where it
// has them, else under regctl_. Make them with [NewMetrics]. Nil counts
// nothing, and every method may be called on it.
type Metrics struct {
	registry *prometheus.Registry
	handler  http.Handler
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
	routes   [len(methodsOf)]*route
	in, out  prometheus.Counter
	refused  prometheus.Counter
	upkeep   *upkeepMetrics
}

// route is what is counted of one sort of path: found once, as to find it by
// its labels costs more than to count.
type route struct {
	name     string // As in registry:2.
	inFlight prometheus.Gauge
	took     [len(methodNames)]atomic.Pointer[prometheus.Observer]
	received prometheus.Observer
	sent     prometheus.Observer
	answers  [len(methodNames)][len(statusCodes)]atomic.Pointer[prometheus.Counter]
}

// methodNames are the values of the label method; what is not among them is
// the last one, as anybody can send any.
var methodNames = [...]string{"get", "head", "put", "post", "patch", "delete", "options", "other"}

// methodIndex is the place of a method in methodNames.
func methodIndex(method string) int {
	switch method {
	case http.MethodGet:
		return 0
	case http.MethodHead:
		return 1
	case http.MethodPut:
		return 2
	case http.MethodPost:
		return 3
	case http.MethodPatch:
		return 4
	case http.MethodDelete:
		return 5
	case http.MethodOptions:
		return 6
	}
	return len(methodNames) - 1
}

// statusCodes are those whose counters are remembered; others are looked up.
var statusCodes = [...]int{
	200, 201, 202, 204, 206, 304, 307, 400, 401, 403, 404, 405, 409, 412, 413, 416, 429, statusGone, 500, 503, 507,
}

// statusIndex is the place of a status in statusCodes, negative if it has none.
func statusIndex(status int) int {
	for i, s := range statusCodes {
		if s == status {
			return i
		}
	}
	return -1
}

// routeName is the label handler of a form of path.
func routeName(f form) string {
	switch f {
	case formNone:
		return "none"
	case formRoot:
		return "root"
	case formPing:
		return "base"
	case formCatalog:
		return "catalog"
	case formDeletions:
		return "deletions"
	case formToken:
		return "token"
	case formTags:
		return "tags"
	case formDetails:
		return "tag_details"
	case formManifest:
		return "manifest"
	case formBlob:
		return "blob"
	case formUploads:
		return "blob_upload"
	case formUpload:
		return "blob_upload_chunk"
	case formReferrers:
		return "referrers"
	case formRepo:
		return "repository"
	}
	return "health"
}

// NewMetrics returns metrics that have counted nothing yet.
func NewMetrics() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.addRequests()
	m.addUpkeep()
	m.handler = promhttp.InstrumentMetricHandler(m.registry, promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry}))
	return m
}

// addRequests makes what is counted of requests.
func (m *Metrics) addRequests() {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		m.registry.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
		m.registry.MustRegister(v)
		return v
	}
	m.in = counter("regctl_received_bytes_total", "Bytes of the bodies of requests.")
	m.out = counter("regctl_sent_bytes_total", "Bytes of the bodies of answers.")
	m.refused = counter("regctl_auth_failures_total", "Requests whose login was refused.")
	m.requests = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "registry_http_requests_total", Help: "HTTP requests that were answered; code 499: the client did not wait.",
	}, []string{"handler", "method", "code"})
	inFlight := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "registry_http_in_flight_requests", Help: "HTTP requests under way.",
	}, []string{"handler"})
	m.registry.MustRegister(m.requests, inFlight)
	m.took = histogram("registry_http_request_duration_seconds", "How long HTTP requests took.",
		[]float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 25, 60}, "handler", "method")
	sizes := prometheus.ExponentialBuckets(1024, 2, 22)
	received := histogram("registry_http_request_size_bytes", "Bytes of the body of a request.", sizes, "handler")
	sent := histogram("registry_http_response_size_bytes", "Bytes of the body of an answer.", sizes, "handler")

	named := map[string]*route{}
	for f := range m.routes {
		name := routeName(form(f))
		r, ok := named[name]
		if !ok {
			r = &route{
				name: name, inFlight: inFlight.WithLabelValues(name),
				received: received.WithLabelValues(name), sent: sent.WithLabelValues(name),
			}
			named[name] = r
		}
		m.routes[f] = r
	}
}

// Handler answers with all that was counted, as Prometheus reads it.
func (m *Metrics) Handler() http.Handler {
	if m == nil {
		return http.NotFoundHandler()
	}
	return m.handler
}

// begin counts a request that is under way.
func (m *Metrics) begin(q *request) {
	if m != nil {
		m.routes[q.form].inFlight.Inc()
	}
}

// end counts a request that is over.
func (m *Metrics) end(q *request, w *response, start time.Time) {
	if m == nil {
		return
	}
	r, method, status := m.routes[q.form], methodIndex(q.Method), w.outcome()
	r.inFlight.Dec()
	m.answered(r, method, status).Inc()
	m.lasted(r, method).Observe(w.now().Sub(start).Seconds())
	r.received.Observe(float64(q.body.n))
	r.sent.Observe(float64(w.bytes))
	m.in.Add(float64(q.body.n))
	m.out.Add(float64(w.bytes))
	if status == http.StatusUnauthorized && !q.again && (q.form == formToken || q.Header.Get("Authorization") != "") {
		m.refused.Inc()
	}
}

// answered is the counter of answers with a status.
func (m *Metrics) answered(r *route, method, status int) prometheus.Counter {
	i := statusIndex(status)
	if i >= 0 {
		if c := r.answers[method][i].Load(); c != nil {
			return *c
		}
	}
	c := m.requests.WithLabelValues(r.name, methodNames[method], strconv.Itoa(status))
	if i >= 0 {
		r.answers[method][i].Store(&c)
	}
	return c
}

// lasted takes how long requests of a method took. What never came is not
// told: it would be most of the lines.
func (m *Metrics) lasted(r *route, method int) prometheus.Observer {
	if o := r.took[method].Load(); o != nil {
		return *o
	}
	o := m.took.WithLabelValues(r.name, methodNames[method])
	r.took[method].Store(&o)
	return o
}
