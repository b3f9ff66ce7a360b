//go:build unix

package serve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/store"
)

// scrape reads what m says with the parser of Prometheus, and checks its form.
func scrape(t *testing.T, h http.Handler, path string) map[string]*dto.MetricFamily {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
	if rec.Code != 200 {
		t.Fatalf("%d %s", rec.Code, rec.Body)
	}
	text := rec.Body.String()
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if p.Metric == "registry_notifications_pending_total" { // As registry:2 calls it.
			continue
		}
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// values are the values of a family by its labels; of a histogram the count.
func values(f *dto.MetricFamily) map[string]float64 {
	all := map[string]float64{}
	for _, m := range f.GetMetric() {
		var labels []string
		for _, l := range m.GetLabel() {
			labels = append(labels, l.GetName()+"="+l.GetValue())
		}
		value := m.GetCounter().GetValue() + m.GetGauge().GetValue()
		if h := m.GetHistogram(); h != nil {
			value = float64(h.GetSampleCount())
		}
		all[strings.Join(labels, " ")] = value
	}
	return all
}

func wantValues(t *testing.T, all map[string]*dto.MetricFamily, name string, want map[string]float64) {
	t.Helper()
	if got := values(all[name]); !maps.Equal(got, want) {
		t.Errorf("%s:\n%v, want\n%v", name, got, want)
	}
}

// Requests are counted under the names and labels of registry:2.
func TestMetricsCountRequests(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	digests := ocitest.Push(t, reg, testContent)
	m := NewMetrics()
	s := newServer(t, reg, Options{Metrics: m})
	s.do("GET", "/v2/", "")
	s.do("GET", "/v2/app/manifests/v1", "")
	s.do("GET", "/v2/app/manifests/v1", "")
	s.do("HEAD", "/v2/app/manifests/nothing", "")
	s.do("GET", "/v2/app/blobs/"+string(digests["long"]), "")
	s.do("POST", "/v2/app/blobs/uploads/?digest="+string(digests["abc"]), "abc")
	s.do("GET", "/v2/app/tags/list", "")
	s.do("GET", "/v2/_catalog", "")
	s.do("GET", "/somewhere/else", "")
	s.do("BREW", "/v2/", "")
	s.do("BREW2", "/v2/", "")
	eventually(t, func() bool { // An answer may arrive before it is counted.
		sum := 0.0
		for _, n := range values(scrape(t, m.Handler(), "/")["registry_http_requests_total"]) {
			sum += n
		}
		return sum == 11
	})
	all := scrape(t, m.Handler(), "/")
	wantValues(t, all, "registry_http_requests_total", map[string]float64{
		"code=200 handler=base method=get": 1, "code=200 handler=manifest method=get": 2, "code=404 handler=manifest method=head": 1,
		"code=200 handler=blob method=get": 1, "code=201 handler=blob_upload method=post": 1, "code=200 handler=tags method=get": 1,
		"code=200 handler=catalog method=get": 1, "code=404 handler=none method=get": 1, "code=405 handler=base method=other": 2,
	})
	took := values(all["registry_http_request_duration_seconds"])
	if took["handler=manifest method=get"] != 2 || took["handler=manifest method=head"] != 1 || len(took) != 9 {
		t.Errorf("%v", took)
	}
	for _, n := range values(all["registry_http_in_flight_requests"]) {
		if n != 0 {
			t.Errorf("under way: %v", values(all["registry_http_in_flight_requests"]))
		}
	}
	if got := values(all["registry_http_response_size_bytes"])["handler=blob"]; got != 1 {
		t.Errorf("%v", got)
	}
	wantValues(t, all, "regctl_received_bytes_total", map[string]float64{"": 3})
	if out := values(all["regctl_sent_bytes_total"])[""]; out < 1000 {
		t.Errorf("sent %v", out)
	}
}

// lazy is a registry whose manifests take their time.
type lazy struct {
	oci.Registry
	begun, end chan struct{}
}

func (l lazy) Manifest(context.Context, string, string) (oci.Manifest, error) {
	close(l.begun)
	<-l.end
	return oci.Manifest{}, oci.Errorf(oci.ManifestUnknown, "none")
}

func TestMetricsCountWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	m, l := NewMetrics(), lazy{begun: make(chan struct{}), end: make(chan struct{})}
	h := NewHandler(l, Options{Metrics: m})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/v2/app/manifests/v1", nil))
	}()
	<-l.begun
	if n := values(scrape(t, m.Handler(), "/")["registry_http_in_flight_requests"])["handler=manifest"]; n != 1 {
		t.Errorf("%v under way", n)
	}
	close(l.end)
	<-ended
	if n := values(scrape(t, m.Handler(), "/")["registry_http_in_flight_requests"])["handler=manifest"]; n != 0 {
		t.Errorf("%v under way", n)
	}
}

