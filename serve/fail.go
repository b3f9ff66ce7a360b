package serve

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// fail is the one place that writes errors.
func (h *Handler) fail(ctx context.Context, w *response, q *request, err error) {
	e := oci.AsError(h.refuse(ctx, w, q, err))
	status := e.Code.Status()
	id := oci.CallerFrom(ctx).RequestID
	switch {
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		w.gone = true
	case q.kind == kindReady: // It is asked every few seconds, and the cause was logged when it came.
	case status >= http.StatusInternalServerError:
		h.o.Log.LogAttrs(ctx, slog.LevelError, "request failed", slog.String("request", id),
			slog.String("code", string(e.Code)), slog.String("error", withCause(e)))
	}
	if w.status != 0 {
		// Part of an answer is out. Only a connection that is cut tells the
		// client that the rest is missing, and this is how net/http cuts it.
		panic(http.ErrAbortHandler)
	}
	header := w.Header()
	if e.RetryAfter > 0 {
		header.Set("Retry-After", strconv.FormatInt(int64((e.RetryAfter+time.Second-1)/time.Second), 10))
	}
	if status == http.StatusMethodNotAllowed {
		header.Set("Allow", q.form.allow(q.Method))
	}
	body := oci.MarshalError(e)
	header.Set("X-Request-Id", id)
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// withCause is e with its cause, whether or not the message tells it.
func withCause(e *oci.Error) string {
	if e.Err == nil || e.Message == "" {
		return e.Error()
	}
	return e.Message + ": " + e.Err.Error()
}
