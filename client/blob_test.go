package client_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client"
)

// TestSeekThereAndBack: who asks for the size by seeking costs no request.
func TestSeekThereAndBack(t *testing.T) {
	t.Parallel()
	const data = "bytes of a layer"
	var gets atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			gets.Add(1)
			http.ServeContent(w, r, "", time.Time{}, strings.NewReader(data))
		}
	}))
	defer server.Close()
	c, err := client.New(server.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.Blob(t.Context(), "app", digest.FromString(data))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, seek := range []struct{ whence, want int }{{io.SeekEnd, len(data)}, {io.SeekStart, 0}} {
		if at, err := b.Seek(0, seek.whence); err != nil || at != int64(seek.want) {
			t.Fatalf("seek: %d, %v", at, err)
		}
	}
	if got, err := io.ReadAll(b); string(got) != data || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if gets.Load() != 1 {
		t.Errorf("%d requests for it", gets.Load())
	}
	if _, err := b.Seek(9, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b); string(got) != data[9:] || err != nil || gets.Load() != 2 {
		t.Errorf("read %q from 9 on, %v, by %d requests", got, err, gets.Load())
	}
}