func TestMetricsCountRefusedLogins(t *testing.T) {
	t.Parallel()
	m := NewMetrics()
	h := NewHandler(broken{ocitest.NewRegistry(), oci.Errorf(oci.Unauthorized, "no")}, Options{Metrics: m})
	for _, login := range []string{"", "Basic dTpw", "Basic dTpw"} {
		r := httptest.NewRequest("GET", "/v2/app/manifests/v1", nil)
		if login != "" {
			r.Header.Set("Authorization", login)
		}
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	wantValues(t, scrape(t, m.Handler(), "/"), "regctl_auth_failures_total", map[string]float64{"": 2})
}

// TestMetricsCountNoNewTokens: a client that goes and gets another token has
// refused nobody.
func TestMetricsCountNoNewTokens(t *testing.T) {
	t.Parallel()
	m := NewMetrics()
	s := newAsking(t, public(), Options{Metrics: m})
	narrow := s.tokenFor("alice:alice's", "repository:app:pull")
	s.want("narrow", s.do("POST", "/v2/app/blobs/uploads/", "", sayToken(narrow)...), 401)
	s.clock.pass(time.Hour)
	s.want("expired", s.do("GET", "/v2/", "", sayToken(narrow)...), 401)
	s.want("none", s.do("GET", "/v2/", ""), 401)
	wantValues(t, scrape(t, m.Handler(), "/"), "regctl_auth_failures_total", map[string]float64{"": 0})
	s.want("bad", s.do("GET", "/v2/", "", sayToken("x")...), 401)
	s.want("wrong", s.do("GET", "/v2/_token", "", sayPassword("alice:x")...), 401)
	s.want("wrong", s.do("POST", "/v2/_token", "username=alice&password=x", "Content-Type", "application/x-www-form-urlencoded"), 401)
	wantValues(t, scrape(t, m.Handler(), "/"), "regctl_auth_failures_total", map[string]float64{"": 3})
}

func TestMetricsCountCollections(t *testing.T) {
	t.Parallel()
	at := time.Unix(1e9, 0)
	report := gc.Report{
		Before: gc.Count{N: 10, Bytes: 1000},
		Removed: map[gc.Kind]gc.Count{
			gc.KindData: {N: 3, Bytes: 300}, gc.KindManifest: {N: 2}, gc.KindUpload: {N: 1, Bytes: 50},
		},
	}
	frozen, doubtful := report, report
	frozen.Frozen = []gc.Frozen{{Repo: "a"}}
	doubtful.Doubts = []string{"a directory"}
	m := NewMetrics()
	m.upkeep.measured = at.Add(-time.Hour)
	read := func() (runs, size map[string]float64) {
		all := scrape(t, m.Handler(), "/")
		return values(all["regctl_gc_runs_total"]), map[string]float64{"bytes": float64(m.upkeep.size.Bytes), "n": float64(m.upkeep.size.N)}
	}
	m.collected(report, true, time.Second, at, nil)
	if runs, size := read(); runs["result=done"] != 0 || size["bytes"] != 1000 || size["n"] != 10 {
		t.Errorf("a dry run: %v %v", runs, size)
	}
	m.collected(report, false, time.Second, at, nil)
	m.collected(frozen, false, time.Second, at, nil)
	m.collected(doubtful, false, time.Second, at, nil)
	m.collected(gc.Report{}, false, time.Second, at, context.Canceled)
	m.collected(gc.Report{}, false, time.Second, at, ErrStopping)
	m.collected(gc.Report{}, false, 7*time.Second, at.Add(time.Hour), fmt.Errorf("disk"))
	runs, size := read()
	if want := map[string]float64{"result=done": 1, "result=frozen": 2, "result=failed": 1, "result=stopped": 2}; !maps.Equal(runs, want) {
		t.Errorf("%v, want %v", runs, want)
	}
	if size["bytes"] != 700 || size["n"] != 7 {
		t.Errorf("%v", size)
	}
	all := scrape(t, m.Handler(), "/")
	wantValues(t, all, "regctl_gc_freed_bytes_total", map[string]float64{"": 3 * 350})
	wantValues(t, all, "regctl_gc_removed_total", map[string]float64{"": 3 * 6})
	wantValues(t, all, "regctl_gc_last_duration_seconds", map[string]float64{"": 7})
	wantValues(t, all, "regctl_gc_last_run_timestamp_seconds", map[string]float64{
		"result=done": 1e9, "result=frozen": 1e9, "result=stopped": 1e9, "result=failed": 1e9 + 3600,
	})
}

// watched is a configuration in which everything can be counted.
const watched = `
version: 0.1
storage: {delete: {enabled: true}}
http: {debug: {addr: "127.0.0.1:0", prometheus: {enabled: true, path: /numbers}}}
health: {file: [{file: /nowhere/ill}]}
notifications: {endpoints: [{name: hook, url: "http://127.0.0.1:1/"}]}
`

// All that is told of a registry on a disk can be read and has the form that
// Prometheus wants, and none of it is told on the address of the registry.
func TestMetricsOfAWholeRegistry(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "store")
	a, err := Assemble(t.Context(), Parts{Config: configured(t, watched), Dir: dir, Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Serve(ctx) }()
	if status, _, body := ask(t, a, "PUT", "/v2/app/manifests/v1", noManifests); status != 201 {
		t.Fatal(status, body)
	}
	if status, _, body := ask(t, a, "POST", "/v2/app/blobs/uploads/", ""); status != 202 {
		t.Fatal(status, body)
	}
	for _, path := range []string{"/numbers", "/metrics", "/debug/health", "/debug/vars", "/debug/pprof/"} {
		if status, _, _ := ask(t, a, "GET", path, ""); status != 404 {
			t.Errorf("%s on the address of the registry: %d", path, status)
		}
	}
	eventually(t, func() bool { // The first look at what is healthy is under way.
		return len(a.Addrs()) == 1 && get(t, a.Debug().String(), "/debug/health").status == 200
	})
	remote := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := get(t, a.Debug().String(), r.URL.Path)
		w.WriteHeader(got.status)
		fmt.Fprint(w, got.body)
	})
	if _, err := a.upkeep.keeper.collect(t.Context(), CollectRequest{Options: gc.Options{Older: -1, Uploads: -1, Undo: -1}}, nil); err != nil {
		t.Fatal(err)
	}
	all := scrape(t, remote, "/numbers")
	for name, want := range map[string]map[string]float64{
		"regctl_build_info":           {"version=1.2.3": 1},
		"regctl_read_only":            {"": 0},
		"regctl_uploads":              {"": 1},
		"regctl_store_objects":        {"": 1},
		"regctl_store_bytes":          {"": float64(len(noManifests))},
		"regctl_gc_runs_total":        {"result=done": 1, "result=frozen": 0, "result=failed": 0, "result=stopped": 0},
		"regctl_health_check_failing": {"check=/nowhere/ill": 0},
	} {
		wantValues(t, all, name, want)
	}
	if n := values(all["regctl_leases"])[""]; n < 1 {
		t.Errorf("%v leases", n)
	}
	actions := values(all["registry_storage_action_seconds"])
	for _, action := range []string{"Stat", "Reader", "GetContent", "Writer", "List", "Move", "Delete", "Commit", "Sync"} {
		if _, ok := actions["action="+action+" driver=filesystem"]; !ok {
			t.Errorf("%s is not measured: %v", action, actions)
		}
	}
	if n := actions["action=Commit driver=filesystem"]; n < 1 {
		t.Errorf("a push of %v commits", n)
	}
	for _, name := range []string{
		"go_goroutines", "process_start_time_seconds", "registry_notifications_events_total", "registry_notifications_pending_total",
		"regctl_store_counted_timestamp_seconds", "promhttp_metric_handler_errors_total",
	} {
		if all[name] == nil {
			t.Errorf("no %s among %v", name, slices.Sorted(maps.Keys(all)))
		}
	}
	namedInReadme(t, all)
	debugAt := a.Debug().String()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := http.Get("http://" + debugAt + "/debug/health"); err == nil {
		t.Error("the debug address answers after the end")
	}
}

