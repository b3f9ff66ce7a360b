package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Code is an error code of the registry API, and an error in itself, so that
// errors.Is(err, oci.BlobUnknown) holds on both ends of the wire.
type Code string

// The codes of the distribution specification, those that existing registries
// add, and ours.
const (
	BlobUnknown         Code = "BLOB_UNKNOWN"
	BlobUploadInvalid   Code = "BLOB_UPLOAD_INVALID"
	BlobUploadUnknown   Code = "BLOB_UPLOAD_UNKNOWN"
	DigestInvalid       Code = "DIGEST_INVALID"
	ManifestBlobUnknown Code = "MANIFEST_BLOB_UNKNOWN"
	ManifestInvalid     Code = "MANIFEST_INVALID"
	ManifestUnknown     Code = "MANIFEST_UNKNOWN"
	NameInvalid         Code = "NAME_INVALID"
	NameUnknown         Code = "NAME_UNKNOWN"
	SizeInvalid         Code = "SIZE_INVALID"
	Unauthorized        Code = "UNAUTHORIZED"
	Denied              Code = "DENIED"
	Unsupported         Code = "UNSUPPORTED"
	TooManyRequests     Code = "TOOMANYREQUESTS"

	TagInvalid        Code = "TAG_INVALID"
	RangeInvalid      Code = "RANGE_INVALID"
	PaginationInvalid Code = "PAGINATION_NUMBER_INVALID"
	Unavailable       Code = "UNAVAILABLE"
	Unknown           Code = "UNKNOWN"

	ManifestTooLarge    Code = "MANIFEST_TOO_LARGE"
	TooManyTags         Code = "TOO_MANY_TAGS"
	TagExists           Code = "TAG_EXISTS"   // A tag that must not be overwritten.
	TagMoved            Code = "TAG_MOVED"    // A tag is not where the caller saw it.
	UploadBusy          Code = "UPLOAD_BUSY"  // Another request writes to this upload.
	NotFound            Code = "NOT_FOUND"    // No such endpoint.
	InsufficientStorage Code = "STORAGE_FULL" // No space or no inodes.
)

// statuses is the one table that ties codes to HTTP statuses; what a code
// means in a sentence stands beside it.
var statuses = map[Code]struct {
	status  int
	meaning string
}{
	BlobUnknown:         {http.StatusNotFound, "blob unknown to registry"},
	BlobUploadInvalid:   {http.StatusBadRequest, "blob upload invalid"},
	BlobUploadUnknown:   {http.StatusNotFound, "blob upload unknown to registry"},
	DigestInvalid:       {http.StatusBadRequest, "provided digest did not match uploaded content"},
	ManifestBlobUnknown: {http.StatusBadRequest, "manifest references a manifest or blob unknown to registry"},
	ManifestInvalid:     {http.StatusBadRequest, "manifest invalid"},
	ManifestUnknown:     {http.StatusNotFound, "manifest unknown to registry"},
	NameInvalid:         {http.StatusBadRequest, "invalid repository name"},
	NameUnknown:         {http.StatusNotFound, "repository name not known to registry"},
	SizeInvalid:         {http.StatusBadRequest, "provided length did not match content length"},
	Unauthorized:        {http.StatusUnauthorized, "authentication required"},
	Denied:              {http.StatusForbidden, "requested access to the resource is denied"},
	Unsupported:         {http.StatusMethodNotAllowed, "the operation is unsupported"},
	TooManyRequests:     {http.StatusTooManyRequests, "too many requests"},
	TagInvalid:          {http.StatusBadRequest, "invalid tag"},
	RangeInvalid:        {http.StatusRequestedRangeNotSatisfiable, "invalid content range"},
	PaginationInvalid:   {http.StatusBadRequest, "invalid number of results requested"},
	Unavailable:         {http.StatusServiceUnavailable, "service unavailable"},
	Unknown:             {http.StatusInternalServerError, "unknown error"},
	ManifestTooLarge:    {http.StatusRequestEntityTooLarge, "manifest too large"},
	TooManyTags:         {http.StatusRequestURITooLong, "too many tags in one request"},
	TagExists:           {http.StatusPreconditionFailed, "tag exists and must not be overwritten"},
	TagMoved:            {http.StatusPreconditionFailed, "tag points elsewhere"},
	UploadBusy:          {http.StatusConflict, "another request is writing to this upload"},
	NotFound:            {http.StatusNotFound, "no such endpoint"},
	InsufficientStorage: {http.StatusInsufficientStorage, "no space left in the registry's storage"},
}

