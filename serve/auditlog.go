package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/regctl/regctl/serve/config"
)

// auditLog is the section audit, as it is in force. It is safe for concurrent
// use; nil, and the zero value, record nothing.
type auditLog struct {
	log  *slog.Logger
	now  func() time.Time
	file atomic.Pointer[auditFile] // Nil: there is none.
	mu   sync.Mutex                // Held by who writes to a file, as two in turn may have one name.

	openFile func(name string, flag int, mode os.FileMode) (*os.File, error) // Nil: [os.OpenFile].
}

// set makes c what is in force. The first one is even if its disk is full: it
// is opened when there is room.
// Errors: those of the file system; all stays as it was.
func (l *auditLog) set(c config.Audit) error {
	var f *auditFile
	if c.Path != "" {
		f = &auditFile{config: c, log: l.log, mu: &l.mu, openFile: os.OpenFile}
		if l.openFile != nil {
			f.openFile = l.openFile
		}
		err := f.open()
		full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
		if err != nil && (!full || l.file.Load() != nil) {
			return err
		}
		if err != nil {
			f.tell(err)
		}
	}
	if was := l.file.Swap(f); was != nil {
		was.close()
	}
	return nil
}

// wants tells whether anything is recorded, and whether pulls are.
func (l *auditLog) wants() (any, pulls bool) {
	if l == nil {
		return false, false
	}
	f := l.file.Load()
	return f != nil, f != nil && f.config.Pulls
}

// add records r as of now.
func (l *auditLog) add(r auditRecord) {
	if l == nil {
		return
	}
	f := l.file.Load()
	if f == nil {
		return
	}
	r.Time = l.now().UTC()
	f.add(r)
}

// auditFile is a file of JSON lines. Whoever moves it away, as logrotate does,
// gets no more of it: the next line goes to a new file of the name. It is not
// synced: what the process has written is there when the process is not, but
// not after a power cut.
type auditFile struct {
	config config.Audit
	log    *slog.Logger

	openFile func(name string, flag int, mode os.FileMode) (*os.File, error)

	mu     *sync.Mutex
	f      *os.File // Nil: it could not be opened yet.
	closed bool
	lost   int  // Records that could not be written, since the last that could.
	stuck  bool // It was told that it cannot be rotated.
}

// open opens the file, and makes it with its directory if it is missing.
func (a *auditFile) open() error {
	if err := os.MkdirAll(filepath.Dir(a.config.Path), 0o750); err != nil {
		return fmt.Errorf("make the directory of the audit log: %w", err)
	}
	f, err := a.openFile(a.config.Path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open the audit log: %w", err)
	}
	a.closeFile()
	a.f = f
	return nil
}

func (a *auditFile) closeFile() {
	if a.f != nil {
		_ = a.f.Close() // Nothing is kept back that it could lose.
	}
}

func (a *auditFile) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	a.closeFile()
}

// add writes a record. Nobody waits for a disk to get room: what cannot be
// written is counted, and told in the log, and in the file as soon as it can be.
func (a *auditFile) add(r auditRecord) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed { // Another file has taken its place while the request was answered.
		if err := a.open(); err != nil {
			a.fail(err)
			return
		}
		defer a.closeFile()
	}
	if a.f == nil {
		if err := a.open(); err != nil {
			a.fail(err)
			return
		}
	}
	if a.lost > 0 {
		gap := auditRecord{Time: r.Time, Action: "audit", Outcome: auditFailed, Reason: strconv.Itoa(a.lost) + " records before this one could not be written"}
		if err := a.write(gap); err != nil {
			a.lost++
			return
		}
		a.log.LogAttrs(context.Background(), slog.LevelWarn, "the audit log is written again",
			slog.String("file", a.config.Path), slog.Int("lost", a.lost))
		a.lost = 0
	}
	if err := a.write(r); err != nil {
		a.fail(err)
	}
}

// fail counts a record as lost, and tells of the first.
func (a *auditFile) fail(err error) {
	if a.lost++; a.lost == 1 {
		a.tell(err)
	}
}

func (a *auditFile) tell(err error) {
	a.log.LogAttrs(context.Background(), slog.LevelError, "the audit log cannot be written; requests are answered all the same",
		slog.String("file", a.config.Path), slog.Any("error", err))
}

// write appends a whole line, or nothing.
func (a *auditFile) write(r auditRecord) error {
	line, err := json.Marshal(r)
	if err != nil { // Cannot happen: strings and numbers.
		return err
	}
	line = append(line, '\n')
	size, err := a.place(len(line))
	if err != nil {
		return err
	}
	n, err := a.f.Write(line)
	if err != nil && n > 0 && size >= 0 {
		return errors.Join(err, a.f.Truncate(size))
	}
	return err
}

// place makes the open file the one of that name, with room for so many bytes,
// and returns its size; -1 if it has none, as a pipe.
func (a *auditFile) place(more int) (size int64, err error) {
	named, err := os.Stat(a.config.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	open, openErr := a.f.Stat()
	if openErr != nil {
		return 0, openErr
	}
	if err != nil || !os.SameFile(named, open) {
		if err := a.open(); err != nil {
			return 0, err
		}
		if open, err = a.f.Stat(); err != nil {
			return 0, err
		}
	}
	switch size = open.Size(); {
	case !open.Mode().IsRegular():
		return -1, nil
	case size == 0, size+int64(more) <= a.config.MaxSize:
		return size, nil
	}
	if err := a.rotate(); err != nil {
		if !a.stuck { // Better too long than none.
			a.log.LogAttrs(context.Background(), slog.LevelError, "the audit log cannot be rotated, and grows on", slog.Any("error", err))
		}
		a.stuck = true
		return size, nil
	}
	a.stuck = false
	return 0, nil
}

// rotate moves the file to NAME.1, that to NAME.2 and so on, and begins a new
// one. The oldest goes.
func (a *auditFile) rotate() error {
	name := func(i int) string {
		if i == 0 {
			return a.config.Path
		}
		return a.config.Path + "." + strconv.Itoa(i)
	}
	for i := a.config.Keep - 1; i >= 0; i-- {
		if err := os.Rename(name(i), name(i+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return a.open()
}

// openAudit opens the audit log that the configuration names.
// Errors: [*ConfigError].
func (a *Assembly) openAudit(p Parts) error {
	a.live.audit = &auditLog{log: p.Log, now: p.Now}
	if err := a.live.audit.set(p.Config.Audit); err != nil {
		return &ConfigError{"audit.path", err}
	}
	a.atEnd(func() { _ = a.live.audit.set(config.Audit{}) }) // Cannot fail: nothing is opened.
	return nil
}

// auditTo puts another section audit in force, and tells whether it is. If it
// cannot be, the one before stays: better there than nowhere.
func (l *live) auditTo(c config.Audit) bool {
	if l.audit == nil || c == l.config.Audit {
		return true
	}
	if err := l.audit.set(c); err != nil {
		l.log.LogAttrs(context.Background(), slog.LevelError, "what audit says is not put in force", slog.Any("error", err))
		return false
	}
	l.config.Audit = c
	return true
}
