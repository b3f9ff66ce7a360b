package main_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// BenchmarkNotifications pushes small images to three servers in turns: to one
// that tells nobody, one whose endpoint answers, and one whose endpoint is down
// all the time. An endpoint that is down must cost pushes less than 2 %, measured
// against one that answers, so down/answers must stay below 1.02; answers/nobody
// is what notifications cost at all: a durable write more for each blob and
// manifest.
func BenchmarkNotifications(b *testing.B) {
	answers := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	b.Cleanup(answers.Close)
	names := []string{"nobody", "answers", "down"}
	configs := [][]string{nil, {eventsConfig(b, "", answers.URL)}, {eventsConfig(b, "", "http://"+freeAddr(b))}}
	var servers [3]*server
	var generators [3]*generator
	for i := range names {
		servers[i] = startRegctl(b, b.TempDir(), configs[i]...)
		generators[i] = newGenerator(servers[i])
	}
	const clients, images = 4, 25
	var spent, cpu [3]time.Duration
	round := func(n, i int) error {
		var wg sync.WaitGroup
		errs := make(chan error, clients)
		for c := range clients {
			wg.Go(func() {
				for k := range images {
					at := uint64((n*clients+c)*images + k)
					if err := generators[i].image(fmt.Sprintf("bench/app%d", c), fmt.Sprintf("v%d-%d", n, k), random(at, 1000)); err != nil {
						errs <- err
						return
					}
				}
			})
		}
		wg.Wait()
		close(errs)
		return <-errs
	}
	b.ResetTimer()
	for n := range b.N {
		for k := range names {
			i := (k + n) % len(names) // Each is first as often as the others.
			before, began := servers[i].cpu(b), time.Now()
			if err := round(n, i); err != nil {
				b.Fatal(err)
			}
			spent[i] += time.Since(began)
			cpu[i] += servers[i].cpu(b) - before
		}
	}
	b.StopTimer()
	for i, name := range names {
		each := float64(b.N * clients * images)
		b.ReportMetric(each/spent[i].Seconds(), name+"-op/s")
		b.ReportMetric(float64(cpu[i]/time.Microsecond)/each, name+"-cpu-µs/op")
	}
	b.ReportMetric(spent[2].Seconds()/spent[1].Seconds(), "down/answers")
	b.ReportMetric(spent[1].Seconds()/spent[0].Seconds(), "answers/nobody")
}
