package event_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve/event"
	"github.com/regctl/regctl/serve/state"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/store"
)

func open(t testing.TB, b storage.Backend) *store.Store {
	t.Helper()
	s, err := store.New(t.Context(), b, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openState(t testing.TB) *state.State {
	t.Helper()
	s, err := state.OpenMemory(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// hook takes notifications in place of a network.
type hook struct {
	answer func(*http.Request) (*http.Response, error) // Nil: 200.

	mu       sync.Mutex
	got      []event.Event
	requests []*http.Request
	bodies   []string
}

func (h *hook) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	res := status(http.StatusOK)
	if h.answer != nil {
		if res, err = h.answer(r); err != nil {
			return nil, err
		}
	}
	if res.StatusCode >= 400 {
		return res, nil
	}
	var envelope event.Envelope
	if err := json.Unmarshal(body, &envelope); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, raw := range envelope.Events {
		var e event.Event
		if err := json.Unmarshal(raw, &e); err != nil {
			return nil, err
		}
		h.got = append(h.got, e)
	}
	h.requests, h.bodies = append(h.requests, r), append(h.bodies, string(body))
	return res, nil
}

func status(code int) *http.Response {
	return &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("body"))}
}

// told are the events that came, each once, in order.
func (h *hook) told() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	seen := map[string]bool{}
	for _, e := range h.got {
		if !seen[e.ID] {
			all = append(all, brief(e))
		}
		seen[e.ID] = true
	}
	return all
}

func brief(e event.Event) string {
	return strings.TrimRight(fmt.Sprintf("%s %s:%s@%.14s", e.Action, e.Target.Repository, e.Target.Tag, e.Target.Digest), "@:")
}

// to is one endpoint that h answers for.
func to(h *hook) event.Options {
	return event.Options{
		Endpoints: []event.Endpoint{{Name: "hook", URL: "http://hook.test/in"}},
		Client:    &http.Client{Transport: h}, Source: "reg:5000",
	}
}

