package serve

import (
	"crypto/tls"
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/regctl/regctl/serve/event"
	"github.com/regctl/regctl/serve/store"
)

// sources are what is asked when the metrics are read. Each must answer at
// once. Nil: there is none.
type sources struct {
	metrics  *Metrics
	store    *store.Store
	live     *live
	health   *Health
	notifier *event.Notifier
	tls      *tls.Config
	version  string
}

// Describe is of [prometheus.Collector]: what there is depends.
func (s *sources) Describe(chan<- *prometheus.Desc) {}

// Collect is of [prometheus.Collector].
func (s *sources) Collect(out chan<- prometheus.Metric) {
	gauge := func(name, help string, value float64, labels ...string) {
		out <- constant(prometheus.GaugeValue, name, help, value, labels...)
	}
	gauge("regctl_build_info", "Which regctl this is.", 1, "version", s.version)
	gauge("regctl_read_only", "1 while nothing is taken.", truth(s.live.readOnly.Load()))
	if s.store != nil {
		gauge("regctl_uploads", "Unfinished uploads that are known.", float64(s.store.Uploads()))
		gauge("regctl_leases", "Things that were used lately, which a collection leaves alone.", float64(s.store.Leases()))
	}
	u := s.metrics.upkeep
	u.mu.Lock()
	size, measured := u.size, u.measured
	u.mu.Unlock()
	if !measured.IsZero() {
		gauge("regctl_store_bytes", "Bytes of data in the store when they were last counted.", float64(size.Bytes))
		gauge("regctl_store_objects", "Files of data in the store when they were last counted.", float64(size.N))
		gauge("regctl_store_counted_timestamp_seconds", "When the data in the store was last counted.", seconds(measured))
	}
	if at, ok := until(s.tls); ok {
		gauge("regctl_certificate_expiry_timestamp_seconds", "When the certificate ends.", seconds(at))
	}
	if s.health != nil {
		failing := map[string]bool{}
		for _, c := range s.health.checks {
			failing[c.name] = false
		}
		for _, ill := range s.health.Ill() {
			failing[ill.Check] = true
		}
		for _, name := range slices.Sorted(maps.Keys(failing)) {
			gauge("regctl_health_check_failing", "1 while a health check fails.", truth(failing[name]), "check", name)
		}
	}
	s.collectEvents(out)
}

// collectEvents tells of notifications, as registry:2 does since 3.0.
func (s *sources) collectEvents(out chan<- prometheus.Metric) {
	if s.notifier == nil {
		return
	}
	for _, e := range s.notifier.Stats() {
		count := func(kind string, n int64) {
			out <- constant(prometheus.CounterValue, "registry_notifications_events_total",
				"Notifications by what became of them. Errors: attempts without an answer.", float64(n), "type", kind, "endpoint", e.Endpoint)
		}
		count("Events", e.Events)
		count("Successes", e.Successes)
		count("Failures", e.Failures)
		count("Errors", e.Errors)
		count("Dropped", e.Dropped)
		count("GivenUp", e.GivenUp)
		for _, status := range slices.Sorted(maps.Keys(e.Statuses)) {
			out <- constant(prometheus.CounterValue, "registry_notifications_status_total",
				"Answers of endpoints.", float64(e.Statuses[status]), "code", status, "endpoint", e.Endpoint)
		}
		out <- constant(prometheus.GaugeValue, "registry_notifications_pending_total",
			"Notifications that wait to be delivered.", float64(e.Pending), "endpoint", e.Endpoint)
	}
}

// constant is a metric with a value. Labels are names and values in turn.
func constant(kind prometheus.ValueType, name, help string, value float64, labels ...string) prometheus.Metric {
	var names, values []string
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	m, err := prometheus.NewConstMetric(prometheus.NewDesc(name, help, names, nil), kind, value, values...)
	if err != nil { // A label that is no text: told, not counted.
		return prometheus.NewInvalidMetric(prometheus.NewDesc(name, help, names, nil), err)
	}
	return m
}

func truth(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
