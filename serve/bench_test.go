package serve

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// BenchmarkGetManifest asks for a manifest by tag over kept-alive loopback
// connections, the client's work included.
func BenchmarkGetManifest(b *testing.B) {
	for name, o := range map[string]func() Options{
		"quiet":   func() Options { return Options{} },
		"logged":  func() Options { return Options{Access: slog.New(slog.NewJSONHandler(io.Discard, nil))} }, //nolint:sloglint // To write the line is what is measured.
		"counted": func() Options { return Options{Metrics: NewMetrics()} },
	} {
		b.Run(name, func(b *testing.B) {
			s := newServer(b, nil, o())
			benchmarkGet(b, s.addr, "/v2/app/manifests/v1")
		})
	}
}

// BenchmarkGetBlob pulls 10 MiB from a file.
func BenchmarkGetBlob(b *testing.B) {
	reg := newFiles(b, 10<<20)
	s := newServer(b, reg, Options{})
	b.SetBytes(reg.d.Size)
	benchmarkGet(b, s.addr, "/v2/app/blobs/"+string(reg.d.Digest))
}

func benchmarkGet(b *testing.B, addr, path string, headers ...string) {
	request := fmt.Appendf(nil, "GET %s HTTP/1.1\r\n%s\r\n\r\n", path, strings.Join(append(headers, "Host: x"), "\r\n"))
	b.ReportAllocs()
	b.SetParallelism(4)
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		r := bufio.NewReaderSize(c, 64<<10)
		for pb.Next() {
			if _, err := c.Write(request); err != nil {
				b.Error(err)
				return
			}
			res, err := http.ReadResponse(r, nil)
			if err != nil || res.StatusCode != 200 {
				b.Errorf("%v, %v", res, err)
				return
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkMetrics is what it costs to count a request, without the rest of it.
func BenchmarkMetrics(b *testing.B) {
	m := NewMetrics()
	q := &request{Request: httptest.NewRequest("GET", "/v2/app/manifests/v1", nil), target: target{form: formManifest}, body: &body{}}
	w := &response{now: time.Now, status: 200, bytes: 1234}
	b.ReportAllocs()
	for b.Loop() {
		m.begin(q)
		m.end(q, w, time.Time{})
	}
}
