// Package auth says who may: it knows the users of a registry and checks their
// passwords. Users are kept in htpasswd files, which belong to whoever keeps
// them: they are read as registry:2 reads them, read again when they change,
// and edited without touching what else is in them.
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
