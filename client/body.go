package client

import (
	"context"
	"errors"
	"io"
	"time"
)

// answerBody is the body of an answer. It gives its slot back when it is read
// or closed, and gives up on a server that stops sending.
type answerBody struct {
	inner     io.ReadCloser
	ctx       func() error // Why the request was cancelled.
	cancel    context.CancelCauseFunc
	impatient *time.Timer
	patience  time.Duration
	slot      *slot
}

func (b *answerBody) Read(p []byte) (int, error) {
	b.impatient.Reset(b.patience)
	n, err := b.inner.Read(p)
	b.impatient.Stop()
	switch {
	case err == nil:
		b.slot.moves()
	case errors.Is(err, io.EOF):
		b.slot.release()
	case b.ctx() == errNoAnswer:
		err = errNoAnswer
	}
	return n, err
}

func (b *answerBody) Close() error {
	b.impatient.Stop()
	err := b.inner.Close()
	b.cancel(nil)
	b.slot.release()
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
