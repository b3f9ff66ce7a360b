package commands

import (
	"bufio"
	"context"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// served are the servers that a script has started, by the variable that has
// their address.
type (
	served    map[string]func() int
	servedKey struct{}
)

// scriptServing is the command
//
//	serving VAR ARG...
//	serving -stop VAR
//
// of scripts: it runs regctl serve ARG... in this process, on any port of
// loopback, and sets VAR to its address; -stop ends it as a signal does.
func scriptServing(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: serving VAR ARG... | serving -stop VAR")
	}
	all := ts.Value(servedKey{}).(served)
	if args[0] == "-stop" {
		if status := all[args[1]](); status != exitDone {
			ts.Fatalf("the server ends with status %d", status)
		}
		return
	}
	env := &Env{
		Stdin: strings.NewReader(""), Stdout: io.Discard, Now: time.Now, After: time.After, Home: ts.Getenv("HOME"),
		Environ: []string{"HOME=" + ts.Getenv("HOME")},
	}
	talk, w := io.Pipe()
	env.Stderr = w
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	go func() {
		ended <- Main(ctx, env, append([]string{"serve", "--addr", "127.0.0.1:0"}, args[1:]...))
		_ = w.Close()
	}()
	stop := func() int {
		cancel()
		status := <-ended
		ended <- status
		return status
	}
	ts.Defer(func() { stop() })
	lines := bufio.NewScanner(talk)
	for lines.Scan() {
		if at := regexp.MustCompile(`^https?://(\S+) · `).FindStringSubmatch(lines.Text()); at != nil {
			ts.Setenv(args[0], at[1])
			all[args[0]] = stop
			go func() { _, _ = io.Copy(io.Discard, talk) }()
			return
		}
		ts.Logf("serve: %s", lines.Text())
	}
	ts.Fatalf("serve has ended: %d", stop())
}
