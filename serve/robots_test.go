//go:build unix

package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regctl/regctl/serve/auth"
	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/state"
	"github.com/regctl/regctl/serve/storage/file"
)

// robotClock is a clock that is set by hand.
type robotClock struct {
	mu sync.Mutex
	at time.Time
}

func (c *robotClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *robotClock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// privateRobots is a configuration that lets in robots only. A token is for the
// next server, too.
const privateRobots = "access: private\ntokens: {service: registry}"

// robotServer is a server whose robots can be asked for.
type robotServer struct {
	*Assembly
	t    *testing.T
	stop func()
}

// serveRobots begins a server on the store in dir.
func serveRobots(t *testing.T, dir, yaml string, clock *robotClock, log io.Writer) *robotServer {
	t.Helper()
	c, _, err := config.Parse("config.yml", []byte("version: 0.1\n"+yaml), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.HTTP.Addrs = []string{"127.0.0.1:0"}
	a, err := Assemble(t.Context(), Parts{Config: c, Dir: dir, Now: clock.now, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx) }()
	s := &robotServer{Assembly: a, t: t, stop: sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})}
	t.Cleanup(s.stop)
	return s
}

// ask makes a request with these credentials.
func (s *robotServer) ask(method, path, authorization string) (status int, body string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, "http://"+s.Addrs()[0].String()+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", authorization)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, string(raw)
}

// token gets a token for what is asked.
func (s *robotServer) token(basic, scope string) string {
	s.t.Helper()
	status, body := s.ask("GET", "/v2/_token?service=registry&scope="+url.QueryEscape(scope), basic)
	var answer struct{ Token string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK || answer.Token == "" {
		s.t.Fatal(status, body, err)
	}
	return "Bearer " + answer.Token
}

func basicOf(name, password string) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(name, password)
	return r.Header.Get("Authorization")
}

// robotsIn opens the robots of the store in dir.
func robotsIn(t *testing.T, dir string, clock *robotClock, remote bool) Robots {
	t.Helper()
	r, err := OpenRobots(t.Context(), UpkeepParts{Dir: dir, Config: &config.Config{}, Now: clock.now, After: never})
	if err != nil {
		t.Fatal(err)
	}
	if h := r.Holder(); h.Remote != remote || h.PID != os.Getpid() {
		t.Errorf("the holder is %+v", h)
	}
	return r
}

