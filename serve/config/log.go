package config

import (
	"errors"
	"fmt"
	"strings"
)

func logSection() field {
	return field{fields: section{
		"level":     {set: setLevel(func(c *Config) *string { return &c.Log.Level })},
		"formatter": {set: setFormatter},
		"fields":    {set: setFields, open: true},
		"accesslog": {fields: section{"disabled": {set: setBool(func(c *Config) *bool { return &c.Log.AccessLog.Disabled })}}},
		"hooks": {state: later, note: "has no effect: no mail is sent; watch the log, /readyz or the metrics instead", items: section{
			"type": {state: later}, "disabled": {state: later}, "levels": {state: later, list: true},
			"options": {state: later, alias: "mailoptions", open: true, secret: true},
		}},
		"reportcaller": {state: accepted},
	}}
}

func setLevel(at at[string]) func(*Config, node) error {
	return func(c *Config, n node) error {
		v, err := scalar(n)
		if err != nil {
			return err
		}
		switch v = strings.ToLower(v); v {
		case "error", "warn", "info", "debug":
			*at(c) = v
		case "warning":
			*at(c) = "warn"
		default:
			return fmt.Errorf("%q is none of error, warn, info, debug", v)
		}
		return nil
	}
}

func setFormatter(c *Config, n node) (err error) {
	c.Log.Formatter, err = oneOf(n, "text", "json", "logstash")
	return err
}

func setFields(c *Config, n node) error {
	var values map[string]any
	if err := n.Decode(&values); err != nil {
		return errors.New("must be a mapping of names and values")
	}
	c.Log.Fields = make(map[string]string, len(values))
	for k, v := range values {
		c.Log.Fields[k] = fmt.Sprint(v)
	}
	return nil
}
