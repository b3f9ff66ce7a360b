package auth

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// world is an htpasswd file, a clock, a log, and a count of what is checked.
type world struct {
	*Htpasswd
	path   string
	log    lockedLog
	now    atomic.Int64 // Nanoseconds.
	checks atomic.Int64
}

type lockedLog struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

// count tells how often something was logged.
func (l *lockedLog) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.String(), what)
}

// newWorld has a clock that is ahead of that of the machine, so that no file is
// being written.
func newWorld(t *testing.T, lines ...string) *world {
	t.Helper()
	w := &world{path: filepath.Join(t.TempDir(), "htpasswd")}
	w.now.Store(time.Now().Add(time.Hour).UnixNano())
	w.write(t, lines...)
	w.open(t)
	return w
}

func (w *world) open(t *testing.T) {
	t.Helper()
	var err error
	w.Htpasswd, err = OpenHtpasswd(w.path, Options{
		Log: slog.New(slog.NewTextHandler(&w.log, nil)), Now: func() time.Time { return time.Unix(0, w.now.Load()) }, Checks: 2, cost: MinCost,
	})
	if err != nil {
		t.Fatal(err)
	}
	w.check = func(h hash, password string) bool {
		w.checks.Add(1)
		return h.matches(password)
	}
}

func (w *world) pass(d time.Duration) { w.now.Add(int64(d)) }

func (w *world) write(t *testing.T, lines ...string) {
	t.Helper()
	if err := os.WriteFile(w.path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// replace puts another file in its place, as editors do.
func (w *world) replace(t *testing.T, lines ...string) {
	t.Helper()
	if err := os.WriteFile(w.path+".new", []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(w.path+".new", w.path); err != nil {
		t.Fatal(err)
	}
}

// wants checks a password and how many checks that took.
func (w *world) wants(t *testing.T, user, password string, want error, checks int64) {
	t.Helper()
	before := w.checks.Load()
	if err := w.Verify(t.Context(), user, password); !errors.Is(err, want) {
		t.Errorf("%s with %s: %v, want %v", user, password, err, want)
	}
	if got := w.checks.Load() - before; got != checks {
		t.Errorf("%s with %s: %d checks, want %d", user, password, got, checks)
	}
}

func hashOf(t *testing.T, password string) string {
	t.Helper()
	encoded, err := Hash(password, MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

func TestVerify(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "alice:"+secret4, "bob:"+apr1, "sha:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", "plain:secret", ":"+secret4, "twice:"+secret4, "twice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=")
	w.wants(t, "alice", "secret", nil, 1)
	w.wants(t, "bob", "secret", nil, 1)
	w.wants(t, "alice", "Secret", ErrDenied, 2)
	w.wants(t, "bob", "", ErrDenied, 2)
	w.wants(t, "nobody", "secret", ErrDenied, 2)
	w.wants(t, "sha", "secret", ErrDenied, 2)
	w.wants(t, "plain", "secret", ErrDenied, 2)
	w.wants(t, "", "secret", ErrDenied, 2)
	w.wants(t, "twice", "secret", ErrDenied, 2) // The last line counts.
	w.wants(t, "alice", strings.Repeat("x", 513), ErrDenied, 0)
	if n := w.log.count("cannot log in"); n != 3 {
		t.Errorf("%d users are said to be locked out, want 3: %s", n, &w.log)
	}
}

func TestRemembersForAMinute(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "alice:"+secret4, "bob:"+secret4)
	w.wants(t, "alice", "secret", nil, 1)
	w.wants(t, "alice", "secret", nil, 0)
	w.pass(rememberFor - 1)
	w.wants(t, "alice", "secret", nil, 0)
	w.wants(t, "bob", "secret", nil, 1)
	w.wants(t, "alice", "wrong", ErrDenied, 1)
	w.wants(t, "alice", "wrong", ErrDenied, 0)
	w.wants(t, "nobody", "wrong", ErrDenied, 1)
	w.wants(t, "nobody", "wrong", ErrDenied, 0)
	w.pass(1)
	w.wants(t, "alice", "secret", nil, 1)
	w.replace(t, "alice:"+hashOf(t, "wrong"), "nobody:"+hashOf(t, "wrong"))
	w.wants(t, "alice", "wrong", nil, 1) // No longer, and no time has passed.
	w.wants(t, "nobody", "wrong", nil, 1)
	w.wants(t, "alice", "old", ErrDenied, 1)
	w.pass(rememberFor)
	w.wants(t, "alice", "old", ErrDenied, 1)
	w.wants(t, "alice", "wrong", nil, 1)
	w.pass(-time.Second) // The clock is set back.
	w.wants(t, "alice", "wrong", nil, 1)
}

func TestTakesChangesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "alice:"+secret4, "bob:"+secret4)
	w.wants(t, "alice", "secret", nil, 1)
	w.wants(t, "bob", "secret", nil, 1)
	w.replace(t, "alice:"+hashOf(t, "another"), "carol:"+secret4)
	w.wants(t, "alice", "another", nil, 1) // No time has passed.
	w.wants(t, "carol", "secret", nil, 1)
	w.wants(t, "alice", "secret", ErrDenied, 1)
	w.wants(t, "bob", "secret", ErrDenied, 1)
}

func TestTakesOutWithinASecond(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "alice:"+secret4, "bob:"+secret4)
	w.wants(t, "alice", "secret", nil, 1)
	w.wants(t, "bob", "secret", nil, 1)
	w.replace(t, "alice:"+secret4)
	w.wants(t, "bob", "secret", nil, 0)
	w.pass(lookEvery)
	w.wants(t, "bob", "secret", ErrDenied, 1)
	w.wants(t, "alice", "secret", nil, 0) // Of her nothing has changed.
	w.replace(t, "alice:"+secret4, "bob:"+secret4)
	w.wants(t, "bob", "secret", nil, 0) // He is what he was, and a minute is not over.
}

