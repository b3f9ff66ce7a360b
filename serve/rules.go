package serve

import (
	"github.com/regctl/regctl/serve/auth/rule"
	"github.com/regctl/regctl/serve/config"
)

// RulesOf returns the rules that a server with this configuration goes by: if
// it asks nobody who they are, those of the preset open. Tokens of a token
// server elsewhere are not held against them while the configuration has none.
// Errors: rules that make no sense.
func RulesOf(c *config.Config) (*rule.Policy, error) {
	if admits(c) {
		return policyOf(c)
	}
	open, _ := rule.Preset("open")
	return rule.Compile(open)
}
