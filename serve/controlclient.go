package serve

import (
	"context"

	"github.com/regctl/regctl/serve/storage/file"
)

// dialControl asks the server that holds the store in dir. err says that it
// does.
func dialControl(_ context.Context, dir string, held *file.HeldError, err error) (Upkeep, error) {
	return nil, err
}
