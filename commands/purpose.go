package commands

import (
	"context"
	"crypto/rand"
	"strings"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/prune"
)

// looking is for a command that reads about images and uses none: a regctl
// serve does not count that as a pull.
func looking(ctx context.Context) context.Context {
	return oci.WithCaller(ctx, oci.Caller{Look: true})
}

// runSuffix begins what makes a run of this machine another one than that of a
// machine that began in the same minute.
const runSuffix = "."

// recorded is looking for a command that deletes: a regctl serve records under
// the id of its journal what it does. A nil journal has none.
func recorded(ctx context.Context, j *prune.Journal) context.Context {
	if j == nil {
		return looking(ctx)
	}
	return oci.WithCaller(ctx, oci.Caller{Look: true, Run: j.ID() + runSuffix + strings.ToLower(rand.Text()[:8])})
}
