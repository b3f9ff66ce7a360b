package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/regctl/regctl/serve/auth/rule"
)

// SourceRobots is the [Identity] Source of robots.
const SourceRobots = "robots"

const (
	// secretPrefix begins the secret of every robot, so that people and
	// scanners know one when they see it.
	secretPrefix = "regctl_"
	// secretLength is that of a secret: with what crypto/rand.Text makes.
	secretLength = len(secretPrefix) + 26
	// usedEvery is how exactly it is known when a robot was last there.
	usedEvery = time.Minute
)

var (
	// ErrRobotName says that a name is none for a robot.
	ErrRobotName = errors.New("the name of a robot is up to 64 of a-z, A-Z, 0-9, '.', '_' and '-', and begins with a letter or a digit")

	// ErrScope says that the scope of a robot makes no sense.
	ErrScope = errors.New("no scope, such as 'php/**:pull,push'")
)

// scopeError is an [ErrScope] that is told more exactly.
type scopeError struct{ text string }

func (e *scopeError) Error() string { return e.text }

// Is makes errors.Is(e, ErrScope) hold.
func (e *scopeError) Is(target error) bool { return target == ErrScope }

// Robot is a login for a program. Its password is a secret that is random
// enough for a quick hash.
type Robot struct {
	ID      string // Of this one; another of the same name has another.
	Name    string
	Scopes  []string          // What it may at most, see [RobotLimit].
	Sum     [sha256.Size]byte // Of its secret.
	Expires time.Time         // Zero: never.
}

// NewRobotSecret makes the secret of a robot, and the sum to keep of it.
func NewRobotSecret() (secret string, sum [sha256.Size]byte) {
	secret = secretPrefix + rand.Text()
	return secret, sha256.Sum256([]byte(secret))
}

// IsRobotSecret tells whether a password looks like a secret of
// [NewRobotSecret]: it is nobody else's then.
func IsRobotSecret(password string) bool {
	return strings.HasPrefix(password, secretPrefix) && len(password) == secretLength
}

// CheckRobotName returns [ErrRobotName] if name is none.
func CheckRobotName(name string) error {
	if ok, err := regexp.MatchString(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$`, name); err != nil || !ok {
		return fmt.Errorf("%q: %w", name, ErrRobotName)
	}
	return nil
}

// ParseRobotScope reads "REPOSITORY:ACTIONS" or "REPOSITORY:TAG:ACTIONS": a
// pattern as in a rule, and actions with commas between.
// Errors: [ErrScope], with what is wrong.
func ParseRobotScope(scope string) (rule.Rule, error) {
	at := strings.LastIndexByte(scope, ':')
	if at < 1 || scope[at+1:] == "" {
		return rule.Rule{}, fmt.Errorf("%q is %w", scope, ErrScope)
	}
	r := rule.Rule{
		Who: []string{"everyone"}, What: []string{scope[:at]}, May: strings.Split(scope[at+1:], ","),
		Where: "scope " + scope,
	}
	if problems := rule.Check([]rule.Rule{r}); len(problems) > 0 {
		return rule.Rule{}, &scopeError{fmt.Sprintf("%q: %s", scope, problems[0].Text)}
	}
	return r, nil
}

// RobotLimit returns what a robot with these scopes may at most. It is never
// nil without an error.
// Errors: [ErrScope].
func RobotLimit(scopes []string) (*rule.Policy, error) {
	if len(scopes) == 0 {
		return nil, &scopeError{"there is none"}
	}
	rules := make([]rule.Rule, len(scopes))
	for i, s := range scopes {
		var err error
		if rules[i], err = ParseRobotScope(s); err != nil {
			return nil, err
		}
	}
	limit, err := rule.Compile(rules)
	if err != nil {
		return nil, &scopeError{err.Error()}
	}
	return limit, nil
}

// RobotOptions say how [Robots] work. The zero value works.
type RobotOptions struct {
	// Log takes what an operator must know. Nil: nothing is logged.
	Log *slog.Logger
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Used is told now and then that a robot was there. It does not wait. May
	// be nil.
	Used func(id string, at time.Time)
}

// Robots are a [Source] of those who may log in; who has added them keeps them.
// It is to be asked before others: they might take the secret of a robot for a
// wrong password of somebody of the same name. It is safe for concurrent use.
type Robots struct {
	o     RobotOptions
	mu    sync.Mutex // Held while something takes the place of named.
	named atomic.Pointer[map[string]*robot]
}

// robot is a Robot that may log in.
type robot struct {
	Robot
	limit *rule.Policy
	used  atomic.Int64 // When that was last told, in nanoseconds since 1970.
}

// NewRobots returns a Source that knows nobody.
func NewRobots(o RobotOptions) *Robots {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	r := &Robots{o: o}
	r.named.Store(&map[string]*robot{})
	return r
}

// Add lets robots in, instead of those of the same name. One whose scopes make
// no sense, such as those of a later release, stays out; the log says so.
func (r *Robots) Add(robots ...Robot) {
	r.change(func(named map[string]*robot) {
		for _, one := range robots {
			limit, err := RobotLimit(one.Scopes)
			if err != nil {
				delete(named, one.Name)
				r.o.Log.Error("a robot cannot be let in", slog.String("robot", one.Name), slog.Any("error", err))
				continue
			}
			named[one.Name] = &robot{Robot: one, limit: limit}
		}
	})
}

// Remove keeps robots out from now on.
func (r *Robots) Remove(names ...string) {
	r.change(func(named map[string]*robot) {
		for _, name := range names {
			delete(named, name)
		}
	})
}

// change makes a change to a copy: nobody who logs in waits for it.
func (r *Robots) change(f func(map[string]*robot)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	named := maps.Clone(*r.named.Load())
	f(named)
	r.named.Store(&named)
}

// Len is how many robots there are.
func (r *Robots) Len() int { return len(*r.named.Load()) }

// Name implements [Source].
func (r *Robots) Name() string { return SourceRobots }

// Login implements [Source]. A password that is no secret of a robot is for
// other sources; one that is, is for none.
func (r *Robots) Login(_ context.Context, name, password string) (Identity, error) {
	if !IsRobotSecret(password) {
		return Identity{}, ErrUnknown
	}
	sum := sha256.Sum256([]byte(password))
	known := (*r.named.Load())[name]
	if known == nil || subtle.ConstantTimeCompare(sum[:], known.Sum[:]) != 1 {
		return Identity{}, ErrDenied
	}
	if r.over(known) {
		return Identity{}, ErrDenied
	}
	return r.seen(known), nil
}

// Lookup implements [Source].
func (r *Robots) Lookup(_ context.Context, name, id string) (Identity, error) {
	known := (*r.named.Load())[name]
	if known == nil || id != "" && id != known.ID || r.over(known) {
		return Identity{}, ErrUnknown
	}
	return r.seen(known), nil
}

// over tells whether a robot has expired.
func (r *Robots) over(known *robot) bool {
	return !known.Expires.IsZero() && !r.o.Now().Before(known.Expires)
}

// seen notes that a robot is there.
func (r *Robots) seen(known *robot) Identity {
	if r.o.Used != nil {
		now := r.o.Now()
		last := known.used.Load()
		if d := now.Sub(time.Unix(0, last)); (d < 0 || d >= usedEvery) && known.used.CompareAndSwap(last, now.UnixNano()) {
			r.o.Used(known.ID, now)
		}
	}
	return Identity{Kind: rule.Robot, Name: known.Name, Source: SourceRobots, ID: known.ID, Limit: known.limit}
}
