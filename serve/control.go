package serve

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
)

// The control of a server is HTTP on a socket beside the lock of its store:
//
//	GET  /       who it is
//	POST /gc     a CollectRequest: runs a collection
//	POST /check  store.CheckOptions: runs a check
//	GET  /events, POST /events/test, /events/retry  see addEvents
//	POST /tokens/create, /tokens/list, /tokens/revoke  see addRobots
//
// An answer is lines of JSON: progress, and in the end the report, the error,
// or both. A run ends with the connection that it was asked for on.
const (
	controlSocket = "control.sock"
	// controlFile says where the control is if a socket cannot be made: an
	// address of this machine, and a token that only who can read the file has.
	controlFile = "control"

	longestSocket   = 103 // macOS has room for no more.
	longestRequest  = 64 << 10
	progressEvery   = 100 * time.Millisecond
	controlStall    = 30 * time.Second // For a client to take a line.
	controlFarewell = 5 * time.Second  // For clients to take the last line.
)

// controlAddr is what controlFile holds.
type controlAddr struct {
	Addr  string `json:"addr"`
	Token string `json:"token"`
}

// controlHello says who a server is.
type controlHello struct {
	PID  int    `json:"pid"`
	Host string `json:"host"`
}

// controlLine is a line of an answer. That with a report or an error is the
// last.
type controlLine[P, R any] struct {
	Progress *P            `json:"progress,omitempty"`
	Report   *R            `json:"report,omitempty"`
	Error    *controlError `json:"error,omitempty"`
}

// controlError is an error that went over the wire.
type controlError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error is the message.
func (e *controlError) Error() string { return e.Message }

// Is tells whether the error had the code of target.
func (e *controlError) Is(target error) bool {
	for _, known := range controlCodes() {
		if known.err == target {
			return known.code == e.Code
		}
	}
	return false
}

type controlCode struct {
	code string
	err  error
}

// controlCodes are the errors that keep their identity on the wire.
func controlCodes() []controlCode {
	return []controlCode{
		{"running", ErrRunning}, {"stopping", ErrStopping}, {"foreign-writer", ErrForeignWriter},
		{"read-only", storage.ErrReadOnly}, {"full", storage.ErrFull}, {"cancelled", context.Canceled},
		{"no-endpoint", ErrNoEndpoint}, {"robot-exists", ErrRobotExists}, {"robot-invalid", ErrRobotInvalid},
	}
}

func toControlError(err error) *controlError {
	for _, known := range controlCodes() {
		if errors.Is(err, known.err) {
			return &controlError{known.code, err.Error()}
		}
	}
	return &controlError{"failed", err.Error()}
}

// control lets others on this machine ask a server to keep up its store.
type control struct {
	keeper *keeper
	clock  clock
	log    *slog.Logger
	token  string // "": who reaches the socket may ask.
	server http.Server
	served sync.WaitGroup
	files  []string // Removed in the end.
}

// startControl listens beside the lock. Runs end with ctx. The error says why
// that cannot be: the disk is full, say.
func startControl(ctx context.Context, locked *file.Locked, k *keeper, t clock, log *slog.Logger) (*control, error) {
	c := &control{keeper: k, clock: t, log: log}
	listener, err := c.listen(ctx, locked)
	if err != nil {
		return nil, fmt.Errorf("open the control of the server: %w", err)
	}
	c.server = http.Server{
		Handler:           c.handler(),
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      controlStall, // Each line has it anew.
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	c.served.Go(func() {
		if err := c.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.LogAttrs(ctx, slog.LevelError, "the control of the server has ended", slog.Any("error", err))
		}
	})
	return c, nil
}

