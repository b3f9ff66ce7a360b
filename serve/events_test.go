//go:build unix

package serve

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
)

type notifiedBy func(body string) *http.Response

func (f notifiedBy) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return f(string(body)), nil
}

// TestAssembleNotifications wants the endpoints of the configuration told what
// happens, whether the store is on disk or in memory, and stopping to take no
// longer than it must.
func TestAssembleNotifications(t *testing.T) {
	t.Parallel()
	for name, dir := range map[string]string{"on disk": t.TempDir(), "in memory": ""} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := configured(t, "notifications: {endpoints: [{name: one, url: 'http://hook.test/x?token=secret', ignore: {actions: [pull]}}]}")
			got := make(chan string, 10)
			client := &http.Client{Transport: notifiedBy(func(body string) *http.Response {
				got <- body
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}
			})}
			a, err := Assemble(t.Context(), Parts{Config: c, Dir: dir, Client: client})
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			go func() { done <- a.Serve(ctx) }()
			if status, _, body := ask(t, a, "PUT", "/v2/app/manifests/1", noManifests); status != http.StatusCreated {
				t.Fatal(status, body)
			}
			addr := a.Addrs()[0].String()
			_, port, _ := strings.Cut(addr, ":")
			body := <-got
			for _, has := range []string{`"action": "push"`, `"tag": "1"`, `"url": "http://` + addr + `/v2/app/manifests/sha256:`, ":" + port + `",`} {
				if !strings.Contains(body, has) {
					t.Errorf("there is no %s in %s", has, body)
				}
			}
			if s := a.Notifications(); len(s) != 1 || s[0].Endpoint != "one" || s[0].URL != "http://hook.test" {
				t.Errorf("%+v", s)
			}
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAssembleTellsNobody wants no notifier without endpoints.
func TestAssembleTellsNobody(t *testing.T) {
	t.Parallel()
	a, err := Assemble(t.Context(), Parts{Config: configured(t, "{}"), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if a.notifier != nil || a.Notifications() != nil {
		t.Error("there is a notifier")
	}
}
