// Command regctl hosts a container registry and operates any other.
//
// All it does is in [github.com/regctl/regctl/commands]; here are the signals
// and the exit status. The first SIGINT or SIGTERM asks to stop, the second
// one does not ask.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // For a minimal image: schedules are in local time, which $TZ names.

	_ "golang.org/x/crypto/x509roots/fallback" // For a minimal image: where the system trusts nobody, these are trusted.

	"github.com/regctl/regctl/commands"
)

// Set by the linker in a release.
var version, commit string

func main() {
	ctx := untilSignal(context.Background(), os.Interrupt, syscall.SIGTERM)
	os.Exit(commands.Run(ctx, commands.System(commands.NewBuild(version, commit)), os.Args))
}

// untilSignal returns a context that ends with the first of these signals. When
// it has ended, the next one ends the process: [signal.NotifyContext] would
// still take one that comes at once.
func untilSignal(parent context.Context, signals ...os.Signal) context.Context {
	ctx, cancel := context.WithCancel(parent)
	came := make(chan os.Signal, 1)
	signal.Notify(came, signals...)
	go func() {
		<-came
		signal.Stop(came)
		cancel()
	}()
	return ctx
}
