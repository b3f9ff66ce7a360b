package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"syscall"
)

// AddrInUseError says that another process listens on Addr.
type AddrInUseError struct {
	Addr string
	Err  error
}

// Error names the address.
func (e *AddrInUseError) Error() string { return e.Addr + " is in use" }

// Unwrap returns what the system said.
func (e *AddrInUseError) Unwrap() error { return e.Err }

// Listen opens the addresses, all or none. An IPv6 address on a machine that
// has no IPv6 is passed over, with a line at level debug, as long as another
// one remains.
// Errors: [*AddrInUseError] and those of [net.Listen].
func Listen(ctx context.Context, addrs []string, log *slog.Logger) ([]net.Listener, error) {
	var open []net.Listener
	var missing error
	for _, addr := range addrs {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
		switch {
		case err == nil:
			open = append(open, l)
		case noIPv6(addr, err):
			missing = err
			if log != nil {
				log.LogAttrs(ctx, slog.LevelDebug, "no IPv6 here, going on without", slog.String("addr", addr))
			}
		default:
			closeAll(open)
			if errors.Is(err, syscall.EADDRINUSE) {
				return nil, &AddrInUseError{Addr: addr, Err: err}
			}
			return nil, fmt.Errorf("listen on %s: %w", addr, err)
		}
	}
	if len(open) == 0 {
		return nil, errors.Join(errors.New("no address to listen on"), missing)
	}
	return open, nil
}

// noIPv6 tells whether err means that addr is of a protocol this machine does
// not have.
func noIPv6(addr string, err error) bool {
	host, _, splitErr := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return splitErr == nil && ip != nil && ip.To4() == nil &&
		(errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT))
}

func closeAll(ls []net.Listener) {
	for _, l := range ls {
		l.Close()
	}
}

// ListenUnix opens the socket at path, with the mode that the umask leaves, as
// registry:2 does; it goes away when it is closed. One that a server left that
// has died is replaced.
// Errors: [*AddrInUseError] if somebody answers there, and those of
// [net.Listen] and of the file system.
func ListenUnix(ctx context.Context, path string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err == nil {
		return l, nil
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen on the socket %s: %w", path, err)
	}
	switch f, statErr := os.Lstat(path); {
	case statErr != nil && !errors.Is(statErr, fs.ErrNotExist):
		return nil, fmt.Errorf("listen on the socket %s: %w", path, statErr)
	case statErr == nil && f.Mode()&fs.ModeSocket == 0:
		return nil, fmt.Errorf("listen on the socket %s: a file is there that is no socket", path)
	}
	c, dialErr := new(net.Dialer).DialContext(ctx, "unix", path)
	if dialErr == nil {
		_ = c.Close()
	}
	if !errors.Is(dialErr, syscall.ECONNREFUSED) && !errors.Is(dialErr, fs.ErrNotExist) {
		return nil, &AddrInUseError{Addr: path, Err: err}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen on the socket %s, which a server has left: %w", path, err)
	}
	if l, err = new(net.ListenConfig).Listen(ctx, "unix", path); err != nil {
		return nil, fmt.Errorf("listen on the socket %s: %w", path, err)
	}
	return l, nil
}

// listen opens what the section http says.
func listen(ctx context.Context, network string, addrs []string, log *slog.Logger) ([]net.Listener, error) {
	if network != "unix" {
		return Listen(ctx, addrs, log)
	}
	var open []net.Listener
	for _, path := range addrs {
		l, err := ListenUnix(ctx, path)
		if err != nil {
			closeAll(open)
			return nil, err
		}
		open = append(open, l)
	}
	return open, nil
}