// listen opens the socket, or else a port of this machine. What a server left
// that is no more goes: who has the lock is the only one.
func (c *control) listen(ctx context.Context, locked *file.Locked) (net.Listener, error) {
	for _, name := range []string{controlSocket, controlFile} {
		c.files = append(c.files, locked.Path(name))
		if err := os.Remove(locked.Path(name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	why := fmt.Errorf("the path of a socket has no room for %s", locked.Path(controlSocket))
	if len(locked.Path(controlSocket)) <= longestSocket {
		var l net.Listener
		if l, why = new(net.ListenConfig).Listen(ctx, "unix", locked.Path(controlSocket)); why == nil {
			if why = locked.Give(controlSocket); why == nil {
				return l, nil
			}
			l.Close()
		}
	}
	l, err := c.listenTCP(ctx, locked)
	if err != nil {
		return nil, errors.Join(why, err)
	}
	return l, nil
}

func (c *control) listenTCP(ctx context.Context, locked *file.Locked) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		if l, err = new(net.ListenConfig).Listen(ctx, "tcp", "[::1]:0"); err != nil {
			return nil, err
		}
	}
	c.token = rand.Text()
	data, err := json.Marshal(controlAddr{l.Addr().String(), c.token})
	if err == nil {
		err = writeControlFile(locked, data)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// writeControlFile puts it there whole, and for its owner only from the start.
func writeControlFile(locked *file.Locked, data []byte) error {
	const draft = controlFile + ".tmp"
	if err := os.Remove(locked.Path(draft)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(locked.Path(draft), data, 0o600); err != nil {
		return err
	}
	if err := locked.Give(draft); err != nil {
		return err
	}
	return os.Rename(locked.Path(draft), locked.Path(controlFile))
}

// stop takes no more requests and waits a little for those who are told that
// their run has ended.
func (c *control) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), controlFarewell)
	defer cancel()
	if c.server.Shutdown(ctx) != nil {
		c.server.Close()
	}
	c.served.Wait()
	for _, name := range c.files {
		_ = os.Remove(name) // The next server does it, too.
	}
}

func (c *control) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		host, _ := os.Hostname() // It is only shown.
		answerControl(w, http.StatusOK, controlHello{os.Getpid(), host})
	})
	mux.HandleFunc("POST /gc", controlRun(c.clock.after, c.collect))
	mux.HandleFunc("POST /check", controlRun(c.clock.after, c.keeper.check))
	c.addEvents(mux)
	c.addRobots(mux)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuseControl(w, http.StatusNotFound, "unknown", fmt.Sprintf("the server does not know %s %s; it is of another version", r.Method, r.URL.Path))
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c.token != "" && subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+c.token)) != 1 {
			refuseControl(w, http.StatusUnauthorized, "denied", "the token is not that of "+filepath.Join(file.Private, controlFile))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// collect collects, and tells the operator what went.
func (c *control) collect(ctx context.Context, r CollectRequest, progress func(gc.Progress)) (gc.Report, error) {
	began := c.clock.now()
	report, err := c.keeper.collect(ctx, r, progress)
	if !r.Dry && !errors.Is(err, ErrRunning) {
		logCollection(ctx, c.log, "a collection that was asked for", report, c.clock.now().Sub(began), err)
	}
	return report, err
}

// controlRun answers with what run does.
func controlRun[O, P, R any](after func(time.Duration) <-chan time.Time, run func(context.Context, O, func(P)) (R, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var o O
		if err := readControl(w, r, &o); err != nil {
			refuseControl(w, http.StatusBadRequest, "invalid", fmt.Sprintf("the server does not understand what it is asked, it may be of another version: %v", err))
			return
		}
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		l := startLines[P, R](w, after, cancel)
		report, err := run(ctx, o, l.progress)
		l.end(report, err)
	}
}

// readControl reads a request to its end: only after that a client that goes
// away is noticed.
func readControl(w http.ResponseWriter, r *http.Request, o any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, longestRequest))
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(o); err != nil {
		return err
	}
	if d.More() {
		return errors.New("it goes on after its end")
	}
	return nil
}

func refuseControl(w http.ResponseWriter, status int, code, message string) {
	answerControl(w, status, controlLine[struct{}, struct{}]{Error: &controlError{code, message}})
}

func answerControl(w http.ResponseWriter, status int, line any) {
	w.Header().Set("Content-Type", "application/jsonl")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(line) // Who is gone cannot be told.
}
