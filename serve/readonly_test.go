//go:build unix

package serve

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve/config"
)

// A registry that could be read-only, and is not, is one.
func TestContractOfSwitches(t *testing.T) {
	t.Parallel()
	ocitest.Run(t, func(testing.TB) oci.Registry {
		var readOnly, deletes atomic.Bool
		deletes.Store(true)
		return WithReadOnly(WithDeletes(ocitest.NewRegistry(), &deletes), &readOnly)
	})
}

// What changes something is refused while the registry is read-only, and only
// then; uploads are where they were.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	var on atomic.Bool
	reg := ocitest.NewRegistry()
	digests := ocitest.Push(t, reg, testContent)
	s := newServer(t, WithReadOnly(reg, &on), Options{})
	blob, v1 := string(digests["abc"]), string(digests["one"])
	under := s.do("POST", "/v2/app/blobs/uploads/", "").header.Get("Location")
	s.want("a chunk", s.do("PATCH", under, "abc"), 202)
	other := s.do("POST", "/v2/app/blobs/uploads/", "").header.Get("Location")

	requests := []struct {
		method, path, body string
		pull               bool
	}{
		{"GET", "/v2/", "", true},
		{"GET", "/v2/_catalog", "", true},
		{"GET", "/v2/app/tags/list", "", true},
		{"GET", "/v2/app/manifests/v1", "", true},
		{"HEAD", "/v2/app/manifests/v1", "", true},
		{"GET", "/v2/app/blobs/" + blob, "", true},
		{"HEAD", "/v2/app/blobs/" + blob, "", true},
		{"GET", "/v2/app/referrers/" + v1, "", true},
		{"GET", under, "", true},
		{"GET", "/healthz", "", true},
		{"GET", "/readyz", "", true},
		{"PUT", "/v2/app/manifests/v9", noManifests, false},
		{"DELETE", "/v2/app/manifests/v1", "", false},
		{"DELETE", "/v2/app/manifests/" + v1, "", false},
		{"DELETE", "/v2/app/blobs/" + blob, "", false},
		{"DELETE", "/v2/app", "", false},
		{"POST", "/v2/app/blobs/uploads/", "", false},
		{"POST", "/v2/app/blobs/uploads/?digest=" + blob, "abc", false},
		{"POST", "/v2/b/blobs/uploads/?from=app&mount=" + blob, "", false},
		{"PATCH", under, "d", false},
		{"PATCH", under, "", true}, // Which is nothing.
		{"PUT", under + "?digest=" + blob, "", false},
		{"DELETE", under, "", false},
	}
	on.Store(true)
	for _, r := range requests {
		a := s.do(r.method, r.path, r.body)
		refused := a.status == 405 && a.code() == oci.Unsupported && strings.Contains(a.body, "read-only")
		if r.pull && (a.status < 200 || a.status > 299) || !r.pull && !refused {
			t.Errorf("%s %s: %d %s", r.method, r.path, a.status, a.body)
		}
	}
	if a := s.do("GET", under, ""); a.header.Get("Range") != "0-2" {
		t.Errorf("the upload is at %s", a.header.Get("Range"))
	}
	on.Store(false)
	s.want("a cancel", s.do("DELETE", other, ""), 204)
	s.want("the end of an upload", s.do("PUT", under+"?digest="+blob, ""), 201)
	s.want("a push", s.do("PUT", "/v2/app/manifests/v9", noManifests), 201)
}

