//go:build unix

package commands

import (
	"os"
	"os/signal"
	"syscall"
)

// hangups tells of each SIGHUP until forget is called. To what a terminal shows
// it means what it always did: the terminal is gone.
func hangups(terminal bool) (asked <-chan os.Signal, forget func()) {
	if terminal {
		return nil, func() {}
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGHUP)
	return c, func() { signal.Stop(c) }
}