// create makes a robot, and returns what it logs in with.
func create(t *testing.T, r Robots, q RobotRequest) string {
	t.Helper()
	secret, sum := auth.NewRobotSecret()
	q.Sum = sum[:]
	made, err := r.Create(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if made.Robot.Name != q.Name || made.Robot.State != RobotActive || made.Open {
		t.Errorf("%+v", made)
	}
	return basicOf(q.Name, secret)
}

// TestRobots wants a robot in as soon as it is made, for what it is for, and out
// at its next request when it is revoked or expires, whatever token it has, and
// after a restart, too.
func TestRobots(t *testing.T) {
	t.Parallel()
	dir, clock := shortDir(t), &robotClock{at: fixedNow()}
	var log lockedBuffer
	s := serveRobots(t, dir, privateRobots, clock, &log)
	r := robotsIn(t, dir, clock, true)
	ci := create(t, r, RobotRequest{Name: "ci", Scopes: []string{"php/**:pull,push"}, Expires: clock.now().Add(time.Hour)})
	nodes := create(t, r, RobotRequest{Name: "nodes", Scopes: []string{"**:pull"}, Note: "all of them"})
	for _, c := range []struct {
		method, path, login string
		want                int
	}{
		{"GET", "/v2/", ci, 200}, {"GET", "/v2/", nodes, 200}, {"GET", "/v2/", basicOf("ci", "wrong"), 401},
		{"POST", "/v2/php/app/blobs/uploads/", ci, 202}, {"POST", "/v2/java/app/blobs/uploads/", ci, 403},
		{"POST", "/v2/php/app/blobs/uploads/", nodes, 403}, {"GET", "/v2/php/app/manifests/1", nodes, 404},
		{"POST", "/v2/php/app/blobs/uploads/", s.token(ci, "repository:php/app:pull,push"), 202},
		{"POST", "/v2/java/app/blobs/uploads/", s.token(ci, "repository:java/app:pull,push"), 403},
		{"POST", "/v2/php/app/blobs/uploads/", s.token(nodes, "repository:php/app:pull,push"), 403},
	} {
		if status, body := s.ask(c.method, c.path, c.login); status != c.want {
			t.Errorf("%s %s: %d, want %d: %s", c.method, c.path, status, c.want, body)
		}
	}

	tokens := map[string]string{"ci": s.token(ci, "repository:php/app:pull,push"), "nodes": s.token(nodes, "repository:php/app:pull")}
	out := func(when string, names ...string) {
		t.Helper()
		for name, login := range map[string]string{"ci": ci, "nodes": nodes} {
			want := 404
			if strings.Contains(strings.Join(names, " "), name) {
				want = 401
			}
			for _, with := range []string{login, tokens[name]} {
				if status, body := s.ask("GET", "/v2/php/app/manifests/1", with); status != want {
					t.Errorf("%s %s: %d, want %d: %s", name, when, status, want, body)
				}
			}
		}
	}
	out("at first")
	if done, err := r.Revoke(t.Context(), RobotNames{[]string{"nodes", "nobody"}}); err != nil || strings.Join(done.Names, " ") != "nodes" {
		t.Errorf("%v, %v", done, err)
	}
	out("as nodes is revoked", "nodes")
	s.stop()
	s = serveRobots(t, dir, privateRobots, clock, &log)
	out("after a restart", "nodes")
	clock.add(time.Hour)
	out("as ci has expired", "nodes", "ci")
	for _, secret := range []string{ci, nodes} {
		_, after, _ := strings.Cut(secret, " ")
		if strings.Contains(log.String(), after) {
			t.Error("a secret is in the log")
		}
	}
	for _, has := range []string{`msg="a robot may log in" robot=nodes scopes=**:pull` + "\n", `msg="a robot was revoked" robot=nodes`} {
		if !strings.Contains(log.String(), has) {
			t.Errorf("the log has no %s:\n%s", has, log.String())
		}
	}
}

// lockedBuffer is a buffer for several.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// TestRobotsUnserved wants robots made without a server known to the next one,
// and a look at none to leave nothing.
func TestRobotsUnserved(t *testing.T) {
	t.Parallel()
	dir, clock := shortDir(t), &robotClock{at: fixedNow()}
	r := robotsIn(t, dir, clock, false)
	if found, err := r.List(t.Context()); err != nil || found.Robots == nil || len(found.Robots) > 0 {
		t.Errorf("%v, %v", found, err)
	}
	if done, err := r.Revoke(t.Context(), RobotNames{[]string{"ci"}}); err != nil || done.Names == nil || len(done.Names) > 0 {
		t.Errorf("%v, %v", done, err)
	}
	if _, err := os.Stat(filepath.Join(dir, file.Private, stateFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a state: %v", err)
	}
	ci := create(t, r, RobotRequest{Name: "ci", Scopes: []string{"**:all"}, Note: "x"})
	second := create(t, r, RobotRequest{Name: "second", Scopes: []string{"**:all"}})
	if info, err := os.Stat(filepath.Join(dir, file.Private, stateFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r = robotsIn(t, dir, clock, false)
	if done, err := r.Revoke(t.Context(), RobotNames{[]string{"second"}}); err != nil || len(done.Names) != 1 {
		t.Errorf("%v, %v", done, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	s := serveRobots(t, dir, privateRobots, clock, io.Discard)
	for login, want := range map[string]int{ci: 200, second: 401} {
		if status, body := s.ask("GET", "/v2/", login); status != want {
			t.Errorf("%d, want %d: %s", status, want, body)
		}
	}
}

// TestRobotsListed wants a list to say how robots are, with nothing of their
// secrets, by a server and without one.
func TestRobotsListed(t *testing.T) {
	t.Parallel()
	dir, clock := shortDir(t), &robotClock{at: fixedNow()}
	s := serveRobots(t, dir, privateRobots, clock, io.Discard)
	r := robotsIn(t, dir, clock, true)
	create(t, r, RobotRequest{Name: "b", Scopes: []string{"b:pull"}, Expires: clock.now().Add(time.Hour)})
	create(t, r, RobotRequest{Name: "c", Scopes: []string{"c:pull", "d:push"}, Note: "for d"})
	a := create(t, r, RobotRequest{Name: "a", Scopes: []string{"a:pull"}})
	if _, err := r.Revoke(t.Context(), RobotNames{[]string{"c"}}); err != nil {
		t.Fatal(err)
	}
	clock.add(time.Hour)
	if status, body := s.ask("GET", "/v2/", a); status != 200 {
		t.Fatal(status, body)
	}
	const want = `{"robots":[` +
		`{"name":"a","state":"active","scopes":["a:pull"],"created":"2026-11-21T14:02:11Z","used":"2026-11-21T15:02:11Z"},` +
		`{"name":"b","state":"expired","scopes":["b:pull"],"created":"2026-11-21T14:02:11Z","expires":"2026-11-21T15:02:11Z"},` +
		`{"name":"c","state":"revoked","note":"for d","scopes":["c:pull","d:push"],"created":"2026-11-21T14:02:11Z","revoked":"2026-11-21T14:02:11Z"}]}`
	listed := func(r Robots) {
		t.Helper()
		found, err := r.List(t.Context())
		raw, failed := json.Marshal(found)
		if err != nil || failed != nil || string(raw) != want {
			t.Errorf("%s\nwant %s\n%v %v", raw, want, err, failed)
		}
	}
	listed(r)
	s.stop()
	here := robotsIn(t, dir, clock, false)
	defer here.Close()
	listed(here)
}

// TestRobotsRefused wants errors to keep their identity, from a server and
// without one, and nothing made of what is refused.
func TestRobotsRefused(t *testing.T) {
	t.Parallel()
	clock := &robotClock{at: fixedNow()}
	served, unserved := shortDir(t), shortDir(t)
	serveRobots(t, served, privateRobots, clock, io.Discard)
	for _, r := range []Robots{robotsIn(t, served, clock, true), robotsIn(t, unserved, clock, false)} {
		create(t, r, RobotRequest{Name: "ci", Scopes: []string{"**:pull"}})
		_, sum := auth.NewRobotSecret()
		fine := RobotRequest{Name: "new", Scopes: []string{"**:pull"}, Sum: sum[:]}
		for what, c := range map[string]struct {
			change func(*RobotRequest)
			want   error
		}{
			"name":     {func(q *RobotRequest) { q.Name = "a b" }, ErrRobotInvalid},
			"taken":    {func(q *RobotRequest) { q.Name = "ci" }, ErrRobotExists},
			"scopes":   {func(q *RobotRequest) { q.Scopes = nil }, ErrRobotInvalid},
			"scope":    {func(q *RobotRequest) { q.Scopes = []string{"**:pull", "**:sign"} }, ErrRobotInvalid},
			"sum":      {func(q *RobotRequest) { q.Sum = q.Sum[1:] }, ErrRobotInvalid},
			"expired":  {func(q *RobotRequest) { q.Expires = clock.now() }, ErrRobotInvalid},
			"long":     {func(q *RobotRequest) { q.Note = strings.Repeat("x", 257) }, ErrRobotInvalid},
			"two-line": {func(q *RobotRequest) { q.Note = "a\nb" }, ErrRobotInvalid},
		} {
			q := fine
			c.change(&q)
			if _, err := r.Create(t.Context(), q); !errors.Is(err, c.want) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if found, err := r.List(t.Context()); err != nil || len(found.Robots) != 1 {
			t.Errorf("%v, %v", found, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	_, err := OpenRobots(t.Context(), UpkeepParts{Dir: filepath.Join(served, "none"), Config: &config.Config{}})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestRobotsOpen wants who makes a robot told that it is for nothing.
func TestRobotsOpen(t *testing.T) {
	t.Parallel()
	dir, clock := shortDir(t), &robotClock{at: fixedNow()}
	serveRobots(t, dir, "", clock, io.Discard)
	_, sum := auth.NewRobotSecret()
	made, err := robotsIn(t, dir, clock, true).Create(t.Context(), RobotRequest{Name: "ci", Scopes: []string{"**:pull"}, Sum: sum[:]})
	if err != nil || !made.Open {
		t.Errorf("%+v, %v", made, err)
	}
}

// TestRobotsUnwritten wants a robot that is revoked out even if that cannot be
// written, and who revokes it told.
func TestRobotsUnwritten(t *testing.T) {
	t.Parallel()
	clock := &robotClock{at: fixedNow()}
	st, err := state.OpenMemory(t.Context(), clock.now)
	if err != nil {
		t.Fatal(err)
	}
	r, err := openRobots(t.Context(), st, clock.now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	secret, sum := auth.NewRobotSecret()
	if _, err := r.Create(t.Context(), RobotRequest{Name: "ci", Scopes: []string{"**:pull"}, Sum: sum[:]}); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Revoke(t.Context(), RobotNames{[]string{"ci"}}); !errors.Is(err, state.ErrClosed) || !strings.Contains(err.Error(), "ci: out only until the server stops") {
		t.Error(err)
	}
	if _, err := r.source.Login(t.Context(), "ci", secret); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("it may still log in: %v", err)
	}
	if _, err := r.Create(t.Context(), RobotRequest{Name: "new", Scopes: []string{"**:pull"}, Sum: sum[:]}); !errors.Is(err, state.ErrClosed) {
		t.Error(err)
	}
	if _, err := r.source.Lookup(t.Context(), "new", ""); !errors.Is(err, auth.ErrUnknown) {
		t.Errorf("it may log in though it was not written: %v", err)
	}
}

// TestRobotsRevokedUnderLoad wants no request answered that began after a robot
// was revoked, and no other one to fail.
func TestRobotsRevokedUnderLoad(t *testing.T) {
	t.Parallel()
	dir, clock := shortDir(t), &robotClock{at: fixedNow()}
	s := serveRobots(t, dir, privateRobots, clock, io.Discard)
	r := robotsIn(t, dir, clock, true)
	stays := create(t, r, RobotRequest{Name: "stays", Scopes: []string{"**:pull"}})
	goes := create(t, r, RobotRequest{Name: "goes", Scopes: []string{"**:pull"}})
	var revoked atomic.Bool
	var begun, all sync.WaitGroup
	for login, stay := range map[string]bool{
		goes: false, s.token(goes, "repository:app:pull"): false, stays: true, s.token(stays, "repository:app:pull"): true,
	} {
		begun.Add(1)
		all.Go(func() {
			for before, after := 0, 0; after < 20; {
				was := revoked.Load()
				status, body := s.ask("GET", "/v2/app/manifests/1", login)
				if fine := status == 404 && (stay || !was) || status == 401 && !stay; !fine {
					t.Errorf("%d, revoked: %v, may stay: %v: %s", status, was, stay, body)
				}
				if was {
					after++
					continue
				}
				if before++; before == 20 {
					begun.Done()
				}
			}
		})
	}
	begun.Wait()
	if _, err := r.Revoke(t.Context(), RobotNames{[]string{"goes"}}); err != nil {
		t.Error(err)
	}
	revoked.Store(true)
	all.Wait()
}

// TestRobotsExpireSoon wants the log to tell of a robot that is in use, in the
// week before its end, and of no other.
func TestRobotsExpireSoon(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	clock := &robotClock{at: fixedNow()}
	st, err := state.OpenMemory(t.Context(), clock.now)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	var log bytes.Buffer
	r, err := openRobots(t.Context(), st, clock.now, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	logins := map[string]string{}
	for name, expires := range map[string]time.Duration{"soon": 8 * day, "idle": 8 * day, "later": 20 * day, "gone": 2 * day, "out": 8 * day, "ever": 0} {
		secret, sum := auth.NewRobotSecret()
		q := RobotRequest{Name: name, Scopes: []string{"**:pull"}, Sum: sum[:]}
		if logins[name] = secret; expires > 0 {
			q.Expires = clock.now().Add(expires)
		}
		if _, err := r.Create(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	delete(logins, "idle")
	for name, secret := range logins {
		if _, err := r.source.Login(t.Context(), name, secret); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Revoke(t.Context(), RobotNames{[]string{"out"}}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"robot=gone ", "robot=soon "} {
		log.Reset()
		r.remind(t.Context())
		if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, want) {
			t.Errorf("want %s: %s", want, got)
		}
		clock.add(2 * day)
	}
	(*robots)(nil).remind(t.Context())
}

// TestRobotsAudited wants the audit log to say when robots came and went.
func TestRobotsAudited(t *testing.T) {
	t.Parallel()
	dir, clock := shortDir(t), &robotClock{at: fixedNow()}
	name := filepath.Join(dir, "audit.log")
	serveRobots(t, dir, privateRobots+"\naudit: {path: '"+name+"'}", clock, io.Discard)
	r := robotsIn(t, dir, clock, true)
	create(t, r, RobotRequest{Name: "ci", Scopes: []string{"a:pull", "b:push"}})
	if _, err := r.Revoke(t.Context(), RobotNames{[]string{"ci", "nobody"}}); err != nil {
		t.Fatal(err)
	}
	const want = `{"time":"2026-11-21T14:02:11Z","action":"create","outcome":"ok","who":"robot:ci","source":"robots","reason":"a:pull b:push"}` + "\n" +
		`{"time":"2026-11-21T14:02:11Z","action":"revoke","outcome":"ok","who":"robot:ci","source":"robots"}` + "\n"
	if raw, err := os.ReadFile(name); err != nil || string(raw) != want {
		t.Errorf("%s, want %s, %v", raw, want, err)
	}
}

// TestRobotsBesideUsers wants robots in beside the users of a file, also where
// that is all there is; and a robot and a user of one name told apart by their
// passwords.
func TestRobotsBesideUsers(t *testing.T) {
	t.Parallel()
	for name, access := range map[string]string{
		"logins only": "", "presets": "\naccess: public-pull", "rules": "\naccess: [{who: 'user:*', what: '**', may: all}]",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, clock := shortDir(t), &robotClock{at: fixedNow()}
			encoded, err := auth.Hash("secret", auth.MinCost)
			if err != nil {
				t.Fatal(err)
			}
			users := filepath.Join(dir, "htpasswd")
			if err := os.WriteFile(users, []byte("ci:"+encoded+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			s := serveRobots(t, dir, "auth: {htpasswd: {realm: r, path: '"+users+"'}}"+access, clock, io.Discard)
			robot := create(t, robotsIn(t, dir, clock, true), RobotRequest{Name: "ci", Scopes: []string{"mine/*:pull,push"}})
			user := basicOf("ci", "secret")
			for _, c := range []struct {
				method, path, login string
				want                int
			}{
				{"GET", "/v2/", user, 200}, {"GET", "/v2/", robot, 200}, {"GET", "/v2/", basicOf("ci", "other"), 401},
				{"POST", "/v2/mine/a/blobs/uploads/", user, 202}, {"POST", "/v2/mine/a/blobs/uploads/", robot, 202},
				{"POST", "/v2/other/blobs/uploads/", user, 202}, {"POST", "/v2/other/blobs/uploads/", robot, 403},
				{"DELETE", "/v2/mine/a/manifests/1", robot, 403},
			} {
				if status, body := s.ask(c.method, c.path, c.login); status != c.want {
					t.Errorf("%s %s: %d, want %d: %s", c.method, c.path, status, c.want, body)
				}
			}
		})
	}
}

// TestRobotsClockAhead: who has expired by a clock that was wrong at the start
// is in again as soon as that is right.
func TestRobotsClockAhead(t *testing.T) {
	t.Parallel()
	dir, clock := shortDir(t), &robotClock{at: fixedNow()}
	s := serveRobots(t, dir, privateRobots, clock, io.Discard)
	r := robotsIn(t, dir, clock, true)
	q := RobotRequest{Name: "ci", Scopes: []string{"**:pull"}, Expires: clock.now().Add(time.Hour)}
	first := create(t, r, q)
	clock.add(2 * time.Hour) // The name is free.
	q.Expires = clock.now().Add(90 * 24 * time.Hour)
	ci := create(t, r, q)
	s.stop()
	const years = 3 * 365 * 24 * time.Hour
	for _, ahead := range []time.Duration{0, years} {
		clock.add(ahead)
		s = serveRobots(t, dir, privateRobots, clock, io.Discard)
		clock.add(-ahead)
		for login, want := range map[string]int{ci: 200, first: 401} {
			if status, body := s.ask("GET", "/v2/", login); status != want {
				t.Errorf("started %s ahead: %d, want %d: %s", ahead, status, want, body)
			}
		}
		s.stop()
	}
}

// TestRobotByItsNameInLogs tells who takes the name of a robot from the log
// what to type instead.
func TestRobotByItsNameInLogs(t *testing.T) {
	t.Parallel()
	s := serveRobots(t, shortDir(t), privateRobots, &robotClock{at: fixedNow()}, io.Discard)
	secret, _ := auth.NewRobotSecret()
	const hint = `the name to log in with is \"ci\", without robot:`
	for _, c := range []struct {
		name, password string
		want           bool
	}{
		{"robot:ci", secret, true}, {"robot:ci", "regctl_", false}, {"robot:ci", "x", false}, {"ci", secret, false}, {"robot", "x", false},
	} {
		form := url.Values{"grant_type": {"password"}, "service": {"registry"}, "username": {c.name}, "password": {c.password}}
		resp, err := http.PostForm("http://"+s.Addrs()[0].String()+"/v2/_token", form)
		if err != nil {
			t.Fatal(err)
		}
		posted, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		status, body := s.ask("GET", "/v2/_token?service=registry", basicOf(c.name, c.password))
		if status != 401 || resp.StatusCode != 401 || strings.Contains(body, hint) != c.want || strings.Contains(string(posted), hint) != c.want {
			t.Errorf("%s: %d %s, posted %d %s", c.name, status, body, resp.StatusCode, posted)
		}
	}
}
