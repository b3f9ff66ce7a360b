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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(commands.Run(ctx, commands.System(commands.NewBuild(version, commit)), os.Args))
}
