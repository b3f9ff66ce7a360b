package commands

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

type thing struct {
	Name string   `json:"name"`
	Size int      `json:"size,omitempty"`
	List []string `json:"list"`
}

var things = []any{
	thing{Name: "yes", List: []string{}},
	thing{Name: `qu"ote: #`, Size: 5, List: []string{"1.0", "x"}},
}

// TestFormatsAgree: every format of a list holds the same.
func TestFormatsAgree(t *testing.T) {
	t.Parallel()
	want, err := json.Marshal(map[string]any{"schema": "s/v1", "registry": "h:1", "items": things})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"json", "yaml"} {
		var got any
		decode := json.Unmarshal
		if name == "yaml" {
			decode = yaml.Unmarshal
		}
		out := printed(t, name, things)
		if err := decode([]byte(out), &got); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		if raw, _ := json.Marshal(got); string(raw) != canonical(t, want) {
			t.Errorf("%s: got %s, want %s", name, raw, want)
		}
	}
	lines := strings.Split(strings.TrimSpace(printed(t, "jsonl", things)), "\n")
	if len(lines) != len(things) {
		t.Fatalf("jsonl: %q", lines)
	}
	for i, line := range lines {
		if raw, _ := json.Marshal(things[i]); line != string(raw) {
			t.Errorf("jsonl: got %s, want %s", line, raw)
		}
	}
	if got := printed(t, "go-template={{.name}}-{{len .list}}", things); got != "yes-0\nqu\"ote: #-2\n" {
		t.Errorf("go-template: got %q", got)
	}
}

func canonical(t *testing.T, raw []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func printed(t *testing.T, name string, items []any) string {
	t.Helper()
	f, err := parseFormat(name)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	p := newPrinter(&out, f, "s/v1", "h:1", nil)
	for _, item := range items {
		if err := p.add(item, "plain", nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.end(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPrintOne(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"":                      "plain\n",
		"json":                  "{\n  \"name\": \"1\",\n  \"list\": []\n}\n",
		"jsonl":                 "{\"name\":\"1\",\"list\":[]}\n",
		"yaml":                  "name: \"1\"\nlist: []\n",
		"go-template={{.name}}": "1\n",
	} {
		f, err := parseFormat(name)
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := f.printOne(&out, thing{Name: "1", List: []string{}}, "plain"); err != nil || out.String() != want {
			t.Errorf("%q: got %q, %v, want %q", name, out.String(), err, want)
		}
	}
	f, err := parseFormat("go-template={{.name.x}}")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.printOne(&strings.Builder{}, thing{}, ""); exitStatus(err) != exitUsage {
		t.Errorf("a template that does not fit: %v", err)
	}
}

// fullPipe takes n bytes.
type fullPipe struct{ n int }

var errFull = errors.New("no more")

func (p *fullPipe) Write(b []byte) (int, error) {
	if p.n -= len(b); p.n < 0 {
		return 0, errFull
	}
	return len(b), nil
}

// TestPrintersReportWriteErrors: a list that did not reach its reader is never
// taken for done.
func TestPrintersReportWriteErrors(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "json", "jsonl", "yaml", "go-template={{.name}}", "table"} {
		for n := range len(printedTo(t, &strings.Builder{}, name)) {
			if err := printTwo(&fullPipe{n}, name); !errors.Is(err, errFull) {
				t.Errorf("%q, %d bytes: got %v", name, n, err)
			}
		}
	}
}

func printedTo(t *testing.T, out *strings.Builder, name string) string {
	t.Helper()
	if err := printTwo(out, name); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func printTwo(w interface{ Write([]byte) (int, error) }, name string) error {
	var columns []string
	if name == "table" {
		name, columns = "", []string{"NAME", "SIZE"}
	}
	f, err := parseFormat(name)
	if err != nil {
		return err
	}
	p := newPrinter(w, f, "s/v1", "h:1", columns)
	for _, item := range things {
		if err := p.add(item, "plain", []string{"a", "b"}); err != nil {
			return err
		}
	}
	return p.end()
}