// TestSeesSmallChanges: in place, with the same size, with the same time.
func TestSeesSmallChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "alice:"+secret4)
	old := time.Unix(0, w.now.Load()).Add(-time.Minute)
	chtimes := func(at time.Time) {
		if err := os.Chtimes(w.path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	chtimes(old)
	w.wants(t, "alice", "secret", nil, 1)

	w.write(t, "alice:"+hashOf(t, "another"))
	chtimes(old.Add(time.Nanosecond * 1000))
	w.pass(lookEvery)
	w.wants(t, "alice", "another", nil, 1)

	w.replace(t, "alice:"+hashOf(t, "a third"))
	chtimes(old.Add(time.Nanosecond * 1000)) // Another file.
	w.pass(lookEvery)
	w.wants(t, "alice", "a third", nil, 1)

	w.write(t, "# longer", "alice:"+hashOf(t, "longer"))
	chtimes(old.Add(time.Nanosecond * 1000)) // Of another size.
	w.pass(lookEvery)
	w.wants(t, "alice", "longer", nil, 1)

	just := time.Unix(0, w.now.Load())
	w.write(t, "alice:"+hashOf(t, "a fourth"))
	chtimes(just)
	w.wants(t, "alice", "a fourth", nil, 1)
	w.write(t, "alice:"+hashOf(t, "a fifth"))
	chtimes(just) // All is as it was, but for the content.
	w.pass(lookEvery)
	w.wants(t, "alice", "a fifth", nil, 1)
	w.pass(time.Hour)
	if n := w.log.count("read again"); n != 5 {
		t.Errorf("read %d times, want 5: %s", n, &w.log)
	}
	w.wants(t, "alice", "a fifth", nil, 1)
}

func TestKeepsWhatWasGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "alice:"+secret4)
	try := func() {
		t.Helper()
		for range 3 {
			w.pass(rememberFor)
			w.wants(t, "alice", "secret", nil, 1)
		}
	}
	w.write(t, "alice:"+hashOf(t, "new"), "a line that is damaged")
	try()
	if n := w.log.count("line 2 is not of the form USER:HASH"); n != 1 {
		t.Errorf("damage was told %d times: %s", n, &w.log)
	}
	if err := os.Remove(w.path); err != nil {
		t.Fatal(err)
	}
	try()
	if n := w.log.count("cannot be read again"); n != 2 {
		t.Errorf("trouble was told %d times, want 2: %s", n, &w.log)
	}
	if err := os.Mkdir(w.path, 0o700); err != nil {
		t.Fatal(err)
	}
	try()
	if err := os.Remove(w.path); err != nil {
		t.Fatal(err)
	}
	w.write(t, "alice:"+hashOf(t, "new"))
	w.wants(t, "alice", "new", nil, 1)
	if w.log.count("password=")+w.log.count("$2") > 0 {
		t.Errorf("the log tells a secret: %s", &w.log)
	}
}

