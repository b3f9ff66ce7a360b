package serve

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/regctl/regctl/serve/auth"
	"github.com/regctl/regctl/serve/state"
	"github.com/regctl/regctl/serve/storage/file"
)

var (
	// ErrRobotExists says that a robot of that name may log in.
	ErrRobotExists = errors.New("there is a robot of that name")

	// ErrRobotInvalid says that there can be no such robot.
	ErrRobotInvalid = errors.New("no robot can be like that")
)

// The states of a [Robot].
const (
	RobotActive  = "active"
	RobotExpired = "expired"
	RobotRevoked = "revoked"
)

const (
	// longestNote is how long the note of a robot may be, in bytes.
	longestNote = 256
	// remindBefore is for how long before its end the log tells of a robot that
	// was there within that time.
	remindBefore = 7 * 24 * time.Hour
)

// Robot is a login for a program. Its secret is known to who made it, and to
// nobody else.
type Robot struct {
	Name   string   `json:"name"`
	State  string   `json:"state"` // RobotActive and so on.
	Note   string   `json:"note,omitempty"`
	Scopes []string `json:"scopes"` // See [auth.ParseRobotScope].

	Created time.Time `json:"created"`
	Expires time.Time `json:"expires,omitzero"` // Zero: never.
	Revoked time.Time `json:"revoked,omitzero"`
	Used    time.Time `json:"used,omitzero"` // When it was there last, to a minute or so.
}

// RobotRequest asks for a new robot.
type RobotRequest struct {
	Name    string    `json:"name"`
	Scopes  []string  `json:"scopes"`
	Note    string    `json:"note,omitempty"`
	Expires time.Time `json:"expires,omitzero"` // Zero: never.
	Sum     []byte    `json:"sum"`              // Of the secret, see [auth.NewRobotSecret].
}

// RobotMade is a new robot.
type RobotMade struct {
	Robot Robot `json:"robot"`
	// Open says that the server asks nobody who they are.
	Open bool `json:"open,omitempty"`
}

// RobotList is a list of robots.
type RobotList struct {
	Robots []Robot `json:"robots"`
}

// RobotNames name robots.
type RobotNames struct {
	Names []string `json:"names"`
}

// Robots are the robots of a store on this machine.
type Robots interface {
	// Create makes a robot; it may log in when this returns.
	// Errors: [ErrRobotExists], [ErrRobotInvalid].
	Create(ctx context.Context, r RobotRequest) (RobotMade, error)
	// List returns all robots by name, with those that were revoked or have
	// expired within a year.
	List(ctx context.Context) (RobotList, error)
	// Revoke keeps robots out: their next request is not answered. It returns
	// the names of those that were not revoked before.
	Revoke(ctx context.Context, r RobotNames) (RobotNames, error)
	// Holder says who does it.
	Holder() Holder
	// Close lets go of the store.
	Close() error
}

// robots are those of a store: all on disk, and in memory those that may log in.
type robots struct {
	state  *state.State
	source *auth.Robots
	now    func() time.Time
	log    *slog.Logger
	open   func() bool // Whether nobody is asked who they are. May be nil: not known.
	audit  *auditLog   // May be nil.

	mu sync.Mutex // Held by a change, so that memory and disk agree.
}

// openRobots lets in those who are in st.
func openRobots(ctx context.Context, st *state.State, now func() time.Time, log *slog.Logger) (*robots, error) {
	all, err := st.Robots(ctx)
	if err != nil {
		return nil, err
	}
	r := &robots{state: st, now: now, log: log}
	r.source = auth.NewRobots(auth.RobotOptions{Log: log, Now: now, Used: st.RobotUsed})
	var in []auth.Robot
	for _, one := range all {
		if one.Revoked.IsZero() { // Who has expired is asked when it comes: the clock may be wrong now.
			in = append(in, toSource(one))
		}
	}
	r.source.Add(in...)
	return r, nil
}

// toSource is what is to be known of a robot to let it in.
func toSource(r state.Robot) auth.Robot {
	to := auth.Robot{ID: r.ID, Name: r.Name, Scopes: r.Scopes, Expires: r.Expires}
	copy(to.Sum[:], r.Sum)
	return to
}

