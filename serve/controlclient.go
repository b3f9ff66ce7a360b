package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/store"
)

// helloTimeout is how long a server may take to say who it is.
const helloTimeout = 10 * time.Second

// distant asks the server that holds a store.
type distant struct {
	client http.Client
	addr   controlAddr
	hello  controlHello
}

// dialControl asks the server that holds the store in dir who it is. held says
// that it does; it is in the error if the server cannot be asked.
func dialControl(ctx context.Context, dir string, held error) (Upkeep, error) {
	r, err := findControl(dir)
	if err == nil {
		err = r.greet(ctx)
	}
	switch {
	case err == nil:
		return r, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED): // It is starting or stopping, or no server, after one that was killed.
		return nil, held
	}
	return nil, fmt.Errorf("%w (%w)", held, err)
}

// findControl finds the way to the server.
func findControl(dir string) (*distant, error) {
	r := &distant{addr: controlAddr{Addr: "control"}} // A name for the header Host.
	network, at := "unix", filepath.Join(dir, file.Private, controlSocket)
	data, err := os.ReadFile(filepath.Join(dir, file.Private, controlFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Stat(at); err != nil {
			return nil, err
		}
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(data, &r.addr); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Join(dir, file.Private, controlFile), err)
		}
		network, at = "tcp", r.addr.Addr
	}
	r.client.Transport = &http.Transport{ // No proxy.
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, at)
		},
	}
	return r, nil
}

// greet asks the server who it is.
func (r *distant) greet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, helloTimeout)
	defer cancel()
	res, err := r.do(ctx, http.MethodGet, "/", nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var line struct {
		controlHello
		Error *controlError `json:"error"`
	}
	err = json.NewDecoder(io.LimitReader(res.Body, longestRequest)).Decode(&line)
	switch {
	case err != nil:
		return fmt.Errorf("its answer makes no sense: %w", err)
	case line.Error != nil:
		return line.Error
	case line.PID == 0:
		return errors.New("its answer makes no sense")
	}
	r.hello = line.controlHello
	return nil
}

func (r *distant) do(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+r.addr.Addr+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if r.addr.Token != "" {
		req.Header.Set("Authorization", "Bearer "+r.addr.Token)
	}
	return r.client.Do(req)
}

// Collect asks the server to collect.
func (r *distant) Collect(ctx context.Context, q CollectRequest, progress func(gc.Progress)) (gc.Report, error) {
	return askControl[gc.Progress, gc.Report](ctx, r, http.MethodPost, "/gc", q, progress)
}

// Check asks the server to check.
func (r *distant) Check(ctx context.Context, o store.CheckOptions, progress func(store.CheckProgress)) (store.CheckReport, error) {
	return askControl[store.CheckProgress, store.CheckReport](ctx, r, http.MethodPost, "/check", o, progress)
}

// askControl sends a request and reads the lines of the answer.
func askControl[P, R any](ctx context.Context, r *distant, method, path string, request any, progress func(P)) (report R, err error) {
	body, err := json.Marshal(request)
	if err != nil {
		return report, err
	}
	res, err := r.do(ctx, method, path, body)
	if err != nil {
		return report, lostControl(ctx, r, err)
	}
	defer res.Body.Close()
	lines := json.NewDecoder(res.Body)
	for {
		var line controlLine[P, R]
		if err := lines.Decode(&line); err != nil {
			return report, lostControl(ctx, r, err)
		}
		switch {
		case line.Error != nil:
			err = line.Error
			fallthrough
		case line.Report != nil:
			if line.Report != nil {
				report = *line.Report
			}
			return report, err
		case line.Progress != nil && progress != nil:
			progress(*line.Progress)
		}
	}
}

// lostControl says that the server has gone before it answered.
func lostControl(ctx context.Context, r *distant, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("the server (process %d) went away before it had finished; nothing is broken, run it again: %w", r.hello.PID, err)
}

// Holder is the server.
func (r *distant) Holder() Holder { return Holder{Remote: true, PID: r.hello.PID, Host: r.hello.Host} }

// Close lets go of the connection.
func (r *distant) Close() error {
	r.client.CloseIdleConnections()
	return nil
}
