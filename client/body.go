package client

import (
	"context"
	"errors"
	"io"
	"time"
)

// answerBody is the body of an answer. It gives up on a server that stops
// sending.
type answerBody struct {
	inner     io.ReadCloser
	cause     func() error // Why the request was cancelled.
	cancel    context.CancelCauseFunc
	impatient *time.Timer
	patience  time.Duration
	slot      *slot // Given back when all is read or closed; may be nil.
}

func (b *answerBody) Read(p []byte) (int, error) {
	b.impatient.Reset(b.patience)
	n, err := b.inner.Read(p)
	b.impatient.Stop()
	if b.slot != nil {
		b.slot.moves()
	}
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		b.release()
	case b.cause() == errNoAnswer:
		err = errNoAnswer
	}
	return n, err
}

func (b *answerBody) release() {
	if b.slot != nil {
		b.slot.release()
	}
}

func (b *answerBody) Close() error {
	b.impatient.Stop()
	err := b.inner.Close()
	b.cancel(nil)
	b.release()
	return err
}

// sentBody is the body of a request. It gives up on a server that stops
// taking it.
type sentBody struct {
	io.ReadCloser
	slot    *slot
	sending *sending
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.sending.timer.Stop() // What is sent takes its time.
	b.slot.moves()
	n, err := b.ReadCloser.Read(p)
	if err == nil {
		b.sending.timer.Reset(b.sending.limit)
	}
	return n, err
}

func (b *sentBody) Close() error {
	b.sending.timer.Stop()
	return b.ReadCloser.Close()
}

// sending ends a request of which a server takes nothing for too long.
type sending struct {
	timer *time.Timer // Stopped while nothing is waited for.
	limit time.Duration
}

func newSending(limit time.Duration, end func()) *sending {
	s := &sending{timer: time.AfterFunc(limit, end), limit: limit}
	s.timer.Stop()
	return s
}