// check says what is wrong with a request.
func (q *RobotRequest) check(now time.Time) error {
	if err := auth.CheckRobotName(q.Name); err != nil {
		return err
	}
	if _, err := auth.RobotLimit(q.Scopes); err != nil {
		return err
	}
	switch {
	case len(q.Sum) != sha256.Size:
		return errors.New("the sum of the secret has another length than SHA-256")
	case !q.Expires.IsZero() && !q.Expires.After(now):
		return fmt.Errorf("it would have expired at %s already", q.Expires.UTC().Format(time.RFC3339))
	case len(q.Note) > longestNote || strings.ContainsFunc(q.Note, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return fmt.Errorf("the note is longer than a line of %d bytes", longestNote)
	}
	return nil
}

// Create makes a robot durable, then lets it in.
func (r *robots) Create(ctx context.Context, q RobotRequest) (RobotMade, error) {
	now := r.now()
	if err := q.check(now); err != nil {
		return RobotMade{}, fmt.Errorf("%w: %w", ErrRobotInvalid, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	one := state.Robot{
		ID: rand.Text(), Name: q.Name, Scopes: q.Scopes, Sum: q.Sum, Note: q.Note, Created: now.UTC(), Expires: q.Expires,
	}
	err := r.state.AddRobot(ctx, one)
	if errors.Is(err, state.ErrRobotExists) {
		return RobotMade{}, fmt.Errorf("%w: %s", ErrRobotExists, q.Name)
	}
	if err != nil {
		return RobotMade{}, err
	}
	r.source.Add(toSource(one))
	about := []slog.Attr{slog.String("robot", q.Name), slog.String("scopes", strings.Join(q.Scopes, " "))}
	if !q.Expires.IsZero() {
		about = append(about, slog.Time("expires", q.Expires))
	}
	r.log.LogAttrs(ctx, slog.LevelInfo, "a robot may log in", about...)
	r.record("create", q.Name, strings.Join(q.Scopes, " "))
	return RobotMade{Robot: r.tell(one), Open: r.open != nil && r.open()}, nil
}

// List tells of all.
func (r *robots) List(ctx context.Context) (RobotList, error) {
	all, err := r.state.Robots(ctx)
	l := RobotList{Robots: make([]Robot, len(all))}
	for i, one := range all {
		l.Robots[i] = r.tell(one)
	}
	return l, err
}

// tell is what everybody may know of a robot.
func (r *robots) tell(one state.Robot) Robot {
	to := Robot{
		Name: one.Name, State: RobotActive, Note: one.Note, Scopes: one.Scopes,
		Created: one.Created, Expires: one.Expires, Revoked: one.Revoked, Used: one.Used,
	}
	switch {
	case !one.Revoked.IsZero():
		to.State = RobotRevoked
	case one.Over(r.now()):
		to.State = RobotExpired
	}
	return to
}

// Revoke keeps robots out, then makes that durable: on a full disk they are out
// at least while this process runs.
func (r *robots) Revoke(ctx context.Context, q RobotNames) (RobotNames, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.source.Remove(q.Names...)
	names, err := r.state.RevokeRobots(ctx, q.Names...)
	if err != nil {
		return RobotNames{}, fmt.Errorf("%s: out only until the server stops, as that cannot be written: %w", strings.Join(q.Names, " "), err)
	}
	for _, name := range names {
		r.log.LogAttrs(ctx, slog.LevelInfo, "a robot was revoked", slog.String("robot", name))
		r.record("revoke", name, "")
	}
	return RobotNames{Names: append([]string{}, names...)}, nil
}

// record adds to the audit log what became of a robot.
func (r *robots) record(action, name, scopes string) {
	if r.audit != nil {
		r.audit.add(auditRecord{Action: action, Outcome: auditOK, Who: "robot:" + name, Source: auth.SourceRobots, Reason: scopes})
	}
}

// remind tells the log which robots, that somebody uses, expire soon.
func (r *robots) remind(ctx context.Context) {
	if r == nil {
		return
	}
	all, err := r.state.Robots(ctx)
	if err != nil {
		r.log.LogAttrs(ctx, slog.LevelWarn, "cannot tell which robots expire soon", slog.Any("error", err))
		return
	}
	now := r.now()
	for _, one := range all {
		if left := one.Expires.Sub(now); !one.Expires.IsZero() && !one.Over(now) && left < remindBefore && now.Sub(one.Used) < remindBefore {
			r.log.LogAttrs(ctx, slog.LevelWarn, "a robot that is in use expires soon; make another one: regctl token create",
				slog.String("robot", one.Name), slog.Time("expires", one.Expires))
		}
	}
}

// keepRobots opens the robots of the state, if there is one.
func (a *Assembly) keepRobots(ctx context.Context, p Parts) (err error) {
	if a.state == nil {
		return nil
	}
	if a.robots, err = openRobots(ctx, a.state, p.Now, p.Log); err != nil {
		return err
	}
	a.robots.open, a.robots.audit = a.live.open, a.live.audit
	return nil
}

// open tells whether nobody is asked who they are.
func (l *live) open() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !admits(&l.config)
}

// OpenRobots opens the robots of the store in p.Dir. If no server has it, it is
// locked until Close; a server of ours that has it is asked.
// Errors: as of [OpenUpkeep].
func OpenRobots(ctx context.Context, p UpkeepParts) (Robots, error) {
	locked, held, err := p.lock(ctx)
	switch {
	case err != nil:
		return nil, err
	case held != nil:
		return dialRobots(ctx, p.Dir, held)
	}
	l := &localRobots{}
	l.atEnd(locked.Unlock)
	if err := l.open(ctx, p, locked); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// localRobots are those of a store that no server has.
type localRobots struct {
	local
	*robots
	make func(context.Context) error // Makes the state. Nil: there is one.
}

func (l *localRobots) open(ctx context.Context, p UpkeepParts, locked *file.Locked) (err error) {
	if _, err := os.Stat(locked.Path(stateFile)); errors.Is(err, fs.ErrNotExist) {
		l.make = func(ctx context.Context) error { return l.openState(ctx, p, locked) }
		l.robots, err = openRobots(ctx, nil, p.Now, p.Log)
		return err
	}
	return l.openState(ctx, p, locked)
}

func (l *localRobots) openState(ctx context.Context, p UpkeepParts, locked *file.Locked) error {
	st, err := state.Open(ctx, locked.Path(stateFile), p.Now)
	if err != nil {
		return err
	}
	l.atEnd(st.Close)
	for _, name := range []string{stateFile, stateFile + "-wal"} {
		if err := locked.Give(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("open the state: %w", err)
		}
	}
	l.make = nil
	l.robots, err = openRobots(ctx, st, p.Now, p.Log)
	return err
}

// Create makes the state if there is none, which only who lists does not need.
func (l *localRobots) Create(ctx context.Context, q RobotRequest) (RobotMade, error) {
	if l.make != nil {
		if err := l.make(ctx); err != nil {
			return RobotMade{}, err
		}
	}
	return l.robots.Create(ctx, q)
}