// TestWaitsForWhoWrites: Apache's htpasswd empties the file before it writes.
func TestWaitsForWhoWrites(t *testing.T) {
	t.Parallel()
	for _, unfinished := range []string{"", "alice:" + secret4[:20], "bob:" + secret4 + "\nali"} {
		w := newWorld(t, "alice:"+secret4)
		if err := os.WriteFile(w.path, []byte(unfinished), 0o600); err != nil {
			t.Fatal(err)
		}
		at := time.Unix(0, w.now.Load())
		if err := os.Chtimes(w.path, at, at); err != nil {
			t.Fatal(err)
		}
		w.wants(t, "alice", "secret", nil, 1)
		w.pass(writing / 2)
		w.wants(t, "alice", "wrong", ErrDenied, 1)
		w.pass(writing/2 - 1)
		w.wants(t, "alice", "secret", nil, 0)
		if n := w.log.count("read again"); n != 0 {
			t.Errorf("%q was taken for a file: %s", unfinished, &w.log)
		}
		w.pass(1)
		if strings.HasSuffix(unfinished, "\nali") { // That is damage, then.
			w.wants(t, "alice", "secret", nil, 0)
			continue
		}
		w.wants(t, "alice", "secret", ErrDenied, 0)
	}
}

// TestDenialsCostTheSame holds the sum of all that is checked against that for
// a name that is nobody's.
func TestDenialsCostTheSame(t *testing.T) {
	t.Parallel()
	f := newForms()
	users := map[string]string{}
	add := func(name string, k Kind, cost int) { users[name] = decoy(k, cost).encoded }
	for _, cost := range []int{4, 5, 9, 12} {
		add(fmt.Sprint("bcrypt", cost), Bcrypt, cost)
	}
	add("apr1", APR1, 0)
	add("sha256", SHA256, 5000)
	add("sha256-more", SHA256, 77777)
	add("sha512-least", SHA512, 1000)
	add("sha512", SHA512, 9000)
	add("sha512-more", SHA512, 10000)
	users["plain"] = "x"
	users["slow"] = decoy(Bcrypt, 31).encoded
	var lines []string
	for name, encoded := range users {
		lines = append(lines, name+":"+encoded)
	}
	w := newWorld(t, lines...)
	var mu sync.Mutex
	work := map[Kind]int{}
	w.check = func(h hash, _ string) bool {
		if got := f.parse(h.encoded); got != h {
			t.Errorf("%+v is %+v", h, got)
		}
		mu.Lock()
		defer mu.Unlock()
		switch h.kind {
		case Bcrypt:
			work[h.kind] += 1 << h.cost
		case APR1:
			work[h.kind]++
		default:
			work[h.kind] += h.cost
		}
		return false
	}
	users["nobody"] = ""
	for name := range users {
		clear(work)
		if err := w.Verify(t.Context(), name, "x"); !errors.Is(err, ErrDenied) {
			t.Fatalf("%s: %v", name, err)
		}
		for k, want := range map[Kind]int{Bcrypt: 1 << 12, APR1: 1, SHA256: 77777, SHA512: 10000} {
			got := work[k]
			if got != want && (got > want || want-got >= fewestRounds || k == Bcrypt || k == APR1) {
				t.Errorf("%s costs %d of %s, want %d", name, got, k, want)
			}
		}
	}
}

