package oci_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"testing"

	"github.com/regctl/regctl/client/oci"
)

func TestEveryCodeHasAStatusAndASentence(t *testing.T) {
	for _, c := range oci.Codes() {
		if s := c.Status(); s < 400 || s > 599 || http.StatusText(s) == "" {
			t.Errorf("%s has status %d", string(c), s)
		}
		if c.Error() == string(c) || c.Error() == "" {
			t.Errorf("%s does not say what it means", string(c))
		}
		if strings.ToUpper(string(c)) != string(c) {
			t.Errorf("%s is not in upper case", string(c))
		}
	}
	if got := oci.Code("NEW").Status(); got != http.StatusInternalServerError {
		t.Errorf("a code that nobody knows has status %d", got)
	}
	if got := oci.Code("NEW").Error(); got != "NEW" {
		t.Errorf("a code that nobody knows says %q", got)
	}
}

func TestStatusesOfTheSpecification(t *testing.T) {
	for c, want := range map[oci.Code]int{
		oci.BlobUnknown: 404, oci.BlobUploadUnknown: 404, oci.ManifestUnknown: 404, oci.NameUnknown: 404, oci.ManifestInvalid: 400,
		oci.NameInvalid: 400, oci.DigestInvalid: 400, oci.RangeInvalid: 416, oci.Unauthorized: 401, oci.Denied: 403, oci.Unsupported: 405,
		oci.TooManyRequests: 429, oci.ManifestTooLarge: 413, oci.TooManyTags: 414, oci.TagMoved: 412, oci.UploadBusy: 409,
	} {
		if got := c.Status(); got != want {
			t.Errorf("%s has status %d, want %d", string(c), got, want)
		}
	}
}

func TestErrorsAreToldApartByCode(t *testing.T) {
	cause := fmt.Errorf("open x: %w", fs.ErrPermission)
	for _, err := range []error{
		oci.BlobUnknown,
		&oci.Error{Code: oci.BlobUnknown, Err: cause},
		oci.Errorf(oci.BlobUnknown, "no blob: %w", cause),
		fmt.Errorf("pull: %w", &oci.Error{Code: oci.BlobUnknown}),
		errors.Join(io.EOF, oci.BlobUnknown),
	} {
		if !errors.Is(err, oci.BlobUnknown) || errors.Is(err, oci.ManifestUnknown) {
			t.Errorf("%v is not told by its code", err)
		}
		if c := oci.AsError(err).Code; c != oci.BlobUnknown {
			t.Errorf("AsError(%v) has code %s", err, string(c))
		}
	}
	if err := oci.Errorf(oci.Unknown, "x: %w", cause); !errors.Is(err, fs.ErrPermission) {
		t.Error("the cause is lost")
	}
}

func TestErrorSaysWhatHappened(t *testing.T) {
	cause := errors.New("disk on fire")
	for want, err := range map[string]error{
		"blob unknown to registry":    oci.AsError(oci.BlobUnknown),
		"no blob x":                   &oci.Error{Code: oci.BlobUnknown, Message: "no blob x", Err: cause},
		"unknown error: disk on fire": oci.AsError(cause),
		"no blob: disk on fire":       oci.Errorf(oci.BlobUnknown, "no blob: %w", cause),
	} {
		if err.Error() != want {
			t.Errorf("got %q, want %q", err.Error(), want)
		}
	}
}

func TestTheCauseOfAnUnknownErrorDoesNotTravel(t *testing.T) {
	for _, err := range []error{errors.New("secret"), &oci.Error{Code: oci.Unknown, Err: errors.New("secret")}, fmt.Errorf("secret: %w", oci.BlobUnknown)} {
		if body := oci.MarshalError(err); strings.Contains(string(body), "secret") {
			t.Errorf("%s tells the cause", body)
		}
	}
}

func TestMarshalErrorIsWhatTheSpecificationSays(t *testing.T) {
	for want, err := range map[string]error{
		`{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}`: oci.BlobUnknown,
		`{"errors":[{"code":"DENIED","message":"no","detail":{"a":[1]}}]}`:          &oci.Error{Code: oci.Denied, Message: "no", Detail: json.RawMessage(`{"a":[1]}`)},
		`{"errors":[{"code":"DENIED","message":"\ufffd"}]}`:                         &oci.Error{Code: oci.Denied, Message: "\xff", Detail: json.RawMessage(`{`)},
	} {
		if got := string(oci.MarshalError(err)); got != want+"\n" {
			t.Errorf("got %swant %s", got, want)
		}
	}
}

