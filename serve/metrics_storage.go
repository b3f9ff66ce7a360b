package serve

import (
	"context"
	"io"
	"iter"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/regctl/regctl/serve/storage"
)

// measuredStorage tells how long the storage takes, by the names that
// registry:2 has for what it does. Commit and Sync are ours: there it does not
// wait for the device.
type measuredStorage struct {
	storage.Backend
	stat, reader, get, writer, list, move, remove, commit, sync prometheus.Observer
	now                                                         func() time.Time
}

// storage returns b with what it does measured; b itself if nothing is counted.
func (m *Metrics) storage(b storage.Backend, driver string, now func() time.Time) storage.Backend {
	if m == nil {
		return b
	}
	took := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "registry_storage_action_seconds", Help: "How long the storage took.",
		Buckets: []float64{.0005, .001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"driver", "action"})
	m.registry.MustRegister(took)
	of := func(action string) prometheus.Observer { return took.WithLabelValues(driver, action) }
	return &measuredStorage{
		Backend: b, now: now,
		stat: of("Stat"), reader: of("Reader"), get: of("GetContent"), writer: of("Writer"), list: of("List"),
		move: of("Move"), remove: of("Delete"), commit: of("Commit"), sync: of("Sync"),
	}
}

func (s *measuredStorage) since(start time.Time, o prometheus.Observer) {
	o.Observe(s.now().Sub(start).Seconds())
}

func (s *measuredStorage) Stat(ctx context.Context, key string) (storage.Info, error) {
	defer s.since(s.now(), s.stat)
	return s.Backend.Stat(ctx, key)
}

func (s *measuredStorage) Open(ctx context.Context, key string) (io.ReadSeekCloser, storage.Info, error) {
	defer s.since(s.now(), s.reader)
	return s.Backend.Open(ctx, key)
}

// Get is of [storage.Getter].
func (s *measuredStorage) Get(ctx context.Context, key string, most int64) ([]byte, storage.Info, error) {
	defer s.since(s.now(), s.get)
	return storage.Get(ctx, s.Backend, key, most)
}

func (s *measuredStorage) Create(ctx context.Context, key string, off int64) (storage.Writer, error) {
	defer s.since(s.now(), s.writer)
	w, err := s.Backend.Create(ctx, key, off)
	if err != nil {
		return nil, err
	}
	return &measuredWriter{w, s}, nil
}

// List leaves out the time that is spent on what it yields.
func (s *measuredStorage) List(ctx context.Context, dir string) iter.Seq2[storage.Entry, error] {
	return func(yield func(storage.Entry, error) bool) {
		var took time.Duration
		mark := s.now()
		for e, err := range s.Backend.List(ctx, dir) {
			took += s.now().Sub(mark)
			if !yield(e, err) {
				break
			}
			mark = s.now()
		}
		s.list.Observe(took.Seconds())
	}
}

func (s *measuredStorage) Rename(ctx context.Context, from, to string) error {
	defer s.since(s.now(), s.move)
	return s.Backend.Rename(ctx, from, to)
}

func (s *measuredStorage) Remove(ctx context.Context, key string) error {
	defer s.since(s.now(), s.remove)
	return s.Backend.Remove(ctx, key)
}

// Sync is of [storage.Syncer].
func (s *measuredStorage) Sync(ctx context.Context, dir string) error {
	defer s.since(s.now(), s.sync)
	return storage.Sync(ctx, s.Backend, dir)
}

// FoldsCase is of [storage.CaseFolder].
func (s *measuredStorage) FoldsCase() bool { return storage.FoldsCase(s.Backend) }

// Resolve is of [storage.Resolver].
func (s *measuredStorage) Resolve(ctx context.Context, key string) (string, error) {
	return storage.Resolve(ctx, s.Backend, key)
}

// CommitAll is of [storage.BatchCommitter]. The backend gets its own writers.
func (s *measuredStorage) CommitAll(ctx context.Context, batch []storage.Pending) error {
	defer s.since(s.now(), s.commit)
	own := make([]storage.Pending, len(batch))
	for i, p := range batch {
		if w, ok := p.Writer.(*measuredWriter); ok {
			p.Writer = w.Writer
		}
		own[i] = p
	}
	return storage.CommitAll(ctx, s.Backend, own...)
}

type measuredWriter struct {
	storage.Writer
	s *measuredStorage
}

func (w *measuredWriter) Sync() error {
	defer w.s.since(w.s.now(), w.s.sync)
	return w.Writer.Sync()
}

func (w *measuredWriter) Commit(ctx context.Context, to string) error {
	defer w.s.since(w.s.now(), w.s.commit)
	return w.Writer.Commit(ctx, to)
}
