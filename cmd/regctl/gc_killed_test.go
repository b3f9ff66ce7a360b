//go:build linux

package main_test

import (
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/regctl/regctl/gc"
)

// namesOf lists all that is in a store, but what is ours alone.
func namesOf(tb testing.TB, dir string) []string {
	tb.Helper()
	var names []string
	err := filepath.WalkDir(filepath.Join(dir, storeRoot), func(path string, _ fs.DirEntry, err error) error {
		names = append(names, strings.TrimPrefix(path, dir))
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return names
}

// wantNamesOf wants the same names in a store as in another. What a tag had
// before may be left: to find that, all tags would have to be read each time.
func wantNamesOf(tb testing.TB, dir string, want []string) {
	tb.Helper()
	var wrong problems
	got := namesOf(tb, dir)
	for _, name := range got {
		if _, ok := slices.BinarySearch(want, name); !ok && !strings.Contains(name, "/index/") {
			wrong.add("%s is left", name)
		}
	}
	slices.Sort(got)
	for _, name := range want {
		if _, ok := slices.BinarySearch(got, name); !ok {
			wrong.add("%s is missing", name)
		}
	}
	wrong.tell(tb)
}

// copyStore copies a directory with all its times.
func copyStore(tb testing.TB, from string) (to string) {
	tb.Helper()
	to = filepath.Join(tb.TempDir(), "store")
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		tb.Fatalf("%v: %s", err, out)
	}
	return to
}

// vanishing closes reached when so many names have vanished from a store, and
// watches it until stop is called.
func vanishing(tb testing.TB, dir string, point int) (reached <-chan struct{}, stop func()) {
	tb.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		tb.Fatal(err)
	}
	f, done, reach := os.NewFile(uintptr(fd), "inotify"), make(chan struct{}), make(chan struct{})
	err = filepath.WalkDir(filepath.Join(dir, storeRoot), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			_, err = unix.InotifyAddWatch(fd, path, unix.IN_DELETE|unix.IN_MOVED_FROM)
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	go func() {
		defer close(done)
		buf := make([]byte, 64<<10)
		for n := 0; ; {
			size, err := f.Read(buf)
			if err != nil {
				return
			}
			for b := buf[:size]; len(b) >= unix.SizeofInotifyEvent; {
				if binary.NativeEndian.Uint32(b[4:])&(unix.IN_DELETE|unix.IN_MOVED_FROM) != 0 {
					if n++; n == point {
						close(reach)
					}
				}
				b = b[unix.SizeofInotifyEvent+binary.NativeEndian.Uint32(b[12:]):]
			}
		}
	}()
	return reach, func() {
		f.Close()
		<-done
	}
}

// wantLive wants everything that a tag leads to.
func (g *generated) wantLive(tb testing.TB, dir string) {
	tb.Helper()
	left := dataOf(tb, dir)
	var wrong problems
	for d, live := range g.live {
		if size, ok := left[d]; live && (!ok || size != g.data[d]) {
			wrong.add("data of %s has %d bytes, want %d", d, size, g.data[d])
		}
	}
	for name, live := range g.links {
		if _, err := os.Lstat(filepath.Join(dir, storeRoot, name)); live && err != nil {
			wrong.add("%v", err)
		}
	}
	wrong.tell(tb)
}

var killShape = shape{repos: 3, images: 12, tags: 12, garbage: 0.4, indexes: 4, orphans: 5, seed: 11}

// uninterrupted is what a whole run leaves of a store, frees, and how many
// names vanish in it.
func uninterrupted(t *testing.T, of string, g *generated) (names []string, did collection, vanished int) {
	t.Helper()
	dir := copyStore(t, of)
	had := len(namesOf(t, dir))
	did = collect(t, dir, "--untagged", "--undo", "0")
	g.wantCollected(t, dir)
	names = namesOf(t, dir)
	slices.Sort(names)
	if vanished = had - len(names); vanished < 100 {
		t.Fatalf("only %d names vanish", vanished)
	}
	return names, did, vanished
}

var kills = flag.Int("kills", 20, "how often a collection is killed, at points all over it")

func rounds(all int) int {
	if testing.Short() {
		return min(all, 4)
	}
	return all
}

// TestKilledCollect: wherever it is killed, the store is whole, and the next
// run ends with what one run would have left.
func TestKilledCollect(t *testing.T) {
	t.Parallel()
	of := t.TempDir()
	g := generate(t, of, killShape)
	want, did, vanish := uninterrupted(t, of, g)
	bin, err := regctl()
	if err != nil {
		t.Fatal(err)
	}
	random, killed := rand.New(rand.NewPCG(1, 1)), 0
	n := rounds(*kills)
	for i := range n {
		dir, point := copyStore(t, of), 1+random.IntN(vanish)
		cmd := exec.Command(bin, "gc", "--data", dir, "--untagged", "--undo", "0", "-q")
		cmd.Env = []string{"HOME=" + t.TempDir()}
		reached, stop := vanishing(t, dir, point)
		switch err := killWhen(t, cmd, reached); {
		case err == nil:
			t.Logf("it was over before it could be killed at %d of %d", point, vanish)
		case cmd.ProcessState.ExitCode() >= 0:
			t.Fatalf("gc: %v", err)
		default:
			killed++
		}
		stop()
		g.wantLive(t, dir)
		wantWhole(t, dir)
		if i%10 == 0 {
			s := startRegctl(t, dir)
			g.wantServed(t, s, 1)
			s.end(t)
		}
		left := sum(dataOf(t, dir))
		aDayOld(t, dir) // A directory is empty for an hour before it goes.
		rest := collect(t, dir, "--untagged", "--undo", "0")
		if freed := did.Before.Bytes - left + rest.Removed[gc.KindData].Bytes; freed != did.Removed[gc.KindData].Bytes {
			t.Errorf("two runs freed %d bytes, one frees %d", freed, did.Removed[gc.KindData].Bytes)
		}
		wantNamesOf(t, dir, want)
		if t.Failed() {
			t.Fatalf("killed when %d of %d names had vanished", point, vanish)
		}
		_ = os.RemoveAll(dir)
	}
	if t.Logf("killed %d of %d runs, at any of %d names", killed, n, vanish); killed == 0 {
		t.Error("no run was killed")
	}
}

// killWhen runs a program and kills it when reached is closed.
func killWhen(t *testing.T, cmd *exec.Cmd, reached <-chan struct{}) error {
	t.Helper()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-reached:
		_ = cmd.Process.Kill()
		return <-ended
	}
}

