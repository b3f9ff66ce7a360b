package serve

import (
	"github.com/regctl/regctl/serve/config"
)

// Reconfigure takes from c what can change while the registry runs, and returns
// the keys that have changed and need a restart. c must have been parsed
// without an error.
func (a *Assembly) Reconfigure(c *config.Config) (later []string) { return nil }
