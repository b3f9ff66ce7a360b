// Package event tells others what happens in a registry, as distribution does:
// [Notifier.Observe] wraps a registry and puts what changes into an outbox that
// outlives the process, and [Notifier.Run] posts it to endpoints, in order,
// until each has taken it.
package event

import (
	"context"
	"encoding/json"
	"iter"
	"log/slog"
	"net/http"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/state"
)

// MediaType is that of an [Envelope], as of registry:2. Since 3.0 it is called
// v2, though nothing in it has changed, and receivers such as GitLab refuse a
// name that they do not know.
const MediaType = "application/vnd.docker.distribution.events.v1+json"

// The actions of an [Event].
const (
	ActionPull   = "pull"
	ActionPush   = "push"
	ActionMount  = "mount"
	ActionDelete = "delete"
)

// Envelope is what is posted.
type Envelope struct {
	Events []json.RawMessage `json:"events"` // One [Event].
}

// Event is something that happened.
type Event struct {
	ID        string    `json:"id,omitempty"`
	Timestamp time.Time `json:"timestamp"`
	Action    string    `json:"action,omitempty"`
	Target    Target    `json:"target"`
	Request   Request   `json:"request"`
	Actor     Actor     `json:"actor"`
	Source    Source    `json:"source"`
}

// Target is what it happened to. Length is Size once more.
type Target struct {
	MediaType      string           `json:"mediaType,omitempty"`
	Digest         oci.Digest       `json:"digest,omitempty"`
	Size           int64            `json:"size,omitempty"`
	Length         int64            `json:"length,omitempty"`
	Repository     string           `json:"repository,omitempty"`
	FromRepository string           `json:"fromRepository,omitempty"`
	URL            string           `json:"url,omitempty"`
	Tag            string           `json:"tag,omitempty"`
	References     []oci.Descriptor `json:"references,omitempty"`
}

// Request is what made it happen.
type Request struct {
	ID        string `json:"id"`
	Addr      string `json:"addr,omitempty"`
	Host      string `json:"host,omitempty"`
	Method    string `json:"method"`
	UserAgent string `json:"useragent"`
}

// Actor is who made it happen; without a name nobody knows.
type Actor struct {
	Name string `json:"name,omitempty"`
}

// Source is the server where it happened. InstanceID is another after each
// start.
type Source struct {
	Addr       string `json:"addr,omitempty"`
	InstanceID string `json:"instanceID,omitempty"`
}

// Endpoint is who is told.
type Endpoint struct {
	Name, URL string
	// Headers of each request; Content-Type may be one.
	Headers http.Header
	// Timeout of a delivery. After Threshold failures in a row it waits for
	// Backoff, and twice as long each time.
	Timeout          time.Duration
	Threshold        int
	Backoff          time.Duration
	IgnoreMediaTypes []string
	IgnoreActions    []string
}

// Layout is what tells whether something happened. A store is one.
type Layout interface {
	// TagAt returns where a tag points.
	// Errors: [oci.ManifestUnknown].
	TagAt(ctx context.Context, repo, tag string) (oci.Digest, error)
	// TagsOf returns the tags that point to a manifest.
	TagsOf(ctx context.Context, repo string, d oci.Digest) ([]string, error)

	Resolve(ctx context.Context, repo, ref string) (oci.Descriptor, error)
	StatBlob(ctx context.Context, repo string, d oci.Digest) (oci.Descriptor, error)
	Tags(ctx context.Context, repo, after string) iter.Seq2[string, error]
}

// Outbox is where events wait. A [state.State] is one.
type Outbox interface {
	Inbox
	Queue
	Remains
}

// Inbox takes what happens.
type Inbox interface {
	Announce(ctx context.Context, es []state.Event) error
	Happened(ids ...int64)
	Done(ids ...int64)
	Occurred(es ...state.Event)
	WaitingEvents() int
	FlushEvents(ctx context.Context) error
}

// Queue gives back what is to be told.
type Queue interface {
	NextEvents(ctx context.Context, endpoint string, n int) ([]state.Event, error)
	GiveUpEvents(ctx context.Context, ids ...int64) error
	ReviveEvents(ctx context.Context, endpoint string) (int64, error)
	DropEvents(ctx context.Context, endpoint string, n int) ([]state.Event, error)
}

// Remains is what earlier processes left.
type Remains interface {
	AnnouncedEvents(ctx context.Context, after int64, n int) ([]state.Event, error)
	KeepEndpoints(ctx context.Context, before time.Time, names ...string) error
	PurgeEvents(ctx context.Context, before time.Time) error
	EventCounts(ctx context.Context) ([]state.EventCount, error)
}

// Options of a [Notifier].
type Options struct {
	Endpoints []Endpoint
	// IncludeReferences names in the events of manifests what they refer to.
	IncludeReferences bool
	// Source is the address of this server.
	Source string
	// Log takes what an operator must know. Nil: nothing is logged.
	Log *slog.Logger
	// Client posts. Nil: one with the defaults of net/http.
	Client *http.Client
	// Now is the clock, After the timer. Default: those of package time.
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
	// Random returns a number in [0, 1), NewID the id of an event. Default:
	// random ones.
	Random func() float64
	NewID  func() string
}

// Stats are what is known of an endpoint. Counts are since the start, but for
// Pending and Dead.
type Stats struct {
	Endpoint string `json:"endpoint"`
	URL      string `json:"url"` // Without user and query.
	// Pending are to be delivered, Dead were given up.
	Pending int64 `json:"pending"`
	Dead    int64 `json:"dead"`
	// Events came in, Successes were delivered; Failures are answers that
	// were not taken for a delivery, Errors attempts without an answer.
	Events    int64 `json:"events"`
	Successes int64 `json:"successes"`
	Failures  int64 `json:"failures"`
	Errors    int64 `json:"errors"`
	// Dropped were never delivered for want of room, GivenUp for their age.
	Dropped int64 `json:"dropped"`
	GivenUp int64 `json:"given_up"`
	// Statuses counts the answers, as "200 OK".
	Statuses map[string]int64 `json:"statuses,omitempty"`
	// LastSuccess and LastFailure are zero if there was none; LastError is
	// that of LastFailure. NextTry is zero while nothing is put off.
	LastSuccess time.Time `json:"last_success,omitzero"`
	LastFailure time.Time `json:"last_failure,omitzero"`
	LastError   string    `json:"last_error,omitempty"`
	NextTry     time.Time `json:"next_try,omitzero"`
}
