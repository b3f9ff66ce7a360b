package file

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncAll waits until all that was written to the file system is durable.
func syncAll(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return os.NewSyscallError("syncfs", err)
	}
	return nil
}
