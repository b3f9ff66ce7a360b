//go:build unix

package file

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

const servable = true

// owner reads uid and gid from what os.Stat returned.
func owner(info fs.FileInfo) (uid, gid int, err error) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, fs.ErrInvalid
	}
	return int(st.Uid), int(st.Gid), nil
}

// tryLock takes the lock on f unless another process has it.
func tryLock(f *os.File) (bool, error) {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EWOULDBLOCK):
			return false, nil
		}
		return false, os.NewSyscallError("flock", err)
	}
}

// unlock gives the lock on f back, also for a process that was forked a moment
// ago and has f open until it executes.
func unlock(f *os.File) error {
	return os.NewSyscallError("flock", syscall.Flock(int(f.Fd()), syscall.LOCK_UN))
}