// namedInReadme wants what the README tells people to watch.
func namedInReadme(t *testing.T, all map[string]*dto.MetricFamily) {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\b(registry|regctl)_[a-z_]+[a-z]\b`).FindAllString(string(text), -1)
	if len(names) < 8 {
		t.Errorf("found only %v", names)
	}
	for _, name := range names {
		if elsewhere := name == "regctl_certificate_expiry_timestamp_seconds" || name == "regctl_gc_last_run_timestamp_seconds"; all[name] == nil && !elsewhere {
			t.Errorf("the README tells of %s", name)
		}
	}
}

// Until when the certificate is valid is told, if there is one.
func TestMetricsTellTheCertificate(t *testing.T) {
	t.Parallel()
	end := time.Unix(2e9, 0)
	for _, test := range []struct {
		c    *tls.Config
		want map[string]float64
	}{
		{nil, map[string]float64{}},
		{&tls.Config{}, map[string]float64{}},
		{certified(nil, errors.New("no")), map[string]float64{}},
		{certified(&tls.Certificate{Leaf: &x509.Certificate{NotAfter: end}}, nil), map[string]float64{"": 2e9}},
	} {
		m := NewMetrics()
		m.registry.MustRegister(&sources{metrics: m, live: &live{}, tls: test.c})
		wantValues(t, scrape(t, m.Handler(), "/"), "regctl_certificate_expiry_timestamp_seconds", test.want)
	}
}

func certified(c *tls.Certificate, err error) *tls.Config {
	return &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c, err }}
}

// get asks another address than that of the registry.
func get(t *testing.T, addr, path string) answer {
	t.Helper()
	s := &server{t: t, url: "http://" + addr, addr: addr}
	return s.do("GET", path, "")
}

// Without the metrics nothing is counted, and their path is not there.
func TestNoMetrics(t *testing.T) {
	t.Parallel()
	for _, c := range []string{
		"http: {debug: {addr: '127.0.0.1:0'}}",
		"",
	} {
		if m := wantedMetrics(configured(t, "version: 0.1\nstorage: {inmemory: {}}\n"+c)); m != nil {
			t.Errorf("%s: metrics", c)
		}
	}
	var none *Metrics
	rec := httptest.NewRecorder()
	none.Handler().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if rec.Code != 404 {
		t.Error(rec.Code)
	}
	rec = httptest.NewRecorder()
	newDebugHandler(config.Debug{}, NewMetrics(), nil).ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	if rec.Code != 404 {
		t.Errorf("they are off: %d", rec.Code)
	}
}

// The size of a store is counted once a server has come to rest, and then once
// a day, unless a collection did it.
func TestSizeIsCounted(t *testing.T) {
	t.Parallel()
	var said logBuffer
	ctx, cancel := context.WithCancel(t.Context())
	s, ok := openStore(t, mem.New()).(*store.Store)
	if !ok {
		t.Fatal("no store")
	}
	ocitest.Push(t, s, testContent)
	m := NewMetrics()
	now, waits := time.Unix(1e9, 0), 0
	after := func(d time.Duration) <-chan time.Time {
		now, waits = now.Add(d), waits+1
		if waits == 60*25 {
			cancel()
		}
		fired := make(chan time.Time, 1)
		fired <- now
		return fired
	}
	var counted []time.Time
	m.measure(ctx, s, clock{func() time.Time {
		if at := m.upkeep.measured; !at.IsZero() && (len(counted) == 0 || !counted[len(counted)-1].Equal(at)) {
			counted = append(counted, at)
		}
		return now
	}, after}, said.text())
	if len(counted) != 2 || !counted[0].Equal(time.Unix(1e9+60, 0)) || counted[1].Sub(counted[0]) != 24*time.Hour {
		t.Errorf("counted at %v", counted)
	}
	if m.upkeep.size.N < 6 || m.upkeep.size.Bytes < 1000 {
		t.Errorf("%+v", m.upkeep.size)
	}
}
