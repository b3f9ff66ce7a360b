// Package auth says who may. Who somebody is, sources know: htpasswd files,
// directories, robots; logins are asked of all of them, and guesses wait. What
// they may, rules say, against which every call of a registry is held.
//
// An htpasswd file belongs to whoever keeps it: it is read as registry:2 reads
// it, read again when it changes, and edited without touching what else is in
// it.
package auth

import "errors"

var (
	// ErrDenied says that there is no such user, or that the password is
	// another; nobody is told which.
	ErrDenied = errors.New("the user or the password is wrong")

	// ErrUnknown says that there is no such user in a source.
	ErrUnknown = errors.New("there is no such user")

	// ErrBusy says that too many passwords are being checked to take one more.
	ErrBusy = errors.New("too many logins are being checked")

	// ErrUnavailable says that who knows cannot be asked now.
	ErrUnavailable = errors.New("logins cannot be checked now")
)
