package main_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/regctl/regctl/serve"
)

// TestAPITable compares the tables of the README with the endpoints that there
// are, both ways.
func TestAPITable(t *testing.T) {
	t.Parallel()
	_, section, ok := strings.Cut(read(t, "../../README.md"), "\n## The API\n")
	section, _, ends := strings.Cut(section, "\n## ")
	if !ok || !ends {
		t.Fatal("the README has no section about the API")
	}
	var tables [][]string
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		switch {
		case len(cells) != 5:
		case strings.HasSuffix(cells[0], "method"):
			tables = append(tables, nil)
		case cells[2] == "":
			t.Errorf("%s says nothing", line)
		default:
			table := &tables[len(tables)-1]
			cells[2] = "…" // In words.
			*table = append(*table, strings.NewReplacer("`", "", "| ", "", " |", "").Replace(strings.Join(cells, "\t")))
		}
	}
	if len(tables) != 3 {
		t.Fatalf("%d tables, want 3", len(tables))
	}
	by := map[string]string{"spec": "specification", "registry:2": "registry:2", "regctl": "ours"}
	for i, routes := range [][]serve.Route{serve.Routes(), serve.DebugRoutes(), serve.ControlRoutes()} {
		var want []string
		for _, r := range routes {
			want = append(want, strings.Join([]string{r.Methods, r.Path, "…", by[r.Of], strings.Trim(fmt.Sprint(r.Statuses), "[]")}, "\t"))
		}
		for _, line := range want {
			if !slices.Contains(tables[i], line) {
				t.Errorf("the README does not have\n%s", line)
			}
		}
		for _, line := range tables[i] {
			if !slices.Contains(want, line) {
				t.Errorf("there is no such endpoint as\n%s", line)
			}
		}
	}
	for _, status := range serve.CommonStatuses() {
		if before, _, _ := strings.Cut(section, "| method"); !strings.Contains(before, fmt.Sprint(status)) {
			t.Errorf("that any request may be answered with %d is not said", status)
		}
	}
}
