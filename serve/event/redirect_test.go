package event_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/regctl/regctl/serve/event"
	"github.com/regctl/regctl/serve/state"
)

// TestRedirects wants no event taken for delivered that a redirect has lost on
// its way: net/http asks with GET then. What registry:2 delivers is delivered.
func TestRedirects(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		status   int
		to       string
		taken    bool
		answered string // By whom; how.
	}{
		"moved":                         {301, "/other", false, ""},
		"moved, found":                  {302, "/hook/", false, ""},
		"moved, and to be sent again":   {307, "/other", true, "POST /other with an event"},
		"moved, and sent again for all": {308, "/other", true, "POST /other with an event"},
		"taken, and there is a page":    {303, "/thanks", true, ""},
		"taken, and a page is found":    {302, "/thanks", true, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			answered := ""
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if r.URL.Path == "/hook" {
					http.Redirect(w, r, tt.to, tt.status)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				answered = r.Method + " " + r.URL.Path
				if strings.Contains(string(body), `"action": "test"`) {
					answered += " with an event"
				}
			}))
			defer server.Close()
			tested := test(t, server.URL+"/hook", nil)
			if taken := tested.Error == ""; taken != tt.taken || answered != tt.answered {
				t.Errorf("%+v, %q", tested, answered)
			}
		})
	}
}

// TestRedirectsElsewhere wants what an endpoint is told in headers told to
// nobody else.
func TestRedirectsElsewhere(t *testing.T) {
	t.Parallel()
	came := make(chan http.Header, 1)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { came <- r.Header }))
	defer other.Close()
	elsewhere := strings.Replace(other.URL, "127.0.0.1", "localhost", 1)
	server := httptest.NewServer(http.RedirectHandler(elsewhere, http.StatusTemporaryRedirect))
	defer server.Close()
	if tested := test(t, server.URL, http.Header{"X-Key": {"secret"}, "authorization": {"secret"}}); tested.Error != "" {
		t.Fatalf("%+v", tested)
	}
	if got := <-came; got.Get("Content-Type") != event.MediaType || got.Get("X-Key") != "" || got.Get("Authorization") != "" || got.Get("Referer") != "" {
		t.Errorf("%v", got)
	}
}

// test posts a test to a URL.
func test(t *testing.T, to string, headers http.Header) event.Tested {
	t.Helper()
	box, err := state.OpenMemory(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	n := event.New(context.Background(), box, nil, event.Options{
		Endpoints: []event.Endpoint{{Name: "a", URL: to, Headers: headers}}, Log: slog.New(slog.DiscardHandler),
	})
	return n.Test(t.Context(), "")[0]
}
