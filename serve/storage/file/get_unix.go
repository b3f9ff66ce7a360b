//go:build unix

package file

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/regctl/regctl/serve/storage"
)

// ReadSmall reads a file without making an *os.File of it, which takes twice
// as many system calls: a collector reads a link for each blob of each
// repository. It does not wait for a pipe to be written to.
func (OS) ReadSmall(name string, most int64) ([]byte, storage.Info, error) {
	var fd int
	err := again(func() (err error) {
		fd, err = unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, storage.Info{}, &os.PathError{Op: "open", Path: name, Err: err}
	}
	data, info, err := readSmall(fd, name, most)
	// Only ever read: nothing is lost if it cannot be closed.
	_ = unix.Close(fd)
	return data, info, err
}

func readSmall(fd int, name string, most int64) ([]byte, storage.Info, error) {
	var st unix.Stat_t
	if err := again(func() error { return unix.Fstat(fd, &st) }); err != nil {
		return nil, storage.Info{}, &os.PathError{Op: "stat", Path: name, Err: err}
	}
	info := storage.Info{Size: st.Size, ModTime: time.Unix(st.Mtim.Unix())}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, storage.Info{}, noFile(name)
	}
	if info.Size > most {
		return nil, info, nil
	}
	data := make([]byte, info.Size)
	got := 0
	for got < len(data) {
		var n int
		err := again(func() (err error) { n, err = unix.Read(fd, data[got:]); return err })
		if err != nil {
			return nil, info, &os.PathError{Op: "read", Path: name, Err: err}
		}
		if n == 0 {
			break
		}
		got += n
	}
	return data[:got], info, nil
}

// again calls do until no signal interrupts it.
func again(do func() error) error {
	for {
		if err := do(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
