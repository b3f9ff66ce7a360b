package commands

import (
	"context"
	"fmt"

	"github.com/regctl/regctl/serve/config"
)

// settingItem is a line of `config show`.
type settingItem struct {
	Key   string `json:"key"`
	Value string `json:"value"`
	From  string `json:"from"`
	Note  string `json:"note,omitempty"`
}

func runConfigShow(_ context.Context, env *Env, o *configOptions) error {
	format, err := parseFormat(o.Output)
	if err != nil {
		return err
	}
	c, err := env.serveConfig(&serveOptions{Config: o.Config})
	if err != nil {
		return err
	}
	p := newPrinter(env.Stdout, format, "regctl.config/v1", "", nil)
	for _, s := range c.Settings() {
		env.placeSetting(c, &s)
		comment := "from " + s.From
		if s.Note != "" {
			comment += "; " + s.Note
		}
		plain := fmt.Sprintf("%-48s  # %s", s.Key+": "+s.Value, comment)
		if err := p.add(settingItem(s), plain, nil); err != nil {
			return err
		}
	}
	return p.end()
}

// placeSetting fills in where the store is: more than a configuration says so.
func (e *Env) placeSetting(c *config.Config, s *config.Setting) {
	if s.Key != "storage.filesystem.rootdirectory" {
		return
	}
	place, err := e.storePlace(&serveOptions{}, c)
	if err != nil || place.From == c.Storage.RootFrom {
		return
	}
	s.Value, s.From = place.Path, place.From
}
