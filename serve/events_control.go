package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"

	"github.com/regctl/regctl/serve/event"
	"github.com/regctl/regctl/serve/state"
	"github.com/regctl/regctl/serve/storage/file"
)

// ErrNoEndpoint says that there is no endpoint of that name.
var ErrNoEndpoint = errors.New("no such endpoint")

// ErrNotServed says that what is asked for takes a running server.
var ErrNotServed = errors.New("no regctl serve has the store")

// EventRequest asks for something about an endpoint; about all if it is empty.
type EventRequest struct {
	Endpoint string `json:"endpoint,omitempty"`
}

// Notifications is what is known of the endpoints of a store.
type Notifications struct {
	Endpoints []event.Stats `json:"endpoints"`
}

// EventTests is how endpoints took a test.
type EventTests struct {
	Tests []event.Tested `json:"tests"`
}

// EventRetries is how much is sent once more.
type EventRetries struct {
	Events int64 `json:"events"`
}

// addEvents adds what can be asked about notifications.
func (c *control) addEvents(mux *http.ServeMux) {
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, _ *http.Request) {
		n := Notifications{Endpoints: []event.Stats{}}
		if c.keeper.notifier != nil {
			n.Endpoints = c.keeper.notifier.Stats()
		}
		answerControl(w, http.StatusOK, controlLine[struct{}, Notifications]{Report: &n})
	})
	mux.HandleFunc("POST /events/test", controlRun(c.clock.after, c.testEvents))
	mux.HandleFunc("POST /events/retry", controlRun(c.clock.after, c.retryEvents))
}

func (c *control) testEvents(ctx context.Context, r EventRequest, _ func(struct{})) (EventTests, error) {
	if err := c.hasEndpoint(r.Endpoint); err != nil {
		return EventTests{}, err
	}
	return EventTests{c.keeper.notifier.Test(ctx, r.Endpoint)}, nil
}

func (c *control) retryEvents(ctx context.Context, r EventRequest, _ func(struct{})) (EventRetries, error) {
	if err := c.hasEndpoint(r.Endpoint); err != nil {
		return EventRetries{}, err
	}
	n, err := c.keeper.notifier.Retry(ctx, r.Endpoint)
	return EventRetries{n}, err
}

// hasEndpoint tells whether there is an endpoint of that name; without a name,
// whether there is any.
func (c *control) hasEndpoint(name string) error {
	if c.keeper.notifier != nil {
		for _, s := range c.keeper.notifier.Stats() {
			if name == "" || s.Endpoint == name {
				return nil
			}
		}
	}
	if name == "" {
		return fmt.Errorf("%w: the configuration of the server has none in notifications.endpoints", ErrNoEndpoint)
	}
	return fmt.Errorf("%w: the server has none that is called %q", ErrNoEndpoint, name)
}

// Events are the notifications of a store on this machine.
type Events interface {
	// List tells what is known of each endpoint.
	List(ctx context.Context) (Notifications, error)
	// Test posts a test to an endpoint, or to all.
	// Errors: [ErrNoEndpoint], [ErrNotServed].
	Test(ctx context.Context, r EventRequest) (EventTests, error)
	// Retry lets what was given up be sent after all.
	// Errors: [ErrNoEndpoint], [ErrNotServed].
	Retry(ctx context.Context, r EventRequest) (EventRetries, error)
	// Holder says who tells it.
	Holder() Holder
	// Close lets go of the store.
	Close() error
}

// OpenEvents opens the notifications of the store in p.Dir: a server of ours
// that has it is asked, else what it left is read.
// Errors: as of [OpenUpkeep].
func OpenEvents(ctx context.Context, p UpkeepParts) (Events, error) {
	locked, held, err := p.lock(ctx)
	switch {
	case err != nil:
		return nil, err
	case held != nil:
		return dialEvents(ctx, p.Dir, held)
	}
	return readEvents(ctx, p, locked)
}

// dialEvents asks the server.
func dialEvents(ctx context.Context, dir string, held error) (Events, error) {
	up, err := dialControl(ctx, dir, held)
	if err != nil {
		return nil, err
	}
	if r, ok := up.(*distant); ok {
		return distantEvents{r}, nil
	}
	return nil, held
}

type distantEvents struct{ *distant }

// List asks the server.
func (r distantEvents) List(ctx context.Context) (Notifications, error) {
	return askControl[struct{}, Notifications](ctx, r.distant, http.MethodGet, "/events", nil, nil)
}

// Test asks the server.
func (r distantEvents) Test(ctx context.Context, q EventRequest) (EventTests, error) {
	return askControl[struct{}, EventTests](ctx, r.distant, http.MethodPost, "/events/test", q, nil)
}

// Retry asks the server.
func (r distantEvents) Retry(ctx context.Context, q EventRequest) (EventRetries, error) {
	return askControl[struct{}, EventRetries](ctx, r.distant, http.MethodPost, "/events/retry", q, nil)
}

// leftEvents are what a server left that does not run.
type leftEvents struct {
	local
	found Notifications
}

func readEvents(ctx context.Context, p UpkeepParts, locked *file.Locked) (Events, error) {
	l := &leftEvents{found: Notifications{Endpoints: []event.Stats{}}}
	l.atEnd(locked.Unlock)
	name := locked.Path(stateFile)
	if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
		return l, nil
	}
	st, err := state.Open(ctx, name, p.Now)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	l.atEnd(st.Close)
	counts, err := st.EventCounts(ctx)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	for _, c := range counts {
		l.found.Endpoints = append(l.found.Endpoints, event.Stats{
			Endpoint: c.Endpoint, Pending: int64(c.Pending), Dead: int64(c.Dead),
		})
	}
	return l, nil
}

// List tells what is left.
func (l *leftEvents) List(context.Context) (Notifications, error) { return l.found, nil }

// Test takes a server.
func (l *leftEvents) Test(context.Context, EventRequest) (EventTests, error) {
	return EventTests{}, ErrNotServed
}

// Retry takes a server.
func (l *leftEvents) Retry(context.Context, EventRequest) (EventRetries, error) {
	return EventRetries{}, ErrNotServed
}
