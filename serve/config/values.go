package config

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// at points at the place of a value in a configuration.
type at[T any] func(*Config) *T

func scalar(n node) (string, error) {
	if n.Kind != yaml.ScalarNode {
		return "", errors.New("must be a single value")
	}
	return n.Value, nil
}

func setVersion(_ *Config, n node) error {
	if v, err := scalar(n); err != nil || v != "0.1" {
		return errors.New("must be 0.1, the only version there is")
	}
	return nil
}

func setString(at at[string]) func(*Config, node) error {
	return func(c *Config, n node) (err error) {
		*at(c), err = scalar(n)
		return err
	}
}

func setBool(at at[bool]) func(*Config, node) error {
	return func(c *Config, n node) error {
		v, err := scalar(n)
		if err != nil {
			return err
		}
		b, ok := truth(v)
		if !ok {
			return fmt.Errorf("%q is neither true nor false", v)
		}
		*at(c) = b
		return nil
	}
}

// truth reads what YAML 1.1, which registry:2 reads, takes for true or false.
func truth(v string) (is, ok bool) {
	switch v {
	case "y", "Y", "yes", "Yes", "YES", "on", "On", "ON":
		return true, true
	case "n", "N", "no", "No", "NO", "off", "Off", "OFF":
		return false, true
	}
	is, err := strconv.ParseBool(v)
	return is, err == nil
}

func isTrue(n node) bool {
	is, _ := truth(n.Value)
	return is
}

func setCount(at at[int]) func(*Config, node) error {
	return func(c *Config, n node) error {
		v, err := scalar(n)
		if err != nil {
			return err
		}
		i, err := strconv.Atoi(v)
		if err != nil {
			return fmt.Errorf("%q is not a number", v)
		}
		if i > 0 { // As in registry:2, 0 and less is not said.
			*at(c) = i
		}
		return nil
	}
}

func setMaxTags(c *Config, n node) error {
	if v, err := scalar(n); err == nil && strings.HasPrefix(v, "-") {
		return fmt.Errorf("%q is less than 0", v)
	}
	return setCount(func(c *Config) *int { return &c.Tags.MaxTags })(c, n)
}

func setDuration(at at[time.Duration]) func(*Config, node) error {
	return func(c *Config, n node) error {
		v, err := scalar(n)
		if err != nil {
			return err
		}
		d, err := time.ParseDuration(v)
		if _, numeric := strconv.Atoi(v); err != nil && numeric == nil && v != "0" {
			return fmt.Errorf("%q is not a duration such as 60s: without a unit it is so many nanoseconds", v)
		}
		if err != nil && v != "0" || d < 0 {
			return fmt.Errorf("%q is not a duration such as 60s", v)
		}
		*at(c) = d
		return nil
	}
}

// setStrings takes a single value for a list of one.
func setStrings(at at[[]string]) func(*Config, node) error {
	return func(c *Config, n node) (err error) {
		*at(c), err = texts(n)
		return err
	}
}

func texts(n node) ([]string, error) {
	if n.Kind == yaml.ScalarNode {
		return []string{n.Value}, nil
	}
	if n.Kind != yaml.SequenceNode {
		return nil, errors.New("must be a list")
	}
	var list []string
	for _, entry := range n.Content {
		v, err := scalar(follow(entry))
		if err != nil {
			return nil, errors.New("must be a list of single values")
		}
		list = append(list, v)
	}
	return list, nil
}

// oneOf is the value of n if it is one of those.
func oneOf(n node, values ...string) (string, error) {
	v, err := scalar(n)
	if err == nil && !slices.Contains(values, v) {
		err = fmt.Errorf("%q is none of %s%s", v, strings.Join(values, ", "), nearest(v, values))
	}
	return v, err
}

func setHeaders(at at[http.Header]) func(*Config, node) error {
	return func(c *Config, n node) (err error) {
		*at(c), err = headers(n)
		return err
	}
}

func headers(n node) (http.Header, error) {
	if n.Kind != yaml.MappingNode {
		return nil, errors.New("must be a mapping of header names and lists of values")
	}
	header := http.Header{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name := n.Content[i].Value
		list, err := texts(follow(n.Content[i+1]))
		if err != nil {
			return nil, fmt.Errorf("%s must be a list of values", name)
		}
		for _, value := range list {
			if strings.ContainsAny(name+value, "\r\n\x00") || name == "" {
				return nil, fmt.Errorf("%q is no header", name)
			}
			header.Add(name, value)
		}
	}
	return header, nil
}

// headersField is a mapping of headers; a variable names one in any case.
func headersField(at at[http.Header]) field {
	return field{set: setHeaders(at), open: true, each: &field{list: true}}
}