// TestOneCheckForAll: of many who ask the same at once, one is checked.
func TestOneCheckForAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "alice:"+secret4)
	var done sync.WaitGroup
	for range 50 {
		done.Go(func() {
			if err := w.Verify(t.Context(), "alice", "secret"); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	if n := w.checks.Load(); n != 1 {
		t.Errorf("%d checks, want 1", n)
	}
}

func TestBoundedChecks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "alice:"+secret4)
	var running, most, asked atomic.Int64
	hold := make(chan struct{})
	w.check = func(hash, string) bool {
		n := running.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-hold
		running.Add(-1)
		return false
	}
	var done sync.WaitGroup
	for i := range 2 + waitMost {
		done.Go(func() {
			asked.Add(1)
			if err := w.Verify(t.Context(), "alice", fmt.Sprint("guess ", i)); !errors.Is(err, ErrDenied) {
				t.Errorf("guess %d: %v", i, err)
			}
		})
	}
	for w.asked.Load() < 2+waitMost {
		runtime.Gosched()
	}
	if err := w.Verify(t.Context(), "alice", "one more"); !errors.Is(err, ErrBusy) {
		t.Errorf("one more is %v, want %v", err, ErrBusy)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Verify(ctx, "alice", "guess 1"); !errors.Is(err, context.Canceled) {
		t.Errorf("who does not wait gets %v", err)
	}
	close(hold)
	done.Wait()
	if n := most.Load(); n != 2 {
		t.Errorf("%d checks at a time, want 2", n)
	}
	if n := w.asked.Load(); n != 0 {
		t.Errorf("%d still want a turn", n)
	}
}

// TestDiskThatHangs: who was in stays in, whoever waits for the file.
func TestDiskThatHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "alice:"+secret4)
	w.wants(t, "alice", "secret", nil, 1)
	w.source.mu.Lock() // As of who reads from it.
	defer w.source.mu.Unlock()
	w.pass(2 * lookEvery)
	w.wants(t, "alice", "secret", nil, 0)
}

// TestGuessesLockNobodyOut: whose password was right before does not wait for
// those of others, however many there are.
func TestGuessesLockNobodyOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "alice:"+secret4)
	w.wants(t, "alice", "secret", nil, 1)
	hold := make(chan struct{})
	w.check = func(h hash, password string) bool {
		if password != "secret" {
			<-hold
		}
		return h.matches(password)
	}
	var done sync.WaitGroup
	for i := range 2 + waitMost {
		done.Go(func() { _ = w.Verify(t.Context(), "alice", fmt.Sprint("guess ", i)) })
	}
	for w.asked.Load() < 2+waitMost {
		runtime.Gosched()
	}
	w.pass(2 * rememberFor)
	if err := w.Verify(t.Context(), "alice", "secret"); err != nil {
		t.Errorf("alice gets %v", err)
	}
	close(hold)
	done.Wait()
}

// TestAbandonedChecks are not made, but for others who ask the same.
func TestAbandonedChecks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "alice:"+secret4)
	hold := make(chan struct{})
	w.check = func(h hash, password string) bool {
		w.checks.Add(1)
		<-hold
		return h.matches(password)
	}
	var done sync.WaitGroup
	verify := func(ctx context.Context, password string, want error) {
		done.Go(func() {
			if err := w.Verify(ctx, "alice", password); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", password, err, want)
			}
		})
	}
	until := func(asked int64) {
		for w.asked.Load() != asked {
			runtime.Gosched()
		}
	}
	verify(t.Context(), "guess 1", ErrDenied)
	verify(t.Context(), "guess 2", ErrDenied)
	until(2)
	ctx, cancel := context.WithCancel(t.Context())
	verify(ctx, "guess 3", context.Canceled)
	verify(ctx, "secret", context.Canceled)
	until(4)
	verify(t.Context(), "secret", nil) // Perhaps together with the other one.
	cancel()
	until(3)
	close(hold)
	done.Wait()
	if n := w.checks.Load(); n != 3 {
		t.Errorf("%d checks, want 3", n)
	}
}

