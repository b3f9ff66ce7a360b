package file

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/regctl/regctl/serve/storage"
)

// missing makes fs.ErrNotExist of what means that a name cannot be there.
func missing(err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err
	}
	switch errno {
	case syscall.ENOTDIR, syscall.ENAMETOOLONG, syscall.ELOOP:
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

// refused names why a change was refused, in the words of package storage.
func refused(err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err
	}
	switch errno {
	case syscall.ENOSPC, syscall.EDQUOT:
		return fmt.Errorf("%w: %w", storage.ErrFull, err)
	case syscall.EROFS, syscall.EACCES, syscall.EPERM:
		return fmt.Errorf("%w: %w", storage.ErrReadOnly, err)
	}
	return err
}

// notRemoved is refused for a Remove.
func notRemoved(err error) error {
	if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, syscall.EEXIST) {
		return fmt.Errorf("%w: %w", storage.ErrNotEmpty, err)
	}
	return refused(missing(err))
}