func TestUnmarshalErrorOfAnyBody(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		want   oci.Code
	}{
		{404, `{"errors":[{"code":"NAME_UNKNOWN","message":"x"},{"code":"DENIED"}]}`, oci.NameUnknown},
		{500, `{"errors":[{"code":"TEAPOT"}]}`, "TEAPOT"},
		{404, ``, oci.NotFound},
		{404, `<html>`, oci.NotFound},
		{401, `{"errors":[]}`, oci.Unauthorized},
		{401, `{"errors":null}`, oci.Unauthorized},
		{403, `{"errors":[{"message":"no code"}]}`, oci.Denied},
		{405, `{}`, oci.Unsupported},
		{412, `null`, oci.TagMoved},
		{413, `[]`, oci.ManifestTooLarge},
		{416, `"x"`, oci.RangeInvalid},
		{429, `slow down`, oci.TooManyRequests},
		{502, `bad gateway`, oci.Unavailable},
		{503, ``, oci.Unavailable},
		{504, ``, oci.Unavailable},
		{507, ``, oci.InsufficientStorage},
		{500, ``, oci.Unknown},
		{418, ``, oci.Unknown},
		{0, ``, oci.Unknown},
	} {
		if got := oci.UnmarshalError(c.status, []byte(c.body)); got.Code != c.want {
			t.Errorf("%d %s is %s, want %s", c.status, c.body, string(got.Code), string(c.want))
		}
	}
}

func TestEveryCodeTravels(t *testing.T) {
	for _, c := range oci.Codes() {
		err := oci.UnmarshalError(c.Status(), oci.MarshalError(c))
		if !errors.Is(err, c) || err.Message != c.Error() {
			t.Errorf("%s arrives as %s %q", string(c), string(err.Code), err.Message)
		}
	}
}

func FuzzErrorRoundTrip(f *testing.F) {
	f.Add("DENIED", "no", `{"a":1}`)
	f.Add("X", "", ``)
	f.Add("é", "\u2028<&>", ` "x" `)
	f.Fuzz(func(t *testing.T, code, message, detail string) {
		code, message = strings.ToValidUTF8(code, "?"), strings.ToValidUTF8(message, "?")
		sent := &oci.Error{Code: oci.Code(code), Message: message, Detail: json.RawMessage(detail)}
		body := oci.MarshalError(sent)
		if !json.Valid(body) {
			t.Fatalf("%s is no JSON", body)
		}
		got := oci.UnmarshalError(500, body)
		if code == "" {
			return // No code, no error of the specification.
		}
		if message == "" {
			message = sent.Code.Error()
		}
		if got.Code != sent.Code || got.Message != message {
			t.Errorf("%q %q arrives as %q %q", code, message, string(got.Code), got.Message)
		}
		if json.Valid([]byte(detail)) != (got.Detail != nil) {
			t.Errorf("detail %q arrives as %q", detail, got.Detail)
		}
	})
}

func FuzzUnmarshalError(f *testing.F) {
	f.Add(404, []byte(`{"errors":[{"code":"X","message":1}]}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if e := oci.UnmarshalError(status, body); e == nil || e.Code == "" || e.Error() == "" {
			t.Errorf("%d %q gives %+v", status, body, e)
		}
	})
}

func ExampleErrorf() {
	err := fmt.Errorf("pull: %w", oci.Errorf(oci.ManifestUnknown, "no tag %s in %s", "v9", "team/app"))
	fmt.Println(errors.Is(err, oci.ManifestUnknown), oci.AsError(err).Code.Status(), err)
	// Output: true 404 pull: no tag v9 in team/app
}

func ExampleUnmarshalError() {
	body := oci.MarshalError(oci.Errorf(oci.Denied, "you may pull team/app, not push"))
	err := oci.UnmarshalError(http.StatusForbidden, body)
	fmt.Println(errors.Is(err, oci.Denied), err)
	// Output: true you may pull team/app, not push
}
