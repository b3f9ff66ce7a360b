//go:build unix

package commands

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// inherit gives dir and what is in it to whom root belongs, if we are the
// superuser: a server of another user is to find its own.
func inherit(root, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(root)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
}
