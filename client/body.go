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

// sentBody is the body of a request.
type sentBody struct {
	io.ReadCloser
	slot *slot
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.slot.moves()
	return b.ReadCloser.Read(p)
}
