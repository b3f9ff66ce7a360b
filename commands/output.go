package commands

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// format is a value of --output. The zero value is for people: a table on a
// terminal, one plain value a line in a pipe.
type format struct {
	name     string // "", "json", "jsonl", "yaml" or "go-template".
	template *template.Template
}

const templatePrefix = "go-template="

func addOutput(cmd *cobra.Command, output *string) {
	cmd.Flags().StringVarP(output, "output", "o", "", "write `FORMAT`: json, jsonl, yaml or "+templatePrefix+"TEMPLATE")
	formats := []cobra.Completion{"json", "jsonl", "yaml", templatePrefix}
	complete := cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace)
	_ = cmd.RegisterFlagCompletionFunc("output", complete) // Cannot fail: the flag was added a moment ago.
}

// parseFormat reads the value of --output. A template sees an item as its JSON
// form: {{.repo}}.
func parseFormat(s string) (format, error) {
	if text, ok := strings.CutPrefix(s, templatePrefix); ok {
		t, err := template.New("-o").Option("missingkey=zero").Parse(text)
		if err != nil {
			return format{}, usagef("-o: %v", err)
		}
		return format{"go-template", t}, nil
	}
	switch s {
	case "", "json", "jsonl", "yaml":
		return format{name: s}, nil
	}
	return format{}, usagef("-o %q: there is json, jsonl, yaml and go-template=TEMPLATE", s)
}

// printOne writes a single value; plain is its form for people.
func (f format) printOne(w io.Writer, v any, plain string) error {
	switch f.name {
	case "json":
		raw, err := json.MarshalIndent(v, "", "  ")
		return write(w, append(raw, '\n'), err)
	case "jsonl":
		raw, err := json.Marshal(v)
		return write(w, append(raw, '\n'), err)
	case "yaml":
		raw, err := toYAML(v)
		return write(w, raw, err)
	case "go-template":
		return f.execute(w, v)
	}
	return write(w, []byte(plain+"\n"), nil)
}

func (f format) execute(w io.Writer, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	var fields any
	if err := json.Unmarshal(raw, &fields); err != nil {
		return err
	}
	var line bytes.Buffer
	if err := f.template.Execute(&line, fields); err != nil {
		return usagef("%v", err)
	}
	line.WriteByte('\n')
	return write(w, line.Bytes(), nil)
}

// write writes raw unless making it failed.
func write(w io.Writer, raw []byte, err error) error {
	if err != nil {
		return err
	}
	_, err = w.Write(raw)
	return err
}

// toYAML has the names and the order of the JSON form.
func toYAML(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var node yaml.Node
	if err := yaml.Unmarshal(raw, &node); err != nil {
		return nil, err
	}
	blockStyle(&node)
	return yaml.Marshal(&node)
}

// blockStyle undoes the braces and quotes of JSON; the encoder quotes again
// what would change its type.
func blockStyle(n *yaml.Node) {
	if n.Kind != yaml.SequenceNode || len(n.Content) > 0 {
		n.Style = 0
	}
	for _, child := range n.Content {
		blockStyle(child)
	}
}

// printer writes a list as it comes.
type printer interface {
	// add writes one item: its JSON form, its plain form, its cells of a table.
	add(item any, plain string, cells []string) error
	// end completes the list. It is called after an error, too, unless
	// nothing was added.
	end() error
}

// newPrinter returns a printer for f. The schema names the version of the JSON
// form. Columns are for a terminal; without any a list is plain there, too.
func newPrinter(w io.Writer, f format, schema, registry string, columns []string) printer {
	switch f.name {
	case "json":
		return &jsonPrinter{w: w, schema: schema, registry: registry}
	case "jsonl":
		return &linesPrinter{w: w, line: func(w io.Writer, item any, _ string) error {
			return f.printOne(w, item, "")
		}}
	case "yaml":
		return &yamlPrinter{w: w, schema: schema, registry: registry}
	case "go-template":
		return &linesPrinter{w: w, line: func(w io.Writer, item any, _ string) error {
			return f.execute(w, item)
		}}
	}
	if len(columns) > 0 {
		return &tablePrinter{w: w, columns: columns}
	}
	return &linesPrinter{w: w, line: func(w io.Writer, _ any, plain string) error {
		return write(w, []byte(plain+"\n"), nil)
	}}
}

type linesPrinter struct {
	w    io.Writer
	line func(w io.Writer, item any, plain string) error
}

func (p *linesPrinter) add(item any, plain string, _ []string) error {
	return p.line(p.w, item, plain)
}

func (p *linesPrinter) end() error { return nil }

// jsonPrinter writes {"schema":…,"registry":…,"items":[…]}, an item a line.
type jsonPrinter struct {
	w                io.Writer
	schema, registry string
	begun            bool
}

func (p *jsonPrinter) begin() error {
	p.begun = true
	_, err := fmt.Fprintf(p.w, `{"schema":%q,"registry":%q,"items":[`, p.schema, p.registry)
	return err
}

func (p *jsonPrinter) add(item any, _ string, _ []string) error {
	separator := ",\n"
	if !p.begun {
		if err := p.begin(); err != nil {
			return err
		}
		separator = "\n"
	}
	raw, err := json.Marshal(item)
	return write(p.w, append([]byte(separator), raw...), err)
}

func (p *jsonPrinter) end() error {
	if !p.begun {
		if err := p.begin(); err != nil {
			return err
		}
	}
	return write(p.w, []byte("]}\n"), nil)
}

type yamlPrinter struct {
	w                io.Writer
	schema, registry string
	begun            bool
}

func (p *yamlPrinter) head(items string) error {
	p.begun = true
	raw, err := toYAML(map[string]string{"schema": p.schema, "registry": p.registry})
	return write(p.w, append(raw, items...), err)
}

func (p *yamlPrinter) add(item any, _ string, _ []string) error {
	if !p.begun {
		if err := p.head("items:\n"); err != nil {
			return err
		}
	}
	raw, err := toYAML([]any{item})
	return write(p.w, raw, err)
}

func (p *yamlPrinter) end() error {
	if p.begun {
		return nil
	}
	return p.head("items: []\n")
}
