package commands

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"syscall"
	"testing"

	"github.com/regctl/regctl/client/oci"
)

func TestExitStatus(t *testing.T) {
	t.Parallel()
	refused := &url.Error{Op: "Get", URL: "http://x/", Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}
	for want, errs := range map[int][]error{
		exitDone:        {nil},
		exitFailed:      {errors.New("x"), oci.Unknown, oci.Unsupported, oci.InsufficientStorage, oci.TagExists, oci.TagMoved, oci.UploadBusy},
		exitUsage:       {usagef("x"), fmt.Errorf("x: %w", usagef("x"))},
		exitSome:        {&ExitError{Status: exitSome}, &ExitError{exitSome, oci.Denied}},
		exitDenied:      {oci.Unauthorized, oci.Errorf(oci.Denied, "x")},
		exitNotFound:    {oci.NameUnknown, oci.ManifestUnknown, oci.BlobUnknown, oci.NotFound, oci.BlobUploadUnknown, oci.ManifestBlobUnknown},
		exitInvalid:     {oci.NameInvalid, oci.TagInvalid, oci.DigestInvalid, oci.ManifestInvalid, oci.SizeInvalid, oci.RangeInvalid},
		exitUnreachable: {oci.Unavailable, oci.TooManyRequests, refused, context.DeadlineExceeded, &hinted{oci.Unavailable, "x"}},
		exitInterrupted: {context.Canceled, &oci.Error{Code: oci.Unavailable, Err: context.Canceled}},
	} {
		for _, err := range errs {
			if got := exitStatus(err); got != want {
				t.Errorf("%v: got %d, want %d", err, got, want)
			}
		}
	}
}

// TestEveryCodeHasAStatus keeps a new code from ending as "failed" unseen.
func TestEveryCodeHasAStatus(t *testing.T) {
	t.Parallel()
	failed := map[oci.Code]bool{
		oci.Unknown: true, oci.Unsupported: true, oci.InsufficientStorage: true,
		oci.TagExists: true, oci.TagMoved: true, oci.UploadBusy: true,
	}
	for _, code := range oci.Codes() {
		if got := exitStatus(code); (got == exitFailed) != failed[code] {
			t.Errorf("%s: exit status %d", code, got)
		}
	}
}