// A body that is arriving when the registry becomes read-only is kept and not
// committed.
func TestReadOnlyWhileAnUploadIsUnderWay(t *testing.T) {
	t.Parallel()
	var on atomic.Bool
	reg := WithReadOnly(ocitest.NewRegistry(), &on)
	up, err := reg.Upload(t.Context(), "app", "", oci.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	if _, err := up.ReadFrom(io.MultiReader(strings.NewReader("ab"), switching{&on, true}, strings.NewReader("c"))); err != nil {
		t.Error(err)
	}
	const abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	for what, err := range map[string]error{
		"write":  second(up.Write([]byte("d"))),
		"read":   second(up.ReadFrom(strings.NewReader("d"))),
		"commit": second(up.Commit(t.Context(), abc)),
		"cancel": up.Cancel(t.Context()),
	} {
		if !errors.Is(err, oci.Unsupported) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := reg.StatBlob(t.Context(), "app", abc); !errors.Is(err, oci.BlobUnknown) {
		t.Error("it was committed:", err)
	}
	on.Store(false)
	if _, err := up.Commit(t.Context(), abc); err != nil {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

// switching sets a switch when it is read.
type switching struct {
	on *atomic.Bool
	to bool
}

func (s switching) Read([]byte) (int, error) { s.on.Store(s.to); return 0, io.EOF }

func TestDeletesAreSwitched(t *testing.T) {
	t.Parallel()
	var on atomic.Bool
	reg := ocitest.NewRegistry()
	digests := ocitest.Push(t, reg, testContent)
	s := newServer(t, WithDeletes(reg, &on), Options{})
	for _, path := range []string{"/v2/app/manifests/v1", "/v2/app/manifests/" + string(digests["sig"]), "/v2/app/blobs/" + string(digests["abc"]), "/v2/app"} {
		if a := s.do("DELETE", path, ""); a.status != 405 || !strings.Contains(a.body, "storage.delete.enabled") {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	on.Store(true)
	s.want("a delete", s.do("DELETE", "/v2/app/manifests/v1", ""), 202)
	s.want("a delete of all", s.do("DELETE", "/v2/app", ""), 202)
}

// Nothing is collected by schedule while the registry is read-only; who asks is
// obeyed.
func TestScheduleRestsWhileReadOnly(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	c, _, err := config.Parse("config.yml", []byte(`gc: {schedule: "@every 1h"}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var readOnly atomic.Bool
		var runs atomic.Int64
		s := standIn{onCollect: func(context.Context, gc.Options, bool) (gc.Report, error) { runs.Add(1); return gc.Report{}, nil }}
		k := &keeper{store: s, rules: c.GC, jobs: 1, now: time.Now, readOnly: &readOnly}
		u := startUpkeeping(t.Context(), nil, nil, k, clock{time.Now, time.After}, slog.New(slog.NewTextHandler(&log, nil)))
		readOnly.Store(true)
		time.Sleep(90 * time.Minute)
		if runs.Load() != 0 {
			t.Errorf("%d runs while it is read-only", runs.Load())
		}
		if _, err := k.collect(t.Context(), unsaidRequest(), nil); err != nil || runs.Load() != 1 {
			t.Errorf("%v, %d runs", err, runs.Load())
		}
		readOnly.Store(false)
		time.Sleep(time.Hour)
		if !u.stop() || runs.Load() != 2 {
			t.Errorf("%d runs", runs.Load())
		}
	})
	if got := log.String(); !strings.Contains(got, `msg="a scheduled collection was left out" why="the registry is read-only"`) {
		t.Errorf("said %s", got)
	}
}

// A schedule that is changed is followed at once: begun, moved and ended.
func TestScheduleChanges(t *testing.T) {
	t.Parallel()
	rules := func(yaml string) config.GC {
		c, _, err := config.Parse("config.yml", []byte("gc: {"+yaml+"}"), nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.GC
	}
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		s := standIn{onCollect: func(context.Context, gc.Options, bool) (gc.Report, error) { runs.Add(1); return gc.Report{}, nil }}
		k := &keeper{store: s, rules: rules(""), jobs: 1, now: time.Now, ruled: make(chan struct{}, 1)}
		u := startUpkeeping(t.Context(), nil, nil, k, clock{time.Now, time.After}, slog.New(slog.DiscardHandler))
		for _, step := range []struct {
			yaml string
			runs int64
		}{{"", 0}, {`schedule: "@every 1h"`, 10}, {`schedule: "@every 5h"`, 12}, {"", 12}, {`schedule: "@every 2h"`, 17}} {
			k.setRules(rules(step.yaml))
			time.Sleep(10*time.Hour + time.Minute)
			synctest.Wait()
			if runs.Load() != step.runs {
				t.Errorf("%s: %d runs, want %d", step.yaml, runs.Load(), step.runs)
			}
		}
		if !u.stop() {
			t.Error("it has not ended")
		}
	})
}
