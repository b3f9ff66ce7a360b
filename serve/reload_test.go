//go:build unix

package serve

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/regctl/regctl/serve/config"
)

// Whatever a configuration can say is either put in force or said to need a
// restart: nothing changes without a word.
func TestEveryChangeIsNoticed(t *testing.T) {
	t.Parallel()
	silent := map[string]bool{
		"Compat":           true, // It shows in the defaults of others.
		"Storage.RootFrom": true, // Where Root was said.
	}
	var walk func(path string, at func(*config.Config) reflect.Value)
	walk = func(path string, at func(*config.Config) reflect.Value) {
		kind := at(&config.Config{})
		if kind.Kind() == reflect.Struct {
			for i := range kind.NumField() {
				f := kind.Type().Field(i)
				if f.IsExported() {
					walk(strings.TrimPrefix(path+"."+f.Name, "."), func(c *config.Config) reflect.Value { return at(c).Field(i) })
				}
			}
			return
		}
		was, is := config.Config{}, config.Config{}
		change(t, path, at(&is))
		n := len(changed(atStart, &was, &is)) + len(changed(atOnce, &was, &is)) + len(changed(admissive, &was, &is))
		if want := map[bool]int{false: 1, true: 0}[silent[path]]; n != want {
			t.Errorf("%s: noticed %d times, want %d", path, n, want)
		}
		if m := len(changed(atStart, &is, &is)) + len(changed(atOnce, &is, &is)) + len(changed(admissive, &is, &is)); m != 0 {
			t.Errorf("%s: noticed without a change", path)
		}
	}
	walk("", func(c *config.Config) reflect.Value { return reflect.ValueOf(c).Elem() })
}

// change sets v to something else than its zero value.
func change(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint16:
		v.SetUint(7)
	case reflect.String:
		v.SetString("x")
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("X"), reflect.Zero(v.Type().Elem()))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	default:
		t.Errorf("%s is a %s: teach the test", path, v.Kind())
	}
}

const beforeReload = `
version: 0.1
log: {level: info}
storage: {delete: {enabled: false}}
http: {headers: {X-Test: [one]}}
`

const afterReload = `
version: 0.1
log: {level: debug, accesslog: {disabled: true}, fields: {env: x}}
storage: {delete: {enabled: true}, maintenance: {readonly: {enabled: true}}}
http: {headers: {X-Other: [two]}, draintimeout: 7s}
tags: {maxtags: 3}
gc: {schedule: "@daily"}
`

// What can change does, at once; what cannot is named, until it is as it was.
func TestReconfigure(t *testing.T) {
	t.Parallel()
	var log logBuffer
	var relogged []config.Log
	before, after := configured(t, beforeReload), configured(t, afterReload)
	a, err := Assemble(t.Context(), Parts{
		Config: before, Dir: filepath.Join(t.TempDir(), "store"), Log: log.text(),
		Relog: func(c config.Log) { relogged = append(relogged, c) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Serve(ctx) }()
	if status, _, body := ask(t, a, "PUT", "/v2/app/manifests/v1", noManifests); status != 201 {
		t.Fatal(status, body)
	}
	if status, header, body := ask(t, a, "DELETE", "/v2/app/manifests/v1", ""); status != 405 || header.Get("X-Test") != "one" || !strings.Contains(body, "deletes are off") {
		t.Errorf("%d %v %s", status, header, body)
	}
	if later := a.Reconfigure(before); later != nil || len(relogged) != 0 {
		t.Errorf("nothing has changed: %v, %v", later, relogged)
	}
	if later := fmt.Sprint(a.Reconfigure(after)); later != "[http.draintimeout tags]" {
		t.Errorf("later %s", later)
	}
	if len(relogged) != 1 || relogged[0].Level != "debug" || !relogged[0].AccessLog.Disabled {
		t.Errorf("the log: %+v", relogged)
	}
	status, header, body := ask(t, a, "DELETE", "/v2/app/manifests/v1", "")
	if status != 405 || header.Get("X-Test") != "" || header.Get("X-Other") != "two" || !strings.Contains(body, "read-only") {
		t.Errorf("%d %v %s", status, header, body)
	}
	if got := a.upkeep.keeper.inForce().Schedule; got != "@daily" {
		t.Errorf("schedule %q", got)
	}
	again := *after
	again.Storage.ReadOnly = false
	if later := fmt.Sprint(a.Reconfigure(&again)); later != "[http.draintimeout tags]" {
		t.Errorf("still later %s", later)
	}
	if status, _, body := ask(t, a, "DELETE", "/v2/app/manifests/v1", ""); status != 202 {
		t.Errorf("%d %s", status, body)
	}
	if later := a.Reconfigure(before); later != nil {
		t.Errorf("as at the start: %v", later)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	said := log.String()
	if !strings.Contains(said, "the configuration has changed") ||
		!strings.Contains(said, `keys="log.level log.fields log.accesslog.disabled storage.delete.enabled storage.maintenance.readonly http.headers gc.schedule"`) {
		t.Errorf("said %s", said)
	}
}

// A reload fails no request that goes on meanwhile.
func TestReconfigureUnderLoad(t *testing.T) {
	t.Parallel()
	before, after := configured(t, beforeReload), configured(t, afterReload)
	after.Storage.ReadOnly = false
	a, err := Assemble(t.Context(), Parts{Config: before, Dir: filepath.Join(t.TempDir(), "store")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Serve(ctx) }()
	at := "http://" + a.Addrs()[0].String()
	var over atomic.Bool
	var pushes atomic.Int64
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			for n := 0; !over.Load() || n < 20; n++ {
				path := fmt.Sprintf("%s/v2/app%d/manifests/t%d", at, i, n)
				if status, header := send(t, "PUT", path, noManifests); status != 201 {
					t.Errorf("PUT %s: %d", path, status)
				} else if one, two := header.Get("X-Test"), header.Get("X-Other"); (one == "") == (two == "") {
					t.Errorf("headers of two configurations, or of none: %q %q", one, two)
				}
				if status, _ := send(t, "GET", path, ""); status != 200 {
					t.Errorf("GET %s: %d", path, status)
				}
				pushes.Add(1)
			}
		})
	}
	for i := range 200 {
		c := before
		if i%2 == 0 {
			c = after
		}
		a.Reconfigure(c)
		_ = a.upkeep.keeper.inForce()
	}
	over.Store(true)
	clients.Wait()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if pushes.Load() < 80 {
		t.Errorf("%d pushes", pushes.Load())
	}
}

// send is for goroutines that must not end the test.
func send(t *testing.T, method, url, body string) (status int, header http.Header) {
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0, http.Header{}
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Error(err)
		return 0, http.Header{}
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Error(err)
	}
	return res.StatusCode, res.Header
}
