package prune

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// The kinds of an [Entry].
const (
	KindRun      = "run"      // Begins a journal: when it was.
	KindTag      = "tag"      // A tag that is about to go.
	KindManifest = "manifest" // A manifest that is about to go, or whose tag is.
	KindKept     = "kept"     // It was recorded, but stays.
	KindEnd      = "end"      // All that was recorded is done.
	KindUndone   = "undone"   // All that was recorded was put back.
)

// Entry is a line of a journal.
type Entry struct {
	Kind      string     `json:"kind"`
	Time      time.Time  `json:"time,omitzero"`
	Registry  string     `json:"registry,omitempty"` // Its address, with a scheme if that was said.
	Repo      string     `json:"repo,omitempty"`
	Tag       string     `json:"tag,omitempty"`
	Digest    oci.Digest `json:"digest,omitempty"`
	MediaType string     `json:"mediaType,omitempty"`
	// Goes tells a manifest that is deleted from one that only loses tags.
	Goes bool `json:"goes,omitempty"`
	// Raw is the manifest, the first time that a journal has it.
	Raw []byte `json:"raw,omitempty"`
}

// ErrNotRecorded is the error of a [Recorder] that could not write; nothing
// more is deleted after it.
var ErrNotRecorded = errors.New("not recorded, so nothing more is deleted")

// Recorder takes down what is about to be deleted. It is safe for concurrent
// use.
type Recorder interface {
	// Record returns once the entries are durable.
	// Errors: [ErrNotRecorded].
	Record(entries ...Entry) error
}

// Discard records nothing.
type Discard struct{}

// Record does nothing.
func (Discard) Record(...Entry) error { return nil }

// Journal is the record of one run, a file of lines. It is a [Recorder].
type Journal struct {
	id string

	mu    sync.Mutex
	f     *os.File
	seen  map[oci.Digest]bool
	lines int
	err   error
}

const journalSuffix = ".jsonl"

// CreateJournal begins a journal in dir, called after the time. It makes dir
// if need be; nobody else can read either.
func CreateJournal(dir string, now time.Time) (*Journal, error) {
	if err := makeDir(dir); err != nil {
		return nil, err
	}
	id := now.UTC().Format("20060102-1504")
	for n := 1; ; n++ {
		j := &Journal{id: id, seen: map[oci.Digest]bool{}}
		if n > 1 {
			j.id = fmt.Sprintf("%s-%d", id, n)
		}
		var err error
		j.f, err = os.OpenFile(filepath.Join(dir, j.id+journalSuffix), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600) // For [Mark] by another run.
		switch {
		case err == nil:
			return j, errors.Join(j.Record(Entry{Kind: KindRun, Time: now.UTC()}), syncDir(dir))
		case !errors.Is(err, os.ErrExist):
			return nil, err
		}
	}
}

// makeDir makes dir and what is above it, durably.
func makeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return syncDir(parent)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if runtime.GOOS == "windows" { // Where directories cannot be synced, and need not be.
		return nil
	}
	return d.Sync()
}

// ID is what [OpenJournal] finds it by.
func (j *Journal) ID() string { return j.id }

// Record writes entries and syncs the file once. After an error it writes
// nothing more.
// Errors: [ErrNotRecorded].
func (j *Journal) Record(entries ...Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	var text bytes.Buffer
	for _, e := range entries {
		if j.seen[e.Digest] {
			e.Raw = nil
		}
		if e.Raw != nil {
			j.seen[e.Digest] = true
		}
		line, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrNotRecorded, err)
		}
		text.Write(append(line, '\n'))
	}
	_, err := j.f.Write(text.Bytes())
	if err == nil {
		err = j.f.Sync()
	}
	if err != nil {
		j.err = fmt.Errorf("%w: %w", ErrNotRecorded, err)
	}
	j.lines += len(entries)
	return j.err
}

// Close ends the journal: done says that all that was recorded was also done.
// One that records nothing is removed.
func (j *Journal) Close(done bool) error {
	j.mu.Lock()
	empty := j.lines <= 1
	j.mu.Unlock()
	if empty {
		return errors.Join(j.f.Close(), os.Remove(j.f.Name()))
	}
	var err error
	if done {
		err = j.Record(Entry{Kind: KindEnd})
	}
	return errors.Join(err, j.f.Close())
}

// Journals returns the ids of the journals in dir, the oldest first. Without
// such a directory there are none.
func Journals(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), journalSuffix); ok {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareIDs)
	return ids, err
}

// compareIDs puts …-10 after …-9.
func compareIDs(a, b string) int {
	if c := len(a) - len(b); c != 0 && len(a) > len("20060102-1504") && len(b) > len("20060102-1504") && a[:13] == b[:13] {
		return c
	}
	return strings.Compare(a, b)
}

// OpenJournal opens the journal called id for [ReadJournal].
// Errors: [os.ErrNotExist].
func OpenJournal(dir, id string) (*os.File, error) {
	if id != filepath.Base(id) {
		return nil, fmt.Errorf("journal %q: %w", id, os.ErrNotExist)
	}
	return os.Open(filepath.Join(dir, id+journalSuffix))
}

// isMarked tells that [Mark] wrote what comes next.
func isMarked(lines *bufio.Reader) bool {
	return slices.ContainsFunc([]string{KindEnd, KindUndone}, func(kind string) bool {
		begin := fmt.Sprintf(`{"kind":%q,"time":`, kind)
		next, _ := lines.Peek(len(begin)) // Less at the end.
		return string(next) == begin
	})
}

// ReadJournal calls use for every entry. A line that was cut is passed over:
// what it would have told was not deleted.
func ReadJournal(r io.Reader, use func(Entry) error) error {
	return readLines(r, func(e Entry, _, _ int64) error { return use(e) })
}

// readLines tells where each entry is, too.
func readLines(r io.Reader, use func(e Entry, offset, size int64) error) error {
	lines := bufio.NewReader(r)
	offset := int64(0)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		var e Entry
		if err := json.Unmarshal(line, &e); err != nil {
			if isMarked(lines) {
				offset += int64(len(line))
				continue // It was cut, and then [Mark] wrote behind it.
			}
			return fmt.Errorf("line %d: %w", n, err)
		}
		if _, err := oci.ParseDigest(string(e.Digest)); err != nil && e.Digest != "" {
			return fmt.Errorf("line %d: %w", n, err)
		}
		if err := use(e, offset, int64(len(line))); err != nil {
			return err
		}
		offset += int64(len(line))
	}
}

// Mark adds an entry to the end of a journal that was closed.
func Mark(dir, id, kind string, now time.Time) error {
	line, err := json.Marshal(Entry{Kind: kind, Time: now.UTC()})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, id+journalSuffix), os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	cut, err := endsCut(f)
	if err != nil {
		return err
	}
	if cut { // What it would have told was not deleted; ReadJournal passes over it then, too.
		line = append([]byte("\n"), line...)
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	return f.Sync()
}

func endsCut(f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false, err
	}
	last := make([]byte, 1)
	_, err = f.ReadAt(last, info.Size()-1)
	return last[0] != '\n', err
}
