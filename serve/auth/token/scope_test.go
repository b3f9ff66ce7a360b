package token

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseScope(t *testing.T) {
	t.Parallel()
	for scope, want := range map[string]string{
		"":                                         "[]",
		"  ":                                       "[]",
		"repository:a/b:pull,push":                 "[{repository  a/b [pull push]}]",
		"repository:reg.example.com:5000/a:pull":   "[{repository  reg.example.com:5000/a [pull]}]",
		"repository(plugin):a:pull":                "[{repository plugin a [pull]}]",
		"registry:catalog:*":                       "[{registry  catalog [*]}]",
		"repository:a:":                            "[{repository  a []}]",
		"repository:a:pull,,pull,":                 "[{repository  a [pull]}]",
		"repository:a:pull repository:a:push":      "[{repository  a [pull push]}]",
		"repository:a:pull  repository:b:pull":     "[{repository  a [pull]} {repository  b [pull]}]",
		"repository:a:pull repository(p):a:pull":   "[{repository  a [pull]} {repository p a [pull]}]",
		"repository:a:pull,push repository:a:pull": "[{repository  a [pull push]}]",
		"artifact:x:Fetch":                         "[{artifact  x [Fetch]}]",
		"repository:UPPER:pull":                    "[{repository  UPPER [pull]}]", // Nobody has a right to it, and that is no mistake in the request.
	} {
		got, err := ParseScope(scope)
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%q: %v %v, want %s", scope, got, err, want)
		}
	}
	for _, scope := range []string{
		"repository", "repository:a", ":a:pull", "repository::pull", "repository():a:pull", "repository(:a:pull", "repository(a)b:c:pull",
		"Repository:a:pull", "repository:a:pu-ll", "repository:a:**", "repository:\"a\":pull", "repository:ä:pull", "repository:a:pull\x00",
		"repository:a\x00b:pull", "x", "repository:a:pull x",
	} {
		if got, err := ParseScope(scope); err == nil {
			t.Errorf("%q: %v", scope, got)
		}
	}
}

// TestParseScopeIsBounded: anybody can ask.
func TestParseScopeIsBounded(t *testing.T) {
	t.Parallel()
	var many strings.Builder
	for i := range mostScopes {
		fmt.Fprintf(&many, "repository:r%d:pull ", i)
	}
	got, err := ParseScope("repository:first:pull " + many.String())
	if err != nil || len(got) != mostScopes || got[0].Name != "r0" || got[mostScopes-1].Name != fmt.Sprintf("r%d", mostScopes-1) {
		t.Errorf("%d: %v", len(got), err)
	}
	got, err = ParseScope(strings.Repeat("repository:"+strings.Repeat("x", 200)+":pull ", 1000) + "repository:last:pull")
	if err != nil || len(got) != 2 || got[1].Name != "last" {
		t.Errorf("%v %v", got, err)
	}
	actions := "pull"
	for i := range 10 * mostActions {
		actions += ",push," + strings.Repeat("x", i+1)
	}
	for _, list := range []string{"repository:a:" + actions, "repository:a:pull,push repository:a:" + actions} {
		got, err = ParseScope(list)
		if err != nil || len(got) != 1 || len(got[0].Actions) != mostActions || got[0].Actions[0] != "pull" || got[0].Actions[1] != "push" {
			t.Errorf("%v %v", got, err)
		}
	}
	_, err = ParseScope(strings.Repeat("x", 10000))
	if err == nil || len(err.Error()) > 400 {
		t.Errorf("the error is %v", err)
	}
}

// FuzzParseScope: what is taken can be written, and is taken again as the same.
func FuzzParseScope(f *testing.F) {
	for _, seed := range []string{"repository:a/b:pull,push", "registry:catalog:*", "repository(plugin):h:5000/a:pull x:y:z", "a:b:"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, scope string) {
		all, err := ParseScope(scope)
		if err != nil {
			return
		}
		var again strings.Builder
		for _, a := range all {
			kind := a.Type
			if a.Class != "" {
				kind += "(" + a.Class + ")"
			}
			if len(a.Actions) == 0 {
				a.Actions = []string{}
			}
			again.WriteString(kind + ":" + a.Name + ":" + strings.Join(a.Actions, ",") + " ")
		}
		same, err := ParseScope(again.String())
		if err != nil || fmt.Sprint(same) != fmt.Sprint(all) {
			t.Errorf("%q is %v, and written %q %v %v", scope, all, again.String(), same, err)
		}
	})
}
