package oci_test

import (
	"testing"

	"github.com/regctl/regctl/client/oci"
)

func TestCallerTravelsInTheContext(t *testing.T) {
	if got := oci.CallerFrom(t.Context()); got != (oci.Caller{}) {
		t.Errorf("nobody is %+v", got)
	}
	want := oci.Caller{Name: "alice", Addr: "192.0.2.1", RequestID: "1", UserAgent: "docker"}
	ctx := oci.WithCaller(oci.WithCaller(t.Context(), oci.Caller{Name: "bob"}), want)
	if got := oci.CallerFrom(ctx); got != want {
		t.Errorf("caller is %+v, want %+v", got, want)
	}
}