// TestKilledServerThatCollects is the same for a server.
func TestKilledServerThatCollects(t *testing.T) {
	t.Parallel()
	of := t.TempDir()
	g := generate(t, of, killShape)
	want, _, vanish := uninterrupted(t, of, g)
	random := rand.New(rand.NewPCG(2, 2))
	for range rounds(*kills / 4) {
		dir, point := copyStore(t, of), 1+random.IntN(vanish)
		s := startRegctl(t, dir)
		reached, stop := vanishing(t, dir, point)
		over := make(chan struct{})
		killing := make(chan bool)
		go func() {
			select {
			case <-reached:
				killing <- s.proc.Kill() == nil
			case <-over:
				killing <- false
			}
		}()
		out, err := newRegctl(t).try(t, "gc", "--data", dir, "--untagged", "--undo", "0", "--older", "0")
		close(over)
		if <-killing {
			<-s.done
		} else {
			t.Logf("it was over before it could be killed at %d of %d", point, vanish)
			s.end(t)
			if err != nil {
				t.Errorf("gc: %v", err)
			}
		}
		stop()
		g.wantLive(t, dir)
		wantWhole(t, dir)
		s = startRegctl(t, dir)
		g.wantServed(t, s, 1)
		collect(t, dir, "--untagged", "--undo", "0", "--older", "0")
		wantNamesOf(t, dir, want)
		g.wantServed(t, s, 1)
		s.end(t)
		if t.Failed() {
			t.Fatalf("killed when %d of %d names had vanished; gc said %s", point, vanish, out)
		}
	}
}

// fillBytes leaves no room for a byte.
func fillBytes(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 64 << 10; size > 0; size /= 2 {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		err = nil
	}
}

// fillNames leaves no room for a file.
func fillNames(t *testing.T, dir string) {
	t.Helper()
	ballast := filepath.Join(dir, "ballast")
	err := os.Mkdir(ballast, 0o755)
	for n := 0; err == nil; n++ {
		err = os.WriteFile(filepath.Join(ballast, fmt.Sprint(n)), nil, 0o600)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

// TestCollectOnAFullDisk frees what it can and makes room for a push, whether a
// server has the store or none ever had.
func TestCollectOnAFullDisk(t *testing.T) {
	t.Parallel()
	for name, fill := range map[string]func(*testing.T, string){"bytes": fillBytes, "names": fillNames} {
		for _, online := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/online=%v", name, online), func(t *testing.T) {
				t.Parallel()
				dir := tmpfs(t, "size=6m,nr_inodes=4000")
				g := generate(t, dir, shape{repos: 3, images: 12, garbage: 0.4, indexes: 4, orphans: 5, seed: 12})
				n, bytes := g.garbage()
				var s *server
				args := []string{"--untagged"}
				if online {
					s, args = startRegctl(t, dir), append(args, "--older", "0")
				}
				fill(t, dir)
				planned := collect(t, dir, append(args, "--dry-run")...)
				if c := collect(t, dir, args...); c.Removed[gc.KindData] != (gc.Count{N: n, Bytes: bytes}) || !maps.Equal(c.Removed, planned.Removed) {
					t.Errorf("planned %+v, removed %+v, want %d data of %d bytes", planned.Removed, c.Removed, n, bytes)
				}
				g.wantCollected(t, dir)
				wantWhole(t, dir)
				if s == nil {
					s = startRegctl(t, dir)
				}
				g.wantServed(t, s, 1)
				if _, err := speak(s).image("team0/app000", random(5, 5000), "new"); err != nil {
					t.Errorf("there is no room for a push: %v", err)
				}
				s.end(t)
			})
		}
	}
}

// TestServeOnAFullDisk serves a directory of registry:2 on a disk without room
// for anything of ours, and remembers deletions once there is room.
func TestServeOnAFullDisk(t *testing.T) {
	t.Parallel()
	for name, fill := range map[string]func(*testing.T, string){"bytes": fillBytes, "names": fillNames} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := tmpfs(t, "size=4m,nr_inodes=2000")
			g := generate(t, dir, shape{repos: 1, images: 3, seed: 15})
			fill(t, dir)
			s := startRegctl(t, dir)
			g.wantServed(t, s, 1)
			if err := os.RemoveAll(filepath.Join(dir, "ballast")); err != nil {
				t.Fatal(err)
			}
			for tag := range g.tags["team0/app000"] {
				speak(s).must(t, http.StatusAccepted, http.MethodDelete, "/v2/team0/app000/manifests/"+tag)
			}
			a := speak(s).must(t, http.StatusOK, http.MethodGet, "/v2/_regctl/deletions")
			if n := strings.Count(string(a.body), `"kind":"tag"`); n != len(g.tags["team0/app000"]) {
				t.Errorf("recorded %d: %s", n, a.body)
			}
			s.end(t)
		})
	}
}
