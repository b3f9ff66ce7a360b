package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/regctl/regctl/client/oci"
)

// SpeaksError says that a server was spoken to in the wrong protocol.
type SpeaksError struct {
	Host  string
	Plain bool // It speaks plain HTTP; otherwise HTTPS.
}

// Error says what the server speaks.
func (e *SpeaksError) Error() string {
	if e.Plain {
		return e.Host + " speaks plain HTTP"
	}
	return e.Host + " speaks HTTPS"
}

// failed turns an error of the HTTP machinery into one with a code. That of an
// ended context is returned as it is.
func (c *Client) failed(err error) error {
	var answer *transport.Error
	var coded *oci.Error
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &coded):
		return err
	case errors.As(err, &answer):
		return c.refused(answer)
	case isPlain(err):
		err = &SpeaksError{Host: c.host, Plain: true}
		return &oci.Error{Code: oci.Unavailable, Message: err.Error(), Err: err}
	}
	return &oci.Error{Code: oci.Unavailable, Message: c.host + ": " + reason(err), Err: err}
}

// isPlain tells whether a server answered a TLS handshake in plain HTTP.
func isPlain(err error) bool {
	var record tls.RecordHeaderError
	return errors.Is(err, http.ErrSchemeMismatch) ||
		errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/"
}

// refused is the error for an answer that go-containerregistry did not like
// while it greeted the registry or fetched a token.
func (c *Client) refused(e *transport.Error) error {
	if e.StatusCode == http.StatusBadRequest && strings.Contains(e.Error(), "HTTPS") {
		err := &SpeaksError{Host: c.host}
		return &oci.Error{Code: oci.Unavailable, Message: err.Error(), Err: err}
	}
	coded := oci.UnmarshalError(e.StatusCode, nil)
	if len(e.Errors) > 0 && e.Errors[0].Code != "" {
		coded.Code, coded.Message = oci.Code(e.Errors[0].Code), e.Errors[0].Message
	}
	coded.Err, coded.Message = e, c.host+": "+cmp.Or(coded.Message, coded.Code.Error())
	return coded
}

// answered is the error for an answer that is not a success.
func answered(status int, header http.Header, body []byte) *oci.Error {
	err := oci.UnmarshalError(status, body)
	if s, convErr := strconv.Atoi(header.Get("Retry-After")); convErr == nil && s > 0 {
		err.RetryAfter = time.Duration(s) * time.Second
	}
	return err
}

// reason says in a few words why a registry was not reached.
func reason(err error) string {
	var dns *net.DNSError
	var unknownCA x509.UnknownAuthorityError
	var wrongName x509.HostnameError
	var expired x509.CertificateInvalidError
	var timeout net.Error
	switch {
	case isRefused(err):
		return "connection refused"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "no such host"
	case errors.As(err, &unknownCA):
		return "certificate signed by unknown authority"
	case errors.As(err, &wrongName):
		return wrongName.Error()
	case errors.As(err, &expired):
		return expired.Error()
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no answer in time"
	}
	return err.Error()
}

// isRefused tells whether nobody listens there. Windows has a number of its
// own for it.
func isRefused(err error) bool {
	const wsaeconnrefused = syscall.Errno(10061)
	var errno syscall.Errno
	return errors.Is(err, syscall.ECONNREFUSED) ||
		runtime.GOOS == "windows" && errors.As(err, &errno) && errno == wsaeconnrefused
}
