package serve_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/client"
	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve"
	"github.com/regctl/regctl/serve/state"
)

// TestDeletions wants what was recorded told by pages that meet, over the wire,
// even if deletes are off.
func TestDeletions(t *testing.T) {
	t.Parallel()
	st := openJournalState(t)
	d := oci.Digest("sha256:" + strings.Repeat("1", 64))
	for i := range 5 {
		err := st.Record(t.Context(), state.Deletion{
			At: journalTime().Add(time.Duration(i) * time.Hour), Run: []string{"", "r1"}[i%2], Kind: state.KindManifest, Repo: "app", Digest: d,
			MediaType: oci.MediaTypeManifest, Raw: []byte("{}"), By: "ann", Addr: "::1",
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	reg := serve.WithoutDeletes(serve.WithJournal(openJournalStore(t), st, nil, nil))
	server := httptest.NewServer(serve.NewHandler(reg, serve.Options{Deletions: st, MaxTags: 2}))
	t.Cleanup(server.Close)
	c, err := client.New(server.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []struct {
		o    client.DeletionsOptions
		want string
	}{
		{client.DeletionsOptions{}, "12345"},
		{client.DeletionsOptions{Raw: true}, "1r2r3r4r5r"},
		{client.DeletionsOptions{Run: "r1"}, "24"},
		{client.DeletionsOptions{After: 3}, "45"},
		{client.DeletionsOptions{Since: journalTime().Add(3 * time.Hour)}, "45"},
		{client.DeletionsOptions{Digest: d, After: 4}, "5"},
		{client.DeletionsOptions{Digest: oci.Digest("sha256:" + strings.Repeat("2", 64))}, ""},
	} {
		got := ""
		for d, err := range c.Deletions(t.Context(), want.o) {
			if err != nil {
				t.Fatal(err)
			}
			if d.Kind != "manifest" || d.Repo != "app" || d.By != "ann" || d.Addr != "::1" || d.MediaType != oci.MediaTypeManifest || d.At.Before(journalTime()) {
				t.Errorf("%+v", d)
			}
			got += fmt.Sprint(d.ID)
			if string(d.Raw) == "{}" {
				got += "r"
			}
		}
		if got != want.want {
			t.Errorf("%+v: %s, want %s", want.o, got, want.want)
		}
	}
}

// TestDeletionsWire holds the answer as it goes over the wire, and errors.
func TestDeletionsWire(t *testing.T) {
	t.Parallel()
	st := openJournalState(t)
	if err := st.Record(t.Context(), state.Deletion{At: journalTime(), Kind: state.KindTag, Repo: "app", Tag: "1", Addr: "::1"}); err != nil {
		t.Fatal(err)
	}
	reg := openJournalStore(t)
	with, without := serve.NewHandler(reg, serve.Options{Deletions: st}), serve.NewHandler(reg, serve.Options{})
	ask := func(h http.Handler, method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, path, nil))
		return w
	}
	const path = "/v2/_regctl/deletions"
	want := `{"schema":"regctl.deletions/v1","deletions":[{"id":1,"at":"2026-11-20T12:00:00Z","kind":"tag","repo":"app","tag":"1","addr":"::1"}]}` + "\n"
	if w := ask(with, "GET", path); w.Code != http.StatusOK || w.Body.String() != want || w.Header().Get("Link") != "" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := ask(with, "GET", path+"?n=1&run="); w.Header().Get("Link") != `</v2/_regctl/deletions?last=1&n=1&run=>; rel="next"` {
		t.Errorf("Link: %s", w.Header().Get("Link"))
	}
	if w := ask(with, "GET", path+"?last=1"); !strings.Contains(w.Body.String(), `"deletions":[]`) {
		t.Errorf("past the end: %s", w.Body)
	}
	for query, status := range map[string]int{
		"?n=0": 400, "?n=-1": 400, "?last=x": 400, "?since=yesterday": 400, "?raw=1": 200, "?n=99999999999999999999": 200,
	} {
		if w := ask(with, "GET", path+query); w.Code != status {
			t.Errorf("%s: %d, want %d", query, w.Code, status)
		}
	}
	if w := ask(with, "GET", path+"?last=x"); !strings.Contains(w.Body.String(), `last=\"x\" is not the id of a deletion`) {
		t.Errorf("last=x: %s", w.Body)
	}
	if w := ask(with, "DELETE", path); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD, OPTIONS" {
		t.Errorf("DELETE: %d, %s", w.Code, w.Header().Get("Allow"))
	}
	if w := ask(without, "GET", path); w.Code != http.StatusNotFound {
		t.Errorf("without a state: %d", w.Code)
	}
	for h, says := range map[*serve.Handler]bool{with: true, without: false} {
		if got := strings.Contains(ask(h, "GET", "/v2/").Header().Get("Regctl-Extensions"), "deletions"); got != says {
			t.Errorf("it says that it keeps records: %v, want %v", got, says)
		}
	}
}

// TestRunHeader wants what one command deletes recorded under its run, and no
// more than a name of it.
func TestRunHeader(t *testing.T) {
	t.Parallel()
	st := openJournalState(t)
	reg := serve.WithJournal(openJournalStore(t), st, nil, nil)
	pushJournaled(t, reg)
	server := httptest.NewServer(serve.NewHandler(reg, serve.Options{Deletions: st}))
	t.Cleanup(server.Close)
	c, err := client.New(server.URL, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := oci.WithCaller(t.Context(), oci.Caller{Run: "20261120-1200.x", Look: true})
	if err := c.DeleteTag(ctx, "app", "1", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Manifest(ctx, "app", "2"); err != nil {
		t.Fatal(err)
	}
	if last, err := st.LastPulled(t.Context(), "app"); err != nil || len(last) > 0 {
		t.Errorf("who looks pulls: %v, %v", last, err)
	}
	if err := c.DeleteTag(oci.WithCaller(t.Context(), oci.Caller{Run: "a b"}), "app", "2", ""); err != nil {
		t.Fatal(err)
	}
	ds, err := st.List(t.Context(), state.ListOptions{N: 10})
	if err != nil || len(ds) != 2 || ds[0].Run != "20261120-1200.x" || ds[1].Run != "" || ds[0].Addr != "127.0.0.1" {
		t.Errorf("%+v, %v", ds, err)
	}
}
