package commands

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage"
)

// The exit statuses of every command.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2   // A usage error, or a plan that is not safe.
	exitSome        = 3   // Some items failed or are frozen.
	exitDenied      = 4   // Not logged in, or not allowed.
	exitNotFound    = 5   // What was asked for is not there.
	exitInvalid     = 6   // A name, digest or content that is invalid.
	exitUnreachable = 7   // Not reached, rate-limited or timed out.
	exitCorrupt     = 8   // Something in a store is corrupt.
	exitLocked      = 9   // Locked by another process, or read-only.
	exitWouldChange = 10  // By --dry-run --exit-code: there is something to do.
	exitInterrupted = 130 // By a signal.
)

// exitHelp is the list above for people.
const exitHelp = `Exit status: 0 done · 1 failed · 2 usage · 3 some items failed · 4 denied ·
5 not found · 6 invalid · 7 unreachable, rate-limited or timed out ·
8 corruption found · 9 locked or read-only · 10 --dry-run --exit-code found
something to do · 130 interrupted`

// UsageError is a command line that makes no sense. Exit status 2.
type UsageError struct{ Message string }

// Error says what is wrong with the command line and what to type instead.
func (e *UsageError) Error() string { return e.Message }

func usagef(format string, args ...any) error {
	return &UsageError{fmt.Sprintf(format, args...)}
}

// ExitError ends a command with a status of its own. A command that has said
// everything already leaves Err nil.
type ExitError struct {
	Status int
	Err    error
}

// Error is what Err says.
func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.Status)
	}
	return e.Err.Error()
}

// Unwrap returns Err.
func (e *ExitError) Unwrap() error { return e.Err }

// exitStatus is the one place that turns errors into exit statuses.
func exitStatus(err error) int {
	var exit *ExitError
	var usage *UsageError
	var coded *oci.Error
	var code oci.Code
	var network net.Error
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &exit):
		return exit.Status
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &coded):
		return codeStatus(coded.Code)
	case errors.As(err, &code):
		return codeStatus(code)
	case errors.Is(err, storage.ErrReadOnly):
		return exitLocked
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && !isErrno(network):
		return exitUnreachable
	}
	return exitFailed
}

// isErrno tells an error of the system that came from no network: a
// syscall.Errno calls itself a net.Error, one of a file, too.
func isErrno(err net.Error) bool {
	_, ok := err.(syscall.Errno) // What errors.As has found is looked at, not what it wraps.
	return ok
}

func codeStatus(c oci.Code) int {
	switch c {
	case oci.Unauthorized, oci.Denied:
		return exitDenied
	case oci.BlobUnknown, oci.BlobUploadUnknown, oci.ManifestBlobUnknown, oci.ManifestUnknown, oci.NameUnknown, oci.NotFound:
		return exitNotFound
	case oci.BlobUploadInvalid, oci.DigestInvalid, oci.ManifestInvalid, oci.ManifestTooLarge, oci.NameInvalid,
		oci.PaginationInvalid, oci.RangeInvalid, oci.SizeInvalid, oci.TagInvalid, oci.TooManyTags:
		return exitInvalid
	case oci.TooManyRequests, oci.Unavailable:
		return exitUnreachable
	}
	return exitFailed
}
