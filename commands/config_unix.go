//go:build unix

package commands

import "golang.org/x/sys/unix"

// canWrite asks whether this user may make files in dir.
func canWrite(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }
