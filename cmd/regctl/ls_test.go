package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/regctl/regctl/client/oci/ocitest"
)

// More than two pages of 1,000, and some names whose order is a matter of
// opinion.
const pages = 2100

// What regctl ls lists is what crane lists and what is there: of registry:2
// and of regctl serve on the same directory, over many pages.
func TestLsAsCrane(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	seedLists(t, dir, pages)
	s := startRegctl(t, dir)
	push(t, s, ocitest.Content{"a-b": twoTags, "a/b": twoTags, "a": twoTags})
	if err := s.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	tags := []string{"x"}
	repos := []string{"a", "a-b", "a/b", "bench/app"}
	for i := range pages {
		tags, repos = append(tags, fmt.Sprintf("x%06d", i)), append(repos, fmt.Sprintf("x%06d", i))
	}
	all := []string{"a-b:one", "a-b:two", "a/b:one", "a/b:two", "a:one", "a:two"}
	for _, tag := range tags {
		all = append(all, "bench/app:"+tag)
	}
	for _, name := range []string{"docker-registry", "regctl"} {
		t.Run(name, func(t *testing.T) {
			s := servers[name](t, dir)
			crane, ls := newTool(t, "crane", "--insecure"), newLs(t)
			t.Run("repositories", func(t *testing.T) {
				wantNames(t, "regctl ls", strings.Fields(ls.run(t, s.addr)), repos...)
				wantNames(t, "regctl ls -o json", items(t, ls.run(t, "-o", "json", s.addr)), repos...)
				wantNames(t, "crane catalog", strings.Fields(crane.run(t, "catalog", s.addr)), repos...)
				wantNames(t, "raw catalogue", speak(s).list(t, "/v2/_catalog?n=100", "repositories"), repos...)
			})
			t.Run("tags", func(t *testing.T) {
				wantNames(t, "regctl ls", strings.Fields(ls.run(t, s.addr+"/bench/app")), tags...)
				wantNames(t, "crane ls", strings.Fields(crane.run(t, "ls", s.addr+"/bench/app")), tags...)
				wantNames(t, "raw tags", speak(s).tags(t, "bench/app"), tags...)
			})
			t.Run("all", func(t *testing.T) {
				want := slices.Sorted(slices.Values(all))
				wantNames(t, "regctl ls -a", strings.Fields(ls.run(t, "-a", s.addr)), want...)
				wantNames(t, "regctl ls -a -o json", items(t, ls.run(t, "-a", "-o", "json", s.addr)), want...)
			})
		})
	}
}

var twoTags = ocitest.Repo{
	Blobs: ocitest.Blobs{"layer": "bytes"}, Manifests: ocitest.Manifests{"m": {Layers: "layer"}},
	Tags: ocitest.Tags{"one": "m", "two": "m"},
}

// newLs is regctl ls.
func newLs(t *testing.T) tool {
	t.Helper()
	bin, err := regctl()
	if err != nil {
		t.Fatal(err)
	}
	return tool{path: bin, args: []string{"ls"}, env: []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}}
}

// items reads the JSON of regctl ls as the names it stands for.
func items(t *testing.T, text string) []string {
	t.Helper()
	var list struct{ Items []struct{ Repo, Tag string } }
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatalf("%v: %.200s", err, text)
	}
	names := []string{}
	for _, i := range list.Items {
		names = append(names, strings.TrimSuffix(i.Repo+":"+i.Tag, ":"))
	}
	return names
}