// Codes returns every code of the table, in no order.
func Codes() []Code {
	codes := make([]Code, 0, len(statuses))
	for c := range statuses {
		codes = append(codes, c)
	}
	return codes
}

// Status is the HTTP status that goes with c; 500 for a code not in the table.
func (c Code) Status() int {
	if s, ok := statuses[c]; ok {
		return s.status
	}
	return http.StatusInternalServerError
}

// Error is what c means, in a sentence.
func (c Code) Error() string {
	if s, ok := statuses[c]; ok {
		return s.meaning
	}
	return string(c)
}

// Error is an error with a code. Message and Detail go over the wire, Err does
// not: it is for the log.
type Error struct {
	Code       Code
	Message    string          // Empty: what Code means.
	Detail     json.RawMessage // Optional, any JSON value.
	RetryAfter time.Duration   // 0: not said. Travels as the header Retry-After.
	Err        error           // The cause, if any.
}

// Errorf returns an [*Error] whose message is made as by [fmt.Errorf]. What %w
// wraps becomes its cause and thereby part of the message: use it only for
// causes that callers may see.
func Errorf(c Code, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: c, Message: err.Error(), Err: errors.Unwrap(err)}
}

// Error returns the message followed by the cause if the message does not tell.
func (e *Error) Error() string {
	switch {
	case e.Message != "":
		return e.Message
	case e.Err != nil:
		return e.Code.Error() + ": " + e.Err.Error()
	}
	return e.Code.Error()
}

// Is makes errors.Is(e, code) hold for e's own code.
func (e *Error) Is(target error) bool {
	c, ok := target.(Code)
	return ok && c == e.Code
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// AsError returns err as an [*Error]. An error without a code becomes
// [Unknown] with err as its cause and nothing of it in the message.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var c Code
	switch {
	case !errors.As(err, &c):
		return &Error{Code: Unknown, Err: err}
	case err == error(c): // A bare code is no cause of itself.
		return &Error{Code: c}
	}
	return &Error{Code: c, Err: err}
}

// wireError is the JSON form of one error, wireErrors that of an answer:
// distribution specification, "Error Codes".
type (
	wireError struct {
		Code    Code            `json:"code"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail,omitempty"`
	}
	wireErrors struct {
		Errors []wireError `json:"errors"`
	}
)

// MarshalError returns the body of an error response. Only the code, message
// and detail of err are in it, never its cause.
func MarshalError(err error) []byte {
	e := AsError(err)
	w := wireError{Code: e.Code, Message: e.Message, Detail: e.Detail}
	if w.Message == "" {
		w.Message = e.Code.Error()
	}
	if !json.Valid(w.Detail) {
		w.Detail = nil
	}
	body, err := json.Marshal(wireErrors{[]wireError{w}})
	if err != nil { // Cannot happen: strings, and JSON that was just checked.
		return []byte(`{"errors":[{"code":"UNKNOWN","message":"unknown error"}]}`)
	}
	return append(body, '\n')
}

// UnmarshalError returns the error that an error response with this status and
// body tells of; the first one if there are several. A body that is not an
// error of the specification gives a code fit for the status.
func UnmarshalError(status int, body []byte) *Error {
	var w wireErrors
	if json.Unmarshal(body, &w) == nil && len(w.Errors) > 0 && w.Errors[0].Code != "" {
		first := w.Errors[0]
		return &Error{Code: first.Code, Message: first.Message, Detail: first.Detail}
	}
	code, ok := fallbacks[status]
	switch {
	case ok:
	case status == http.StatusBadGateway || status == http.StatusGatewayTimeout:
		code = Unavailable
	default:
		code = Unknown
	}
	return &Error{Code: code, Message: fmt.Sprintf("%d %s", status, http.StatusText(status))}
}

// fallbacks are the codes for statuses that arrive without one.
var fallbacks = map[int]Code{
	http.StatusUnauthorized:                 Unauthorized,
	http.StatusForbidden:                    Denied,
	http.StatusNotFound:                     NotFound,
	http.StatusMethodNotAllowed:             Unsupported,
	http.StatusPreconditionFailed:           TagMoved,
	http.StatusRequestEntityTooLarge:        ManifestTooLarge,
	http.StatusRequestedRangeNotSatisfiable: RangeInvalid,
	http.StatusTooManyRequests:              TooManyRequests,
	http.StatusServiceUnavailable:           Unavailable,
	http.StatusInsufficientStorage:          InsufficientStorage,
}