// inBox are the events that are to be sent, in order.
func inBox(t testing.TB, s *state.State, endpoint string) []string {
	t.Helper()
	es, err := s.NextEvents(t.Context(), endpoint, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range es {
		var ev event.Event
		if err := json.Unmarshal(e.Body, &ev); err != nil {
			t.Fatal(err)
		}
		all = append(all, brief(ev))
	}
	return all
}

// TestContract wants a registry that is observed to be the same registry.
func TestContract(t *testing.T) {
	ocitest.Run(t, func(t testing.TB) oci.Registry {
		s := open(t, mem.New())
		return event.Observe(s, event.New(t.Context(), openState(t), s, to(&hook{})))
	})
}

// TestNobodyToTell wants no cost where there is no endpoint.
func TestNobodyToTell(t *testing.T) {
	t.Parallel()
	s := open(t, mem.New())
	if got := event.Observe(s, event.New(t.Context(), openState(t), s, event.Options{})); got != oci.Registry(s) {
		t.Errorf("the registry is wrapped: %T", got)
	}
	if got := event.Observe(s, nil); got != oci.Registry(s) {
		t.Errorf("the registry is wrapped: %T", got)
	}
}

// TestEveryField wants an envelope as distribution has it.
func TestEveryField(t *testing.T) {
	t.Parallel()
	s, box := open(t, mem.New()), openState(t)
	o := to(&hook{})
	o.IncludeReferences = true
	o.NewID = func() string { return "the-id" }
	o.Now = func() time.Time { return time.Date(2026, 11, 21, 12, 0, 0, 5, time.UTC) }
	reg := event.Observe(s, event.New(t.Context(), box, s, o))
	config, layer := ocitest.PushBlob(t, s, "team/app", "{}"), ocitest.PushBlob(t, s, "team/app", "layer")
	config.MediaType, layer.MediaType = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar"
	raw, err := json.Marshal(ocitest.NewImage(config, layer))
	if err != nil {
		t.Fatal(err)
	}
	ctx := oci.WithCaller(t.Context(), oci.Caller{
		Name: "ann", Addr: "10.1.2.3", RequestID: "r-1", UserAgent: "docker/28", Method: "PUT", Host: "reg.test", Base: "https://reg.test/prefix/",
	})
	if _, err := reg.PutManifest(ctx, "team/app", oci.Put{Raw: raw, Tags: []string{"1"}}); err != nil {
		t.Fatal(err)
	}
	es, err := box.NextEvents(t.Context(), "hook", 10)
	if err != nil || len(es) != 1 {
		t.Fatalf("%d events, %v", len(es), err)
	}
	d := digest.FromBytes(raw)
	instance := between(string(es[0].Body), `"instanceID":"`, `"`)
	want := fmt.Sprintf(`{"id":"the-id","timestamp":"2026-11-21T12:00:00.000000005Z","action":"push",`+
		`"target":{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"%s","size":%d,"length":%[2]d,"repository":"team/app",`+
		`"url":"https://reg.test/prefix/v2/team/app/manifests/%[1]s","tag":"1","references":[`+
		`{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%[3]s","size":2},`+
		`{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"%[4]s","size":5}]},`+
		`"request":{"id":"r-1","addr":"10.1.2.3","host":"reg.test","method":"PUT","useragent":"docker/28"},`+
		`"actor":{"name":"ann"},"source":{"addr":"reg:5000","instanceID":"%[5]s"}}`, d, len(raw), config.Digest, layer.Digest, instance)
	if got := string(es[0].Body); got != want || len(instance) != 36 {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func between(s, before, after string) string {
	_, s, _ = strings.Cut(s, before)
	s, _, _ = strings.Cut(s, after)
	return s
}

// image pushes an image whose blobs are there, and returns its digest.
func image(t testing.TB, reg oci.Registry, repo, layer string, tags ...string) oci.Digest {
	t.Helper()
	return ocitest.PushManifest(t, reg, repo, imageOf(t, reg, repo, layer), tags...).Digest
}

func imageOf(t testing.TB, reg oci.Registry, repo, layer string) string {
	t.Helper()
	config, blob := ocitest.PushBlob(t, reg, repo, `{"of":"`+layer+`"}`), ocitest.PushBlob(t, reg, repo, layer)
	config.MediaType, blob.MediaType = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar"
	raw, err := json.Marshal(ocitest.NewImage(config, blob))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestWhatIsTold wants events of all that changes or is pulled, and of nothing
// else.
func TestWhatIsTold(t *testing.T) {
	t.Parallel()
	s, box := open(t, mem.New()), openState(t)
	raw := imageOf(t, s, "app", "layer")
	d, layer := digest.FromString(raw), digest.FromString("layer")
	reg := event.Observe(s, event.New(t.Context(), box, s, to(&hook{})))
	ctx, at, blob := t.Context(), fmt.Sprintf("@%.14s", d), fmt.Sprintf("@%.14s", layer)
	look := oci.WithCaller(ctx, oci.Caller{Look: true})
	read := func(ctx context.Context) error {
		b, err := reg.Blob(ctx, "app", layer)
		if err == nil {
			err = b.Close()
		}
		return err
	}
	for _, c := range []struct {
		name string
		do   func() error
		want []string
	}{
		{"push without a tag", func() error { _, err := reg.PutManifest(ctx, "app", oci.Put{Raw: []byte(raw)}); return err }, []string{"push app:" + at}},
		{"push two tags", func() error {
			_, err := reg.PutManifest(ctx, "app", oci.Put{Raw: []byte(raw), Digest: d, Tags: []string{"1", "2"}})
			return err
		}, []string{"push app:1" + at, "push app:2" + at}},
		{"push what is refused", func() error {
			_, err := reg.PutManifest(ctx, "no/blobs", oci.Put{Raw: []byte(raw)})
			return wants(err, oci.ManifestBlobUnknown)
		}, nil},
		{"push what is no manifest", func() error {
			_, err := reg.PutManifest(ctx, "app", oci.Put{Raw: []byte("{}")})
			return wants(err, oci.ManifestInvalid)
		}, nil},
		{"push what is tagged", func() error {
			_, err := reg.PutManifest(ctx, "app", oci.Put{Raw: bytes.Replace([]byte(raw), []byte("{"), []byte("{ "), 1), Tags: []string{"1"}, NoOverwrite: true})
			return wants(err, oci.TagExists)
		}, nil},
		{"resolve", func() error { _, err := reg.Resolve(ctx, "app", "1"); return err }, nil},
		{"stat", func() error { _, err := reg.StatBlob(ctx, "app", layer); return err }, nil},
		{"pull by tag", func() error { _, err := reg.Manifest(ctx, "app", "1"); return err }, []string{"pull app:1" + at}},
		{"pull by digest", func() error { _, err := reg.Manifest(ctx, "app", string(d)); return err }, []string{"pull app:" + at}},
		{"look", func() error { _, err := reg.Manifest(look, "app", "1"); return err }, nil},
		{"take away under the pretext of looking", func() error { return read(look) }, []string{"pull app:" + blob}},
		{"pull nothing", func() error { _, err := reg.Manifest(ctx, "app", "none"); return wants(err, oci.ManifestUnknown) }, nil},
		{"pull a blob", func() error { return read(ctx) }, []string{"pull app:" + blob}},
		{"mount", func() error { _, err := reg.MountBlob(ctx, "b", "app", layer); return err }, []string{"mount b:" + blob}},
		{"mount from anywhere", func() error { _, err := reg.MountBlob(ctx, "b", "", layer); return err }, []string{"mount b:" + blob}},
		{"mount nothing", func() error {
			up, err := reg.MountBlob(ctx, "b", "app", digest.FromString("nowhere"))
			if err == nil {
				err = up.Cancel(ctx)
			}
			return err
		}, nil},
		{"mount what is there from where it is not", func() error {
			up, err := reg.MountBlob(ctx, "b", "empty", layer)
			if up != nil {
				err = errors.Join(errors.New("it is to be uploaded again"), up.Cancel(ctx))
			}
			return err
		}, []string{"mount b:" + blob}},
		{"push a blob", func() error { ocitest.PushBlob(t, reg, "b", "new"); return nil }, []string{fmt.Sprintf("push b:@%.14s", digest.FromString("new"))}},
		{"delete a blob", func() error { return reg.DeleteBlob(ctx, "b", layer) }, []string{"delete b:" + blob}},
		{"delete no blob", func() error { return wants(reg.DeleteBlob(ctx, "b", layer), oci.BlobUnknown) }, nil},
		{"delete a tag", func() error { return reg.DeleteTag(ctx, "app", "2", "") }, []string{"delete app:2"}},
		{"delete a tag that has moved", func() error { return wants(reg.DeleteTag(ctx, "app", "1", layer), oci.TagMoved) }, nil},
		{"delete a manifest", func() error { return reg.DeleteManifest(ctx, "app", d) }, []string{"delete app:" + at, "delete app:1"}},
		{"delete no manifest", func() error { return wants(reg.DeleteManifest(ctx, "app", d), oci.ManifestUnknown) }, nil},
		{"delete a repository", func() error { return reg.DeleteRepo(ctx, "b") }, []string{"delete b"}},
		{"delete no repository", func() error { return wants(reg.DeleteRepo(ctx, "b"), oci.NameUnknown) }, nil},
	} {
		if err := c.do(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if got := inBox(t, box, "hook"); !slices.Equal(got, c.want) {
			t.Errorf("%s is told as %q, want %q", c.name, got, c.want)
		}
		if err := box.KeepEndpoints(ctx, time.Unix(1<<33, 0)); err != nil { // Away with it.
			t.Fatal(err)
		}
	}
	if es, err := box.AnnouncedEvents(ctx, 0, 10); len(es) > 0 || err != nil {
		t.Errorf("%d events are announced still, %v", len(es), err)
	}
}

// wants is nil if err has a code.
func wants(err error, code oci.Code) error {
	if !errors.Is(err, code) {
		return fmt.Errorf("error is %w, want %s", err, code)
	}
	return nil
}

// TestIgnored wants nothing kept that nobody wants to be told.
func TestIgnored(t *testing.T) {
	t.Parallel()
	s, box := open(t, mem.New()), openState(t)
	o := to(&hook{})
	o.Endpoints = []event.Endpoint{
		{Name: "images", URL: "http://a.test", IgnoreMediaTypes: []string{"application/octet-stream"}},
		{Name: "pushes", URL: "http://b.test", IgnoreActions: []string{"pull", "mount", "delete"}},
		{Name: "nothing", URL: "http://c.test", IgnoreActions: []string{"pull", "mount", "delete", "push"}},
	}
	reg := event.Observe(s, event.New(t.Context(), box, s, o))
	d := image(t, reg, "app", "layer", "1")
	if _, err := reg.Manifest(t.Context(), "app", "1"); err != nil {
		t.Fatal(err)
	}
	if err := reg.DeleteTag(t.Context(), "app", "1", ""); err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprintf("@%.14s", d)
	for name, want := range map[string][]string{
		"images":  {"push app:1" + at, "pull app:1" + at, "delete app:1"},
		"pushes":  {fmt.Sprintf("push app:@%.14s", digest.FromString(`{"of":"layer"}`)), fmt.Sprintf("push app:@%.14s", digest.FromString("layer")), "push app:1" + at},
		"nothing": nil,
	} {
		if got := inBox(t, box, name); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// full is an outbox without room.
type full struct {
	*state.State
	err error
}

func (f *full) Announce(ctx context.Context, es []state.Event) error {
	if f.err != nil {
		return f.err
	}
	return f.State.Announce(ctx, es)
}

// TestFullDisk wants pushes to go on where there is no room for notifications,
// and those to be told all the same, in order.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	s, box := open(t, mem.New()), &full{State: openState(t)}
	var log bytes.Buffer
	o := to(&hook{})
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	reg := event.Observe(s, event.New(t.Context(), box, s, o))
	raw := imageOf(t, s, "app", "layer")
	var want []string
	for i, err := range []error{nil, state.ErrFull, state.ErrFull, nil} {
		box.err = err
		tag := fmt.Sprint(i)
		ocitest.PushManifest(t, reg, "app", raw, tag)
		want = append(want, fmt.Sprintf("push app:%s@%.14s", tag, digest.FromString(raw)))
	}
	if got := inBox(t, box.State, "hook"); !slices.Equal(got, want) {
		t.Errorf("told: %q, want %q", got, want)
	}
	for _, says := range []string{"pushes go on", "can be written again"} {
		if strings.Count(log.String(), says) != 1 {
			t.Errorf("the log does not say %q once:\n%s", says, &log)
		}
	}
}