// TestBoundedMemory: what bcrypt does not look at makes many right passwords.
func TestBoundedMemory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "alice:"+secret4)
	w.check = func(hash, string) bool { return true }
	for i := range rememberMost + 100 {
		if err := w.Verify(t.Context(), "alice", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.right.Len(); n != rememberMost {
		t.Errorf("%d are remembered, want %d", n, rememberMost)
	}
}

// TestReloadUnderLoad: alice is always in, bob comes and goes, and nobody sees
// anything else.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "alice:"+secret4)
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	for range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				if err := w.Verify(t.Context(), "alice", "secret"); err != nil {
					t.Errorf("alice: %v", err)
					return
				}
				if err := w.Verify(t.Context(), "bob", "secret"); err != nil && !errors.Is(err, ErrDenied) {
					t.Errorf("bob: %v", err)
					return
				}
			}
		})
	}
	for i := range 40 {
		in := i%2 == 0
		if err := Edit(w.path, func(f *File) error {
			if !in {
				f.Remove("bob")
				return nil
			}
			_, err := f.Set("bob", secret4)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		w.pass(lookEvery)
		// While another one looks, what was known holds.
		for limit := time.Now().Add(time.Minute); ; {
			err := w.Verify(t.Context(), "bob", "secret")
			if (err == nil) == in {
				break
			}
			if time.Now().After(limit) {
				t.Fatalf("change %d: bob in is %v: %v", i, in, err)
			}
		}
	}
	stop()
	load.Wait()
}

func TestProvidesWhatIsMissing(t *testing.T) {
	t.Parallel()
	w := &world{path: filepath.Join(t.TempDir(), "auth", "htpasswd")}
	w.now.Store(time.Now().UnixNano())
	w.open(t)
	info, err := os.Stat(w.path)
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	_, told, ok := strings.Cut(w.log.String(), " password=")
	password := strings.TrimSpace(told)
	if !ok || len(password) < 32 || w.log.count(" user=docker ") != 1 {
		t.Fatalf("the log is %s", &w.log)
	}
	w.wants(t, "docker", password, nil, 1)
	w.wants(t, "docker", "", ErrDenied, 1)
	w.open(t)
	if n := w.log.count("password="); n != 1 {
		t.Errorf("a password is told %d times", n)
	}
	w.wants(t, "docker", password, nil, 1)
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := OpenHtpasswd(dir, Options{}); err == nil {
		t.Error("a folder is opened")
	}
	path := filepath.Join(dir, "damaged")
	if err := os.WriteFile(path, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := OpenHtpasswd(path, Options{})
	var damage *DamageError
	if !errors.As(err, &damage) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

// BenchmarkVerifyRemembered is what a login costs each request but the first.
func BenchmarkVerifyRemembered(b *testing.B) {
	path := filepath.Join(b.TempDir(), "htpasswd")
	if err := os.WriteFile(path, []byte("alice:"+secret4+"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	h, err := OpenHtpasswd(path, Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := h.Verify(b.Context(), "alice", "secret"); err != nil {
				b.Error(err)
			}
		}
	})
}

// TestSums: what differs has another sum, whatever was summed up before.
func TestSums(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "alice:"+secret4)
	seen := map[[32]byte]string{}
	for range 2 {
		for _, c := range [][3]string{{"", "", ""}, {"a", "", ""}, {"", "a", ""}, {"", "", "a"}, {"ab", "c", ""}, {"a", "bc", ""}, {"a", "b", "c"}, {"alice", "secret", secret4}, {"alice", "secret", apr1}, {"alice", strings.Repeat("x", 500), secret4}} {
			sum, what := w.sum(hash{encoded: c[2]}, c[0], c[1]), fmt.Sprintf("%q", c)
			if other, ok := seen[sum]; ok && other != what {
				t.Errorf("%s has the sum of %s", what, other)
			}
			seen[sum] = what
		}
	}
	if len(seen) != 10 {
		t.Errorf("%d sums, want 10", len(seen))
	}
	if other := newWorld(t, "alice:"+secret4); other.sum(hash{}, "a", "b") == w.sum(hash{}, "a", "b") {
		t.Error("two processes have the same key")
	}
}
