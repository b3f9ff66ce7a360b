package serve

import (
	"io"
	"math"
	"net/http"
	"time"
)

// chunk is how much may go out between two looks at the clock. A client that
// takes this much within [Options.Stall] is slow, not stalled.
const chunk = 256 << 10

// response is the ResponseWriter of one request. It remembers what went out,
// for the log, and renews the deadlines of the connection while bytes move, so
// that a long transfer lives and a stalled one dies.
type response struct {
	http.ResponseWriter
	now     func() time.Time
	stall   time.Duration
	renewed time.Time // When the deadline for writing was last set.
	status  int       // 0: nothing went out yet.
	bytes   int64
	err     error // What stopped the answer on its way.
	gone    bool  // The client went away, or stopped sending.
	short   bool  // What was to be sent ended early.

	// stream says that this is one of the streams of HTTP/2. A deadline for
	// writing that passes ends it, even if nothing is being written, so that
	// there must be none before the answer begins.
	stream bool
}

// Unwrap is for [http.ResponseController].
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// outcome is the status as it is logged and counted.
func (w *response) outcome() int {
	switch {
	case w.short:
		return http.StatusInternalServerError
	case w.gone || w.err != nil:
		return statusGone
	}
	return w.status
}

// WriteHeader begins the answer.
func (w *response) WriteHeader(status int) {
	if w.status != 0 {
		return
	}
	w.status = status
	w.renew()
	w.ResponseWriter.WriteHeader(status)
}

// Write sends p in pieces small enough for the deadline.
func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	sum := 0
	for {
		piece := p[sum:min(len(p), sum+chunk)]
		n, err := w.ResponseWriter.Write(piece)
		sum += n
		w.bytes += int64(n)
		if err != nil {
			w.err = err
			return sum, err
		}
		if sum == len(p) {
			return sum, nil
		}
		w.renew()
	}
}

// ReadFrom hands src on in pieces, each an [io.LimitedReader] directly on the
// reader below: this is what net/http needs to see an *os.File and let the
// kernel send it.
func (w *response) ReadFrom(src io.Reader) (int64, error) {
	to, ok := w.ResponseWriter.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{w}, src)
	}
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	from, ok := src.(*io.LimitedReader)
	if !ok {
		from = &io.LimitedReader{R: src, N: math.MaxInt64}
	}
	var sum int64
	for from.N > 0 {
		size := min(from.N, chunk)
		n, err := to.ReadFrom(&io.LimitedReader{R: from.R, N: size})
		sum += n
		from.N -= n
		w.bytes += n
		if err != nil || n < size {
			w.err, w.short = err, ok && err == nil
			return sum, err
		}
		w.renew()
	}
	return sum, nil
}

// renew gives the client another while to take what is sent. The clock is
// looked at each time, the timer set about once a second.
func (w *response) renew() {
	if w.stream && w.status == 0 {
		return
	}
	now := w.now()
	if now.Sub(w.renewed) < w.pause() {
		return
	}
	w.renewed = now
	// Not every ResponseWriter has deadlines, and then there is none to renew.
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(now.Add(w.stall))
}

// newResponse begins to answer r, which came at start: the server has set a
// deadline.
func newResponse(rw http.ResponseWriter, r *http.Request, start time.Time, o Options) *response {
	w := &response{ResponseWriter: rw, now: o.Now, stall: o.Stall, renewed: start, stream: r.ProtoMajor >= 2}
	if w.stream {
		w.renewed = time.Time{}
		_ = http.NewResponseController(rw).SetWriteDeadline(w.renewed)
	}
	return w
}

func (w *response) pause() time.Duration { return min(time.Second, w.stall/8) }

// body is the body of a request, under a deadline that is renewed while bytes
// arrive.
type body struct {
	r       io.Reader
	w       *response
	renewed time.Time
	n       int64 // How much was read.
	ended   bool
	err     error // Why it ended early, if it did.
}

// newBody puts the body of r under a deadline at once: net/http reads on when
// the handler has not read it all.
func newBody(r *http.Request, w *response) *body {
	b := &body{r: r.Body, w: w, ended: r.Body == nil || r.Body == http.NoBody}
	b.renew()
	return b
}

// Read reads on and remembers why the body ended.
func (b *body) Read(p []byte) (int, error) {
	if b.ended {
		return 0, b.end()
	}
	b.renew()
	n, err := b.r.Read(p)
	b.n += int64(n)
	switch err {
	case nil:
	case io.EOF:
		b.ended = true
		// What the handler does now may take longer than a client may stall.
		_ = http.NewResponseController(b.w.ResponseWriter).SetReadDeadline(time.Time{})
		b.w.renew()
	default:
		b.ended, b.err, b.w.gone = true, err, true
	}
	return n, err
}

func (b *body) end() error {
	if b.err != nil {
		return b.err
	}
	return io.EOF
}

// drain reads on without keeping anything, up to most bytes. Clients that are
// answered while they still send may see a broken connection instead.
func (b *body) drain(most int64) { _, _ = io.CopyN(io.Discard, b, most) }

func (b *body) renew() {
	if b.ended {
		return
	}
	now := b.w.now()
	if now.Sub(b.renewed) < b.w.pause() {
		return
	}
	b.renewed = now
	_ = http.NewResponseController(b.w.ResponseWriter).SetReadDeadline(now.Add(b.w.stall))
	b.w.renew()
}
