package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

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
	host := c.host
	var at *url.Error
	if errors.As(err, &at) {
		err = at.Err // Without the address, which may have secrets in it.
		if u, parseErr := url.Parse(at.URL); parseErr == nil && !c.is(u.Host) {
			host += " leads to " + u.Host
		}
	}
	var coded *oci.Error
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.As(err, &coded):
		return err
	case isPlain(err) && host == c.host:
		err = &SpeaksError{Host: c.host, Plain: true}
		return &oci.Error{Code: oci.Unavailable, Message: err.Error(), Err: err}
	}
	return &oci.Error{Code: oci.Unavailable, Message: host + ": " + c.reason(err), Err: err}
}

// is tells whether host is the registry, which has other names if it is
// Docker Hub.
func (c *Client) is(host string) bool {
	return host == "" || strings.EqualFold(host, c.host) || aliasOf(host) == aliasOf(c.host)
}

// isPlain tells whether a server answered a TLS handshake in plain HTTP.
func isPlain(err error) bool {
	var record tls.RecordHeaderError
	return errors.Is(err, http.ErrSchemeMismatch) ||
		errors.As(err, &record) && string(record.RecordHeader[:]) == "HTTP/"
}

// answered is the error for an answer that is not a success.
func answered(status int, header http.Header, body []byte, now time.Time) *oci.Error {
	err := oci.UnmarshalError(status, body)
	if status == http.StatusTooManyRequests {
		err.Code = oci.TooManyRequests // Whatever else it is called.
	}
	err.RetryAfter = retryAfter(header, now)
	if quota := quotaOf(header); quota != "" && status == http.StatusTooManyRequests {
		err.Message = cmp.Or(err.Message, err.Code.Error()) + "; " + quota
	}
	return err
}

// quotaOf is what Docker Hub tells of how much of its quota is left, such as
// "0;w=21600" of "100;w=21600"; empty: nothing.
func quotaOf(h http.Header) string {
	left, window, _ := strings.Cut(h.Get("RateLimit-Remaining"), ";w=")
	n, err := strconv.Atoi(left)
	if err != nil {
		return ""
	}
	said := strconv.Itoa(n)
	most, _, _ := strings.Cut(h.Get("RateLimit-Limit"), ";")
	if of, err := strconv.Atoi(most); err == nil {
		said += " of " + strconv.Itoa(of)
	}
	said += " pulls left"
	if s, err := strconv.ParseInt(window, 10, 32); err == nil {
		said += " in " + (time.Duration(s) * time.Second).String()
	}
	return said
}

// reason says in a few words why a registry was not reached.
func (c *Client) reason(err error) string {
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
		return "certificate signed by unknown authority" + c.trust.hint()
	case errors.As(err, &wrongName):
		return wrongName.Error()
	case errors.As(err, &expired):
		return expired.Error()
	case errors.Is(err, errNoAnswer), errors.As(err, &timeout) && timeout.Timeout():
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
