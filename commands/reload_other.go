//go:build !unix

package commands

import "os"

// hangups never tells of any: there are none here.
func hangups(bool) (asked <-chan os.Signal, forget func()) { return nil, func() {} }
