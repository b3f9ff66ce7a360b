package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// watched is a server that can be scraped.
type watched struct {
	*server
	debug string
}

// startWatched serves a new directory by the program called name, with one
// configuration for both.
func startWatched(t *testing.T, name string) watched {
	t.Helper()
	addr, debug := freeAddr(t), freeAddr(t)
	file := filepath.Join(t.TempDir(), "config.yml")
	text := fmt.Sprintf(`version: 0.1
log: {level: info, formatter: logstash, fields: {service: registry, environment: test}}
storage:
  filesystem: {rootdirectory: %q}
  cache: {blobdescriptor: inmemory}
  delete: {enabled: true}
http: {addr: %q, debug: {addr: %q, prometheus: {enabled: true, path: /metrics}}}
health: {storagedriver: {enabled: true, interval: 10s, threshold: 3}}
`, t.TempDir(), addr, debug)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	bin := name
	if name == "regctl" {
		var err error
		if bin, err = regctl(); err != nil {
			t.Fatal(err)
		}
	} else {
		bin = peer(t, name)
	}
	cmd := exec.Command(bin, "serve", file)
	cmd.Env = []string{"HOME=" + t.TempDir()}
	return watched{start(t, cmd, addr), debug}
}

// traffic asks for something of everything that registry:2 counts.
func (w watched) traffic(t *testing.T) {
	t.Helper()
	do := func(method, path, body string, want int) http.Header {
		t.Helper()
		if strings.HasPrefix(path, "/") {
			path = w.url("%s", path)
		}
		r, err := http.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(path, "/manifests/") {
			r.Header.Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
			r.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json")
		}
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		said, _ := io.ReadAll(res.Body)
		if res.StatusCode != want {
			t.Fatalf("%s %s: %d %s", method, path, res.StatusCode, said)
		}
		return res.Header
	}
	place := func(h http.Header) string {
		at := h.Get("Location")
		if strings.HasPrefix(at, "/") {
			at = w.url("%s", at)
		}
		return at
	}
	d := digest.FromString("{}")
	at := place(do("POST", "/v2/a/b/blobs/uploads/", "", 202))
	at = place(do("PATCH", at, "{}", 202))
	mark := "?"
	if strings.Contains(at, "?") {
		mark = "&"
	}
	do("PUT", at+mark+"digest="+d.String(), "", 201)
	do("GET", "/v2/a/b/blobs/"+d.String(), "", 200)
	do("HEAD", "/v2/a/b/blobs/"+d.String(), "", 200)
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",`+
		`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},"layers":[]}`, d)
	do("PUT", "/v2/a/b/manifests/v1", manifest, 201)
	do("GET", "/v2/a/b/manifests/v1", "", 200)
	do("HEAD", "/v2/a/b/manifests/v1", "", 200)
	do("GET", "/v2/a/b/manifests/none", "", 404)
	do("GET", "/v2/a/b/tags/list", "", 200)
	do("GET", "/v2/_catalog", "", 200)
	do("DELETE", "/v2/a/b/manifests/"+digest.FromString(manifest).String(), "", 202)
}

func (w watched) scrape(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	res, err := http.Get("http://" + w.debug + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	all, err := parser.TextToMetricFamilies(res.Body)
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res.Status, err)
	}
	return all
}

