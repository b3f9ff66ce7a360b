package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve/state"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/store"
)

// full is a state without room.
type full struct{ *state.State }

func (full) Record(context.Context, ...state.Deletion) error {
	return fmt.Errorf("record a deletion, which %w", state.ErrFull)
}

// TestFullDisk wants a deletion done that cannot be recorded for want of space,
// and told: it is how space is made.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	s, err := store.New(t.Context(), mem.New(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	reg := WithJournal(s, &state.State{}, slog.New(slog.NewTextHandler(&log, nil)), nil)
	reg.(*journal).state = full{}
	content := ocitest.Content{"app": {Manifests: ocitest.Manifests{"a": {}, "b": {Platform: "b/b"}}, Tags: ocitest.Tags{"1": "a", "latest": "a", "2": "b"}}}
	digests := ocitest.Push(t, reg, content)
	for name, err := range map[string]error{
		"manifest": reg.DeleteManifest(t.Context(), "app", digests["a"]), "tag": reg.DeleteTag(t.Context(), "app", "2", ""),
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, tag := range []string{"1", "latest", "2"} {
		if _, err := reg.Resolve(t.Context(), "app", tag); !errors.Is(err, oci.ManifestUnknown) {
			t.Errorf("%s is there: %v", tag, err)
		}
		if !strings.Contains(log.String(), "cannot be undone") || !strings.Contains(log.String(), "tag="+tag) {
			t.Errorf("the log does not tell of %s: %s", tag, log.String())
		}
	}
	if err := reg.DeleteRepo(t.Context(), "app"); err != nil {
		t.Errorf("repository: %v", err)
	}
}
