package auth

import "github.com/regctl/regctl/client/oci"

// DeniedError says that a caller may not do what it asked for.
type DeniedError struct {
	// Need are the rights that a token must have for it.
	Need []Access

	// Narrow says that the caller may, but the token is not for it: with
	// another one it goes on.
	Narrow bool

	// Reason names what decided. It is for the log, and if Tell is set for the
	// caller, who knows of the repository anyway.
	Reason string
	Tell   bool
}

// Error is what a caller may know.
func (e *DeniedError) Error() string {
	if e.Tell && e.Reason != "" {
		return oci.Denied.Error() + ": " + e.Reason
	}
	return oci.Denied.Error()
}

// Is makes errors.Is(e, oci.Denied) hold.
func (e *DeniedError) Is(target error) bool { return target == error(oci.Denied) }