// labelled are the values of a family by their labels, in the order of names;
// of a histogram the count.
func labelled(f *dto.MetricFamily) map[string]float64 {
	all := map[string]float64{}
	for _, m := range f.GetMetric() {
		var labels []string
		for _, l := range m.GetLabel() {
			labels = append(labels, l.GetName()+"="+l.GetValue())
		}
		slices.Sort(labels)
		all[strings.Join(labels, " ")] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	return all
}

// notOurs are names and labels that docker-registry has and we do not.
var notOurs = map[string]string{
	"registry_storage_cache_total": "there is no cache of descriptors that could miss: what is known of a repository is in memory",
	"go_memstats_gc_cpu_fraction":  "the client library of Prometheus has it no more",
	"go_memstats_lookups_total":    "the client library of Prometheus has it no more: it was always 0",
	"action=PutContent":            "what is written is Writer and Commit, which waits for the device",
	"action=URLFor":                "nothing is redirected to another server",
}

// Whoever watches registry:2 by its metrics watches us by the same: every name
// that it has is here with the same type, the same labels and, for the same
// requests, the same values, or there is a reason why not.
func TestMetricsAsTheirs(t *testing.T) {
	t.Parallel()
	peer(t, "docker-registry")
	theirs, ours := startWatched(t, "docker-registry"), startWatched(t, "regctl")
	theirs.traffic(t)
	ours.traffic(t)
	them, us := theirs.scrape(t), ours.scrape(t)
	for _, name := range slices.Sorted(maps.Keys(them)) {
		switch {
		case notOurs[name] != "":
			if us[name] != nil {
				t.Errorf("%s is here though there is a reason why not", name)
			}
		case us[name] == nil:
			t.Errorf("no %s", name)
		case us[name].GetType() != them[name].GetType():
			t.Errorf("%s is a %s, not a %s", name, us[name].GetType(), them[name].GetType())
		}
	}
	for _, name := range []string{
		"registry_http_requests_total", "registry_http_request_duration_seconds", "registry_http_in_flight_requests",
		"registry_http_request_size_bytes", "registry_http_response_size_bytes",
	} {
		a, b := labelled(them[name]), labelled(us[name])
		for labels, value := range a {
			if strings.Contains(labels, "handler=base") && value > 0 { // How often each was asked whether it is up.
				continue
			}
			if got, ok := b[labels]; !ok || got != value {
				t.Errorf("%s{%s} is %v, theirs %v", name, labels, got, value)
			}
		}
	}
	name := "registry_storage_action_seconds"
	for labels := range labelled(them[name]) {
		action, _, _ := strings.Cut(labels, " ")
		if _, ok := labelled(us[name])[labels]; ok == (notOurs[action] != "") {
			t.Errorf("%s{%s}", name, labels)
		}
	}
}

// notLogged are fields of a line of docker-registry that ours have not.
var notLogged = map[string]string{
	"go.version":                "`regctl version` tells",
	"http.response.contenttype": "it says what was asked for",
	"http.request.contenttype":  "it says what was asked for",
	"vars.reference":            "it is in http.request.uri",
	"vars.digest":               "it is in http.request.uri",
}

// The line of a request has the names that the formatter logstash of registry:2
// gives, with the same values.
func TestLogstashAsTheirs(t *testing.T) {
	t.Parallel()
	peer(t, "docker-registry")
	var lines [2]map[string]any
	for i, name := range []string{"docker-registry", "regctl"} {
		w := startWatched(t, name)
		r, err := http.NewRequest("GET", w.url("/v2/_catalog?n=7"), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("User-Agent", "watcher/1")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		w.await(t, func() error {
			for line := range strings.Lines(w.log.String()) {
				if strings.Contains(line, "watcher/1") && strings.HasPrefix(line, "{") {
					return json.Unmarshal([]byte(line), &lines[i])
				}
			}
			return fmt.Errorf("no line yet")
		})
	}
	theirs, ours := lines[0], lines[1]
	for _, key := range slices.Sorted(maps.Keys(theirs)) {
		_, have := ours[key]
		if have == (notLogged[key] != "") {
			t.Errorf("%s: %v", key, ours)
		}
	}
	for _, key := range []string{"@version", "level", "message", "http.request.method", "http.request.useragent", "http.response.status"} {
		if ours[key] != theirs[key] || ours[key] == nil {
			t.Errorf("%s is %v, theirs %v", key, ours[key], theirs[key])
		}
	}
	if ours["service"] != "registry" || ours["environment"] != "test" {
		t.Errorf("fields of the configuration: %v", ours)
	}
}
